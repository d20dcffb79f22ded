"""Pod addresses: each pod has one of its own, and a pod of the same name gets the same one again."""

from __future__ import annotations

PodName = tuple[str, str]


class AddressPool:
    """Hands out addresses. A name that had one gets it again while it is free.

    A StatefulSet's pod that is replaced keeps its address for that reason, which a real cluster does not
    promise, but which keeps a small gossip pool quiet; other names get the address that was free for longest.
    """

    def __init__(self, addresses: list[str]):
        self._free = dict.fromkeys(addresses)
        self._held: dict[PodName, str] = {}
        self._earlier: dict[PodName, str] = {}

    def take(self, pod: PodName, wanted: str = "") -> str:
        """An address for a pod: what it holds, what it wants, what it had, else a free one; empty when none
        is.
        """
        if pod in self._held:
            return self._held[pod]
        chosen = next((one for one in (wanted, self._earlier.get(pod, "")) if one in self._free), "")
        if not chosen:
            remembered = set(self._earlier.values())
            unknown = (one for one in self._free if one not in remembered)
            chosen = next(unknown, "") or next(iter(self._free), "")
        if chosen:
            del self._free[chosen]
            self._held[pod] = chosen
        return chosen

    def held(self, pod: PodName) -> str:
        """The address that a pod has now; empty when it has none."""
        return self._held.get(pod, "")

    def release(self, pod: PodName) -> None:
        """The pod is gone; its address is remembered for its name."""
        address = self._held.pop(pod, "")
        if address:
            self._free[address] = None
            self._earlier.pop(pod, None)
            self._earlier[pod] = address
            while len(self._earlier) > len(self._free):
                del self._earlier[next(iter(self._earlier))]

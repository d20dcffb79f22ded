"""DNS outside the clusters: which names of a sandbox exist, in memory and in one hosts file.

Other datacenters dial a mesh gateway by what its owner put in front of it: a load balancer's hostname, a node's
name, or a DNS name of one's own. Here these names come from three places: nodes, the load balancers of a sandbox
that was asked for hostnames, and the annotation with which ExternalDNS is told to publish a name for a Service
(`controllers/services.py`). The file is for processes that resolve names by themselves (`node/resolver.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .state import write_private

Owner = tuple[str, str, str]
"""Who publishes a name: cluster, namespace, Service."""

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")


class Names:
    """The names that resolve in a sandbox, all of its clusters together.

    Args:
        hosts_file: written whenever a name changes; None for names in memory only, as in tests.
        fixed: names that are always there, those of the nodes.
    """

    def __init__(self, hosts_file: Path | None = None, fixed: Mapping[str, str] | None = None):
        self.hosts_file = hosts_file
        self._fixed: dict[str, tuple[str, ...]] = {normal(name): (at,) for name, at in (fixed or {}).items()}
        self._wishes: dict[Owner, dict[str, tuple[str, ...]]] = {}
        self._table: dict[str, tuple[str, ...]] = {}
        self._subscribers: list[Callable[[], None]] = []
        self._update()

    def publish(self, owner: Owner, names: Mapping[str, Sequence[str]]) -> list[str]:
        """Have exactly these names (→ addresses) of that owner; those of them that another one has already.

        A name that is taken comes to its next owner when the first one gives it up.
        """
        before = self._wishes.get(owner, {})
        wished = {normal(name): tuple(addresses) for name, addresses in names.items() if addresses}
        if wished:
            self._wishes[owner] = wished
        else:
            self._wishes.pop(owner, None)
        if wished != before:
            self._update()
        return [name for name, addresses in wished.items() if self._table[name] != addresses]

    def addresses(self, name: str) -> tuple[str, ...]:
        """The addresses of a name, in whatever case it is written; none for one that does not exist."""
        return self._table.get(normal(name), ())

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call it after each change; returns what ends that."""
        self._subscribers.append(changed)
        return lambda: self._subscribers.remove(changed)

    def _update(self) -> None:
        table = dict(self._fixed)
        for wished in self._wishes.values():
            for name, addresses in wished.items():
                table.setdefault(name, addresses)
        self._table = table
        if self.hosts_file is not None:
            lines = [f"{address} {name}\n" for name, found in table.items() for address in found]
            # Without a comment: nss_wrapper takes none.
            write_private(self.hosts_file, "".join(lines).encode())
        for changed in list(self._subscribers):
            changed()


def normal(name: str) -> str:
    """A name as it is compared.

    >>> normal("GW.Example.com.")
    'gw.example.com'
    """
    return name.rstrip(".").lower()


def is_name(text: str) -> bool:
    """Whether a text is a DNS name that can stand in a hosts file: no wildcard, no address with a port.

    >>> is_name("gw.example.com"), is_name("*.example.com"), is_name("a b")
    (True, False, False)
    """
    return len(text) <= 253 and _NAME.fullmatch(normal(text)) is not None

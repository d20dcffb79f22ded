"""How traffic between datacenters is tried: where, with which images, between which of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple


class Pair(NamedTuple):
    """An ordered pair of datacenters: who calls, and who is called."""

    caller: str
    called: str

    def __str__(self) -> str:
        return f"{self.caller} to {self.called}"


@dataclass(frozen=True)
class Settings:
    """What a person may want otherwise.

    Attributes:
        namespace: where the workloads are, in each cluster. Nothing else should be in it.
        echo_image: answers each request with the text of its flag -text, on the port of -listen.
        caller_image: has `sleep` and curl.
        pairs: `primary`: the primary with each secondary, both ways; `all`: every datacenter with every other one.
    """

    namespace: str = "consulfed-traffic"
    echo_image: str = "hashicorp/http-echo:1.0"
    caller_image: str = "curlimages/curl:8.11.1"
    pairs: Literal["primary", "all"] = "primary"

    def chosen(self, datacenters: Sequence[str]) -> list[Pair]:
        """The ordered pairs to try; the first datacenter is the primary.

        >>> [str(pair) for pair in Settings().chosen(["dc1", "dc2", "dc3"])]
        ['dc1 to dc2', 'dc1 to dc3', 'dc2 to dc1', 'dc3 to dc1']
        """
        return [
            Pair(one, other)
            for one in datacenters
            for other in datacenters
            if one != other and (self.pairs == "all" or datacenters[0] in (one, other))
        ]

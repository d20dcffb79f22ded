"""The gate after each datacenter whose chart was moved: the next one is not begun until the federation works again.

Versions of Consul differ between datacenters meanwhile, and some pairs of them break replication or logins (consul
#22116, consul-k8s #1798; consul-facts §3): which, nobody can tell beforehand. So it is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..checks.federation import Datacenter
from ..checks.layers import causes
from ..params import Federation
from ..results import Change, several
from ..waiting import Seen, wait_for
from .proof import Proof

_EXPECTED = {"consul-versions"}
"""Checks that cannot be well while some datacenters have been moved and others have not."""


def gate(params: Federation, subject: str, datacenters: Sequence[Datacenter]) -> Change:
    """Wait until every check of the verification between these datacenters is well: replication, logins, both ways.

    Raises WaitTimeoutError with the first cause that is left.
    """
    proof = Proof(params, datacenters)

    def look() -> Seen:
        found = [each for each in proof.look() if each.id not in _EXPECTED]
        broken = causes(found, params.primary.datacenter)
        if not broken:
            return Seen(True, f"{several(len(found), 'check')} of the verification ok")
        names = ", ".join(dict.fromkeys(f"{each.finding.id} ({each.finding.subject})" for each in broken))
        return Seen(False, f"{names}: {broken[0].finding.found}")

    wait_for(
        f"{subject}: federation works with its new chart",
        look,
        params.timeouts.federation,
        hint="no other datacenter is moved until it does; run 04-verification: it names what is broken",
    )
    others = ", ".join(each.name for each in datacenters if each.name != subject)
    return Change("gate", subject, "unchanged", f"{look().state}, with {others}")

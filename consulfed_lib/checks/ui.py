"""The Consul UI of each datacenter: does it answer, and does it tell of every datacenter?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..results import Finding
from . import Check, check
from .federation import Datacenter


def service_name(dc: Datacenter) -> str:
    return f"{dc.fullname}-ui"


def find_service(dc: Datacenter) -> dict[str, Any] | None:
    """The UI's Service as it is; None where the values turn the UI off."""
    return dc.cluster.get("services", dc.of.namespace, service_name(dc))


@check("ui", "the datacenter's UI answers, and its list of datacenters is complete", severity="warning")
def ui(self: Check, subject: str, dc: Datacenter) -> Iterator[Finding]:
    service = find_service(dc)
    if service is None:
        yield self.skipped(subject, f"there is no Service {service_name(dc)}: the values turn the UI off")
        return
    status = dc.consul.status_of("/ui/")
    # The list at the top left of the UI is this answer.
    listed, expected = set(dc.consul.datacenters()), {c.datacenter for c in dc.params.clusters}
    wrong = [f"GET /ui/ answers {status}"] if status != 200 else []
    if missing := sorted(expected - listed):
        wrong.append(f"its list lacks {', '.join(missing)}")
    if wrong:
        yield self.warning(subject, "; ".join(wrong), f"see the logs of the pods {dc.fullname}-server-*")
    else:
        yield self.ok(subject, f"it lists {', '.join(sorted(listed))}")

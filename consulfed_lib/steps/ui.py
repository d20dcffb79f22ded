"""How a person gets to the Consul UI of each datacenter, and where the token for it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..checks.federation import Datacenter
from ..checks.ui import find_service, service_name
from ..params import Federation
from ..show import Text
from ..values import primary_values

_LOCAL = {"http": 8500, "https": 8501}
"""Local ports for a port-forward: the ones that people know from Consul itself."""


def directions(dc: Datacenter) -> Text:
    """How a person gets to the UI of a datacenter."""
    service = find_service(dc)
    if service is None:
        return Text(f"UI of {dc.name}", "The values turn it off.")
    return Text(f"UI of {dc.name}", "\n".join(_ways(dc, service)))


def _ways(dc: Datacenter, service: Mapping[str, Any]) -> Iterator[str]:
    ports = {port.get("name", ""): port["port"] for port in service["spec"]["ports"]}
    scheme = "https" if "https" in ports else "http"
    entries = service.get("status", {}).get("loadBalancer", {}).get("ingress") or []
    if entries:
        yield f"{scheme}://{entries[0].get('ip') or entries[0].get('hostname')}:{ports[scheme]}/ui/"
    local = _LOCAL[scheme]
    target = f"--context {dc.of.context} -n {dc.of.namespace}"
    yield f"kubectl {target} port-forward service/{service_name(dc)} {local}:{ports[scheme]}"
    yield f"then open {scheme}://localhost:{local}/ui/"
    if scheme == "https":
        yield "(the browser warns: the certificate is of the federation's own CA)"


def token_directions(params: Federation) -> Text:
    """Where the token for the UI is; the token itself is never read here."""
    if not params.acls:
        return Text("Token for the UI", "None is needed: ACLs are off.")
    given = primary_values(params).get("global", {}).get("acls", {}).get("bootstrapToken") or {}
    name = given.get("secretName") or f"{params.fullname(params.primary)}-bootstrap-acl-token"
    key, of = given.get("secretKey") or "token", params.primary
    return Text(
        "Token for the UI",
        f"The same in every datacenter: key {key} of Secret {of.namespace}/{name} in the primary, {of.context}.\n"
        f"kubectl --context {of.context} -n {of.namespace} get secret {name}"
        f" -o go-template='{{{{index .data \"{key}\" | base64decode}}}}'",
    )

"""03-secondary-setup: Consul in a secondary, joined to the primary through the mesh gateways."""

from __future__ import annotations

import ipaddress
from functools import cached_property
from urllib.parse import urlsplit

from ..checks.federation import Datacenter, node_health
from ..errors import ClusterError
from ..params import Cluster as ClusterParams
from ..results import Change, Finding, Severity
from ..secret import mistakes, read, same
from ..values import imported_secret_name, secondary_values
from ..waiting import Seen, wait_for
from .base import Action, Plan, Step
from .connect import datacenter, federation_secret
from .install import Installation
from .ready import look_at_one


class SecondarySetup(Step):
    """Installs a secondary and waits until it and the primary read each other's health."""

    @property
    def of(self) -> ClusterParams:
        return self.params.chosen_secondary()

    @property
    def subject(self) -> str:
        return self.of.datacenter

    @property
    def api_url(self) -> str:
        """Where the primary's servers reach this cluster's API: given, else as the kubeconfig has it."""
        return self.of.api_url or self.cluster(self.of).server

    @cached_property
    def installation(self) -> Installation:
        values = secondary_values(self.params, self.of, self.api_url)
        return Installation(self.params, self.of, self.cluster(self.of), values)

    def look_before(self) -> list[Finding]:
        found = look_at_one(self.params, self.of)
        if any(finding.severity == "error" for finding in found):
            return found
        return [*found, *self._look_at_api_url(), *self._look_at_copy()]

    def _look_at_api_url(self) -> list[Finding]:
        """Only with ACLs does the primary call this cluster's API."""
        if not self.params.acls:
            return []
        subject, host = self.subject, urlsplit(self.api_url).hostname or ""
        if not self.api_url.startswith("https://"):
            hint = f"give api_url of {subject} in the parameters: a full URL with https://"
            return [Finding("api-url", subject, "error", f"{self.api_url} is no https URL", hint)]
        if host in {"localhost", "127.0.0.1", "::1", "0.0.0.0"} or _is_unspecified(host):
            hint = f"give api_url of {subject} in the parameters: one that the primary's servers can reach"
            return [
                Finding("api-url", subject, "warning", f"{self.api_url} works on this machine only", hint)
            ]
        return [Finding("api-url", subject, "ok", self.api_url)]

    def _look_at_copy(self) -> list[Finding]:
        name, subject = imported_secret_name(self.params), self.subject
        copy = read(self.cluster(self.of), self.of.namespace, name)
        original = read(self.cluster(self.params.primary), self.params.primary.namespace, name)
        hint = f"run 02-secret-transfer for {subject} first"
        if copy is None:
            severity: Severity = "warning" if self.params.dry_run else "error"
            return [
                Finding(
                    "federation-secret", subject, severity, f"{self.of.namespace}/{name} is not there", hint
                )
            ]
        wrong = mistakes(copy, self.params, None)
        if original is not None and not same(original, copy):
            wrong.append("it differs from the primary's")
        if wrong:
            return [Finding("federation-secret", subject, "error", each, hint) for each in wrong]
        return [
            Finding("federation-secret", subject, "ok", f"{self.of.namespace}/{name} equals the primary's")
        ]

    def planned(self) -> Plan:
        return self.installation.plan([])

    def actions(self) -> list[Action]:
        return [*self.installation.actions(), self.wait_until_federated]

    def wait_until_federated(self) -> Change:
        """Until each side reads the other's server health through the gateways; "alive" alone comes too early."""
        original = federation_secret(self.params, self.cluster(self.params.primary))
        here, primary = (
            datacenter(self.params, of, self.cluster(of), original) for of in (self.of, self.params.primary)
        )

        def look() -> Seen:
            found = _both_ways(here, primary)
            broken = [f"{f.subject}: {f.found}" for f in found if f.severity != "ok"]
            return Seen(not broken, "; ".join(broken) or "both read each other's server health")

        wait_for(
            f"{self.subject}: federation with {primary.name}",
            look,
            self.params.timeouts.federation,
            hint="run 04-verification: it names what is broken",
        )
        return Change("federated", self.subject, "unchanged", look().state)

    def look_after(self) -> list[Finding]:
        found = self.installation.findings()
        self.facts["api url"] = self.api_url
        try:
            original = federation_secret(self.params, self.cluster(self.params.primary))
            here, primary = (
                datacenter(self.params, of, self.cluster(of), original)
                for of in (self.of, self.params.primary)
            )
        except ClusterError as error:
            return [*found, Finding("node-health", self.subject, "error", error.found, error.hint)]
        return found + _both_ways(here, primary)


def _both_ways(one: Datacenter, other: Datacenter) -> list[Finding]:
    return [
        *node_health(f"{one.name} → {other.name}", one, other),
        *node_health(f"{other.name} → {one.name}", other, one),
    ]


def _is_unspecified(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False

"""01-primary-setup: Consul as the primary of the federation, its gateway, its secret, and ProxyDefaults."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from ..checks import Check, check
from ..checks.secrets import secret_complete
from ..cluster import PROXY_DEFAULTS, resource_path
from ..errors import ApplyError
from ..gateway import live_address
from ..params import Cluster as ClusterParams
from ..results import Change, Finding
from ..secret import mistakes, read
from ..values import primary_values
from ..waiting import Seen, wait_for
from .base import Action, Plan, Step
from .install import Installation, installed
from .ready import look_at_one


class PrimarySetup(Step):
    """Installs the primary and waits until secondaries can join it."""

    @property
    def of(self) -> ClusterParams:
        return self.params.primary

    @property
    def subject(self) -> str:
        return self.of.datacenter

    @cached_property
    def installation(self) -> Installation:
        cluster, values = self.cluster(self.of), primary_values(self.params)
        return Installation(self.params, self.of, cluster, values, self._why_again)

    def _why_again(self) -> str:
        """Only Helm's hook makes the federation secret, so that one which is gone or stale takes an upgrade."""
        cluster, namespace = self.cluster(self.of), self.of.namespace
        secret = read(cluster, namespace, self.params.secret_name)
        if secret is None:
            return "the federation secret is missing"
        live = live_address(cluster, namespace, self.params.fullname(self.of))
        return "; ".join(mistakes(secret, self.params, {live} if live else None))

    def look_before(self) -> list[Finding]:
        return look_at_one(self.params, self.of)

    def planned(self) -> Plan:
        return self.installation.plan([self._planned_proxy_defaults()])

    def actions(self) -> list[Action]:
        return [*self.installation.actions(), self.wait_for_secret, self.apply_proxy_defaults]

    def look_after(self) -> list[Finding]:
        cluster = self.installation.cluster
        address = live_address(cluster, self.of.namespace, self.installation.fullname)
        self.facts |= {
            "gateway": address,
            "federation secret": f"{self.of.namespace}/{self.params.secret_name}",
        }
        return [
            *installed(self.subject, self.installation),
            *secret_complete(self.subject, self.params, cluster, True),
            *proxy_defaults_synced(self.subject, self),
        ]

    # -- federation secret --------------------------------------------------------------------------------------

    def wait_for_secret(self) -> Change:
        """The federation secret is made by a hook Job once the gateway is registered."""
        cluster, name = self.installation.cluster, self.params.secret_name

        def look() -> Seen:
            there = cluster.get("secrets", self.of.namespace, name) is not None
            return Seen(there, f"{self.of.namespace}/{name} {'is there' if there else 'is not there yet'}")

        with cluster.watching(resource_path("secrets", self.of.namespace)) as bell:
            wait_for(
                f"{self.subject}: federation secret",
                look,
                self.params.timeouts.ready,
                until_changed=bell.wait,
                hint=f"see the log of Job {self.installation.fullname}-create-federation-secret",
            )
        return Change("federation-secret", self.subject, "unchanged", look().state)

    # -- ProxyDefaults ------------------------------------------------------------------------------------------

    def _proxy_defaults(self) -> dict[str, Any] | None:
        return self.installation.cluster.get("proxydefaults", self.of.namespace, "global")

    def _mode_now(self) -> str | None:
        entry = self._proxy_defaults()
        return None if entry is None else entry.get("spec", {}).get("meshGateway", {}).get("mode", "")

    def _planned_proxy_defaults(self) -> Change:
        mode, wanted = self._mode_now(), self.params.proxy_defaults_mode
        outcome = "would create" if mode is None else "unchanged" if mode == wanted else "would change"
        before = f", now {mode or 'not set'}" if outcome == "would change" else ""
        return Change("proxy-defaults", self.subject, outcome, f"ProxyDefaults global, mode {wanted}{before}")

    def apply_proxy_defaults(self) -> Change:
        """Without it, traffic between datacenters does not go through the gateways (chart 0.30.0 and newer)."""
        mode, wanted = self._mode_now(), self.params.proxy_defaults_mode
        undo = f"kubectl --context {self.of.context} -n {self.of.namespace} delete proxydefaults global"
        outcome = "unchanged"
        if mode != wanted:
            manifest = {
                "apiVersion": PROXY_DEFAULTS,
                "kind": "ProxyDefaults",
                "metadata": {"name": "global", "namespace": self.of.namespace},
                "spec": {"meshGateway": {"mode": wanted}},
            }
            self.installation.cluster.apply("proxydefaults", self.of.namespace, manifest)
            if self._mode_now() != wanted:
                raise ApplyError(
                    "ProxyDefaults global was applied but has not the mode.", "see who else manages it"
                )
            outcome = "created" if mode is None else "changed"
        with self.installation.cluster.watching(resource_path("proxydefaults", self.of.namespace)) as bell:
            wait_for(
                f"{self.subject}: ProxyDefaults global",
                self.look_at_proxy_defaults,
                self.params.timeouts.ready,
                until_changed=bell.wait,
                hint=f"kubectl --context {self.of.context} -n {self.of.namespace} describe proxydefaults global",
            )
        return Change(
            "proxy-defaults",
            self.subject,
            outcome,
            f"ProxyDefaults global, mode {wanted}, synced",
            undo=undo if outcome == "created" else "",
        )

    def look_at_proxy_defaults(self) -> Seen:
        """Whether ProxyDefaults is synced to Consul, or why not; no condition means unknown."""
        entry = self._proxy_defaults()
        if entry is None:
            return Seen(False, "ProxyDefaults global is missing")
        conditions = entry.get("status", {}).get("conditions") or []
        synced = next((c for c in conditions if c.get("type") == "Synced"), None)
        if synced and synced["status"] == "True":
            mode = entry.get("spec", {}).get("meshGateway", {}).get("mode")
            return Seen(
                mode == self.params.proxy_defaults_mode, f"ProxyDefaults global is synced, mode {mode}"
            )
        why = f"{synced.get('reason')}: {synced.get('message')}" if synced else "not looked at by Consul yet"
        return Seen(False, f"ProxyDefaults global is not synced: {why}")


@check("proxy-defaults-synced", "ProxyDefaults global has the mode asked for and was synced to Consul")
def proxy_defaults_synced(self: Check, subject: str, step: PrimarySetup) -> Iterator[Finding]:
    seen = step.look_at_proxy_defaults()
    if seen.done:
        yield self.ok(subject, seen.state)
    else:
        yield self.error(subject, seen.state, "run 01-primary-setup; see the status of ProxyDefaults global")

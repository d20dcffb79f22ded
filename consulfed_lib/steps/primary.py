"""01-primary-setup: Consul as the primary of the federation, its gateway, its secret, and ProxyDefaults."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from .. import secret
from ..cluster import PROXY_DEFAULTS, resource_path
from ..errors import ApplyError
from ..gateway import live_address
from ..params import Cluster as ClusterParams
from ..results import Change, Finding
from ..values import imported_secret_name, primary_values
from ..waiting import Seen, wait_for
from .base import Action, Plan, Step
from .install import Installation
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
        return Installation(self.params, self.of, self.cluster(self.of), primary_values(self.params))

    def look_before(self) -> list[Finding]:
        return look_at_one(self.params, self.of)

    def planned(self) -> Plan:
        return self.installation.plan([self._planned_proxy_defaults()])

    def actions(self) -> list[Action]:
        return [*self.installation.actions(), self.wait_for_secret, self.apply_proxy_defaults]

    def look_after(self) -> list[Finding]:
        found = self.installation.findings()
        address = live_address(self.installation.cluster, self.of.namespace, self.installation.fullname)
        self.facts |= {"gateway": address, "federation secret": imported_secret_name(self.params)}
        held = secret.read(self.installation.cluster, self.of.namespace, imported_secret_name(self.params))
        wrong = (
            ["it is missing"]
            if held is None
            else secret.mistakes(held, self.params, {address} if address else None)
        )
        name = f"{self.of.namespace}/{imported_secret_name(self.params)}"
        found.append(
            Finding(
                "federation-secret",
                self.subject,
                "error",
                f"{name}: {'; '.join(wrong)}",
                "see 02-secret-transfer",
            )
            if wrong
            else Finding("federation-secret", self.subject, "ok", f"{name} is complete and names {address}")
        )
        synced = self.look_at_proxy_defaults()
        found.append(
            Finding(
                "proxy-defaults",
                self.subject,
                "ok" if synced.done else "error",
                synced.state,
                "" if synced.done else "see the status of ProxyDefaults global",
            )
        )
        return found

    # -- federation secret --------------------------------------------------------------------------------------

    def wait_for_secret(self) -> Change:
        """The federation secret is made by a hook Job once the gateway is registered."""
        cluster, name = self.installation.cluster, imported_secret_name(self.params)

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

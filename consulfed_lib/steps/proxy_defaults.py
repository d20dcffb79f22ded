"""ProxyDefaults `global`: one for the whole federation, and of it only the mesh gateway mode is ours.

Without it, traffic between services of different datacenters does not go through the gateways (charts from 0.30.0
on; older ones have the value `meshGateway.globalMode`). It may stand in any namespace of one cluster of the
federation; consul-k8s refuses to overwrite what another datacenter made (`ExternallyManagedConfigError`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..checks import Check, check
from ..cluster import PROXY_DEFAULTS, Cluster, resource_path
from ..consul import Consul
from ..errors import ApplyError, ClusterError
from ..params import Federation
from ..results import Change, Finding
from ..waiting import Seen, wait_for

_OWNER = "consul.hashicorp.com/source-datacenter"
_FINAL = ("ExternallyManagedConfigError", "MigrationFailedError")
"""Reasons of a Synced condition that no waiting mends."""


class ProxyDefaults:
    """The resource in the primary's cluster, and the config entry that it becomes in Consul.

    Args:
        consul: gives the primary's Consul, None while it cannot be asked.
    """

    def __init__(self, params: Federation, cluster: Cluster, consul: Callable[[], Consul | None]):
        self.params, self.of, self.cluster = params, params.primary, cluster
        self._consul = consul
        self._condition_before: dict[str, Any] | None = None
        """Status of before our own change: it speaks of another content."""

    @property
    def by_chart(self) -> bool:
        return self.params.chart.parsed.mode_in_values

    def resource(self) -> dict[str, Any] | None:
        """The one resource of this cluster, in whichever namespace it stands."""
        found = [r for r in self.cluster.list("proxydefaults") if r["metadata"]["name"] == "global"]
        return found[0] if found else None

    def entry(self) -> dict[str, Any] | None:
        """What Consul itself has; None where it has nothing, or cannot be asked yet."""
        consul = self._consul()
        return consul.proxy_defaults() if consul else None

    def elsewhere(self) -> str:
        """Who made Consul's entry, if it was not this cluster; empty if it is ours to make or to change."""
        entry = self.entry()
        if entry is None or self.resource() is not None:
            return ""
        owner = (entry.get("Meta") or {}).get(_OWNER, "")
        if owner == self.of.datacenter:
            return ""
        return f"made in {owner}" if owner else "not made by Kubernetes"

    # -- plan and action ----------------------------------------------------------------------------------------

    def _outcome(self) -> tuple[str, str]:
        """(what there is to do: create, change or nothing; in words)."""
        wanted, resource = self.params.proxy_defaults_mode, self.resource()
        what = f"ProxyDefaults global, mode {wanted}"
        if self.by_chart:
            return (
                "nothing",
                f"mode {wanted}: chart {self.params.chart.version} has it as meshGateway.globalMode",
            )
        if resource is None:
            owner = self.elsewhere()
            return ("nothing", f"{what}, {owner}") if owner else ("create", what)
        if others := _other_fields(resource):
            what += f"; left as they are: {', '.join(others)}"
        if (now := _mode(resource)) == wanted:
            return "nothing", what
        return "change", f"{what}, now {now or 'not set'}{_managers(resource)}"

    def planned(self) -> Change:
        todo, what = self._outcome()
        outcome = {"create": "would create", "change": "would change", "nothing": "unchanged"}[todo]
        return Change("proxy-defaults", self.of.datacenter, outcome, what)

    def apply(self) -> Change:
        """Create it, or change its mode and nothing else; then wait until Consul has it."""
        todo, what = self._outcome()
        before = self.resource()
        if todo != "nothing":
            namespace = before["metadata"]["namespace"] if before else self.of.namespace
            manifest = {
                "apiVersion": PROXY_DEFAULTS,
                "kind": "ProxyDefaults",
                "metadata": {"name": "global", "namespace": namespace},
                "spec": {"meshGateway": {"mode": self.params.proxy_defaults_mode}},
            }
            self._write(namespace, manifest)
        self._condition_before = _synced(before) if todo != "nothing" else None
        with self.cluster.watching(resource_path("proxydefaults")) as bell:
            wait_for(
                f"{self.of.datacenter}: ProxyDefaults global",
                self._look_or_stop,
                self.params.timeouts.ready,
                until_changed=bell.wait,
                hint=f"kubectl --context {self.of.context} describe proxydefaults --all-namespaces",
            )
        outcome = {"create": "created", "change": "changed", "nothing": "unchanged"}[todo]
        return Change(
            "proxy-defaults", self.of.datacenter, outcome, f"{what}: in Consul", undo=self._undo(before, todo)
        )

    def _write(self, namespace: str, manifest: Mapping[str, Any]) -> None:
        """Apply it; while the webhook that judges it is still starting, wait for that."""

        def look() -> Seen:
            try:
                # Server-side apply: of a resource that others manage too, only this field becomes ours.
                self.cluster.apply("proxydefaults", namespace, manifest)
            except ClusterError as error:
                if "failed calling webhook" in error.found:
                    return Seen(False, error.found)
                raise
            return Seen(True, "written")

        what = f"{self.of.datacenter}: the webhook of ProxyDefaults"
        hint = f"kubectl --context {self.of.context} -n {self.of.namespace} get pods"
        wait_for(what, look, self.params.timeouts.ready, hint=hint)

    def _undo(self, before: Mapping[str, Any] | None, todo: str) -> str:
        kubectl = f"kubectl --context {self.of.context}"
        if todo == "create":
            return f"{kubectl} -n {self.of.namespace} delete proxydefaults global"
        if todo == "change" and before is not None:
            patch = f'{{"spec":{{"meshGateway":{{"mode":"{_mode(before)}"}}}}}}'
            namespace = before["metadata"]["namespace"]
            return f"{kubectl} -n {namespace} patch proxydefaults global --type merge -p '{patch}'"
        return ""

    # -- looks --------------------------------------------------------------------------------------------------

    def _look_or_stop(self) -> Seen:
        condition = _synced(self.resource())
        stale = condition is not None and condition == self._condition_before
        if condition and not stale and condition["status"] == "False" and condition.get("reason") in _FINAL:
            raise ApplyError(
                f"ProxyDefaults global is not synced to Consul: {condition['reason']}: {condition.get('message')}",
                "Consul has an entry that was made elsewhere: change that one, or delete it there, and run this again",
            )
        return self.look()

    def look(self) -> Seen:
        """Whether Consul has the mode, and whether the resource, where there is one, says so too."""
        wanted, entry, resource = self.params.proxy_defaults_mode, self.entry(), self.resource()
        in_consul = (entry or {}).get("MeshGateway", {}).get("Mode")
        if resource is not None:
            condition = _synced(resource)
            if condition is None or condition["status"] != "True":
                why = (
                    f"{condition.get('reason')}: {condition.get('message')}" if condition else "no status yet"
                )
                return Seen(False, f"ProxyDefaults global is not synced: {why}")
            if _mode(resource) != wanted:
                return Seen(
                    False,
                    f"ProxyDefaults global is synced, mode {_mode(resource) or 'not set'}, not {wanted}",
                )
        elif entry is None:
            return Seen(False, "ProxyDefaults global is missing")
        if in_consul != wanted:
            return Seen(False, f"the mode in Consul is {in_consul or 'not set'}, not {wanted}")
        how = "synced" if resource is not None else self.elsewhere() or "made by the chart"
        return Seen(True, f"ProxyDefaults global is {how}, mode {wanted}")


def _mode(resource: Mapping[str, Any]) -> str:
    return resource.get("spec", {}).get("meshGateway", {}).get("mode", "")


def _other_fields(resource: Mapping[str, Any]) -> list[str]:
    """Fields of the spec that are not ours."""
    spec = resource.get("spec", {})
    gateway = [f"meshGateway.{key}" for key in spec.get("meshGateway", {}) if key != "mode"]
    return sorted([key for key in spec if key != "meshGateway"] + gateway)


def _managers(resource: Mapping[str, Any]) -> str:
    """Who set the mode that is about to be changed: a GitOps tool would set it back."""
    names = {
        entry["manager"]
        for entry in resource["metadata"].get("managedFields") or []
        if "f:mode" in entry.get("fieldsV1", {}).get("f:spec", {}).get("f:meshGateway", {})
    }
    return f", set by {', '.join(sorted(names))}" if names else ""


def _synced(resource: Mapping[str, Any] | None) -> dict[str, Any] | None:
    conditions = (resource or {}).get("status", {}).get("conditions") or []
    return next((c for c in conditions if c.get("type") == "Synced"), None)


@check("proxy-defaults-owner", "ProxyDefaults global is this cluster's to make, or has the mode already")
def proxy_defaults_owner(self: Check, subject: str, proxy_defaults: ProxyDefaults) -> Iterator[Finding]:
    owner, entry = proxy_defaults.elsewhere(), proxy_defaults.entry()
    mode = (entry or {}).get("MeshGateway", {}).get("Mode") or "not set"
    if owner and mode != proxy_defaults.params.proxy_defaults_mode:
        yield self.error(
            subject,
            f"Consul has ProxyDefaults global already, {owner}, with mode {mode};"
            f" the parameters want {proxy_defaults.params.proxy_defaults_mode}",
            "change it where it was made, or set proxy_defaults_mode to what it is; there can be only one",
        )
    else:
        yield self.ok(subject, f"{owner}, mode {mode}" if owner else "this cluster's to make")


@check("proxy-defaults-synced", "ProxyDefaults global has the mode asked for, and Consul has it too")
def proxy_defaults_synced(self: Check, subject: str, proxy_defaults: ProxyDefaults) -> Iterator[Finding]:
    seen = proxy_defaults.look()
    if seen.done:
        yield self.ok(subject, seen.state)
    else:
        yield self.error(subject, seen.state, "run 01-primary-setup; see the status of ProxyDefaults global")

"""01-primary-setup: Consul as the primary of the federation, its gateway, its secret, and ProxyDefaults."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from ..adoption import installed as installed_before
from ..checks.gateways import look_at_gateway
from ..checks.secrets import secret_complete
from ..checks.target import Target
from ..cluster import resource_path
from ..consul import Consul
from ..errors import ClusterError
from ..gateway import catalog_addresses, listed
from ..helm import release
from ..params import Cluster as ClusterParams
from ..results import Change, Finding
from ..secret import find, read
from ..secret.faults import mended_by_helm
from ..servers import servers_of
from ..show import Topology
from ..values import primary_values
from ..waiting import Seen, wait_for
from .base import Action, Step
from .coming_up import coming_up
from .connect import datacenter
from .gate import gate
from .install import Installation, installed
from .plan import Plan
from .proxy_defaults import ProxyDefaults, proxy_defaults_owner, proxy_defaults_synced
from .ready import look_at_one
from .stale import StaleGateways, stale_gateways
from .upgrade import Upgrade, existing_servers


class PrimarySetup(Step):
    """Installs the primary and waits until secondaries can join it."""

    uses_helm = True

    @property
    def of(self) -> ClusterParams:
        return self.params.primary

    @property
    def subject(self) -> str:
        return self.of.datacenter

    @cached_property
    def installation(self) -> Installation:
        cluster, mark = self.cluster(self.of), self.approval.mark
        before = installed_before(
            self.params, self.of, cluster, release(cluster, self.of.namespace, self.of.release)
        )
        values = primary_values(self.params, before)
        if before is None:
            return Installation(self.params, self.of, cluster, values, self._why_again, approval=mark)
        return Upgrade(self.params, self.of, cluster, values, self._why_again, approval=mark, before=before)

    def _why_again(self) -> str:
        """Only Helm's hook makes the federation secret, so that one which is gone or stale takes an upgrade."""
        cluster, namespace = self.cluster(self.of), self.of.namespace
        secret = read(cluster, namespace, self.params.secret_name)
        if secret is None:
            return "the federation secret is missing"
        live = self.installation.gateway_addresses()
        return "; ".join(mended_by_helm(secret, self.params, live or None))

    def look_before(self) -> list[Finding]:
        found = look_at_one(self.params, self.of, self.notebook)
        if any(finding.severity == "error" for finding in found):
            return found
        if isinstance(self.installation, Upgrade):
            found += existing_servers(self.subject, self.installation)
        found += stale_gateways(self.subject, self._stale())
        return found + proxy_defaults_owner(self.subject, self.proxy_defaults)

    def _stale(self) -> StaleGateways:
        """The gateways in Consul's catalog, as they are now."""
        found = self.installation.release()
        return StaleGateways(self.params, servers_of(self.params, self.of, self.cluster(self.of), found))

    def planned(self) -> Plan:
        stale = self._stale().planned()
        return self.installation.plan([*([stale] if stale else []), self.proxy_defaults.planned()])

    def picture(self, seen: Mapping[str, str]) -> Topology:
        return coming_up(self.params, seen)

    def changed_clusters(self) -> list[ClusterParams]:
        return [self.of]

    def begun(self) -> bool:
        return self.installation.begun()

    def actions(self) -> list[Action]:
        clear = [self._stale().clear] if self.params.upgrade.clear_leftovers else []
        last = [self.gate] if self.params.upgrade.chart else []
        return [*clear, *self.installation.actions(), self.wait_for_secret, self.proxy_defaults.apply, *last]

    def gate(self) -> Change:
        """Until every secondary that is there replicates, and logs in, with what the primary runs now."""
        secret = find(self.cluster(self.of), self.params)
        found = [
            datacenter(self.params, of, self.cluster(of), secret)
            for of in self.params.clusters
            if release(self.cluster(of), of.namespace, of.release) is not None
        ]
        if len(found) < 2:
            return Change("gate", self.subject, "unchanged", "no secondary is there yet")
        return gate(self.params, self.subject, found)

    def look_after(self) -> list[Finding]:
        cluster = self.installation.cluster
        if consul := self._consul():
            self.versions["consul"] = consul.version()
        self.facts |= {
            "gateway": listed(self.installation.gateway_addresses()),
            "federation secret": f"{self.of.namespace}/{self.params.secret_name}",
        }
        return [
            *installed(self.subject, self.installation),
            *look_at_gateway(self._target(), True),
            *secret_complete(self.subject, self.params, cluster, True),
            *proxy_defaults_synced(self.subject, self.proxy_defaults),
        ]

    def _target(self) -> Target:
        """This cluster as it is now."""
        return Target(self.params, self.of, self.cluster(self.of), notebook=self.notebook)

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
        return self._make_again() or Change("federation-secret", self.subject, "unchanged", look().state)

    def _make_again(self) -> Change | None:
        """A hook that ran while gateways were replaced wrote those of before, too (consul-k8s #417): once these have
        left Consul's catalog, Helm runs it again."""
        why = self._why_again()
        if not why:
            return None

        def look() -> Seen:
            consul = self._consul()
            if consul is None:
                return Seen(False, "no server can be asked")
            live = self.installation.gateway_addresses()
            registered = catalog_addresses(consul.service("mesh-gateway", self.subject))
            return Seen(
                registered == live, f"Consul has {listed(registered)}, the cluster has {listed(live)}"
            )

        wait_for(
            f"{self.subject}: gateways in Consul",
            look,
            self.params.timeouts.ready,
            hint=f"kubectl --context {self.of.context} -n {self.of.namespace}"
            f" rollout restart deployment/{self.installation.fullname}-mesh-gateway, or set upgrade.clear_leftovers"
            " to true; then run this notebook again",
        )
        print(f"{self.subject}: once more, because {why}")
        self.installation.upgrade()
        name = f"{self.of.namespace}/{self.params.secret_name}"
        return Change("federation-secret", self.subject, "changed", f"{name} was made again")

    # -- ProxyDefaults ------------------------------------------------------------------------------------------

    @cached_property
    def proxy_defaults(self) -> ProxyDefaults:
        return ProxyDefaults(self.params, self.cluster(self.of), self._consul)

    def _consul(self) -> Consul | None:
        """The primary's Consul; None while it cannot be asked, because it is not installed yet."""
        secret = read(self.cluster(self.of), self.of.namespace, self.params.secret_name)
        if secret is None:
            return None
        try:
            return datacenter(self.params, self.of, self.cluster(self.of), secret).consul
        except ClusterError:  # no server pod is ready: what keeps it is another check's to say
            return None

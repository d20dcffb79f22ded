"""03-secondary-setup: Consul in a secondary, joined to the primary through the mesh gateways."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from ..checks.federation import Datacenter, node_health
from ..checks.gateways import look_at_gateway
from ..checks.network import look_at_api, look_before_install, look_from_servers
from ..checks.preflight import api_url, distinct_clusters
from ..checks.secrets import secret_copy
from ..checks.target import Target
from ..errors import ApplyError, ClusterError, SecretError
from ..helm import Charts
from ..params import Cluster as ClusterParams
from ..results import Change, Finding
from ..secret import find, read
from ..show import Topology
from ..values import secondary_values
from ..waiting import Seen, wait_for
from .base import Action, Step
from .coming_up import coming_up
from .connect import datacenter
from .gate import gate
from .install import Installation, installed
from .plan import Plan
from .ready import look_at_one
from .restart import Restart


class SecondarySetup(Step):
    """Installs a secondary and waits until it and the primary read each other's health."""

    uses_helm = True

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
        return Installation(
            self.params,
            self.of,
            self.cluster(self.of),
            values,
            approval=self.approval.mark,
            namespace_by="02-secret-transfer",
        )

    def look_before(self) -> list[Finding]:
        found = look_at_one(self.params, self.of, self.notebook)
        if any(finding.severity == "error" for finding in found):
            return found
        both = [Target(self.params, of, self.cluster(of)) for of in (self.params.primary, self.of)]
        found += distinct_clusters(self.subject, both)
        if self.params.acls:
            found += api_url(self.subject, self.api_url)
        primary, must_be_there = self.cluster(self.params.primary), not self.params.dry_run
        found += secret_copy(
            self.subject, self.params, primary, self.of, self.cluster(self.of), must_be_there
        )
        return found + look_at_api(*self._targets())

    def planned(self) -> Plan:
        restart = self._restart()
        return self.installation.plan([], [restart.planned()] if restart else [])

    def _restart(self) -> Restart | None:
        """The servers that run already; None where none does, so that none is to be restarted."""
        if self.installation.release() is None:
            return None
        try:
            return Restart(self.params, self._both()[0])
        except (ClusterError, SecretError):
            return None

    def restart_servers(self) -> Change:
        """Those that were started with other gateways of the primary than the secret has now."""
        restart = self._restart()
        if restart is None:
            return Change(
                "servers",
                self.subject,
                "unchanged",
                "none is there yet that could have been started otherwise",
            )
        return restart.apply()

    def picture(self, seen: Mapping[str, str]) -> Topology:
        return coming_up(self.params, seen)

    def changed_clusters(self) -> list[ClusterParams]:
        return [self.of]

    def begun(self) -> bool:
        return self.installation.begun()

    def actions(self) -> list[Action]:
        before, *rest = self.installation.actions()
        last = [self.gate] if self.params.upgrade.chart else []
        # Helm's hooks need the primary, which servers with old gateways do not reach.
        return [before, self.try_gateways, self.restart_servers, *rest, self.wait_until_federated, *last]

    def try_gateways(self) -> Change:
        """From this cluster to the primary's gateways, before Helm would wait in vain for a server that cannot join.

        Raises ApplyError with each gateway that cannot be reached, and why.
        """
        patience = self.params.timeouts.ready
        found = look_before_install(*self._targets(), self._ca_pem(), self._image(), patience)
        if broken := [f for f in found if f.severity == "error"]:
            raise ApplyError(
                f"{self.subject} cannot reach the primary's gateways; Helm was not started.",
                broken[0].hint,
                [f"{f.id} ({f.subject}): {f.found}" for f in broken],
            )
        return Change("gateways-tried", self.subject, "unchanged", "; ".join(f.found for f in found))

    def _targets(self) -> tuple[Target, Target]:
        """The primary and this secondary, as they are now."""
        one, other = (Target(self.params, of, self.cluster(of)) for of in (self.params.primary, self.of))
        return one, other

    def _ca_pem(self) -> str | None:
        """The federation's CA, None while there is no federation secret."""
        primary = self.params.primary
        secret = read(self.cluster(primary), primary.namespace, self.params.secret_name)
        return secret.ca_pem() if secret else None

    def _image(self) -> str:
        """Consul's image where the values do not say it: the chart's own."""
        return str(Charts().chart_values(self.params.chart).get("global", {}).get("image") or "")

    def wait_until_federated(self) -> Change:
        """Until each side reads the other's server health through the gateways; "alive" alone comes too early."""
        here, primary = self._both()

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

    def gate(self) -> Change:
        """Until replication and logins work with what this datacenter runs now."""
        here, primary = self._both()
        return gate(self.params, self.subject, [primary, here])

    def look_after(self) -> list[Finding]:
        self.facts["api url"] = self.api_url
        here, primary = self._both()
        self.versions["consul"] = here.consul.version()
        found = installed(self.subject, self.installation) + look_at_gateway(self._targets()[1], True)
        found += _both_ways(here, primary)
        return found + look_from_servers(*self._targets(), self._ca_pem())

    def _both(self) -> tuple[Datacenter, Datacenter]:
        """This datacenter and the primary, ready to be asked."""
        original = find(self.cluster(self.params.primary), self.params)
        here, primary = (
            datacenter(self.params, of, self.cluster(of), original) for of in (self.of, self.params.primary)
        )
        return here, primary


def _both_ways(one: Datacenter, other: Datacenter) -> list[Finding]:
    return [
        *node_health(f"{one.name} → {other.name}", one, other),
        *node_health(f"{other.name} → {one.name}", other, one),
    ]

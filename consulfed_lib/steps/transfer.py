"""02-secret-transfer: the federation secret, from the primary's API server to a secondary's, in memory."""

from __future__ import annotations

from ..canonical import digest
from ..checks.permissions import permissions
from ..checks.preflight import Target, api_reachable, distinct_clusters
from ..checks.secrets import key_equal, secret_complete
from ..cluster import resource_path
from ..errors import ApplyError, SecretError
from ..gateway import live_addresses, split
from ..params import Cluster as ClusterParams
from ..plans import item_of
from ..results import Change, Changes, Finding
from ..secret import MANAGED_BY, FederationSecret, find, manifest, read, same
from ..secret.faults import mended_by_helm
from .base import Action, Step
from .install import ensure_namespace, namespace_row
from .plan import Plan

_FIRST = "01-primary-setup"
"""The notebook that makes what is copied here."""


class SecretTransfer(Step):
    """Find, validate, copy, read back, compare."""

    @property
    def primary(self) -> ClusterParams:
        return self.params.primary

    @property
    def of(self) -> ClusterParams:
        return self.params.chosen_secondary()

    @property
    def subject(self) -> str:
        return f"{self.primary.datacenter} to {self.of.datacenter}"

    @property
    def name(self) -> str:
        return self.params.secret_name

    def original(self) -> FederationSecret:
        """The primary's secret, read anew."""
        return find(self.cluster(self.primary), self.params)

    def copy(self) -> FederationSecret | None:
        return read(self.cluster(self.of), self.of.namespace, self.name)

    def look_before(self) -> list[Finding]:
        found = []
        for of in (self.primary, self.of):
            found += api_reachable(of.datacenter, self.params, of)
        if any(finding.severity == "error" for finding in found):
            return found
        both = [
            Target(self.params, of, self.cluster(of), notebook=self.notebook)
            for of in (self.primary, self.of)
        ]
        found += distinct_clusters(self.of.datacenter, both)
        found += [finding for target in both for finding in permissions(target.of.datacenter, target)]
        if any(finding.severity == "error" for finding in found):
            return found
        primary, must_be_there = self.cluster(self.primary), not self.params.dry_run
        return [*found, *secret_complete(self.primary.datacenter, self.params, primary, must_be_there)]

    def planned(self) -> Plan:
        """What would be copied; where 01 still has to make it, or to make it again, whatever that makes."""
        title, name = f"Plan for {self.of.datacenter} ({self.of.context})", f"{self.of.namespace}/{self.name}"
        namespace = namespace_row(self.cluster(self.of), self.of)
        secret, copy = self._original_or_none(), self.copy()
        outcome = "would create" if copy is None else "would change"
        if secret is None or self._made_again(secret):
            row = Change("federation-secret", self.of.datacenter, outcome, f"secret {name}: after {_FIRST}")
            item = item_of(row, by=_FIRST, what=f"secret {name}")
            return Plan(Changes(title, [namespace, row]), items=[item_of(namespace), item])
        if self._is_same(secret, copy):
            outcome = "unchanged"
        row = Change("federation-secret", self.of.datacenter, outcome, f"secret {name}")
        key = secret.fingerprint_key
        then, now = digest(secret.fingerprints(key)), digest(copy.fingerprints(key)) if copy else ""
        contents = secret.contents(f"Federation secret {self.name} of {self.primary.datacenter}")
        items = [item_of(namespace), item_of(row, now=now, then=then, by=_FIRST)]
        return Plan(Changes(title, [namespace, row]), contents, items=items)

    def _original_or_none(self) -> FederationSecret | None:
        try:
            return self.original()
        except SecretError:
            return None

    def _made_again(self, secret: FederationSecret) -> bool:
        """Whether 01 would let Helm make the primary's secret again before it is copied: because of what is wrong
        with it, or because its gateways are to be dialled at another port or name."""
        of, gateway = self.primary, self.params.gateway(self.primary)
        live = live_addresses(self.cluster(of), of.namespace, self.params.fullname(of), gateway)
        if mended_by_helm(secret, self.params, live or None):
            return True
        announced = [split(each) for each in secret.gateways()]
        return any(not gateway.announces(host, port) for host, port in announced)

    @property
    def name_to_type(self) -> str:
        return self.params.chosen_secondary().datacenter

    def changed_clusters(self) -> list[ClusterParams]:
        return [self.primary, self.of]

    def actions(self) -> list[Action]:
        return [lambda: ensure_namespace(self.cluster(self.of), self.of), self.transfer]

    def transfer(self) -> Change:
        """Only the data and the label travel: no metadata of the original, no last-applied annotation, no file."""
        secret, copy = self.original(), self.copy()
        what = f"secret {self.of.namespace}/{self.name}, {len(secret.data)} keys"
        if self._is_same(secret, copy):
            return Change("federation-secret", self.of.datacenter, "unchanged", what)
        cluster = self.cluster(self.of)
        cluster.apply("secrets", self.of.namespace, manifest(secret, self.of.namespace, self.name))
        if copy and (strange := copy.data.keys() - secret.data.keys()):
            # Server-side apply leaves the keys of other managers, such as those that came with a kubectl apply.
            path = resource_path("secrets", self.of.namespace, self.name)
            patch = {"data": dict.fromkeys(strange)}
            cluster.request("PATCH", path, patch, content_type="application/merge-patch+json")
        if not self._is_same(secret, self.copy()):
            raise ApplyError(
                f"The copy in {self.of.context} was written but does not equal the original.",
                "something else writes that secret; find it (metadata.managedFields), then run this again",
            )
        undo = f"kubectl --context {self.of.context} -n {self.of.namespace} delete secret {self.name}"
        return Change(
            "federation-secret", self.of.datacenter, "changed" if copy else "created", what, undo=undo
        )

    def _is_same(self, secret: FederationSecret, copy: FederationSecret | None) -> bool:
        return copy is not None and same(secret, copy) and copy.labels.items() >= MANAGED_BY.items()

    def look_after(self) -> list[Finding]:
        original = self.original()
        marks = original.fingerprints()
        self.facts["secret"] = f"{self.of.namespace}/{self.name}"
        self.facts["fingerprints"] = ", ".join(f"{name} {mark}" for name, mark in marks.items())
        return key_equal(self.of.datacenter, original, self.copy())

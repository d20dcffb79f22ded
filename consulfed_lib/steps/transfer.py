"""02-secret-transfer: the federation secret, from the primary's API server to a secondary's, in memory."""

from __future__ import annotations

from ..checks.preflight import api_reachable
from ..errors import ApplyError, SecretError
from ..gateway import live_address
from ..params import Cluster as ClusterParams
from ..results import Change, Changes, Finding
from ..secret import MANAGED_BY, FederationSecret, manifest, mistakes, read, same
from ..values import imported_secret_name
from .base import Action, Plan, Step
from .install import ensure_namespace


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
        return imported_secret_name(self.params)

    def original(self) -> FederationSecret:
        """The primary's secret, read anew. Raises SecretError that says where it was looked for."""
        cluster = self.cluster(self.primary)
        found = read(cluster, self.primary.namespace, self.name)
        if found is not None:
            return found
        others = [
            secret["metadata"]["name"]
            for secret in cluster.list("secrets", self.primary.namespace, "managed-by=consul-k8s")
            if secret["metadata"]["name"].endswith("-federation")
        ]
        raise SecretError(
            f"The federation secret {self.primary.namespace}/{self.name} is not in {self.primary.context}"
            + (f"; there is {', '.join(others)}." if others else "."),
            "correct global_name, release or namespace in the parameters"
            if others
            else "run 01-primary-setup first; it ends when the secret is there",
        )

    def copy(self) -> FederationSecret | None:
        return read(self.cluster(self.of), self.of.namespace, self.name)

    def look_before(self) -> list[Finding]:
        found = []
        for of in (self.primary, self.of):
            found += api_reachable(of.datacenter, self.params, of)
        if any(finding.severity == "error" for finding in found):
            return found
        subject = self.primary.datacenter
        try:
            secret = self.original()
        except SecretError as error:
            if self.params.dry_run:
                return [*found, Finding("federation-secret", subject, "warning", error.found, error.hint)]
            raise
        fullname = self.params.fullname(self.primary)
        live = live_address(self.cluster(self.primary), self.primary.namespace, fullname)
        wrong = mistakes(secret, self.params, {live} if live else set())
        hint = "let the primary's release make it again (run 01-primary-setup)"
        if wrong:
            return [*found, *(Finding("federation-secret", subject, "error", each, hint) for each in wrong)]
        size = f"{len(secret.data)} keys, CA and key belong together, gateways {', '.join(sorted(secret.gateways()))}"
        return [*found, Finding("federation-secret", subject, "ok", size)]

    def planned(self) -> Plan:
        title, what = (
            f"Plan for {self.of.datacenter} ({self.of.context})",
            f"secret {self.of.namespace}/{self.name}",
        )
        try:
            secret = self.original()
        except SecretError:
            row = Change("federation-secret", self.of.datacenter, "waits", f"{what}: for 01-primary-setup")
            return Plan(Changes(title, [row]))
        copy = self.copy()
        outcome = (
            "unchanged" if self._is_same(secret, copy) else "would create" if copy is None else "would change"
        )
        contents = secret.contents(f"Federation secret {self.name} of {self.primary.datacenter}")
        return Plan(
            Changes(title, [Change("federation-secret", self.of.datacenter, outcome, what)]), contents
        )

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
        secret, copy = self.original(), self.copy()
        self.facts["secret"] = f"{self.of.namespace}/{self.name}"
        if copy is None:
            return [
                Finding(
                    "copy-equal", self.of.datacenter, "error", "there is no copy", "run this notebook again"
                )
            ]
        key = secret.fingerprint_key
        ours, theirs = secret.fingerprints(key), copy.fingerprints(key)
        self.facts["fingerprints"] = ", ".join(f"{name} {mark}" for name, mark in ours.items())
        return [
            Finding("copy-equal", self.of.datacenter, "ok", f"{name}: fingerprint {ours[name]} on both sides")
            if ours.get(name) == theirs.get(name)
            else Finding(
                "copy-equal", self.of.datacenter, "error", f"{name} differs", "run this notebook again"
            )
            for name in sorted(ours.keys() | theirs.keys())
        ]

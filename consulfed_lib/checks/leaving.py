"""Taking a secondary out: may it be, is it out, and is everybody else as before?

Looked at afterwards is what each remaining datacenter sees, not what was done. What stays is named: nothing that nobody
saw go counts as gone.
"""

from __future__ import annotations

from collections.abc import Iterator

from .. import leaving
from ..chart import fullname
from ..cluster import Cluster
from ..errors import ClusterError
from ..leaving import Accounts
from ..params import Cluster as ClusterParams
from ..params import Federation
from ..results import Finding, several
from ..runner import runner_is_gone
from ..secret import read
from . import Check, check
from .federation import Datacenter
from .target import Target

_FORGOTTEN = "72 h"
"""After which Consul forgets a member of the WAN pool that has left or failed (reconnect_timeout_wan)."""


@check("leaving-cluster", "the cluster that leaves answers, or is gone as `leave.unreachable` says")
def leaving_cluster(self: Check, subject: str, params: Federation, of: ClusterParams) -> Iterator[Finding]:
    said_gone = params.leave.unreachable
    try:
        cluster = Cluster(of.context, params.kubeconfig_path)
        version = cluster.version()
    except ClusterError as error:
        if error.status is not None:
            yield self.error(subject, f"it answers, and refuses: {error.found}", error.hint)
        elif said_gone:
            yield self.ok(subject, f"it is gone, as leave.unreachable says: {error.found}")
        else:
            yield self.error(
                subject,
                error.found,
                "if that cluster is gone for good: leave.unreachable true; else mend the way to it",
            )
        return
    if said_gone:
        yield self.error(
            subject,
            f"{cluster.server} answers, Kubernetes {version}; leave.unreachable says that it is gone",
            "it answers: set leave.unreachable to false, so that it is cleaned, too",
        )
    else:
        yield self.ok(subject, f"{cluster.server} answers, Kubernetes {version}")


@check("leaving-release", "what would be uninstalled is this datacenter's Consul, and nobody works on it")
def leaving_release(self: Check, subject: str, target: Target) -> Iterator[Finding]:
    of, found = target.of, target.release()
    if found is None:
        yield self.ok(subject, f"no release {of.release} in {of.namespace}")
        return
    there = found.values.get("global", {})
    name = fullname(of.release, there.get("name") or "", found.values.get("fullnameOverride") or "")
    if there.get("datacenter") != of.datacenter:
        wrong = f"is datacenter {there.get('datacenter')!r}, not {of.datacenter!r}"
    elif there.get("federation", {}).get("createFederationSecret"):
        wrong = "is a primary"
    elif name != target.fullname:
        wrong = f"has objects that are named {name}-…; the parameters name them {target.fullname}-…"
    else:
        wrong = ""
    if wrong:
        yield self.error(
            subject,
            f"release {of.release} in {of.context} {wrong}",
            "correct context, namespace, release and names of this datacenter in the parameters",
        )
    elif found.pending and not runner_is_gone(found.runner):
        yield self.error(
            subject,
            f"release {of.release} is {found.status}: another Helm may be working on it",
            f"wait for it; if nobody is: helm uninstall {of.release} --kube-context {of.context} -n {of.namespace}",
        )
    else:
        yield self.ok(subject, f"release {of.release}, revision {found.revision}, {found.status}")


@check("left-cluster", "Consul is uninstalled in the cluster that left, or kept there as the parameters say")
def left_cluster(self: Check, subject: str, target: Target) -> Iterator[Finding]:
    of, found = target.of, target.release()
    pods = sorted(p["metadata"]["name"] for p in target.list("pods", of.namespace, f"release={of.release}"))
    if not target.params.leave.uninstall:
        kept = f"release {of.release} is kept, with {several(len(pods), 'pod')}" if found else "no release"
        yield self.ok(subject, kept)
    elif found or pods:
        what = f"release {of.release} is {found.status}" if found else f"pods {', '.join(pods)}"
        yield self.error(subject, f"still there: {what}", "run 90-defederate again")
    else:
        yield self.ok(subject, f"neither release {of.release} nor a pod of it is in {of.namespace}")


@check("left-secret", "the datacenter that left has no copy of the federation secret any more")
def left_secret(self: Check, subject: str, target: Target) -> Iterator[Finding]:
    of, name = target.of, target.params.secret_name
    if read(target.cluster, of.namespace, name) is None:
        yield self.ok(subject, f"no secret {of.namespace}/{name}")
    else:
        yield self.error(subject, f"secret {of.namespace}/{name} is there", "run 90-defederate again")


@check("left-unseen", "the cluster that left was looked at", "warning")
def left_unseen(self: Check, subject: str, params: Federation, of: ClusterParams) -> Iterator[Finding]:
    if not params.leave.unreachable:
        yield self.ok(subject, "what is in it is known")
        return
    yield self.warning(
        subject,
        "its cluster does not answer: whether Consul runs there, and whether it still has its copy of the federation"
        " secret, was not seen",
        f"if it ever comes back: {by_hand(params, of)}; until then take the CA key, the gossip key and the token of the"
        " federation for known to whoever has that cluster",
    )


def by_hand(params: Federation, of: ClusterParams) -> str:
    """The commands that do in that cluster what could not be done."""
    there = f"--context {of.context} -n {of.namespace}"
    uninstall = f"helm uninstall {of.release} --kube-context {of.context} -n {of.namespace}; "
    return f"{uninstall if params.leave.uninstall else ''}kubectl {there} delete secret {params.secret_name}"


@check("left-pool", "the datacenter sees no server of the one that left, and does not list it")
def left_pool(self: Check, subject: str, dc: Datacenter, name: str) -> Iterator[Finding]:
    leave, seen = dc.params.leave, leaving.members(dc.consul, name)
    told = tell(seen)
    alive = [member for member, status in seen.items() if status in (leaving.ALIVE, leaving.LEAVING)]
    if alive and (leave.unreachable or not leave.uninstall):
        yield self.warning(
            subject,
            f"still in the pool: {told}; Consul runs there, and one that is alive cannot be put out",
            f"stop the servers of {name} or cut them off from the gateways, then run 90-defederate again",
        )
    elif alive:
        yield self.error(subject, f"still in the pool: {told}", "run 90-defederate again")
    elif (listed := name in dc.consul.datacenters()) or leaving.FAILED in seen.values():
        also = " and listed as a datacenter" if listed else ""
        if seen and not leaving.can_forget(version := dc.consul.version()):
            yield self.warning(
                subject,
                f"in the pool{also}: {told}; Consul {version} cannot be told to forget it (1.11 can)",
                f"it is forgotten after {_FORGOTTEN}; requests to {name} fail until then",
            )
        else:
            yield self.error(subject, f"in the pool{also}: {told}", "run 90-defederate again")
    else:
        kept = f"; {told}, to be forgotten after {_FORGOTTEN}" if seen else ""
        yield self.ok(subject, f"{name} is not listed, and no server of it is alive{kept}")


def tell(members: dict[str, int]) -> str:
    """Each member with its status, in words."""
    said = [f"{name} {leaving.WORDS.get(status, status)}" for name, status in sorted(members.items())]
    return ", ".join(said) or "no server"


@check("left-accounts", "nothing is left in the primary by which the datacenter that left could log in")
def left_accounts(self: Check, subject: str, found: Accounts) -> Iterator[Finding]:
    left = [f"{kind} {found.names(kind)}" for kind in leaving.KINDS if found.of(kind)]
    if left:
        yield self.error(subject, f"still there: {'; '.join(left)}", "run 90-defederate again")
    else:
        yield self.ok(subject, "no auth method, binding rule, token, role or policy of it")


@check("left-state", "the primary has no federation state of the datacenter that left", "warning")
def left_state(self: Check, subject: str, dc: Datacenter, name: str) -> Iterator[Finding]:
    if leaving.has_state(dc.consul, name):
        yield self.warning(
            subject,
            f"it still has the federation state of {name} (addresses of gateways, no credential), which no API deletes",
            f"nothing: once no server of {name} is in the pool, the leader prunes it within the hour",
        )
    else:
        yield self.ok(subject, f"no federation state of {name}")


@check("left-others", "every ACL object that is not the leaving datacenter's is there as before")
def left_others(self: Check, subject: str, before: Accounts, after: Accounts) -> Iterator[Finding]:
    lost = sorted(before.ids() - after.ids())
    if lost:
        names = {(kind, t.id): t.name for kind, things in before.kinds.items() for t in things}
        told = ", ".join(f"{kind} {names[kind, id]}" for kind, id in lost)
        yield self.error(
            subject,
            f"gone meanwhile, and not removed by this run: {told}",
            "find out who removed it; 03-secondary-setup of a datacenter makes what its components need",
        )
    else:
        yield self.ok(subject, f"all {len(after.ids())} of them")

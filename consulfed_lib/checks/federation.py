"""Does the federation work? Asked in every datacenter, about every other one; everything here reads.

`consul members -wan` says "alive" about federations that do not work, so the oracle is the one of HashiCorp's own
acceptance tests (VerifyFederation): each datacenter reads the health of the other's servers through the gateways.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from ..cluster import Cluster
from ..consul import Consul
from ..gateway import catalog_addresses, difference, listed, live_addresses
from ..params import Cluster as ClusterParams
from ..params import Federation
from ..results import Finding, several
from . import Check, check, run_together
from .secrets import secret_complete, secret_copy

ALIVE = 1
"""Serf's status number of a member that is alive (2 leaving, 3 left, 4 failed)."""

_NEVER = "0001-01-01T00:00:00Z"
"""How Consul, written in Go, says that something has not happened yet."""


@dataclass(frozen=True)
class Datacenter:
    """One datacenter as verification sees it."""

    params: Federation
    of: ClusterParams
    cluster: Cluster
    consul: Consul

    @property
    def name(self) -> str:
        return self.of.datacenter

    @property
    def fullname(self) -> str:
        return self.params.fullname(self.of)

    def server_names(self) -> list[str]:
        """Consul names a server after its pod."""
        return [f"{self.fullname}-server-{i}" for i in range(self.params.servers)]

    def gateway_addresses(self) -> set[str]:
        """Where other datacenters must dial this one's gateways now."""
        gateway = self.params.gateway(self.of)
        return live_addresses(self.cluster, self.of.namespace, self.fullname, gateway)


@check("servers", "every server of the datacenter is a voter of a raft with a leader")
def servers(self: Check, subject: str, dc: Datacenter) -> Iterator[Finding]:
    if not dc.consul.leader():
        yield self.error(
            subject, "there is no raft leader", f"see the logs of the pods {dc.fullname}-server-*"
        )
        return
    voters = {s["Node"] for s in dc.consul.raft_servers() if s["Voter"]}
    missing = sorted(set(dc.server_names()) - voters)
    if missing:
        yield self.error(
            subject, f"not in raft: {', '.join(missing)}", f"see their pods in namespace {dc.of.namespace}"
        )
    else:
        yield self.ok(subject, f"{len(voters)} of {dc.params.servers} vote, and there is a leader")


@check("gateway-address", "the gateway's registered WAN address is the one that its Service has now")
def gateway_address(self: Check, subject: str, dc: Datacenter) -> Iterator[Finding]:
    live = dc.gateway_addresses()
    registered = catalog_addresses(dc.consul.service("mesh-gateway", dc.name))
    if not live:
        yield self.error(
            subject, "the gateway's Service has no address", "see why the load balancer gives none"
        )
    elif registered != live:
        yield self.error(
            subject,
            f"Consul has {listed(registered)}, the cluster has {listed(live)}: {difference(registered, live)}",
            f"restart the gateway: kubectl --context {dc.of.context} -n {dc.of.namespace}"
            f" rollout restart deployment/{dc.fullname}-mesh-gateway",
        )
    else:
        yield self.ok(subject, listed(live))


@check("ca-root", "both datacenters trust the same root of the service mesh's CA")
def ca_root(self: Check, subject: str, primary: Datacenter, dc: Datacenter) -> Iterator[Finding]:
    ours, theirs = primary.consul.ca_roots(), dc.consul.ca_roots()
    keys = ("ActiveRootID", "TrustDomain")
    if [ours[k] for k in keys] == [theirs[k] for k in keys]:
        yield self.ok(subject, f"trust domain {ours['TrustDomain']}")
    else:
        yield self.error(
            subject,
            f"{dc.name} has another root or trust domain than {primary.name}",
            f"see the leader's log in {dc.name} for its CA initialisation",
        )


@check("acl-replication", "the secondary replicates tokens from the primary, and the last try went well")
def acl_replication(self: Check, subject: str, dc: Datacenter) -> Iterator[Finding]:
    state = dc.consul.acl_replication()
    wrong = []
    if not (state.get("Enabled") and state.get("Running")):
        wrong.append("it does not run")
    if state.get("SourceDatacenter") != dc.params.primary.datacenter:
        wrong.append(f"its source is {state.get('SourceDatacenter') or 'not set'}")
    if state.get("ReplicationType") != "tokens":
        wrong.append(f"it replicates {state.get('ReplicationType') or 'nothing'}")
    last_success, last_error = (str(state.get(key, "")) for key in ("LastSuccess", "LastError"))
    if last_error > last_success:
        wrong.append("its last try failed")
    elif last_success <= _NEVER:
        wrong.append("no try has gone well yet")
    if wrong:
        yield self.error(
            subject, "; ".join(wrong), f"see the leader's log in {dc.name}; is the replication token valid?"
        )
    else:
        yield self.ok(subject, f"tokens up to index {state.get('ReplicatedTokenIndex', 0)} of the primary")


@check("datacenters", "the datacenter lists exactly the federation's datacenters")
def datacenters(self: Check, subject: str, dc: Datacenter) -> Iterator[Finding]:
    expected, seen = {c.datacenter for c in dc.params.clusters}, set(dc.consul.datacenters())
    missing, strange = sorted(expected - seen), sorted(seen - expected)
    if missing:
        yield self.error(subject, f"it does not list {', '.join(missing)}", "run 03-secondary-setup for them")
    elif strange:
        yield self.warning(
            subject,
            f"it also lists {', '.join(strange)}",
            "add them to `secondaries`, or find out what they are",
        )
    else:
        yield self.ok(subject, ", ".join(sorted(seen)))


@check("wan-members", "the datacenter sees every server of every datacenter alive")
def wan_members(self: Check, subject: str, dc: Datacenter) -> Iterator[Finding]:
    seen = {m["Name"]: m["Status"] for m in dc.consul.wan_members()}
    expected = {
        f"{dc.params.fullname(c)}-server-{i}.{c.datacenter}"
        for c in dc.params.clusters
        for i in range(dc.params.servers)
    }
    bad = sorted(name for name in expected if seen.get(name) != ALIVE)
    if bad:
        yield self.error(
            subject,
            f"not alive: {', '.join(bad)}",
            "see that their gateways are up and reachable; gossip travels through them",
        )
    else:
        yield self.ok(subject, f"{several(len(expected), 'server')} alive")


@check("federation-states", "the datacenter knows a gateway of every datacenter, with its address of now")
def federation_states(
    self: Check, subject: str, dc: Datacenter, live: dict[str, set[str]]
) -> Iterator[Finding]:
    states = {s["Datacenter"]: s.get("MeshGateways") or [] for s in dc.consul.federation_states()}
    wrong = []
    for name, addresses in live.items():
        known = catalog_addresses(
            [{"ServiceTaggedAddresses": g["Service"]["TaggedAddresses"]} for g in states.get(name, [])]
        )
        if not known:
            wrong.append(f"no gateway of {name}")
        elif addresses and known != addresses:
            wrong.append(f"{name} at {listed(known)} instead of {listed(addresses)}")
    if wrong:
        yield self.error(subject, "; ".join(wrong), "see federation state replication in the leader's log")
    else:
        yield self.ok(subject, f"{len(live)} datacenters, each with its gateway")


@check("proxy-defaults", "the datacenter has ProxyDefaults global with the mesh gateway mode asked for")
def proxy_defaults(self: Check, subject: str, dc: Datacenter) -> Iterator[Finding]:
    entry = dc.consul.proxy_defaults()
    mode = (entry or {}).get("MeshGateway", {}).get("Mode")
    if mode == dc.params.proxy_defaults_mode:
        yield self.ok(subject, f"mode {mode}")
    else:
        yield self.error(
            subject,
            "it is missing" if entry is None else f"its mode is {mode or 'not set'}",
            "run 01-primary-setup: it creates it in the primary, from where it is replicated",
        )


@check("node-health", "this datacenter reads the other's server health through the gateways")
def node_health(self: Check, subject: str, dc: Datacenter, other: Datacenter) -> Iterator[Finding]:
    for node in other.server_names():
        checks = dc.consul.node_checks(node, other.name)
        failing = [c["CheckID"] for c in checks if c["Status"] != "passing"]
        if not checks or failing:
            why = f"{', '.join(failing)} not passing" if failing else "it is not in the catalog"
            yield self.error(
                subject, f"{node} of {other.name}: {why}", f"see pod {node} in {other.of.context}"
            )
            return
    yield self.ok(subject, f"{several(len(other.server_names()), 'server')} passing")


@check("primary-gateways", "a secondary's servers were started with the gateways that the primary has now")
def primary_gateways(self: Check, subject: str, dc: Datacenter, primary: Datacenter) -> Iterator[Finding]:
    """Consul reads them when it starts, and a new secret starts nothing. While other addresses are learnt through
    the federation that works; once none of the old ones answers, only a restart helps."""
    started_with = set(dc.consul.settings().get("PrimaryGateways") or [])
    live = primary.gateway_addresses()
    if started_with == live:
        yield self.ok(subject, listed(live))
        return
    reached = all(found.severity == "ok" for found in node_health(subject, dc, primary))
    say = self.warning if reached else self.error
    yield say(
        subject,
        f"its servers were started with {listed(started_with)}; {primary.name} is at {listed(live)} now",
        f"restart them: kubectl --context {dc.of.context} -n {dc.of.namespace}"
        f" rollout restart statefulset/{dc.fullname}-server; then run 03-secondary-setup again",
    )


@check("catalog-services", "this datacenter reads the other's catalog through the gateways")
def catalog_services(self: Check, subject: str, dc: Datacenter, other: Datacenter) -> Iterator[Finding]:
    seen = set(dc.consul.services(other.name))
    missing = sorted({"consul", "mesh-gateway"} - seen)
    if missing:
        yield self.error(
            subject,
            f"{', '.join(missing)} not in it",
            "with ACLs: see that the token may read services, and that the gateway is registered",
        )
    else:
        yield self.ok(subject, ", ".join(sorted(seen)))


PER_PAIR = (node_health, catalog_services)
"""For each ordered pair: what fails here is drawn as a broken link."""

PER_DATACENTER = (servers, gateway_address, datacenters, wan_members, proxy_defaults)


LAYERS = [
    each.id
    for each in (
        secret_complete, secret_copy, servers, gateway_address, primary_gateways, node_health, catalog_services,
        datacenters, wan_members, federation_states, acl_replication, ca_root, proxy_defaults,
    )
]  # fmt: skip
"""In the order of cause and consequence: the first that fails names the cause, and its hint is the one to follow."""

FINAL = {secret_complete.id, secret_copy.id}
"""What does not mend itself, however long one waits."""


def look_at_federation(dcs: list[Datacenter]) -> list[Finding]:
    """Every verification check in every datacenter, all datacenters together; the first is the primary."""
    params, primary = dcs[0].params, dcs[0]
    live = {dc.name: dc.gateway_addresses() for dc in dcs}

    def of_one(dc: Datacenter) -> list[Finding]:
        found = [finding for each in PER_DATACENTER for finding in each(dc.name, dc)]
        found += federation_states(dc.name, dc, live)
        if dc is primary:
            found += secret_complete(dc.name, params, dc.cluster, True)
        else:
            found += secret_copy(dc.name, params, primary.cluster, dc.of, dc.cluster, True)
            found += primary_gateways(dc.name, dc, primary)
            found += ca_root(dc.name, primary, dc)
            found += acl_replication(dc.name, dc) if params.acls else []
        for other in dcs:
            if other is not dc:
                found += [f for each in PER_PAIR for f in each(f"{dc.name} → {other.name}", dc, other)]
        return found

    found = run_together(partial(of_one, dc) for dc in dcs)
    return sorted(found, key=lambda finding: LAYERS.index(finding.id))

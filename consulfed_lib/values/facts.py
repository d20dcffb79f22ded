"""What federation needs of Helm values: one table, for what users add to ours and for what a release already has.

Sources: the templates of the official chart from 0.21.0 to 2.0.3 (where one of them refuses a value, the fact says
what it says), and the issues of hashicorp/consul-k8s that are named. Most of these mistakes no template notices.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..chart import ChartVersion

Role = Literal["primary", "secondary"]


class _Absent:
    def __repr__(self) -> str:
        return "not set"

    def __bool__(self) -> bool:
        return False


ABSENT = _Absent()
"""What `get` gives for a key that is not there; false, and unlike null no value."""


@dataclass(frozen=True)
class Datacenter:
    """The values of one datacenter's release, and what they are judged against.

    Attributes:
        name: the datacenter, as the parameters have it.
        values: final values, as Helm is given them, or as a release has them.
        primary: name of the primary datacenter; empty when it is not known.
        secret: name of the federation secret; empty when it is not known.
    """

    name: str
    role: Role
    values: Mapping[str, Any]
    chart: ChartVersion
    primary: str = ""
    secret: str = ""

    def get(self, path: str) -> Any:
        return get(self.values, path)

    @property
    def acls(self) -> bool:
        return self.get("global.acls.manageSystemACLs") is True

    @property
    def gossip(self) -> bool:
        return bool(
            self.get("global.gossipEncryption.autoGenerate") or self.get("global.gossipEncryption.secretName")
        )


@dataclass(frozen=True)
class Fact:
    """One thing that a value must be, or must not be.

    Attributes:
        check: id of the check that reports it.
        wrong: whether a value (ABSENT when not there) is wrong in that datacenter.
        needs: what is expected, in a few words.
        why: what would happen otherwise.
        roles: in which datacenters.
        since, before: for which charts.
    """

    check: str
    path: str
    wrong: Callable[[Any, Datacenter], bool]
    needs: str
    why: str
    roles: tuple[Role, ...] = ("primary", "secondary")
    since: str = ""
    before: str = ""

    def applies(self, to: Datacenter) -> bool:
        return to.role in self.roles and to.chart.within(self.since, self.before)


def get(values: Any, path: str) -> Any:
    """The value at a dotted path; ABSENT when there is none."""
    for key in path.split("."):
        if not isinstance(values, Mapping) or key not in values:
            return ABSENT
        values = values[key]
    return values


def shown(value: Any) -> str:
    """A value as YAML would have it, short enough for a sentence."""
    text = repr(value) if value is ABSENT else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "…"


def _off(value: Any, _: Datacenter) -> bool:
    return value is False


def _not_on(value: Any, _: Datacenter) -> bool:
    return value is not True


def _set(value: Any, _: Datacenter) -> bool:
    return bool(value)


def _not_of_secret(key: str, when: Callable[[Datacenter], bool] = lambda _: True) -> Callable[..., bool]:
    """Wrong unless it is the name of the federation secret, or with `key` that key; not judged when not known."""

    def wrong(value: Any, of: Datacenter) -> bool:
        if not when(of):
            return bool(value)
        expected = key or of.secret
        return value != expected if expected else not value

    return wrong


def _acls(of: Datacenter) -> bool:
    return of.acls


def _gossip(of: Datacenter) -> bool:
    return of.gossip


def _gateway_service_off(value: Any, of: Datacenter) -> bool:
    return value is False and of.get("meshGateway.wanAddress.source") in (ABSENT, "Service")


def _no_https(value: Any, of: Datacenter) -> bool:
    return of.acls and not (isinstance(value, str) and value.startswith("https://"))


def _other_primary(value: Any, of: Datacenter) -> bool:
    return not value or (bool(of.primary) and value != of.primary)


def _other_name(value: Any, of: Datacenter) -> bool:
    lower_case = isinstance(value, str) and bool(re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", value))
    return not lower_case or (bool(of.name) and value != of.name)


def _no_quorum(value: Any, of: Datacenter) -> bool:
    servers = of.get("server.replicas")
    return servers is not ABSENT and value not in (ABSENT, None, servers)


SECONDARY: tuple[Role, ...] = ("secondary",)
PRIMARY: tuple[Role, ...] = ("primary",)
_NO_AGENT = "gateways of this generation talk to the client agent on their node"
_FROM_SECRET = "every datacenter's certificates come from one CA, and it is in the federation secret"
_NO_TOKEN = "the federation secret has the token with ACLs only, and a reference to nothing keeps servers from starting"
_ONE_KEY = "all datacenters share one gossip key, and a secondary takes it from the federation secret"

FACTS: tuple[Fact, ...] = (
    Fact("values-datacenter", "global.datacenter", _other_name, "the datacenter's own name in lower case",
         "it is part of certificates and of names of auth methods, and can never be changed"),
    Fact("values-tls", "global.tls.enabled", _not_on, "true", "federation works with TLS only"),
    Fact("values-federation", "global.federation.enabled", _not_on, "true",
         "servers join others through mesh gateways only if it is on"),
    Fact("values-components", "global.enabled", _off, "true",
         "false turns every component off that has no switch of its own"),
    Fact("values-components", "server.enabled", _off, "true", "each datacenter of a federation has servers of its own"),
    Fact("values-components", "server.connect", _off, "true", "mesh gateways are part of the service mesh"),
    Fact("values-components", "meshGateway.enabled", _not_on, "true",
         "datacenters reach each other through mesh gateways"),
    Fact("values-components", "connectInject.enabled", _not_on, "true", "the chart makes no mesh gateway without it",
         before="1.0.0"),
    Fact("values-components", "connectInject.enabled", _off, "true", "the chart makes no mesh gateway without it",
         since="1.0.0"),
    Fact("values-components", "connectInject.centralConfig.enabled", _off, "true",
         "otherwise meshGateway.globalMode has no effect", before="0.30.0"),
    Fact("values-components", "controller.enabled", _not_on, "true", "it brings ProxyDefaults to Consul",
         since="0.30.0", before="1.0.0"),
    Fact("values-components", "client.enabled", _off, "true", _NO_AGENT, before="1.0.0"),
    Fact("values-components", "client.grpc", _off, "true", _NO_AGENT, before="1.0.0"),
    Fact("values-components", "meshGateway.service.enabled", _gateway_service_off, "true",
         "the gateway's address is its Service's", before="1.0.0"),
    Fact("values-components", "global.experiments",
         lambda value, _: isinstance(value, list) and "resource-apis" in value, "no resource-apis",
         "the chart refuses it together with federation", since="1.3.0"),
    Fact("values-admin-partitions", "global.adminPartitions.enabled", _set, "false",
         "admin partitions and federation exclude each other"),
    Fact("values-external-servers", "externalServers.enabled", _set, "false",
         "a datacenter of this federation runs its servers in its own cluster"),
    Fact("values-secrets-backend", "global.secretsBackend.vault.enabled", _set, "false",
         "with Vault there is no federation secret that could be transferred"),
    Fact("values-update-partition", "server.updatePartition", _set, "0",
         "as long as it is not 0, no federation secret is made and ACLs are not set up (#1466)"),
    Fact("values-gateway-service-name", "meshGateway.consulServiceName",
         lambda value, _: value not in (ABSENT, "mesh-gateway"), "mesh-gateway",
         "servers, tokens and this runbook look for gateways under that name"),
    Fact("values-bootstrap-expect", "server.bootstrapExpect", _no_quorum, "as many as server.replicas",
         "with fewer the chart refuses, with more the servers never elect a leader"),
    Fact("values-primary-names-primary", "global.federation.primaryDatacenter", _set, "nothing in a primary",
         "there every login with ACLs fails (#1873, #1309)", PRIMARY),
    Fact("values-primary-names-primary", "global.federation.primaryGateways", _set, "nothing in a primary",
         "Consul refuses primary_gateways there", PRIMARY),
    Fact("values-federation-secret", "global.federation.createFederationSecret", _not_on, "true in a primary",
         "it makes the secret that each secondary needs", PRIMARY),
    Fact("values-federation-secret", "global.federation.createFederationSecret", _set, "nothing in a secondary",
         "only the primary makes the federation secret", SECONDARY),
    Fact("values-replication-token", "global.acls.createReplicationToken",
         lambda value, of: bool(value) is not of.acls, "true in a primary with ACLs",
         "secondaries replicate ACLs with that token", PRIMARY),
    Fact("values-replication-token", "global.acls.createReplicationToken", _set, "nothing in a secondary",
         "the token is the primary's", SECONDARY),
    Fact("values-replication-token", "global.acls.replicationToken.secretName", _set, "nothing in a primary",
         "it would make a secondary of it", PRIMARY),
    Fact("values-replication-token", "global.acls.replicationToken.secretName", _not_of_secret("", _acls),
         "the federation secret, with ACLs only", _NO_TOKEN, SECONDARY),
    Fact("values-replication-token", "global.acls.replicationToken.secretKey",
         _not_of_secret("replicationToken", _acls), "replicationToken, with ACLs only", _NO_TOKEN, SECONDARY),
    Fact("values-primary-datacenter", "global.federation.primaryDatacenter", _other_primary,
         "the name of the primary", "without it components log in to the wrong datacenter", SECONDARY, "0.41.0"),
    Fact("values-auth-method-host", "global.federation.k8sAuthMethodHost", _no_https,
         "the https:// URL of the cluster's own API",
         "with it the primary's servers check the service accounts of the secondary (#1425)", SECONDARY, "0.42.0"),
    *(
        Fact("values-shared-ca", f"global.tls.{part}.{name}", _not_of_secret(key), expected, _FROM_SECRET, SECONDARY)
        for part in ("caCert", "caKey")
        for name, key, expected in (("secretName", "", "the federation secret"), ("secretKey", part, part))
    ),
    Fact("values-gossip-key", "global.gossipEncryption.autoGenerate", _set, "nothing in a secondary", _ONE_KEY,
         SECONDARY),
    Fact("values-gossip-key", "global.gossipEncryption.secretName", _not_of_secret("", _gossip),
         "the federation secret", _ONE_KEY, SECONDARY),
    Fact("values-gossip-key", "global.gossipEncryption.secretKey",
         _not_of_secret("gossipEncryptionKey", _gossip), "gossipEncryptionKey", _ONE_KEY, SECONDARY),
)  # fmt: skip
"""Every fact about a single key. What needs two keys or two datacenters is in `lint`."""

SERVER_CONFIG: dict[str, str] = {
    "datacenter": "the datacenter is global.datacenter",
    "domain": "the domain is global.domain",
    "primary_datacenter": "the templates see global.federation.primaryDatacenter only (#1687)",
    "primary_gateways": "they come from the federation secret",
    "retry_join_wan": "Consul refuses it together with federation over mesh gateways",
    "start_join_wan": "Consul refuses it together with federation over mesh gateways",
    "encrypt": "the gossip key comes from a Secret, never from values",
    "acl.enabled": "it is the parameter `acls`",
    "connect.enabled": "mesh gateways are part of the service mesh",
    "connect.enable_mesh_gateway_wan_federation": "it is global.federation.enabled",
}
"""What `server.extraConfig` must not say, because servers read it last and believe it; and why."""


def why(path: str, role: Role, chart: ChartVersion) -> str:
    """The reason of the fact about that path; empty when there is none."""
    for fact in FACTS:
        if fact.path == path and role in fact.roles and chart.within(fact.since, fact.before):
            return fact.why
    return ""


def server_config(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(key, reason) of what `server.extraConfig` says and must not; a text that is no JSON is left to Consul."""
    text = get(values, "server.extraConfig")
    config: Any = text
    if isinstance(text, str):
        try:
            config = json.loads(text)
        except ValueError:  # a template, which the chart renders, or a mistake, which Consul reports
            return
    for path, reason in SERVER_CONFIG.items():
        if get(config, path) is not ABSENT:
            yield path, reason

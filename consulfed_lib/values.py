"""Helm values of a primary and of a secondary, right for the generation of the chart."""

from __future__ import annotations

from typing import Any

from .params import Cluster, Federation


def primary_values(params: Federation) -> dict[str, Any]:
    """The values that make a datacenter the primary of a federation.

    `federation.primaryDatacenter` is left out on purpose: with ACLs it breaks every login of a primary
    (consul-k8s #1873, #1309).
    """
    values = _common(params, params.primary)
    values["global"]["federation"] = {"enabled": True, "createFederationSecret": True}
    if params.acls:
        values["global"]["acls"] = {"manageSystemACLs": True, "createReplicationToken": True}
    if params.gossip_encryption:
        values["global"]["gossipEncryption"] = {"autoGenerate": True}
    return values


def secondary_values(params: Federation, secondary: Cluster, api_url: str) -> dict[str, Any]:
    """The values that join a datacenter to the primary; what is secret is named, never held.

    Args:
        api_url: the URL of this secondary's own Kubernetes API, as the primary's servers reach it. (The page says
            "of the primary" in one sentence, which is wrong: consul PR #18280.)
    """
    values = _common(params, secondary)
    secret = params.secret_name
    values["global"]["tls"] |= {
        "caCert": {"secretName": secret, "secretKey": "caCert"},
        "caKey": {"secretName": secret, "secretKey": "caKey"},
    }
    values["global"]["federation"] = {"enabled": True, "primaryDatacenter": params.primary.datacenter}
    if params.acls:
        # Without ACLs the primary exports no replication token, and a reference to a key that is not there keeps
        # the servers from starting: the whole block must go, which the page's own example does not do.
        values["global"]["acls"] = {
            "manageSystemACLs": True,
            "replicationToken": {"secretName": secret, "secretKey": "replicationToken"},
        }
        values["global"]["federation"]["k8sAuthMethodHost"] = api_url
    if params.gossip_encryption:
        values["global"]["gossipEncryption"] = {"secretName": secret, "secretKey": "gossipEncryptionKey"}
    values["server"]["extraVolumes"] = [
        {
            "type": "secret",
            "name": secret,
            "items": [{"key": "serverConfigJSON", "path": "config.json"}],
            "load": True,
        }
    ]
    return values


def _common(params: Federation, cluster: Cluster) -> dict[str, Any]:
    values: dict[str, Any] = {
        "global": {"datacenter": cluster.datacenter, "tls": {"enabled": True}},
        "connectInject": {"enabled": True},
        "meshGateway": {
            "enabled": True,
            "replicas": params.mesh_gateway.replicas,
            "service": {"port": params.mesh_gateway.port},
        },
        # Said outright, because the chart's default went from 3 to 1 in 1.0.0.
        "server": {"replicas": params.servers},
    }
    if params.global_name:
        values["global"]["name"] = params.global_name
    if params.chart.parsed.has_controller_section:
        values["controller"] = {"enabled": True}
    return values

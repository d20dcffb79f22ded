"""A Consul that somebody else installed: whether it can become the primary of a federation, and what is kept of it."""

from __future__ import annotations

from collections.abc import Iterator

from . import helm
from .chart import ChartVersion, fullname
from .cluster import Cluster
from .params import Cluster as ClusterParams
from .params import Federation
from .values import Installed, merged
from .values.facts import get, shown
from .values.stages import ENABLED, not_demanded


def installed(
    params: Federation, of: ClusterParams, cluster: Cluster, found: helm.Release | None
) -> Installed | None:
    """The release whose values are kept: one that was there before consulfed. None where there is none, or it is not
    to be upgraded.

    Of an upgrade in stages that is under way it is the revision that it began from: what lies between is ours.
    """
    if found is None or of.datacenter != params.primary.datacenter:
        return None
    if not found.adopted and (found.ours or not params.upgrade.existing):
        return None
    adopted = found.adopted
    if found.origin:
        found = helm.release(cluster, of.namespace, of.release, found.origin) or found
    return Installed(found.name, found.values, found.defaults, adopted)


def refusals(params: Federation, of: ClusterParams, found: helm.Release) -> Iterator[tuple[str, str]]:
    """(what is wrong, what to do instead) of each reason why a release cannot become this federation's primary."""
    there = Installed(found.name, found.values, found.defaults)
    datacenter = there.effective("global.datacenter")
    if datacenter != of.datacenter:
        yield (
            f"it is datacenter {datacenter!r}, the parameters name it {of.datacenter!r}; a datacenter cannot be"
            " renamed: its name is in its data, its certificates and its auth methods",
            f"set primary.datacenter to {datacenter}, or choose another cluster",
        )
    primary = get(found.values, "global.federation.primaryDatacenter")
    if primary or get(found.values, "global.acls.replicationToken.secretName"):
        yield (
            f"it is a secondary{f' of {primary!r}' if primary else ''}, and a federation has one primary",
            "name its primary as the primary; or take it out of that federation first (90-defederate there)",
        )
    name = fullname(
        of.release, get(found.values, "global.name") or "", get(found.values, "fullnameOverride") or ""
    )
    if name != params.fullname(of):
        yield (
            f"its objects are named {name}-…, the parameters name them {params.fullname(of)}-…; Helm would delete the"
            " servers and start new ones, on volumes that are empty",
            f"set global_name to {shown(get(found.values, 'global.name') or '')}",
        )
    acls = bool(there.effective("global.acls.manageSystemACLs"))
    if acls != params.acls:
        yield from _acls(acls)
    yield from _gossip(params, there)
    if get(found.values, "global.tls.caCert.secretName") and not get(
        found.values, "global.tls.caKey.secretName"
    ):
        yield (
            "its server CA is the user's own, without the key: secondaries need it to make their certificates",
            "give global.tls.caKey in `values`: the Secret with the CA's key",
        )
    domain = there.effective("global.domain") or "consul"
    ours = get(merged(params, of).values, "global.domain") or "consul"
    if domain != ours:
        yield (
            f"its domain is {domain!r}, the parameters have {ours!r}",
            f"say it for all datacenters: values: {{global: {{domain: {domain}}}}}",
        )
    if there.effective(ENABLED) is not True:
        try:
            not_demanded(get(found.values, "server.extraConfig"), params.chart.parsed)
        except ValueError as error:
            yield f"{error}", "write it as JSON first; it is most likely a template"
    yield from _chart(params, found)


def _acls(on: bool) -> Iterator[tuple[str, str]]:
    if on:
        yield (
            "its ACLs are on, the parameters have them off",
            "set acls to true; ACLs are on or off in every datacenter alike",
        )
    else:
        yield (
            "its ACLs are off, the parameters have them on; to turn them on under services that bring no tokens cuts"
            " them off, and is no part of this upgrade",
            "set acls to false; or turn ACLs on first, by HashiCorp's own procedure, and then run this again",
        )


def _gossip(params: Federation, there: Installed) -> Iterator[tuple[str, str]]:
    path = "global.gossipEncryption"
    secret, key = (there.effective(f"{path}.{part}") or "" for part in ("secretName", "secretKey"))
    generated = bool(there.effective(f"{path}.autoGenerate"))
    on, wanted = generated or bool(secret), params.gossip_encryption
    if on and not wanted:
        yield "its gossip is encrypted, the parameters have that off", "set gossip_encryption to true"
    elif wanted and not on:
        yield (
            "its gossip is not encrypted; to encrypt it at once would part the servers that have the key from those"
            " that have not",
            "set gossip_encryption to false; or encrypt it first, by HashiCorp's own procedure, then run this again",
        )
    elif on and (secret, key if secret else "") != (
        params.gossip_key.secret,
        params.gossip_key.key if params.gossip_key.secret else "",
    ):
        has = f"in key {key} of secret {secret}" if secret else "generated"
        say = f'{{secret: "{secret}", key: "{key}"}}' if secret else '{secret: ""}'
        yield f"its gossip key is {has}, the parameters say otherwise", f"set gossip_key to {say}"


def _chart(params: Federation, found: helm.Release) -> Iterator[tuple[str, str]]:
    """A chart of another version than the one that is pinned."""
    pinned = params.chart.version
    if found.version == pinned or params.upgrade.chart:
        return
    try:
        older = ChartVersion.parse(found.version) < params.chart.parsed
    except ValueError:
        older = False
    yield (
        f"it has chart {found.version}, the parameters pin {pinned}",
        f"set chart.version to {found.version}"
        + ("; or set upgrade.chart to true, to move it as well" if older else ""),
    )

"""Does anything give addresses to LoadBalancer Services here? Without one, Helm waits for the gateway until it gives
up, and says only that it waited: so what there is to see of it is looked at before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..gateway import ingress_host
from ..results import Finding
from . import Check, check
from .target import Target

_BY_CRD = {
    "ipaddresspools.metallb.io": "MetalLB",
    "addresspools.metallb.io": "MetalLB",
    "ciliumloadbalancerippools.cilium.io": "Cilium's LB IPAM",
    "servicegroups.purelb.io": "PureLB",
    "eips.network.kubesphere.io": "OpenELB",
    "targetgroupbindings.elbv2.k8s.aws": "the AWS Load Balancer Controller",
}
"""What gives addresses, by a CRD that it brings."""

_BY_NODE = {
    "aws": "AWS",
    "azure": "Azure",
    "digitalocean": "DigitalOcean",
    "gce": "Google Cloud",
    "hcloud": "Hetzner Cloud",
    "ibm": "IBM Cloud",
    "k3s": "k3s",
    "linode": "Linode",
    "oci": "Oracle Cloud",
    "openstack": "OpenStack",
    "scaleway": "Scaleway",
}
"""Clouds whose own controllers give them, by the scheme of the nodes' `spec.providerID`. Left out on purpose: those
that do not without more, such as kind and vSphere."""


@check("load-balancer", "something in the cluster gives addresses to LoadBalancer Services", "warning")
def load_balancer(self: Check, subject: str, target: Target) -> Iterator[Finding]:
    gateway, of = target.params.gateway(target.of), target.of
    if (gateway.service, gateway.wan_address) != ("LoadBalancer", "Service"):
        how = gateway.service if gateway.wan_address == "Service" else gateway.wan_address
        yield self.ok(subject, f"not needed: others reach the gateway by {how}")
        return
    everywhere = target.list_if_allowed("services")
    services = target.list("services", of.namespace) if everywhere is None else everywhere
    balanced = [each for each in services if each.get("spec", {}).get("type") == "LoadBalancer"]
    served = {_name(each): host for each in balanced if (host := ingress_host(each))}
    waiting = sorted(_name(each) for each in balanced if not ingress_host(each))
    own = f"{of.namespace}/{target.fullname}-mesh-gateway"
    other = "or let others in another way: mesh_gateway.service NodePort, or wan_address Static"
    if own in served:
        yield self.ok(subject, f"the gateway has {served[own]}")
    elif waiting:
        yield self.warning(
            subject,
            f"{', '.join(waiting[:3])} wait(s) for an address; {len(served)} Service(s) of the cluster have one",
            f"see why (kubectl --context {of.context} describe service): a pool may be used up; {other}",
        )
    elif served:
        name, host = sorted(served.items())[0]
        yield self.ok(subject, f"{len(served)} Service(s) of the cluster have an address; {name} has {host}")
    elif givers := _givers(target):
        yield self.ok(
            subject, f"{', '.join(givers)}, which give(s) addresses; no Service has asked for one yet"
        )
    else:
        yield self.warning(
            subject,
            "nothing was seen that gives addresses: no Service that has one, no known controller, no cloud's nodes",
            f"install one, such as MetalLB, if there is none; {other}",
        )


def _name(service: dict[str, Any]) -> str:
    return f"{service['metadata']['namespace']}/{service['metadata']['name']}"


def _givers(target: Target) -> list[str]:
    """What gives addresses as far as can be seen, each with what it was seen by."""
    crds = {each["metadata"]["name"] for each in target.list("customresourcedefinitions", whole=False)}
    seen = {by: f"{by} is there" for crd, by in _BY_CRD.items() if crd in crds}
    for node in target.list("nodes"):
        scheme = str(node.get("spec", {}).get("providerID", "")).partition("://")[0]
        if cloud := _BY_NODE.get(scheme):
            seen[cloud] = f"the nodes are {cloud}'s"
    return list(seen.values())

"""Annotations that make a load balancer do more than pass TCP on: each with its cloud, and when it bites.

A mesh gateway routes by the SNI of a TLS connection that ends in a Consul server. Whoever terminates TLS on the way,
reads HTTP, or puts a PROXY protocol header in front, breaks it. Sources: the documentation of the clouds' own
controllers (cloud-provider-aws and AWS Load Balancer Controller, cloud-provider-azure, GKE, OCI, DigitalOcean,
Hetzner, OpenStack, Linode, IBM Cloud, Alibaba Cloud, NAVER Cloud).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import yaml

from .target import Target

TLS, HTTP, PROXY = "ends TLS at the load balancer", "lets it speak HTTP", "adds a PROXY protocol header"

_K8S = "service.beta.kubernetes.io/"
_ANY, _ON, _HTTPS = r".+", r"(?i)true|on|yes|1|2|v1|v2|\*", r"(?i)https?|http2|http3|grpc"


class Rule(NamedTuple):
    """An annotation (its whole name, as a pattern), the values that matter (as a pattern), and what they do.

    `ports`: the annotation that, where it is there, says for which ports alone it holds.
    """

    name: str
    value: str
    effect: str
    cloud: str
    ports: str = ""


RULES: tuple[Rule, ...] = (
    Rule(_K8S + "aws-load-balancer-ssl-cert", _ANY, TLS, "AWS", _K8S + "aws-load-balancer-ssl-ports"),
    Rule(_K8S + "aws-load-balancer-backend-protocol", r"(?i)https?", HTTP, "AWS"),
    Rule(_K8S + "aws-load-balancer-proxy-protocol", _ANY, PROXY, "AWS"),
    Rule(_K8S + "aws-load-balancer-target-group-attributes", r".*proxy_protocol_v2\.enabled=true.*", PROXY, "AWS"),
    Rule(r"alb\.ingress\.kubernetes\.io/.+", _ANY, HTTP, "AWS"),
    Rule(r"kubernetes\.io/ingress\.class", _ANY, HTTP, "an Ingress controller"),
    Rule(r"appgw\.ingress\.kubernetes\.io/.+", _ANY, HTTP, "Azure"),
    Rule(_K8S + "azure-pls-proxy-protocol", r"(?i)true", PROXY, "Azure"),
    Rule(r"(beta\.)?cloud\.google\.com/backend-config", _ANY, HTTP, "Google Cloud"),
    Rule(r"(service\.alpha\.kubernetes\.io|cloud\.google\.com)/app-protocols", r"(?i).*http.*", HTTP, "Google Cloud"),
    Rule(_K8S + "do-loadbalancer-protocol", _HTTPS, HTTP, "DigitalOcean"),
    Rule(_K8S + "do-loadbalancer-(tls|http2|http3)-ports", _ANY, TLS, "DigitalOcean"),
    Rule(_K8S + "do-loadbalancer-certificate-(id|name)", _ANY, TLS, "DigitalOcean"),
    Rule(_K8S + "do-loadbalancer-enable-proxy-protocol", _ON, PROXY, "DigitalOcean"),
    Rule(r"load-balancer\.hetzner\.cloud/protocol", _HTTPS, HTTP, "Hetzner Cloud"),
    Rule(r"load-balancer\.hetzner\.cloud/(http-certificates|certificate-type)", _ANY, TLS, "Hetzner Cloud"),
    Rule(r"load-balancer\.hetzner\.cloud/uses-proxyprotocol", _ON, PROXY, "Hetzner Cloud"),
    Rule(r"loadbalancer\.openstack\.org/default-tls-container-ref", _ANY, TLS, "OpenStack"),
    Rule(r"loadbalancer\.openstack\.org/x-forwarded-for", _ON, HTTP, "OpenStack"),
    Rule(r"loadbalancer\.openstack\.org/proxy-protocol", _ON, PROXY, "OpenStack"),
    Rule(_K8S + "oci-load-balancer-ssl-ports", _ANY, TLS, "Oracle Cloud", _K8S + "oci-load-balancer-ssl-ports"),
    Rule(_K8S + "oci-load-balancer-backend-protocol", _HTTPS, HTTP, "Oracle Cloud"),
    Rule(_K8S + "oci-load-balancer-connection-proxy-protocol-version", _ON, PROXY, "Oracle Cloud"),
    Rule(_K8S + "linode-loadbalancer-default-protocol", _HTTPS, HTTP, "Linode"),
    Rule(_K8S + r"linode-loadbalancer-port-\d+", r'(?i).*"protocol"\s*:\s*"https?".*', HTTP, "Linode"),
    Rule(_K8S + "linode-loadbalancer-default-proxy-protocol", _ON, PROXY, "Linode"),
    Rule(
        r"service\.kubernetes\.io/ibm-load-balancer-cloud-provider-enable-features",
        r".*proxy-protocol.*", PROXY, "IBM Cloud",
    ),
    Rule(_K8S + "alibaba-cloud-loadbalancer-protocol-port", r"(?i).*(https?|tcpssl):.*", TLS, "Alibaba Cloud"),
    Rule(_K8S + "alibaba-cloud-loadbalancer-proxy-protocol", _ON, PROXY, "Alibaba Cloud"),
    Rule(_K8S + "ncloud-load-balancer-backend-protocol", r"(?i)https?|ssl", TLS, "NAVER Cloud"),
    Rule(_K8S + "ncloud-load-balancer-proxy-protocol", _ON, PROXY, "NAVER Cloud"),
)  # fmt: skip

_PASSES_TLS = _K8S + "do-loadbalancer-tls-passthrough"
"""DigitalOcean's word for leaving TLS alone, whatever its protocol is called."""

_INTERNAL: Mapping[str, str] = {
    _K8S + "aws-load-balancer-internal": r"(?i)true|0\.0\.0\.0/0",
    _K8S + "aws-load-balancer-scheme": "internal",
    _K8S + "azure-load-balancer-internal": r"(?i)true",
    "networking.gke.io/load-balancer-type": r"(?i)internal",
    "cloud.google.com/load-balancer-type": r"(?i)internal",
    _K8S + "oci-load-balancer-internal": r"(?i)true",
    _K8S + "openstack-internal-load-balancer": r"(?i)true",
}
"""What makes a load balancer's address a private one."""


def harmful(annotations: Mapping[str, str], port: int) -> Iterator[tuple[str, str, str]]:
    """(annotation with its value, what it does, cloud) of each that breaks a gateway whose Service has this port."""
    passes = str(annotations.get(_PASSES_TLS, "")).lower() == "true"
    for name, value in sorted(annotations.items()):
        for rule in RULES:
            if not re.fullmatch(rule.name, name) or not re.fullmatch(rule.value, str(value).strip()):
                continue
            if rule.cloud == "DigitalOcean" and rule.effect != PROXY and passes:
                continue
            if rule.ports and not _holds_for(annotations.get(rule.ports), port):
                continue
            yield f"{name}: {_short(str(value))}", rule.effect, rule.cloud


def _holds_for(ports: str | None, port: int) -> bool:
    """Whether a list of ports means this one; without a list all are meant, and a name may mean any."""
    named = [each.strip() for each in str(ports or "*").split(",")]
    return any(each == "*" or not each.isdigit() or int(each) == port for each in named)


def internal(annotations: Mapping[str, str]) -> str:
    """The annotation that asks for a private address; empty when none does."""
    for name, value in _INTERNAL.items():
        if re.fullmatch(value, str(annotations.get(name, "")).strip()):
            return f"{name}: {annotations[name]}"
    return ""


def _short(value: str) -> str:
    return value if len(value) <= 60 else f"{value[:59]}…"


def of_service(target: Target, service: Mapping[str, Any] | None) -> tuple[dict[str, str], str]:
    """Annotations that the gateway's Service has and keeps, and those that the values add; and what of the latter
    could not be read. What an earlier release added and the values no longer do, Helm takes away."""
    live = (service or {}).get("metadata", {}).get("annotations") or {}
    added, unread = of_values(target.values())
    release = target.release()
    before = of_values(release.values)[0] if release else {}
    return {k: v for k, v in live.items() if k not in before or k in added} | added, unread


def of_values(values: Mapping[str, Any]) -> tuple[dict[str, str], str]:
    """What `meshGateway.service.annotations` of final values adds; and why it could not be read, empty where it could.

    In the chart it is a text of YAML that may hold templates.
    """
    given: Any = values
    for key in ("meshGateway", "service", "annotations"):
        given = given.get(key) if isinstance(given, Mapping) else None
    if isinstance(given, str):
        try:
            given = yaml.safe_load(given)
        except yaml.YAMLError:
            return {}, "cannot be read before Helm renders it"
        if given is not None and not isinstance(given, Mapping):
            return {}, "is no list of `key: value`"
    if not given:
        return {}, ""
    return {str(key): str(value) for key, value in dict(given).items()}, ""

"""What each end of a connection means, and what to do about it: for gateways, and for a cluster's API.

By `Outcome.kind`: (what was found, hint). The texts are filled in by the checks of network.
"""

from __future__ import annotations

REACHED = {
    "tls": "answers with the certificate of {name}",
    "unchecked": "answers in TLS as {name}",
}
MAY_COME = {"refused", "timeout", "no-route", "unknown-name", "silent", "closed"}
"""What a new load balancer shows until its name is known and its first target healthy: minutes, on some clouds."""

GATEWAY: dict[str, tuple[str, str]] = {
    "http": (
        "{at} has the right certificate but speaks HTTP ({detail}): that is Consul's API, and no mesh gateway",
        "let the address lead to the pods of the mesh gateway",
    ),
    "refused": (
        "{at} refuses connections: nothing listens there",
        "see that the gateway's pods are ready and that its Service leads to them: kubectl --context {context}"
        " -n {namespace} get pods,services",
    ),
    "timeout": (
        "{at} does not answer ({detail}): a firewall or a missing route drops the packets",
        "let the nodes of {here} connect to TCP port {port} of {host}: firewall, security group, network policy",
    ),
    "no-route": (
        "{at} cannot be reached: {detail}",
        "the networks are not joined (private addresses?); give the gateway of {there} an address that {here} reaches",
    ),
    "unknown-name": (
        "{host} is no name in {here}: {detail}",
        "let the DNS of {here} know it, or let the gateway of {there} have another address (mesh_gateway.wan_address)",
    ),
    "silent": (
        "{at} takes the connection and says nothing: a load balancer without a healthy target, or one that waits for"
        " a PROXY protocol header",
        "see the targets and the protocol of the load balancer of {there}; it must pass TCP through as it is",
    ),
    "closed": (
        "{at} closes the connection before TLS has come about: no gateway behind it that knows {name}",
        "see that the gateway of {there} is ready and has no errors in its log, and that its load balancer adds no"
        " PROXY protocol header",
    ),
    "not-tls": (
        "{at} does not speak TLS: something that is no mesh gateway, or that ends TLS on the way",
        "let the load balancer of {there} pass TCP through; see its annotations and its port",
    ),
    "alert": (
        "{at} refuses TLS as {name} ({detail})",
        "see the log of the gateway of {there}; is it the gateway of that datacenter?",
    ),
    "foreign": (
        "{at} shows a certificate that is not for {name}, but: {detail}",
        "a load balancer that terminates TLS must pass TCP through; if the names are Consul's, the address leads to"
        " another datacenter, or the servers' own certificates lack that name",
    ),
    "wrong-ca": (
        "{at} shows a certificate of {name} by another CA than the federation's",
        "the federation secret is of another installation of {there}: make it again (01-primary-setup), then"
        " 02-secret-transfer",
    ),
    "expired": (
        "{at} shows a certificate that expired ({detail})",
        "an upgrade of the release issues a new one (run the setup notebook); then restart the servers of {there}",
    ),
    "not-yet-valid": (
        "{at} shows a certificate that is not valid yet ({detail})",
        "set the clocks of the nodes of {here} and {there} right",
    ),
}
"""Of a gateway of the datacenter `there`, seen from the datacenter `here`."""

API: dict[str, tuple[str, str]] = {
    "tls": (
        "{at} has the right certificate, but is no API server: it speaks no HTTP, or wants a client certificate",
        "{give}",
    ),
    "refused": ("{at} refuses connections: nothing listens there", "{give}"),
    "timeout": (
        "{at} does not answer ({detail}): a firewall or a missing route drops the packets",
        "let the nodes of {here} connect to it (authorised networks, firewall); or {give}",
    ),
    "no-route": ("{at} cannot be reached: {detail}", "{give}"),
    "unknown-name": ("{host} is no name in {here}: {detail}", "let the DNS of {here} know it; or {give}"),
    "silent": ("{at} takes the connection and says nothing", "see its load balancer; or {give}"),
    "closed": (
        "{at} closes the connection before TLS has come about",
        "see its load balancer, and what authorises networks there; or {give}",
    ),
    "not-tls": ("{at} does not speak TLS", "{give}"),
    "alert": ("{at} refuses TLS ({detail})", "{give}"),
    "foreign": (
        "{at} shows a certificate that is not for {host}, but: {detail}",
        "give an api_url of {of} with one of these names; what terminates TLS on the way cannot be used",
    ),
    "wrong-ca": (
        "{at} shows a certificate that the CA of {of} did not sign: a proxy is in between, or another cluster answers",
        "{give}: Consul trusts nothing but that cluster's own CA there",
    ),
    "expired": (
        "{at} shows a certificate that expired ({detail})",
        "renew the certificate of that API server",
    ),
    "not-yet-valid": (
        "{at} shows a certificate that is not valid yet ({detail})",
        "set the clocks of the nodes of {here} and {of} right",
    ),
}
"""Of the API of the datacenter `of`, seen from the datacenter `here`."""

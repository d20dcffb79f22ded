"""The parts of consul-k8s that need neither an API server nor Consul."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from consulfed_lib.sandbox.consul_k8s.admission import admit
from consulfed_lib.sandbox.consul_k8s.certificates import make_ca, make_server_certificate
from consulfed_lib.sandbox.consul_k8s.config_entries import config_entry, same_content
from consulfed_lib.sandbox.consul_k8s.create_federation_secret import wan_addresses
from consulfed_lib.sandbox.consul_k8s.gateway_pods import GatewayError, mesh_gateway, wan_address
from consulfed_lib.sandbox.consul_k8s.joblog import JobFailed, JobLog
from consulfed_lib.sandbox.consul_k8s.login import dataplane_options, init_login, login_of
from consulfed_lib.sandbox.consul_k8s.options import endpoint, options_of, seconds
from consulfed_lib.sandbox.node.init_files import made_files, volume_file

PREFIX = "consul.hashicorp.com/"


def test_options_expand_what_the_script_itself_sets() -> None:
    """A chart's script may set a variable and use it in a flag; the environment is known there too."""
    given = options_of(
        [
            "/bin/sh",
            "-ec",
            'CONSUL_FULLNAME="mesh"\n\nexec tool x \\\n  -prefix=${CONSUL_FULLNAME} -ns=${NS} \\\n',
        ],
        {"NS": "consul"},
    )
    assert (given.flag("prefix"), given.flag("ns")) == ("mesh", "consul")


@pytest.mark.parametrize(
    ("flags", "env", "expected"),
    [
        (
            [],
            {
                "CONSUL_ADDRESSES": "c-server.ns.svc",
                "CONSUL_HTTP_PORT": "8501",
                "CONSUL_USE_TLS": "true",
                "CONSUL_CACERT_FILE": "/ca",
            },
            (("c-server.ns.svc",), 8501, "/ca"),
        ),
        (
            [
                "-server-address=a",
                "-server-address=b",
                "-use-https",
                "-server-port=8501",
                "-consul-ca-cert=/ca",
            ],
            {},
            (("a", "b"), 8501, "/ca"),
        ),
        (
            [],
            {"CONSUL_HTTP_ADDR": "https://10.0.0.1:8501", "CONSUL_CACERT": "/ca"},
            (("10.0.0.1",), 8501, "/ca"),
        ),
        ([], {"CONSUL_HTTP_ADDR": "http://10.0.0.1:8500", "CONSUL_CACERT": "/ca"}, (("10.0.0.1",), 8500, "")),
    ],
    ids=["since 1.0", "acl-init up to 0.49", "https address", "http address"],
)
def test_endpoint(flags: list[str], env: dict[str, str], expected: tuple[Any, ...]) -> None:
    """Each generation's way to say where Consul is comes to the same."""
    place = endpoint(options_of(["tool", *flags], env))
    assert (place.hosts, place.port, place.ca_file) == expected


def test_endpoint_that_is_not_said() -> None:
    """A container that is not told where Consul is gets one clear sentence."""
    with pytest.raises(ValueError, match="CONSUL_HTTP_ADDR"):
        endpoint(options_of(["tool"], {}))


@pytest.mark.parametrize("duration", ["5", "", "5 s", "s", "1d"])
def test_bad_duration(duration: str) -> None:
    """What is no Go duration is refused, not guessed."""
    with pytest.raises(ValueError, match="duration"):
        seconds(duration)


def test_server_certificate() -> None:
    """The certificate is the CA's, for 730 days, for servers that are clients too, with every name once."""
    ca, ca_key = make_ca("Consul Agent CA")
    names = ["*.server.dc1.consul", "server.dc1.consul", "127.0.0.1", "::1", "127.0.0.1"]
    pem, _ = make_server_certificate(ca, ca_key, "server.dc1.consul", names, 730)
    authority, certificate = x509.load_pem_x509_certificate(ca), x509.load_pem_x509_certificate(pem)
    certificate.verify_directly_issued_by(authority)
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert found.get_values_for_type(x509.DNSName) == ["*.server.dc1.consul", "server.dc1.consul"]
    assert [str(ip) for ip in found.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    validity = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert timedelta(days=730) <= validity < timedelta(days=730, minutes=2)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {x509.ExtendedKeyUsageOID.SERVER_AUTH, x509.ExtendedKeyUsageOID.CLIENT_AUTH} == set(usage)
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)


def test_ca_key_that_is_another_cas() -> None:
    """A key that does not belong to the certificate is found before anything is signed with it."""
    ca, _ = make_ca("Consul Agent CA")
    _, other_key = make_ca("Consul Agent CA")
    with pytest.raises(ValueError, match="does not belong"):
        make_server_certificate(ca, other_key, "x", ["x"], 1)


def gateway_pod(**annotations: str) -> dict[str, Any]:
    given = {
        "gateway-kind": "mesh-gateway",
        "gateway-consul-service-name": "mesh-gateway",
        "mesh-gateway-container-port": "8443",
        "gateway-wan-address-source": "Service",
        "gateway-wan-address-static": "",
        "gateway-wan-port": "443",
        **{name.replace("_", "-"): value for name, value in annotations.items()},
    }
    return {
        "metadata": {
            "name": "gw",
            "namespace": "ns",
            "annotations": {PREFIX + k: v for k, v in given.items()},
        },
        "spec": {"nodeName": "node1"},
        "status": {"hostIP": "10.0.0.2", "podIP": "10.0.1.9"},
    }


def service(kind: str, *ingress: dict[str, str]) -> dict[str, Any]:
    return {
        "metadata": {"name": "gw", "namespace": "ns"},
        "spec": {"type": kind, "clusterIP": "10.9.9.9"},
        "status": {"loadBalancer": {"ingress": list(ingress)} if ingress else {}},
    }


@pytest.mark.parametrize(
    ("source", "service", "expected"),
    [
        ("Service", service("LoadBalancer", {"ip": "1.2.3.4", "hostname": "lb.example"}), "1.2.3.4"),
        ("Service", service("LoadBalancer", {"hostname": "lb.example"}), "lb.example"),
        ("Service", service("LoadBalancer", {}), ""),
        ("Service", service("NodePort"), "10.0.0.2"),
        ("Service", service("ClusterIP"), "10.9.9.9"),
        ("NodeIP", None, "10.0.0.2"),
        ("NodeName", None, "node1"),
        ("Static", None, "gw.example"),
    ],
)
def test_wan_address(source: str, service: dict[str, Any] | None, expected: str) -> None:
    """The WAN address comes from where the annotations say, with an ingress's ip before its hostname."""
    pod = gateway_pod(gateway_wan_address_source=source, gateway_wan_address_static="gw.example")
    gateway = mesh_gateway(pod)
    assert gateway is not None
    assert wan_address(gateway, pod, service) == expected


def test_load_balancer_without_address() -> None:
    """A load balancer that has no address yet makes no WAN address."""
    pod = gateway_pod()
    gateway = mesh_gateway(pod)
    assert gateway is not None
    with pytest.raises(GatewayError, match="failed to read ingress config for loadbalancer for service gw"):
        wan_address(gateway, pod, service("LoadBalancer"))


def test_gateway_port_that_is_no_number() -> None:
    """NodePort without a port number, as `<nil>` in the annotation, is named."""
    with pytest.raises(GatewayError, match="gateway-wan-port"):
        mesh_gateway(gateway_pod(gateway_wan_port="<nil>"))


SCRIPT = """
consul-k8s-control-plane acl-init \\
  -component-name=mesh-gateway \\
  -acl-auth-method=mesh-k8s-component-auth-method-dc2 \\
  -primary-datacenter=dc1

WAN_ADDR="{address}"
WAN_PORT="30443"

cat > /consul/service/service.hcl << EOF
service {{
  kind = "mesh-gateway"
  name = "mesh-gateway"
  meta {{
    consul-wan-federation = "1"
  }}
  port = 8443
}}
EOF
"""


def old_pod(address: str) -> dict[str, Any]:
    pod = gateway_pod()
    pod["metadata"]["annotations"] = {}
    pod["metadata"]["labels"] = {"component": "mesh-gateway"}
    command = ["/bin/sh", "-ec", SCRIPT.format(address=address)]
    pod["spec"]["initContainers"] = [{"name": "mesh-gateway-init", "command": command}]
    return pod


@pytest.mark.parametrize(
    ("address", "source"), [("${HOST_IP}", "NodeIP"), ("${NODE_NAME}", "NodeName"), ("gw.example", "Static")]
)
def test_gateway_of_an_old_chart(address: str, source: str) -> None:
    """Up to chart 0.49 the init container's script says what annotations say later."""
    gateway = mesh_gateway(old_pod(address))
    assert gateway is not None
    assert (gateway.service, gateway.port, gateway.wan_port) == ("mesh-gateway", 8443, 30443)
    assert (gateway.wan_source, gateway.is_federated, gateway.has_own_node) == (source, True, False)


def test_login_of_an_old_chart() -> None:
    """Up to chart 0.49 an init container logs in; elsewhere -acl-auth-method is for injected pods."""
    how = init_login(old_pod("x")["spec"], {}, {})
    assert how is not None
    assert (how.method, how.datacenter) == ("mesh-k8s-component-auth-method-dc2", "dc1")
    assert login_of(options_of(["inject-connect", "-acl-auth-method=consul-k8s-auth-method"], {}), {}) is None


@pytest.mark.parametrize(("flag", "port"), [("-ca-certs=/ca", 8501), ("-tls-disabled", 8500)])
def test_dataplane_finds_the_http_api(flag: str, port: int) -> None:
    """consul-dataplane is told the gRPC port only; logins here go to the HTTP API, encrypted if it is."""
    given = options_of(["consul-dataplane", "-addresses=c-server.ns.svc", "-grpc-port=8502", flag], {})
    assert endpoint(dataplane_options(given)).port == port


def instance(address: str, port: int) -> dict[str, Any]:
    return {"ServiceID": "gw", "ServiceTaggedAddresses": {"wan": {"Address": address, "Port": port}}}


def test_wan_addresses_are_unique() -> None:
    """Two gateways behind one address are one entry; IPv6 is in brackets."""
    instances = [instance("1.2.3.4", 443), instance("1.2.3.4", 443), instance("fd00::1", 443)]
    assert wan_addresses(instances) == ["1.2.3.4:443", "[fd00::1]:443"]


def test_gateway_without_wan_address_fails_the_job() -> None:
    """An instance without a WAN address is no reason to wait: the Job fails and names it."""
    with pytest.raises(
        JobFailed, match=r"no 'wan' key found in tagged addresses for service instance \"gw\""
    ):
        wan_addresses([{"ServiceID": "gw", "ServiceTaggedAddresses": {"lan": {}}}])


def proxy_defaults(mode: str = "local", name: str = "global", namespace: str = "consul") -> dict[str, Any]:
    spec = {"meshGateway": {"mode": mode}}
    return {"kind": "ProxyDefaults", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def test_config_entry_says_where_it_comes_from() -> None:
    """The entry carries the datacenter that manages it, so that another one does not overwrite it."""
    entry = config_entry("proxydefaults", proxy_defaults(), "dc1")
    assert (entry["Kind"], entry["Name"]) == ("proxy-defaults", "global")
    assert entry["Meta"] == {
        "external-source": "kubernetes", "consul.hashicorp.com/source-datacenter": "dc1",
    }  # fmt: skip


def test_same_content_ignores_owner_and_zero_values() -> None:
    """Who owns an entry and what Go leaves at zero make no difference; another mode does."""
    entry = config_entry("proxydefaults", proxy_defaults(), "dc2")
    existing = {
        "Kind": "proxy-defaults", "Name": "global", "MeshGateway": {"Mode": "local"}, "Expose": {},
        "Meta": {"consul.hashicorp.com/source-datacenter": "dc1"}, "CreateIndex": 4, "ModifyIndex": 9,
    }  # fmt: skip
    assert same_content(entry, existing)
    assert not same_content(config_entry("proxydefaults", proxy_defaults("remote"), "dc1"), existing)


def test_admission() -> None:
    """One ProxyDefaults may be created, called global, and changed later; its mode is one that Consul knows."""
    assert admit(proxy_defaults(), []) is None
    assert admit(proxy_defaults(), [proxy_defaults("remote")], creates=False) is None
    assert "must be" in str(admit(proxy_defaults(name="other"), []))
    assert "only one global entry" in str(admit(proxy_defaults(), [proxy_defaults(namespace="default")]))
    assert "only one global entry" in str(admit(proxy_defaults(), [proxy_defaults()]))
    assert "spec.meshGateway.mode" in str(admit(proxy_defaults("lokal"), []))


def test_job_log_lines() -> None:
    """A line has time, level, message and values, quoted where a reader could not tell their end."""
    lines: list[str] = []
    JobLog(lines.append).info("Secret created", name="a", why="two words")
    JobLog(lines.append, as_json=True).error("bad", name="a")
    assert lines[0].endswith('Z [INFO]  Secret created: name=a why="two words"')
    assert '"@level": "error"' in lines[1]


def test_client_ca_of_auto_encryption_is_what_the_servers_are_checked_with() -> None:
    """Up to chart 0.49 an init container fetches it; here servers answer for the client agents."""
    flags = ("-output-file=/consul/tls/client/ca/tls.crt", "-ca-file=/consul/tls/ca/tls.crt")
    script = " \\\n  ".join(["tool get-consul-client-ca", *flags]) + "\n"
    mounts = [
        {"name": "server-ca", "mountPath": "/consul/tls/ca"},
        {"name": "client-ca", "mountPath": "/consul/tls/client/ca"},
    ]
    spec = {"initContainers": [{"command": ["sh", "-ec", script], "volumeMounts": mounts}, {"name": "other"}]}
    assert made_files(spec) == {("client-ca", "tls.crt"): ("server-ca", "tls.crt")}
    assert made_files({"initContainers": [{"command": ["sh", "-ec", script]}]}) == {}
    container = {"volumeMounts": [{"name": "client-ca", "mountPath": "/x", "subPath": "sub"}]}
    assert volume_file(container, "/x/tls.crt") == ("client-ca", "sub/tls.crt")
    assert volume_file(container, "/y/tls.crt") is None

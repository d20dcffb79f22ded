"""The sandbox's own chart, rendered by the real Helm."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from consulfed_lib.sandbox.node.workload import parse_flags
from consulfed_lib.sandbox.tools import ensure

CHART = Path(__file__).parents[2] / "consulfed_lib/sandbox/chart/consul"

PRIMARY = """
global:
  name: consul
  datacenter: dc1
  tls: {enabled: true}
  federation: {enabled: true, createFederationSecret: true}
  acls: {manageSystemACLs: true, createReplicationToken: true}
  gossipEncryption: {autoGenerate: true}
connectInject: {enabled: true}
controller: {enabled: true}
meshGateway: {enabled: true}
"""

SECONDARY = """
global:
  name: consul
  datacenter: dc2
  tls:
    enabled: true
    caCert: {secretName: consul-federation, secretKey: caCert}
    caKey: {secretName: consul-federation, secretKey: caKey}
  acls:
    manageSystemACLs: true
    replicationToken: {secretName: consul-federation, secretKey: replicationToken}
  federation: {enabled: true, k8sAuthMethodHost: "https://10.0.0.1:6443", primaryDatacenter: dc1}
  gossipEncryption: {secretName: consul-federation, secretKey: gossipEncryptionKey}
connectInject: {enabled: true}
meshGateway: {enabled: true}
server:
  extraVolumes:
    - {type: secret, name: consul-federation, items: [{key: serverConfigJSON, path: config.json}], load: true}
"""

MINIMAL = "global: {name: consul}"

Objects = dict[tuple[str, str], dict[str, Any]]
Render = Callable[..., Objects]


@pytest.fixture(scope="session")
def helm() -> Path:
    return ensure("helm")["helm"].path


@pytest.fixture
def template(helm: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `helm template` with values and --set arguments; release `consul`, namespace `mesh`."""

    def run(values: str, *sets: str, release: str = "consul") -> subprocess.CompletedProcess[str]:
        file = tmp_path / "values.yaml"
        file.write_text(values)
        arguments = [word for assignment in sets for word in ("--set", assignment)]
        return subprocess.run(
            [helm, "template", release, CHART, "--namespace", "mesh", "--values", file, *arguments],
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def render(template: Callable[..., subprocess.CompletedProcess[str]]) -> Render:
    """The rendered objects, by kind and name."""

    def run(values: str, *sets: str, release: str = "consul") -> Objects:
        result = template(values, *sets, release=release)
        assert result.returncode == 0, result.stderr
        objects = [item for item in yaml.safe_load_all(result.stdout) if item]
        found = {(item["kind"], item["metadata"]["name"]): item for item in objects}
        assert len(found) == len(objects), "two objects of one kind and name"
        return found

    return run


def pod(item: dict[str, Any]) -> dict[str, Any]:
    return item["spec"]["template"]["spec"]


def flags(item: dict[str, Any]) -> dict[str, list[str]]:
    container = pod(item)["containers"][0]
    return parse_flags([*container["command"], *container.get("args", [])])


def server_config(objects: Objects, fullname: str = "consul") -> dict[str, Any]:
    data = objects["ConfigMap", f"{fullname}-server-config"]["data"]
    return {name: json.loads(text) for name, text in data.items()}


def env(item: dict[str, Any]) -> dict[str, Any]:
    return {
        entry["name"]: entry.get("value", entry.get("valueFrom"))
        for entry in pod(item)["containers"][0]["env"]
    }


def volumes(item: dict[str, Any]) -> dict[str, Any]:
    return {volume["name"]: volume for volume in pod(item).get("volumes", [])}


@pytest.mark.parametrize("values", [MINIMAL, PRIMARY, SECONDARY], ids=["minimal", "primary", "secondary"])
def test_lint_is_clean(helm: Path, tmp_path: Path, values: str) -> None:
    """helm lint --strict finds nothing to say about the chart in any role."""
    file = tmp_path / "values.yaml"
    file.write_text(values)
    subprocess.run([helm, "lint", "--strict", CHART, "--values", file], check=True, capture_output=True)


def test_names_and_components_of_a_primary(render: Render) -> None:
    """A primary has every object that the procedure and the sandbox find by name, with the official labels."""
    objects = render(PRIMARY)
    expected = {
        ("StatefulSet", "consul-server"): "server",
        ("Service", "consul-server"): "server",
        ("Service", "consul-ui"): "ui",
        ("Service", "consul-dns"): "dns",
        ("ConfigMap", "consul-server-config"): "server",
        ("Deployment", "consul-mesh-gateway"): "mesh-gateway",
        ("Service", "consul-mesh-gateway"): "mesh-gateway",
        ("Deployment", "consul-connect-injector"): "connect-injector",
        ("Deployment", "consul-webhook-cert-manager"): "webhook-cert-manager",
        ("Secret", "consul-auth-method"): "auth-method",
        ("ServiceAccount", "consul-auth-method"): "auth-method",
        ("ClusterRoleBinding", "consul-authdelegator"): "auth-method",
        ("Job", "consul-gossip-encryption-autogenerate"): "gossip-encryption-autogenerate",
        ("Job", "consul-tls-init"): "tls-init",
        ("Job", "consul-tls-init-cleanup"): "tls-init-cleanup",
        ("Job", "consul-server-acl-init"): "server-acl-init",
        ("Job", "consul-server-acl-init-cleanup"): "server-acl-init-cleanup",
        ("Job", "consul-create-federation-secret"): "create-federation-secret",
    }
    for key, component in expected.items():
        labels = objects[key]["metadata"]["labels"]
        assert labels == {
            "app": "consul", "chart": "consul-helm", "heritage": "Helm", "release": "consul", "component": component,
        }, key  # fmt: skip
        if "template" in objects[key].get("spec", {}):
            assert objects[key]["spec"]["template"]["metadata"]["labels"]["component"] == component


@pytest.mark.parametrize(
    ("job", "hook", "weight", "policy"),
    [
        (
            "gossip-encryption-autogenerate",
            "pre-install,pre-upgrade",
            "1",
            "hook-succeeded,before-hook-creation",
        ),
        ("tls-init", "pre-install,pre-upgrade", "1", "hook-succeeded,before-hook-creation"),
        ("tls-init-cleanup", "pre-delete", "1", "hook-succeeded"),
        ("server-acl-init-cleanup", "post-install,post-upgrade", "0", "hook-succeeded,hook-failed"),
        ("create-federation-secret", "post-install,post-upgrade", "1", "hook-succeeded"),
    ],
)
def test_hooks(render: Render, job: str, hook: str, weight: str, policy: str) -> None:
    """Each Job is the hook that it is in the official chart, down to what stays behind when it fails."""
    annotations = render(PRIMARY)["Job", f"consul-{job}"]["metadata"]["annotations"]
    assert annotations == {
        "helm.sh/hook": hook, "helm.sh/hook-weight": weight, "helm.sh/hook-delete-policy": policy,
    }  # fmt: skip


def test_acl_init_is_no_hook(render: Render) -> None:
    """server-acl-init runs beside the servers; as a hook it would wait for servers that wait for it."""
    assert "annotations" not in render(PRIMARY)["Job", "consul-server-acl-init"]["metadata"]


def test_every_pod_has_its_service_account_and_every_hook_pod_one_that_is_there_in_time(
    render: Render,
) -> None:
    """A pod's ServiceAccount is rendered, as the same kind of hook as the pod."""
    objects = render(PRIMARY)
    for (kind, name), item in objects.items():
        if kind not in ("Job", "Deployment", "StatefulSet"):
            continue
        account = objects["ServiceAccount", pod(item)["serviceAccountName"]]
        hook = item["metadata"].get("annotations", {}).get("helm.sh/hook")
        account_hook = account["metadata"].get("annotations", {}).get("helm.sh/hook")
        assert account_hook in (None, hook), name
        if hook and "pre-install" in hook:
            assert account_hook == hook, name


def test_bindings_name_what_is_rendered(render: Render) -> None:
    """Each RoleBinding and ClusterRoleBinding joins a role and an account that exist."""
    objects = render(PRIMARY)
    for (kind, name), item in objects.items():
        if not kind.endswith("RoleBinding"):
            continue
        role = (item["roleRef"]["kind"], item["roleRef"]["name"])
        assert role in objects or role == ("ClusterRole", "system:auth-delegator"), name
        for subject in item["subjects"]:
            assert ("ServiceAccount", subject["name"]) in objects, name
            assert subject["namespace"] == "mesh"


def test_server_statefulset_of_a_primary(render: Render) -> None:
    """Servers start in parallel, one a node, with the gossip key from its Secret and the CA mounted."""
    server = render(PRIMARY, "server.replicas=3", "server.updatePartition=2")["StatefulSet", "consul-server"]
    spec = server["spec"]
    assert (spec["replicas"], spec["podManagementPolicy"], spec["serviceName"]) == (
        3,
        "Parallel",
        "consul-server",
    )
    assert spec["updateStrategy"]["rollingUpdate"]["partition"] == 2
    rule = pod(server)["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]
    assert rule["topologyKey"] == "kubernetes.io/hostname"
    assert rule["labelSelector"]["matchLabels"]["component"] == "server"
    assert env(server)["GOSSIP_KEY"] == {
        "secretKeyRef": {"name": "consul-gossip-encryption-key", "key": "key"}
    }
    assert "ACL_REPLICATION_TOKEN" not in env(server)
    assert flags(server)["config-dir"] == ["/consul/config", "/consul/extra-config"]
    assert flags(server)["encrypt"] == ["${GOSSIP_KEY}"]
    assert volumes(server)["consul-ca-cert"]["secret"] == {
        "secretName": "consul-ca-cert", "items": [{"key": "tls.crt", "path": "tls.crt"}],
    }  # fmt: skip
    assert spec["volumeClaimTemplates"][0]["metadata"]["name"] == "data-mesh"


def test_server_config_of_a_primary(render: Render) -> None:
    """The configuration files say what the values say, and a primary names no primary."""
    config = server_config(render(PRIMARY, "server.replicas=3"))
    assert config["server.json"]["bootstrap_expect"] == 3
    assert config["server.json"]["retry_join"] == ["consul-server.mesh.svc:8301"]
    assert config["acl-config.json"]["acl"] == {
        "enabled": True, "default_policy": "deny", "down_policy": "extend-cache", "enable_token_persistence": True,
    }  # fmt: skip
    assert config["tls-config.json"]["verify_server_hostname"] is True
    assert config["tls-config.json"]["ports"] == {"http": -1, "https": 8501}
    assert config["federation-config.json"] == {
        "primary_datacenter": "", "primary_gateways": [], "connect": {"enable_mesh_gateway_wan_federation": True},
    }  # fmt: skip


def test_secondary_takes_everything_from_the_federation_secret(render: Render) -> None:
    """CA, CA key, gossip key, replication token and server config of a secondary come from the one Secret."""
    objects = render(SECONDARY)
    server = objects["StatefulSet", "consul-server"]
    assert env(server)["GOSSIP_KEY"] == {
        "secretKeyRef": {"name": "consul-federation", "key": "gossipEncryptionKey"}
    }
    assert env(server)["ACL_REPLICATION_TOKEN"] == {
        "secretKeyRef": {"name": "consul-federation", "key": "replicationToken"}
    }
    assert volumes(server)["consul-ca-cert"]["secret"]["items"] == [{"key": "caCert", "path": "tls.crt"}]
    assert volumes(server)["userconfig-consul-federation"]["secret"] == {
        "secretName": "consul-federation", "items": [{"key": "serverConfigJSON", "path": "config.json"}],
    }  # fmt: skip
    assert flags(server)["config-dir"] == [
        "/consul/config", "/consul/userconfig/consul-federation", "/consul/extra-config",
    ]  # fmt: skip
    assert "replication" in flags(server)["hcl"][0]
    config = server_config(objects)
    assert config["acl-config.json"]["acl"]["enable_token_replication"] is True
    assert config["federation-config.json"]["primary_datacenter"] == "dc1"
    tls = objects["Job", "consul-tls-init"]
    assert volumes(tls)["consul-ca-key"]["secret"]["items"] == [{"key": "caKey", "path": "tls.key"}]
    assert flags(tls)["ca"] == ["/consul/tls/ca/cert/tls.crt"]
    assert flags(tls)["key"] == ["/consul/tls/ca/key/tls.key"]
    assert ("Job", "consul-create-federation-secret") not in objects
    assert ("Job", "consul-gossip-encryption-autogenerate") not in objects


def test_components_of_a_secondary_log_in_at_the_primary(render: Render) -> None:
    """With primaryDatacenter, components use the auth method that carries their datacenter's name, there."""
    objects = render(SECONDARY)
    gateway = flags(objects["Deployment", "consul-mesh-gateway"])
    assert gateway["login-auth-method"] == ["consul-k8s-component-auth-method-dc2"]
    assert gateway["login-datacenter"] == ["dc1"]
    injector = env(objects["Deployment", "consul-connect-injector"])
    assert injector["CONSUL_LOGIN_AUTH_METHOD"] == "consul-k8s-component-auth-method-dc2"
    assert injector["CONSUL_LOGIN_DATACENTER"] == "dc1"
    acl_init = flags(objects["Job", "consul-server-acl-init"])
    assert acl_init["auth-method-host"] == ["https://10.0.0.1:6443"]
    assert acl_init["acl-replication-token-file"] == ["/consul/acl/tokens/acl-replication-token"]
    assert "create-acl-replication-token" not in acl_init


def test_components_of_a_primary_log_in_at_home(render: Render) -> None:
    """Without primaryDatacenter the auth method has no suffix."""
    gateway = flags(render(PRIMARY)["Deployment", "consul-mesh-gateway"])
    assert gateway["login-auth-method"] == ["consul-k8s-component-auth-method"]
    assert gateway["login-datacenter"] == ["dc1"]


def test_federation_secret_job(render: Render) -> None:
    """The Job is told where the CA, its key and the gossip key are, and whether to export a token."""
    job = render(PRIMARY)["Job", "consul-create-federation-secret"]
    given = flags(job)
    assert given["resource-prefix"] == ["consul"]
    assert given["k8s-namespace"] == ["mesh"]
    assert given["server-ca-cert-file"] == ["/consul/tls/ca/tls.crt"]
    assert given["server-ca-key-file"] == ["/consul/tls/server/ca/tls.key"]
    assert given["gossip-key-file"] == ["/consul/gossip/gossip.key"]
    assert given["export-replication-token"] == ["true"]
    assert given["mesh-gateway-service-name"] == ["mesh-gateway"]
    assert env(job)["CONSUL_HTTP_ADDR"] == "https://consul-server.mesh.svc:8501"


def test_federation_secret_job_waits_for_partition_0(render: Render) -> None:
    """While updatePartition holds servers back there is neither federation secret nor ACL init."""
    objects = render(PRIMARY, "server.updatePartition=1")
    assert ("Job", "consul-create-federation-secret") not in objects
    assert ("Job", "consul-server-acl-init") not in objects


def test_federation_secret_job_is_off_by_default(render: Render) -> None:
    """Nothing of federation is rendered unless asked for."""
    objects = render(MINIMAL)
    assert ("Job", "consul-create-federation-secret") not in objects
    assert "federation-config.json" not in server_config(objects)


def test_without_acls(render: Render) -> None:
    """With ACLs off nothing logs in, nothing is bootstrapped, and no token is exported."""
    objects = render(
        PRIMARY, "global.acls.manageSystemACLs=false", "global.acls.createReplicationToken=false"
    )
    assert ("Job", "consul-server-acl-init") not in objects
    assert ("Secret", "consul-auth-method") not in objects
    assert "acl-config.json" not in server_config(objects)
    assert "login-auth-method" not in flags(objects["Deployment", "consul-mesh-gateway"])
    assert "CONSUL_LOGIN_AUTH_METHOD" not in env(objects["Deployment", "consul-connect-injector"])
    assert "export-replication-token" not in flags(objects["Job", "consul-create-federation-secret"])


def test_replication_token_reference_stays_without_acls(render: Render) -> None:
    """As in the official chart, the page's ACL-less secondary still asks its pods for a replication token."""
    server = render(SECONDARY, "global.acls.manageSystemACLs=false")["StatefulSet", "consul-server"]
    assert "ACL_REPLICATION_TOKEN" in env(server)


def test_without_gossip_encryption(render: Render) -> None:
    """Without a gossip key there is none to mount, to pass on or to encrypt with."""
    objects = render(PRIMARY, "global.gossipEncryption.autoGenerate=false")
    assert "encrypt" not in flags(objects["StatefulSet", "consul-server"])
    assert "gossip-key-file" not in flags(objects["Job", "consul-create-federation-secret"])


def test_given_gossip_key(render: Render) -> None:
    """A key of one's own goes to the servers and into the federation secret."""
    objects = render(
        PRIMARY,
        "global.gossipEncryption.autoGenerate=false",
        "global.gossipEncryption.secretName=mine",
        "global.gossipEncryption.secretKey=gossip",
    )
    assert env(objects["StatefulSet", "consul-server"])["GOSSIP_KEY"] == {
        "secretKeyRef": {"name": "mine", "key": "gossip"}
    }
    assert volumes(objects["Job", "consul-create-federation-secret"])["gossip-encryption-key"]["secret"] == {
        "secretName": "mine", "items": [{"key": "gossip", "path": "gossip.key"}],
    }  # fmt: skip


def gateway_annotations(objects: Objects) -> dict[str, str]:
    item = objects["Deployment", "consul-mesh-gateway"]
    prefix = "consul.hashicorp.com/"
    annotations = item["spec"]["template"]["metadata"]["annotations"]
    return {name.removeprefix(prefix): value for name, value in annotations.items()}


@pytest.mark.parametrize(
    ("sets", "source", "port", "static"),
    [
        ([], "Service", "443", ""),
        (["meshGateway.service.port=8443"], "Service", "8443", ""),
        (["meshGateway.service.type=NodePort", "meshGateway.service.nodePort=30443"], "Service", "30443", ""),
        (["meshGateway.wanAddress.source=NodeIP", "meshGateway.wanAddress.port=8443"], "NodeIP", "8443", ""),
        (["meshGateway.wanAddress.source=NodeName"], "NodeName", "443", ""),
        (
            ["meshGateway.wanAddress.source=Static", "meshGateway.wanAddress.static=gw.example"],
            "Static",
            "443",
            "gw.example",
        ),
    ],
    ids=["load-balancer", "service-port", "node-port", "node-ip", "node-name", "static"],
)
def test_gateway_annotations(render: Render, sets: list[str], source: str, port: str, static: str) -> None:
    """The pod says where its WAN address comes from, and the port that belongs to that source."""
    annotations = gateway_annotations(render(PRIMARY, *sets))
    assert annotations["gateway-kind"] == "mesh-gateway"
    assert annotations["gateway-consul-service-name"] == "mesh-gateway"
    assert annotations["mesh-gateway-container-port"] == "8443"
    assert annotations["gateway-wan-address-source"] == source
    assert annotations["gateway-wan-port"] == port
    assert annotations["gateway-wan-address-static"] == static


def test_node_port_is_in_the_service(render: Render) -> None:
    """The port that is announced is the one that the Service has."""
    objects = render(PRIMARY, "meshGateway.service.type=NodePort", "meshGateway.service.nodePort=30443")
    spec = objects["Service", "consul-mesh-gateway"]["spec"]
    assert (spec["type"], spec["ports"][0]["nodePort"]) == ("NodePort", 30443)


@pytest.mark.parametrize(
    ("release", "sets", "fullname"),
    [
        ("consul", [], "consul"),
        ("helm-release", ["global.name=null"], "helm-release-consul"),
        ("consul", ["global.name=null"], "consul-consul"),
        ("r", ["global.name=null", "nameOverride=mesh"], "r-mesh"),
        ("r", ["fullnameOverride=override"], "override"),
        ("r", [f"fullnameOverride={'x' * 62}-y"], "x" * 62),
    ],
)
def test_fullname(render: Render, release: str, sets: list[str], fullname: str) -> None:
    """fullnameOverride beats global.name beats <release>-<chart>, cut at 63 and without a trailing dash."""
    objects = render(PRIMARY, *sets, release=release)
    assert ("StatefulSet", f"{fullname}-server") in objects
    assert flags(objects["Job", f"{fullname}-create-federation-secret"])["resource-prefix"] == [fullname]


def test_tls_init_names(render: Render) -> None:
    """One certificate serves every server, also when a gateway of another datacenter asks for one of them."""
    job = render(
        PRIMARY,
        "global.tls.serverAdditionalDNSSANs={consul.example}",
        "global.tls.serverAdditionalIPSANs={10.1.1.1}",
    )["Job", "consul-tls-init"]
    given = flags(job)
    assert {
        "*.server.dc1.consul",
        "consul-server.mesh.svc",
        "*.consul-server.mesh.svc",
        "consul.example",
    } <= set(given["additional-dnsname"])
    assert given["additional-ipaddress"] == ["10.1.1.1"]
    assert (given["days"], given["dc"], given["domain"]) == (["730"], ["dc1"], ["consul"])


def test_tls_options(render: Render) -> None:
    """verify, httpsOnly and enableAutoEncrypt reach the servers."""
    objects = render(
        PRIMARY, "global.tls.verify=false", "global.tls.httpsOnly=false", "global.tls.enableAutoEncrypt=true"
    )
    config = server_config(objects)["tls-config.json"]
    assert "verify_outgoing" not in config
    assert config["ports"] == {"https": 8501}
    assert config["auto_encrypt"] == {"allow_tls": True}
    names = [port["name"] for port in objects["Service", "consul-server"]["spec"]["ports"]]
    assert {"http", "https"} <= set(names)


def test_extra_config_rolls_the_servers(render: Render) -> None:
    """server.extraConfig is loaded last, and a change of it changes the pods."""
    before = render(PRIMARY)["StatefulSet", "consul-server"]
    objects = render(PRIMARY + 'server: {extraConfig: \'{"log_level": "DEBUG"}\'}\n')
    after = objects["StatefulSet", "consul-server"]
    extra = objects["ConfigMap", "consul-server-tmp-extra-config"]["data"]["extra-from-values.json"]
    assert json.loads(extra) == {"log_level": "DEBUG"}
    checksum = "consul.hashicorp.com/config-checksum"
    checksums = [item["spec"]["template"]["metadata"]["annotations"][checksum] for item in (before, after)]
    assert checksums[0] != checksums[1]


def test_extra_volume_without_load_is_only_mounted(render: Render) -> None:
    """Without load: true a volume is no configuration: the trap of a secondary that never joins."""
    server = render(SECONDARY, "server.extraVolumes[0].load=false")["StatefulSet", "consul-server"]
    assert "/consul/userconfig/consul-federation" not in flags(server)["config-dir"]
    mounts = [mount["mountPath"] for mount in pod(server)["containers"][0]["volumeMounts"]]
    assert "/consul/userconfig/consul-federation" in mounts


def test_proxy_defaults_definition(render: Render) -> None:
    """ProxyDefaults is served with its short name, its three columns and a status of its own."""
    spec = render(PRIMARY)["CustomResourceDefinition", "proxydefaults.consul.hashicorp.com"]["spec"]
    assert spec["names"]["shortNames"] == ["proxy-defaults"]
    version = spec["versions"][0]
    assert version["name"] == "v1alpha1"
    assert [column["name"] for column in version["additionalPrinterColumns"]] == [
        "Synced",
        "Last Synced",
        "Age",
    ]
    assert version["subresources"] == {"status": {}}
    properties = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    assert properties["meshGateway"]["properties"]["mode"]["type"] == "string"


FAILURES = [
    (PRIMARY, ["global.adminPartitions.enabled=true"], "they are mutually exclusive"),
    (PRIMARY, ["global.tls.enabled=false"], "federation is only supported with TLS enabled"),
    (PRIMARY, ["meshGateway.enabled=false"], "mesh gateways are required for federation"),
    (PRIMARY, ["server.serverCert.secretName=x"], "server.serverCert needs global.tls.caCert"),
    (
        PRIMARY,
        ["server.replicas=3", "server.bootstrapExpect=1"],
        "bootstrapExpect is smaller than server.replicas",
    ),
    (
        MINIMAL,
        ["global.gossipEncryption.secretName=x"],
        "gossipEncryption.secretKey and secretName must both be specified.",
    ),
    (
        PRIMARY,
        ["global.federation.enabled=false"],
        "global.federation.enabled must be true when global.federation.createFederationSecret is true",
    ),
    (PRIMARY, ["global.acls.createReplicationToken=false"], "must include the replication token"),
    (PRIMARY, ["global.acls.manageSystemACLs=false"], "global.acls.manageSystemACLs must be true"),
    (
        SECONDARY,
        ["global.acls.replicationToken.secretKey=null"],
        "global.acls.replicationToken needs secretName and secretKey",
    ),
    (
        PRIMARY,
        ["global.acls.bootstrapToken.secretName=x"],
        "global.acls.bootstrapToken needs secretName and secretKey",
    ),
    (MINIMAL, ["externalServers.enabled=true"], "server.enabled and externalServers.enabled exclude"),
    (MINIMAL, ["global.bootstrapACLs=true"], "no global.bootstrapACLs any more"),
    (PRIMARY, ["connectInject.enabled=false"], "connectInject.enabled must be true"),
    (PRIMARY, ["meshGateway.consulServiceName=x"], "meshGateway.consulServiceName must stay mesh-gateway"),
    (PRIMARY, ["meshGateway.globalMode=local"], "meshGateway.globalMode is no longer supported"),
    (PRIMARY, ["meshGateway.wanAddress.source=Static"], "meshGateway.wanAddress.static is empty"),
    (PRIMARY, ["meshGateway.service.type=NodePort"], "set meshGateway.service.nodePort"),
    (
        PRIMARY,
        ["global.gossipEncryption.secretName=x"],
        "either autoGenerate, or secretName with secretKey",
    ),
]


@pytest.mark.parametrize(
    ("values", "sets", "message"), FAILURES, ids=[" ".join(sets) for _, sets, _ in FAILURES]
)
def test_refused_values(
    template: Callable[..., subprocess.CompletedProcess[str]], values: str, sets: list[str], message: str
) -> None:
    """What the official chart refuses is refused here, with a message that names the keys."""
    result = template(values, *sets)
    assert result.returncode != 0
    assert message in result.stderr


def test_settings_that_older_charts_had_do_not_disturb(render: Render) -> None:
    """`controller.enabled` of the page is ignored without a word, as charts since 1.0 do."""
    assert render(PRIMARY, "controller.enabled=true").keys() == render(PRIMARY).keys()

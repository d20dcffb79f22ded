"""What of the parameters a rehearsal imitates, replaces or leaves out, and says of it; no sandbox comes up here."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from consulfed_lib import cli, places, redact
from consulfed_lib import params as parameters
from consulfed_lib.drills.catalogue import (
    ACLS,
    DRILLS,
    GOSSIP,
    PRIMARY_BALANCER,
    SECONDARY_BALANCER,
    Drill,
    Named,
)
from consulfed_lib.drills.folders import keep, own_folder
from consulfed_lib.drills.judge import Outcome as Held
from consulfed_lib.drills.judge import Sight
from consulfed_lib.drills.run import hold_on
from consulfed_lib.errors import Interrupted, LeakError, ParamsError, PreflightError, RecordError, VerifyError
from consulfed_lib.params import Chart
from consulfed_lib.rehearsal import charts, rehearse
from consulfed_lib.rehearsal import imitation as imitations
from consulfed_lib.rehearsal.imitation import Imitation, imitate
from consulfed_lib.rehearsal.rehearse import DEFAULT, Rehearsal, choose
from consulfed_lib.rehearsal.stage import SANDBOX_CHART, Stage, own_kubeconfig
from consulfed_lib.rehearsal.words import HOWS, IMITATED, NOT_IMITATED, REPLACED, Row
from consulfed_lib.sandbox.existing import GENERATED, OWN, Installation
from consulfed_lib.sandbox.faults.world import Datacenter
from consulfed_lib.sandbox.layout import ClusterLayout
from consulfed_lib.values import primary_values, secondary_values
from consulfed_lib.values.facts import ABSENT, get

SHOP = "arn:aws:eks:eu-west-1:123:cluster/shop"
OWN_CHART = charts._sandbox(SANDBOX_CHART, Row.replaced("chart", "there is no other one"))
OFFICIAL = charts.Found(
    Chart(ref="elsewhere", version="1.9.11"), False, OWN_CHART.values, Row.imitated("chart", "from a folder")
)

Make = Callable[..., Imitation]


@pytest.fixture
def made(federation: Callable[..., parameters.Federation], tmp_path: Path) -> Make:
    """Imitates parameters: the shortest ones, with changes."""

    def make(lowest_port: int = 1024, using: charts.Found = OWN_CHART, **changes: Any) -> Imitation:
        return imitate(federation(**changes), using, tmp_path, lowest_port)

    return make


def rows(of: Imitation, parameter: str) -> list[Row]:
    return [row for row in of.rows.rows if row.parameter == parameter]


def how(of: Imitation, parameter: str) -> str:
    (row,) = rows(of, parameter)
    return row.how


# -- Each parameter -----------------------------------------------------------------------------------------------

CASES: dict[str, tuple[Any, str, str]] = {
    # parameter: (a value, how it is said to be, words of what is said)
    "federation": ("prod", REPLACED, "prod by prod-rehearsal"),
    "reason": ("second region", REPLACED, "rehearsal: second region"),
    "change_id": ("CHG-1", IMITATED, "CHG-1"),
    "dry_run": (False, REPLACED, "first true"),
    "approved_plan": ("plan.json", REPLACED, "the rehearsal's own plan"),
    "mode": ("headless", IMITATED, "headless"),
    "kubeconfig": ("~/elsewhere", REPLACED, "is not read"),
    "chart": ({"ref": "hashicorp/consul", "version": "1.9.11"}, REPLACED, "there is no other one"),
    "global_name": ("mesh", IMITATED, "mesh"),
    "fullname_override": ("mesh", IMITATED, "mesh"),
    "acls": (False, IMITATED, "false"),
    "gossip_encryption": (False, IMITATED, "false"),
    "gossip_key": ({"secret": "ours", "key": "k"}, REPLACED, "the Secret ours has a fresh key"),
    "proxy_defaults_mode": ("remote", IMITATED, "remote"),
    "servers": (3, IMITATED, "3 in each"),
    "private_network": (False, REPLACED, "false by true"),
    "values": ({"global": {"logLevel": "debug"}}, IMITATED, "in force"),
    "parallel": (2, IMITATED, "2"),
    "timeouts": ({"install": 60}, IMITATED, "install 60"),
    "verification": ({"canary": True}, IMITATED, "canary true"),
    "traffic": ({"pairs": "all"}, NOT_IMITATED, "05"),
    "leave": ({"uninstall": False}, NOT_IMITATED, "90"),
    "upgrade": ({"restart_workloads": True}, IMITATED, "no Consul is there before"),
    "secondary": ("dc2", NOT_IMITATED, "every secondary"),
}  # fmt: skip

ELSEWHERE = {
    "require_approval": "approved_plan", "mesh_gateway": "mesh_gateway.port", "values_files": "values_files",
    "primary": "primary.context", "secondaries": "secondaries[0].context",
}  # fmt: skip
"""Parameters that are said under another name, in tests of their own."""


@pytest.mark.parametrize(("parameter", "case"), CASES.items(), ids=CASES)
def test_each_parameter_is_said(made: Make, parameter: str, case: tuple[Any, str, str]) -> None:
    """Imitated, replaced or left out, with the words that say by what or why."""
    value, expected, words = case
    (row,) = rows(made(**{parameter: value}), parameter)
    assert row.how == expected
    assert words in row.what


def test_no_parameter_is_forgotten(made: Make) -> None:
    """A new one without a row is noticed."""
    assert set(CASES) | set(ELSEWHERE) == set(parameters.Federation.model_fields)
    everything = made(require_approval=True)
    for parameter in set(ELSEWHERE.values()) - {"values_files"}:
        assert rows(everything, parameter)


def test_what_is_imitated_is_so(made: Make) -> None:
    """The federation that is rehearsed has it as the user's file has it."""
    for parameter, (value, expected, _) in CASES.items():
        if expected == IMITATED:
            found = getattr(made(**{parameter: value}).params, parameter)
            kept = found.model_dump(include=set(value)) if hasattr(found, "model_dump") else found
            assert kept == value, parameter


def test_names_stay_as_they_are(made: Make) -> None:
    """Contexts of any form, datacenters, namespaces, releases: of all clusters, in their order."""
    one = {"context": SHOP, "datacenter": "eu-west", "namespace": "mesh", "release": "a"}
    others = [{"context": "gke_p_r_lab", "datacenter": "lab"}, {"context": "kind-b", "datacenter": "b"}]
    found = made(primary=one, secondaries=others)
    assert [each.context for each in found.params.clusters] == [SHOP, "gke_p_r_lab", "kind-b"]
    assert found.params.primary.model_dump(include=set(one)) == one
    assert SHOP in rows(found, "primary.context")[0].what
    assert "datacenter b" in rows(found, "secondaries[1].context")[0].what


def test_a_rehearsal_cannot_be_taken_for_the_change(made: Make) -> None:
    """Its federation and its reason say what it is; it is applied under a plan, or not at all."""
    params = made(reason="").params
    assert params.federation == "test-rehearsal"
    assert params.reason == "rehearsal"
    assert params.require_approval


def test_the_world_is_said_not_to_be_imitated(made: Make) -> None:
    """Whatever the parameters are: networks and clusters are the user's own, and Consul's version is the sandbox's."""
    found = made()
    assert how(found, "your network") == NOT_IMITATED
    assert how(found, "your clusters") == NOT_IMITATED
    assert how(found, "Consul") == REPLACED
    assert [row.how for row in found.rows.rows] == sorted((r.how for r in found.rows.rows), key=HOWS.index)
    assert IMITATED not in {row.how for row in found.rows.differs().rows}


def test_more_servers_than_nodes_are_said(made: Make) -> None:
    """Nine servers become as many as a sandbox has nodes for; an odd number again."""
    found = made(servers=9)
    assert (found.params.servers, found.nodes) == (7, 8) or (found.params.servers, found.nodes) == (7, 7)
    assert how(found, "servers") == REPLACED


def test_there_is_a_node_for_each_server_and_gateway(made: Make) -> None:
    """Charts keep gateways of one datacenter apart, too."""
    assert made().nodes == 1
    assert made(servers=3).nodes == 3
    assert made(mesh_gateway={"replicas": 2}).nodes == 2
    assert made(mesh_gateway={"replicas": 20}).nodes == 8


def test_too_many_datacenters_are_refused(federation: Callable[..., parameters.Federation]) -> None:
    """A sandbox has fifty."""
    many = [{"context": f"c{i}", "datacenter": f"d{i}"} for i in range(50)]
    assert "51 datacenters" in imitations.too_large(federation(secondaries=many))
    assert imitations.too_large(federation(secondaries=many[:49])) == ""


def test_an_api_url_is_replaced(made: Make) -> None:
    """It is of the real cluster: nothing of it is dialled."""
    found = made(secondaries=[{"context": "b", "datacenter": "b", "api_url": "https://lab.example.com:6443"}])
    assert found.params.secondaries[0].api_url == ""
    (row,) = rows(found, "secondaries[0].api_url")
    assert (row.how, "https://lab.example.com:6443" in row.what) == (REPLACED, True)


def test_a_soak_is_not_waited_for(made: Make) -> None:
    """A rehearsal is quick; that it is left out is said."""
    found = made(verification={"soak": 600})
    assert found.params.verification.soak == 0
    assert how(found, "verification.soak") == REPLACED


def test_the_lowest_port_is_the_systems_word() -> None:
    """What this user may listen on, asked of the system."""
    assert imitations.lowest_port() in range(1, 65536)


# -- Gateways -----------------------------------------------------------------------------------------------------


def test_a_privileged_port_is_replaced_where_it_cannot_be_had(made: Make) -> None:
    """443 of a load balancer by 8443, said once for all; who may listen on 443 has it."""
    found = made()
    assert {found.params.gateway(each).port for each in found.params.clusters} == {8443}
    (row,) = rows(found, "mesh_gateway.port")
    assert (row.how, "443 by 8443" in row.what) == (REPLACED, True)
    allowed = made(lowest_port=1)
    assert allowed.params.gateway(allowed.params.primary).port == 443
    assert rows(allowed, "mesh_gateway.port") == []


def test_node_ports_stay(made: Make) -> None:
    """With the number that is asked for; the port of the Service inside needs nobody's right."""
    found = made(mesh_gateway={"service": "NodePort", "node_port": 30443})
    one = found.params.gateway(found.params.primary)
    assert (one.service, one.node_port, one.port) == ("NodePort", 30443, 443)
    assert found.rows.differs().rows == [
        r for r in found.rows.differs().rows if "mesh_gateway" not in r.parameter
    ]
    assert "node port 30443" in rows(found, "primary.mesh_gateway")[0].what


def test_what_is_different_in_one_cluster_stays_so(made: Make) -> None:
    """The other ones keep the federation's way, and the row names the place."""
    other = {"context": "two", "datacenter": "dc2", "mesh_gateway": {"port": 500}}
    found = made(mesh_gateway={"port": 9443}, secondaries=[other])
    assert [found.params.gateway(each).port for each in found.params.clusters] == [9443, 8500]
    assert how(found, "secondaries[0].mesh_gateway.port") == REPLACED


@pytest.mark.parametrize("source", ["NodeIP", "NodeName"])
def test_a_privileged_port_of_hosts_is_replaced_at_both_ends(made: Make, source: str) -> None:
    """The gateway listens on the host's port, and that is what others dial."""
    gateway = {"wan_address": source, "wan_port": 443, "service": "ClusterIP"}
    found = made(mesh_gateway=gateway, values={"meshGateway": {"hostPort": 443}})
    cluster = found.params.primary
    assert found.params.gateway(cluster).wan_port == 8443
    assert get(primary_values(found.params), "meshGateway.hostPort") == 8443
    assert how(found, "meshGateway.hostPort") == REPLACED
    assert how(found, "mesh_gateway.wan_port") == REPLACED


def _static(host: str, **gateway: Any) -> dict[str, Any]:
    of = {"wan_address": "Static", "static": host, **gateway}
    return {"context": "one", "datacenter": "dc1", "mesh_gateway": of}


def test_a_name_of_ones_own_leads_to_the_sandboxs_gateway(made: Make) -> None:
    """Published as ExternalDNS does it; annotations of the user's own stay."""
    values = {"meshGateway": {"service": {"annotations": "team: mesh\n"}}}
    found = made(primary=_static("gw.example.com", port=8443, wan_port=8443), values=values)
    annotations = get(primary_values(found.params), "meshGateway.service.annotations")
    assert yaml.safe_load(annotations) == {
        "team": "mesh", "external-dns.alpha.kubernetes.io/hostname": "gw.example.com",
    }  # fmt: skip
    assert how(found, "your DNS") == REPLACED
    assert found.params.gateway(found.params.primary).static == "gw.example.com"


def test_a_name_that_external_dns_publishes_already_needs_nothing(made: Make) -> None:
    """The sandbox does what ExternalDNS would do."""
    annotation = {"annotations": "external-dns.alpha.kubernetes.io/hostname: gw.example.com\n"}
    values = {"meshGateway": {"service": annotation}}
    found = made(primary=_static("gw.example.com", port=8443, wan_port=8443), values=values)
    assert rows(found, "your DNS") == []


@pytest.mark.parametrize(
    ("gateway", "expected"),
    [
        ({"port": 443, "wan_port": 443}, ("LoadBalancer", 8443, 8443)),
        ({"port": 9000, "wan_port": 443}, ("LoadBalancer", 9000, 9000)),
        ({"service": "NodePort", "node_port": 30443, "wan_port": 443}, ("NodePort", 443, 30443)),
        ({"service": "ClusterIP", "wan_port": 443}, ("LoadBalancer", 8443, 8443)),
        ({"service": "ClusterIP", "wan_port": 9443}, ("LoadBalancer", 9443, 9443)),
    ],
)  # fmt: skip
def test_what_is_in_front_of_the_service_is_replaced(
    made: Make, gateway: dict[str, Any], expected: tuple[str, int, int]
) -> None:
    """A load balancer of one's own that maps ports, or an ingress: here the Service itself is dialled."""
    found = made(primary=_static("203.0.113.7", **gateway))
    one = found.params.gateway(found.params.primary)
    assert (one.service, one.port, one.wan_port) == expected
    assert one.static == "gateway.dc1.rehearsal.test"
    assert how(found, "primary.mesh_gateway.static") == REPLACED


# -- Helm values ----------------------------------------------------------------------------------------------------

TAKEN_OUT: dict[str, tuple[str, dict[str, Any]]] = {
    "storageClass": ("server.storageClass", {"server": {"storageClass": "gp3"}}),
    "nodeSelector": ("meshGateway.nodeSelector", {"meshGateway": {"nodeSelector": "pool: edge\n"}}),
    "licence": (
        "global.enterpriseLicense",
        {"global": {"enterpriseLicense": {"secretName": "license", "secretKey": "key"}}},
    ),
    "component": ("syncCatalog", {"syncCatalog": {"enabled": True}}),
    "certificate": ("server.serverCert", {"server": {"serverCert": {"secretName": "ours"}}}),
}
"""What the sandbox has not with any chart."""


@pytest.mark.parametrize("chart", [OWN_CHART, OFFICIAL], ids=["sandbox", "official"])
@pytest.mark.parametrize("case", TAKEN_OUT.values(), ids=TAKEN_OUT)
def test_values_that_cannot_be_had_are_taken_out(
    made: Make, case: tuple[str, dict[str, Any]], chart: charts.Found
) -> None:
    """And said, with their place; what stands beside them stays."""
    path, values = case
    found = made(using=chart, values={**values, "ui": {"service": {"type": "ClusterIP"}}})
    assert get(found.params.values, path) is ABSENT
    assert found.params.values["ui"] == {"service": {"type": "ClusterIP"}}
    assert how(found, f"values: {path}") == NOT_IMITATED


def test_keys_that_only_the_pinned_chart_has_are_taken_out_with_another_chart(made: Make) -> None:
    """They would be errors there; with the pinned chart they stay."""
    values = {"global": {"argocd": {"enabled": True}}, "connectInject": {"sidecarProxy": {"concurrency": 2}}}
    found = made(values=values)
    assert found.params.values == {"global": {}, "connectInject": {}}
    assert how(found, "values: global.argocd") == NOT_IMITATED
    assert made(using=OFFICIAL, values=values).params.values == values


def test_keys_of_another_generation_are_taken_out(made: Make) -> None:
    """A chart before 1.0 has a controller of its own, which the sandbox's has not."""
    chart = {"ref": "hashicorp/consul", "version": "0.49.8"}
    found = made(chart=chart, values={"controller": {"enabled": True}})
    assert "controller" not in found.params.values
    assert how(found, "values: controller") == NOT_IMITATED


def test_a_ca_of_ones_own_is_left_out_in_the_primary(made: Make) -> None:
    """There the chart makes one; a secondary takes it from the federation secret."""
    values = {"global": {"tls": {"caCert": {"secretName": "our-ca", "secretKey": "crt"}}}}
    found = made(using=OFFICIAL, primary={"context": "one", "datacenter": "dc1", "values": values})
    assert found.params.primary.values == {"global": {"tls": {}}}
    assert how(found, "primary.values: global.tls.caCert") == NOT_IMITATED


def test_images_are_named_and_not_fetched(made: Make) -> None:
    """They stay in the values, and the sandbox's programs run."""
    found = made(using=OFFICIAL, values={"global": {"image": "mirror.example.com/consul:1.22.1"}})
    assert found.params.values["global"]["image"] == "mirror.example.com/consul:1.22.1"
    assert how(found, "values: images") == NOT_IMITATED


def test_a_file_of_values_is_copied_only_where_it_is_changed(made: Make, tmp_path: Path) -> None:
    """Its copy goes into the rehearsal's folder, readable by its owner only; the file itself is never touched."""
    plain, storage = tmp_path / "plain.yaml", tmp_path / "storage.yaml"
    plain.write_text("global: {logLevel: debug}\n")
    text = "server: {storageClass: gp3, extraLabels: {a: b}}\n"
    storage.write_text(text)
    found = made(values_files=[str(plain), str(storage)])
    first, second = found.params.values_files
    assert first == str(plain)
    assert second != str(storage)
    assert yaml.safe_load(Path(second).read_text()) == {"server": {"extraLabels": {"a": "b"}}}
    assert Path(second).stat().st_mode & 0o777 == 0o600
    assert storage.read_text() == text
    assert how(found, "values_files") == IMITATED
    assert how(found, "values_files[1]: server.storageClass") == NOT_IMITATED


def test_what_values_name_has_a_stand_in(made: Make) -> None:
    """ConfigMaps and Secrets of the user's own, in each cluster whose values name them; never the federation secret."""
    volumes = [
        {"type": "configMap", "name": "ours", "load": True, "items": [{"key": "a.json", "path": "a.json"}]},
        {"type": "secret", "name": "theirs"},
        {"type": "secret", "name": "consul-federation", "load": True},
    ]
    values = {"server": {"extraVolumes": volumes[:1]}}
    more = {"server": {"extraVolumes": volumes[1:]}}
    second = {"context": "two", "datacenter": "dc2", "values": more}
    found = made(values=values, secondaries=[second])
    assert [(v.cluster, v.kind, v.name, v.keys) for v in found.volumes] == [
        (0, "ConfigMap", "ours", ("a.json",)),
        (1, "ConfigMap", "ours", ("a.json",)),
        (1, "Secret", "theirs", ()),
    ]
    assert how(found, "Secret theirs") == REPLACED


def test_what_is_rehearsed_has_no_mistake(made: Make) -> None:
    """The same checks that judge a user's parameters find nothing wrong with it, whatever is replaced."""
    from consulfed_lib.checks.values import look_at_values

    values = {"server": {"storageClass": "gp3"}, "syncCatalog": {"enabled": True}}
    primary = {**_static("203.0.113.7", service="ClusterIP"), "values": values}
    params = made(primary=primary, acls=False, servers=3).params
    again = parameters.check(params.model_dump(), "the test", contexts=False)
    assert again == params
    wrong = [f for f in look_at_values(params, OWN_CHART.values) if f.severity in ("error", "warning")]
    assert wrong == []
    assert secondary_values(params, params.secondaries[0], "https://127.0.0.1:6443")


# -- A Consul that is there already -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"acls": True}, Installation(tls=True, acls=True, gossip=GENERATED, servers=1)),
        ({"acls": False, "gossip_encryption": False}, Installation(servers=1)),
        ({"acls": False}, Installation(gossip=GENERATED, servers=1)),
        (
            {"acls": False, "gossip_key": {"secret": "ours", "key": "k"}},
            Installation(tls=True, gossip=OWN, servers=1, secret="ours", key="k"),
        ),
    ],
)
def test_a_consul_that_is_there_is_one_of_the_sandboxs(
    made: Make, changes: dict[str, Any], expected: Installation
) -> None:
    """With the options of the parameters; that it is not the user's, and whether it has TLS, is said."""
    found = made(upgrade={"existing": True}, **changes)
    assert found.before is not None
    assert found.before.__dict__ | {"secret": "", "key": ""} == expected.__dict__ | {"secret": "", "key": ""}
    if expected.gossip == OWN:
        assert (found.before.secret, found.before.key) == ("ours", "k")
    (row,) = rows(found, "upgrade.existing")
    assert row.how == REPLACED
    assert f"TLS {'on' if expected.tls else 'off'}" in row.what


def test_it_has_the_names_of_the_parameters(made: Make) -> None:
    """Namespace, release, datacenter, prefix and domain; without an upgrade there is none."""
    one = {"context": "one", "datacenter": "eu", "namespace": "mesh", "release": "main"}
    domain = {"global": {"domain": "mesh.test"}}
    before = made(upgrade={"existing": True}, primary=one, global_name="", values=domain).before
    assert before is not None
    assert (before.datacenter, before.namespace, before.release) == ("eu", "mesh", "main")
    assert (before.name, before.fullname, before.domain) == ("", "main-consul", "mesh.test")
    assert made().before is None


def test_a_move_of_the_chart_is_said(made: Make) -> None:
    """From an older version of the sandbox's chart; of a pinned chart there is no older one here."""
    wanted = {"existing": True, "chart": True}
    assert how(made(upgrade=wanted), "upgrade.chart") == IMITATED
    assert how(made(upgrade=wanted, using=OFFICIAL), "upgrade.chart") == NOT_IMITATED


# -- The chart --------------------------------------------------------------------------------------------------------


def test_a_folder_is_the_chart(tmp_path: Path) -> None:
    """The pinned one, read where it is."""
    found = charts.find(Chart(ref=str(SANDBOX_CHART), version="1.9.11-sandbox"), SANDBOX_CHART, tmp_path)
    assert (found.own, found.row.how, found.of_the_user) == (False, IMITATED, found.values)
    assert found.chart.ref == str(SANDBOX_CHART)


def test_the_sandboxs_chart_is_its_own() -> None:
    """Where the parameters name it, it is no replacement."""
    found = charts.find(Chart(ref="sandbox", version="1.9.11-sandbox"), SANDBOX_CHART, Path("unused"))
    assert (found.own, found.row.how, found.of_the_user) == (True, IMITATED, found.values)


def test_a_chart_that_cannot_be_had_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the sandbox's own, and Helm's words say why; the user's values are not judged by it."""
    monkeypatch.setenv("HELM_REPOSITORY_CONFIG", str(tmp_path / "none.yaml"))
    found = charts.find(Chart(ref="nowhere/consul", version="1.9.11"), SANDBOX_CHART, tmp_path)
    assert (found.own, found.row.how, found.of_the_user) == (True, REPLACED, None)
    assert "helm pull failed" in found.row.what


def test_a_chart_that_helm_can_reach_is_unpacked(tmp_path: Path) -> None:
    """From a repository, here one of this machine; and an archive is used as it is."""
    packed, into = tmp_path / "packed", tmp_path / "into"
    packed.mkdir()
    into.mkdir()
    helm = charts.Charts()
    helm._run(["package", str(SANDBOX_CHART), "--destination", str(packed)])
    (archive,) = packed.iterdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(packed))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        helm._run(["repo", "index", str(packed), "--url", url])
        wanted = Chart(ref="consul", repo=url, version="1.9.11-sandbox")
        found = charts.find(wanted, SANDBOX_CHART, into)
        server.shutdown()
    assert (found.own, found.row.how, found.place) == (False, IMITATED, into / "consul")
    assert "fetched by Helm" in found.row.what
    assert found.values == OWN_CHART.values
    packed_one = charts.find(Chart(ref=str(archive), version="1.9.11-sandbox"), SANDBOX_CHART, into)
    assert (packed_one.own, packed_one.place, packed_one.values) == (False, archive, found.values)


# -- Which drills ---------------------------------------------------------------------------------------------------

BALANCED = {"mesh_gateway": {"port": 8443}}


def test_a_few_drills_are_held_by_themselves(made: Make) -> None:
    """Those that fit; of those that do not it is said why."""
    choice = choose((), False, made(**BALANCED))
    assert {each.fault for each in choice.drills} == set(DEFAULT)
    without = choose((), False, made(acls=False))
    assert {each.fault for each in without.drills} == set(DEFAULT) - {"replication-token-revoked"}
    assert without.unfit == {"replication-token-revoked": f"it needs {ACLS}"}
    assert choose((), True, made()) == rehearse.Choice()


def test_all_drills_are_those_that_fit(made: Make) -> None:
    """One with three servers has more of them than one with one."""
    one, three = (choose(("all",), False, made(servers=count, **BALANCED)) for count in (1, 3))
    assert set(one.unfit) == {"load-balancer-pending", "server-down", "quorum-lost"}
    assert set(three.unfit) == {"load-balancer-pending"}
    assert {each.fault for each in three.drills} | set(three.unfit) == set(DRILLS)


def test_a_drill_that_was_named_and_does_not_fit_is_refused(made: Make) -> None:
    """Who names it wants it; so is one that is none."""
    with pytest.raises(ParamsError) as caught:
        choose(("acls-off", "stale-copy", "server-down"), False, made(acls=False))
    assert "acls-off: it needs ACLs" in str(caught.value)
    assert "server-down: it needs 3 servers" in str(caught.value)
    assert "stale-copy" not in str(caught.value)
    with pytest.raises(ParamsError, match="no drill 'strange'"):
        choose(("all", "strange"), False, made())


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"acls": False}, ACLS),
        ({"gossip_encryption": False}, GOSSIP),
        ({"mesh_gateway": {"service": "NodePort", "node_port": 30443}}, PRIMARY_BALANCER),
        ({"primary": _static("gw.example.com")}, PRIMARY_BALANCER),
        ({"mesh_gateway": {"service": "NodePort", "node_port": 30443}}, SECONDARY_BALANCER),
    ],
)
def test_what_the_federation_has_not_no_drill_needs(
    made: Make, changes: dict[str, Any], missing: str
) -> None:
    """Each drill of such a fault is left out; with all of it none of them is."""
    found = made(**changes)
    assert missing not in found.has
    needing = {each.fault for each in DRILLS.values() if missing in each.needs}
    assert needing
    assert needing <= set(choose(("all",), False, found).unfit)
    assert missing in made(**BALANCED).has


def test_a_drill_is_about_the_datacenters_that_there_are() -> None:
    """Subjects have their names; what is right beside a cause in the primary is so of each secondary."""
    drill = Drill(
        "x", Named("secret-complete", "dc1"), also={Named("servers", "dc1"): "", Named("servers", "dc2"): ""}
    )
    found = drill.among(["eu", "us", "lab"])
    assert found.cause == Named("secret-complete", "eu")
    assert set(found.also) == {Named("servers", each) for each in ("eu", "us", "lab")}
    assert DRILLS["firewall-drop"].among(["eu", "us", "lab"]).cause == Named(
        "gateway-from-secondary", "us → eu"
    )
    down = DRILLS["server-down"].among(["eu", "us", "lab"])
    assert set(down.also) == {Named("autopilot", "us")}
    assert DRILLS["api-server-slow"].among(["eu", "us"]).cause is None


@pytest.mark.parametrize("volumes", [["mesh-federation"], [], ["ours"], ["ours", "mesh-federation"]])
def test_a_fault_finds_the_federation_secret_beside_what_a_user_mounts(
    volumes: list[str], tmp_path: Path
) -> None:
    """A secondary's servers mount the copy; ConfigMaps and Secrets of the user's own come before it."""
    mounted: list[dict[str, Any]] = [{"name": "userconfig-settings", "configMap": {"name": "settings"}}]
    mounted += [{"name": f"userconfig-{name}", "secret": {"secretName": name}} for name in volumes]
    template = {"metadata": {"labels": {}}, "spec": {"volumes": mounted}}
    servers = {
        "metadata": {"namespace": "consul", "name": "consul-server"},
        "spec": {"template": template},
    }
    kube: Any = None
    dc = Datacenter(ClusterLayout(tmp_path, 77, 2, 1), kube, servers)
    assert dc.secret.name == ("mesh-federation" if "mesh-federation" in volumes else "consul-federation")


# -- What came of it --------------------------------------------------------------------------------------------------


class Scene:
    """A sandbox that is told what a look finds, one after another; the last is seen for ever."""

    def __init__(self, *sights: Sight, fails: str = ""):
        self.tell: Callable[[str], None] = lambda line: None
        self.sights = list(sights)
        self.fails = fails
        self.faults: list[str] = []

    def inject(self, fault: str) -> None:
        self.faults.append(fault)

    def clear(self) -> None:
        if self.fails:
            raise VerifyError(self.fails)

    def look(self, where: str) -> Sight:
        return self.sights.pop(0) if len(self.sights) > 1 else self.sights[0]


def test_drills_end_where_the_sandbox_is_not_well_again() -> None:
    """The others are not held on it, and did not pass."""
    well, names = Sight({}), Sight({Named("gateway-registered", "dc2"): 0})
    scene: Any = Scene(well, well, well, names, fails="it stays")
    report = hold_on(scene, [DRILLS["gateway-down"], DRILLS["stale-copy"]])
    assert scene.faults == ["gateway-down"]
    assert "it stays" in report.failed[0]
    assert "not held: the sandbox was not well again after gateway-down" in report.failed[1]
    assert not report.data()["passed"]


class Actors(Rehearsal):
    """A rehearsal whose runs come to what a test says."""

    def __init__(self, imitation: Imitation, choice: rehearse.Choice, records: Path, ends: dict[str, Any]):
        stage: Any = SimpleNamespace(imitation=imitation, up=lambda: self._end("sandbox"))
        super().__init__(stage, choice, records, self._told)
        self.told: list[str] = []
        self.ends = ends
        self.parts: list[str] = []

    def _told(self, line: str) -> None:
        self.told.append(line)

    def _end(self, part: str) -> None:
        self.parts.append(part)
        if part in self.ends:
            raise self.ends[part]

    def _run(self, kind: str, **changes: Any) -> Any:
        from consulfed_lib.run import Outcome

        record = self._records / "test-rehearsal" / f"20261129T0000{len(self.parts)}0Z-abc"
        record.mkdir(parents=True)
        outcome = Outcome(record.name, "test-rehearsal", "planned", record, "sha256:1")
        self.report.plan = self.report.plan or outcome
        if kind == "run":
            self.report.apply = outcome
            assert changes == {"dry_run": False, "approved_plan": str(self.report.records[0])}
        self._end(kind)
        return outcome

    def _verify(self) -> None:
        self._end("verify")
        self.report.verified = "verified"

    def _drill(self) -> None:
        self._end("drills")


@pytest.mark.parametrize(
    ("part", "error", "parts"),
    [
        ("sandbox", PreflightError("no room"), ["sandbox"]),
        ("plan", PreflightError("not ready"), ["sandbox", "plan"]),
        ("run", PreflightError("broken"), ["sandbox", "plan", "run"]),
        ("verify", VerifyError("not so"), ["sandbox", "plan", "run", "verify"]),
        ("drills", VerifyError("1 drill"), ["sandbox", "plan", "run", "verify", "drills"]),
        ("verify", KeyboardInterrupt(), ["sandbox", "plan", "run", "verify"]),
    ],
)
def test_a_rehearsal_ends_with_the_first_part_that_fails(
    made: Make, tmp_path: Path, part: str, error: BaseException, parts: list[str]
) -> None:
    """Its error is that of the part, and what was recorded by then has the report beside it."""
    imitation = made()
    rehearsal = Actors(imitation, choose((), False, imitation), tmp_path, {part: error})
    report = rehearsal.hold()
    assert rehearsal.parts == parts
    wanted = Interrupted if isinstance(error, KeyboardInterrupt) else type(error)
    assert isinstance(report.error, wanted)
    data = report.data()
    assert (data["outcome"], data["exit_code"]) == ("failed", wanted.exit_code)
    assert (report.file is None) == (part == "sandbox")
    if report.file:
        assert json.loads(report.file.read_text()) == data
        assert report.file.name == f"{report.records[0].name}.rehearsal.json"


def test_a_rehearsal_without_an_error_passed(made: Make, tmp_path: Path) -> None:
    """Drills are held only where there are any."""
    rehearsal = Actors(made(), rehearse.Choice(), tmp_path, {})
    report = rehearsal.hold()
    assert (report.data()["outcome"], report.data()["exit_code"]) == ("passed", 0)
    assert rehearsal.parts == ["sandbox", "plan", "run", "verify"]
    assert report.passed == ["planned", "applied", "verified"]


def test_a_report_with_a_secret_is_not_kept(made: Make, tmp_path: Path) -> None:
    """An error that quotes one would put it on the disk: 50, and no file."""
    redact.register(b"a-secret-that-was-read")
    ends = {"run": VerifyError("it said a-secret-that-was-read")}
    report = Actors(made(), rehearse.Choice(), tmp_path, ends).hold()
    assert isinstance(report.error, LeakError)
    assert report.file is None
    assert list(tmp_path.rglob("*.json")) == []


def test_a_report_that_cannot_be_written_is_an_error(
    made: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is not passed over in silence."""

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rehearse, "write_private", full)
    report = Actors(made(), rehearse.Choice(), tmp_path, {}).hold()
    assert isinstance(report.error, RecordError)
    assert report.file is None


# -- The stage --------------------------------------------------------------------------------------------------------


def test_the_kubeconfig_has_the_users_contexts(made: Make, tmp_path: Path) -> None:
    """Each leads to its cluster, also where the sandbox's own have the same names in another order."""
    one = {"context": "sandbox-dc2", "datacenter": "a"}
    two = {"context": SHOP, "datacenter": "b"}
    stage = Stage(tmp_path, made(primary=one, secondaries=[two]), OWN_CHART, "ip", print)
    folder = stage._folder
    folder.prepare()
    folder.shape_file.write_text(json.dumps({"block": 77, "datacenters": 2, "servers": 1}))
    contexts = [{"name": f"sandbox-dc{n}", "context": {"cluster": f"c{n}", "user": f"u{n}"}} for n in (1, 2)]
    folder.kubeconfig.write_text(yaml.safe_dump({"contexts": contexts, "current-context": "sandbox-dc1"}))
    stage._write_kubeconfig()
    config = yaml.safe_load(stage.kubeconfig.read_text())
    leads = {each["name"]: each["context"]["cluster"] for each in config["contexts"]}
    assert (leads["sandbox-dc2"], leads[SHOP], config["current-context"]) == ("c1", "c2", "sandbox-dc2")
    assert stage.kubeconfig.stat().st_mode & 0o777 == 0o600
    assert stage.params().kubeconfig_path == str(stage.kubeconfig)


@pytest.mark.parametrize("before", ["/elsewhere", None])
def test_whatever_a_rehearsal_starts_has_its_kubeconfig(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    """Helm opens the usual one even to unpack a chart; what was there before is there again."""
    if before is None:
        monkeypatch.delenv("KUBECONFIG", raising=False)
    else:
        monkeypatch.setenv("KUBECONFIG", before)
    with own_kubeconfig(tmp_path):
        assert os.environ["KUBECONFIG"] == str(tmp_path / "kubeconfig")
    assert os.environ.get("KUBECONFIG") == before


def test_a_folder_that_is_kept_stays_while_its_sandbox_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next rehearsal takes away what is left of it once it is down, and says nothing of a killed one."""
    from consulfed_lib.sandbox.state import Folder

    told: list[str] = []
    with own_folder(tmp_path, "a rehearsal", told.append) as kept:
        keep(kept)
        Folder(kept / "sandbox").prepare()
    assert kept.exists()
    monkeypatch.setattr(Folder, "process", lambda self: object())
    with own_folder(tmp_path, "a rehearsal", told.append):
        assert kept.exists()
    monkeypatch.undo()
    with own_folder(tmp_path, "a rehearsal", told.append):
        assert not kept.exists()
    assert told == []


# -- The command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def nothing_comes_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A state folder of its own, in which a sandbox would be seen."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_a_wrong_file_is_refused_before_anything_comes_up(
    raw: dict[str, Any], tmp_path: Path, nothing_comes_up: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the messages of `consulfed params check`, every mistake at once: 10."""
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(raw | {"servers": 2, "strange": 1}))
    assert cli.main(["rehearse", str(path)]) == 10
    said = capsys.readouterr().err
    assert "strange: unknown key" in said
    assert "servers: 2 is even" in said
    assert not (tmp_path / "state").exists()
    assert cli.main(["rehearse", str(path), "-o", "json"]) == 10
    assert json.loads(capsys.readouterr().out)["error"]["exit_code"] == 10


def test_wrong_values_are_refused_before_anything_comes_up(
    raw: dict[str, Any], tmp_path: Path, nothing_comes_up: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """What federation cannot live with, and what the pinned chart does not know; and a drill that is none."""
    path = tmp_path / "params.yaml"
    chart = {"ref": str(SANDBOX_CHART), "version": "1.9.11-sandbox"}
    values = {"global": {"tls": {"enabled": False}}, "meshGatewa": {}}
    path.write_text(yaml.safe_dump(raw | {"chart": chart, "values": values}))
    assert cli.main(["rehearse", str(path)]) == 10
    said = capsys.readouterr().err
    assert "global.tls.enabled" in said
    assert "meshGatewa: the chart has no such key" in said
    path.write_text(yaml.safe_dump(raw | {"chart": chart}))
    assert cli.main(["rehearse", str(path), "--drill", "strange"]) == 10
    assert "no drill 'strange'" in capsys.readouterr().err
    many = [{"context": f"c{i}", "datacenter": f"d{i}"} for i in range(60)]
    path.write_text(yaml.safe_dump(raw | {"chart": chart, "secondaries": many}))
    assert cli.main(["rehearse", str(path)]) == 10
    assert "61 datacenters" in capsys.readouterr().err
    assert list((tmp_path / "state" / "consulfed" / "rehearsals").glob("sandbox-*")) == []


def test_drills_and_none_exclude_each_other(tmp_path: Path) -> None:
    """A usage error."""
    assert cli.main(["rehearse", "x.yaml", "--no-drills", "--drill", "stale-copy"]) == 2


def test_rehearsals_are_no_part_of_the_users_sandbox() -> None:
    """Their folders are beside it, and never in it."""
    from consulfed_lib.rehearsal.stage import home

    assert places.sandbox_folder() not in (home(), *home().parents)


def test_what_was_held_is_in_the_report(made: Make, tmp_path: Path) -> None:
    """A drill that failed is named in what the rehearsal ends with."""
    from consulfed_lib.drills.run import Report as Drills

    imitation = made()
    rehearsal = Rehearsal(SimpleNamespace(imitation=imitation), choose((), False, imitation), tmp_path, print)  # type: ignore[arg-type]
    rehearsal.report.drills = Drills([Held.begin(DRILLS["stale-copy"])])
    data = rehearsal.report.data()
    assert data["drills"]["passed"] is False
    assert [row["fault"] for row in data["drills"]["drills"]] == ["stale-copy"]

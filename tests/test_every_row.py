"""No row is lost: each thing that the chart does not check, and each that preflight should, has its check and tests.

The rows are those of the ground truth that this project began with: what HashiCorp's chart takes without a word, and
what people were seen to fail with. Each names the check that reports it, a test in which that check fires, and one in
which it is silent. The named tests are run once more, watched: a test that only claims to show that is noticed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from consulfed_lib.checks import CATALOGUE
from consulfed_lib.checks.values import OFFLINE as OF_VALUES
from consulfed_lib.checks.values import Judged, chart_keys
from consulfed_lib.steps import NOTEBOOKS
from consulfed_lib.values.lint import role_mistakes

from .test_lint import CHART, FIRES, both, changed, read

__all__ = ["both"]

ROOT = Path(__file__).parents[1]


class Row(NamedTuple):
    """One row: what could be wrong, the check's id, a test in which it fires, one in which it is silent."""

    text: str
    id: str
    fires: str
    silent: str


CHECKS, CLUSTERS, HERE = "test_checks.py::test_", "test_checks_clusters.py::test_", "test_every_row.py::test_"
GATEWAYS, NETWORK = "test_checks_gateways.py::test_", "test_checks_network.py::test_"
RIGHTS = "test_checks_permissions.py::test_"

GOOD = f"{CHECKS}a_good_federation_is_proven"
READY = f"{CHECKS}an_empty_cluster_is_ready"
SECRET = f"{CHECKS}each_fault_of_the_secret_stops_the_run"


def secret(text: str, fault: str) -> Row:
    return Row(text, "secret-complete", f"{SECRET}[{fault}]", GOOD)


def values(text: str, id: str) -> Row:
    test = f"{HERE}a_mistake_in_values_is_the_finding_of_its_check"
    return Row(text, id, test, f"{HERE}good_values_are_no_finding")


NOT_CHECKED_BY_THE_CHART = [
    values("misplaced keys", "values-misplaced"),
    values("datacenters unique and in lower case", "values-datacenter"),
    values("primaryDatacenter on the primary", "values-primary-names-primary"),
    values("k8sAuthMethodHost missing, or without https://", "values-auth-method-host"),
    values("primaryDatacenter missing on a secondary", "values-primary-datacenter"),
    values("ACLs here and not there", "values-acls-alike"),
    values("gossip encryption here and not there", "values-gossip-alike"),
    values("createFederationSecret on a secondary", "values-federation-secret"),
    values("extraVolumes: load missing, or a wrong key or path", "values-secret-volume"),
    secret("extraVolumes present, but another primary in the JSON", "another primary"),
    Row("the secret absent", "secret-copy",
        f"{CHECKS}a_secret_that_is_missing_is_an_error_where_it_must_be_there", GOOD),
]  # fmt: skip

OFFLINE = [
    Row("an unknown key", "values-chart-keys", f"{HERE}a_key_that_the_chart_does_not_have_is_a_finding[serverr]",
        f"{HERE}a_key_that_the_chart_does_not_have_is_a_finding[server]"),
    values("a role's keys in the other role", "values-federation-secret"),
    values("the chart's generation: a key that came or went", "values-generation"),
    values("ACLs alike", "values-acls-alike"),
    values("gossip encryption alike", "values-gossip-alike"),
    values("TLS alike", "values-tls-alike"),
    values("the chart's Consul", "values-consul-version"),
    values("versions are pinned", "values-pinned"),
    values("server.replicas is said", "values-replicas"),
    Row("the chart's Kubernetes", "kubernetes-version",
        f"{CLUSTERS}the_charts_own_bound_on_kubernetes_is_an_error_and_the_tested_range_a_warning", READY),
    Row("the chart is the pinned one", "chart",
        f"{CHECKS}the_chart_must_be_there_in_the_version_that_is_pinned",
        f"{CHECKS}the_chart_must_be_there_in_the_version_that_is_pinned"),
]  # fmt: skip

MISTAKES = {
    "the length of the full name": "test_params.py::test_a_name_is_as_long_as_the_labels_of_the_charts_jobs_allow",
    "datacenters unique": "test_params.py::test_three_clusters_may_not_share_a_datacenter",
    "datacenters in lower case": "test_params.py::test_each_rule_names_its_place_and_what_was_expected",
    "--version pinned, and of a generation that is known":
        "test_params.py::test_each_rule_names_its_place_and_what_was_expected",
}  # fmt: skip
"""Rows that are mistakes of the parameters: nothing runs with them, so that no check can ever see one."""

CLUSTER = [
    Row("contexts distinct", "distinct-clusters", f"{CHECKS}the_same_cluster_under_two_contexts_is_noticed",
        f"{CHECKS}the_same_cluster_under_two_contexts_is_noticed[distinct]"),
    Row("rights", "permissions", f"{RIGHTS}without_any_one_rule_it_names_what_is_missing",
        f"{RIGHTS}with_exactly_the_rights_of_the_table_it_is_green_after_two_questions"),
    Row("the namespace exists, or is being deleted", "namespace",
        f"{CLUSTERS}a_namespace_is_well_unless_it_is_being_deleted", READY),
    Row("the namespace is the release's", "other-installations",
        f"{CLUSTERS}another_installation_is_found_by_what_it_owns", READY),
    Row("CRD proxydefaults: somebody else's", "other-installations",
        f"{CLUSTERS}another_installation_is_one_finding_however_much_it_owns", READY),
    Row("CRD proxydefaults: nobody's", "crds",
        f"{CLUSTERS}crds_that_belong_to_no_release_are_an_error_with_the_way_to_adopt_them", READY),
    Row("CRD proxydefaults: being deleted", "crds", f"{CLUSTERS}crds_that_are_being_deleted_are_an_error", READY),
    Row("CRD proxydefaults: gone", "crds", f"{CLUSTERS}a_release_whose_crds_are_gone_is_an_error", READY),
    Row("left-over Jobs", "leftovers", f"{CLUSTERS}failed_hook_jobs_are_a_warning", READY),
    Row("left-over volume claims and Secrets", "leftovers",
        f"{CLUSTERS}what_an_older_installation_left_stops_a_first_one",
        f"{CLUSTERS}what_belongs_to_an_installation_of_ours_is_not_left_over"),
    Row("storage class", "storage", f"{CLUSTERS}the_servers_volumes_need_a_storage_class", READY),
    Row("can a load balancer get an address", "load-balancer",
        f"{CLUSTERS}what_gives_addresses_is_seen_or_said_to_be_unseen",
        f"{CLUSTERS}who_needs_no_load_balancer_is_not_asked_for_one"),
    Row("the API server's clock", "clocks", f"{CLUSTERS}an_api_server_with_another_time_is_noticed", READY),
    Row("the nodes' clocks", "clocks", f"{CLUSTERS}a_node_with_another_time_is_noticed_and_named", READY),
    Row("an existing release's values", "existing-release",
        f"{CLUSTERS}a_release_of_ours_in_another_role_stops_the_run",
        f"{CLUSTERS}a_release_that_is_not_ours_or_is_being_worked_on_stops_the_run"),
    Row("a node for each server", "capacity", f"{CLUSTERS}there_must_be_a_node_for_each_server", READY),
    Row("Pod Security of the namespace", "pod-security",
        f"{CLUSTERS}a_namespace_that_would_refuse_the_charts_pods_is_a_warning", READY),
]  # fmt: skip

ANNOTATION = f"{GATEWAYS}each_annotation_that_touches_the_connection_is_an_error[service.beta.kubernetes.io/"
FINE = f"{GATEWAYS}a_good_gateway_is_well"
ADDRESS = f"{GATEWAYS}an_address_is_one_that_others_reach_or_that_is_meant"

GATEWAY_SERVICE = [
    Row("type", "gateway-type", f"{GATEWAYS}another_type_is_an_error_where_nobody_will_change_it", FINE),
    Row("an address is there", "gateway-pending",
        f"{GATEWAYS}a_pending_load_balancer_is_told_in_the_words_of_its_last_warning", FINE),
    Row("its name can be resolved", "gateway-name", f"{GATEWAYS}a_name_is_resolved_here_and_that_is_said", FINE),
    Row("public or private", "gateway-public", f"{ADDRESS}[10.1.2.3-warning-ok]", f"{ADDRESS}[8.8.8.8-ok-ok]"),
    Row("annotations: TLS ends at the load balancer", "gateway-passthrough",
        f"{ANNOTATION}aws-load-balancer-ssl-cert]", FINE),
    Row("annotations: HTTP", "gateway-passthrough", f"{ANNOTATION}aws-load-balancer-backend-protocol]", FINE),
    Row("annotations: PROXY protocol", "gateway-passthrough", f"{ANNOTATION}aws-load-balancer-proxy-protocol]", FINE),
    Row("annotations: an ALB's or an Ingress's", "gateway-passthrough",
        f"{GATEWAYS}each_annotation_that_touches_the_connection_is_an_error[alb.ingress.kubernetes.io/scheme]", FINE),
    Row("a ClusterIP is announced", "gateway-source", f"{GATEWAYS}a_cluster_ip_is_announced_to_nobody", FINE),
    Row("a node port is set, and from 30000 to 32767", "gateway-node-port",
        f"{GATEWAYS}a_node_port_is_set_and_in_range", FINE),
]  # fmt: skip

WAY = f"{NETWORK}each_fault_on_the_way_to_a_gateway_is_named_with_who_can_mend_it"
API = f"{NETWORK}each_fault_on_the_way_to_an_api_is_named"
REACHED = f"{NETWORK}both_ways_and_the_api_are_tried_from_every_server"

NETWORK_ROWS = [
    Row("TCP to each gateway", "gateway-from-secondary", f"{WAY}[refused--]", REACHED),
    Row("a firewall on the way", "gateway-from-secondary", f"{WAY}[timeout--]", REACHED),
    Row("a load balancer that ends TLS", "gateway-from-secondary", f"{WAY}[foreign--]", REACHED),
    Row("the name in the certificate", "gateway-from-secondary", f"{WAY}[foreign--]", REACHED),
    Row("the chain, with caCert", "gateway-from-secondary", f"{WAY}[wrong-ca--]", REACHED),
    Row("NotAfter, and the clock", "gateway-from-secondary", f"{WAY}[expired--]", REACHED),
    Row("the other way round", "gateway-from-primary", f"{NETWORK}each_direction_fails_by_itself", REACHED),
    Row("k8sAuthMethodHost from the primary: reached", "api-url-from-primary", f"{API}[refused-]", REACHED),
    Row("k8sAuthMethodHost from the primary: its chain", "api-url-from-primary", f"{API}[wrong-ca-]", REACHED),
    Row("k8sAuthMethodHost from the secondary", "api-url-from-secondary",
        f"{NETWORK}a_url_that_has_no_host_is_an_error_without_a_try", REACHED),
    Row("localhost, kind's URLs, no https://", "api-url",
        f"{CHECKS}an_api_url_must_be_one_that_others_can_reach",
        f"{CHECKS}an_api_url_must_be_one_that_others_can_reach"),
]  # fmt: skip

SECRET_ROWS = [
    Row("name and namespace", "secret-complete",
        f"{CHECKS}a_secret_that_is_missing_is_an_error_where_it_must_be_there", GOOD),
    secret("exactly the keys: one is missing", "missing key"),
    secret("exactly the keys: one too many", "unexpected key"),
    secret("no double base64", "double base64"),
    secret("PEM parses", "no PEM"),
    secret("the key belongs to the CA", "key of another CA"),
    Row("the CA expires", "secret-complete", f"{CHECKS}a_ca_that_ends_is_told_in_time[over]",
        f"{CHECKS}a_ca_that_ends_is_told_in_time[long]"),
    secret("the gossip key has 16, 24 or 32 bytes", "gossip key"),
    secret("the token is a UUID", "token"),
    secret("the JSON has two fields only", "more fields"),
    secret("the JSON names the expected primary", "another primary"),
    Row("the JSON names another datacenter than one's own", "secret-copy",
        f"{CHECKS}a_copy_that_names_its_own_datacenter_as_the_primary_stops_the_run", GOOD),
    secret("each gateway has a host", "empty host"),
    secret("no gateway is a placeholder", "placeholder"),
    Row("no gateway is private unless that is meant", "secret-complete",
        f"{CHECKS}a_private_gateway_is_a_warning_unless_it_is_meant[not meant]",
        f"{CHECKS}a_private_gateway_is_a_warning_unless_it_is_meant[meant]"),
    secret("the gateways are those of the Service", "stale gateway"),
    Row("the gateways are those of the catalog", "gateway-address",
        f"{CHECKS}a_gateway_whose_address_changed_is_noticed_everywhere", GOOD),
    Row("the copy is the primary's", "secret-copy",
        f"{CHECKS}a_copy_that_differs_is_an_error_that_names_the_keys", GOOD),
]  # fmt: skip

SECTIONS = NOT_CHECKED_BY_THE_CHART, OFFLINE, CLUSTER, GATEWAY_SERVICE, SECRET_ROWS, NETWORK_ROWS
ROWS = [row for section in SECTIONS for row in section]


@pytest.fixture(scope="module", autouse=True)
def _catalogue() -> None:
    """Checks of steps are declared when the steps are imported."""
    for module, _ in NOTEBOOKS.values():
        import_module(f"consulfed_lib.steps.{module}")


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, list[str]]]:
    """Test → check → what it reported there, of every test that is named above."""
    named = {f"tests/{name}" for row in ROWS for name in (row.fires, row.silent)}
    named |= {f"tests/{name}" for name in MISTAKES.values()}
    files = sorted(path for path in {name.partition("::")[0] for name in named} if (ROOT / path).exists())
    notes = tmp_path_factory.mktemp("witness") / "notes.json"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.witness", "-p", "no:cacheprovider", *files],
        cwd=ROOT,
        env=os.environ | {"WITNESS_FILE": str(notes), "WITNESS_TESTS": json.dumps(sorted(named))},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return json.loads(notes.read_text())


def of(seen: dict[str, dict[str, list[str]]], name: str, id: str) -> Iterator[set[str]]:
    """What a check reported in each run of a test, whatever its parameters."""
    for node, reports in seen.items():
        if f"tests/{name}" in (node, node.partition("[")[0]):
            yield set(reports.get(id, ()))


@pytest.mark.parametrize("row", ROWS, ids=[row.text for row in ROWS])
def test_a_row_has_a_check_that_fires_and_is_silent(row, seen):
    """In the tests that it names, and not only by their names."""
    assert row.id in CATALOGUE
    assert any(found & {"error", "warning"} for found in of(seen, row.fires, row.id)), f"{row.fires}: never"
    assert any(found == {"ok"} for found in of(seen, row.silent, row.id)), f"{row.silent}: never"


def test_a_test_of_another_check_proves_nothing(seen):
    """The comparison above can fail: by a check that is not called there, and by one that is silent there."""
    assert not any(of(seen, GOOD, "leftovers"))
    assert not any(found & {"error", "warning"} for found in of(seen, GOOD, "servers"))
    assert not list(of(seen, f"{CHECKS}a_test_that_is_not_there", "servers"))


@pytest.mark.parametrize("row", MISTAKES)
def test_a_row_is_a_mistake_of_the_parameters(row, seen):
    """Its test was run and passed."""
    assert any(node.partition("[")[0] == f"tests/{MISTAKES[row]}" for node in seen)


def test_no_row_stands_twice():
    """A row that is copied and half changed hides the one that it replaced."""
    assert all(len({row.text for row in section}) == len(section) for section in SECTIONS)


# The checks of Helm values, on the cases in which each fact was seen to fire


def reported(datacenters: list[Any]) -> set[tuple[str, str]]:
    """(id, datacenter) of everything that these values are found to have wrong."""
    judged = Judged(tuple(datacenters), (), tuple(role_mistakes(datacenters)))
    found = [finding for each in OF_VALUES for finding in each("test", judged)]
    assert {each.id for each in found} == {each.id for each in OF_VALUES}
    return {(each.id, each.subject) for each in found if each.severity != "ok"}


@pytest.mark.parametrize(("id", "which", "path", "value"), FIRES)
def test_a_mistake_in_values_is_the_finding_of_its_check(both, id, which, path, value):
    """In its datacenter; the lint that finds it is held by test_lint."""
    datacenters = both()
    datacenters[which] = changed(datacenters[which], path, value)
    assert (id, f"dc{which + 1}") in reported(datacenters)


@pytest.mark.parametrize("version", ["0.44.0", "0.49.8", "1.0.11", "1.9.11", "2.0.3"])
def test_good_values_are_no_finding(both, version):
    """Ours, of each generation."""
    assert reported(both(version)) == set()


@pytest.mark.parametrize("key", ["server", "serverr"])
def test_a_key_that_the_chart_does_not_have_is_a_finding(federation, key):
    """Helm would ignore it in silence."""
    params = federation(
        chart={"ref": str(CHART), "version": "1.9.11-sandbox"}, values={key: {"storage": "1Gi"}}
    )
    found = chart_keys("test", params, read(CHART)[1])
    assert [each.severity for each in found] == (["ok"] if key == "server" else ["error", "error"])

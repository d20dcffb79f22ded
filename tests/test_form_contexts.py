"""What a kubeconfig offers, and what a new params file makes of it; clusters are asked all at once and not for long."""

from __future__ import annotations

import base64
import gzip
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from consulfed_lib.form.contexts import NOTHING, Context, Contexts, Installation, look, proposed_datacenter
from consulfed_lib.form.start import CHART, beginning, existing, of_contexts, usual_kubeconfig
from consulfed_lib.params import check, kubeconfig_servers
from tests.conftest import TOKEN, HttpsServer, ready

ROLES = "GET /apis/rbac.authorization.k8s.io/v1/clusterroles"


def with_consul(api: HttpsServer, namespace: str = "mesh", **values: Any) -> None:
    """A cluster in which somebody installed Consul as release `hub`."""
    ready(api)
    annotations = {"meta.helm.sh/release-name": "hub", "meta.helm.sh/release-namespace": namespace}
    role = {"metadata": {"name": "hub-server", "annotations": annotations}}
    api.answers[ROLES] = 200, {"items": [role]}
    release = {
        "config": {"global": values},
        "info": {"status": "deployed"},
        "chart": {
            "metadata": {"name": "consul", "version": "1.4.2"},
            "values": {"global": {"datacenter": "dc1"}},
        },
    }
    data = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(release).encode()))).decode()
    labels = {"owner": "helm", "name": "hub", "version": "1", "status": "deployed"}
    secret = {"metadata": {"name": "sh.helm.release.v1.hub.v1", "labels": labels}, "data": {"release": data}}
    api.answers[f"GET /api/v1/namespaces/{namespace}/secrets"] = 200, {"items": [secret]}


def test_each_context_comes_with_its_version_and_the_consul_there(https, kubeconfig):
    """In the order of the kubeconfig; nothing of its credentials is in what is shown."""
    empty, used = https(), https()
    ready(empty)
    with_consul(used, datacenter="eu", federation={"enabled": True})
    found = look(kubeconfig(empty=empty.url, used=used.url))
    assert [(each.context, each.kubernetes, each.consul) for each in found] == [
        ("empty", "v1.34.0", NOTHING),
        ("used", "v1.34.0", "release hub in mesh, chart 1.4.2, datacenter eu, federated"),
    ]
    assert found.rows[1].installations == (Installation("hub", "mesh", "1.4.2", "eu", True),)
    assert found.summary() == "2 of 2 clusters answer"
    assert TOKEN not in repr(found) + found._repr_html_() + json.dumps(found.data())


def test_what_may_not_be_read_is_not_known(https, kubeconfig):
    """A refusal is no cluster without Consul."""
    no_roles, no_secrets = https(), https()
    ready(no_roles)
    no_roles.answers[ROLES] = 403, {"message": "clusterroles is forbidden"}
    with_consul(no_secrets)
    no_secrets.answers["GET /api/v1/namespaces/mesh/secrets"] = 403, {"message": "secrets is forbidden"}
    first, second = look(kubeconfig(a=no_roles.url, b=no_secrets.url))
    assert (first.kubernetes, first.consul) == ("v1.34.0", "not known")
    assert "forbidden" in first.note
    assert second.consul == "release hub in mesh"


def test_clusters_that_do_not_answer_hold_up_nobody(https, kubeconfig):
    """One refuses, one hangs, one answers: all of it is known when the deadline is over."""
    well, hangs = https(), https()
    ready(well)
    done = threading.Event()
    hangs.answers["GET /version"] = lambda _: (done.wait(20), (200, {}))[1]
    start = time.monotonic()
    found = look(kubeconfig(gone="https://127.0.0.1:1", hangs=hangs.url, well=well.url), deadline=1.5)
    took = time.monotonic() - start
    done.set()
    assert took < 3
    assert [each.kubernetes for each in found] == ["", "", "v1.34.0"]
    assert "does not answer" in found.rows[0].note
    assert found.rows[1].note == "does not answer within 1.5 s"


def test_two_contexts_of_one_cluster_are_told(api, kubeconfig):
    """They cannot both be datacenters."""
    ready(api)
    assert "the same API as two" in look(kubeconfig(one=api.url, two=api.url)).rows[0].note


def test_without_a_kubeconfig_there_is_none(no_kubeconfig):
    """It is said, with what to do for the sandbox."""
    assert look("").summary() == "there is none"
    assert "consulfed sandbox up" in repr(look("sandbox"))


def test_the_first_of_several_kubeconfigs_counts(tmp_path, monkeypatch):
    """As kubectl merges them; what is no kubeconfig is passed over."""
    for name, url in (("a", "https://a"), ("b", "https://b")):
        config = {
            "clusters": [{"name": "c", "cluster": {"server": url}}],
            "contexts": [{"name": "x", "context": {"cluster": "c"}}],
        }
        (tmp_path / name).write_text(yaml.safe_dump(config))
    (tmp_path / "c").write_text("contexts: 3")
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/c:{tmp_path}/a:{tmp_path}/b:{tmp_path}/none")
    assert kubeconfig_servers("") == {"x": "https://a"}


# What a new file makes of it


@pytest.mark.parametrize(
    ("context", "name"),
    [
        ("gke_project_zone_shop", "gke-project-zone-shop"),
        ("admin@Lab", "lab"),
        ("@", "dc"),
        ("sandbox-dc2", "dc2"),
    ],
)
def test_a_datacenter_is_called_as_its_context(context, name):
    """In letters that Consul takes."""
    assert proposed_datacenter(Context(context, "")) == name


def test_no_two_datacenters_get_one_name():
    """Each is unique in the federation."""
    assert proposed_datacenter(Context("eu/shop", ""), ["shop", "shop-2"]) == "shop-3"


def test_names_of_a_consul_that_is_there_are_kept(no_kubeconfig):
    """Its release, namespace, datacenter and chart; the primary is brought to federation."""
    there = Context("one", "", "v1", "…", installations=(Installation("hub", "mesh", "1.4.2", "eu"),))
    raw = of_contexts("", {"one": "", "two": "dc2"}, {"one": there})
    assert raw["primary"] == {"context": "one", "datacenter": "eu", "namespace": "mesh", "release": "hub"}
    assert raw["upgrade"] == {"existing": True}
    assert raw["chart"]["version"] == "1.4.2"
    assert check(raw | {"federation": "x"}, "the test").secondaries[0].datacenter == "dc2"
    federated = Context("one", "", installations=(Installation("hub", "mesh", "1.4.2", "eu", True),))
    assert existing(federated) == {}


def test_who_is_the_primary_can_be_said(no_kubeconfig):
    """Else it is the first one."""
    raw = of_contexts("", {"a": "", "b": ""}, {}, primary="b", chart_version="2.0.3")
    assert (raw["primary"]["context"], raw["secondaries"][0]["context"]) == ("b", "a")
    assert raw["chart"]["version"] == "2.0.3"
    assert of_contexts("", {"a": "", "b": ""}, {})["chart"]["version"] == CHART


def test_in_the_sandbox_a_new_file_is_a_whole_federation(no_kubeconfig, tmp_path, monkeypatch):
    """Its contexts of other rights are left out, and its chart, port and network are said."""
    rows = [Context(f"sandbox-dc{i}{end}", "") for i in (1, 2, 3) for end in ("", "-read-only", "-admin")]
    raw = beginning("sandbox", Contexts("", rows))
    found = check(raw, "the test")
    assert [each.datacenter for each in found.clusters] == ["dc1", "dc2", "dc3"]
    assert (found.chart.ref, found.mesh_gateway.port, found.private_network) == ("sandbox", 8443, True)
    assert "primary" not in beginning("sandbox", Contexts("", ()))


def test_the_sandbox_is_begun_with_where_there_is_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kubeconfig: Callable[..., str]
) -> None:
    """A kubeconfig of one's own comes first."""
    path = Path(kubeconfig(one="https://127.0.0.1:1"))
    monkeypatch.setenv("CONSULFED_SANDBOX", str(path.parent))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    assert usual_kubeconfig() == "sandbox"
    monkeypatch.setenv("KUBECONFIG", str(path))
    assert usual_kubeconfig() == ""

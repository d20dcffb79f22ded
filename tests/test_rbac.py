"""Rules, what a chart asks for, the manifest; `python -m tests.test_rbac` writes the sandbox's rights anew."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

import consulfed_lib.rbac
import consulfed_lib.sandbox
from consulfed_lib.cli import main
from consulfed_lib.errors import ApplyError
from consulfed_lib.helm import Charts
from consulfed_lib.params import Chart, Cluster, Federation, load
from consulfed_lib.params.models import MeshGateway, Upgrade
from consulfed_lib.rbac import Held, Right, Rule, facts, needs, rendered
from consulfed_lib.rbac.chart import RBAC, granted_rules, helm_rules, removal_rules
from consulfed_lib.rbac.manifest import shipped
from consulfed_lib.rbac.rules import simplify

ROOT = Path(__file__).parents[1]
CHART = Path(consulfed_lib.sandbox.__file__).parent / "chart" / "consul"
SHIPPED = Path(consulfed_lib.rbac.__file__).with_name("sandbox.json")


def sandbox_params(**changes: Any) -> Federation:
    """params/sandbox.yaml with the chart as it is in the repository, so that no sandbox has to be up."""
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    chart = Chart(ref=str(CHART), version=version)
    return load(ROOT / "params" / "sandbox.yaml").model_copy(update={"chart": chart, **changes})


def _variants() -> Iterator[Federation]:
    """Every combination of the options that decide what a chart renders."""
    for acls, gossip in product((True, False), repeat=2):
        yield sandbox_params(acls=acls, gossip_encryption=gossip)
    for service in ("NodePort", "ClusterIP"):
        yield sandbox_params(mesh_gateway=MeshGateway(service=service, port=8443, node_port=30443))
    yield sandbox_params(upgrade=Upgrade(existing=True, restart_workloads=True, clear_leftovers=True))


def _switches(values: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], bool]]:
    """(path, default) of every switch among a chart's values."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _switches(value, (*path, key))
        elif isinstance(value, bool):
            yield (*path, key), value


def _with(values: dict[str, Any], path: tuple[str, ...], value: bool) -> dict[str, Any]:
    """The values with one of them set."""
    key, *rest = path
    return {**values, key: _with(values.get(key, {}), tuple(rest), value) if rest else value}


def _renderings() -> Iterator[tuple[Federation, Cluster, dict[str, Any]]]:
    """(federation, cluster, values) of all that a params file for the sandbox may make of its chart."""
    for params in _variants():
        for of in params.clusters:
            yield params, of, rendered.values(params, of)
    params = sandbox_params()
    for path, default in _switches(yaml.safe_load((CHART / "values.yaml").read_text())):
        for of in params.clusters:
            yield params, of, _with(rendered.values(params, of), path, not default)


def _render(params: Federation, of: Cluster, values: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects; none where the chart refuses the values."""
    try:
        return Charts().render(of.release, of.namespace, params.chart, values)
    except ApplyError:
        return []


def derived() -> dict[str, list[dict[str, Any]]]:
    """The rights for the sandbox's chart with any option, as they are shipped."""
    jobs = list(_renderings())
    with ThreadPoolExecutor(4) as pool:
        objects = list(pool.map(lambda job: _render(*job), jobs))
    found = {}
    for key, read_only in (("run", False), ("read-only", True)):
        rules = [
            rule
            for (params, of, _), these in zip(jobs, objects, strict=True)
            for notebook in ("00", "05")
            for rule in needs(
                params, of, these, notebook=notebook, read_only=read_only, create_namespace=True
            )
        ]
        found[key] = [{**rule.data(), "why": rule.why} for rule in facts.anywhere(rules)]
    return found


def written() -> str:
    return json.dumps(derived(), indent=1) + "\n"


def test_the_rights_that_are_shipped_are_those_that_the_sandboxs_chart_asks_for():
    """They come up with a sandbox, where rendering a chart would take too long: `python -m tests.test_rbac`."""
    assert SHIPPED.read_text() == written()


def crd(kind: str, plural: str, scope: str) -> dict[str, Any]:
    spec = {"group": "example.com", "scope": scope, "names": {"kind": kind, "plural": plural}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.example.com"},
        "spec": spec,
    }


def thing(kind: str, name: str, api_version: str = "v1", hook: str = "", **more: Any) -> dict[str, Any]:
    annotations = {"annotations": {"helm.sh/hook": hook}} if hook else {}
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, **annotations}, **more}


def said(rules: Iterable[Rule]) -> set[str]:
    """Each single right in words."""
    return {str(right) for rule in rules for right in rule.rights()}


# Rules


@pytest.mark.parametrize(
    ("one", "other", "covers"),
    [
        (Right("", "", "pods", "get"), Right("a", "", "pods", "get", "x"), True),
        (Right("a", "", "pods", "get"), Right("", "", "pods", "get"), False),
        (Right("a", "", "pods", "get", "x"), Right("a", "", "pods", "get"), False),
        (Right("a", "", "*", "get"), Right("a", "", "pods/log", "get"), True),
        (Right("a", "", "*/log", "get"), Right("a", "", "pods/log", "get"), True),
        (Right("a", "", "pods", "get"), Right("a", "", "pods/log", "get"), False),
        (Right("a", "*", "pods", "*"), Right("a", "apps", "pods", "delete"), True),
        (Right(verb="get", url="/metrics*"), Right(verb="get", url="/metrics/x"), True),
        (Right(verb="get", url="/metrics"), Right(verb="get", url="/metrics/x"), False),
        (Right("", "*", "*", "*"), Right(verb="get", url="/metrics"), False),
    ],
)
def test_what_a_right_covers_is_what_kubernetes_says(one, other, covers):
    """The same answer one by one and looked up among many."""
    assert one.covers(other) is covers
    assert (other in Held([one])) is covers


def test_simplified_rules_say_the_same_in_fewer():
    """What another rule covers goes; what has the same verbs stands together; the first reason stays."""
    rules = [
        Rule("", ("pods",), ("get",), ("x",), "a", why="one"),
        Rule("", ("pods", "services"), ("list", "get"), (), "a", why="two"),
        Rule("", ("services",), ("get",), (), "", why="three"),
        Rule("", (), ("get",), urls=("/metrics", "/*"), why="three"),
    ]
    assert simplify(rules) == [
        Rule("", ("pods",), ("get", "list"), (), "a"),
        Rule("", ("services",), ("list",), (), "a"),
        Rule("", (), ("get",), urls=("/*",)),
        Rule("", ("services",), ("get",)),
    ]
    assert [rule.why for rule in simplify(rules)] == ["two", "two", "three", "three"]
    assert simplify(simplify(rules)) == simplify(rules)


def test_a_right_is_said_in_words_for_people():
    """As the check names it: verb, resource with its group, name, place."""
    assert str(Right("consul", "", "secrets", "get", "x")) == 'get secrets "x" in namespace consul'
    assert str(Right("", "apps", "deployments", "list")) == "list deployments.apps cluster-wide"
    assert str(Right(verb="get", url="/metrics")) == "get /metrics cluster-wide"


# What a chart asks for


def test_helm_needs_for_each_kind_what_it_does_to_it():
    """Names only where others' objects are beside them; list and watch only for hooks, which it waits for."""
    objects = [
        thing("Service", "s"),
        thing("ClusterRole", "c", f"{RBAC}/v1"),
        thing("Job", "j", "batch/v1", "pre-install"),
    ]
    assert said(helm_rules(objects, "consul", False)) == {
        *(f"{verb} services in namespace consul" for verb in ("get", "create", "patch", "delete")),
        *(f'{verb} clusterroles.{RBAC} "c" cluster-wide' for verb in ("get", "patch", "delete")),
        f"create clusterroles.{RBAC} cluster-wide",
        *(
            f"{verb} jobs.batch in namespace consul"
            for verb in ("get", "list", "watch", "create", "patch", "delete")
        ),
    }


def test_a_dry_run_gets_what_would_be_made_and_no_hook():
    """It looks whether an object of that name is there already; Secrets by name."""
    objects = [thing("Service", "s"), thing("Secret", "x"), thing("Job", "j", "batch/v1", "pre-install")]
    assert said(helm_rules(objects, "consul", True)) == {
        "get services in namespace consul",
        'get secrets "x" in namespace consul',
    }


def test_objects_of_the_charts_own_kinds_are_found_by_their_crds():
    """Plural and scope stand in the CRD; other kinds follow the rule that kubectl guesses by."""
    objects = [
        crd("Mouse", "mice", "Cluster"),
        thing("Mouse", "m", "example.com/v1"),
        thing("NetworkPolicy", "n", "networking.k8s.io/v1"),
        {**thing("Role", "r", f"{RBAC}/v1"), "metadata": {"name": "r", "namespace": "kube-system"}},
    ]
    found = said(helm_rules(objects, "consul", True))
    assert 'get mice.example.com "m" cluster-wide' in found
    assert "get networkpolicies.networking.k8s.io in namespace consul" in found
    assert f"get roles.{RBAC} in namespace kube-system" in found


def test_what_the_chart_keeps_is_not_deleted():
    """`helm.sh/resource-policy: keep`."""
    kept = thing("ConfigMap", "k")
    kept["metadata"]["annotations"] = {"helm.sh/resource-policy": "keep"}
    assert "delete configmaps in namespace consul" not in said(helm_rules([kept], "consul", False))
    assert "delete configmaps in namespace consul" in said(
        helm_rules([kept, thing("ConfigMap", "c")], "consul", False)
    )
    assert removal_rules([kept, thing("ConfigMap", "c")], [], "consul") == [
        Rule("", ("configmaps",), ("delete",), ("c",), "consul")
    ]
    assert removal_rules([thing("ConfigMap", "c")], [thing("ConfigMap", "c")], "consul") == []


def test_who_makes_roles_needs_what_they_grant():
    """Where the role is; a role of Kubernetes itself by what is in it; another one by the right to bind it."""
    rule = {"apiGroups": ["", "apps"], "resources": ["pods"], "verbs": ["get"], "resourceNames": ["x"]}
    probe = {"nonResourceURLs": ["/metrics"], "verbs": ["get"]}

    def bound(kind: str, to: str, name: str) -> dict[str, Any]:
        return thing(kind, "b", f"{RBAC}/v1", roleRef={"kind": to, "name": name})

    objects = [
        thing("Role", "r", f"{RBAC}/v1", rules=[rule]),
        thing("ClusterRole", "c", f"{RBAC}/v1", rules=[probe]),
        bound("RoleBinding", "Role", "r"),
        bound("ClusterRoleBinding", "ClusterRole", "c"),
        bound("ClusterRoleBinding", "ClusterRole", "system:auth-delegator"),
        bound("RoleBinding", "ClusterRole", "view"),
    ]
    assert said(granted_rules(objects, "consul")) == {
        'get pods "x" in namespace consul',
        'get pods.apps "x" in namespace consul',
        "get /metrics cluster-wide",
        "create tokenreviews.authentication.k8s.io cluster-wide",
        "create subjectaccessreviews.authorization.k8s.io cluster-wide",
        f'bind clusterroles.{RBAC} "view" in namespace consul',
    }


def test_no_rule_is_as_good_as_being_administrator():
    """Neither escalate, bind, impersonate, nor all verbs, groups or resources, for any cluster of the sandbox."""
    for of in sandbox_params().clusters:
        rights = [right for rule in rendered.for_cluster(sandbox_params(), of) for right in rule.rights()]
        assert not {right.verb for right in rights} & {"*", "escalate", "bind", "impersonate"}
        # The chart's connect-injector is given all of Consul's own resources, so that whoever installs it needs them.
        wide = {right.group for right in rights if "*" in (right.group, right.resource)}
        assert wide == {"consul.hashicorp.com"}


def test_read_only_rights_write_nothing_and_are_among_the_others():
    """The only `create` is that of a stream into a server's pod."""
    params = sandbox_params()
    for of in params.clusters:
        read = rendered.for_cluster(params, of, read_only=True)
        rights = [right for rule in read for right in rule.rights()]
        assert {right.verb for right in rights} <= {"get", "list", "watch", "create"}
        assert {right.resource for right in rights if right.verb == "create"} == {
            "pods/exec",
            "pods/portforward",
        }
        everything = Held(right for rule in rendered.for_cluster(params, of) for right in rule.rights())
        assert [right for right in rights if right not in everything] == []


# The command


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    assert main(["rbac", *words]) == 0
    return [each for each in yaml.safe_load_all(capsys.readouterr().out) if each]


@pytest.fixture
def params_file(tmp_path: Path) -> Callable[..., str]:
    """A params file for the sandbox's chart, wherever that is; its path."""

    def write(name: str = "params.yaml", **changes: Any) -> str:
        content = yaml.safe_load((ROOT / "params" / "sandbox.yaml").read_text())
        content["chart"]["ref"] = str(CHART)
        (tmp_path / name).write_text(yaml.safe_dump({**content, "kubeconfig": "", **changes}))
        return str(tmp_path / name)

    return write


def test_without_params_it_is_one_cluster_role_for_the_service_account(capsys):
    """What the sandbox's contexts have; nothing in it names a namespace of Consul."""
    kinds = {each["kind"]: each for each in printed(capsys)}
    assert list(kinds) == ["Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding"]
    account = {"kind": "ServiceAccount", "name": "consulfed", "namespace": "consulfed"}
    assert kinds["ClusterRoleBinding"]["subjects"] == [account]
    assert kinds["ClusterRole"]["rules"] == [rule.data() for rule in shipped(False)]


def test_with_params_the_rights_are_in_the_releases_namespaces(capsys, params_file):
    """A Role in each, a ClusterRole for what has no namespace, and all of it under the federation's name."""
    primary = {"context": "a", "datacenter": "dc1", "namespace": "one"}
    secondary = {"context": "b", "datacenter": "dc2", "namespace": "two"}
    path = params_file(federation="The_Shop", primary=primary, secondaries=[secondary])
    found = printed(capsys, path, "--group", "sre")
    assert [
        (each["kind"], each["metadata"]["name"], each["metadata"].get("namespace")) for each in found
    ] == [
        ("Namespace", "one", None),
        ("Namespace", "two", None),
        ("ClusterRole", "consulfed-the-shop", None),
        ("ClusterRoleBinding", "consulfed-the-shop", None),
        ("Role", "consulfed-the-shop", "one"),
        ("RoleBinding", "consulfed-the-shop", "one"),
        ("Role", "consulfed-the-shop", "two"),
        ("RoleBinding", "consulfed-the-shop", "two"),
    ]
    assert all(
        each["subjects"] == [{"kind": "Group", "name": "sre", "apiGroup": RBAC}] for each in found[3::2]
    )
    assert not any("labels" in each["metadata"] for each in found[:2]), "taken back by label, namespaces stay"
    one = printed(capsys, path, "--datacenter", "dc2", "--user", "joe", "--read-only")
    assert {each["metadata"].get("namespace") for each in one} == {None, "two"}
    assert one[1]["metadata"]["name"] == "consulfed-the-shop-read-only"


def test_several_params_are_taken_together(capsys, params_file):
    """An upgrade from one to the other deletes what the other has no more."""
    old, new = (
        params_file("old.yaml"),
        params_file("new.yaml", values={"connectInject": {"enabled": True}}, acls=False),
    )

    def names(*paths: str) -> set[str]:
        rules = [rule for each in printed(capsys, *paths, "--user", "joe") for rule in each.get("rules", ())]
        return {
            name
            for rule in rules
            if "clusterroles" in rule["resources"]
            for name in rule.get("resourceNames", ())
        }

    assert names(old, new) == names(old) | names(new)
    assert names(new) < names(old)


def test_every_rule_in_the_manifest_says_what_it_is_for(capsys, params_file):
    """A reviewer reads it: each stands under a comment, and the top says how to use it and how to take it back."""
    assert main(["rbac", params_file()]) == 0
    text = capsys.readouterr().out
    assert "# Federation sandbox, chart " in text
    assert "--selector app.kubernetes.io/part-of=consulfed" in text
    assert "create token consulfed" in text
    for part in text.split("\nrules:\n")[1:]:
        assert part.startswith("# ")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--user", "a", "--group", "b"], 2, "give one of"),
        (["--datacenter", "dc2"], 2, "name that file, too"),
        (["PARAMS", "--datacenter", "dc9"], 10, "one of: dc1, dc2"),
        (["PARAMS"], 10, "cannot be rendered"),
    ],
)
def test_wrong_words_are_refused_with_what_is_right(capsys, params_file, words, code, said):
    """Before anything is printed that somebody might apply."""
    chart = {"ref": "/no/such/chart", "version": "1.9.11"}
    path = params_file(chart=chart) if words == ["PARAMS"] else params_file()
    assert main(["rbac", *(path if word == "PARAMS" else word for word in words)]) == code
    told = capsys.readouterr()
    assert said in told.err
    assert told.out == ""


if __name__ == "__main__":
    SHIPPED.write_text(written())

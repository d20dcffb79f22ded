"""The check of rights against the sandbox's own authorizer: silent with exactly these rights, loud without one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from consulfed_lib.checks.permissions import permissions
from consulfed_lib.checks.target import Target
from consulfed_lib.cluster import Cluster
from consulfed_lib.errors import ParamsError
from consulfed_lib.rbac import Rule, needs, rendered
from consulfed_lib.rbac.facts import HINTS
from consulfed_lib.rbac.manifest import Subject, roles
from consulfed_lib.results import Finding
from consulfed_lib.sandbox.apiserver import ApiServer, User
from consulfed_lib.sandbox.apiserver.reviews import review

from .conftest import HttpsServer, Request
from .test_rbac import sandbox_params

SRE = User("sre", ("system:authenticated",))
REVIEWS = {
    "selfsubjectaccessreviews": ("authorization.k8s.io/v1", "SelfSubjectAccessReview"),
    "selfsubjectrulesreviews": ("authorization.k8s.io/v1", "SelfSubjectRulesReview"),
    "selfsubjectreviews": ("authentication.k8s.io/v1", "SelfSubjectReview"),
}
PARAMS = sandbox_params(dry_run=False)


@cache
def objects(datacenter: str) -> list[dict[str, Any]]:
    of = next(each for each in PARAMS.clusters if each.datacenter == datacenter)
    return rendered.objects(PARAMS, of)


def rules(datacenter: str, **options: Any) -> list[Rule]:
    of = next(each for each in PARAMS.clusters if each.datacenter == datacenter)
    return needs(PARAMS, of, objects(datacenter), **options)


@pytest.fixture
def look(api: HttpsServer, cluster: Cluster) -> Callable[..., list[Finding]]:
    """Look with these rules and no others."""

    def run(
        held: Iterable[Rule],
        datacenter: str = "dc1",
        incomplete: bool = False,
        there: bool = True,
        **options: Any,
    ) -> list[Finding]:
        none = Path("/dev/null")
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "consul"}}
        server = ApiServer(
            name="test", host="", port=0, certificate=none, private_key=none, ca_pem="", service_account_key=b"",
            tokens={}, objects=[namespace, *roles(held, Subject("User", SRE.name), "runbook")],
        )  # fmt: skip
        server._bootstrap()

        def answer(plural: str) -> Callable[[Request], tuple[int, Any]]:
            resource = server.registry.of_kind(*REVIEWS[plural])
            assert resource is not None

            def answered(request: Request) -> tuple[int, Any]:
                found = review(server.cluster, resource, SRE, "", request.body)
                if incomplete and plural == "selfsubjectrulesreviews":
                    found["status"] |= {"resourceRules": [], "incomplete": True}
                return 201, found

            return answered

        for plural, (version, _) in REVIEWS.items():
            api.answers[f"POST /apis/{version}/{plural}"] = answer(plural)
        if there:
            api.answers["GET /api/v1/namespaces/consul"] = 200, namespace
        params = PARAMS.model_copy(update={"dry_run": options.pop("dry_run", False)})
        of = next(each for each in params.clusters if each.datacenter == datacenter)
        target = replace(Target(params, of, cluster), **options)
        target._seen("rendered", lambda: objects(datacenter))
        return permissions(datacenter, target)

    return run


def test_with_exactly_the_rights_of_the_table_it_is_green_after_two_questions(look, api):
    """Which rules hold in the release's namespace, and which everywhere: more is not asked in the good case."""
    found = look(rules("dc1"))
    assert [each.severity for each in found] == ["ok"]
    assert len(api.asked("POST")) == 2


@pytest.mark.parametrize("number", range(len(rules("dc1"))))
def test_without_any_one_rule_it_names_what_is_missing(look, number):
    """Each rule of the printed role is asked for: taking it away is found before anything is written."""
    held = rules("dc1")
    without = held.pop(number)
    found = look(held)
    assert {each.severity for each in found} == {"warning" if without.why == HINTS else "error"}
    right = next(iter(without.rights()))
    assert any(
        right.thing in each.found and right.verb in each.found and right.place in each.found for each in found
    )
    assert all("--user sre | kubectl --context ADMIN apply -f -" in each.hint for each in found)


def test_an_authorizer_that_cannot_list_its_rules_is_asked_one_by_one(look, api):
    """Clouds answer `incomplete`: what is not listed may be allowed all the same."""
    assert [each.severity for each in look(rules("dc1"), incomplete=True)] == ["ok"]
    assert len(api.asked("POST")) > 50


def test_a_right_in_one_namespace_is_none_for_the_whole_cluster(look):
    """Rules of a Role look the same in the review; who has them there may not write cluster-wide objects."""
    held = [replace(rule, namespace="consul") for rule in rules("dc1")]
    found = [each.found for each in look(held) if each.severity == "error"]
    assert "may not create clusterroles.rbac.authorization.k8s.io cluster-wide" in found
    assert not any("in namespace consul" in each for each in found)


def test_a_dry_run_asks_for_the_read_only_rights_only(look):
    """They are enough for it, and its hint asks for no more."""
    held = rules("dc1", read_only=True)
    assert [each.severity for each in look(held, dry_run=True)] == ["ok"]
    assert "error" in {each.severity for each in look(held)}
    assert all("--read-only" in each.hint for each in look([], dry_run=True))


@pytest.mark.parametrize("datacenter", ["dc1", "dc2"])
def test_the_verification_asks_for_less_than_a_dry_run(look, datacenter):
    """A pipeline that verifies every night needs neither Helm nor what the chart's objects take."""
    held = rules(datacenter, notebook="04")
    assert [e.severity for e in look(held, datacenter, notebook="04-verification")] == ["ok"]
    assert "error" in {e.severity for e in look(held, datacenter, dry_run=True)}


def test_the_right_to_create_a_namespace_is_asked_for_only_where_it_is_missing(look):
    """Who runs the runbook in a namespace that is there already need not have it."""
    assert [each.found for each in look(rules("dc1"), there=False)] == [
        "may not create namespaces cluster-wide"
    ]


def test_a_chart_that_cannot_be_rendered_is_said_and_the_rest_is_looked_at(look, cluster):
    """What is wrong with it is another check's to say, and must not hide a right that is missing."""
    target = Target(PARAMS, PARAMS.primary, cluster)
    with pytest.raises(ParamsError):
        target._seen("rendered", _refused)
    look(rules("dc1"))
    found = permissions("dc1", target)
    assert [each.severity for each in found] == ["warning"]
    assert "chart is gone" in found[0].found


def _refused() -> None:
    raise ParamsError("the chart is gone")

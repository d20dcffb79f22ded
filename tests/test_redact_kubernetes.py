"""Secrets in what an API server answers are registered where they are read, and what is public stays to be seen."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from consulfed_lib.cluster import Cluster
from consulfed_lib.redact import known, leaks
from consulfed_lib.redact.kubernetes import PUBLIC, register_answer, register_manifests

TOKEN = "7b1f3c5e-2f64-4be0-9c39-3b1ea5ab0c11"
OTHER = "another-value-that-nobody-may-read"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def secret(**fields: Any) -> dict[str, Any]:
    return {"kind": "Secret", "metadata": {"name": "a-name-of-a-secret"}, "type": "Opaque", **fields}


def test_every_value_of_a_secret_is_registered_and_nothing_else_of_it():
    """As it is and as the API server writes it; keys and names are for people to see."""
    register_answer(secret(data={"a-key-of-it": encoded(TOKEN), "other": encoded(OTHER)}))
    assert leaks(f"{TOKEN} {OTHER}") == 2
    assert leaks(encoded(TOKEN))
    assert leaks("a-name-of-a-secret a-key-of-it Opaque") == 0


def test_what_is_written_in_clear_is_registered_too():
    """`stringData` is what a manifest may have, and what an answer to a dry run may repeat."""
    register_answer(secret(stringData={"token": TOKEN}))
    assert leaks(TOKEN)


@pytest.mark.parametrize("key", sorted(PUBLIC))
def test_what_is_public_in_a_secret_is_not_registered(key):
    """A certificate is shown with its expiry, and a namespace's name is everywhere."""
    register_answer(secret(data={key: encoded(OTHER), "tls.key": encoded(TOKEN)}, stringData={key: OTHER}))
    assert leaks(OTHER) == 0
    assert leaks(TOKEN)


def test_a_list_of_secrets_is_registered():
    """Its items do not say their kind."""
    items = [{"data": {"a": encoded(TOKEN)}}, {"data": {"b": encoded(OTHER)}}, {"data": None}, {}]
    register_answer({"kind": "SecretList", "items": items})
    assert leaks(f"{TOKEN} {OTHER}") == 2


def test_of_a_mixed_list_only_the_secrets_are_registered():
    """What a ConfigMap holds is no secret."""
    config = {"kind": "ConfigMap", "data": {"a": encoded(OTHER), "b": OTHER}}
    register_answer({"kind": "List", "items": [config, secret(data={"a": encoded(TOKEN)})]})
    assert leaks(TOKEN)
    assert leaks(OTHER) == 0


def test_a_token_that_was_asked_for_is_registered():
    """Of a service account, with which one may do what it may."""
    register_answer({"kind": "TokenRequest", "status": {"token": TOKEN, "expirationTimestamp": "2030-01-01"}})
    assert leaks(TOKEN)
    assert leaks("2030-01-01") == 0


def test_what_is_not_base64_is_not_shown_either():
    """No API server gives that; a manifest that somebody wrote by hand may."""
    register_answer(secret(data={"token": "not base64: at all!"}))
    assert leaks("not base64: at all!")


def test_helms_own_records_are_left_alone_but_not_their_manifests():
    """They are large, and each would make every other text slow to look through."""
    register_answer(secret(type="helm.sh/release.v1", data={"release": encoded(OTHER)}))
    assert known() == (0, 0)
    register_manifests([{"kind": "Deployment", "data": {"a": OTHER}}, secret(stringData={"token": TOKEN})])
    assert leaks(TOKEN)
    assert leaks(OTHER) == 0


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"kind": "Secret"},
        {"kind": "Secret", "data": None, "stringData": None},
        {"kind": "Secret", "data": {"a": None, "b": ""}},
        {"kind": "SecretList", "items": None},
        {"kind": "List"},
        {"kind": "TokenRequest"},
        {"kind": "TokenRequest", "status": None},
        {"kind": "ConfigMap", "data": {"a": OTHER}},
        {"kind": "Status", "message": OTHER},
    ],
)
def test_where_there_is_no_secret_nothing_is_registered(answer):
    """Also where fields are empty or missing."""
    register_answer(answer)
    assert known() == (0, 0)


@pytest.mark.parametrize("way", ["get", "list", "apply", "request"])
def test_whichever_way_a_cluster_is_asked_its_secrets_are_registered(api, cluster: Cluster, way):
    """Nobody has to remember to do it; also where the answer repeats what was written."""
    found = secret(data={"token": encoded(TOKEN)})
    api.answers = {
        "GET /api/v1/namespaces/consul/secrets/s": (200, found),
        "GET /api/v1/namespaces/consul/secrets": (200, {"kind": "SecretList", "items": [found]}),
        "PATCH /api/v1/namespaces/consul/secrets/a-name-of-a-secret": (200, found),
        "POST /token": (201, {"kind": "TokenRequest", "status": {"token": TOKEN}}),
    }
    assert leaks(TOKEN) == 0
    if way == "get":
        cluster.get("secrets", "consul", "s")
    elif way == "list":
        cluster.list("secrets", "consul")
    elif way == "apply":
        cluster.apply("secrets", "consul", found)
    else:
        cluster.request("POST", "/token", {})
    assert leaks(TOKEN)

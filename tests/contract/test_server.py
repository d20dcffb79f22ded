"""What only the sandbox's own API server has: its audit log, its memory of events, its snapshot, its hooks."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import shutil
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from consulfed_lib.errors import SandboxError
from consulfed_lib.sandbox.apiserver import ApiServer, User
from consulfed_lib.sandbox.apiserver.store import HISTORY

from .emulator import write_certificates

ADMIN, JOE = "admin-token", "joe-token"
TOKENS = {ADMIN: User("admin", ("system:masters",)), JOE: User("joe", ("developers",))}


class Client:
    """Plain HTTPS requests to one server."""

    def __init__(self, server: ApiServer, session: aiohttp.ClientSession):
        self.server = server
        self.session = session

    async def __call__(
        self, method: str, path: str, body: Any = None, token: str = ADMIN, **headers: str
    ) -> tuple[int, Any]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        headers = {"Content-Type": "application/json", **named}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body)
        async with self.session.request(
            method, self.server.url + path, data=data, headers=headers
        ) as response:
            text = await response.text()
            return response.status, json.loads(text) if text.startswith("{") else text


Start = Callable[..., contextlib.AbstractAsyncContextManager[Client]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts a server on an address of its own, and stops it."""

    @contextlib.asynccontextmanager
    async def started(**options: Any) -> AsyncIterator[Client]:
        for block in range(130, 250):
            host = f"127.{block}.2.1"
            ca_pem = write_certificates(tmp_path, host)
            server = ApiServer(
                name=host,
                host=host,
                port=6443,
                certificate=tmp_path / "api.pem",
                private_key=tmp_path / "api-key.pem",
                ca_pem=ca_pem,
                service_account_key=b"test",
                tokens=TOKENS,
                **options,
            )
            try:
                await server.start()
            except OSError:
                continue
            context = ssl.create_default_context(cadata=ca_pem)
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
                yield Client(server, session)
            await server.stop()
            return

    return started


def run(scene: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await scene()

    asyncio.run(limited())


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


MAPS = "/api/v1/namespaces/default/configmaps"


def test_audit_log_tells_who_did_what_and_no_more(start: Start, tmp_path: Path) -> None:
    """Each request is one line, with user, verb, object and code, and without any body."""
    log = tmp_path / "audit.log"

    async def scene() -> None:
        async with start(audit_log=log) as call:
            await call("POST", MAPS, config_map("a", password="hidden"), User_Agent="helm/v4.0")
            await call("GET", f"{MAPS}/a", token=JOE)
            await call("GET", f"{MAPS}/a", token="forged")

    run(scene)
    assert log.stat().st_mode & 0o777 == 0o600
    text = log.read_text()
    assert "hidden" not in text
    assert "forged" not in text
    made, read, unknown = (json.loads(line) for line in text.splitlines())
    assert (made["verb"], made["user"]["username"], made["userAgent"]) == ("create", "admin", "helm/v4.0")
    assert made["objectRef"] == {
        "resource": "configmaps",
        "namespace": "default",
        "name": "a",
        "apiVersion": "v1",
    }
    assert (made["responseStatus"]["code"], made["stage"], made["level"]) == (
        201,
        "ResponseComplete",
        "Metadata",
    )
    assert (read["user"]["username"], read["responseStatus"]["code"]) == ("joe", 403)
    assert (unknown["user"], unknown["responseStatus"]["code"]) == ({}, 401)


def test_what_is_forgotten_is_gone(start: Start) -> None:
    """A watch from before the history gets 410, so that its client lists again."""

    async def scene() -> None:
        async with start() as call:
            _, made = await call("POST", MAPS, config_map("a"))
            for n in range(HISTORY + 1):
                await call("PUT", f"{MAPS}/a", config_map("a", n=str(n)))
            revision = made["metadata"]["resourceVersion"]
            code, event = await call("GET", f"{MAPS}?watch=true&resourceVersion={revision}")
            assert code == 200
            assert (event["type"], event["object"]["code"], event["object"]["reason"]) == (
                "ERROR",
                410,
                "Expired",
            )

    run(scene)


def test_a_list_can_be_streamed(start: Start) -> None:
    """sendInitialEvents sends what is there, then the bookmark that ends it, then what comes."""

    async def scene() -> None:
        async with start() as call:
            await call("POST", MAPS, config_map("a"))
            query = (
                "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
            )
            headers = {"Authorization": f"Bearer {ADMIN}"}
            async with call.session.get(f"{call.server.url}{MAPS}?{query}", headers=headers) as stream:
                first, second = [json.loads(await stream.content.readline()) for _ in range(2)]
                assert (first["type"], first["object"]["metadata"]["name"]) == ("ADDED", "a")
                assert second["type"] == "BOOKMARK"
                assert second["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
                await call("DELETE", f"{MAPS}/a")
                assert json.loads(await stream.content.readline())["type"] == "DELETED"
            code, status = await call("GET", f"{MAPS}?watch=true&sendInitialEvents=true")
            assert (code, status["reason"]) == (422, "Invalid")

    run(scene)


def test_a_watch_ends_with_its_client(start: Start) -> None:
    """A client that goes leaves no watcher behind; a server that stops ends every watch at once."""

    async def scene() -> None:
        async with start() as call:
            watchers = call.server.store._table(("", "configmaps")).watchers
            headers = {"Authorization": f"Bearer {ADMIN}"}
            response = await call.session.get(f"{call.server.url}{MAPS}?watch=true", headers=headers)
            assert len(watchers) == 1
            response.close()
            while watchers:
                assert (await call("GET", "/readyz"))[0] == 200
            response = await call.session.get(f"{call.server.url}{MAPS}?watch=true", headers=headers)
            clock = asyncio.get_running_loop().time
            before = clock()
            await call.server.stop()
            assert clock() - before < 2
            assert await response.read() == b""

    run(scene)


def test_a_snapshot_brings_everything_back(start: Start, tmp_path: Path) -> None:
    """After a restart objects, custom resources, revisions and tokens are as they were."""
    file = tmp_path / "snapshot.json"
    names = {"plural": "boxes", "kind": "Box"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "boxes.example.com"},
        "spec": {"group": "example.com", "scope": "Cluster", "names": names, "versions": [version]},
    }

    async def scene() -> None:
        async with start(snapshot=file) as call:
            await call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
            box = {"apiVersion": "example.com/v1", "kind": "Box", "metadata": {"name": "b"}}
            assert (await call("POST", "/apis/example.com/v1/boxes", box))[0] == 201
            account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}}
            await call("POST", "/api/v1/namespaces/default/serviceaccounts", account)
            token = call.server.service_account_token("default", "a")
            _, before = await call("GET", "/api/v1/namespaces/kube-system")
            revision = call.server.store.revision
        assert file.stat().st_mode & 0o777 == 0o600
        async with start(snapshot=file) as call:
            assert call.server.store.revision == revision
            assert await call("GET", "/api/v1/namespaces/kube-system") == (200, before)
            assert (await call("GET", "/apis/example.com/v1/boxes/b"))[0] == 200
            code, review = await call(
                "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, token=token
            )
            assert code == 201
            assert review["status"]["userInfo"]["username"] == "system:serviceaccount:default:a"

    run(scene)


def test_what_was_answered_outlives_a_kill(start: Start, tmp_path: Path) -> None:
    """Each write is on disk before it is answered, a deletion too, with the mode of a snapshot; a write that was cut
    off in the middle is none, and what the snapshot has already is not done again."""
    here, there = tmp_path / "here.json", tmp_path / "there.json"
    journal = here.with_suffix(".journal")

    async def scene() -> None:
        async with start(snapshot=here) as call:
            for name in ("kept", "gone"):
                assert (await call("POST", MAPS, config_map(name)))[0] == 201
            stale = journal.read_bytes()
            assert journal.stat().st_mode & 0o777 == 0o600
            await call("DELETE", f"{MAPS}/gone")
            # As they lie there after a kill: within a second, no snapshot has any of this.
            shutil.copy(here, there)
            there.with_suffix(".journal").write_bytes(journal.read_bytes() + b'[99999,true,"","conf')
            revision = call.server.store.revision
        assert not journal.exists()
        async with start(snapshot=there) as call:
            assert call.server.store.revision == revision
            assert (await call("GET", f"{MAPS}/kept"))[0] == 200
            assert (await call("GET", f"{MAPS}/gone"))[0] == 404
        journal.write_bytes(stale)
        async with start(snapshot=here) as call:
            assert (await call("GET", f"{MAPS}/gone"))[0] == 404

    run(scene)


def test_a_snapshot_that_is_none_is_said_to_be_so(start: Start, tmp_path: Path) -> None:
    """A damaged file stops the start with the file's name and what to do."""
    file = tmp_path / "snapshot.json"
    file.write_text("{}")

    async def scene() -> None:
        async with start(snapshot=file):
            raise AssertionError("started")

    with pytest.raises(SandboxError, match=r"snapshot\.json is no snapshot of a cluster"):
        run(scene)


def test_several_servers_in_one_process(start: Start) -> None:
    """Two clusters share nothing: neither objects nor identity."""

    async def scene() -> None:
        async with start() as one, start() as two:
            await one("POST", MAPS, config_map("a"))
            assert (await two("GET", f"{MAPS}/a"))[0] == 404
            uids = [
                (await call("GET", "/api/v1/namespaces/kube-system"))[1]["metadata"]["uid"]
                for call in (one, two)
            ]
            assert uids[0] != uids[1]
            with pytest.raises(OSError, match="address already in use"):
                await _another(one.server).start()

    run(scene)


def _another(server: ApiServer) -> ApiServer:
    """A second server for the same address."""
    return ApiServer(
        name="again",
        host=server.host,
        port=server.port,
        certificate=server._certificate,
        private_key=server._private_key,
        ca_pem="",
        service_account_key=b"",
        tokens={},
    )


def test_no_one_hands_out_more_than_they_have(start: Start) -> None:
    """Who may write roles may put only rights of their own into them, and bind only such roles."""
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    rules = [
        {
            "apiGroups": ["rbac.authorization.k8s.io"],
            "resources": ["roles", "rolebindings"],
            "verbs": ["create"],
        },
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]},
    ]

    def role(name: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
        kind = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role"}
        return {**kind, "metadata": {"name": name}, "rules": rules}

    async def scene() -> None:
        async with start() as call:
            roles = f"{rbac}/namespaces/default/roles"
            assert (await call("POST", roles, role("keeper", rules)))[0] == 201
            subject = {"kind": "Group", "name": "developers", "apiGroup": "rbac.authorization.k8s.io"}
            reference = {"kind": "Role", "name": "keeper", "apiGroup": "rbac.authorization.k8s.io"}
            binding = {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": {"name": "keeper"},
                "roleRef": reference,
                "subjects": [subject],
            }
            bindings = f"{rbac}/namespaces/default/rolebindings"
            assert (await call("POST", bindings, binding))[0] == 201
            less = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]
            assert (await call("POST", roles, role("less", less), token=JOE))[0] == 201
            more = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]
            code, status = await call("POST", roles, role("more", more), token=JOE)
            assert code == 403
            assert status["message"] == (
                'roles.rbac.authorization.k8s.io "more" is forbidden: user "joe" '
                '(groups=["developers" "system:authenticated"]) is attempting to grant RBAC permissions not '
                'currently held:\n{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}'
            )
            admin = {**reference, "kind": "ClusterRole", "name": "cluster-admin"}
            worse = {**binding, "metadata": {"name": "worse"}, "roleRef": admin}
            assert (await call("POST", bindings, worse, token=JOE))[0] == 403

    run(scene)


def test_aggregating_roles_follow_what_they_gather(start: Start) -> None:
    """A ClusterRole labelled for `view` adds its rules to `view`, and takes them away when it goes."""
    roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
    rule = {"apiGroups": ["example.com"], "resources": ["boxes"], "verbs": ["get"]}
    labels = {"rbac.authorization.k8s.io/aggregate-to-view": "true"}
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "boxes", "labels": labels},
        "rules": [rule],
    }

    async def scene() -> None:
        async with start() as call:
            await call("POST", roles, role)
            for name in ("view", "edit", "admin"):
                assert rule in (await call("GET", f"{roles}/{name}"))[1]["rules"]
            await call("DELETE", f"{roles}/boxes")
            assert rule not in (await call("GET", f"{roles}/admin"))[1]["rules"]

    run(scene)


def test_the_webhook_is_asked_where_one_is_configured(start: Start) -> None:
    """A denial comes in the words of an admission webhook, and only while one is configured for it."""
    configurations = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
    rule = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "resources": ["configmaps"],
        "operations": ["CREATE"],
    }
    webhook = {
        "name": "maps.example.com",
        "rules": [rule],
        "clientConfig": {"url": "https://example.com"},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    configuration = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "w"},
        "webhooks": [webhook],
    }

    def answer(name: str, new: Any, old: Any, existing: list[Any]) -> str | None:
        return f"{len(existing)} are enough" if existing else None

    async def scene() -> None:
        async with start() as call:
            call.server.webhook = answer
            assert (await call("POST", MAPS, config_map("a")))[0] == 201
            assert (await call("POST", MAPS, config_map("b")))[0] == 201
            await call("POST", configurations, configuration)
            code, status = await call("POST", MAPS, config_map("c"))
            assert code == 400
            assert status["message"] == (
                'admission webhook "maps.example.com" denied the request: 2 are enough'
            )
            assert (await call("PUT", f"{MAPS}/a", config_map("a", x="1")))[0] == 200

    run(scene)


def test_without_credentials_only_health_and_version(start: Start) -> None:
    """No token is anonymous, who may see little; a bad one is no one."""

    async def scene() -> None:
        async with start() as call:
            assert (await call("GET", "/readyz", token="")) == (200, "ok")
            assert (await call("GET", "/version", token=""))[0] == 200
            code, status = await call("GET", "/api/v1/namespaces", token="")
            assert code == 403
            assert 'User "system:anonymous" cannot list resource "namespaces"' in status["message"]
            assert (await call("GET", "/readyz", token="bad"))[0] == 401

    run(scene)


def test_wrong_types_are_refused(start: Start) -> None:
    """What a typed API server could not decode is 400 with the field, never stored and never 500."""

    async def scene() -> None:
        async with start() as call:
            code, status = await call("POST", MAPS, {**config_map("a"), "data": {"n": 1}})
            assert code == 400
            assert (
                "cannot unmarshal number into Go struct field ConfigMap.data of type string"
                in status["message"]
            )
            for body in ([], "x", 1, {"metadata": []}, {"metadata": {"labels": []}}, {"kind": "Secret"}):
                assert (await call("POST", MAPS, body))[0] == 400, body

    run(scene)


def test_renewed_times_are_no_change(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Applying the same again later leaves the object as it was, defaults inside atomic lists or not."""
    labels = {"app": "a"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    claim_spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    body = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "a"},
        "spec": {
            "selector": {"matchLabels": labels},
            "serviceName": "a",
            "template": template,
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim_spec}],
        },
    }
    times = (f"2030-01-01T00:00:{second % 60:02}Z" for second in itertools.count())
    monkeypatch.setattr("consulfed_lib.sandbox.apiserver.apply.now", lambda: next(times))
    path = "/apis/apps/v1/namespaces/default/statefulsets/a?fieldManager=helm"
    patch = "application/apply-patch+yaml"

    async def scene() -> None:
        async with start() as call:
            times_before = await call("PATCH", path, body, Content_Type=patch)
            assert times_before[0] == 201
            assert await call("PATCH", path, body, Content_Type=patch) == (200, times_before[1])

    run(scene)

"""The client: errors in words, and watches that outlive the server that they watch."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path

import pytest
from small_cluster import NAMESPACE, SmallCluster

from consulfed_lib.sandbox.controllers.client import (
    ADDED,
    DELETED,
    MODIFIED,
    SYNCED,
    KubeClient,
    KubeError,
    Object,
)
from consulfed_lib.sandbox.controllers.informer import Informer


def config_map(name: str, value: str = "1") -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": value}}


async def take(events: AsyncGenerator[tuple[str, Object], None], count: int) -> list[tuple[str, str]]:
    async with asyncio.timeout(10):
        found = [await anext(events) for _ in range(count)]
    return [(kind, item["metadata"]["name"] if item else "") for kind, item in found]


async def take_all(events: AsyncGenerator[tuple[str, Object], None], wanted: set[tuple[str, str]]) -> None:
    """Take events until all of these have come, and nothing else but the end of a list."""
    while wanted:
        (event,) = await take(events, 1)
        assert event in wanted | {(SYNCED, "")}
        wanted = wanted - {event}


@contextlib.asynccontextmanager
async def server_only(folder: Path) -> AsyncIterator[SmallCluster]:
    cluster = SmallCluster(folder, 1)
    await cluster.server.start()
    try:
        yield cluster
    finally:
        await cluster.stop_all()


def test_errors_carry_the_servers_words(tmp_path: Path) -> None:
    """A refusal has status, reason and message; no answer at all is status 0; `find` turns 404 into None."""

    async def main() -> None:
        async with server_only(tmp_path) as cluster:
            client = cluster.client
            assert await client.find("v1", "configmaps", "x", NAMESPACE) is None
            with pytest.raises(KubeError) as missing:
                await client.get("v1", "configmaps", "x", NAMESPACE)
            assert (missing.value.status, missing.value.reason) == (404, "NotFound")
            assert missing.value.message == 'configmaps "x" not found'
            made = await client.create("v1", "configmaps", config_map("x"), NAMESPACE)
            with pytest.raises(KubeError, match="already exists"):
                await client.create("v1", "configmaps", config_map("x"), NAMESPACE)
            made["metadata"]["resourceVersion"] = "1"
            with pytest.raises(KubeError) as stale:
                await client.replace("v1", "configmaps", "x", made, NAMESPACE)
            assert (stale.value.status, stale.value.reason) == (409, "Conflict")
            await client.delete("v1", "configmaps", "x", NAMESPACE, uid="another")
            assert await client.find("v1", "configmaps", "x", NAMESPACE)
            applied = await client.apply("v1", "configmaps", "x", config_map("x", "2"), NAMESPACE)
            assert applied["data"] == {"value": "2"}
            stranger = KubeClient(cluster.layout.api_url, cluster.keys.ca_pem, "wrong", "stranger")
            async with stranger:
                with pytest.raises(KubeError) as unknown:
                    await anext(stranger.watch("v1", "configmaps"))
                assert unknown.value.status == 401
            await cluster.server.stop()
            with pytest.raises(KubeError) as away:
                await client.get("v1", "configmaps", "x", NAMESPACE)
            assert (away.value.status, away.value.reason) == (0, "ConnectionError")

    asyncio.run(main())


def test_watch_survives_the_server_and_tells_what_changed_meanwhile(tmp_path: Path) -> None:
    """After a restart the difference is told, deletions included; with all objects lost, each is DELETED."""

    async def main() -> None:
        async with server_only(tmp_path) as cluster:
            client = cluster.client
            for name in ("a", "b"):
                await client.create("v1", "configmaps", config_map(name), NAMESPACE)
            events = client.watch("v1", "configmaps", NAMESPACE, marks=True)
            assert await take(events, 3) == [(ADDED, "a"), (ADDED, "b"), (SYNCED, "")]
            await client.merge_patch("v1", "configmaps", "a", {"data": {"value": "2"}}, NAMESPACE)
            await client.delete("v1", "configmaps", "b", NAMESPACE)
            assert await take(events, 2) == [(MODIFIED, "a"), (DELETED, "b")]
            await cluster.restart_server(keep=True)
            other = cluster.new_client("other")
            await other.create("v1", "configmaps", config_map("c"), NAMESPACE)
            await other.merge_patch("v1", "configmaps", "a", {"data": {"value": "3"}}, NAMESPACE)
            await take_all(events, {(MODIFIED, "a"), (ADDED, "c")})
            await cluster.restart_server(keep=False)
            await take_all(events, {(DELETED, "a"), (DELETED, "c")})
            await events.aclose()
            await other.close()

    asyncio.run(main())


def test_watch_goes_on_when_its_history_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """410 Gone leads to a new list and to the difference, not to an end."""

    async def main() -> None:
        async with server_only(tmp_path) as cluster:
            client = cluster.client
            await client.create("v1", "configmaps", config_map("a"), NAMESPACE)
            watched: list[str] = []
            real = KubeClient.events

            async def forgetful(
                self: KubeClient, path: str, query: dict[str, str], version: str
            ) -> AsyncGenerator[tuple[str, Object], None]:
                watched.append(version)
                if len(watched) == 1:
                    await client.delete("v1", "configmaps", "a", NAMESPACE)
                    raise KubeError(410, "Expired", "too old resource version")
                async for event in real(self, path, query, version):
                    yield event

            monkeypatch.setattr(KubeClient, "events", forgetful)
            events = client.watch("v1", "configmaps", NAMESPACE)
            assert await take(events, 2) == [(ADDED, "a"), (DELETED, "a")]
            await events.aclose()

    asyncio.run(main())


def test_watch_of_a_kind_to_come(tmp_path: Path) -> None:
    """A custom resource can be watched before its definition is there."""
    names = {"plural": "things", "singular": "thing", "kind": "Thing"}
    version = {
        "name": "v1", "served": True, "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
    }  # fmt: skip
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {"group": "example.com", "names": names, "scope": "Namespaced", "versions": [version]},
    }

    async def main() -> None:
        async with server_only(tmp_path) as cluster:
            client = cluster.client
            events = client.watch("example.com/v1", "things", marks=True)
            assert await take(events, 1) == [(SYNCED, "")]
            await client.create("apiextensions.k8s.io/v1", "customresourcedefinitions", definition)
            thing = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "one"}}
            async with asyncio.timeout(10):
                while await client.find("example.com/v1", "things", "one", NAMESPACE) is None:
                    try:
                        await client.create("example.com/v1", "things", thing, NAMESPACE)
                    except KubeError as error:
                        if error.status != 404:
                            raise
            assert (ADDED, "one") in await take(events, 2)
            await events.aclose()

    asyncio.run(main())


def item_of(uid: str, version: int, name: str = "a") -> Object:
    return {"metadata": {"name": name, "uid": uid, "resourceVersion": str(version)}}


def test_informer_is_never_set_back_by_late_news() -> None:
    """What this process wrote itself stays, although the watch tells older things about it afterwards."""
    told: list[tuple[str, str]] = []
    informer = Informer(None, "v1", "things")  # type: ignore[arg-type]
    informer.subscribe(lambda kind, item, before: told.append((kind, item["metadata"]["resourceVersion"])))
    informer.observe(item_of("u1", 5))
    informer.observe(item_of("u1", 4))
    informer.observe(item_of("u1", 5))
    informer.observe(item_of("u1", 6))
    informer.forget(item_of("u1", 7))
    informer.observe(item_of("u1", 6))
    informer.observe(item_of("u2", 8))
    assert told == [(ADDED, "5"), (MODIFIED, "6"), (DELETED, "7"), (ADDED, "8")]

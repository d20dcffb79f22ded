"""The names of a sandbox: who has which, what the hosts file says, and that a real Consul resolves from it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from consulfed_lib.errors import ToolError
from consulfed_lib.sandbox import nss_wrapper, tools
from consulfed_lib.sandbox.layout import ClusterLayout
from consulfed_lib.sandbox.names import Names, is_name
from consulfed_lib.sandbox.node import resolver
from consulfed_lib.sandbox.node.resolver import ResolverError, environment, hosts_of_pod, names_among
from consulfed_lib.sandbox.node.workload import Container, Dns

FIRST, SECOND = ("dc1", "consul", "gateway"), ("dc2", "consul", "gateway")


def test_name_belongs_to_the_first_who_publishes_it(tmp_path: Path) -> None:
    """A second owner is told, gets the name when the first gives it up, and never takes a node's name."""
    names = Names(tmp_path / "hosts", {"node1": "127.0.0.2"})
    assert names.publish(FIRST, {"GW.test.": ["127.0.0.3", "127.0.0.4"]}) == []
    assert names.publish(SECOND, {"gw.test": ["127.0.0.5"], "node1": ["127.0.0.5"]}) == ["gw.test", "node1"]
    assert names.addresses("gw.TEST") == ("127.0.0.3", "127.0.0.4")
    names.publish(FIRST, {"gw.test": []})
    assert names.addresses("gw.test") == ("127.0.0.5",)
    assert names.addresses("node1") == ("127.0.0.2",)
    assert names.addresses("other.test") == ()


def test_hosts_file_follows_every_change(tmp_path: Path) -> None:
    """The file has a line for each address, is written whole, and subscribers hear of it afterwards."""
    hosts = tmp_path / "hosts"
    names = Names(hosts, {"node1": "127.0.0.2"})
    assert hosts.read_text() == "127.0.0.2 node1\n"
    heard: list[str] = []
    forget = names.subscribe(lambda: heard.append(hosts.read_text()))
    names.publish(FIRST, {"gw.test": ["127.0.0.3", "127.0.0.4"]})
    names.publish(FIRST, {"gw.test": ["127.0.0.3", "127.0.0.4"]})
    assert heard == ["127.0.0.2 node1\n127.0.0.3 gw.test\n127.0.0.4 gw.test\n"]
    forget()
    names.publish(FIRST, {})
    assert hosts.read_text() == "127.0.0.2 node1\n"
    assert len(heard) == 1


@pytest.mark.parametrize("text", ["*.example.com", "a b", "x\n127.0.0.1 y", "gw.example.com:443", "", "a..b"])
def test_what_is_no_name_is_not_published(text: str) -> None:
    """Nothing but a plain DNS name may come into the file."""
    assert not is_name(text)


def container(folder: Path, dns: Dns | None = None) -> Container:
    more: dict[str, Any] = {"dns": dns} if dns else {}
    return Container(
        cluster=ClusterLayout(folder, 96, 1, 1),
        client=cast(Any, None),
        token="",
        pod={"metadata": {"name": "pod", "namespace": "consul"}, "spec": {"containers": [{}]}},
        address="127.0.0.1",
        env={},
        files={},
        arguments=[],
        folder=folder,
        data=folder,
        log=lambda line: None,
        tools={"consul": tools.ensure("consul")["consul"].path},
        **more,
    )


@pytest.fixture(scope="module")
def library() -> Path:
    return tools.ensure("nss_wrapper")["nss_wrapper"].path


def test_library_is_tried_before_it_counts(tmp_path: Path, library: Path) -> None:
    """A library that works is one that makes a name resolve; any other file is none."""
    assert nss_wrapper.works(library)
    other = tmp_path / "a folder" / "libnss_wrapper.so"
    other.parent.mkdir()
    other.write_bytes(b"\x7fELF")
    assert not nss_wrapper.works(other)
    other.write_bytes(library.read_bytes())
    assert nss_wrapper.works(other), "a folder with a space in its name"


RESOLVE = """
import socket, sys
for line in sys.stdin:
    try:
        print(*sorted({one[4][0] for one in socket.getaddrinfo(line.strip(), 1)}), flush=True)
    except OSError:
        print("none", flush=True)
"""


def test_running_process_sees_every_change_of_the_file(tmp_path: Path, library: Path) -> None:
    """The library reads the file again once it was replaced: a name comes, moves, and goes."""
    names = Names(tmp_path / "hosts")
    env = nss_wrapper.preload(library, tmp_path / "hosts")
    process = subprocess.Popen(
        [sys.executable, "-c", RESOLVE], env={**os.environ, **env},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    def ask() -> str:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("gw.test\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    try:
        assert ask() == "none"
        for addresses in (["127.0.0.3"], ["127.0.0.4"], ["127.0.0.4", "127.0.0.5"]):
            names.publish(FIRST, {"gw.test": addresses})
            assert ask() == " ".join(addresses)
        names.publish(FIRST, {})
        assert ask() == "none"
    finally:
        process.communicate()


def test_consul_resolves_what_the_sandbox_knows_and_nothing_else(tmp_path: Path) -> None:
    """The real CLI dials the address of a published name; an unknown name is no such host."""
    names = Names(tmp_path / "hosts", {"gw.test": "127.0.0.3"})
    given = container(tmp_path)

    def said(host: str) -> str:
        env = asyncio.run(environment(given, [host], names.hosts_file))
        command = [given.tools["consul"], "members", f"-http-addr=http://{host}:1"]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False).stderr

    assert "dial tcp 127.0.0.3:1: connect: connection refused" in said("gw.test")
    assert "lookup none.test: no such host" in said("none.test")


def test_process_without_names_needs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no name is dialled, nss_wrapper is not even looked for."""
    monkeypatch.setattr(tools, "ensure", _refuse)
    given = container_without_tools(tmp_path)
    assert asyncio.run(environment(given, names_among(["127.0.0.1", "localhost"]), None)) == {}


def container_without_tools(folder: Path) -> Container:
    return Container(
        cluster=ClusterLayout(folder, 96, 1, 1), client=cast(Any, None), token="",
        pod={"metadata": {"name": "pod", "namespace": "consul"}, "spec": {"containers": [{}]}},
        address="127.0.0.1", env={}, files={}, arguments=[], folder=folder, data=folder,
        log=lambda line: None, tools={"consul": Path("/bin/true")},
    )  # fmt: skip


def _refuse(*names: str, report: Callable[[str], None]) -> Any:
    raise ToolError(f"{names[0]} could not be found or fetched.", "install it.")


def test_name_without_the_library_is_said_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the name, and how to get what is missing."""
    monkeypatch.setattr(tools, "ensure", _refuse)
    with pytest.raises(ResolverError, match=r"dials gw\.test.*cannot resolve a name(?s:.*)install it"):
        asyncio.run(environment(container_without_tools(tmp_path), ["gw.test"], tmp_path / "hosts"))


def test_consul_that_resolves_by_itself_is_found_out(tmp_path: Path, library: Path) -> None:
    """A static Consul would ask the network's name servers: better told than left to a time-out."""
    resolver._capable.clear()
    with pytest.raises(ResolverError, match="/bin/true does not ask the C library"):
        asyncio.run(environment(container_without_tools(tmp_path), ["gw.test"], tmp_path / "hosts"))


def test_pod_resolves_as_its_cluster_does(tmp_path: Path) -> None:
    """A process in a pod knows the cluster's own names too, each by all of its addresses."""

    class Two(Dns):
        async def resolve(self, host: str) -> list[str]:
            return ["127.0.0.3", "127.0.0.4"] if host == "consul-server.consul.svc" else []

    hosts = asyncio.run(hosts_of_pod(container(tmp_path, Two()), ["consul-server.consul.svc", "none.test"]))
    assert hosts.read_text() == "127.0.0.3 consul-server.consul.svc\n127.0.0.4 consul-server.consul.svc\n"

"""Services, the scheduler and namespaces."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from small_cluster import NAMESPACE, Scripted, SmallCluster, is_ready, pod, small_cluster

from consulfed_lib.sandbox.controllers.client import Object


class Echo(Scripted):
    """Answers each connection to its port 9000 with its pod's name."""

    server: asyncio.Server

    async def start(self) -> None:
        await super().start()
        self.server = await asyncio.start_server(self._answer, self.container.address, 9000)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(100) + b" " + self.container.name.encode())
        await writer.drain()
        writer.close()

    async def stop(self) -> None:
        self.server.close()
        await super().stop()


def service(name: str, kind: str, port: int = 8000, **spec: object) -> Object:
    ports = [{"name": "main", "port": port, "targetPort": "main"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"type": kind, "selector": {"app": name}, "ports": ports, **spec},
    }


PORTS = {"ports": [{"name": "main", "containerPort": 9000}]}


async def ask(address: str, port: int) -> bytes:
    reader, writer = await asyncio.open_connection(address, port)
    try:
        writer.write(b"hello")
        writer.write_eof()
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def ingress(item: Object) -> list[str]:
    return [one["ip"] for one in item.get("status", {}).get("loadBalancer", {}).get("ingress") or []]


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("small_cluster.Scripted", Echo)


@pytest.mark.usefixtures("echo")
def test_load_balancer_leads_to_ready_pods_only(tmp_path: Path) -> None:
    """The address is the Service's own, each ready pod gets its turn, one that is not ready gets nothing."""

    async def main() -> None:
        async with small_cluster(tmp_path) as cluster:
            for name in ("web-a", "web-b"):
                item = pod(name, labels={"app": "web"}, container=PORTS)
                await cluster.client.create("v1", "pods", item, NAMESPACE)
            await cluster.client.create("v1", "services", service("web", "LoadBalancer"), NAMESPACE)
            for name in ("web-a", "web-b"):
                await cluster.until("v1", "pods", name, is_ready)
            item = await cluster.until("v1", "services", "web", ingress)
            address = ingress(item)[0]
            assert address in cluster.layout.load_balancer_addresses
            await cluster.until("v1", "endpoints", "web", lambda one: _addresses(one, "addresses") == 2)
            answers = {await ask(address, 8000) for _ in range(4)}
            assert answers == {b"hello web-a", b"hello web-b"}
            node = next(iter(cluster.layout.node_addresses.values()))
            assert (await ask(node, item["spec"]["ports"][0]["nodePort"])).startswith(b"hello web-")
            Scripted.made["web-a"][0].is_ready = False
            await cluster.until(
                "v1", "endpoints", "web", lambda one: _addresses(one, "notReadyAddresses") == 1
            )
            assert {await ask(address, 8000) for _ in range(4)} == {b"hello web-b"}
            slices = await cluster.client.list(
                "discovery.k8s.io/v1",
                "endpointslices",
                NAMESPACE,
                label_selector="kubernetes.io/service-name=web",
            )
            ready = {one["targetRef"]["name"]: one["conditions"]["ready"] for one in slices[0]["endpoints"]}
            assert ready == {"web-a": False, "web-b": True}
            assert slices[0]["ports"] == [{"name": "main", "port": 9000, "protocol": "TCP"}]
            # Without a ready pod a connection is closed, and with the Service it is refused.
            Scripted.made["web-b"][0].is_ready = False
            await cluster.until(
                "v1", "endpoints", "web", lambda one: _addresses(one, "notReadyAddresses") == 2
            )
            assert await ask(address, 8000) == b""
            await cluster.client.delete("v1", "services", "web", NAMESPACE)
            await cluster.until_gone("v1", "endpoints", "web")
            await _until_refused(address, 8000)

    asyncio.run(main())


async def _until_refused(address: str, port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                await ask(address, port)
            except ConnectionRefusedError:
                return


def _addresses(item: Object, kind: str) -> int:
    return sum(len(subset.get(kind) or []) for subset in item.get("subsets") or [])


def test_port_that_is_taken_leaves_the_address_pending(tmp_path: Path) -> None:
    """A load balancer without its port has no address, an Event says why, and it gets one once it can."""

    async def main() -> None:
        async with small_cluster(tmp_path) as cluster:
            address = cluster.layout.load_balancer_addresses[0]
            with socket.create_server((address, 8000)):
                await cluster.client.create("v1", "services", service("web", "LoadBalancer"), NAMESPACE)
                message = await cluster.until_event("SyncLoadBalancerFailed", "web")
                assert f"{address}:8000" in message
                assert "in use" in message
                item = await cluster.client.get("v1", "services", "web", NAMESPACE)
                assert ingress(item) == []
            # Something about the Service changes, which is a reason to look again at once.
            change = {"metadata": {"annotations": {"look": "again"}}}
            await cluster.client.merge_patch("v1", "services", "web", change, NAMESPACE)
            item = await cluster.until("v1", "services", "web", ingress)
            assert ingress(item) == [address]

    asyncio.run(main())


def test_service_that_is_no_load_balancer_any_more_loses_its_address(tmp_path: Path) -> None:
    """The address is given back when the type changes, and the next Service gets it."""

    async def main() -> None:
        async with small_cluster(tmp_path) as cluster:
            await cluster.client.create("v1", "services", service("one", "LoadBalancer"), NAMESPACE)
            item = await cluster.until("v1", "services", "one", ingress)
            change = {"spec": {"type": "ClusterIP"}}
            await cluster.client.merge_patch("v1", "services", "one", change, NAMESPACE)
            await cluster.until("v1", "services", "one", lambda one: not ingress(one))
            await cluster.client.create("v1", "services", service("two", "LoadBalancer"), NAMESPACE)
            assert ingress(await cluster.until("v1", "services", "two", ingress)) == ingress(item)

    asyncio.run(main())


def test_load_balancer_with_a_hostname_resolves_as_long_as_it_is_there(tmp_path: Path) -> None:
    """As on EKS the status has a name and no address; the name is known before it is told, and goes with it."""

    async def main() -> None:
        async with small_cluster(tmp_path, load_balancer="hostname") as cluster:
            await cluster.client.create("v1", "services", service("web", "LoadBalancer"), NAMESPACE)
            item = await cluster.until("v1", "services", "web", lambda one: one["status"].get("loadBalancer"))
            (told,) = item["status"]["loadBalancer"]["ingress"]
            assert told.keys() == {"hostname"}
            (address,) = cluster.names.addresses(told["hostname"])
            assert address in cluster.layout.load_balancer_addresses
            assert f"{address} {told['hostname']}\n" in (tmp_path / "hosts").read_text()
            assert await ask(address, 8000) == b""
            # Controllers that start anew keep what was told.
            await cluster.stop("controllers")
            cluster.start_controllers()
            await cluster.client.create("v1", "services", service("api", "LoadBalancer"), NAMESPACE)
            other = await cluster.until(
                "v1", "services", "api", lambda one: one["status"].get("loadBalancer")
            )
            assert other["status"]["loadBalancer"]["ingress"] != [told]
            assert cluster.names.addresses(told["hostname"]) == (address,)
            await cluster.client.delete("v1", "services", "web", NAMESPACE)
            await _until_refused(address, 8000)
            assert cluster.names.addresses(told["hostname"]) == ()

    asyncio.run(main())


def test_external_dns_publishes_the_names_of_an_annotation(tmp_path: Path) -> None:
    """A name points at the load balancer, or at the nodes; one that is taken or none at all is told in an Event."""

    async def main() -> None:
        async with small_cluster(tmp_path, nodes=2) as cluster:
            for name, kind, asked in (
                ("balanced", "LoadBalancer", "gw.example.test, GW2.example.test"),
                ("noded", "NodePort", "nodes.example.test,gw.example.test"),
                ("inner", "ClusterIP", "inner.example.test"),
                ("wild", "NodePort", "*.example.test"),
            ):
                item = service(name, kind)
                item["metadata"]["annotations"] = {"external-dns.alpha.kubernetes.io/hostname": asked}
                await cluster.client.create("v1", "services", item, NAMESPACE)
                if name == "balanced":
                    address = ingress(await cluster.until("v1", "services", name, ingress))
            assert "'*.example.test' is not a DNS name" in await cluster.until_event("NotPublished", "wild")
            assert "gw.example.test belongs to another" in await cluster.until_event("NotPublished", "noded")
            lookup = cluster.names.addresses
            assert lookup("gw.example.test") == lookup("gw2.example.test") == tuple(address)
            assert lookup("nodes.example.test") == tuple(cluster.layout.node_addresses.values())
            assert lookup("inner.example.test") == ()

    asyncio.run(main())


def apart() -> Object:
    term = {"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "kubernetes.io/hostname"}
    return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


async def _scheduling_refused(cluster: SmallCluster, name: str) -> str:
    def refused(item: Object) -> Object | None:
        conditions = item.get("status", {}).get("conditions") or []
        found = [one for one in conditions if one["type"] == "PodScheduled" and one["status"] == "False"]
        return found[0] if found else None

    item = await cluster.until("v1", "pods", name, refused)
    condition = refused(item)
    assert condition is not None
    assert (item["status"]["phase"], condition["reason"]) == ("Pending", "Unschedulable")
    return str(condition["message"])


def test_pod_that_fits_nowhere_says_why_and_is_placed_when_it_does(tmp_path: Path) -> None:
    """Required anti-affinity keeps two pods off one node until the first one is gone."""

    async def main() -> None:
        async with small_cluster(tmp_path) as cluster:
            item = pod("web-a", labels={"app": "web"}, affinity=apart())
            await cluster.client.create("v1", "pods", item, NAMESPACE)
            await cluster.until("v1", "pods", "web-a", is_ready)
            item = pod("web-b", labels={"app": "web"}, affinity=apart())
            await cluster.client.create("v1", "pods", item, NAMESPACE)
            message = await _scheduling_refused(cluster, "web-b")
            assert message == (
                "0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules. "
                "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
            )
            assert await cluster.until_event("FailedScheduling", "web-b") == message
            # The rule of a pod that is there keeps others off as well.
            await cluster.client.create("v1", "pods", pod("web-c", labels={"app": "web"}), NAMESPACE)
            assert "existing pods anti-affinity" in await _scheduling_refused(cluster, "web-c")
            await cluster.client.delete("v1", "pods", "web-c", NAMESPACE)
            await cluster.until_gone("v1", "pods", "web-c")
            await cluster.client.delete("v1", "pods", "web-a", NAMESPACE)
            await cluster.until("v1", "pods", "web-b", is_ready)

    asyncio.run(main())


def test_pods_are_spread_and_selectors_honoured(tmp_path: Path) -> None:
    """Three pods that must be apart take three nodes; a selector that no node has, and a lost claim, are named."""

    async def main() -> None:
        async with small_cluster(tmp_path, nodes=3) as cluster:
            for number in range(3):
                item = pod(f"web-{number}", labels={"app": "web"}, affinity=apart())
                await cluster.client.create("v1", "pods", item, NAMESPACE)
            pods = [await cluster.until("v1", "pods", f"web-{number}", is_ready) for number in range(3)]
            assert len({one["spec"]["nodeName"] for one in pods}) == 3
            await cluster.client.create("v1", "pods", pod("lost", nodeSelector={"disk": "ssd"}), NAMESPACE)
            assert "3 node(s) didn't match Pod's node affinity/selector" in await _scheduling_refused(
                cluster, "lost"
            )
            volume = {"name": "data", "persistentVolumeClaim": {"claimName": "nothing"}}
            await cluster.client.create("v1", "pods", pod("empty", volumes=[volume]), NAMESPACE)
            assert 'persistentvolumeclaim "nothing" not found' in await _scheduling_refused(cluster, "empty")

    asyncio.run(main())


def test_namespace_takes_everything_with_it(tmp_path: Path) -> None:
    """A namespace has its service account and root CA at once, and is gone only when its contents are."""

    async def main() -> None:
        async with small_cluster(tmp_path) as cluster:
            item = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "short"}}
            await cluster.client.create("v1", "namespaces", item)
            await cluster.until("v1", "serviceaccounts", "default", lambda one: True, "short")
            root = await cluster.until("v1", "configmaps", "kube-root-ca.crt", lambda one: True, "short")
            assert root["data"]["ca.crt"] == cluster.keys.ca_pem
            await cluster.client.create("v1", "pods", pod("web"), "short")
            await cluster.until("v1", "pods", "web", is_ready, "short")
            held = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "held", "finalizers": ["test/held"]},
            }
            await cluster.client.create("v1", "configmaps", held, "short")
            await cluster.client.delete("v1", "namespaces", "short")
            await cluster.until_gone("v1", "pods", "web", "short")
            assert Scripted.made["web"][0].stopped
            # Namespaces are dealt with one after the other: when this one is gone, the first has had its turn.
            item = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shorter"}}
            await cluster.client.create("v1", "namespaces", item)
            await cluster.client.delete("v1", "namespaces", "shorter")
            await cluster.until_gone("v1", "namespaces", "shorter", "")
            assert (await cluster.client.get("v1", "namespaces", "short"))["status"]["phase"] == "Terminating"
            change = {"metadata": {"finalizers": None}}
            await cluster.client.merge_patch("v1", "configmaps", "held", change, "short")
            await cluster.until_gone("v1", "namespaces", "short", "")

    asyncio.run(main())


@pytest.mark.usefixtures("echo")
def test_host_port_leads_to_its_pod_and_is_given_once_a_node(tmp_path: Path) -> None:
    """The node's address answers for the pod; a second pod that wants the port waits until the first is gone."""
    ports = {"ports": [{"name": "main", "containerPort": 9000, "hostPort": 9443}]}

    async def main() -> None:
        async with small_cluster(tmp_path) as cluster:
            (node,) = cluster.layout.node_addresses.values()
            await cluster.client.create("v1", "pods", pod("one", container=ports), NAMESPACE)
            await cluster.until("v1", "pods", "one", is_ready)
            assert await ask(node, 9443) == b"hello one"
            await cluster.client.create("v1", "pods", pod("two", container=ports), NAMESPACE)
            refused = await _scheduling_refused(cluster, "two")
            assert "1 node(s) didn't have free ports for the requested pod ports" in refused
            shared = {"ports": [{"containerPort": 9443}]}
            item = pod("three", container=shared, hostNetwork=True)
            await cluster.client.create("v1", "pods", item, NAMESPACE)
            assert "free ports" in await _scheduling_refused(cluster, "three")
            await cluster.client.delete("v1", "pods", "three", NAMESPACE)
            await cluster.client.delete("v1", "pods", "one", NAMESPACE)
            await cluster.until("v1", "pods", "two", is_ready)
            assert await ask(node, 9443) == b"hello two"
            await cluster.client.delete("v1", "pods", "two", NAMESPACE)
            await cluster.until_gone("v1", "pods", "two")
            await _until_refused(node, 9443)

    asyncio.run(main())

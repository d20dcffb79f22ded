"""StatefulSets, Deployments, DaemonSets and Jobs: what they make, in which order, and what they report."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from small_cluster import NAMESPACE, Scripted, SmallCluster, is_ready, pod_spec, small_cluster, workload

from consulfed_lib.sandbox.controllers import jobs
from consulfed_lib.sandbox.controllers.client import ADDED, DELETED, SYNCED, Object
from consulfed_lib.sandbox.node.workload import Container

APPS = "apps/v1"


class PodWatch:
    """What happens to the pods, in the order in which the API server tells it."""

    def __init__(self, cluster: SmallCluster):
        self._cluster = cluster
        self.history: list[tuple[str, str]] = []
        self.pods: dict[str, Object] = {}

    async def follow(self) -> None:
        async for kind, item in self._cluster.client.watch("v1", "pods", NAMESPACE, marks=True):
            if kind == SYNCED:
                continue
            name = item["metadata"]["name"]
            before = self.pods.get(name)
            if kind == DELETED:
                del self.pods[name]
                self.history.append(("gone", name))
                continue
            self.pods[name] = item
            if kind == ADDED:
                self.history.append(("made", name))
            if is_ready(item) and not (before and is_ready(before)):
                self.history.append(("ready", name))


def rolled_out(item: Object) -> bool:
    status, spec = item.get("status") or {}, item["spec"]
    return (
        status.get("observedGeneration") == item["metadata"]["generation"]
        and status.get("updatedReplicas") == status.get("replicas") == spec["replicas"]
        and status.get("readyReplicas") == spec["replicas"]
        and status.get("currentRevision") == status.get("updateRevision")
    )


def change_template(value: str) -> Object:
    return {"spec": {"template": {"metadata": {"annotations": {"value": value}}}}}


def test_stateful_set_rolls_from_the_highest_number_and_stops_at_the_partition(tmp_path: Path) -> None:
    """One pod at a time, each ready before the next goes; pods below the partition stay as they are."""

    async def main() -> None:
        async with small_cluster(tmp_path) as cluster:
            item = workload(
                "StatefulSet", "web", replicas=3, serviceName="web", podManagementPolicy="Parallel"
            )
            await cluster.client.create(APPS, "statefulsets", item, NAMESPACE)
            before = await cluster.until(APPS, "statefulsets", "web", rolled_out)
            watch = PodWatch(cluster)
            following = asyncio.create_task(watch.follow())
            change = change_template("2")
            change["spec"]["updateStrategy"] = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
            await cluster.client.merge_patch(APPS, "statefulsets", "web", change, NAMESPACE)
            after = await cluster.until(
                APPS,
                "statefulsets",
                "web",
                lambda one: one["status"].get("updatedReplicas") == 2 and one["status"]["readyReplicas"] == 3,
            )
            assert after["status"]["currentRevision"] == before["status"]["currentRevision"]
            assert after["status"]["updateRevision"] != before["status"]["updateRevision"]
            assert after["status"]["currentReplicas"] == 1
            steps = [step for step in watch.history if step[0] != "ready" or step[1] != "web-0"][-6:]
            assert steps == [
                ("gone", "web-2"), ("made", "web-2"), ("ready", "web-2"),
                ("gone", "web-1"), ("made", "web-1"), ("ready", "web-1"),
            ]  # fmt: skip
            assert ("gone", "web-0") not in watch.history
            # A pod below the partition that has to be made anew is made from the old revision.
            old = before["status"]["currentRevision"]
            await cluster.client.delete("v1", "pods", "web-0", NAMESPACE)
            uid = watch.pods["web-0"]["metadata"]["uid"]
            again = await cluster.until("v1", "pods", "web-0", lambda one: one["metadata"]["uid"] != uid)
            assert again["metadata"]["labels"]["controller-revision-hash"] == old
            # Without the partition the rest follows, and the revision is the current one.
            change = {"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}}
            await cluster.client.merge_patch(APPS, "statefulsets", "web", change, NAMESPACE)
            done = await cluster.until(APPS, "statefulsets", "web", rolled_out)
            assert done["status"]["currentRevision"] == after["status"]["updateRevision"]
            following.cancel()

    asyncio.run(main())


def test_ordered_stateful_set_waits_for_each_pod(tmp_path: Path) -> None:
    """With OrderedReady the next pod is made only when the one before is ready; scaling down goes backwards."""

    async def main() -> None:
        async with small_cluster(tmp_path) as cluster:
            Scripted.ready_at_once = False
            item = workload("StatefulSet", "web", replicas=2, serviceName="web")
            await cluster.client.create(APPS, "statefulsets", item, NAMESPACE)
            await cluster.until("v1", "pods", "web-0", lambda one: one["status"].get("phase") == "Running")
            assert await cluster.client.find("v1", "pods", "web-1", NAMESPACE) is None
            Scripted.ready_at_once = True
            Scripted.made["web-0"][0].is_ready = True
            await cluster.until(APPS, "statefulsets", "web", rolled_out)
            await cluster.client.merge_patch(
                APPS, "statefulsets", "web", {"spec": {"replicas": 1}}, NAMESPACE
            )
            await cluster.until_gone("v1", "pods", "web-1")
            await cluster.until(APPS, "statefulsets", "web", rolled_out)

    asyncio.run(main())


def test_stateful_set_pod_keeps_its_claim_and_its_data(tmp_path: Path) -> None:
    """A replaced pod finds what the one before it left; the data goes with the claim, not with the pod."""

    async def main() -> None:
        async with small_cluster(tmp_path) as cluster:
            spec = pod_spec(container={"volumeMounts": [{"name": "data", "mountPath": "/data"}]})
            template = {
                "metadata": {"name": "data"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            }
            item = workload(
                "StatefulSet", "web", replicas=1, serviceName="web", pod=spec, volumeClaimTemplates=[template]
            )
            await cluster.client.create(APPS, "statefulsets", item, NAMESPACE)
            pod = await cluster.until("v1", "pods", "web-0", is_ready)
            claim = await cluster.client.get("v1", "persistentvolumeclaims", "data-web-0", NAMESPACE)
            assert claim["status"]["phase"] == "Bound"
            data = Scripted.made["web-0"][0].container.data
            (data / "left").write_text("behind")
            await cluster.client.delete("v1", "pods", "web-0", NAMESPACE)
            uid = pod["metadata"]["uid"]
            again = await cluster.until(
                "v1", "pods", "web-0", lambda one: is_ready(one) and one["metadata"]["uid"] != uid
            )
            assert (Scripted.made["web-0"][1].container.data / "left").read_text() == "behind"
            assert again["status"]["podIP"] == pod["status"]["podIP"]
            await cluster.client.delete(APPS, "statefulsets", "web", NAMESPACE, propagation="Foreground")
            await cluster.until_gone("v1", "pods", "web-0")
            assert (data / "left").exists()
            await cluster.client.delete("v1", "persistentvolumeclaims", "data-web-0", NAMESPACE)
            volume = claim["spec"]["volumeName"]
            await cluster.until_gone("v1", "persistentvolumes", volume, "")
            await cluster.until_gone("v1", "persistentvolumeclaims", "data-web-0")
            assert not data.exists()

    asyncio.run(main())


def available(item: Object) -> bool:
    status, wanted = item.get("status") or {}, item["spec"]["replicas"]
    progressing = [one for one in status.get("conditions") or [] if one["type"] == "Progressing"]
    return (
        status.get("observedGeneration") == item["metadata"]["generation"]
        and status.get("updatedReplicas")
        == status.get("replicas")
        == status.get("availableReplicas")
        == wanted
        and progressing[0]["reason"] == "NewReplicaSetAvailable"
    )


def test_deployment_rolls_without_losing_availability_and_rolls_back(tmp_path: Path) -> None:
    """New pods come before old ones go; the old ReplicaSet stays for a rollback and becomes the newest."""

    async def main() -> None:
        async with small_cluster(tmp_path) as cluster:
            item = workload("Deployment", "web", replicas=2)
            await cluster.client.create(APPS, "deployments", item, NAMESPACE)
            first = await cluster.until(APPS, "deployments", "web", available)
            watch = PodWatch(cluster)
            following = asyncio.create_task(watch.follow())
            await cluster.client.merge_patch(APPS, "deployments", "web", change_template("2"), NAMESPACE)
            await cluster.until(APPS, "deployments", "web", available)
            steps = [kind for kind, _ in watch.history]
            ready = 0
            for number, kind in enumerate(steps):
                ready += {"ready": 1, "gone": -1}.get(kind, 0)
                assert number < 3 or ready >= 2, watch.history
            sets = await cluster.client.list(APPS, "replicasets", NAMESPACE)
            assert sorted(one["spec"]["replicas"] for one in sets) == [0, 2]
            back = {"spec": {"template": {"metadata": {"annotations": None}}}}
            await cluster.client.merge_patch(APPS, "deployments", "web", back, NAMESPACE)
            last = await cluster.until(APPS, "deployments", "web", available)
            revision = "deployment.kubernetes.io/revision"
            assert first["metadata"]["annotations"][revision] == "1"
            assert last["metadata"]["annotations"][revision] == "3"
            assert len(await cluster.client.list(APPS, "replicasets", NAMESPACE)) == 2
            following.cancel()

    asyncio.run(main())


def test_deployment_that_gets_nowhere_says_so(tmp_path: Path) -> None:
    """After progressDeadlineSeconds the condition Progressing is False; Available was never claimed."""

    async def main() -> None:
        async with small_cluster(tmp_path) as cluster:
            Scripted.ready_at_once = False
            item = workload("Deployment", "web", replicas=1, progressDeadlineSeconds=1)
            await cluster.client.create(APPS, "deployments", item, NAMESPACE)

            def given_up(one: Object) -> bool:
                conditions = {c["type"]: c for c in one.get("status", {}).get("conditions") or []}
                return conditions.get("Progressing", {}).get("reason") == "ProgressDeadlineExceeded"

            item = await cluster.until(APPS, "deployments", "web", given_up)
            conditions = {c["type"]: c["status"] for c in item["status"]["conditions"]}
            assert conditions == {"Available": "False", "Progressing": "False"}

    asyncio.run(main())


def test_daemon_set_has_one_pod_a_node(tmp_path: Path) -> None:
    """Each node gets a pod, an update replaces them, and the status is what `rollout status` reads."""

    async def main() -> None:
        async with small_cluster(tmp_path, nodes=2) as cluster:
            await cluster.client.create(APPS, "daemonsets", workload("DaemonSet", "agent"), NAMESPACE)

            def complete(item: Object) -> bool:
                status = item.get("status") or {}
                return (
                    status.get("observedGeneration") == item["metadata"]["generation"]
                    and status.get("desiredNumberScheduled") == status.get("updatedNumberScheduled") == 2
                    and status["numberAvailable"] == 2
                )

            await cluster.until(APPS, "daemonsets", "agent", complete)
            pods = await cluster.client.list("v1", "pods", NAMESPACE)
            assert sorted(one["spec"]["nodeName"] for one in pods) == sorted(cluster.layout.node_addresses)
            await cluster.client.merge_patch(APPS, "daemonsets", "agent", change_template("2"), NAMESPACE)
            await cluster.until(APPS, "daemonsets", "agent", complete)
            replaced = await cluster.client.list("v1", "pods", NAMESPACE)
            names = {one["metadata"]["name"] for one in pods}
            assert not names & {one["metadata"]["name"] for one in replaced}

    asyncio.run(main())


def job(name: str, component: str, **spec: Any) -> Object:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {
            "template": {
                "metadata": {"labels": {"component": component}},
                "spec": pod_spec(restartPolicy=spec.pop("restartPolicy", "Never")),
            },
            **spec,
        },
    }


def true_conditions(item: Object) -> dict[str, str]:
    conditions = item.get("status", {}).get("conditions") or []
    return {one["type"]: one["reason"] for one in conditions if one["status"] == "True"}


def test_job_is_tried_again_and_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Job that fails backoffLimit + 1 times is Failed, keeps its pods, and says why."""
    monkeypatch.setattr(jobs, "FIRST_BACKOFF_SECONDS", 0.05)

    async def fail(container: Container) -> int:
        container.log("it cannot be done")
        return 3

    async def main() -> None:
        async with small_cluster(tmp_path) as cluster:
            cluster.jobs["failing"] = fail
            await cluster.client.create(
                "batch/v1", "jobs", job("failing", "failing", backoffLimit=1), NAMESPACE
            )
            item = await cluster.until(
                "batch/v1", "jobs", "failing", lambda one: "Failed" in true_conditions(one)
            )
            assert true_conditions(item) == dict.fromkeys(("FailureTarget", "Failed"), "BackoffLimitExceeded")
            assert (item["status"]["failed"], item["status"].get("active", 0)) == (2, 0)
            pods = await cluster.client.list("v1", "pods", NAMESPACE, label_selector="job-name=failing")
            ended = [one["status"]["containerStatuses"][0]["state"]["terminated"] for one in pods]
            assert [(one["exitCode"], one["message"]) for one in ended] == [(3, "it cannot be done")] * 2

    asyncio.run(main())


def test_job_that_succeeds_is_complete_and_expires(tmp_path: Path) -> None:
    """A Job is Complete after its completions, one that crashed is a failure, and its ttl removes it."""
    runs: list[str] = []

    async def succeed_at_second(container: Container) -> int:
        runs.append(container.name)
        if len(runs) == 1:
            raise RuntimeError("the first time is hard")
        return 0

    async def main() -> None:
        async with small_cluster(tmp_path) as cluster:
            cluster.jobs["work"] = succeed_at_second
            item = job("work", "work", completions=2, ttlSecondsAfterFinished=2)
            await cluster.client.create("batch/v1", "jobs", item, NAMESPACE)
            item = await cluster.until(
                "batch/v1", "jobs", "work", lambda one: "Complete" in true_conditions(one)
            )
            assert set(true_conditions(item)) == {"SuccessCriteriaMet", "Complete"}
            assert (item["status"]["succeeded"], item["status"]["failed"]) == (2, 1)
            assert item["status"]["completionTime"]
            await cluster.until_gone("batch/v1", "jobs", "work")
            assert runs[0] not in runs[1:]

    asyncio.run(main())


def test_job_restarts_its_container_where_the_policy_says_so(tmp_path: Path) -> None:
    """With restartPolicy OnFailure the same pod tries again, and its restarts count against backoffLimit."""

    async def fail(container: Container) -> int:
        return 1

    async def main() -> None:
        async with small_cluster(tmp_path) as cluster:
            cluster.jobs["failing"] = fail
            item = job("failing", "failing", backoffLimit=1, restartPolicy="OnFailure")
            await cluster.client.create("batch/v1", "jobs", item, NAMESPACE)
            done = await cluster.until(
                "batch/v1", "jobs", "failing", lambda one: "Failed" in true_conditions(one)
            )
            assert true_conditions(done)["Failed"] == "BackoffLimitExceeded"

    asyncio.run(main())


def test_job_has_a_deadline(tmp_path: Path) -> None:
    """activeDeadlineSeconds ends a Job that hangs: its pod is stopped and the reason is DeadlineExceeded."""
    cancelled: list[str] = []

    async def hang(container: Container) -> int:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(container.name)
        return 0

    async def main() -> None:
        async with small_cluster(tmp_path) as cluster:
            cluster.jobs["hanging"] = hang
            await cluster.client.create(
                "batch/v1", "jobs", job("hanging", "hanging", activeDeadlineSeconds=1), NAMESPACE
            )
            item = await cluster.until(
                "batch/v1", "jobs", "hanging", lambda one: "Failed" in true_conditions(one)
            )
            assert true_conditions(item)["Failed"] == "DeadlineExceeded"
        assert len(cancelled) == 1

    asyncio.run(main())

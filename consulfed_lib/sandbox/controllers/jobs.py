"""Jobs: pods that are tried until as many have succeeded as were asked for, or too many have failed.

As kube-controller-manager does it, with one difference that is told openly: the back-off between two tries is
1 s, doubled each time up to 10 s, where Kubernetes takes 10 s up to 6 minutes.
"""

from __future__ import annotations

from .client import Object, object_key
from .controller import Controller, now, since, with_condition
from .events import Recorder
from .informer import Informers
from .pods import is_active, is_ready, is_terminating, is_true, phase, pod_from_template

FIRST_BACKOFF_SECONDS = 1.0
LONGEST_BACKOFF_SECONDS = 10.0


class Jobs(Controller):
    api_version, plural, kind = "batch/v1", "jobs", "Job"

    def __init__(self, informers: Informers):
        super().__init__(informers)
        self._pods = informers.of("v1", "pods")
        self._events = Recorder(informers.client, "job-controller")
        self.watch_children(self._pods)

    async def reconcile(self, item: Object) -> None:
        if is_terminating(item):
            return
        if is_true(item, "Complete") or is_true(item, "Failed"):
            await self._expire(item)
            return
        status = dict(item.get("status") or {})
        status.setdefault("startTime", now())
        pods = self._pods.owned(item)
        succeeded = max(status.get("succeeded", 0), sum(1 for pod in pods if phase(pod) == "Succeeded"))
        failed = max(status.get("failed", 0), sum(1 for pod in pods if phase(pod) == "Failed"))
        active = [pod for pod in pods if is_active(pod)]
        restarts = sum(_restarts(pod) for pod in active)
        spec = item["spec"]
        deadline = spec.get("activeDeadlineSeconds")
        wanted = spec.get("completions")
        conditions = status.get("conditions") or []
        verdict: tuple[str, str, str] | None = None
        if succeeded >= (1 if wanted is None else wanted):
            verdict = ("Complete", "CompletionsReached", "Reached expected number of succeeded pods")
        elif failed + restarts > spec.get("backoffLimit", 6):
            verdict = ("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
        elif deadline is not None and since(status["startTime"]) >= deadline:
            verdict = ("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")
        if verdict is not None:
            kind, reason, message = verdict
            for pod in active:
                await self.informers.delete("pods", pod)
            active = []
            # Both are set by Kubernetes since 1.31: the first as soon as it is decided.
            first = "SuccessCriteriaMet" if kind == "Complete" else "FailureTarget"
            conditions = with_condition(conditions, first, "True", reason, message)
            conditions = with_condition(conditions, kind, "True", reason, message)
            if kind == "Complete":
                status["completionTime"] = now()
            await self._events.record(
                item,
                "Normal" if kind == "Complete" else "Warning",
                "Completed" if kind == "Complete" else reason,
                "Job completed" if kind == "Complete" else message,
            )
        elif not spec.get("suspend"):
            if deadline is not None:
                self.enqueue(object_key(item), max(1.0, deadline - since(status["startTime"])))
            active += await self._start(item, len(active), succeeded, failed)
        status.update(
            active=len(active),
            ready=sum(1 for pod in active if is_ready(pod)),
            succeeded=succeeded,
            failed=failed,
            terminating=sum(1 for pod in self._pods.owned(item) if is_terminating(pod)),
            conditions=conditions,
            uncountedTerminatedPods={},
        )
        await self.informers.set_status("jobs", item, status)

    async def _start(self, item: Object, active: int, succeeded: int, failed: int) -> list[Object]:
        """Start the pods that are missing, once the back-off after the last failure is over."""
        spec, key = item["spec"], object_key(item)
        parallelism, completions = spec.get("parallelism", 1), spec.get("completions")
        left = parallelism if completions is None else min(parallelism, completions - succeeded)
        if left <= active:
            return []
        if failed:
            ended = max((_ended(pod) for pod in self._pods.owned(item) if phase(pod) == "Failed"), default="")
            backoff = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** (failed - 1))
            waited = since(ended) if ended else backoff
            if waited < backoff:
                self.enqueue(key, backoff - waited)
                return []
        made = []
        for _ in range(left - active):
            pod = await self.informers.create("pods", self._pod(item))
            made.append(pod)
            await self._events.record(
                item, "Normal", "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}"
            )
        return made

    @staticmethod
    def _pod(item: Object) -> Object:
        name, uid = item["metadata"]["name"], item["metadata"]["uid"]
        labels = {
            "batch.kubernetes.io/controller-uid": uid,
            "batch.kubernetes.io/job-name": name,
            "controller-uid": uid,
            "job-name": name,
        }
        return pod_from_template(item, item["spec"]["template"], labels=labels)

    async def _expire(self, item: Object) -> None:
        seconds = item["spec"].get("ttlSecondsAfterFinished")
        if seconds is None:
            return
        conditions = item["status"]["conditions"]
        ended = max(one["lastTransitionTime"] for one in conditions if one["type"] in ("Complete", "Failed"))
        left = seconds - since(ended)
        if left > 0:
            self.enqueue(object_key(item), left)
        else:
            await self.informers.delete("jobs", item, propagation="Background")


def _restarts(pod: Object) -> int:
    return sum(one.get("restartCount", 0) for one in (pod.get("status") or {}).get("containerStatuses") or [])


def _ended(pod: Object) -> str:
    """When the last container of a pod ended; empty when no one has told."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return max(
        (one.get("state", {}).get("terminated", {}).get("finishedAt", "") for one in statuses), default=""
    )

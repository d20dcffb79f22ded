"""The status that a kubelet reports for a pod, from what is known of its main container.

The sandbox runs one program a pod, that of the first container. Init containers are reported as completed,
and further containers as ready, only once that program has come so far: they have no life of their own here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..controllers.controller import now, with_condition

Object = dict[str, Any]


@dataclass
class PodState:
    """What is known of a pod's life.

    Attributes:
        phase: Pending, Running, Succeeded or Failed.
        waiting: (reason, message) while the main container does not run.
        started_at: when it started to run; empty while it does not.
        ended: the `terminated` state of the run that ended for good.
        last: the `terminated` state of the run before.
        initialized: whether everything that init containers do has been done.
        ready: whether the program answers.
    """

    host_ip: str
    start_time: str
    address: str = ""
    phase: str = "Pending"
    waiting: tuple[str, str] = ("ContainerCreating", "")
    started_at: str = ""
    ended: Object | None = None
    last: Object | None = None
    restarts: int = 0
    initialized: bool = False
    ready: bool = False
    conditions: list[Object] = field(default_factory=list)

    def as_status(self, pod: Object) -> Object:
        """The pod's status object."""
        spec, uid = pod["spec"], pod["metadata"]["uid"]
        names = [one["name"] for one in spec["containers"]]
        init_names = [one["name"] for one in spec.get("initContainers") or []]
        self._update_conditions(names, init_names)
        addresses = {"podIP": self.address, "podIPs": [{"ip": self.address}]} if self.address else {}
        status = {
            "phase": self.phase,
            "conditions": self.conditions,
            "hostIP": self.host_ip,
            "hostIPs": [{"ip": self.host_ip}],
            **addresses,
            "startTime": self.start_time,
            "qosClass": (pod.get("status") or {}).get("qosClass", "Burstable"),
            "containerStatuses": [self._container(one, uid) for one in spec["containers"]],
        }
        if init_names:
            status["initContainerStatuses"] = [self._init(one, uid) for one in spec["initContainers"]]
        return status

    def _update_conditions(self, names: list[str], init_names: list[str]) -> None:
        listed = "[" + " ".join(names) + "]"
        if self.phase == "Succeeded":
            not_ready = ("PodCompleted", "")
        else:
            not_ready = ("ContainersNotReady", f"containers with unready status: {listed}")
        not_initialized = (
            "ContainersNotInitialized",
            f"containers with incomplete status: [{' '.join(init_names)}]",
        )
        for kind, true, otherwise in (
            ("PodReadyToStartContainers", bool(self.address), ("", "")),
            ("Initialized", self.initialized or not init_names, not_initialized),
            ("ContainersReady", self.ready, not_ready),
            ("Ready", self.ready, not_ready),
            ("PodScheduled", True, ("", "")),
        ):
            reason, message = ("", "") if true else otherwise
            self.conditions = with_condition(self.conditions, kind, str(true), reason, message)

    def _container(self, container: Object, uid: str) -> Object:
        state: Object
        if self.ended is not None:
            state = {"terminated": self.ended}
        elif self.started_at:
            state = {"running": {"startedAt": self.started_at}}
        else:
            reason, message = self.waiting
            state = {"waiting": {"reason": reason, **({"message": message} if message else {})}}
        run = f"sandbox://{uid}/{container['name']}/{self.restarts}"
        return {
            "name": container["name"],
            "image": container.get("image", ""),
            "imageID": f"sandbox://{container.get('image', '')}" if self._ran() else "",
            **({"containerID": run} if self._ran() else {}),
            "ready": self.ready,
            "started": bool(self.started_at) and self.ended is None,
            "restartCount": self.restarts,
            "state": state,
            "lastState": {"terminated": self.last} if self.last else {},
        }

    def _init(self, container: Object, uid: str) -> Object:
        state: Object = {"waiting": {"reason": "PodInitializing"}}
        if self.initialized:
            ended = {"exitCode": 0, "reason": "Completed"}
            state = {
                "terminated": {**ended, "startedAt": self.start_time, "finishedAt": self._initialized_at()}
            }
        return {
            "name": container["name"],
            "image": container.get("image", ""),
            "imageID": f"sandbox://{container.get('image', '')}" if self.initialized else "",
            "ready": self.initialized,
            "started": False,
            "restartCount": 0,
            "state": state,
            "lastState": {},
        }

    def _ran(self) -> bool:
        return bool(self.started_at or self.ended or self.last)

    def _initialized_at(self) -> str:
        return next(
            (one["lastTransitionTime"] for one in self.conditions if one["type"] == "Initialized"), now()
        )


def terminated(exit_code: int, started_at: str, message: str = "", reason: str = "") -> Object:
    """The `terminated` state of a container that has just ended."""
    state = {
        "exitCode": exit_code,
        "reason": reason or ("Completed" if exit_code == 0 else "Error"),
        "startedAt": started_at or now(),
        "finishedAt": now(),
    }
    return {**state, "message": message} if message and exit_code else state


def earlier_run(pod: Object) -> tuple[Object | None, int]:
    """(main container's `running` state, restarts) as the pod's status has them from an earlier kubelet."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    if not statuses:
        return None, 0
    return statuses[0].get("state", {}).get("running"), statuses[0].get("restartCount", 0)

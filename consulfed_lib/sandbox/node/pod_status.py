"""The status that a kubelet reports for a pod, from what is known of its containers.

In a pod of a component the sandbox runs one program, that of the first container. Its init containers are reported
as completed, and further containers as ready, only once that program has come so far: they have no life of their
own here, and share the state of the first. In any other pod each container has a state of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..controllers.controller import now, with_condition

Object = dict[str, Any]


@dataclass
class ContainerState:
    """What is known of a container's life.

    Attributes:
        waiting: (reason, message) while it does not run.
        started_at: when it started to run; empty while it does not.
        ended: the `terminated` state of the run that ended for good.
        last: the `terminated` state of the run before.
        ready: whether its program answers.
    """

    waiting: tuple[str, str] = ("ContainerCreating", "")
    started_at: str = ""
    ended: Object | None = None
    last: Object | None = None
    restarts: int = 0
    ready: bool = False

    @property
    def ran(self) -> bool:
        """Whether it has ever run."""
        return bool(self.started_at or self.ended or self.last)


@dataclass
class PodState:
    """What is known of a pod's life.

    Attributes:
        containers: name → state, of every container; several names may have the same one.
        init: the same for init containers with a life of their own; empty where they have none.
        initialized: whether everything that init containers do has been done.
    """

    host_ip: str
    start_time: str
    containers: dict[str, ContainerState]
    init: dict[str, ContainerState] = field(default_factory=dict)
    address: str = ""
    initialized: bool = False
    conditions: list[Object] = field(default_factory=list)

    @property
    def phase(self) -> str:
        """Pending, Running, Succeeded or Failed."""
        states = list(self.containers.values())
        codes = [one.ended["exitCode"] for one in (*states, *self.init.values()) if one.ended is not None]
        if all(one.ended is not None for one in states):
            return "Failed" if any(codes) else "Succeeded"
        # Where an init container failed for good, the others never start.
        if any(one.ended is not None and one.ended["exitCode"] for one in self.init.values()):
            return "Failed"
        return "Running" if any(one.ran for one in states) else "Pending"

    def as_status(self, pod: Object) -> Object:
        """The pod's status object."""
        spec, uid = pod["spec"], pod["metadata"]["uid"]
        init_names = [one["name"] for one in spec.get("initContainers") or []]
        self._update_conditions(init_names)
        addresses = {"podIP": self.address, "podIPs": [{"ip": self.address}]} if self.address else {}
        status = {
            "phase": self.phase,
            "conditions": self.conditions,
            "hostIP": self.host_ip,
            "hostIPs": [{"ip": self.host_ip}],
            **addresses,
            "startTime": self.start_time,
            "qosClass": (pod.get("status") or {}).get("qosClass", "Burstable"),
            "containerStatuses": [
                _status(one, self.containers[one["name"]], uid) for one in spec["containers"]
            ],
        }
        if init_names:
            status["initContainerStatuses"] = [self._init(one, uid) for one in spec["initContainers"]]
        return status

    def _update_conditions(self, init_names: list[str]) -> None:
        unready = [name for name, one in self.containers.items() if not one.ready]
        if self.phase == "Succeeded":
            not_ready = ("PodCompleted", "")
        else:
            not_ready = ("ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
        not_initialized = (
            "ContainersNotInitialized",
            f"containers with incomplete status: [{' '.join(init_names)}]",
        )
        for kind, true, otherwise in (
            ("PodReadyToStartContainers", bool(self.address), ("", "")),
            ("Initialized", self.initialized or not init_names, not_initialized),
            ("ContainersReady", not unready, not_ready),
            ("Ready", not unready, not_ready),
            ("PodScheduled", True, ("", "")),
        ):
            reason, message = ("", "") if true else otherwise
            self.conditions = with_condition(self.conditions, kind, str(true), reason, message)

    def _init(self, container: Object, uid: str) -> Object:
        if container["name"] in self.init:
            return _status(container, self.init[container["name"]], uid)
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

    def _initialized_at(self) -> str:
        return next(
            (one["lastTransitionTime"] for one in self.conditions if one["type"] == "Initialized"), now()
        )


def _status(container: Object, known: ContainerState, uid: str) -> Object:
    """The status of one container."""
    state: Object
    if known.ended is not None:
        state = {"terminated": known.ended}
    elif known.started_at:
        state = {"running": {"startedAt": known.started_at}}
    else:
        reason, message = known.waiting
        state = {"waiting": {"reason": reason, **({"message": message} if message else {})}}
    run = f"sandbox://{uid}/{container['name']}/{known.restarts}"
    return {
        "name": container["name"],
        "image": container.get("image", ""),
        "imageID": f"sandbox://{container.get('image', '')}" if known.ran else "",
        **({"containerID": run} if known.ran else {}),
        "ready": known.ready,
        "started": bool(known.started_at) and known.ended is None,
        "restartCount": known.restarts,
        "state": state,
        "lastState": {"terminated": known.last} if known.last else {},
    }


def terminated(exit_code: int, started_at: str, message: str = "", reason: str = "") -> Object:
    """The `terminated` state of a container that has just ended."""
    state = {
        "exitCode": exit_code,
        "reason": reason or ("Completed" if exit_code == 0 else "Error"),
        "startedAt": started_at or now(),
        "finishedAt": now(),
    }
    return {**state, "message": message} if message and exit_code else state


def earlier_state(pod: Object, name: str, kind: str = "containerStatuses") -> ContainerState:
    """The state of a container as the pod's status has it from an earlier kubelet, whose programs died with it.

    What was running is there as `last`, with the reason that a real kubelet gives.
    """
    statuses: list[Object] = (pod.get("status") or {}).get(kind) or []
    found: Object = next((one for one in statuses if one["name"] == name), {})
    state, restarts = found.get("state") or {}, found.get("restartCount", 0)
    if "terminated" in state:
        return ContainerState(ended=state["terminated"], restarts=restarts)
    if "running" in state:
        lost = terminated(137, state["running"].get("startedAt", ""), reason="ContainerStatusUnknown")
        return ContainerState(last=lost, restarts=restarts)
    return ContainerState(last=(found.get("lastState") or {}).get("terminated"), restarts=restarts)

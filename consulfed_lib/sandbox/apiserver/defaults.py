"""What a real cluster fills in where an object leaves something out, for the kinds that matter here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .resources import Resource
from .store import Object

_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


def fill_in(resource: Resource, obj: Object) -> None:
    """Default the object in place."""
    filler = _FILLERS.get((resource.group, resource.kind))
    if filler:
        filler(obj)
    for name in _COUNTED.get((resource.group, resource.kind), "").split():
        _set(_part(obj, "status"), **{name: 0})


_COUNTED = {
    ("", "ReplicationController"): "replicas",
    ("apps", "StatefulSet"): "replicas",
    ("apps", "ReplicaSet"): "replicas",
    ("apps", "DaemonSet"): "currentNumberScheduled desiredNumberScheduled numberMisscheduled numberReady",
    ("autoscaling", "HorizontalPodAutoscaler"): "currentReplicas desiredReplicas",
    ("policy", "PodDisruptionBudget"): "currentHealthy desiredHealthy disruptionsAllowed expectedPods",
}
"""Numbers of a status that are written even when they are zero; clients that validate answers insist."""


def _set(target: dict[str, Any], **values: Any) -> None:
    for key, value in values.items():
        if target.get(key) is None:
            target[key] = value


def _part(target: dict[str, Any], *path: str) -> dict[str, Any]:
    for key in path:
        if target.get(key) is None:
            target[key] = {}
        target = target[key]
    return target


def pod_spec(spec: dict[str, Any]) -> None:
    """Defaults of a PodSpec, also where it stands in a template."""
    _set(
        spec,
        restartPolicy="Always",
        terminationGracePeriodSeconds=30,
        dnsPolicy="ClusterFirst",
        securityContext={},
        schedulerName="default-scheduler",
    )
    if spec.get("serviceAccountName") and not spec.get("serviceAccount"):
        spec["serviceAccount"] = spec["serviceAccountName"]
    elif spec.get("serviceAccount") and not spec.get("serviceAccountName"):
        spec["serviceAccountName"] = spec["serviceAccount"]
    for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
        _container(container)
    for volume in spec.get("volumes") or ():
        _volume(volume)


def _container(container: dict[str, Any]) -> None:
    image = container.get("image") or ""
    tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
    latest = "@" not in image and tag in ("", "latest")
    _set(
        container,
        resources={},
        terminationMessagePath="/dev/termination-log",
        terminationMessagePolicy="File",
        imagePullPolicy="Always" if latest else "IfNotPresent",
    )
    for port in container.get("ports") or ():
        _set(port, protocol="TCP")
    for variable in container.get("env") or ():
        if field := (variable.get("valueFrom") or {}).get("fieldRef"):
            _set(field, apiVersion="v1")
    for name in _PROBES:
        probe = container.get(name)
        if probe:
            _set(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
            if probe.get("httpGet"):
                _set(probe["httpGet"], path="/", scheme="HTTP")
    limits = container["resources"].get("limits")
    if limits:
        requests = _part(container["resources"], "requests")
        for resource, amount in limits.items():
            requests.setdefault(resource, amount)


def _volume(volume: dict[str, Any]) -> None:
    for kind in ("secret", "configMap", "downwardAPI", "projected"):
        source = volume.get(kind)
        if source is None:
            continue
        _set(source, defaultMode=420)
        for item in source.get("items") or ():
            if item.get("fieldRef"):
                _set(item["fieldRef"], apiVersion="v1")
        for projected in source.get("sources") or ():
            if projected.get("serviceAccountToken"):
                _set(projected["serviceAccountToken"], expirationSeconds=3600)
            for item in (projected.get("downwardAPI") or {}).get("items") or ():
                if item.get("fieldRef"):
                    _set(item["fieldRef"], apiVersion="v1")
    if not any(key != "name" for key in volume):
        volume["emptyDir"] = {}


def _template(spec: dict[str, Any]) -> None:
    template = _part(spec, "template")
    _part(template, "metadata")
    pod_spec(_part(template, "spec"))


def _deployment(obj: Object) -> None:
    spec = _part(obj, "spec")
    _set(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    _template(spec)
    strategy = _part(spec, "strategy")
    _set(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _set(_part(strategy, "rollingUpdate"), maxUnavailable="25%", maxSurge="25%")


def _stateful_set(obj: Object) -> None:
    spec = _part(obj, "spec")
    _set(spec, replicas=1, revisionHistoryLimit=10, podManagementPolicy="OrderedReady")
    _template(spec)
    strategy = _part(spec, "updateStrategy")
    _set(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _set(_part(strategy, "rollingUpdate"), partition=0)
    _set(_part(spec, "persistentVolumeClaimRetentionPolicy"), whenDeleted="Retain", whenScaled="Retain")
    for claim in spec.get("volumeClaimTemplates") or ():
        _set(claim, apiVersion="v1", kind="PersistentVolumeClaim")
        _set(_part(claim, "spec"), volumeMode="Filesystem")
        _set(_part(claim, "status"), phase="Pending")


def _daemon_set(obj: Object) -> None:
    spec = _part(obj, "spec")
    _set(spec, revisionHistoryLimit=10)
    _template(spec)
    strategy = _part(spec, "updateStrategy")
    _set(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _set(_part(strategy, "rollingUpdate"), maxUnavailable=1, maxSurge=0)


def _replica_set(obj: Object) -> None:
    spec = _part(obj, "spec")
    _set(spec, replicas=1)
    _template(spec)


def _job_spec(spec: dict[str, Any]) -> None:
    if spec.get("completions") is None and spec.get("parallelism") is None:
        _set(spec, completions=1)
    _set(
        spec,
        parallelism=1,
        backoffLimit=6,
        completionMode="NonIndexed",
        suspend=False,
        podReplacementPolicy="TerminatingOrFailed",
        manualSelector=False,
    )
    _template(spec)


def _job(obj: Object) -> None:
    """Also the selector and the labels by which a Job knows its pods."""
    spec = _part(obj, "spec")
    _job_spec(spec)
    metadata = obj["metadata"]
    if spec["manualSelector"]:
        return
    if not spec.get("selector"):
        spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": metadata["uid"]}}
    labels = _part(spec["template"], "metadata", "labels")
    name = metadata.get("name", "")
    for key, value in (
        ("batch.kubernetes.io/controller-uid", metadata["uid"]),
        ("batch.kubernetes.io/job-name", name),
        ("controller-uid", metadata["uid"]),
        ("job-name", name),
    ):
        labels.setdefault(key, value)


def _cron_job(obj: Object) -> None:
    spec = _part(obj, "spec")
    _set(
        spec,
        concurrencyPolicy="Allow",
        suspend=False,
        successfulJobsHistoryLimit=3,
        failedJobsHistoryLimit=1,
    )
    _template(_part(spec, "jobTemplate", "spec"))


def _pod(obj: Object) -> None:
    spec = _part(obj, "spec")
    pod_spec(spec)
    _set(spec, enableServiceLinks=True)


def _service(obj: Object) -> None:
    spec = _part(obj, "spec")
    _set(spec, type="ClusterIP", sessionAffinity="None")
    for port in spec.get("ports") or ():
        _set(port, protocol="TCP")
        if spec["type"] != "ExternalName":
            _set(port, targetPort=port.get("port"))
    if spec["type"] != "ExternalName":
        _set(spec, internalTrafficPolicy="Cluster")
    if spec["type"] in ("NodePort", "LoadBalancer"):
        _set(spec, externalTrafficPolicy="Cluster")
    if spec["type"] == "LoadBalancer":
        _set(spec, allocateLoadBalancerNodePorts=True)
    elif spec["type"] == "ClusterIP":
        for name in ("externalTrafficPolicy", "allocateLoadBalancerNodePorts"):
            spec.pop(name, None)
    if spec["sessionAffinity"] == "ClientIP":
        _set(_part(spec, "sessionAffinityConfig", "clientIP"), timeoutSeconds=10800)


def _secret(obj: Object) -> None:
    _set(obj, type="Opaque")


def _claim(obj: Object) -> None:
    _set(_part(obj, "spec"), volumeMode="Filesystem")


def _binding(obj: Object) -> None:
    _set(_part(obj, "roleRef"), apiGroup="rbac.authorization.k8s.io")
    for subject in obj.get("subjects") or ():
        if subject.get("kind") in ("User", "Group"):
            _set(subject, apiGroup="rbac.authorization.k8s.io")


def _webhooks(obj: Object) -> None:
    mutating = obj["kind"] == "MutatingWebhookConfiguration"
    for webhook in obj.get("webhooks") or ():
        _set(
            webhook,
            failurePolicy="Fail",
            matchPolicy="Equivalent",
            namespaceSelector={},
            objectSelector={},
            timeoutSeconds=10,
        )
        if mutating:
            _set(webhook, reinvocationPolicy="Never")
        for rule in webhook.get("rules") or ():
            _set(rule, scope="*")
        if service := (webhook.get("clientConfig") or {}).get("service"):
            _set(service, port=443)


def _definition(obj: Object) -> None:
    spec = _part(obj, "spec")
    names = _part(spec, "names")
    if names.get("kind"):
        _set(names, singular=names["kind"].lower(), listKind=f"{names['kind']}List")
    _set(_part(spec, "conversion"), strategy="None")


def _lists(*names: str) -> Callable[[Object], None]:
    def fill(obj: Object) -> None:
        _set(obj, **{name: [] for name in names})

    return fill


def _volume_object(obj: Object) -> None:
    _set(_part(obj, "spec"), volumeMode="Filesystem", persistentVolumeReclaimPolicy="Retain")


def _storage_class(obj: Object) -> None:
    _set(obj, reclaimPolicy="Delete", volumeBindingMode="Immediate")


def _network_policy(obj: Object) -> None:
    spec = _part(obj, "spec")
    _set(spec, policyTypes=["Ingress", "Egress"] if "egress" in spec else ["Ingress"])


def _priority_class(obj: Object) -> None:
    _set(obj, preemptionPolicy="PreemptLowerPriority")


_FILLERS: dict[tuple[str, str], Callable[[Object], None]] = {
    ("", "Pod"): _pod,
    ("", "Service"): _service,
    ("", "Secret"): _secret,
    ("", "PersistentVolumeClaim"): _claim,
    ("", "PersistentVolume"): _volume_object,
    ("apps", "Deployment"): _deployment,
    ("apps", "StatefulSet"): _stateful_set,
    ("apps", "DaemonSet"): _daemon_set,
    ("apps", "ReplicaSet"): _replica_set,
    ("batch", "Job"): _job,
    ("batch", "CronJob"): _cron_job,
    ("rbac.authorization.k8s.io", "Role"): _lists("rules"),
    ("rbac.authorization.k8s.io", "ClusterRole"): _lists("rules"),
    ("rbac.authorization.k8s.io", "RoleBinding"): _binding,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): _binding,
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): _webhooks,
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): _webhooks,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _definition,
    ("networking.k8s.io", "NetworkPolicy"): _network_policy,
    ("scheduling.k8s.io", "PriorityClass"): _priority_class,
    ("storage.k8s.io", "StorageClass"): _storage_class,
}

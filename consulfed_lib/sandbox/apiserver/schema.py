"""How the parts of an object are merged: which lists are keyed, which are sets, which maps are one value.

Server-side apply and strategic merge patches both go by it. For built-in kinds the facts are the listType,
listMapKey, mapType and structType markers of k8s.io/api; for custom resources those of the CRD's schema.
What is not named here is what the API's default is: maps and structs field by field, lists as one value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from .resources import Resource


@dataclass(frozen=True, eq=False)
class Node:
    """One place in an object.

    Attributes:
        fields: what is known of the fields below.
        values: what holds for every field that is not in `fields` (the values of a map).
        items: what holds for the items of a list.
        list_type: ``atomic``, ``set`` or ``map``.
        keys: the fields that tell the items of a ``map`` list apart.
        defaults: values of `keys` that an item may leave out.
        atomic: a map or struct that has one owner as a whole.
        merge_key: the key of a strategic merge patch, where it is not the first of `keys`.
    """

    fields: Mapping[str, Node] = field(default_factory=dict)
    values: Node | None = None
    items: Node | None = None
    list_type: str = "atomic"
    keys: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    atomic: bool = False
    merge_key: str = ""

    def child(self, name: str) -> Node:
        return self.fields.get(name) or self.values or ANY

    def item(self) -> Node:
        return self.items or ANY

    def key_of(self, item: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(item.get(key, self.defaults.get(key)) for key in self.keys)


ANY = Node()
_ATOMIC = Node(atomic=True)
_SET = Node(list_type="set")


def _keyed(*keys: str, items: Node = ANY, **defaults: Any) -> Node:
    return Node(list_type="map", keys=keys, items=items, defaults=defaults)


def _struct(values: Node | None = None, **fields: Node) -> Node:
    return Node(fields=fields, values=values)


_CONDITIONS = _keyed("type")
_METADATA = _struct(ownerReferences=_keyed("uid", items=_ATOMIC), finalizers=_SET)
_ENV = _keyed(
    "name",
    items=_struct(
        valueFrom=_struct(
            fieldRef=_ATOMIC, resourceFieldRef=_ATOMIC, configMapKeyRef=_ATOMIC, secretKeyRef=_ATOMIC
        )
    ),
)
_CONTAINERS = _keyed(
    "name",
    items=_struct(
        ports=_keyed("containerPort", "protocol", protocol="TCP"),
        env=_ENV,
        volumeMounts=_keyed("mountPath"),
        volumeDevices=_keyed("devicePath"),
        resources=_struct(claims=_keyed("name")),
    ),
)
_VOLUMES = _keyed(
    "name",
    items=_struct(
        cephfs=_struct(secretRef=_ATOMIC),
        csi=_struct(nodePublishSecretRef=_ATOMIC),
        ephemeral=_struct(volumeClaimTemplate=_struct(spec=_struct(selector=_ATOMIC, dataSource=_ATOMIC))),
    ),
)
_POD_SPEC = _struct(
    volumes=_VOLUMES,
    initContainers=_CONTAINERS,
    containers=_CONTAINERS,
    ephemeralContainers=_CONTAINERS,
    nodeSelector=_ATOMIC,
    imagePullSecrets=_keyed("name", items=_ATOMIC, name=""),
    hostAliases=_keyed("ip"),
    topologySpreadConstraints=_keyed(
        "topologyKey", "whenUnsatisfiable", items=_struct(labelSelector=_ATOMIC)
    ),
    schedulingGates=_keyed("name"),
    resourceClaims=_keyed("name"),
    affinity=_struct(nodeAffinity=_struct(requiredDuringSchedulingIgnoredDuringExecution=_ATOMIC)),
)
_TEMPLATE = _struct(metadata=_METADATA, spec=_POD_SPEC)
_WORKLOAD = _struct(
    spec=_struct(selector=_ATOMIC, template=_TEMPLATE), status=_struct(conditions=_CONDITIONS)
)
_JOB_SPEC = _struct(selector=_ATOMIC, template=_TEMPLATE)
_WEBHOOKS = _struct(
    webhooks=_keyed(
        "name",
        items=_struct(matchConditions=_keyed("name"), namespaceSelector=_ATOMIC, objectSelector=_ATOMIC),
    )
)
_BINDING = _struct(roleRef=_ATOMIC)
_BY_KIND: dict[tuple[str, str], Node] = {
    ("", "Pod"): _struct(
        spec=_POD_SPEC,
        status=_struct(conditions=_CONDITIONS, podIPs=_keyed("ip"), hostIPs=Node(merge_key="ip")),
    ),
    ("", "PodTemplate"): _struct(template=_TEMPLATE),
    ("", "Service"): _struct(
        spec=_struct(ports=_keyed("port", "protocol", protocol="TCP"), selector=_ATOMIC),
        status=_struct(conditions=_CONDITIONS),
    ),
    ("", "ServiceAccount"): _struct(
        secrets=_keyed("name", items=_ATOMIC), imagePullSecrets=Node(merge_key="name")
    ),
    ("", "Node"): _struct(
        spec=_struct(podCIDRs=_SET, taints=ANY),
        status=_struct(conditions=_CONDITIONS, addresses=_keyed("type")),
    ),
    ("", "Namespace"): _struct(status=_struct(conditions=_CONDITIONS)),
    ("", "PersistentVolumeClaim"): _struct(
        spec=_struct(selector=_ATOMIC, dataSource=_ATOMIC), status=_struct(conditions=_CONDITIONS)
    ),
    ("", "ReplicationController"): _struct(
        spec=_struct(selector=_ATOMIC, template=_TEMPLATE), status=_struct(conditions=_CONDITIONS)
    ),
    ("", "Event"): _struct(involvedObject=_ATOMIC, related=_ATOMIC),
    ("apps", "Deployment"): _WORKLOAD,
    ("apps", "StatefulSet"): _WORKLOAD,
    ("apps", "DaemonSet"): _WORKLOAD,
    ("apps", "ReplicaSet"): _WORKLOAD,
    ("batch", "Job"): _struct(spec=_JOB_SPEC, status=_struct(conditions=Node(merge_key="type"))),
    ("batch", "CronJob"): _struct(spec=_struct(jobTemplate=_struct(metadata=_METADATA, spec=_JOB_SPEC))),
    ("policy", "PodDisruptionBudget"): _struct(
        spec=_struct(selector=_ATOMIC), status=_struct(conditions=_CONDITIONS)
    ),
    ("rbac.authorization.k8s.io", "RoleBinding"): _BINDING,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): _BINDING,
    ("networking.k8s.io", "NetworkPolicy"): _struct(spec=_struct(podSelector=_ATOMIC)),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): _WEBHOOKS,
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): _WEBHOOKS,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _struct(status=_struct(conditions=_CONDITIONS)),
    ("autoscaling", "HorizontalPodAutoscaler"): _struct(status=_struct(conditions=_CONDITIONS)),
    ("discovery.k8s.io", "EndpointSlice"): _struct(endpoints=ANY),
}
_custom: WeakKeyDictionary[Resource, Node] = WeakKeyDictionary()


def node_of(resource: Resource) -> Node:
    """The merge rules of a resource's objects."""
    known = _custom.get(resource)
    if known is None:
        if resource.custom:
            found = _from_openapi(resource.schema or {})
        else:
            found = _BY_KIND.get((resource.group, resource.kind), ANY)
        known = Node(fields={**found.fields, "metadata": _METADATA}, values=found.values)
        _custom[resource] = known
    return known


def _from_openapi(schema: Mapping[str, Any]) -> Node:
    """The merge rules that a structural schema states."""
    below = schema.get("additionalProperties")
    fields = {
        name: node
        for name, part in (schema.get("properties") or {}).items()
        if (node := _from_openapi(part)) is not ANY
    }
    values = _from_openapi(below) if isinstance(below, Mapping) else None
    items = schema.get("items")
    found = Node(
        fields=fields,
        values=None if values is ANY else values,
        items=_from_openapi(items) if isinstance(items, Mapping) else None,
        list_type=schema.get("x-kubernetes-list-type", "atomic"),
        keys=tuple(schema.get("x-kubernetes-list-map-keys") or ()),
        defaults={
            key: part["default"]
            for key, part in ((items or {}).get("properties") or {}).items()
            if "default" in part
        }
        if isinstance(items, Mapping)
        else {},
        atomic=schema.get("x-kubernetes-map-type") == "atomic",
    )
    plain = not (fields or found.values or found.atomic or found.list_type != "atomic")
    return ANY if plain and found.item() is ANY else found

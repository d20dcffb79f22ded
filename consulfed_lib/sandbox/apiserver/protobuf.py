"""Request bodies in Kubernetes' protobuf encoding, read into the JSON shape.

Helm writes its release Secrets this way, and kubectl whatever it makes with a typed client (namespaces,
secrets, tokens, reviews, evictions, …); neither tries again with JSON when it is refused. Answers are
always JSON, which both accept. The numbers are the wire format of k8s.io/api, for the messages that these
clients send; a message or a field that is not known here is refused with 415, never dropped.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from .status import ApiError, bad_request, unsupported_media_type

MAGIC = b"k8s\x00"

# Message: `field=number` with an optional type; a `+` before the message says that it is a kind. No type is a
# string; i integer, b boolean, y bytes (base64 in JSON), time, micro (time with microseconds), port
# (IntOrString), quantity, json (raw JSON), or the name of another message; `ignored` is a status, which counts
# for nothing in a creation. `*` repeated, `<` map from string; `?` keeps a value that is zero, false or empty,
# because the field is a pointer and was set on purpose.
_MESSAGES_TEXT = """
ObjectMeta: name=1 generateName=2 namespace=3 selfLink=4 uid=5 resourceVersion=6 generation=7:i
  creationTimestamp=8:time deletionTimestamp=9:time deletionGracePeriodSeconds=10:i? labels=11:<
  annotations=12:< ownerReferences=13:*OwnerReference finalizers=14:* managedFields=17:*ManagedFieldsEntry
OwnerReference: kind=1 name=3 uid=4 apiVersion=5 controller=6:b? blockOwnerDeletion=7:b?
ManagedFieldsEntry: manager=1 operation=2 apiVersion=3 time=4:time fieldsType=6 fieldsV1=7:FieldsV1
  subresource=8
FieldsV1: Raw=1:json
Preconditions: uid=1 resourceVersion=2
+DeleteOptions: gracePeriodSeconds=1:i? preconditions=2:Preconditions orphanDependents=3:b?
  propagationPolicy=4 dryRun=5:* ignoreStoreReadErrorWithClusterBreakingPotential=6:b?
LabelSelector: matchLabels=1:< matchExpressions=2:*Requirement
Requirement: key=1 operator=2 values=3:*
ObjectReference: kind=1 namespace=2 name=3 uid=4 apiVersion=5 resourceVersion=6 fieldPath=7
LocalObjectReference: name=1
+Namespace: metadata=1:ObjectMeta spec=2:NamespaceSpec status=3:ignored
NamespaceSpec: finalizers=1:*
+ServiceAccount: metadata=1:ObjectMeta secrets=2:*ObjectReference imagePullSecrets=3:*LocalObjectReference
  automountServiceAccountToken=4:b?
+Secret: metadata=1:ObjectMeta data=2:<y type=3 stringData=4:< immutable=5:b?
+ConfigMap: metadata=1:ObjectMeta data=2:< binaryData=3:<y immutable=4:b?
+Service: metadata=1:ObjectMeta spec=2:ServiceSpec status=3:ignored
ServiceSpec: ports=1:*ServicePort selector=2:< clusterIP=3 type=4 externalIPs=5:* sessionAffinity=7
  loadBalancerIP=8 loadBalancerSourceRanges=9:* externalName=10 externalTrafficPolicy=11
  healthCheckNodePort=12:i publishNotReadyAddresses=13:b ipFamilyPolicy=17 clusterIPs=18:* ipFamilies=19:*
  allocateLoadBalancerNodePorts=20:b? loadBalancerClass=21 internalTrafficPolicy=22 trafficDistribution=23
ServicePort: name=1 protocol=2 port=3:i targetPort=4:port nodePort=5:i appProtocol=6
+Event: metadata=1:ObjectMeta involvedObject=2:ObjectReference reason=3 message=4 source=5:EventSource
  firstTimestamp=6:time lastTimestamp=7:time count=8:i type=9 eventTime=10:micro action=12
  related=13:ObjectReference reportingComponent=14 reportingInstance=15
EventSource: component=1 host=2
+ResourceQuota: metadata=1:ObjectMeta spec=2:ResourceQuotaSpec status=3:ignored
ResourceQuotaSpec: hard=1:<quantity scopes=2:*
Empty:
PodTemplateSpec: metadata=1:ObjectMeta spec=2:PodSpec
PodSpec: containers=2:*Container restartPolicy=3 terminationGracePeriodSeconds=4:i? dnsPolicy=6
  nodeSelector=7:< serviceAccountName=8 serviceAccount=9 nodeName=10 hostNetwork=11:b hostPID=12:b
  hostIPC=13:b securityContext=14:Empty? imagePullSecrets=15:*LocalObjectReference hostname=16 subdomain=17
  schedulerName=19 initContainers=20:*Container automountServiceAccountToken=21:b? priorityClassName=24
Container: name=1 image=2 command=3:* args=4:* workingDir=5 ports=6:*ContainerPort env=7:*EnvVar
  resources=8:Resources terminationMessagePath=13 imagePullPolicy=14 stdin=16:b stdinOnce=17:b tty=18:b
  terminationMessagePolicy=20
ContainerPort: name=1 hostPort=2:i containerPort=3:i protocol=4 hostIP=5
EnvVar: name=1 value=2
Resources: limits=1:<quantity requests=2:<quantity
+Pod: metadata=1:ObjectMeta spec=2:PodSpec status=3:ignored
+Binding: metadata=1:ObjectMeta target=2:ObjectReference
+Deployment: metadata=1:ObjectMeta spec=2:DeploymentSpec status=3:ignored
DeploymentSpec: replicas=1:i? selector=2:LabelSelector? template=3:PodTemplateSpec
  strategy=4:DeploymentStrategy minReadySeconds=5:i revisionHistoryLimit=6:i? paused=7:b
  progressDeadlineSeconds=9:i?
DeploymentStrategy: type=1
+Job: metadata=1:ObjectMeta spec=2:JobSpec status=3:ignored
JobSpec: parallelism=1:i? completions=2:i? activeDeadlineSeconds=3:i? selector=4:LabelSelector
  manualSelector=5:b? template=6:PodTemplateSpec backoffLimit=7:i? ttlSecondsAfterFinished=8:i?
  completionMode=9 suspend=10:b?
+CronJob: metadata=1:ObjectMeta spec=2:CronJobSpec status=3:ignored
CronJobSpec: schedule=1 startingDeadlineSeconds=2:i? concurrencyPolicy=3 suspend=4:b?
  jobTemplate=5:JobTemplateSpec successfulJobsHistoryLimit=6:i? failedJobsHistoryLimit=7:i? timeZone=8
JobTemplateSpec: metadata=1:ObjectMeta spec=2:JobSpec
+Eviction: metadata=1:ObjectMeta deleteOptions=2:DeleteOptions?
+PodDisruptionBudget: metadata=1:ObjectMeta spec=2:PodDisruptionBudgetSpec status=3:ignored
PodDisruptionBudgetSpec: minAvailable=1:port selector=2:LabelSelector maxUnavailable=3:port
  unhealthyPodEvictionPolicy=4
+Role: metadata=1:ObjectMeta rules=2:*PolicyRule
+ClusterRole: metadata=1:ObjectMeta rules=2:*PolicyRule aggregationRule=3:AggregationRule
AggregationRule: clusterRoleSelectors=1:*LabelSelector
PolicyRule: verbs=1:* apiGroups=2:* resources=3:* resourceNames=4:* nonResourceURLs=5:*
+RoleBinding: metadata=1:ObjectMeta subjects=2:*Subject roleRef=3:RoleRef
+ClusterRoleBinding: metadata=1:ObjectMeta subjects=2:*Subject roleRef=3:RoleRef
Subject: kind=1 apiGroup=2 name=3 namespace=4
RoleRef: apiGroup=1 kind=2 name=3
+PriorityClass: metadata=1:ObjectMeta value=2:i? globalDefault=3:b description=4 preemptionPolicy=5
+Lease: metadata=1:ObjectMeta spec=2:LeaseSpec
LeaseSpec: holderIdentity=1 leaseDurationSeconds=2:i? acquireTime=3:micro renewTime=4:micro
  leaseTransitions=5:i?
+TokenRequest: metadata=1:ObjectMeta spec=2:TokenRequestSpec status=3:ignored
TokenRequestSpec: audiences=1:* boundObjectRef=3:BoundObjectReference expirationSeconds=4:i?
BoundObjectReference: kind=1 apiVersion=2 name=3 uid=4
+TokenReview: metadata=1:ObjectMeta spec=2:TokenReviewSpec status=3:ignored
TokenReviewSpec: token=1 audiences=2:*
+SelfSubjectReview: metadata=1:ObjectMeta status=2:ignored
+SelfSubjectAccessReview: metadata=1:ObjectMeta spec=2:AccessReviewSpec status=3:ignored
+SubjectAccessReview: metadata=1:ObjectMeta spec=2:AccessReviewSpec status=3:ignored
+LocalSubjectAccessReview: metadata=1:ObjectMeta spec=2:AccessReviewSpec status=3:ignored
AccessReviewSpec: resourceAttributes=1:ResourceAttributes nonResourceAttributes=2:NonResourceAttributes
  user=3 groups=4:* uid=6
ResourceAttributes: namespace=1 verb=2 group=3 version=4 resource=5 subresource=6 name=7
NonResourceAttributes: path=1 verb=2
+SelfSubjectRulesReview: metadata=1:ObjectMeta spec=2:RulesReviewSpec status=3:ignored
RulesReviewSpec: namespace=1
"""

_Field = tuple[str, str, str, bool]
"""(name, shape: ``""``, ``*`` or ``<``; type, whether empty values are kept)"""


def _read_table() -> dict[str, dict[int, _Field]]:
    table: dict[str, dict[int, _Field]] = {}
    for line in _MESSAGES_TEXT.strip().replace("\n  ", " ").splitlines():
        message, _, fields = line.partition(":")
        table[message] = {}
        for declared in fields.split():
            place, _, kind = declared.partition(":")
            name, _, number = place.partition("=")
            shape = kind[:1] if kind[:1] in ("*", "<") else ""
            bare = kind.removeprefix(shape)
            table[message][int(number)] = (name, shape, bare.removesuffix("?"), bare.endswith("?"))
    return table


_MESSAGES = _read_table()
_KINDS = {name.removeprefix("+") for name in _MESSAGES if name.startswith("+")}
"""What may come as a body of its own."""

_MESSAGES |= {name: _MESSAGES["+" + name] for name in _KINDS}


def decode(body: bytes) -> dict[str, Any]:
    """The object in a body that starts with the magic number and holds a runtime.Unknown.

    Raises:
        ApiError: 400 for a body that is no such message, 415 for a kind or a field that is not known.
    """
    if not body.startswith(MAGIC):
        raise bad_request(
            "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
        )
    try:
        envelope = dict(_fields(body[len(MAGIC) :]))
        type_meta = dict(_fields(_bytes(envelope.get(1, b""))))
        api_version, kind = _bytes(type_meta.get(1, b"")).decode(), _bytes(type_meta.get(2, b"")).decode()
        if kind not in _KINDS:
            raise _unknown(f"no protobuf decoder for {api_version} {kind}")
        found = _message(kind, _bytes(envelope.get(2, b"")))
    except (IndexError, UnicodeDecodeError, struct.error, ValueError) as error:
        raise bad_request(f"unable to decode the protobuf message: {error}") from None
    return {"apiVersion": api_version, "kind": kind, **found}


def _unknown(why: str) -> ApiError:
    return unsupported_media_type(("application/json", "application/yaml"), why)


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, varint or bytes) of each field of a message."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            value, position = _varint(data, position)
            yield number, value
        elif wire_type == 2:
            size, position = _varint(data, position)
            if position + size > len(data):
                raise IndexError("unexpected end of the message")
            yield number, data[position : position + size]
            position += size
        else:
            raise ValueError(f"unexpected wire type {wire_type}")


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where text was expected")
    return value


def _message(name: str, data: bytes) -> dict[str, Any]:
    table = _MESSAGES[name]
    found: dict[str, Any] = {}
    for number, raw in _fields(data):
        if number not in table:
            raise _unknown(f"field {number} of the protobuf message {name} is not known here")
        field, shape, kind, kept = table[number]
        if kind == "ignored":
            continue
        if shape == "*":
            found.setdefault(field, []).append(_value(kind, raw))
        elif shape == "<":
            entry = dict(_fields(_bytes(raw)))
            found.setdefault(field, {})[_bytes(entry.get(1, b"")).decode()] = _value(kind, entry.get(2, b""))
        else:
            value = _value(kind, raw)
            if kept or value not in ("", 0, False, None, {}):
                found[field] = value
    return found


def _value(kind: str, raw: int | bytes) -> Any:
    if kind in ("i", "b"):
        if not isinstance(raw, int):
            raise ValueError("text where a number was expected")
        signed = raw - (1 << 64) if raw >> 63 else raw
        return bool(raw) if kind == "b" else signed
    data = _bytes(raw)
    if kind == "":
        return data.decode()
    if kind == "y":
        return base64.b64encode(data).decode()
    if kind == "json":
        return json.loads(data)
    if kind == "quantity":
        return _bytes(dict(_fields(data)).get(1, b"")).decode()
    if kind in ("time", "micro"):
        return _time(data, "microseconds" if kind == "micro" else "seconds")
    if kind == "port":
        parts = dict(_fields(data))
        return _bytes(parts.get(3, b"")).decode() if parts.get(1) else _value("i", parts.get(2, 0))
    found = _message(kind, data)
    return found.get("Raw") if kind == "FieldsV1" else found


def _time(data: bytes, precision: str) -> str | None:
    parts = dict(_fields(data))
    seconds, nanos = _value("i", parts.get(1, 0)), _value("i", parts.get(2, 0))
    if not parts or seconds < 0:
        return None
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=nanos // 1000)
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")

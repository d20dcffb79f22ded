"""The resources of a cluster: which groups, versions and kinds there are, and what each can do.

Built-in ones come from one table; a CustomResourceDefinition adds its own while it lives.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")

# Plural, kind, short names, categories, then: `cluster` for not namespaced, `plain` for kinds whose
# metadata.generation is not counted, the subresources, or the only verb.
_BUILT_IN = """
v1
  bindings                        Binding                        -       - only=create
  configmaps                      ConfigMap                      cm      - plain
  endpoints                       Endpoints                      ep      - plain
  events                          Event                          ev      - plain
  limitranges                     LimitRange                     limits  - plain
  namespaces                      Namespace                      ns      - cluster finalize status plain
  nodes                           Node                           no      - cluster status plain
  persistentvolumeclaims          PersistentVolumeClaim          pvc     - status plain
  persistentvolumes               PersistentVolume               pv      - cluster status plain
  pods                            Pod                            po      all status
  podtemplates                    PodTemplate                    -       - plain
  replicationcontrollers          ReplicationController          rc      all scale status
  resourcequotas                  ResourceQuota                  quota   - status plain
  secrets                         Secret                         -       - plain
  serviceaccounts                 ServiceAccount                 sa      - plain
  services                        Service                        svc     all status plain
admissionregistration.k8s.io/v1
  mutatingwebhookconfigurations   MutatingWebhookConfiguration   -       api-extensions cluster
  validatingadmissionpolicies     ValidatingAdmissionPolicy      -       api-extensions cluster status
  validatingadmissionpolicybindings ValidatingAdmissionPolicyBinding -       api-extensions cluster
  validatingwebhookconfigurations ValidatingWebhookConfiguration -       api-extensions cluster
apiextensions.k8s.io/v1
  customresourcedefinitions       CustomResourceDefinition       crd,crds api-extensions cluster status
apiregistration.k8s.io/v1
  apiservices                     APIService                     -       api-extensions cluster status plain
apps/v1
  controllerrevisions             ControllerRevision             -       - plain
  daemonsets                      DaemonSet                      ds      all status
  deployments                     Deployment                     deploy  all scale status
  replicasets                     ReplicaSet                     rs      all scale status
  statefulsets                    StatefulSet                    sts     all scale status
authentication.k8s.io/v1
  selfsubjectreviews              SelfSubjectReview              -       - cluster only=create
  tokenreviews                    TokenReview                    -       - cluster only=create
authorization.k8s.io/v1
  localsubjectaccessreviews       LocalSubjectAccessReview       -       - only=create
  selfsubjectaccessreviews        SelfSubjectAccessReview        -       - cluster only=create
  selfsubjectrulesreviews         SelfSubjectRulesReview         -       - cluster only=create
  subjectaccessreviews            SubjectAccessReview            -       - cluster only=create
autoscaling/v2
  horizontalpodautoscalers        HorizontalPodAutoscaler        hpa     all status plain
autoscaling/v1
  horizontalpodautoscalers        HorizontalPodAutoscaler        hpa     all status plain
batch/v1
  cronjobs                        CronJob                        cj      all status
  jobs                            Job                            -       all status
coordination.k8s.io/v1
  leases                          Lease                          -       - plain
discovery.k8s.io/v1
  endpointslices                  EndpointSlice                  -
networking.k8s.io/v1
  ingressclasses                  IngressClass                   -       - cluster
  ingresses                       Ingress                        ing     - status
  networkpolicies                 NetworkPolicy                  netpol
policy/v1
  poddisruptionbudgets            PodDisruptionBudget            pdb     - status
rbac.authorization.k8s.io/v1
  clusterrolebindings             ClusterRoleBinding             -       - cluster plain
  clusterroles                    ClusterRole                    -       - cluster plain
  rolebindings                    RoleBinding                    -       - plain
  roles                           Role                           -       - plain
scheduling.k8s.io/v1
  priorityclasses                 PriorityClass                  pc      - cluster
storage.k8s.io/v1
  csidrivers                      CSIDriver                      -       - cluster plain
  csinodes                        CSINode                        -       - cluster plain
  storageclasses                  StorageClass                   sc      - cluster plain
  volumeattachments               VolumeAttachment               -       - cluster status plain
"""


@dataclass(frozen=True)
class Subresource:
    """A subresource that has a kind of its own: `pods/eviction` takes a policy/v1 Eviction."""

    name: str
    kind: str
    verbs: tuple[str, ...]
    group: str = ""
    version: str = ""


_OBJECT_VERBS = ("get", "patch", "update")
_SPECIAL = {
    ("", "pods"): (
        Subresource("attach", "PodAttachOptions", ("create", "get")),
        Subresource("binding", "Binding", ("create",)),
        Subresource("ephemeralcontainers", "Pod", _OBJECT_VERBS),
        Subresource("eviction", "Eviction", ("create",), "policy", "v1"),
        Subresource("exec", "PodExecOptions", ("create", "get")),
        Subresource("log", "Pod", ("get",)),
        Subresource("portforward", "PodPortForwardOptions", ("create", "get")),
    ),
    ("", "serviceaccounts"): (
        Subresource("token", "TokenRequest", ("create",), "authentication.k8s.io", "v1"),
    ),
}


@dataclass(frozen=True, eq=False)
class Resource:
    """One plural in one version of one group.

    `schema` and `columns` (additionalPrinterColumns) are set for custom resources only.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    subresources: tuple[Subresource, ...] = ()
    list_kind: str = ""
    has_generation: bool = True
    custom: bool = False
    schema: dict[str, Any] | None = field(default=None, repr=False)
    columns: tuple[dict[str, Any], ...] = ()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def storage_key(self) -> tuple[str, str]:
        """All versions of a resource share their objects."""
        return (self.group, self.plural)

    def subresource(self, name: str) -> Subresource | None:
        return next((s for s in self.subresources if s.name == name), None)

    def path(self, namespace: str = "", name: str = "") -> str:
        """The canonical path, as discovery lays it out."""
        parts = ["/apis", self.group] if self.group else ["/api"]
        parts.append(self.version)
        if namespace and self.namespaced:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        return "/".join([*parts, name] if name else parts)


def _built_in() -> Iterator[Resource]:
    group = version = ""
    for line in _BUILT_IN.strip().splitlines():
        if not line.startswith(" "):
            group, _, version = line.rpartition("/")
            continue
        plural, kind, *rest = line.split()
        short, categories, *options = [*rest, *["-"] * (2 - len(rest))]
        verbs: tuple[str, ...] = ALL_VERBS
        subresources = list(_SPECIAL.get((group, plural), ()))
        for option in options:
            if option.startswith("only="):
                verbs = (option[5:],)
            elif option == "scale":
                subresources.append(Subresource("scale", "Scale", _OBJECT_VERBS, "autoscaling", "v1"))
            elif option == "finalize":
                subresources.append(Subresource("finalize", kind, ("update",)))
            elif option == "status":
                subresources.append(Subresource("status", kind, _OBJECT_VERBS))
        yield Resource(
            group=group,
            version=version,
            plural=plural,
            kind=kind,
            namespaced="cluster" not in options,
            has_generation="plain" not in options,
            singular=kind.lower(),
            short_names=() if short == "-" else tuple(short.split(",")),
            categories=() if categories == "-" else tuple(categories.split(",")),
            verbs=verbs,
            subresources=tuple(sorted(subresources, key=lambda s: s.name)),
            list_kind=f"{kind}List",
        )


BUILT_IN = tuple(_built_in())


class Registry:
    """Which resources are served now."""

    def __init__(self) -> None:
        self._served: dict[tuple[str, str, str], Resource] = {
            (r.group, r.version, r.plural): r for r in BUILT_IN
        }

    def get(self, group: str, version: str, plural: str) -> Resource | None:
        return self._served.get((group, version, plural))

    def has_group_version(self, group: str, version: str) -> bool:
        return any(r.group == group and r.version == version for r in self._served.values())

    def stored(self, key: tuple[str, str]) -> Resource | None:
        """A resource of that storage key: the preferred version that is served."""
        return next((r for r in self.all() if r.storage_key == key), None)

    def of_kind(self, api_version: str, kind: str) -> Resource | None:
        return next(
            (r for r in self._served.values() if r.api_version == api_version and r.kind == kind), None
        )

    def all(self) -> list[Resource]:
        """All of them; the preferred version of a group comes before its others."""
        return list(self._served.values())

    def groups(self) -> dict[str, list[str]]:
        """Group → its versions, the preferred one first; the core group is ``""``."""
        found: dict[str, list[str]] = {}
        for resource in self._served.values():
            versions = found.setdefault(resource.group, [])
            if resource.version not in versions:
                versions.append(resource.version)
        return {
            group: sorted(versions, key=version_priority, reverse=True) for group, versions in found.items()
        }

    def serve_custom(self, definition: dict[str, Any]) -> None:
        """Serve what a CustomResourceDefinition asks for, in place of what it asked for before."""
        self.withdraw_custom(definition)
        for resource in custom_resources(definition):
            self._served[(resource.group, resource.version, resource.plural)] = resource

    def withdraw_custom(self, definition: dict[str, Any]) -> None:
        spec = definition["spec"]
        key = (spec["group"], spec["names"]["plural"])
        gone = [place for place, r in self._served.items() if r.custom and r.storage_key == key]
        for place in gone:
            del self._served[place]


def version_priority(version: str) -> tuple[int, int, int]:
    """Sort key of API versions: v2 > v1 > v1beta2 > v1beta1 > v1alpha1 > anything else.

    >>> sorted(["v1alpha1", "v2", "v1beta1", "v1"], key=version_priority)
    ['v1alpha1', 'v1beta1', 'v1', 'v2']
    """
    match = re.fullmatch(r"v(\d+)(?:(alpha|beta)(\d+))?", version)
    if not match:
        return (0, 0, 0)
    stability = {"alpha": 1, "beta": 2, None: 3}[match.group(2)]
    return (stability, int(match.group(1)), int(match.group(3) or 0))


def custom_resources(definition: dict[str, Any]) -> Iterator[Resource]:
    """The resources, one a served version, that a CustomResourceDefinition stands for."""
    spec = definition["spec"]
    names = spec["names"]
    for version in sorted(spec["versions"], key=lambda v: version_priority(v["name"]), reverse=True):
        if not version.get("served"):
            continue
        asked = version.get("subresources") or {}
        subresources = []
        if "scale" in asked:
            subresources.append(Subresource("scale", "Scale", _OBJECT_VERBS, "autoscaling", "v1"))
        if "status" in asked:
            subresources.append(Subresource("status", names["kind"], _OBJECT_VERBS))
        yield Resource(
            group=spec["group"],
            version=version["name"],
            plural=names["plural"],
            kind=names["kind"],
            namespaced=spec["scope"] == "Namespaced",
            singular=names.get("singular") or names["kind"].lower(),
            short_names=tuple(names.get("shortNames") or ()),
            categories=tuple(names.get("categories") or ()),
            subresources=tuple(subresources),
            list_kind=names.get("listKind") or f"{names['kind']}List",
            custom=True,
            schema=(version.get("schema") or {}).get("openAPIV3Schema"),
            columns=tuple(version.get("additionalPrinterColumns") or ()),
        )

"""Would a namespace refuse the chart's pods? Kubernetes' Pod Security Standards, judged on what Helm would make.

A label on a namespace makes the API server refuse pods, and a StatefulSet then waits for ever without one pod, with
nothing but an event that says why. The rules are those of kubernetes.io/docs/concepts/security/pod-security-standards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import ConsulfedError
from ..results import Finding
from . import Check, check
from .target import Target

LABEL = "pod-security.kubernetes.io/enforce"
_BASELINE = """
    AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE SETFCAP SETGID SETPCAP SETUID SYS_CHROOT
"""
_ALLOWED = {"baseline": frozenset(_BASELINE.split()), "restricted": frozenset({"NET_BIND_SERVICE"})}
"""Capabilities that may be added."""


@check("pod-security", "the namespace's Pod Security level lets the chart's pods in", "warning")
def pod_security(self: Check, subject: str, target: Target) -> Iterator[Finding]:
    of = target.of
    found = target.get("namespaces", "", of.namespace)
    level = ((found or {}).get("metadata", {}).get("labels") or {}).get(LABEL, "privileged")
    if level not in _ALLOWED:
        yield self.ok(subject, f"namespace {of.namespace} enforces nothing")
        return
    try:
        made = target.rendered()
    except ConsulfedError as error:
        yield self.skipped(subject, f"namespace {of.namespace} enforces {level}; {error.found}")
        return
    refused = {
        f"{each['kind']} {each['metadata']['name']}": wrong
        for each in made
        if (wrong := [*violations(_pod(each), level)])
    }
    if not refused:
        yield self.ok(subject, f"namespace {of.namespace} enforces {level}, and the chart's pods comply")
        return
    names = sorted(refused, reverse=True)  # StatefulSets before Jobs
    some = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    why = ", ".join(sorted({each for wrong in refused.values() for each in wrong}))
    yield self.warning(
        subject,
        f"namespace {of.namespace} enforces {level} and would refuse the pods of {some}: {why}",
        f"use another namespace, or lower the level: kubectl --context {of.context} label namespace"
        f" {of.namespace} --overwrite {LABEL}=privileged",
    )


def _pod(made: Mapping[str, Any]) -> Mapping[str, Any]:
    """The pod that a workload makes; empty for what makes none."""
    spec = made.get("spec") or {}
    if made.get("kind") == "Pod":
        return spec
    template = spec.get("template") if isinstance(spec, Mapping) else None
    return (template.get("spec") or {}) if isinstance(template, Mapping) else {}


def violations(pod: Mapping[str, Any], level: str) -> Iterator[str]:
    """What in a pod's spec breaks a level (`baseline` or `restricted`), in the fields' own names."""
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield field
    kinds = {kind for volume in pod.get("volumes") or [] for kind in volume if kind != "name"}
    if "hostPath" in kinds:
        yield "hostPath volume"
    shared = pod.get("securityContext") or {}
    seen: set[str] = set()
    for container in [*(pod.get("initContainers") or []), *(pod.get("containers") or [])]:
        seen.update(_container_violations(container, shared, level))
    yield from sorted(seen)


def _container_violations(
    container: Mapping[str, Any], shared: Mapping[str, Any], level: str
) -> Iterator[str]:
    own = container.get("securityContext") or {}
    capabilities = own.get("capabilities") or {}
    if own.get("privileged"):
        yield "privileged"
    if any(port.get("hostPort") for port in container.get("ports") or []):
        yield "hostPort"
    if added := set(capabilities.get("add") or []) - _ALLOWED[level]:
        yield f"capability {', '.join(sorted(added))}"
    if level != "restricted":
        return
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if "ALL" not in (capabilities.get("drop") or []):
        yield "capabilities are not dropped"
    if not (own.get("runAsNonRoot", shared.get("runAsNonRoot"))):
        yield "runAsNonRoot is not true"
    profile = own.get("seccompProfile") or shared.get("seccompProfile") or {}
    if profile.get("type") not in {"RuntimeDefault", "Localhost"}:
        yield "no seccompProfile"

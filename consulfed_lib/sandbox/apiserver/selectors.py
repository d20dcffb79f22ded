"""Label and field selectors of list, watch and deletecollection."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from .status import bad_request

Matcher = Callable[[dict[str, Any]], bool]

_SET_BASED = re.compile(r"(!)?\s*([A-Za-z0-9][\w./-]*)\s*(?:\s+(in|notin)\s*\(([^)]*)\))?")
_EQUALITY = re.compile(r"([A-Za-z0-9][\w./-]*)\s*(==|=|!=|<|>)\s*([\w.-]*)")

FIELDS: dict[tuple[str, str], tuple[str, ...]] = {
    ("", "pods"): (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ),
    ("", "events"): (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
    ("", "nodes"): ("spec.unschedulable",),
    ("", "namespaces"): ("status.phase",),
    ("", "secrets"): ("type",),
    ("", "services"): ("spec.clusterIP", "spec.type"),
    ("apps", "replicasets"): ("status.replicas",),
    ("batch", "jobs"): ("status.successful",),
}
"""What can be selected on, beside metadata.name and metadata.namespace, as in a real API server."""


def split_requirements(selector: str) -> list[str]:
    """Cut at the commas that are not inside parentheses.

    >>> split_requirements("a=b,c in (d, e),!f")
    ['a=b', 'c in (d, e)', '!f']
    """
    return [part.strip() for part in re.split(r",(?![^(]*\))", selector) if part.strip()]


def _label_requirement(text: str) -> Callable[[Mapping[str, str]], bool]:
    equality = _EQUALITY.fullmatch(text)
    if equality:
        key, operator, value = equality.groups()
        if operator in ("=", "=="):
            return lambda labels: labels.get(key) == value
        if operator == "!=":
            return lambda labels: labels.get(key) != value
        if not re.fullmatch(r"-?\d+", value):
            raise bad_request(
                f'unable to parse requirement: values[0][{key}]: Invalid value: "{value}": '
                "for 'Gt', 'Lt' operators, the value must be an integer"
            )
        limit, greater = int(value), operator == ">"

        def compare(labels: Mapping[str, str]) -> bool:
            held = labels.get(key, "")
            if not re.fullmatch(r"-?\d+", held):
                return False
            return int(held) > limit if greater else int(held) < limit

        return compare
    match = _SET_BASED.fullmatch(text)
    if not match or (match.group(1) and match.group(3)):
        raise bad_request(
            f"unable to parse requirement: found '{text}', expected: in, notin, =, ==, !=, gt, lt"
        )
    negated, key, operator, values = match.groups()
    if operator:
        allowed = {value.strip() for value in values.split(",")}
        if operator == "in":
            return lambda labels: key in labels and labels[key] in allowed
        return lambda labels: key not in labels or labels[key] not in allowed
    if negated:
        return lambda labels: key not in labels
    return lambda labels: key in labels


def label_matcher(selector: str) -> Callable[[Mapping[str, str]], bool]:
    """A predicate over labels.

    >>> matches = label_matcher("app=web,tier in (a,b),!gone")
    >>> matches({"app": "web", "tier": "a"}), matches({"app": "web", "tier": "a", "gone": ""})
    (True, False)
    """
    requirements = [_label_requirement(part) for part in split_requirements(selector)]
    return lambda labels: all(requirement(labels) for requirement in requirements)


def match_label_selector(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a metav1.LabelSelector object matches; an empty one matches everything."""
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for expression in selector.get("matchExpressions") or ():
        key, values = expression["key"], expression.get("values") or ()
        held = key in labels
        matched = {
            "In": held and labels.get(key) in values,
            "NotIn": not held or labels.get(key) not in values,
            "Exists": held,
            "DoesNotExist": not held,
        }[expression["operator"]]
        if not matched:
            return False
    return True


def field_value(obj: Mapping[str, Any], path: str) -> str:
    """A field as a selector compares it: a string, empty when it is not there."""
    value: Any = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if value is None:
        return "false" if path in ("spec.unschedulable", "spec.hostNetwork") else ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def field_requirements(
    selector: str, key: tuple[str, str], selectable: tuple[str, ...] = ()
) -> list[tuple[str, bool, str]]:
    """(path, whether it must be equal, value) of each requirement; 400 for a field that is not selectable."""
    known = ("metadata.name", "metadata.namespace", *FIELDS.get(key, ()), *selectable)
    found = []
    for part in split_requirements(selector):
        match = re.fullmatch(r"([^=!]+)(==|=|!=)(.*)", part)
        if not match:
            raise bad_request(f"invalid selector: '{selector}'; can't understand '{part}'")
        path, operator, value = match.groups()
        if path not in known:
            raise bad_request(
                f'Unable to find "{"/".join(p for p in key if p)}" that match label selector "", '
                f'field selector "{selector}": field label not supported: {path}'
            )
        found.append((path, operator != "!=", value))
    return found


def matcher(
    label_selector: str, field_selector: str, key: tuple[str, str], selectable: tuple[str, ...] = ()
) -> Matcher | None:
    """One predicate over objects for both selectors; None when there is nothing to select by.

    Raises:
        ApiError: 400 for a selector that cannot be understood.
    """
    labels = label_matcher(label_selector) if label_selector.strip() else None
    fields = field_requirements(field_selector, key, selectable) if field_selector.strip() else None
    if labels is None and fields is None:
        return None

    def matches(obj: dict[str, Any]) -> bool:
        if labels is not None and not labels(obj["metadata"].get("labels") or {}):
            return False
        return all((field_value(obj, path) == value) is equal for path, equal, value in fields or ())

    return matches

"""What names, labels and other metadata may look like (k8s.io/apimachinery/pkg/util/validation)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .resources import Resource
from .status import Cause, invalid_value, required
from .store import Object

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_SERVICE = r"[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_ANNOTATIONS_LIMIT = 256 * 1024

_SUBDOMAIN_MESSAGE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_MESSAGE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and "
    "end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_SERVICE_MESSAGE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic "
    "character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for "
    "validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
)
_VALUE_MESSAGE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must "
    "start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for "
    "validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_NAME_PART_MESSAGE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)

_PATH_SEGMENT_NAMES = {"roles", "rolebindings", "clusterroles", "clusterrolebindings"}


def name_problem(resource: Resource, name: str) -> str:
    """Why an object of that resource cannot have that name; empty when it can."""
    if resource.group == "rbac.authorization.k8s.io" and resource.plural in _PATH_SEGMENT_NAMES:
        if name in (".", ".."):
            return f"may not be '{name}'"
        return next((f"may not contain '{sign}'" for sign in "/%" if sign in name), "")
    if resource.storage_key == ("", "services"):
        return _limited(name, 63, _SERVICE, _SERVICE_MESSAGE)
    if resource.storage_key == ("", "namespaces"):
        return _limited(name, 63, _LABEL, _LABEL_MESSAGE)
    return _limited(name, 253, _SUBDOMAIN, _SUBDOMAIN_MESSAGE)


def _limited(text: str, limit: int, pattern: str, message: str) -> str:
    if len(text) > limit:
        return f"must be no more than {limit} characters"
    return "" if re.fullmatch(pattern, text) else message


def label_key_problem(key: str) -> str:
    prefix, slash, name = key.rpartition("/")
    if slash and (not prefix or not re.fullmatch(_SUBDOMAIN, prefix) or len(prefix) > 253):
        return f"prefix part {_SUBDOMAIN_MESSAGE}" if prefix else "prefix part must be non-empty"
    if not name:
        return "name part must be non-empty"
    return _limited(name, 63, _QUALIFIED, _NAME_PART_MESSAGE)


def label_value_problem(value: str) -> str:
    return _limited(value, 63, rf"({_QUALIFIED})?", _VALUE_MESSAGE)


def check_labels(labels: Any, path: str) -> Iterator[Cause]:
    """Keys and values of a map of labels."""
    if not isinstance(labels, dict):
        yield invalid_value(path, labels, "must be a map of strings")
        return
    for key, value in labels.items():
        if problem := label_key_problem(key):
            yield invalid_value(path, key, problem)
        if not isinstance(value, str):
            yield invalid_value(path, value, "must be a string")
        elif problem := label_value_problem(value):
            yield invalid_value(path, value, problem)


def check_metadata(resource: Resource, obj: Object) -> Iterator[Cause]:
    """Everything that is wrong with an object's metadata."""
    metadata = obj["metadata"]
    name = metadata.get("name")
    if not name:
        yield required("metadata.name", "name or generateName is required")
    elif problem := name_problem(resource, name):
        yield invalid_value("metadata.name", name, problem)
    yield from check_labels(metadata.get("labels") or {}, "metadata.labels")
    annotations = metadata.get("annotations") or {}
    for key, value in annotations.items():
        if problem := label_key_problem(key.lower()):
            yield invalid_value("metadata.annotations", key, problem)
        if not isinstance(value, str):
            yield invalid_value("metadata.annotations", value, "must be a string")
    size = sum(len(str(part)) for pair in annotations.items() for part in pair)
    if size > _ANNOTATIONS_LIMIT:
        yield Cause(
            "metadata.annotations",
            f"Too long: may not be more than {_ANNOTATIONS_LIMIT} bytes",
            reason="FieldValueTooLong",
        )
    for finalizer in metadata.get("finalizers") or ():
        if problem := label_key_problem(finalizer):
            yield invalid_value("metadata.finalizers", finalizer, problem)
    for position, owner in enumerate(metadata.get("ownerReferences") or ()):
        for part in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(part):
                yield invalid_value(
                    f"metadata.ownerReferences[{position}].{part}", "", f"{part} must not be empty"
                )

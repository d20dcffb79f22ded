"""Refusals: what the API server answers when it does not do what was asked, as metav1.Status.

Wording and reasons are those of k8s.io/apimachinery/pkg/api/errors, because clients and people both read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


class ApiError(Exception):
    """One refusal; `status()` is the body and `code` the HTTP status that go on the wire."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = dict(details or {})
        self.headers = dict(headers or {})

    def status(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        }
        if not self.reason:
            del body["reason"]
        if self.details:
            body["details"] = self.details
        return body | {"code": self.code}


@dataclass(frozen=True)
class Cause:
    """One field that is wrong, as field.Error of apimachinery has it."""

    field: str
    message: str
    reason: str = "FieldValueInvalid"


def invalid_value(field: str, value: Any, problem: str) -> Cause:
    return Cause(field, f"Invalid value: {quoted(value)}: {problem}")


def required(field: str, problem: str = "") -> Cause:
    return Cause(
        field, f"Required value: {problem}" if problem else "Required value", reason="FieldValueRequired"
    )


def forbidden_field(field: str, problem: str) -> Cause:
    return Cause(field, f"Forbidden: {problem}", reason="FieldValueForbidden")


def unsupported_value(field: str, value: Any, supported: Iterable[str]) -> Cause:
    listed = ", ".join(f'"{s}"' for s in supported)
    return Cause(
        field,
        f"Unsupported value: {quoted(value)}: supported values: {listed}",
        reason="FieldValueNotSupported",
    )


def quoted(value: Any) -> str:
    """A value as Go's error messages print it.

    >>> quoted("a"), quoted({"app": "x"}), quoted(True), quoted(None)
    ('"a"', 'map[string]string{"app":"x"}', 'true', 'null')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    if value is None:
        return "null"
    if isinstance(value, dict) and all(isinstance(v, str) for v in value.values()):
        return "map[string]string{" + ", ".join(f"{quoted(k)}:{quoted(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (dict, list)):
        return "object" if isinstance(value, dict) else "array"
    return str(value)


def qualified(plural: str, group: str) -> str:
    """`deployments.apps`, `pods`: how messages name a resource (or, with a kind, a kind)."""
    return f"{plural}.{group}" if group else plural


def _details(plural: str, group: str, name: str, **more: Any) -> dict[str, Any]:
    details = {"name": name, "group": group, "kind": plural, **more}
    return {key: value for key, value in details.items() if value}


def not_found(plural: str, group: str, name: str) -> ApiError:
    return ApiError(
        404,
        "NotFound",
        f'{qualified(plural, group)} "{name}" not found',
        _details(plural, group, name),
    )


def no_such_path() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource")


def already_exists(plural: str, group: str, name: str) -> ApiError:
    return ApiError(
        409,
        "AlreadyExists",
        f'{qualified(plural, group)} "{name}" already exists',
        _details(plural, group, name),
    )


OPTIMISTIC_LOCK = (
    "the object has been modified; please apply your changes to the latest version and try again"
)


def conflict(plural: str, group: str, name: str, why: str = OPTIMISTIC_LOCK) -> ApiError:
    return ApiError(
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {qualified(plural, group)} "{name}": {why}',
        _details(plural, group, name),
    )


def invalid(kind: str, group: str, name: str, causes: Iterable[Cause]) -> ApiError:
    found = list(causes)
    parts = [f"{c.field}: {c.message}" if c.field else c.message for c in found]
    said = parts[0] if len(parts) == 1 else "[" + ", ".join(parts) + "]"
    return ApiError(
        422,
        "Invalid",
        f'{qualified(kind, group)} "{name}" is invalid: {said}',
        _details(
            kind,
            group,
            name,
            causes=[{"reason": c.reason, "message": c.message, "field": c.field} for c in found],
        ),
    )


def forbidden(plural: str, group: str, name: str, why: str) -> ApiError:
    resource = qualified(plural, group)
    what = f'{resource} "{name}"' if name else resource
    return ApiError(
        403, "Forbidden", f"{what} is forbidden: {why}" if what else why, _details(plural, group, name)
    )


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def unauthorized() -> ApiError:
    return ApiError(401, "Unauthorized", "Unauthorized")


def expired(message: str) -> ApiError:
    """410: a resourceVersion or continue token is older than what is remembered."""
    return ApiError(410, "Expired", message)


def method_not_allowed(plural: str, group: str, action: str) -> ApiError:
    return ApiError(
        405,
        "MethodNotAllowed",
        f'{action} is not supported on resources of kind "{qualified(plural, group)}"',
        _details(plural, group, ""),
    )


def not_acceptable(offered: Iterable[str]) -> ApiError:
    return ApiError(
        406, "NotAcceptable", f"only the following media types are accepted: {', '.join(offered)}"
    )


def unsupported_media_type(accepted: Iterable[str], why: str = "") -> ApiError:
    return ApiError(
        415,
        "UnsupportedMediaType",
        "the body of the request was in an unknown format - accepted media types include: "
        + ", ".join(accepted)
        + (f" ({why})" if why else ""),
    )


def internal_error(why: str) -> ApiError:
    return ApiError(500, "InternalError", f"Internal error occurred: {why}", {"causes": [{"message": why}]})

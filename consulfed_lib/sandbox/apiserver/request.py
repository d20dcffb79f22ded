"""What a request asks for: its path taken apart, its options, its body decoded."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import yaml

from . import protobuf
from .resources import Registry, Resource, Subresource
from .status import (
    bad_request,
    invalid,
    no_such_path,
    not_acceptable,
    unsupported_media_type,
    unsupported_value,
)

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}
_BOOLEANS = {"": False, "0": False, "false": False, "1": True, "true": True}


@dataclass
class RequestInfo:
    """A request as authorization, audit and the handlers see it.

    `verb` is the RBAC verb; for a path that is no resource it is the method in lower case.
    """

    method: str
    path: str
    query: dict[str, list[str]]
    verb: str
    group: str = ""
    version: str = ""
    plural: str = ""
    namespace: str = ""
    name: str = ""
    sub: str = ""
    extra_path: str = ""
    is_resource: bool = False
    resource: Resource | None = None
    subresource: Subresource | None = None

    def option(self, name: str) -> str:
        values = self.query.get(name)
        return values[0] if values else ""

    def flag(self, name: str) -> bool:
        """A boolean option, as Go's strconv reads it."""
        value = self.option(name).lower()
        return _BOOLEANS.get(value, value in ("t", "yes"))

    def number(self, name: str) -> int | None:
        value = self.option(name)
        if not value:
            return None
        try:
            return int(value)
        except ValueError:
            raise bad_request(f'strconv.ParseInt: parsing "{value}": invalid syntax') from None

    @property
    def dry_run(self) -> bool:
        given = self.query.get("dryRun", [])
        if given and given != ["All"]:
            raise invalid(
                "CreateOptions", "meta.k8s.io", "", [unsupported_value("dryRun", given[0], ["All"])]
            )
        return bool(given)


def parse(method: str, path: str, query: dict[str, list[str]], registry: Registry) -> RequestInfo:
    """Take a path apart. Whether the resource is served shows in `resource`, not in an error."""
    info = RequestInfo(method, path, query, method.lower())
    parts = [part for part in path.split("/") if part]
    if len(parts) >= 3 and parts[0] == "api":
        info.version, rest = parts[1], parts[2:]
    elif len(parts) >= 4 and parts[0] == "apis":
        info.group, info.version, rest = parts[1], parts[2], parts[3:]
    else:
        return info
    info.is_resource = True
    watching = info.flag("watch")
    if rest[0] == "watch" and len(rest) > 1:
        watching, rest = True, rest[1:]
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
        info.namespace, rest = rest[1], rest[2:]
    elif rest[0] == "namespaces" and len(rest) > 1:
        info.namespace = rest[1]
    info.plural = rest[0]
    info.name = rest[1] if len(rest) > 1 else ""
    info.sub = rest[2] if len(rest) > 2 else ""
    info.extra_path = "/".join(rest[3:])
    info.verb = _verb(method, info.name, watching)
    if not info.name and info.verb in ("list", "watch", "deletecollection"):
        info.name = _selected_name(info.option("fieldSelector"))
    info.resource = registry.get(info.group, info.version, info.plural)
    if info.resource and info.sub:
        info.subresource = info.resource.subresource(info.sub)
    return info


def _verb(method: str, name: str, watching: bool) -> str:
    if method in ("GET", "HEAD"):
        if watching:
            return "watch"
        return "get" if name else "list"
    if method == "DELETE":
        return "delete" if name else "deletecollection"
    return _VERBS.get(method, method.lower())


def _selected_name(selector: str) -> str:
    """The name that a list or watch is narrowed to: authorization takes it as a request for that object."""
    for part in selector.split(","):
        key, _, value = part.partition("=")
        if key == "metadata.name":
            return value.lstrip("=")
    return ""


def check_served(info: RequestInfo) -> Resource:
    """The resource that is asked for; raises 404 when it, or its subresource, is not served."""
    resource = info.resource
    if resource is None or (info.sub and info.subresource is None) or info.extra_path:
        raise no_such_path()
    if info.namespace and not resource.namespaced and resource.plural != "namespaces":
        raise no_such_path()
    return resource


def media_type(header: str) -> str:
    return header.partition(";")[0].strip().lower()


def decode_body(body: bytes, content_type: str, default_kind: tuple[str, str] | None = None) -> Any:
    """The object in a body: JSON, YAML or Kubernetes' protobuf.

    Raises:
        ApiError: 400 when it does not parse, 415 for another format or a protobuf message that is not known.
    """
    kind = media_type(content_type) or JSON
    if kind == PROTOBUF:
        return protobuf.decode(body)
    if kind not in (JSON, YAML, "application/x-yaml"):
        raise unsupported_media_type((JSON, YAML, PROTOBUF))
    try:
        found = json.loads(body) if kind == JSON else yaml.load(body, Loader=_Yaml)
    except (ValueError, yaml.YAMLError) as error:
        raise bad_request(f"couldn't get version/kind; json parse error: {error}") from None
    if default_kind and isinstance(found, dict):
        found.setdefault("apiVersion", default_kind[0])
        found.setdefault("kind", default_kind[1])
    return found


class _Yaml(yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):  # type: ignore[misc]
    """YAML whose timestamps stay text, as they are in JSON."""


_Yaml.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True)
class Wanted:
    """The form in which a client takes an answer: ``as`` is Table, PartialObjectMetadata(List) or empty."""

    form: str = ""
    version: str = "v1"
    parameters: dict[str, str] = field(default_factory=dict)


def negotiate(accept: str) -> Wanted:
    """The best form that the Accept header names and this server has; JSON always is.

    Raises:
        ApiError: 406 when only formats are named that this server does not write.
    """
    if not accept:
        return Wanted()
    for offer in accept.split(","):
        kind, *pieces = (piece.strip() for piece in offer.split(";"))
        parameters = dict(piece.split("=", 1) for piece in pieces if "=" in piece)
        if kind not in (JSON, "application/*", "*/*", "application/yaml", "text/plain"):
            continue
        form = parameters.get("as", "")
        if form == "" or (parameters.get("g") == "meta.k8s.io" and parameters.get("v") in ("v1", "v1beta1")):
            return Wanted(form, parameters.get("v", "v1"), parameters)
        if parameters.get("g") == "apidiscovery.k8s.io":
            return Wanted(form, parameters.get("v", "v2"), parameters)
    raise not_acceptable((JSON,))

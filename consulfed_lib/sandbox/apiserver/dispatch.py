"""From an authorized request to what it asks for: each verb of each resource and subresource."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from . import fields, patches, portforward, reads, reviews, streams, subresources
from .cluster import Cluster
from .contracts import Kubelet, User
from .deletion import DeleteOptions, Deleter, delete_options
from .rbac import attributes_of, refusal
from .request import JSON, YAML, RequestInfo, Wanted, check_served, decode_body, media_type, negotiate
from .resources import Resource
from .rest import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, Rest, WriteOptions
from .schema import ANY
from .status import invalid, method_not_allowed, required, unsupported_media_type
from .store import Object

_PATCHES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)
_LONGEST_MANAGER = 128
_REVIEWS = ("authentication.k8s.io", "authorization.k8s.io")
_STREAMS = ("attach", "exec", "log", "portforward")
_SUCCESS = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


@dataclass
class Answer:
    """A body to send, with its status and headers; `name` is that of a created object."""

    body: Any
    code: int = 200
    headers: dict[str, str] | None = None
    name: str = ""


@dataclass
class _Call:
    """One request for a resource that is served."""

    request: web.BaseRequest
    info: RequestInfo
    resource: Resource
    wanted: Wanted
    user: User
    body: bytes = b""

    def require(self, verbs: Sequence[str], sub: str = "") -> None:
        """Raises 405 when the verb is none of those."""
        if self.info.verb not in verbs:
            plural = f"{self.resource.plural}/{sub}" if sub else self.resource.plural
            raise method_not_allowed(plural, self.resource.group, self.info.verb)

    def decoded(self) -> Any:
        """The body; what it leaves out of apiVersion and kind is this resource's."""
        content_type = self.request.headers.get("Content-Type", "")
        return decode_body(self.body, content_type, (self.resource.api_version, self.resource.kind))

    def plain(self) -> Any:
        """The body as it is, None when there is none."""
        return decode_body(self.body, self.request.headers.get("Content-Type", "")) if self.body else None

    def validated(self) -> tuple[Any, list[str]]:
        """(the body, warnings); raises 400 for fields that are not known, when asked to be strict."""
        obj = self.decoded()
        return obj, fields.check(self.resource, obj, self.info.option("fieldValidation"))

    def options(self) -> WriteOptions:
        agent = self.request.headers.get("User-Agent", "").partition("/")[0][:_LONGEST_MANAGER]
        manager = self.info.option("fieldManager") or agent
        return WriteOptions(manager, self.info.dry_run, self.info.flag("force"), self.user)

    def patch(self) -> tuple[str, Any]:
        """(media type of the patch, the patch)."""
        kind = media_type(self.request.headers.get("Content-Type", ""))
        if kind not in _PATCHES:
            raise unsupported_media_type(_PATCHES)
        if kind == APPLY_PATCH and not self.info.option("fieldManager"):
            cause = required("fieldManager", "is required for apply patch")
            raise invalid("PatchOptions", "meta.k8s.io", "", [cause])
        return kind, decode_body(self.body, YAML if kind == APPLY_PATCH else JSON)

    def delete_options(self) -> DeleteOptions:
        return delete_options(self.plain(), self.info.query)

    def written(self, obj: Object, code: int = 200, warnings: Sequence[str] = ()) -> Answer:
        escaped = [text.replace("\\", "\\\\").replace('"', '\\"') for text in warnings]
        headers = {"Warning": ", ".join(f'299 - "{text}"' for text in escaped)} if escaped else None
        return Answer(reads.shown(obj, self.resource, self.wanted), code, headers, obj["metadata"]["name"])


class Dispatcher:
    """Serves the resources of one cluster."""

    def __init__(self, cluster: Cluster, rest: Rest, deleter: Deleter, stopping: asyncio.Event):
        self._cluster = cluster
        self._rest = rest
        self._deleter = deleter
        self._stopping = stopping
        self.kubelet: Kubelet | None = None

    async def serve(
        self, request: web.BaseRequest, info: RequestInfo, user: User
    ) -> Answer | web.StreamResponse:
        """Do what is asked. Streams are written here, and come back finished.

        Raises:
            ApiError: it is refused.
        """
        resource = check_served(info)
        wanted = negotiate(request.headers.get("Accept", ""))
        if info.option("includeObject"):
            wanted.parameters["includeObject"] = info.option("includeObject")
        call = _Call(request, info, resource, wanted, user)
        if info.verb in ("list", "watch") and not info.sub:
            call.require(resource.verbs)
            if info.verb == "watch":
                return await self._watch(call)
            return Answer(reads.list_objects(self._cluster, info, resource, call.wanted))
        if resource.namespaced and not info.namespace:
            raise method_not_allowed(resource.plural, resource.group, info.verb)
        if info.subresource and info.sub != "status":
            return await self._serve_subresource(call, info.subresource.verbs)
        call.require(resource.verbs)
        if info.verb == "get":
            return Answer(reads.shown(self._get(call), resource, call.wanted))
        call.body = await request.read()
        return self._write(call)

    def _get(self, call: _Call) -> Object:
        return self._rest.get(call.resource, call.info.namespace, call.info.name)

    def _write(self, call: _Call) -> Answer:
        info, resource = call.info, call.resource
        if info.verb == "deletecollection":
            return self._delete_collection(call)
        if info.verb == "create" and not info.name:
            return self._create(call)
        if info.verb == "update" and info.name:
            return self._update(call)
        if info.verb == "patch" and info.name:
            return self._patch(call)
        if info.verb == "delete" and not info.sub:
            last, gone = self._deleter.delete(resource, self._get(call), call.delete_options())
            return Answer(self._deleter.answer(resource, last, gone))
        raise method_not_allowed(resource.plural, resource.group, info.verb)

    def _create(self, call: _Call) -> Answer:
        resource, namespace = call.resource, call.info.namespace
        if resource.group in _REVIEWS:
            body = reviews.review(self._cluster, resource, call.user, namespace, call.decoded())
            return Answer(body, 201)
        obj, warnings = call.validated()
        return call.written(self._rest.create(resource, namespace, obj, call.options()), 201, warnings)

    def _update(self, call: _Call) -> Answer:
        info = call.info
        obj, warnings = call.validated()
        made = self._rest.update(call.resource, info.namespace, info.name, info.sub, obj, call.options())
        return call.written(made, 200, warnings)

    def _patch(self, call: _Call) -> Answer:
        info = call.info
        kind, patch = call.patch()
        warnings: list[str] = []
        if kind != JSON_PATCH and isinstance(patch, dict):
            body = {key: value for key, value in patch.items() if not key.startswith("$")}
            warnings = fields.check(call.resource, body, info.option("fieldValidation"))
        made, created = self._rest.patch(
            call.resource, info.namespace, info.name, info.sub, kind, patch, call.options()
        )
        return call.written(made, 201 if created else 200, warnings)

    def _delete_collection(self, call: _Call) -> Answer:
        resource, options = call.resource, call.delete_options()
        namespace = call.info.namespace if resource.namespaced else ""
        matches = reads.selected(call.info, resource)
        found = self._cluster.store.list(resource.storage_key, namespace, matches)
        deleted = [self._deleter.delete(resource, obj, options)[0] for obj in found]
        return Answer(
            {
                "kind": resource.list_kind,
                "apiVersion": resource.api_version,
                "metadata": {"resourceVersion": str(self._cluster.store.revision)},
                "items": deleted,
            }
        )

    async def _watch(self, call: _Call) -> web.StreamResponse:
        watch = reads.Watch(self._cluster, call.info, call.resource, call.wanted)
        headers = {"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
        response = web.StreamResponse(headers=headers)
        response.enable_chunked_encoding()
        await response.prepare(call.request)
        await watch.run(response, self._stopping)
        return response

    async def _serve_subresource(self, call: _Call, verbs: Sequence[str]) -> Answer | web.StreamResponse:
        info, resource = call.info, call.resource
        call.require(verbs, info.sub)
        obj = self._get(call)
        if info.sub in _STREAMS:
            return await self._stream(call, obj)
        call.body = await call.request.read()
        if info.sub == "token":
            return Answer(subresources.create_token(self._cluster, obj, call.plain()), 201)
        if info.sub == "scale":
            return self._scale(call, obj)
        if info.sub == "eviction":
            subresources.evict(self._cluster, self._deleter, resource, obj, call.plain())
            return Answer(_SUCCESS, 201)
        if info.sub == "binding":
            subresources.bind(self._rest, resource, obj, call.plain(), call.options())
            return Answer(_SUCCESS, 201)
        if info.verb == "get":
            return Answer(reads.shown(obj, resource, call.wanted))
        return self._patch(call) if info.verb == "patch" else self._update(call)

    async def _stream(self, call: _Call, pod: Object) -> web.StreamResponse:
        request, info = call.request, call.info
        if info.sub != "log" and info.verb != "create":
            # A WebSocket begins with a GET. From 1.35 on it takes the right to create as well; that is asked for here
            # already, so that rights that are enough here are enough there.
            asked = replace(attributes_of(info), verb="create")
            if not self._cluster.authorizer.allowed(call.user, asked)[0]:
                raise refusal(call.user, asked)
        kubelet = streams.require_kubelet(self.kubelet, pod)
        if info.sub == "log":
            return await streams.logs(request, info, kubelet, pod)
        if info.sub != "portforward":
            return await streams.execute(request, info, kubelet, pod)
        streams.require_upgrade(request)
        ports = portforward.ports_of(info.query.get("ports", []))
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        return await portforward.forward(request, kubelet, namespace, name, ports)

    def _scale(self, call: _Call, obj: Object) -> Answer:
        if call.info.verb == "get":
            return Answer(subresources.scale_of(obj))
        if call.info.verb == "update":
            asked = call.plain()
        else:
            kind, patch = call.patch()
            scale = subresources.scale_of(obj)
            if kind == JSON_PATCH:
                asked = patches.json_patch(scale, patch)
            elif kind == STRATEGIC_PATCH:
                asked = patches.strategic_merge_patch(scale, patch, ANY)
            else:
                asked = patches.merge_patch(scale, patch)
        return Answer(subresources.set_scale(self._rest, call.resource, obj, asked, call.options()))

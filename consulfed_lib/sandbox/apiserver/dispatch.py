"""From an authorized request to what it asks for: each verb of each resource and subresource."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from . import fields, patches, portforward, reads, reviews, streams, subresources
from .cluster import Cluster
from .contracts import Kubelet, User
from .deletion import Deleter, delete_options
from .request import RequestInfo, Wanted, check_served, decode_body, media_type, negotiate
from .resources import Resource
from .rest import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, Rest, WriteOptions
from .schema import ANY
from .status import invalid, method_not_allowed, required, unsupported_media_type
from .store import Object

_PATCHES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)
_TOKEN_MANAGER = 128
"""Longest fieldManager."""


class Answer:
    """A body to send, with its status and headers; `name` is what was created."""

    def __init__(self, body: Any, code: int = 200, headers: dict[str, str] | None = None, name: str = ""):
        self.body = body
        self.code = code
        self.headers = headers or {}
        self.name = name


class Dispatcher:
    """Serves resources of one cluster."""

    def __init__(self, cluster: Cluster, rest: Rest, deleter: Deleter, stopping: asyncio.Event):
        self._cluster = cluster
        self._rest = rest
        self._deleter = deleter
        self._stopping = stopping
        self.kubelet: Kubelet | None = None

    async def serve(
        self, request: web.BaseRequest, info: RequestInfo, user: User
    ) -> Answer | web.StreamResponse:
        """Do what is asked. Streams are written here and come back finished."""
        resource = check_served(info)
        wanted = negotiate(request.headers.get("Accept", ""))
        if info.verb in ("list", "watch") and not info.sub:
            self._require(resource, info.verb)
            if info.verb == "list":
                return Answer(reads.list_objects(self._cluster, info, resource, wanted))
            return await self._watch(request, info, resource, wanted)
        if resource.namespaced and not info.namespace:
            raise method_not_allowed(resource.plural, resource.group, info.verb)
        if info.sub and info.sub != "status":
            return await self._serve_subresource(request, info, resource, wanted)
        if info.verb == "get":
            self._require(resource, "get")
            obj = self._rest.get(resource, info.namespace, info.name)
            return Answer(reads.shown(obj, resource, wanted))
        body = await request.read()
        return self._write(request, info, resource, wanted, body, user)

    def _write(
        self,
        request: web.BaseRequest,
        info: RequestInfo,
        resource: Resource,
        wanted: Wanted,
        body: bytes,
        user: User,
    ) -> Answer:
        content_type = request.headers.get("Content-Type", "")
        if info.verb == "delete":
            self._require(resource, "delete")
            return self._delete(info, resource, body, content_type)
        if info.verb == "deletecollection":
            self._require(resource, "deletecollection")
            return self._delete_collection(info, resource, body, content_type)
        if info.verb == "create" and not info.name:
            self._require(resource, "create")
            obj = decode_body(body, content_type, (resource.api_version, resource.kind))
            if resource.group in ("authentication.k8s.io", "authorization.k8s.io"):
                return Answer(reviews.review(self._cluster, resource, user, info.namespace, obj), 201)
            warnings = fields.check(resource, obj, info.option("fieldValidation"))
            made = self._rest.create(resource, info.namespace, obj, self._options(request, info))
            return self._written(made, resource, wanted, 201, warnings)
        if info.verb == "update" and info.name:
            self._require(resource, "update")
            obj = decode_body(body, content_type, (resource.api_version, resource.kind))
            warnings = fields.check(resource, obj, info.option("fieldValidation"))
            options = self._options(request, info)
            made = self._rest.update(resource, info.namespace, info.name, info.sub, obj, options)
            return self._written(made, resource, wanted, 200, warnings)
        if info.verb == "patch" and info.name:
            self._require(resource, "patch")
            return self._patch(request, info, resource, wanted, body)
        raise method_not_allowed(resource.plural, resource.group, info.verb)

    def _patch(
        self, request: web.BaseRequest, info: RequestInfo, resource: Resource, wanted: Wanted, body: bytes
    ) -> Answer:
        kind, options = self._patch_options(request, info)
        patch = decode_body(body, "application/yaml" if kind == APPLY_PATCH else "application/json")
        warnings: list[str] = []
        if kind != JSON_PATCH:
            warnings = fields.check(resource, _plain(patch), info.option("fieldValidation"))
        made, created = self._rest.patch(resource, info.namespace, info.name, info.sub, kind, patch, options)
        return self._written(made, resource, wanted, 201 if created else 200, warnings)

    def _patch_options(self, request: web.BaseRequest, info: RequestInfo) -> tuple[str, WriteOptions]:
        kind = media_type(request.headers.get("Content-Type", ""))
        if kind not in _PATCHES:
            raise unsupported_media_type(_PATCHES)
        if kind == APPLY_PATCH and not info.option("fieldManager"):
            why = "is required for apply patch"
            raise invalid("PatchOptions", "meta.k8s.io", "", [required("fieldManager", why)])
        return kind, self._options(request, info)

    def _options(self, request: web.BaseRequest, info: RequestInfo) -> WriteOptions:
        agent = request.headers.get("User-Agent", "").partition("/")[0][:_TOKEN_MANAGER]
        return WriteOptions(info.option("fieldManager") or agent, info.dry_run, info.flag("force"))

    def _written(
        self, obj: Object, resource: Resource, wanted: Wanted, code: int, warnings: list[str]
    ) -> Answer:
        headers = {}
        if warnings:
            quoted = [text.replace("\\", "\\\\").replace('"', '\\"') for text in warnings]
            headers["Warning"] = ", ".join(f'299 - "{text}"' for text in quoted)
        return Answer(reads.shown(obj, resource, wanted), code, headers, obj["metadata"]["name"])

    def _require(self, resource: Resource, verb: str) -> None:
        if verb not in resource.verbs:
            raise method_not_allowed(resource.plural, resource.group, verb)

    def _delete(self, info: RequestInfo, resource: Resource, body: bytes, content_type: str) -> Answer:
        if info.sub:
            raise method_not_allowed(resource.plural, resource.group, "delete")
        options = delete_options(_body_options(body, content_type), info.query)
        obj = self._rest.get(resource, info.namespace, info.name)
        last, gone = self._deleter.delete(resource, obj, options)
        return Answer(self._deleter.answer(resource, last, gone))

    def _delete_collection(
        self, info: RequestInfo, resource: Resource, body: bytes, content_type: str
    ) -> Answer:
        options = delete_options(_body_options(body, content_type), info.query)
        namespace = info.namespace if resource.namespaced else ""
        matches = reads.selected(info, resource)
        found = [
            self._deleter.delete(resource, obj, options)[0]
            for obj in self._cluster.store.list(resource.storage_key, namespace, matches)
        ]
        return Answer(
            {
                "kind": resource.list_kind,
                "apiVersion": resource.api_version,
                "metadata": {"resourceVersion": str(self._cluster.store.revision)},
                "items": found,
            }
        )

    async def _watch(
        self, request: web.BaseRequest, info: RequestInfo, resource: Resource, wanted: Wanted
    ) -> web.StreamResponse:
        watch = reads.Watch(self._cluster, info, resource, wanted)
        response = web.StreamResponse(
            headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
        )
        response.enable_chunked_encoding()
        await response.prepare(request)
        await watch.run(response, self._stopping)
        return response

    async def _serve_subresource(
        self, request: web.BaseRequest, info: RequestInfo, resource: Resource, wanted: Wanted
    ) -> Answer | web.StreamResponse:
        sub = info.subresource
        assert sub is not None
        if info.verb not in sub.verbs:
            raise method_not_allowed(f"{resource.plural}/{sub.name}", resource.group, info.verb)
        obj = self._rest.get(resource, info.namespace, info.name)
        if sub.name in ("log", "exec", "attach", "portforward"):
            return await self._stream(request, info, obj)
        body = await request.read()
        content_type = request.headers.get("Content-Type", "")
        options = self._options(request, info)
        if sub.name == "token":
            asked = decode_body(body, content_type)
            return Answer(subresources.create_token(self._cluster, obj, asked), 201)
        if sub.name == "scale":
            return self._scale(request, info, resource, obj, body)
        if sub.name == "eviction":
            subresources.evict(self._cluster, self._deleter, resource, obj, decode_body(body, content_type))
            return Answer(_SUCCESS, 201)
        if sub.name == "binding":
            subresources.bind(self._rest, resource, obj, decode_body(body, content_type), options)
            return Answer(_SUCCESS, 201)
        if info.verb == "get":
            return Answer(reads.shown(obj, resource, wanted))
        if info.verb == "patch":
            return self._patch(request, info, resource, wanted, body)
        asked = decode_body(body, content_type, (resource.api_version, resource.kind))
        made = self._rest.update(resource, info.namespace, info.name, sub.name, asked, options)
        return self._written(made, resource, wanted, 200, [])

    async def _stream(self, request: web.BaseRequest, info: RequestInfo, pod: Object) -> web.StreamResponse:
        kubelet = streams.require_kubelet(self.kubelet, pod)
        if info.sub == "log":
            return await streams.logs(request, info, kubelet, pod)
        if info.sub != "portforward":
            return await streams.execute(request, info, kubelet, pod)
        streams.require_upgrade(request)
        ports = portforward.ports_of(info.query.get("ports", []))
        return await portforward.forward(
            request, kubelet, pod["metadata"]["namespace"], pod["metadata"]["name"], ports
        )

    def _scale(
        self, request: web.BaseRequest, info: RequestInfo, resource: Resource, obj: Object, body: bytes
    ) -> Answer:
        if info.verb == "get":
            return Answer(subresources.scale_of(obj))
        if info.verb == "update":
            asked = decode_body(body, request.headers.get("Content-Type", ""))
            made = subresources.set_scale(
                self._rest, resource, obj, lambda scale: asked, self._options(request, info)
            )
            return Answer(made)
        kind, options = self._patch_options(request, info)
        patch = decode_body(body, "application/yaml" if kind == APPLY_PATCH else "application/json")

        def change(scale: Object) -> Any:
            if kind == JSON_PATCH:
                return patches.json_patch(scale, patch)
            if kind == STRATEGIC_PATCH:
                return patches.strategic_merge_patch(scale, patch, ANY)
            return patches.merge_patch(scale, patch)

        return Answer(subresources.set_scale(self._rest, resource, obj, change, options))


_SUCCESS = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def _plain(patch: Any) -> Any:
    """A patch without its directives, for field validation."""
    if not isinstance(patch, dict):
        return patch
    return {key: value for key, value in patch.items() if not key.startswith("$")}


def _body_options(body: bytes, content_type: str) -> Any:
    if not body:
        return None
    return decode_body(body, content_type)

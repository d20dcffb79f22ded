"""A lean asyncio client of a Kubernetes API server, for everything in the sandbox that is a client of one.

Objects are plain dicts as the API has them. Any resource is named by its apiVersion and its plural, so custom
resources need nothing more. The official client is synchronous, takes seconds to import and has no informer;
here a watch is one coroutine on one shared connection pool.

    async with KubeClient(url, ca_pem, token, "sandbox-kubelet") as client:
        pod = await client.get("v1", "pods", "web-0", "consul")
        async for kind, claim in client.watch("v1", "persistentvolumeclaims"):
            ...
"""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Any

import aiohttp

from .answers import (
    ADDED,
    DELETED,
    MODIFIED,
    SYNCED,
    KubeError,
    Object,
    items_of,
    no_answer,
    object_key,
    object_path,
    refusal,
)
from .watching import follow

__all__ = [
    "ADDED",
    "DELETED",
    "MODIFIED",
    "SYNCED",
    "KubeClient",
    "KubeError",
    "Object",
    "object_key",
    "object_path",
]

_WATCH_SECONDS = 290


class KubeClient:
    """One identity at one API server.

    Every method raises KubeError when the server refuses or does not answer. `user_agent` is also the field
    manager of everything that this client writes. `source` is the address of this machine that its connections come
    from; empty: whichever the kernel takes.
    """

    def __init__(self, base_url: str, ca_pem: str, token: str, user_agent: str, source: str = ""):
        self.base_url = base_url.rstrip("/")
        self.ca_pem = ca_pem
        self.user_agent = user_agent
        self.source = source
        self._tls = ssl.create_default_context(cadata=ca_pem)
        self._headers = {
            "Authorization": f"Bearer {token}",
            "User-Agent": user_agent,
            "Accept": "application/json",
        }
        self._open_session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> KubeClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; a later call opens new ones."""
        if self._open_session is not None:
            await self._open_session.close()
            self._open_session = None

    def as_user(self, token: str, user_agent: str) -> KubeClient:
        """A client of the same server with another identity; the caller closes it."""
        return KubeClient(self.base_url, self.ca_pem, token, user_agent, self.source)

    def _session(self) -> aiohttp.ClientSession:
        # Made late: an aiohttp session belongs to the loop that runs when it is made.
        if self._open_session is None:
            self._open_session = aiohttp.ClientSession(
                headers=self._headers,
                connector=aiohttp.TCPConnector(
                    ssl=self._tls, limit=0, local_addr=(self.source, 0) if self.source else None
                ),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            )
        return self._open_session

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Object:
        """One request for any path (`/apis`, `/version`, …); the answer's JSON."""
        headers = {"Content-Type": content_type} if body is not None else {}
        data = json.dumps(body) if body is not None else None
        try:
            async with self._session().request(
                method,
                self.base_url + path,
                params=query,
                data=data,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=60),
            ) as response:
                text = await response.text()
                if response.status >= 400:
                    raise refusal(response.status, text, f"{method} {path}")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise no_answer(method, path, error) from error
        return json.loads(text) if text else {}

    async def get(self, api_version: str, plural: str, name: str, namespace: str | None = None) -> Object:
        """The object; KubeError 404 when it is not there."""
        return await self.request("GET", object_path(api_version, plural, name, namespace))

    async def find(
        self, api_version: str, plural: str, name: str, namespace: str | None = None
    ) -> Object | None:
        """The object, or None when it is not there."""
        try:
            return await self.get(api_version, plural, name, namespace)
        except KubeError as error:
            if error.status == 404:
                return None
            raise

    async def list(
        self,
        api_version: str,
        plural: str,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> list[Object]:
        """The objects of one namespace, or of all; with apiVersion and kind filled in as `get` has them."""
        answer = await self.request(
            "GET",
            object_path(api_version, plural, None, namespace),
            query=_selectors(label_selector, field_selector),
        )
        return items_of(answer)

    async def create(
        self,
        api_version: str,
        plural: str,
        item: Object,
        namespace: str | None = None,
        *,
        name: str | None = None,
        subresource: str = "",
    ) -> Object:
        """Create an object, or POST to a subresource of `name` (binding, eviction, token)."""
        return await self.request(
            "POST",
            object_path(api_version, plural, name if subresource else None, namespace, subresource),
            query={"fieldManager": self.user_agent},
            body=item,
        )

    async def replace(
        self,
        api_version: str,
        plural: str,
        name: str,
        item: Object,
        namespace: str | None = None,
        *,
        subresource: str = "",
    ) -> Object:
        """Put the object; KubeError 409 Conflict when its resourceVersion is no longer the stored one."""
        return await self.request(
            "PUT",
            object_path(api_version, plural, name, namespace, subresource),
            query={"fieldManager": self.user_agent},
            body=item,
        )

    async def apply(
        self,
        api_version: str,
        plural: str,
        name: str,
        item: Object,
        namespace: str | None = None,
        *,
        subresource: str = "",
    ) -> Object:
        """Server-side apply: create it, or make these fields so; conflicts are forced."""
        return await self.request(
            "PATCH",
            object_path(api_version, plural, name, namespace, subresource),
            query={"fieldManager": self.user_agent, "force": "true"},
            body=item,
            content_type="application/apply-patch+yaml",
        )

    async def merge_patch(
        self,
        api_version: str,
        plural: str,
        name: str,
        patch: Object,
        namespace: str | None = None,
        *,
        subresource: str = "",
    ) -> Object:
        """JSON merge patch (RFC 7396): null removes a key, lists are replaced whole."""
        return await self.request(
            "PATCH",
            object_path(api_version, plural, name, namespace, subresource),
            query={"fieldManager": self.user_agent},
            body=patch,
            content_type="application/merge-patch+json",
        )

    async def delete(
        self,
        api_version: str,
        plural: str,
        name: str,
        namespace: str | None = None,
        *,
        grace_seconds: int | None = None,
        propagation: str = "",
        uid: str = "",
        missing_ok: bool = True,
    ) -> None:
        """Delete an object; one that is gone, or has another uid, is an error only without `missing_ok`."""
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        if propagation:
            options["propagationPolicy"] = propagation
        if uid:
            options["preconditions"] = {"uid": uid}
        try:
            await self.request("DELETE", object_path(api_version, plural, name, namespace), body=options)
        except KubeError as error:
            gone = error.status == 404 or (uid and error.status == 409)
            if not (gone and missing_ok):
                raise

    async def create_token(
        self,
        namespace: str,
        service_account: str,
        *,
        audiences: tuple[str, ...] = (),
        expires_seconds: int = 3600,
        pod: Object | None = None,
    ) -> str:
        """A signed token of a service account (TokenRequest), bound to a pod where one is given."""
        spec: Object = {"audiences": list(audiences), "expirationSeconds": expires_seconds}
        if pod is not None:
            metadata = pod["metadata"]
            spec["boundObjectRef"] = {
                "kind": "Pod",
                "apiVersion": "v1",
                "name": metadata["name"],
                "uid": metadata["uid"],
            }
        answer = await self.create(
            "v1",
            "serviceaccounts",
            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec},
            namespace,
            name=service_account,
            subresource="token",
        )
        return answer["status"]["token"]

    async def watch(
        self,
        api_version: str,
        plural: str,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        marks: bool = False,
    ) -> AsyncGenerator[tuple[str, Object], None]:
        """Yield (ADDED | MODIFIED | DELETED, object) for what is there and then for each change, for ever.

        It survives disconnects, 410 Gone and a restart of the server: it lists again and yields the
        difference to what was known, deletions included. A kind that is not served (its CRD is not there
        yet) is an empty list, looked for again each second. With `marks`, (SYNCED, {}) follows each complete
        list. Only an answer that waiting does not mend (401, 403, 400) raises KubeError.
        """
        path = object_path(api_version, plural, None, namespace)
        changes = follow(self, path, _selectors(label_selector, field_selector), marks)
        try:
            async for change in changes:
                yield change
        finally:
            await changes.aclose()

    async def events(
        self, path: str, query: dict[str, str], version: str
    ) -> AsyncGenerator[tuple[str, Object], None]:
        """One watch request from that resourceVersion on: (type, object) as the server has them, bookmarks too.

        Ends when the server ends it in good order, and raises KubeError otherwise.
        """
        watching = {
            **query,
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(_WATCH_SECONDS),
        }
        try:
            async with self._session().get(
                self.base_url + path,
                params=watching,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=_WATCH_SECONDS + 30),
            ) as response:
                if response.status >= 400:
                    raise refusal(response.status, await response.text(), f"watch {path}")
                # By hand: aiohttp's line reader refuses lines of more than 128 KiB (release Secrets, CRDs).
                rest = b""
                async for chunk in response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        event = json.loads(line)
                        if event["type"] == "ERROR":
                            status = event["object"]
                            raise KubeError(
                                status.get("code", 500), status.get("reason", ""), status.get("message", "")
                            )
                        yield event["type"], event["object"]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise no_answer("watch", path, error) from error


def _selectors(label_selector: str, field_selector: str) -> dict[str, str]:
    given = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {key: value for key, value in given.items() if value}

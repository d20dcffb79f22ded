"""Namespaces: what each one has from its first moment, and the clearing of those that are being deleted."""

from __future__ import annotations

import asyncio

from .client import KubeError, Object, object_path
from .controller import Controller
from .informer import Informers
from .pods import is_terminating

ROOT_CA = "kube-root-ca.crt"
_LOOK_AGAIN_SECONDS = 0.1


class Namespaces(Controller):
    api_version, plural, kind = "v1", "namespaces", "Namespace"

    def __init__(self, informers: Informers):
        super().__init__(informers)
        self._accounts = informers.of("v1", "serviceaccounts")
        self._roots = informers.of("v1", "configmaps", field_selector=f"metadata.name={ROOT_CA}")
        self._accounts.subscribe(self._on_deletion)
        self._roots.subscribe(self._on_deletion)

    def _on_deletion(self, change: str, item: Object, before: Object | None) -> None:
        if change == "DELETED":
            self.enqueue(("", item["metadata"]["namespace"]))

    async def reconcile(self, item: Object) -> None:
        name = item["metadata"]["name"]
        if is_terminating(item):
            await self._clear(item)
            return
        if self._accounts.get("default", name) is None:
            await self.informers.create(
                "serviceaccounts",
                {
                    "apiVersion": "v1",
                    "kind": "ServiceAccount",
                    "metadata": {"name": "default", "namespace": name},
                },
            )
        if self._roots.get(ROOT_CA, name) is None:
            await self.informers.create(
                "configmaps",
                {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {"name": ROOT_CA, "namespace": name},
                    "data": {"ca.crt": self.informers.client.ca_pem},
                },
            )

    async def _clear(self, item: Object) -> None:
        """Delete all that is in the namespace, and the namespace once nothing is left."""
        name, client = item["metadata"]["name"], self.informers.client
        if "kubernetes" not in (item["spec"].get("finalizers") or []):
            return
        left = await asyncio.gather(*(self._clear_kind(name, *kind) for kind in await self._kinds()))
        if any(left):
            # Pods need their time to end; some of what is left is not among the caches that would tell.
            self.enqueue(("", name), _LOOK_AGAIN_SECONDS)
            return
        spec = {**item["spec"], "finalizers": []}
        await client.replace("v1", "namespaces", name, {**item, "spec": spec}, subresource="finalize")

    async def _clear_kind(self, namespace: str, api_version: str, plural: str) -> bool:
        """Delete the objects of one kind; whether some are still there."""
        client = self.informers.client
        path = object_path(api_version, plural, None, namespace)
        try:
            await client.request("DELETE", path, query={"propagationPolicy": "Background"})
            return bool(await client.list(api_version, plural, namespace))
        except KubeError as error:
            if error.status not in (404, 405):
                raise
            return False

    async def _kinds(self) -> list[tuple[str, str]]:
        """(apiVersion, plural) of every namespaced kind that can be cleared; of several versions the
        preferred.
        """
        client = self.informers.client
        groups = (await client.request("GET", "/apis"))["groups"]
        versions = ["v1", *(group["preferredVersion"]["groupVersion"] for group in groups)]
        paths = [f"/api/{one}" if "/" not in one else f"/apis/{one}" for one in versions]
        lists = await asyncio.gather(*(client.request("GET", path) for path in paths))
        return [
            (one["groupVersion"], resource["name"])
            for one in lists
            for resource in one["resources"]
            if resource["namespaced"]
            and "/" not in resource["name"]
            and {"list", "deletecollection"} <= set(resource["verbs"])
        ]

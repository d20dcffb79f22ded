"""Syncs the custom resources of consul.hashicorp.com into Consul's config entries and says how it went.

`ProxyDefaults` is the one that federation needs. The others follow the same rule; a kind that the Consul at hand
does not know is refused by it, and the resource's status says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from datetime import UTC, datetime
from typing import Any

from ..controllers.client import DELETED, KubeError, Object
from ..node.consul_http import ConsulError
from . import intentions
from .consul_api import ConsulApi
from .installation import Installation, Session

logger = logging.getLogger(__name__)

API_VERSION = "consul.hashicorp.com/v1alpha1"
FINALIZER = "finalizers.consul.hashicorp.com"
SOURCE_DATACENTER = "consul.hashicorp.com/source-datacenter"
MIGRATE = "consul.hashicorp.com/migrate-entry"

KINDS = {
    "proxydefaults": "proxy-defaults",
    "servicedefaults": "service-defaults",
    "serviceresolvers": "service-resolver",
    "servicerouters": "service-router",
    "servicesplitters": "service-splitter",
    "serviceintentions": "service-intentions",
    "ingressgateways": "ingress-gateway",
    "terminatinggateways": "terminating-gateway",
    "meshes": "mesh",
}
"""Plural of the custom resource → kind of the config entry."""

_FIRST_WAIT, _LONGEST_WAIT = 0.2, 5.0
_NOT_CONTENT = {"meta", "createindex", "modifyindex", "namespace", "partition", "hash", "kind", "name"}


class SyncFailed(Exception):
    """The entry could not be synced; `reason` and `status` are the condition's."""

    def __init__(self, reason: str, message: str, status: str = "False"):
        super().__init__(message)
        self.reason = reason
        self.status = status


class ConfigEntrySync:
    """Keeps Consul's config entries as one cluster's custom resources are, until cancelled."""

    def __init__(self, installation: Installation, session: Session):
        self.installation = installation
        self.session = session

    async def run(self) -> None:
        """Watch each kind from the moment that its definition is there."""
        watching: dict[str, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            definitions = self.installation.client.watch(
                "apiextensions.k8s.io/v1", "customresourcedefinitions"
            )
            async for kind, definition in definitions:
                plural = definition["spec"]["names"]["plural"]
                if definition["spec"]["group"] != "consul.hashicorp.com" or plural not in KINDS:
                    continue
                if kind == DELETED and plural in watching:
                    watching.pop(plural).cancel()
                elif kind != DELETED and plural not in watching:
                    watching[plural] = group.create_task(self._watch_kind(plural))

    async def _watch_kind(self, plural: str) -> None:
        busy: dict[tuple[str, str], asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            async for kind, item in self.installation.client.watch(API_VERSION, plural):
                key = (item["metadata"]["namespace"], item["metadata"]["name"])
                if key in busy:
                    busy.pop(key).cancel()
                if kind != DELETED:
                    busy[key] = group.create_task(self._sync_until_done(plural, item))

    async def _sync_until_done(self, plural: str, item: Object) -> None:
        """Until it is synced, or a newer version of the resource takes its place."""
        wait = _FIRST_WAIT
        while True:
            with contextlib.suppress(KubeError, TimeoutError):  # written by others meanwhile, or away: again
                if await self._sync(plural, item):
                    return
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)

    async def _sync(self, plural: str, item: Object) -> bool:
        """One attempt; True when there is nothing more to do for this version of the resource."""
        metadata = item["metadata"]
        if "deletionTimestamp" in metadata:
            if FINALIZER not in metadata.get("finalizers", []):
                return True
            return await self._delete(plural, item)
        if FINALIZER not in metadata.get("finalizers", []):
            # The watch brings it back with the finalizer, and that version is synced.
            await self._set_finalizers(plural, item, [*metadata.get("finalizers", []), FINALIZER])
            await self._set_status(plural, item, "Unknown")
            return True
        entry = config_entry(plural, item, self.installation.place.datacenter)
        try:
            changed = await self.session.call(lambda consul: self._write(consul, item, entry))
        except ConsulError as error:
            await self._set_status(plural, item, "False", "ConsulAgentError", str(error))
            return False
        except SyncFailed as error:
            await self._set_status(plural, item, error.status, error.reason, str(error))
            return False
        if changed or _synced(item) != "True":
            await self._set_status(plural, item, "True")
        return True

    async def _write(self, consul: ConsulApi, item: Object, entry: Object) -> bool:
        """Whether Consul's entry had to be changed. Raises SyncFailed when it belongs to someone else."""
        if entry["Kind"] == intentions.KIND and await intentions.are_objects(consul):
            return await intentions.write(consul, entry)
        existing = await consul.find(f"/v1/config/{entry['Kind']}/{entry['Name']}")
        migrates = (item["metadata"].get("annotations") or {}).get(MIGRATE) == "true"
        if existing is not None:
            source = (existing.get("Meta") or {}).get(SOURCE_DATACENTER, "")
            is_ours = source == self.installation.place.datacenter
            if same_content(entry, existing):
                if is_ours or not migrates:
                    return False
            elif migrates:
                raise SyncFailed(
                    "MigrationFailedError",
                    "the entry in Consul cannot be taken over, because it differs: "
                    f"consul={json.dumps(existing)}, kube={json.dumps(entry)}",
                )
            elif not is_ours:
                raise SyncFailed(
                    "ExternallyManagedConfigError",
                    f'config entry managed in different datacenter: "{source}"'
                    if source
                    else "config entry already exists in Consul",
                )
        try:
            await consul.put("/v1/config", entry)
        except ConsulError as error:
            if error.status == 403 and "ACL not found" in str(error):
                raise  # the token is no longer known: the session gets another one
            # What is in Consul is as it was, and the real controller does not call that out of sync.
            what, status = ("writing", "False") if existing is None else ("updating", "Unknown")
            why = f"{what} config entry to consul: {error}"
            raise SyncFailed("ConsulAgentError", why, status) from error
        logger.info("%s: %s %s written", self.installation.cluster.name, entry["Kind"], entry["Name"])
        return True

    async def _delete(self, plural: str, item: Object) -> bool:
        """Delete the entry if it is this datacenter's, then let the resource go; whether that was possible."""
        datacenter = self.installation.place.datacenter
        entry = config_entry(plural, item, datacenter)
        path = f"/v1/config/{entry['Kind']}/{entry['Name']}"

        async def remove(consul: ConsulApi) -> None:
            if entry["Kind"] == intentions.KIND and await intentions.are_objects(consul):
                await intentions.remove(consul, entry)
                return
            existing = await consul.find(path)
            if existing is not None and (existing.get("Meta") or {}).get(SOURCE_DATACENTER) == datacenter:
                await consul.request("DELETE", path)

        try:
            await self.session.call(remove)
        except ConsulError as error:
            await self._set_status(
                plural, item, "False", "ConsulAgentError", f"deleting config entry: {error}"
            )
            return False
        left = [name for name in item["metadata"]["finalizers"] if name != FINALIZER]
        await self._set_finalizers(plural, item, left)
        return True

    async def _set_finalizers(self, plural: str, item: Object, finalizers: list[str]) -> None:
        metadata = item["metadata"]
        patch = {"metadata": {"finalizers": finalizers, "resourceVersion": metadata["resourceVersion"]}}
        await self.installation.client.merge_patch(
            API_VERSION, plural, metadata["name"], patch, metadata["namespace"]
        )

    async def _set_status(
        self, plural: str, item: Object, synced: str, reason: str = "", message: str = ""
    ) -> None:
        """Write the Synced condition, unless it says the same already."""
        before = _condition(item)
        if (before.get("status"), before.get("reason", ""), before.get("message", "")) == (
            synced,
            reason,
            message,
        ):
            return
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        condition = {"type": "Synced", "status": synced, "lastTransitionTime": now}
        if reason:
            condition.update(reason=reason, message=message)
        status: Object = {"conditions": [condition]}
        if synced == "True" or (synced == "Unknown" and not reason):
            status["lastSyncedTime"] = now
        metadata = item["metadata"]
        await self.installation.client.merge_patch(
            API_VERSION,
            plural,
            metadata["name"],
            {"status": status},
            metadata["namespace"],
            subresource="status",
        )


def config_entry(plural: str, item: Object, datacenter: str) -> Object:
    """The config entry of a custom resource. Consul takes the fields' names in any case."""
    spec = dict(item.get("spec") or {})
    name = item["metadata"]["name"]
    if plural == "serviceintentions":
        name = spec.pop("destination", {}).get("name", name)
    return {
        **spec,
        "Kind": KINDS[plural],
        "Name": name,
        "Meta": {"external-source": "kubernetes", SOURCE_DATACENTER: datacenter},
    }


def same_content(entry: Object, existing: Object) -> bool:
    """Whether two entries say the same, whoever owns them; a zero value is the same as none, as in Go.

    >>> same_content({"Kind": "k", "meshGateway": {"mode": "local"}}, {"MeshGateway": {"Mode": "local"}, "Expose": {}})
    True
    """
    return _content(entry, top=True) == _content(existing, top=True)


def _content(value: Any, top: bool = False) -> Any:
    if isinstance(value, dict):
        kept = {key.lower(): _content(inner) for key, inner in value.items()}
        return {k: v for k, v in kept.items() if v and not (top and k in _NOT_CONTENT)}
    if isinstance(value, list):
        return [_content(inner) for inner in value]
    return value


def _condition(item: Object) -> Object:
    conditions = (item.get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c["type"] == "Synced"), {})


def _synced(item: Object) -> str:
    return _condition(item).get("status", "Unknown")

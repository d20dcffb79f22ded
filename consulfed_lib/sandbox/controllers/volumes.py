"""PersistentVolumeClaims, bound at once to a folder of this machine, as a hostpath provisioner does it."""

from __future__ import annotations

from pathlib import Path

from ..layout import ClusterLayout
from .client import Object
from .controller import Controller, Key
from .informer import Informers
from .pods import is_terminating

STORAGE_CLASS = "standard"
_PROVISIONER = "sandbox.consulfed/folder"


def claim_folder(cluster: ClusterLayout, namespace: str, claim: str) -> Path:
    """Where the data of a claim is; it lives until the claim is deleted."""
    return cluster.folder / "volumes" / namespace / claim


def is_full(folder: Path) -> bool:
    """Whether nothing more fits into a volume: what a program that is started with it has to find."""
    return _mark(folder).exists()


def set_full(folder: Path, full: bool) -> None:
    """Have it so, or not so any more, for whoever is started from now on."""
    if full:
        _mark(folder).touch(mode=0o600)
    else:
        _mark(folder).unlink(missing_ok=True)


def _mark(folder: Path) -> Path:
    return folder / ".full"  # inside, so that it goes with the volume


class Volumes(Controller):
    api_version, plural, kind = "v1", "persistentvolumeclaims", "PersistentVolumeClaim"

    def __init__(self, informers: Informers, cluster: ClusterLayout):
        super().__init__(informers)
        self._cluster = cluster
        self._volumes = informers.of("v1", "persistentvolumes")
        self._pods = informers.of("v1", "pods")
        self._pods.subscribe(self._on_pod)
        # A claim that was deleted while no one looked leaves a volume that nobody claims.
        self._volumes.subscribe(self._on_volume)

    def _on_pod(self, change: str, pod: Object, before: Object | None) -> None:
        if change == "DELETED":
            for name in _claims(pod):
                self.enqueue((pod["metadata"]["namespace"], name))

    def _on_volume(self, change: str, volume: Object, before: Object | None) -> None:
        claim = volume["spec"].get("claimRef") or {}
        self.enqueue((claim.get("namespace", ""), claim.get("name", "")))

    async def reconcile(self, item: Object) -> None:
        if is_terminating(item):
            return
        status = item.get("status") or {}
        if status.get("phase") == "Bound":
            return
        metadata, spec = item["metadata"], item["spec"]
        name = f"pvc-{metadata['uid']}"
        capacity = (spec.get("resources") or {}).get("requests") or {"storage": "1Gi"}
        modes = spec.get("accessModes") or ["ReadWriteOnce"]
        storage_class = spec.get("storageClassName") or STORAGE_CLASS
        volume = await self.informers.create(
            "persistentvolumes",
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {
                    "name": name,
                    "annotations": {"pv.kubernetes.io/provisioned-by": _PROVISIONER},
                },
                "spec": {
                    "accessModes": modes,
                    "capacity": capacity,
                    "hostPath": {
                        "path": str(claim_folder(self._cluster, metadata["namespace"], metadata["name"]))
                    },
                    "persistentVolumeReclaimPolicy": "Delete",
                    "storageClassName": storage_class,
                    "claimRef": {
                        "apiVersion": "v1",
                        "kind": "PersistentVolumeClaim",
                        "name": metadata["name"],
                        "namespace": metadata["namespace"],
                        "uid": metadata["uid"],
                    },
                },
            },
        )
        await self.informers.set_status("persistentvolumes", volume, {"phase": "Bound"})
        item = await self.informers.patch("persistentvolumeclaims", item, {"spec": {"volumeName": name}})
        await self.informers.set_status(
            "persistentvolumeclaims", item, {"phase": "Bound", "accessModes": modes, "capacity": capacity}
        )

    async def removed(self, key: Key) -> None:
        """Delete the volume once no pod uses it; its folder is the kubelet's to remove."""
        namespace, name = key
        if any(name in _claims(pod) for pod in self._pods.all(namespace)):
            return
        for volume in self._volumes.all():
            claim = volume["spec"].get("claimRef") or {}
            if (claim.get("namespace"), claim.get("name")) == key and not is_terminating(volume):
                await self.informers.delete("persistentvolumes", volume)


def _claims(pod: Object) -> set[str]:
    return {
        volume["persistentVolumeClaim"]["claimName"]
        for volume in pod["spec"].get("volumes") or []
        if "persistentVolumeClaim" in volume
    }

"""What the webhook of consul-k8s would refuse, as a function: the API server asks it for every configured webhook."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

MODES = ("", "none", "local", "remote")


def admit(item: dict[str, Any], existing: Iterable[dict[str, Any]]) -> str | None:
    """Why a custom resource of consul.hashicorp.com must not be created or changed so; None when it may.

    Args:
        item: the object as it would be stored.
        existing: all objects of its kind, in every namespace; the object's own earlier version may be among
            them.
    """
    if item.get("kind") != "ProxyDefaults":
        return None
    if item["metadata"].get("name") != "global":
        return 'proxydefaults resource name must be "global"'
    namespace = item["metadata"].get("namespace", "default")
    if any(other["metadata"].get("namespace", "default") != namespace for other in existing):
        return "proxydefaults resource already defined - only one global entry is supported"
    mode = ((item.get("spec") or {}).get("meshGateway") or {}).get("mode", "")
    if mode not in MODES:
        return (
            'proxydefaults.consul.hashicorp.com "global" is invalid: spec.meshGateway.mode: Invalid value: '
            f'"{mode}": must be one of "remote", "local", "none", ""'
        )
    return None

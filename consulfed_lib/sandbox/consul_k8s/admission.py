"""What the webhook of consul-k8s would refuse, as a function: the API server asks it for every configured webhook."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

MODES = ("", "none", "local", "remote")


def admit(item: dict[str, Any], existing: Iterable[dict[str, Any]], *, creates: bool = True) -> str | None:
    """Why a custom resource of consul.hashicorp.com must not be created or changed so; None when it may.

    Args:
        item: the object as it would be stored.
        existing: all objects of its kind, in every namespace. One is enough to refuse another, also where both
            have the same name and namespace: the webhook is asked before the API server finds that out.
        creates: whether it would be created, and not changed: name and number are looked at only then.
    """
    if item.get("kind") != "ProxyDefaults":
        return None
    if creates and item["metadata"].get("name") != "global":
        return 'proxydefaults resource name must be "global"'
    if creates and any(existing):
        return "proxydefaults resource already defined - only one global entry is supported"
    mode = ((item.get("spec") or {}).get("meshGateway") or {}).get("mode", "")
    if mode not in MODES:
        return (
            'proxydefaults.consul.hashicorp.com "global" is invalid: spec.meshGateway.mode: Invalid value: '
            f'"{mode}": must be one of "remote", "local", "none", ""'
        )
    return None

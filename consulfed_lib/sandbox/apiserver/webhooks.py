"""Admission webhooks: which are asked about a write, and what a denial looks like.

A real API server calls a Service in the cluster. Here nothing runs behind those Services, so that one function,
handed to the ApiServer, answers for all of them; without it nothing is denied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .resources import Resource
from .selectors import match_label_selector
from .status import ApiError
from .store import Object, Store

Webhook = Callable[[str, Object, "Object | None", list[Object]], str | None]
"""(name of the webhook, new object, old one or None, all objects of the resource) → why it is denied, or None.

A mutating one changes the new object in place."""

_GROUP = "admissionregistration.k8s.io"
_CONFIGURATIONS = ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")


def check(store: Store, webhook: Webhook | None, resource: Resource, new: Object, old: Object | None) -> None:
    """Ask every webhook that wants to be asked; raises 400 for a denial, as consul-k8s' webhooks answer."""
    if webhook is None or resource.group == _GROUP:
        return
    for name in asked(store, resource, new, "UPDATE" if old else "CREATE"):
        why = webhook(name, new, old, store.list(resource.storage_key))
        if why:
            raise ApiError(400, "", f'admission webhook "{name}" denied the request: {why}')


def asked(store: Store, resource: Resource, obj: Object, operation: str) -> Iterator[str]:
    """Names of the webhooks whose rules and selectors fit a write."""
    for plural in _CONFIGURATIONS:
        for configuration in store.list((_GROUP, plural)):
            for webhook in configuration.get("webhooks") or ():
                if _wants(store, webhook, resource, obj, operation):
                    yield webhook["name"]


def _wants(store: Store, webhook: dict[str, Any], resource: Resource, obj: Object, operation: str) -> bool:
    def named(rule: dict[str, Any], field: str, value: str) -> bool:
        return bool({"*", value} & set(rule.get(field) or ()))

    fits = any(
        named(rule, "apiGroups", resource.group)
        and named(rule, "apiVersions", resource.version)
        and named(rule, "resources", resource.plural)
        and named(rule, "operations", operation)
        for rule in webhook.get("rules") or ()
    )
    if not fits:
        return False
    metadata = obj["metadata"]
    if not match_label_selector(webhook.get("objectSelector") or {}, metadata.get("labels") or {}):
        return False
    if not resource.namespaced:
        return True
    namespace = store.get(("", "namespaces"), "", metadata["namespace"]) or {"metadata": {}}
    labels = namespace["metadata"].get("labels") or {}
    return match_label_selector(webhook.get("namespaceSelector") or {}, labels)

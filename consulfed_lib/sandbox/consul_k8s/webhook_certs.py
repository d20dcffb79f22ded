"""The certificates that webhook-cert-manager makes: pods mount their Secrets, so they must exist.

The emulated API server calls no webhook, so no CA goes into the webhooks' configuration.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from ..controllers.client import KubeClient, KubeError, Object
from .certificates import make_ca, make_server_certificate
from .installation import keep_trying
from .kube_secrets import create_secret
from .mounted import read_mounted
from .options import options_of

logger = logging.getLogger(__name__)

_DAYS = 365


async def make_webhook_certificates(cluster: str, client: KubeClient, deployment: Object) -> None:
    """A Secret of type kubernetes.io/tls for each webhook of the mounted configuration, unless it exists.

    Args:
        cluster: its name, for the log.
        deployment: the Deployment of webhook-cert-manager.
    """
    metadata, spec = deployment["metadata"], deployment["spec"]["template"]["spec"]
    container = spec["containers"][0]
    given = options_of([*container.get("command", []), *container.get("args", [])], {})
    path = given.flag("config-file")

    async def attempt() -> None:
        content = await read_mounted(client, metadata["namespace"], spec, container, path)
        if content is None:
            raise KubeError(404, "NotFound", f"{path} of {metadata['name']} is not there yet")
        for webhook in json.loads(content):
            await _ensure(client, webhook, deployment)

    await keep_trying(f"{cluster}: webhook certificates", attempt)


async def _ensure(client: KubeClient, webhook: dict[str, Any], deployment: Object) -> None:
    namespace, name = webhook["secretNamespace"], webhook["secretName"]
    if await client.find("v1", "secrets", name, namespace) is not None:
        return
    ca, ca_key = make_ca("Consul Webhook CA")
    certificate, key = make_server_certificate(ca, ca_key, webhook["name"], webhook["tlsAutoHosts"], _DAYS)
    data = {"tls.crt": certificate, "tls.key": key}
    await create_secret(client, namespace, name, data, "kubernetes.io/tls", owner=deployment)

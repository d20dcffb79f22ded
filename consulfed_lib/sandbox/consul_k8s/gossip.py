"""Job gossip-encryption-autogenerate: one gossip key, made once."""

from __future__ import annotations

import secrets
from base64 import b64encode

from ..controllers.client import KubeError
from ..node.workload import Container
from .joblog import JobFailed, JobLog
from .kube_secrets import create_secret, read_secret
from .options import options

KEY_BYTES = 32


async def gossip_encryption_autogenerate(container: Container, log: JobLog) -> None:
    """Write a new key (text: base64 of 32 bytes) to the Secret that the flags name.

    One that exists is never overwritten: every server of the federation has its key.
    """
    given = options(container)
    namespace, name = given.flag("namespace"), given.flag("secret-name")
    key = given.flag("secret-key", "key")
    if not namespace:
        raise JobFailed("-namespace must be set")
    if not name:
        raise JobFailed("-secret-name must be set")
    if await read_secret(container.client, namespace, name) is not None:
        log.info("A gossip encryption key exists already, nothing to do", secret=name, ns=namespace)
        return
    value = b64encode(secrets.token_bytes(KEY_BYTES))
    try:
        await create_secret(container.client, namespace, name, {key: value})
    except KubeError as error:
        raise JobFailed(f"cannot create Secret {name}: {error.message}") from error
    log.info("Gossip encryption key created", secret=name, ns=namespace)

"""Job tls-init: the server CA, made once, and the servers' certificate, made anew at every install and upgrade."""

from __future__ import annotations

from ..controllers.client import KubeClient
from ..node.workload import Container
from .certificates import make_ca, make_server_certificate
from .joblog import JobFailed, JobLog
from .kube_secrets import create_secret, read_secret, write_secret
from .options import Options, options

_DEFAULT_DAYS = 1825


async def tls_init(container: Container, log: JobLog) -> None:
    """Secrets <prefix>-ca-cert (tls.crt), <prefix>-ca-key (tls.key) and <prefix>-server-cert (both).

    With `-ca` and `-key` the CA comes from those files and no CA Secret is written: that is how a secondary
    gets certificates that the primary trusts.
    """
    given = options(container)
    prefix, namespace = given.flag("name-prefix"), given.flag("k8s-namespace", "default")
    days = _days(given)
    if not prefix:
        raise JobFailed("-name-prefix must be set")
    if bool(given.flag("ca")) != bool(given.flag("key")):
        raise JobFailed("-ca and -key go together: only one of them is set")
    if given.flag("ca"):
        log.info("Using the CA from the given files", ca=given.flag("ca"))
        certificate, key = (_file(container, given.flag(name)) for name in ("ca", "key"))
    else:
        certificate, key = await _own_ca(container.client, namespace, prefix, log)
    name = f"server.{given.flag('dc', 'dc1')}.{given.flag('domain', 'consul')}"
    extra = given.flags.get("additional-dnsname", []) + given.flags.get("additional-ipaddress", [])
    names = [*(value.strip() for value in extra if value.strip()), name, "localhost", "127.0.0.1", "::1"]
    try:
        server_certificate, server_key = make_server_certificate(certificate, key, name, names, days)
    except ValueError as error:
        raise JobFailed(f"cannot make a server certificate: {error}") from error
    replaced = await write_secret(
        container.client,
        namespace,
        f"{prefix}-server-cert",
        {"tls.crt": server_certificate, "tls.key": server_key},
        "kubernetes.io/tls",
    )
    log.info(
        f"Server certificate {'replaced' if replaced else 'created'}",
        secret=f"{prefix}-server-cert",
        name=name,
        days=str(days),
    )


async def _own_ca(client: KubeClient, namespace: str, prefix: str, log: JobLog) -> tuple[bytes, bytes]:
    """The CA of an earlier run, else a new one."""
    certificate = await read_secret(client, namespace, f"{prefix}-ca-cert")
    key = await read_secret(client, namespace, f"{prefix}-ca-key")
    if certificate is not None and key is not None:
        log.info("Using the existing CA", secret=f"{prefix}-ca-cert")
        try:
            return certificate["tls.crt"], key["tls.key"]
        except KeyError as error:
            raise JobFailed(f"The CA's Secrets have no key {error}") from error
    if certificate is not None or key is not None:
        there, missing = ("cert", "key") if certificate is not None else ("key", "cert")
        raise JobFailed(f"Secret {prefix}-ca-{there} exists, but {prefix}-ca-{missing} does not")
    new_certificate, new_key = make_ca("Consul Agent CA")
    await create_secret(client, namespace, f"{prefix}-ca-cert", {"tls.crt": new_certificate})
    await create_secret(client, namespace, f"{prefix}-ca-key", {"tls.key": new_key})
    log.info("No CA found, a new one was generated", secret=f"{prefix}-ca-cert")
    return new_certificate, new_key


def _file(container: Container, path: str) -> bytes:
    try:
        return container.files[path]
    except KeyError:
        raise JobFailed(f"the given CA file {path} does not exist") from None


def _days(given: Options) -> int:
    text = given.flag("days", str(_DEFAULT_DAYS))
    if not text.isdigit() or int(text) == 0:
        raise JobFailed("-days must be a positive integer")
    return int(text)

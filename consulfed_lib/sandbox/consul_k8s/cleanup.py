"""Jobs that remove what others left, and those that set up API gateways, which the sandbox does not run."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from ..controllers.client import KubeError
from ..node.workload import Container
from .joblog import JobFailed, JobLog
from .options import options, seconds

_SECRET_PATH = re.compile(r"/api/v1/namespaces/[^\s/]+/secrets/([a-z0-9.-]+)")
_DEFAULT_TIMEOUT = "10m"


async def delete_completed_job(container: Container, log: JobLog) -> None:
    """Wait until the Job that is named last on the command line has succeeded, then delete it and its pods."""
    given = options(container)
    namespace, name = given.flag("k8s-namespace"), _last_argument(container)
    if not namespace:
        raise JobFailed("-k8s-namespace must be set")
    if not name:
        raise JobFailed("the command does not name the Job to delete")
    log.info(f'waiting for job "{name}" to complete successfully')
    limit = given.flag("timeout", _DEFAULT_TIMEOUT)
    try:
        async with asyncio.timeout(seconds(limit)):
            found = await _wait_completed(container, namespace, name)
    except TimeoutError:
        raise JobFailed(f'job "{name}" did not complete within {limit}: it is left as it is') from None
    except KubeError as error:
        raise JobFailed(f'Error getting job "{name}": {error}') from error
    if not found:
        log.info(f'job "{name}" does not exist: nothing to delete')
        return
    log.info(f'job "{name}" has succeeded, deleting')
    try:
        await container.client.delete("batch/v1", "jobs", name, namespace, propagation="Foreground")
    except KubeError as error:
        raise JobFailed(f'unable to delete job "{name}": {error}') from error
    log.info(f'Deleted job "{name}" successfully')


def _last_argument(container: Container) -> str:
    words = container.arguments[-1].split()
    return words[-1] if words and not words[-1].startswith("-") else ""


async def _wait_completed(container: Container, namespace: str, name: str) -> bool:
    """True when it has succeeded, False when there is none. Its role allows `get` only, so it cannot watch."""
    while True:
        job = await container.client.find("batch/v1", "jobs", name, namespace)
        if job is None:
            return False
        status = job.get("status", {})
        if status.get("succeeded", 0) > 0:
            return True
        for condition in status.get("conditions", []):
            if condition["type"] == "Failed" and condition["status"] == "True":
                raise JobFailed(f'job "{name}" has failed for good: its backoff limit is reached')
        await asyncio.sleep(0.2)


async def tls_init_cleanup(container: Container, log: JobLog) -> None:
    """Delete the Secrets that the container's script names by their URL: certificate, and CA if it is its own."""
    names = list(
        dict.fromkeys(_SECRET_PATH.findall("\n".join(container.arguments).replace("${NAMESPACE}", "-")))
    )
    if not names:
        raise JobFailed("the command names no Secret to delete")
    for name in names:
        await container.client.delete("v1", "secrets", name, container.namespace)
        log.info("Secret deleted", secret=name, ns=container.namespace)


_GATEWAY = ("gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1")
"""Charts since 1.8 install the first version, older ones the second."""

_CONSUL = ("consul.hashicorp.com/v1alpha1",)
_CUSTOM = ("consul.hashicorp.com/v1beta1",)


async def gateway_resources(container: Container, log: JobLog) -> None:
    """The GatewayClass and its configuration, for API gateways: objects only, no gateway is run for them."""
    given = options(container)
    name, config = given.flag("gateway-class-name"), given.flag("gateway-class-config-name")
    flags = {"app": "app", "chart": "chart", "heritage": "heritage", "release": "release-name"}
    labels = {label: given.flag(flag) for label, flag in flags.items()}
    labels["component"] = given.flag("component")
    parameters = {"group": "consul.hashicorp.com", "kind": "GatewayClassConfig", "name": config}
    await _ensure(
        container,
        _CONSUL,
        "gatewayclassconfigs",
        {"kind": "GatewayClassConfig", "metadata": {"name": config, "labels": labels}, "spec": {}},
    )
    await _ensure(
        container,
        _GATEWAY,
        "gatewayclasses",
        {
            "kind": "GatewayClass",
            "metadata": {"name": name, "labels": labels},
            "spec": {"controllerName": given.flag("controller-name"), "parametersRef": parameters},
        },
    )
    log.info("GatewayClass is there", name=name, config=config)


async def _ensure(container: Container, versions: tuple[str, ...], plural: str, item: dict[str, Any]) -> None:
    """Create it in the first version that is served; leave it as it is when it exists."""
    for version in versions:
        try:
            await container.client.create(version, plural, {"apiVersion": version, **item})
            return
        except KubeError as error:
            if error.reason == "AlreadyExists":
                return
            if error.status != 404 or version == versions[-1]:
                raise JobFailed(
                    f"cannot create {item['kind']} {item['metadata']['name']}: {error}"
                ) from error


async def gateway_cleanup(container: Container, log: JobLog) -> None:
    """Delete what gateway_resources made."""
    await _clean_up(container, log, _GATEWAY, "gatewayclasses")


async def gateway_cleanup_custom(container: Container, log: JobLog) -> None:
    """The same for Consul's own copy of the Gateway API (charts from 2.0 on); its account may touch no other."""
    await _clean_up(container, log, _CUSTOM, "customgatewayclasses")


async def _clean_up(container: Container, log: JobLog, classes: tuple[str, ...], class_plural: str) -> None:
    given = options(container)
    for versions, plural, flag in (
        (classes, class_plural, "gateway-class-name"),
        (_CONSUL, "gatewayclassconfigs", "gateway-class-config-name"),
    ):
        if given.flag(flag):
            for version in versions:
                await container.client.delete(version, plural, given.flag(flag))
            log.info("Deleted", resource=plural, name=given.flag(flag))

"""What a kubeconfig offers: its contexts, the version of each cluster, and whether a Consul is there already.

All clusters are asked at the same time, and none for long: one that does not answer is shown as such. Credentials are
used by the Kubernetes client only; nothing of them is in what is returned.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from .. import places
from ..errors import ConsulfedError
from ..params import SANDBOX, kubeconfig_servers
from ..results import Table

DEADLINE = 5.0
"""Seconds after which a cluster counts as one that does not answer."""

NOTHING = "no Consul"


@dataclass(frozen=True)
class Installation:
    """A Helm release of Consul that is there; what could not be read of it is empty."""

    release: str
    namespace: str
    chart: str = ""
    datacenter: str = ""
    federated: bool = False

    def __str__(self) -> str:
        chart = f", chart {self.chart}" if self.chart else ""
        datacenter = f", datacenter {self.datacenter}" if self.datacenter else ""
        federated = ", federated" if self.federated else ""
        return f"release {self.release} in {self.namespace}{chart}{datacenter}{federated}"


@dataclass(frozen=True)
class Context:
    """A context of the kubeconfig, and what its cluster said.

    Attributes:
        server: URL of the API.
        kubernetes: version of the cluster; empty where it did not answer.
        consul: in words: what is there, or that it cannot be told.
        note: why it did not answer, or what to mind.
    """

    context: str
    server: str
    kubernetes: str = ""
    consul: str = ""
    note: str = ""
    installations: tuple[Installation, ...] = ()

    def line(self) -> str:
        """All of it on a line, for who chooses."""
        return "; ".join(
            filter(None, (self.kubernetes and f"Kubernetes {self.kubernetes}", self.consul, self.note))
        )


class Contexts(Table):
    """Every context with its cluster."""

    columns = ("context", "kubernetes", "consul", "server", "note")
    kind = "contexts"

    def summary(self) -> str:
        if not self.rows:
            return "there is none"
        answered = sum(bool(each.kubernetes) for each in self.rows)
        return f"{answered} of {len(self.rows)} clusters answer"


def look(kubeconfig: str, deadline: float = DEADLINE) -> Contexts:
    """Ask the cluster of every context of a kubeconfig (as in the parameters), all at once."""
    servers = kubeconfig_servers(kubeconfig)
    found = _together({name: partial(_ask, name, kubeconfig, servers[name]) for name in servers}, deadline)
    rows = []
    for name, server in servers.items():
        row = found.get(name) or Context(
            name, server, consul="not known", note=f"does not answer within {deadline:g} s"
        )
        others = [each for each in servers if each != name and server and servers[each] == server]
        same = f"the same API as {', '.join(others)}" if others else ""
        rows.append(replace(row, note="; ".join(filter(None, (row.note, same)))))
    return Contexts(_title(kubeconfig), rows)


def _title(kubeconfig: str) -> str:
    if kubeconfig == SANDBOX:
        up = places.sandbox_kubeconfig().exists()
        return (
            "Contexts of the sandbox"
            if up
            else "Contexts of the sandbox, which is not up (consulfed sandbox up)"
        )
    return (
        f"Contexts of {kubeconfig}"
        if kubeconfig
        else "Contexts of the usual kubeconfig ($KUBECONFIG, ~/.kube/config)"
    )


def _together(calls: Mapping[str, Callable[[], Context]], deadline: float) -> dict[str, Context]:
    """What each call gives that ends in time. One that hangs (a login that waits for somebody) is left behind."""
    found: dict[str, Context] = {}

    def note(name: str) -> None:
        context = calls[name]()
        found[name] = context

    threads = [threading.Thread(target=note, args=(name,), daemon=True) for name in calls]
    for thread in threads:
        thread.start()
    end = time.monotonic() + deadline
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return dict(found)


def _ask(name: str, kubeconfig: str, server: str) -> Context:
    from ..cluster import Cluster  # the Kubernetes client with it

    path = str(places.sandbox_kubeconfig()) if kubeconfig == SANDBOX else kubeconfig or None
    try:
        cluster = Cluster(name, path)
        version = cluster.version()
    except ConsulfedError as error:
        return Context(name, server, consul="not known", note=error.found)
    try:
        there = tuple(_installations(cluster))
    except ConsulfedError as error:
        return Context(name, server, version, "not known", error.found)
    return Context(name, server, version, ", ".join(map(str, there)) or NOTHING, "", there)


def _installations(cluster: Any) -> Iterable[Installation]:
    """The Consuls there, by the cluster-wide objects that each has, and what its release says."""
    from .. import helm
    from ..checks.existing import installations
    from ..values import effective

    for release, namespace in installations(cluster):
        try:
            found = helm.release(cluster, namespace, release)
        except ConsulfedError:  # its Secrets may not be read with these credentials: what is known is shown
            found = None
        if found is None:
            yield Installation(release, namespace)
            continue
        datacenter = effective(found.values, found.defaults, "global.datacenter")
        federated = effective(found.values, found.defaults, "global.federation.enabled") is True
        name = datacenter if isinstance(datacenter, str) else ""
        yield Installation(release, namespace, found.version, name, federated)


def proposed_datacenter(context: Context, taken: Iterable[str] = ()) -> str:
    """A datacenter name for a context: that of the Consul there, else one from the context's own name.

    >>> proposed_datacenter(Context("arn:aws:eks:eu-west-1:111:cluster/Shop_EU", ""))
    'shop-eu'
    >>> proposed_datacenter(Context("sandbox-dc1", ""))
    'dc1'
    """
    name = next((each.datacenter for each in context.installations if each.datacenter), "")
    last = re.split(r"[/:@]", context.context)[-1].lower().removeprefix(f"{SANDBOX}-")
    name = name or re.sub(r"[^a-z0-9]+", "-", last).strip("-") or "dc"
    taken, number, found = set(taken), 2, name
    while found in taken:
        found, number = f"{name}-{number}", number + 1
    return found

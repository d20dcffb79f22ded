"""One cluster as preflight sees it. What several checks want to know is asked once, however many look at a time."""

from __future__ import annotations

import builtins
import threading
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from .. import adoption, helm, values
from ..cluster import Cluster, Greeting
from ..errors import ClusterError
from ..params import Cluster as ClusterParams
from ..params import Federation


class Once:
    """Answers by question. Who asks what is being asked already waits for that answer; an error is an answer, too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: dict[Hashable, Future[Any]] = {}

    def __call__(self, question: Hashable, ask: Callable[[], Any]) -> Any:
        with self._lock:
            known = self._answers.get(question)
            answer = self._answers.setdefault(question, known or Future())
        if known is None:
            try:
                answer.set_result(ask())
            except BaseException as error:
                answer.set_exception(error)
        return answer.result()


@dataclass(frozen=True)
class Target:
    """One cluster of the federation, remembered as it was at the first look: make a new one to look again.

    Attributes:
        shared: what is the same for all clusters of one preflight, such as the pinned chart.
        notebook: for which notebook it is looked at; 00 looks for all of them.
    """

    params: Federation
    of: ClusterParams
    cluster: Cluster
    shared: Once = field(default_factory=Once, repr=False, compare=False)
    notebook: str = "00-preflight"
    _seen: Once = field(default_factory=Once, repr=False, compare=False)

    @property
    def fullname(self) -> str:
        return self.params.fullname(self.of)

    @property
    def is_primary(self) -> bool:
        return self.of.datacenter == self.params.primary.datacenter

    @property
    def api_url(self) -> str:
        """Where the primary's servers reach this cluster's API: given, else as the kubeconfig has it."""
        return self.of.api_url or self.cluster.server

    # -- the cluster --------------------------------------------------------------------------------------------

    def list(
        self, resource: str, namespace: str = "", labels: str = "", *, whole: bool = True
    ) -> builtins.list[dict[str, Any]]:
        """As `Cluster.list`."""
        question = "list", resource, namespace, labels, whole
        return self._seen(question, lambda: self.cluster.list(resource, namespace, labels, whole=whole))

    def list_if_allowed(
        self, resource: str, namespace: str = "", *, whole: bool = True
    ) -> builtins.list[dict[str, Any]] | None:
        """As `list`; None where we may not: what is seen there would only add to what else is known."""
        try:
            return self.list(resource, namespace, whole=whole)
        except ClusterError as error:
            if error.status == 403:
                return None
            raise

    def get(self, resource: str, namespace: str, name: str) -> dict[str, Any] | None:
        """As `Cluster.get`."""
        question = "get", resource, namespace, name
        return self._seen(question, lambda: self.cluster.get(resource, namespace, name))

    def greeting(self) -> Greeting:
        """Version and clock of the API server."""
        return self._seen("greeting", self.cluster.greeting)

    def release(self) -> helm.Release | None:
        """The release as it is installed."""
        of = self.of
        return self._seen("release", lambda: helm.release(self.cluster, of.namespace, of.release))

    def installed(self) -> values.Installed | None:
        """The release whose values are kept, where somebody else made it and it is to be upgraded."""
        return self._seen(
            "installed", lambda: adoption.installed(self.params, self.of, self.cluster, self.release())
        )

    # -- the chart ----------------------------------------------------------------------------------------------

    def chart_metadata(self) -> Mapping[str, Any]:
        """Chart.yaml of the pinned chart. Raises ApplyError when it cannot be had."""
        chart = self.params.chart
        return self.shared("chart metadata", lambda: helm.Charts().chart_metadata(chart))

    def rendered(self) -> builtins.list[dict[str, Any]]:
        """Every object that the chart makes here, hooks and CRDs included. Raises ApplyError as `chart_metadata`."""
        of, chart = self.of, self.params.chart
        return self._seen(
            "rendered", lambda: helm.Charts().render(of.release, of.namespace, chart, self.values())
        )

    def values(self) -> Mapping[str, Any]:
        """The values that the chart will get. Raises ParamsError when those of the user contradict the federation."""

        def final() -> Mapping[str, Any]:
            if self.is_primary:
                return values.primary_values(self.params, self.installed())
            return values.secondary_values(self.params, self.of, self.api_url)

        return self._seen("values", final)

    def value(self, path: str, default: Any = None) -> Any:
        """One of these values by its path, such as `server.storageClass`."""
        found: Any = self.values()
        for key in path.split("."):
            if not isinstance(found, Mapping) or key not in found:
                return default
            found = found[key]
        return found

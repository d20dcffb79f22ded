"""The typed parameters of a federation: one YAML file, or the parameters cell of a notebook.

Whatever is wrong is reported at once, each mistake with the place, what stands there and what was expected.
"""

from __future__ import annotations

import ast
import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from . import places
from .chart import OLDEST, ChartVersion, federation_secret_name, fullname, longest_fullname
from .errors import ParamsError

SANDBOX = "sandbox"
"""As `kubeconfig` it means the running sandbox's, as `chart.ref` the chart that the sandbox offers."""

_DATACENTER = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key that stands twice is a mistake: PyYAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key `{key.value}` stands twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Chart(_Model):
    """Which chart, from where. The version is pinned: a federation must not change by itself."""

    ref: str = Field("hashicorp/consul", description="chart: repo/name, an OCI reference, or a folder")
    repo: str = Field("", description="URL of the chart's repository; empty when ref says it all")
    version: str = Field(description="exact version of the chart")

    @property
    def parsed(self) -> ChartVersion:
        return ChartVersion.parse(self.version)

    @property
    def location(self) -> str:
        """What Helm is given: a folder for the sandbox's chart, else the reference as it stands."""
        return str(places.sandbox_chart()) if self.ref == SANDBOX else self.ref


class MeshGateway(_Model):
    """How the datacenters reach each other."""

    port: int = Field(443, ge=1, le=65535, description="port of the gateway's load balancer")
    replicas: int = Field(1, ge=1, description="gateway pods in each datacenter")


class Timeouts(_Model):
    """Deadlines in seconds. Every wait ends on the state of the world, or on one of these."""

    install: int = Field(600, ge=1, description="Helm, hooks included")
    ready: int = Field(300, ge=1, description="servers, gateway address, federation secret, ProxyDefaults")
    federation: int = Field(300, ge=1, description="until each datacenter reads every other one")


class Cluster(_Model):
    """One Kubernetes cluster, which is one Consul datacenter."""

    context: str = Field(min_length=1, description="kubeconfig context")
    datacenter: str = Field(min_length=1, description="Consul datacenter name, unique in the federation")
    namespace: str = Field("consul", description="namespace of the release")
    release: str = Field("consul", description="Helm release name")
    api_url: str = Field("", description="URL of this cluster's API as Consul servers reach it")


class Federation(_Model):
    """All parameters of one federation."""

    federation: str = Field(min_length=1, description="name of the federation; its records are kept under it")
    reason: str = Field("", description="why this change is made; goes into the record")
    change_id: str = Field("", description="ticket or change number; goes into the record")
    dry_run: bool = Field(True, description="nothing is written anywhere unless this is false")
    mode: Literal["auto", "interactive", "headless"] = Field("auto", description="changes what is shown only")
    kubeconfig: str = Field("", description="path; empty: the usual rules; sandbox: the running sandbox's")
    chart: Chart = Field(description="chart reference, repository and pinned version")
    global_name: str = Field("consul", description="prefix of all object names; empty: <release>-consul")
    acls: bool = Field(True, description="ACLs, in every datacenter alike")
    gossip_encryption: bool = Field(True, description="gossip encryption, in every datacenter alike")
    proxy_defaults_mode: Literal["local", "remote"] = Field(
        "local", description="mesh gateway mode of ProxyDefaults global"
    )
    servers: int = Field(1, ge=1, description="Consul servers in each datacenter: 1, 3 or 5")
    mesh_gateway: MeshGateway = Field(default=MeshGateway(), description="gateway port and replicas")
    timeouts: Timeouts = Field(default=Timeouts(), description="deadlines in seconds")
    primary: Cluster = Field(description="the cluster whose datacenter holds the CA and the ACLs")
    secondaries: list[Cluster] = Field(min_length=1, description="every other cluster")
    secondary: str = Field("", description="datacenter that 02 and 03 work on; empty: the only secondary")

    @property
    def clusters(self) -> list[Cluster]:
        return [self.primary, *self.secondaries]

    @property
    def kubeconfig_path(self) -> str | None:
        """The path for the Kubernetes client; None means its usual rules ($KUBECONFIG, ~/.kube/config)."""
        if self.kubeconfig == SANDBOX:
            return str(places.sandbox_kubeconfig())
        return str(Path(self.kubeconfig).expanduser()) if self.kubeconfig else None

    def fullname(self, cluster: Cluster) -> str:
        """The prefix of the names of all objects of Consul in that cluster."""
        return fullname(cluster.release, self.global_name)

    @property
    def secret_name(self) -> str:
        """The name of the federation secret in the primary, and of each copy."""
        return federation_secret_name(self.primary.release, self.global_name)

    def chosen_secondary(self) -> Cluster:
        """The secondary that 02 and 03 work on. Raises ParamsError when that is not clear."""
        names = [cluster.datacenter for cluster in self.secondaries]
        if not self.secondary:
            if len(names) == 1:
                return self.secondaries[0]
            raise ParamsError(
                f"There are {len(names)} secondaries and none was chosen.",
                f"give the parameter `secondary`, one of: {', '.join(names)}",
            )
        for cluster in self.secondaries:
            if cluster.datacenter == self.secondary:
                return cluster
        raise ParamsError(
            f"The parameter `secondary` is {self.secondary!r}, which is no secondary of this federation.",
            f"choose one of: {', '.join(names)}",
        )


NOTEBOOK_NAMES = tuple(Federation.model_fields)
"""Every name that the parameters cell of a notebook may hold; `secondary` only in 02 and 03."""


def load(path: str | Path) -> Federation:
    """Read and check a params file. Raises ParamsError that lists every mistake."""
    source = Path(path)
    try:
        text = source.read_text(encoding="utf-8")
    except OSError as error:
        raise ParamsError(
            f"The params file {source} cannot be read: {error.strerror}.", "give the path of a YAML file"
        ) from None
    except UnicodeDecodeError:
        raise ParamsError(f"The params file {source} is not text in UTF-8.", "save it as UTF-8") from None
    try:
        raw = yaml.load(text, Loader=_UniqueKeys)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}, column {where.column + 1}" if where else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise ParamsError(
            f"The params file {source}{line} is not YAML: {problem}.", "mend that line"
        ) from None
    if not isinstance(raw, dict):
        raise ParamsError(f"The params file {source} holds no parameters.", "see params/sandbox.yaml")
    return check(raw, str(source))


def from_notebook(names: Mapping[str, Any]) -> Federation:
    """Read and check the parameters cell of a notebook: pass `globals()`.

    What papermill injected counts as a params file does: where it names the primary, it stands alone, and a key
    that it leaves out has the same default as with `consulfed run`, not the sandbox's value of the notebook; a key
    that does not exist is a mistake. Raises ParamsError that lists every mistake.
    """
    injected = _injected(names)
    raw = {name: names[name] for name in injected if name in names}
    if "primary" not in raw:
        raw = {name: names[name] for name in NOTEBOOK_NAMES if name in names} | raw
    return check(raw, "the parameters cell")


def _injected(names: Mapping[str, Any]) -> list[str]:
    """Names that papermill's injected cell assigns: it begins with `# Parameters`, as papermill writes it."""
    for source in names.get("In") or ():
        if isinstance(source, str) and source.startswith("# Parameters\n"):
            assigned = [node.targets[0] for node in ast.parse(source).body if isinstance(node, ast.Assign)]
            found = [target.id for target in assigned if isinstance(target, ast.Name)]
            return [name for name in found if not name.startswith("PAPERMILL_")]  # of --inject-paths
    return []


def check(raw: Mapping[Any, Any], source: str) -> Federation:
    """Check raw parameters from `source` (said in the error). Raises ParamsError that lists every mistake."""
    mistakes: list[str] = []
    federation = None
    try:
        federation = Federation.model_validate(dict(raw))
    except ValidationError as error:
        mistakes += [_sentence(dict(item)) for item in error.errors()]
    mistakes += _cross_checks(raw)
    mistakes += _context_mistakes(raw)
    if mistakes or federation is None:
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise ParamsError(
            f"The parameters in {source} have {count}; nothing was written.",
            "mend them and run the same command again; params/sandbox.yaml is a complete example",
            mistakes,
        )
    return federation


def _place(location: tuple[Any, ...]) -> str:
    place = ""
    for part in location:
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else str(part)
    return place or "parameters"


_EXPECTED = {
    "bool_type": "true or false",
    "string_type": "text in quotes",
    "int_type": "a whole number",
    "model_type": "a mapping of keys and values",
    "model_attributes_type": "a mapping of keys and values",
    "dict_type": "a mapping of keys and values",
    "list_type": "a list",
}


def _sentence(item: dict[str, Any]) -> str:
    """One mistake that pydantic found, in plain words."""
    place, kind, value = _place(item["loc"]), item["type"], item.get("input")
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(item["loc"][-1]), _known_keys(item["loc"][:-1]), 1)
        return f"{place}: unknown key" + (f"; did you mean `{near[0]}`?" if near else "")
    if kind == "missing":
        return f"{place}: missing"
    if kind == "too_short" and item["loc"] == ("secondaries",):
        return "secondaries: empty; expected at least one cluster"
    if kind == "string_too_short":
        return f"{place}: empty"
    if kind == "literal_error":
        return f"{place}: {value!r}; expected {item['ctx']['expected']}"
    if kind in _EXPECTED:
        found = "empty" if value is None else f"{value!r} is {_type_name(value)}"
        return f"{place}: {found}; expected {_EXPECTED[kind]}"
    return f"{place}: {value!r}; {item['msg'][0].lower()}{item['msg'][1:]}"


def _type_name(value: Any) -> str:
    names = {
        str: "text",
        bool: "true/false",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "a mapping",
    }
    return names.get(type(value), type(value).__name__)


def _known_keys(location: tuple[Any, ...]) -> list[str]:
    models: dict[str, type[BaseModel]] = {
        "primary": Cluster, "secondaries": Cluster, "chart": Chart,
        "mesh_gateway": MeshGateway, "timeouts": Timeouts,
    }  # fmt: skip
    model = models.get(str(location[0]), Federation) if location else Federation
    return list(model.model_fields)


def _cross_checks(raw: Mapping[Any, Any]) -> list[str]:
    """What no single field shows. Works on raw input, so that it is said together with wrong types."""
    mistakes: list[str] = []
    mistakes += _cluster_mistakes(
        _clusters(raw), raw.get("global_name", "consul"), raw.get("gossip_encryption", True)
    )
    name = raw.get("global_name")
    if isinstance(name, str) and name and not _NAME.fullmatch(name):
        mistakes.append(f"global_name: {name!r}; expected lower-case letters, digits and hyphens")
    federation = raw.get("federation")
    if isinstance(federation, str) and federation and not re.fullmatch(r"[A-Za-z0-9][\w.-]*", federation):
        mistakes.append(f"federation: {federation!r}; expected letters, digits, dots, hyphens, underscores")
    mistakes += _chart_mistakes(raw.get("chart"))
    servers = raw.get("servers")
    if isinstance(servers, int) and not isinstance(servers, bool) and servers > 0 and servers % 2 == 0:
        mistakes.append(f"servers: {servers} is even, which makes a quorum no safer; expected 1, 3 or 5")
    return mistakes


def _cluster_mistakes(
    clusters: list[tuple[str, Mapping[Any, Any]]], global_name: Any, gossip: Any
) -> list[str]:
    mistakes: list[str] = []
    seen: dict[tuple[str, str], str] = {}
    for place, cluster in clusters:
        datacenter = cluster.get("datacenter")
        if isinstance(datacenter, str) and datacenter and not _DATACENTER.fullmatch(datacenter):
            why = "has upper-case letters" if datacenter.lower() != datacenter else "is no datacenter name"
            mistakes.append(
                f"{place}.datacenter: {datacenter!r} {why}; expected lower-case letters, digits and hyphens"
            )
        for key in ("datacenter", "context"):
            value = cluster.get(key)
            if not isinstance(value, str) or not value:
                continue
            other = seen.setdefault((key, value.lower()), place)
            if other != place:
                mistakes.append(
                    f"{place}.{key}: {value!r} is the {key} of {other} already; it must be unique"
                )
        for key in ("namespace", "release"):
            value = cluster.get(key)
            if isinstance(value, str) and not _NAME.fullmatch(value):
                mistakes.append(f"{place}.{key}: {value!r}; expected lower-case letters, digits and hyphens")
        url = cluster.get("api_url")
        if isinstance(url, str) and url and not url.startswith("https://"):
            mistakes.append(f"{place}.api_url: {url!r}; expected a full URL that starts with https://")
        release = cluster.get("release", "consul")
        if isinstance(release, str) and isinstance(global_name, str):
            name, limit = fullname(release, global_name), longest_fullname(bool(gossip))
            if len(name) > limit:
                mistakes.append(
                    f"{place}: the chart's full name {name!r} has {len(name)} characters; at most {limit} fit,"
                    " because the names of its Jobs become labels"
                )
    return mistakes


def _context_mistakes(raw: Mapping[Any, Any]) -> list[str]:
    """Contexts that the kubeconfig does not have; without one to read (a reviewer's) preflight tells."""
    kubeconfig = raw.get("kubeconfig", "")
    if not isinstance(kubeconfig, str):
        return []
    known = kubeconfig_contexts(kubeconfig)
    if not known:
        return []
    mistakes = []
    for place, cluster in _clusters(raw):
        context = cluster.get("context")
        if isinstance(context, str) and context and context not in known:
            mistakes.append(
                f"{place}.context: {context!r} is not in the kubeconfig; it has {', '.join(sorted(known))}"
            )
    return mistakes


def kubeconfig_contexts(kubeconfig: str) -> set[str]:
    """Names of the contexts of `kubeconfig` (as in the parameters); empty if there is none to read."""
    if kubeconfig:
        files = [str(places.sandbox_kubeconfig()) if kubeconfig == SANDBOX else kubeconfig]
    else:
        files = os.environ.get("KUBECONFIG", "~/.kube/config").split(os.pathsep)
    names: set[str] = set()
    for file in filter(None, files):
        try:
            content = yaml.safe_load(Path(file).expanduser().read_text(encoding="utf-8"))
            names |= {str(item["name"]) for item in content["contexts"]}
        except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
            continue
    return names


def _clusters(raw: Mapping[Any, Any]) -> list[tuple[str, Mapping[Any, Any]]]:
    """(place, raw cluster) of the primary and each secondary, as far as they are mappings."""
    clusters: list[tuple[str, Mapping[Any, Any]]] = []
    if isinstance(raw.get("primary"), Mapping):
        clusters.append(("primary", raw["primary"]))
    if isinstance(raw.get("secondaries"), list):
        clusters += [
            (f"secondaries[{i}]", c) for i, c in enumerate(raw["secondaries"]) if isinstance(c, Mapping)
        ]
    return clusters


def _chart_mistakes(chart: Any) -> list[str]:
    if not isinstance(chart, Mapping) or not isinstance(chart.get("version"), str):
        return []
    try:
        version = ChartVersion.parse(chart["version"])
    except ValueError as error:
        return [f"chart.version: {error}"]
    if not version.is_supported:
        return [f"chart.version: {version} is too old for these settings; expected {OLDEST} or newer"]
    return []

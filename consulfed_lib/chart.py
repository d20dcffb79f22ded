"""Facts about the versions of the official Consul chart: what each generation knows, and what it cannot do.

Source: values.yaml and the templates of hashicorp/consul-helm (0.21.0 to 0.32.1) and hashicorp/consul-k8s
(charts/consul, 0.33.0 to 2.0.3), compared over all 170 released tags. There is no values.schema.json at any tag,
so that Helm itself ignores unknown keys.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import total_ordering
from typing import Any

OLDEST = "0.21.0"
"""The first version with `global.federation`; before it the chart cannot federate."""

NEWEST_MAJOR = 2
"""The newest major version whose values are known to this release of consulfed."""

AUTOGENERATE = "global.gossipEncryption.autoGenerate"

WINDOWS: dict[str, tuple[str, str]] = {
    "meshGateway.globalMode": ("", "0.30.0"),
    "connectInject.centralConfig": ("", "0.30.0"),
    "controller": ("0.25.0", "1.0.0"),
    "global.imageEnvoy": ("0.22.0", "1.0.0"),
    "global.adminPartitions": ("0.34.0", ""),
    AUTOGENERATE: ("0.35.0", ""),
    "apiGateway": ("0.40.0", "1.5.0"),
    "global.federation.primaryDatacenter": ("0.41.0", ""),
    "global.federation.primaryGateways": ("0.41.0", ""),
    "global.federation.k8sAuthMethodHost": ("0.42.0", ""),
    "global.consulAPITimeout": ("0.44.0", ""),
    "meshGateway.service.enabled": ("", "1.0.0"),
    "global.imageConsulDataplane": ("1.0.0", ""),
}
"""Key → (first version that has it, first version that no longer has it); empty: since ever, until today."""

_KUBERNETES: tuple[tuple[str, str, str, str], ...] = (
    # From, before, lowest, highest Kubernetes. Up to 0.33 by the API versions in the templates, which newer Kubernetes
    # no longer serves; from 0.49 what HashiCorp's compatibility pages call tested. Nothing is said of the others.
    ("0.21.0", "0.32.0", "1.13", "1.21"),
    ("0.32.0", "0.33.0", "1.16", "1.24"),
    ("0.33.0", "0.34.0", "1.17", "1.24"),
    ("0.49.0", "1.0.0", "1.21", "1.24"),
    ("1.0.0", "1.1.0", "1.22", "1.25"),
    ("1.1.0", "1.2.0", "1.23", "1.28"),
    ("1.2.0", "1.3.0", "1.24", "1.27"),
    ("1.3.0", "1.4.0", "1.25", "1.28"),
    ("1.4.0", "1.5.0", "1.26", "1.29"),
    ("1.8.0", "1.10.0", "1.30", "1.34"),
)

_CONSUL: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    # From, before, series of Consul: the chart's own appVersion, and what the compatibility pages add to it.
    ("0.21.0", "0.22.0", ("1.7",)),
    ("0.22.0", "0.27.0", ("1.8",)),
    ("0.27.0", "0.32.0", ("1.9",)),
    ("0.32.0", "0.39.0", ("1.10",)),
    ("0.39.0", "0.43.0", ("1.11",)),
    ("0.43.0", "0.44.0", ("1.12",)),
    ("0.44.0", "0.47.0", ("1.11", "1.12")),
    ("0.47.0", "1.0.0", ("1.11", "1.12", "1.13")),
    ("1.0.0", "1.1.0", ("1.14",)),
    ("1.1.0", "1.2.0", ("1.15",)),
    ("1.2.0", "1.3.0", ("1.16",)),
    ("1.3.0", "1.4.0", ("1.17",)),
    ("1.4.0", "1.5.0", ("1.18",)),
    ("1.5.0", "1.6.0", ("1.19",)),
    ("1.6.0", "1.7.0", ("1.20",)),
    ("1.7.0", "1.8.0", ("1.20", "1.21", "1.22")),
    ("1.8.0", "1.9.0", ("1.21", "1.22")),
    ("1.9.0", "1.10.0", ("1.22",)),
    ("2.0.0", "2.1.0", ("2.0",)),
)

_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?")


@total_ordering
@dataclass(frozen=True, eq=False)
class ChartVersion:
    """A chart version in the order of its numbers; a pre-release counts as the release that it leads to.

    >>> ChartVersion.parse("0.49.8") < ChartVersion.parse("1.0.0-beta1")
    True
    >>> ChartVersion.parse("1.9.11").knows("controller")
    False
    """

    numbers: tuple[int, int, int]
    text: str

    @classmethod
    def parse(cls, text: str) -> ChartVersion:
        """Raises ValueError with a sentence for a user."""
        match = _VERSION.fullmatch(text.strip())
        if not match:
            raise ValueError(f"{text!r} is no chart version; expected three numbers such as 1.9.11")
        version = cls((int(match[1]), int(match[2]), int(match[3])), text.strip().removeprefix("v"))
        if version.numbers[0] > NEWEST_MAJOR:
            raise ValueError(
                f"{text!r} is unknown; expected {OLDEST} up to {NEWEST_MAJOR}.x, the versions whose values are known"
            )
        return version

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ChartVersion) and self.numbers == other.numbers

    def __hash__(self) -> int:
        return hash(self.numbers)

    def __lt__(self, other: ChartVersion) -> bool:
        return self.numbers < other.numbers

    def __str__(self) -> str:
        return self.text

    def within(self, since: str, before: str) -> bool:
        """Whether it is at least `since` and older than `before`; an empty one is no limit."""
        return (not since or self >= ChartVersion.parse(since)) and (
            not before or self < ChartVersion.parse(before)
        )

    def knows(self, path: str) -> bool:
        """Whether this version has that key of WINDOWS. Raises KeyError for a key that is not in the table."""
        return self.within(*WINDOWS[path])

    @property
    def is_supported(self) -> bool:
        return self >= ChartVersion.parse(OLDEST)

    @property
    def has_controller_section(self) -> bool:
        """`controller.enabled`: from 0.25.0 until the connect-injector took over its work in 1.0.0 (GH-1697)."""
        return self.knows("controller")

    @property
    def mode_in_values(self) -> bool:
        """Before 0.30.0 `meshGateway.globalMode` makes the servers write the proxy-defaults entry; later versions
        refuse that key, and the custom resource ProxyDefaults takes its place."""
        return self.knows("meshGateway.globalMode")

    @property
    def has_client_agents(self) -> bool:
        """Until 1.0.0 gateways and jobs talk to a client agent on their node, so that clients and their gRPC port
        must be on."""
        return self.within("", "1.0.0")

    @property
    def needs_bootstrap_expect(self) -> bool:
        """Until 0.28.0 `server.bootstrapExpect` is 3 by itself: one server would wait for two more for ever."""
        return self.within("", "0.28.0")

    @property
    def exports_generated_key(self) -> bool:
        """Since 0.37.0 a generated gossip key reaches the federation secret (GH-854)."""
        return self.within("0.37.0", "")

    @property
    def finds_generated_key(self) -> bool:
        """Since 0.44.0 also when the full name is not `consul`: before, the Job asks for
        `consul-gossip-encryption-key` by that name and waits for ever (#1196)."""
        return self.within("0.44.0", "")

    @property
    def secret_waits_for_rollout(self) -> bool:
        """Since 0.49.0 no federation secret is made while `server.updatePartition` is not 0; before, the Job hung
        (#1466)."""
        return self.within("0.49.0", "")


def chart_mistakes(raw: Mapping[Any, Any]) -> list[str]:
    """What the chart's version cannot do of what raw parameters ask for; each with its place.

    Works on raw input, so that it is said together with every other mistake; what is no text or no mapping is left
    to the typed model.
    """
    chart = raw.get("chart")
    if not isinstance(chart, Mapping) or not isinstance(chart.get("version"), str):
        return []
    try:
        version = ChartVersion.parse(chart["version"])
    except ValueError as error:
        return [f"chart.version: {error}"]
    if not version.is_supported:
        return [f"chart.version: {version} cannot federate; expected {OLDEST} or newer"]
    remedy = "name a Secret of your own in gossip_key, take a newer chart, or set gossip_encryption to false"
    if not _generates_key(raw):
        return []
    if not version.exports_generated_key:
        return [
            f"gossip_encryption: chart {version} does not put a generated gossip key into the federation secret,"
            f" 0.37.0 and newer do; {remedy}"
        ]
    name = _primary_fullname(raw)
    if not version.finds_generated_key and name not in (None, "consul"):
        return [
            f"gossip_encryption: chart {version} finds a generated gossip key only if its full name is 'consul',"
            f" and in the primary it is {name!r}; 0.44.0 and newer find it always; {remedy}"
        ]
    return []


def _generates_key(raw: Mapping[Any, Any]) -> bool:
    given = raw.get("gossip_key")
    return raw.get("gossip_encryption", True) is True and not (
        isinstance(given, Mapping) and given.get("secret")
    )


def _primary_fullname(raw: Mapping[Any, Any]) -> str | None:
    """The chart's full name in the primary; None when the parameters are too wrong to tell."""
    primary = raw.get("primary")
    release = primary.get("release", "consul") if isinstance(primary, Mapping) else None
    words = (release, raw.get("global_name", "consul"), raw.get("fullname_override", ""))
    return fullname(*map(str, words)) if all(isinstance(word, str) for word in words) else None


def supported_kubernetes(chart: ChartVersion) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """The lowest and the highest Kubernetes (major, minor) that go with a chart; None where nothing is known.

    >>> supported_kubernetes(ChartVersion.parse("0.49.8"))
    ((1, 21), (1, 24))
    """
    for since, before, low, high in _KUBERNETES:
        if chart.within(since, before):
            return _minor(low), _minor(high)
    return None


def stuck_on_kubernetes(
    chart: ChartVersion, kubernetes: tuple[int, int], acls: bool, generates_key: bool
) -> tuple[str, str] | None:
    """What of a chart can never end on a Kubernetes (major, minor) that is too new for it, and what to do instead.

    From the templates of all tags: Secrets of ServiceAccounts that Kubernetes 1.24 no longer makes are the chart's own
    from 0.48.0 on (GH-1431); the PodSecurityPolicy of the Job that makes the gossip key, which 1.25 does not know, is
    rendered from 0.35.0 on, and only where it is asked for since 0.49.2.

    >>> stuck_on_kubernetes(ChartVersion.parse("0.44.0"), (1, 24), acls=False, generates_key=True) is None
    True
    """
    if acls and kubernetes >= (1, 24) and chart < ChartVersion.parse("0.48.0"):
        why = "waits for a ServiceAccount's token Secret, which Kubernetes makes no more since 1.24"
        return why, "pin chart 0.48.0 or newer"
    if generates_key and kubernetes >= (1, 25) and chart.within("0.35.0", "0.49.2"):
        why = "makes a PodSecurityPolicy for the Job that generates the gossip key, which Kubernetes knows no more"
        return why, "pin chart 0.49.2 or newer, or name a Secret of your own in gossip_key"
    return None


def supported_consul(chart: ChartVersion) -> tuple[str, ...]:
    """The series of Consul that go with a chart; empty where nothing is known.

    >>> supported_consul(ChartVersion.parse("1.9.11"))
    ('1.22',)
    """
    return next((series for since, before, series in _CONSUL if chart.within(since, before)), ())


def _minor(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor)


def fullname(release: str, global_name: str, override: str = "") -> str:
    """The prefix of every object's name: `consul.fullname` of the chart, the same from 0.21.0 to 2.0.3.

    Args:
        override: the chart's `fullnameOverride`, which beats `global.name`.

    >>> fullname("mesh", "")
    'mesh-consul'
    >>> fullname("mesh", "consul")
    'consul'
    """
    return (override or global_name or f"{release}-consul")[:63].removesuffix("-")


def federation_secret_name(release: str, global_name: str, override: str = "") -> str:
    """The page's rule, made exact: the suffix comes after the truncation.

    >>> federation_secret_name("consul", "")
    'consul-consul-federation'
    """
    return f"{fullname(release, global_name, override)}-federation"


def longest_fullname(generates_key: bool) -> int:
    """How long the full name may be before a hook Job's name no longer fits into a label of 63 characters.

    Rendered at every tag from 0.21.0 to 2.0.3: the longest Job of a federation is the one that makes the federation
    secret, unless the chart generates the gossip key. A key of the user's own, and none, need no Job.
    """
    suffixes = ["-create-federation-secret"]
    if generates_key:
        suffixes.append("-gossip-encryption-autogenerate")
    return 63 - max(map(len, suffixes))

"""Facts about the versions of the official Consul chart: what each generation knows and defaults to.

Source: values.yaml and CHANGELOG of hashicorp/consul-k8s (charts/consul) and hashicorp/consul-helm, compared
over the released tags. There is no values.schema.json at any tag, so that Helm itself ignores unknown keys.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering

OLDEST = "0.44.0"
"""The first version with every setting that the default federation needs: `primaryDatacenter` (0.41.0),
`k8sAuthMethodHost` (0.42.0), `gossipEncryption.autoGenerate` that works with any name (0.44.0, #1196)."""

NEWEST_MAJOR = 2
"""The newest major version whose values are known to this release of consulfed."""

_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?")


@total_ordering
@dataclass(frozen=True, eq=False)
class ChartVersion:
    """A chart version in the order of its numbers; a pre-release counts as the release that it leads to.

    >>> ChartVersion.parse("0.49.8") < ChartVersion.parse("1.0.0-beta1")
    True
    >>> ChartVersion.parse("1.9.11").has_controller_section
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

    @property
    def has_controller_section(self) -> bool:
        """`controller.enabled` was removed in 1.0.0 (GH-1697): the connect-injector syncs config entries there."""
        return self.numbers < (1, 0, 0)

    @property
    def has_global_mode(self) -> bool:
        """`meshGateway.globalMode` was removed in 0.30.0: ProxyDefaults is a custom resource since."""
        return self.numbers < (0, 30, 0)

    @property
    def is_supported(self) -> bool:
        return self >= ChartVersion.parse(OLDEST)


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


def longest_fullname(gossip_encryption: bool) -> int:
    """How long the full name may be before a hook Job's name no longer fits into a label of 63 characters."""
    suffixes = ["-create-federation-secret"]
    if gossip_encryption:
        suffixes.append("-gossip-encryption-autogenerate")
    return 63 - max(map(len, suffixes))

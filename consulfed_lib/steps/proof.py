"""One whole look at a federation: every check of the verification, and what its tables are made of.

Everything is asked at the same time. Each datacenter has one connection to its Consul, and each way is tried from the
pods that will use it, so that a further datacenter costs as much as the one before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from ..checks import run_together
from ..checks.consul_state import look_at_consul
from ..checks.drift import Addresses, Told, addresses, hear_all, look_at_addresses
from ..checks.federation import Datacenter, look_at_federation
from ..checks.holdings import Holdings, Unseen, hold
from ..checks.layers import in_order
from ..checks.ledger import Expiry, Ledger, Limits, calendar, ledger, look_at_credentials
from ..checks.local_files import SECRET_KEYS, folders, local_files
from ..checks.network import look_from_servers
from ..checks.readers import Reader, Readers, readers, secret_readers
from ..checks.target import Target
from ..checks.ui import ui
from ..errors import ConsulfedError
from ..params import Federation
from ..results import Finding
from ..secret import FederationSecret, read
from ..values import merged
from ..values.facts import get


class Proof:
    """What is known of a federation after the newest look; the first of its datacenters is the primary."""

    def __init__(self, params: Federation, datacenters: Sequence[Datacenter]):
        self.params = params
        self.datacenters = list(datacenters)
        self.findings: list[Finding] = []
        self._held: list[Holdings] = []
        self._told: list[Told] = []
        self._readers: list[Reader] = []

    @property
    def primary(self) -> Datacenter:
        return self.datacenters[0]

    @property
    def limits(self) -> Limits:
        given = self.params.verification
        return Limits(given.expiry_warning_days, given.expiry_error_days)

    def look(self) -> list[Finding]:
        """Every check, causes before consequences. What cannot be seen is skipped, with why."""
        calls: list[Callable[[], list[Finding]]] = [
            partial(look_at_federation, self.datacenters),
            partial(look_at_consul, self.datacenters),
            self._credentials,
            self._addresses,
            *(partial(self._network, dc) for dc in self.datacenters[1:]),
            *(partial(ui, dc.name, dc) for dc in self.datacenters if _has_ui(dc)),
            self._who_can_read,
            self._local_files,
        ]
        self.findings = in_order(run_together(calls))
        return self.findings

    # -- tables -------------------------------------------------------------------------------------------------

    def ledger(self) -> Ledger:
        """Every credential that datacenters share or depend on."""
        return ledger(self._held, self.limits)

    def calendar(self) -> list[Expiry]:
        """What expires, the first to expire first."""
        return calendar(self.ledger())

    def addresses(self) -> Addresses:
        """Where each place believes the gateways to be."""
        return addresses(self._told)

    def readers(self) -> Readers:
        """Who can read the federation secret."""
        return Readers("Who can read the federation secret", self._readers)

    # -- looks --------------------------------------------------------------------------------------------------

    def _credentials(self) -> list[Finding]:
        with ThreadPoolExecutor(len(self.datacenters)) as pool:
            self._held = list(pool.map(lambda dc: hold(dc, _secret(dc)), self.datacenters))
        return look_at_credentials(self._held, self.limits)

    def _addresses(self) -> list[Finding]:
        self._told = hear_all(self.datacenters)
        return look_at_addresses(self._told)

    def _network(self, dc: Datacenter) -> list[Finding]:
        one, other = (Target(self.params, each.of, each.cluster) for each in (self.primary, dc))
        secret = _secret(self.primary)
        return look_from_servers(
            one, other, secret.ca_pem() if isinstance(secret, FederationSecret) else None
        )

    def _local_files(self) -> list[Finding]:
        secret = _secret(self.primary)
        if not isinstance(secret, FederationSecret):
            return []  # other checks say so
        keys = [secret.data[key] for key in SECRET_KEYS if key in secret.data]
        return local_files("this machine", keys, folders())

    def _who_can_read(self) -> list[Finding]:
        def of_one(dc: Datacenter) -> tuple[list[Reader], list[Finding]]:
            try:
                found = readers(dc.cluster, dc.of, self.params.secret_name)
            except ConsulfedError as error:
                return [], [secret_readers.skipped(dc.name, error.found)]
            return found, secret_readers(dc.name, found)

        with ThreadPoolExecutor(len(self.datacenters)) as pool:
            seen = list(pool.map(of_one, self.datacenters))
        self._readers = [reader for found, _ in seen for reader in found]
        return [finding for _, findings in seen for finding in findings]


def _has_ui(dc: Datacenter) -> bool:
    """Whether the values leave the UI and its Service on, as the chart does: what is turned off is not asked for."""
    values = merged(dc.params, dc.of).values
    return all(get(values, path) is not False for path in ("ui.enabled", "ui.service.enabled"))


def _secret(dc: Datacenter) -> FederationSecret | Unseen | None:
    """A datacenter's federation secret, or why it cannot be seen."""
    try:
        return read(dc.cluster, dc.of.namespace, dc.params.secret_name)
    except ConsulfedError as error:
        return Unseen(error.found)

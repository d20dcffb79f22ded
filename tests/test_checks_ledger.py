"""The trust ledger: each check with real certificates, each fault where it is real, and silence where all is well."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from consulfed_lib import redact
from consulfed_lib.checks.certificates import Limits
from consulfed_lib.checks.credentials import Credential
from consulfed_lib.checks.federation import Datacenter
from consulfed_lib.checks.holdings import Holdings, Unseen, hold
from consulfed_lib.checks.ledger import LEDGER_CHECKS, Ledger, calendar, ledger, look_at_credentials
from consulfed_lib.consul import Consul
from consulfed_lib.params import Federation
from consulfed_lib.redact import Secret
from consulfed_lib.results import Finding
from consulfed_lib.secret import read

from .conftest import Authority, HttpsServer, NearCluster, secret_object

TOKEN, ACCESSOR = "7b1f3c5e-2f64-4be0-9c39-3b1ea5ab0c11", "0c9f3a51-6f0e-4a8e-8a6a-2b8f5a0a4c77"
SECRETS = "GET /api/v1/namespaces/consul/secrets"
RESTART = "rollout restart statefulset/consul-server"
DAY = timedelta(days=1)


class MeshCA:
    """A CA of the service mesh as Consul makes them: with a key identifier, of any age."""

    def __init__(self, days: float = 3650, by: MeshCA | None = None, key: Any = None, age: timedelta = DAY):
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        kind = "Root" if by is None else "Intermediate"
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"Consul {kind} {id(self)}")])
        identifier = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
        start = datetime.now(UTC) - age
        builder = x509.CertificateBuilder().subject_name(self.name).issuer_name((by or self).name)
        builder = builder.public_key(self.key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(start).not_valid_after(start + timedelta(days=days))
        builder = builder.add_extension(x509.BasicConstraints(True, None), True).add_extension(
            identifier, False
        )
        certificate = builder.sign((by or self).key, hashes.SHA256())
        self.pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
        self.key_id = identifier.digest.hex(":")


def roots(root: MeshCA, *intermediates: MeshCA, signs: MeshCA | None = None) -> dict[str, Any]:
    """What `/v1/connect/ca/roots` answers where `signs` signs; the root that was there before comes first."""
    active = {
        "ID": "aa:bb", "Active": True, "RootCert": root.pem, "SigningKeyID": (signs or root).key_id,
        "IntermediateCerts": [each.pem for each in intermediates] or None,
    }  # fmt: skip
    former = {"ID": "cc:dd", "Active": False, "RootCert": "", "SigningKeyID": "", "IntermediateCerts": None}
    return {"ActiveRootID": "aa:bb", "TrustDomain": "x.consul", "Roots": [former, active]}


@dataclass
class Place:
    """One datacenter of a test: its API server, its Consul, what both answer."""

    dc: Datacenter
    api: HttpsServer
    consul: HttpsServer

    def keeps(self, name: str, data: dict[str, bytes]) -> None:
        self.api.answers[f"{SECRETS}/{name}"] = 200, secret_object(data, name)

    def stores(self, pem: str, name: str = "consul-server-cert") -> None:
        self.keeps(name, {"tls.crt": pem.encode(), "tls.key": b"the key beside the certificate"})

    def says(self, path: str, body: Any, status: int = 200) -> None:
        self.consul.answers[f"GET /v1/{path}"] = status, body

    def forbids(self, name: str) -> None:
        status = {
            "kind": "Status",
            "status": "Failure",
            "code": 403,
            "message": f'secrets "{name}" is forbidden',
        }
        self.api.answers[f"{SECRETS}/{name}"] = 403, status


@dataclass
class World:
    """A federation whose credentials are all well, until a test changes something."""

    places: list[Place]
    data: dict[str, bytes]
    authority: Authority
    root: MeshCA
    limits: Limits = field(default_factory=Limits)

    def held(self) -> list[Holdings]:
        def secret(dc: Datacenter) -> Any:
            return read(dc.cluster, dc.of.namespace, dc.params.secret_name)

        return [hold(each.dc, secret(each.dc)) for each in self.places]

    def look(self) -> list[Finding]:
        return look_at_credentials(self.held(), self.limits)

    def wrong(self) -> list[Finding]:
        return [finding for finding in self.look() if finding.severity != "ok"]

    def ledger(self) -> Ledger:
        return ledger(self.held(), self.limits)

    def copies(self, **changes: bytes | None) -> None:
        """Another copy of the federation secret in the first secondary; None takes a key away."""
        data = {key: value for key, value in {**self.data, **changes}.items() if value is not None}
        self.places[1].keeps("consul-federation", data)


def names(datacenter: str) -> tuple[str, str]:
    return f"server.{datacenter}.consul", f"*.server.{datacenter}.consul"


@pytest.fixture
def world(
    https: Callable[..., HttpsServer],
    kubeconfig: Callable[..., str],
    federation: Callable[..., Federation],
    secret_data: Callable[..., dict[str, bytes]],
    authority: Authority,
) -> Iterable[Callable[..., World]]:
    """Makes a federation: `world(n=2, shown={"dc1": (names, authority)}, **parameters)`."""
    clients: list[Consul] = []

    def make(n: int = 2, shown: dict[str, Any] | None = None, **changes: Any) -> World:
        clusters = [{"context": f"dc{i}", "datacenter": f"dc{i}"} for i in range(1, n + 1)]
        params = federation(primary=clusters[0], secondaries=clusters[1:], **changes)
        made = World([], secret_data(), authority, MeshCA())
        for of in params.clusters:
            server_names, signed_by = (shown or {}).get(of.datacenter, (names(of.datacenter), authority))
            api, consul = https(), https(names=server_names, signed_by=signed_by)
            cluster = NearCluster(of.context, kubeconfig(**{of.context: api.url}))
            cluster.port = consul.port
            token = Secret("replicationToken", TOKEN.encode())
            client = Consul(cluster, "consul", "consul-server-0", of.datacenter, authority.pem, token)
            clients.append(client)
            place = Place(Datacenter(params, of, cluster, client), api, consul)
            made.places.append(place)
            place.keeps("consul-federation", made.data)
            place.stores(ssl.DER_cert_to_PEM_cert(client.certificate().der))
            place.says("connect/ca/roots", roots(made.root))
            if of is not params.primary:
                cross_signed, former = (
                    MeshCA(by=MeshCA(), key=made.root.key),
                    MeshCA(365, by=made.root, age=400 * DAY),
                )
                own = MeshCA(365, by=made.root)
                answer = roots(made.root, cross_signed, former, own, signs=own)
                place.says("connect/ca/roots", answer)
        made.places[0].keeps("consul-ca-cert", {"tls.crt": authority.pem.encode()})
        made.places[0].says("acl/token/self", {"AccessorID": ACCESSOR, "SecretID": TOKEN, "Local": False})
        return made

    yield make
    for client in clients:
        client.close()


# All is well


@pytest.mark.parametrize("n", [2, 3])
def test_a_good_federation_is_silent_and_every_row_is_ok(world, n):
    """Former intermediates, a cross-signed root and the root from before are no faults."""
    good = world(n)
    assert good.wrong() == []
    rows = good.ledger().rows
    assert {row.verdict for row in rows} == {"ok"}
    # dc1: secret, two places of the CA, two of the certificate, key, token, root; others: an intermediate, one CA.
    assert len(rows) == 8 * n
    assert all(row.fingerprint for row in rows)


def test_what_is_the_same_has_one_fingerprint_and_what_is_not_has_two(world):
    """So that a person can compare them by eye; a certificate's is the one that openssl shows."""
    rows = world(3).ledger().rows
    prints = {
        kind: {r.fingerprint for r in rows if r.credential == kind} for kind in {r.credential for r in rows}
    }
    assert {kind: len(each) for kind, each in prints.items()} == {
        "federation secret": 1, "server CA": 1, "server certificate": 3, "gossip key": 1, "replication token": 1,
        "Connect root": 1, "Connect intermediate": 2,
    }  # fmt: skip


def test_everything_is_read_once_and_judged_without_a_request(world):
    """One request a credential, one connection a Consul, whoever looks at them how often."""
    good = world()
    for place in good.places:
        place.api.requests.clear()
    held = good.held()
    for _ in range(2):
        look_at_credentials(held, good.limits)
        ledger(held, good.limits)
    primary, secondary = good.places
    own = [f"{SECRETS}/consul-federation", f"{SECRETS}/consul-server-cert"]
    assert sorted(primary.api.asked()) == [f"{SECRETS}/consul-ca-cert", *own]
    assert sorted(secondary.api.asked()) == own
    assert sorted(primary.consul.asked()) == ["GET /v1/acl/token/self", "GET /v1/connect/ca/roots"]
    assert secondary.consul.asked() == ["GET /v1/connect/ca/roots"]
    assert len({asked.connection for asked in primary.consul.requests}) == 1


def test_no_value_is_in_anything_that_can_be_shown(world):
    """Also where a copy differs; the key beside a certificate comes along, and counts as secret from then on."""
    broken = world()
    broken.copies(gossipEncryptionKey=base64.b64encode(b"another key of 32 bytes, made up"), caKey=None)
    held, findings = broken.held(), broken.look()
    for shown in (
        held,
        findings,
        broken.ledger(),
        broken.ledger()._repr_mimebundle_(),
        broken.ledger().data(),
    ):
        assert redact.leaks(repr(shown)) == 0
    assert redact.leaks("the key beside the certificate") == 1
    assert broken.places[0].consul.requests[0].headers["x-consul-token"] == TOKEN


def test_what_the_settings_turn_off_is_not_asked_for(world):
    """No token and no gossip key: no row, no finding, and no question about a token."""
    without = world(acls=False, gossip_encryption=False)
    for key in ("replicationToken", "gossipEncryptionKey"):
        del without.data[key]
    for place in without.places:
        place.keeps("consul-federation", without.data)
    assert without.wrong() == []
    assert {"gossip key", "replication token"}.isdisjoint(row.credential for row in without.ledger())
    assert "GET /v1/acl/token/self" not in without.places[0].consul.asked()


# Each fault


def copy_is_missing(world: World) -> None:
    del world.places[1].api.answers[f"{SECRETS}/consul-federation"]


def other_gossip_key(world: World) -> None:
    world.copies(gossipEncryptionKey=base64.b64encode(bytes(32)))


def other_token(world: World) -> None:
    world.copies(replicationToken=b"11111111-2222-3333-4444-555555555555")


def token_is_missing(world: World) -> None:
    world.copies(replicationToken=None)


def other_server_ca(world: World) -> None:
    world.copies(caCert=Authority().pem.encode())


def server_ca_is_no_pem(world: World) -> None:
    world.copies(caCert=b"no certificate")


def chart_has_another_ca(world: World) -> None:
    world.places[0].keeps("consul-ca-cert", {"tls.crt": Authority().pem.encode()})


def chart_has_no_ca(world: World) -> None:
    del world.places[0].api.answers[f"{SECRETS}/consul-ca-cert"]


def stored_is_by_another_ca(world: World) -> None:
    world.places[1].stores(Authority().issue(names("dc2"))[0])


def stored_has_no_wildcard(world: World) -> None:
    world.places[1].stores(world.authority.issue(("server.dc2.consul",))[0])


def stored_is_gone(world: World) -> None:
    del world.places[1].api.answers[f"{SECRETS}/consul-server-cert"]


def other_root(world: World) -> None:
    root = MeshCA()
    own = MeshCA(365, by=root)
    world.places[1].says("connect/ca/roots", roots(root, own, signs=own))


def other_trust_domain(world: World) -> None:
    own = MeshCA(365, by=world.root)
    world.places[1].says("connect/ca/roots", roots(world.root, own, signs=own) | {"TrustDomain": "y.consul"})


def no_root(world: World) -> None:
    world.places[1].says("connect/ca/roots", {"ActiveRootID": "", "TrustDomain": "x.consul", "Roots": None})


def no_intermediate(world: World) -> None:
    world.places[1].says("connect/ca/roots", roots(world.root))


def intermediate_by_another_root(world: World) -> None:
    own = MeshCA(365, by=MeshCA())
    world.places[1].says("connect/ca/roots", roots(world.root, own, signs=own))


def intermediate_is_not_renewed(world: World) -> None:
    own = MeshCA(365, by=world.root, age=320.5 * DAY)
    world.places[1].says("connect/ca/roots", roots(world.root, own, signs=own))


def primary_refuses_the_token(world: World) -> None:
    world.places[0].says("acl/token/self", b"ACL not found", 403)


def token_expires(world: World) -> None:
    end = f"{datetime.now(UTC) + 5.5 * DAY:%Y-%m-%dT%H:%M:%S}.123456789Z"
    world.places[0].says("acl/token/self", {"AccessorID": ACCESSOR, "SecretID": TOKEN, "ExpirationTime": end})


def token_has_expired(world: World) -> None:
    answer = {"AccessorID": ACCESSOR, "SecretID": TOKEN, "ExpirationTime": "2020-01-02T03:04:05Z"}
    world.places[0].says("acl/token/self", answer)


@pytest.mark.parametrize(
    ("breaks", "expected"),
    [
        (copy_is_missing, ("federation-secret", "dc2", "error", "it is not there", "02-secret-transfer for dc2")),
        (other_gossip_key, ("gossip-key", "dc2", "error", "another one than in dc1", "02-secret-transfer for dc2")),
        (other_gossip_key, ("federation-secret", "dc2", "error", "differs from the one in dc1 in gossip", "02-")),
        (other_token, ("replication-token", "dc2", "error", "another one than in dc1", RESTART)),
        (token_is_missing, ("replication-token", "dc2", "error", "the key is missing", "02-secret-transfer")),
        (other_server_ca, ("server-ca", "dc2", "error", "another one than in dc1", "02-secret-transfer for dc2")),
        (server_ca_is_no_pem, ("server-ca", "dc2", "error", "no certificate in PEM", "02-secret-transfer")),
        (chart_has_another_ca, ("server-ca", "dc1", "error", "than the caCert of consul/", "01-primary-setup")),
        (chart_has_no_ca, ("server-ca", "dc1", "error", "a CA that no secondary trusts", "put caCert and caKey")),
        (stored_is_by_another_ca, ("server-certificate", "dc2", "error", "not signed by the federation's", "helm")),
        (stored_has_no_wildcard, ("server-certificate", "dc2", "error", "to *.server.dc2.consul", "helm")),
        (stored_is_gone, ("server-certificate", "dc2", "error", "no certificate is in it", "--reuse-values")),
        (other_root, ("connect-ca", "dc2", "error", "another one than in dc1", "leader's log in dc2")),
        (other_trust_domain, ("connect-ca", "dc2", "error", "trust domain is another", "leader's log in dc2")),
        (no_root, ("connect-ca", "dc2", "error", "there is no active root", "leader's log in dc2")),
        (no_intermediate, ("connect-ca", "dc2", "error", "none of its own", "leader's log in dc2")),
        (intermediate_by_another_root, ("connect-ca", "dc2", "error", "not signed by the active root", "log")),
        (intermediate_is_not_renewed, ("connect-ca", "dc2", "warning", "in 44 days", "half of its life")),
        (primary_refuses_the_token, ("replication-token", "dc1", "error", "does not accept it", "acl-replication")),
        (token_expires, ("replication-token", "dc1", "error", "in 5 days", "that does not expire")),
        (token_has_expired, ("replication-token", "dc1", "error", "it expired on 2020-01-02 03:04", "not expire")),
    ],
)  # fmt: skip
def test_a_fault_is_found_where_it_is(world, breaks, expected):
    """By its own check, in its datacenter, with what to do; and the row in the table has the same verdict."""
    broken = world()
    breaks(broken)
    id, subject, severity, found, hint = expected
    matching = [f for f in broken.wrong() if (f.id, f.subject, f.severity) == (id, subject, severity)]
    assert [found in each.found for each in matching] == [True], broken.wrong()
    assert hint in matching[0].hint
    assert severity in {row.verdict for row in broken.ledger() if row.datacenter == subject}


def test_every_check_of_the_ledger_has_fired():
    """The list above leaves none out."""
    (cases,) = (mark.args[1] for mark in test_a_fault_is_found_where_it_is.pytestmark)
    assert {expected[0] for _, expected in cases} == {each.id for each in LEDGER_CHECKS}


# The servers' certificate, as shown


def test_a_server_that_was_not_restarted_shows_an_older_certificate(world, authority):
    """Every helm upgrade issues a new one: no error, but what is stored must be loaded before the old one ends."""
    late = world()
    late.places[1].stores(authority.issue(names("dc2"))[0])
    (finding,) = late.wrong()
    assert (finding.id, finding.subject, finding.severity) == ("server-certificate", "dc2", "warning")
    assert "every helm upgrade issues a new one" in finding.found
    assert finding.hint == "kubectl --context dc2 -n consul rollout restart statefulset/consul-server"
    shown, stored = (
        [r for r in late.ledger() if r.where.startswith(w)][1] for w in ("shown", "consul/consul-server")
    )
    assert (shown.verdict, stored.verdict) == ("warning", "ok")
    assert shown.fingerprint != stored.fingerprint


def test_no_restart_is_advised_that_would_load_what_is_worse(world):
    """What is stored is by another CA: the servers in use are all that works."""
    broken = world()
    stored_is_by_another_ca(broken)
    stale = next(f for f in broken.wrong() if f.severity == "warning")
    assert stale.hint.startswith("helm ")


@pytest.mark.parametrize(
    ("shown", "found"),
    [
        (lambda ca: (names("dc1"), Authority("Other")), "does not vouch for it: "),
        (lambda ca: (names("dc7"), ca), "not made out to server.dc1.consul and *.server.dc1.consul"),
        (lambda ca: (("server.dc1.consul",), ca), "not made out to *.server.dc1.consul"),
    ],
)
def test_a_certificate_in_use_that_others_refuse_is_an_error(world, authority, shown, found):
    """Said in our own words where they say more than OpenSSL's, and not twice."""
    broken = world(shown={"dc1": shown(authority)})
    about = [
        f for f in broken.wrong() if f.id == "server-certificate" and "shown by consul-server-0" in f.found
    ]
    assert [found in each.found for each in about if each.severity == "error"] == [True]


def test_a_certificate_in_use_that_has_expired_is_told_apart_from_a_foreign_one(world, https, authority):
    """The handshake fails for both; whose CA it is, is not the question here."""
    broken = world()
    old = Authority("Old", timedelta(minutes=-30))
    old.key, old.name = authority.key, authority.name
    broken.places[1].dc.cluster.port = https(names=names("dc2"), signed_by=old).port
    by_id = {f.id: f for f in broken.wrong() if f.severity == "error"}
    assert "it expired on " in by_id["server-certificate"].found
    assert "vouch" not in by_id["server-certificate"].found
    assert by_id["server-certificate"].hint.endswith(RESTART)
    unseen = next(f for f in broken.look() if (f.id, f.subject) == ("connect-ca", "dc2"))
    assert unseen.severity == "skipped"
    assert "certificate has expired" in unseen.found


# Dates


@pytest.mark.parametrize(
    ("days", "severity", "found"),
    [
        (290, "ok", ""), (310, "warning", "expires on "), (360, "error", "in 4 days"), (400, "error", "it expired on "),
        (-1, "error", "it is not valid until "),
    ],
)  # fmt: skip
def test_time_makes_warnings_and_errors_of_certificates(world, days, severity, found):
    """The test's CA lasts a year: below sixty days a warning, below seven an error, and an end is an end.

    Not valid yet means that a clock is wrong, here or where it was made."""
    later = world()
    later.limits = Limits(at=datetime.now(UTC) + days * DAY)
    about = [f for f in later.look() if f.id == "server-ca"]
    assert {f.severity for f in about} == {severity}
    assert all(found in f.found for f in about)
    assert ("clock" in about[0].hint) == (days < 0)


def test_the_thresholds_are_the_callers(world):
    """Ninety days before the end, for whoever wants to know that early; and none at all."""
    later = world()
    at = datetime.now(UTC) + 290 * DAY
    later.limits = Limits(warning_days=90, at=at)
    assert {f.severity for f in later.wrong()} == {"warning"}
    later.limits = Limits(warning_days=0, error_days=0, at=at)
    assert {f.severity for f in later.wrong() if f.id == "server-ca"} == set()
    later.limits = Limits(warning_days=0, error_days=90, at=at)
    assert {f.severity for f in later.wrong() if f.id == "server-ca"} == {"error"}


def test_an_intermediate_of_a_short_life_is_not_always_warned_of(world):
    """Three days are usual with a short IntermediateCertTTL; Consul renews it at half of that."""
    short = world()
    for age, severity in ((timedelta(hours=30), "ok"), (timedelta(hours=60), "warning")):
        own = MeshCA(3, by=short.root, age=age)
        short.places[1].says("connect/ca/roots", roots(short.root, own, signs=own))
        assert [f.severity for f in short.look() if (f.id, f.subject) == ("connect-ca", "dc2")] == [severity]


def test_the_same_end_in_two_places_is_said_once(world):
    """The certificate is stored and shown: one finding that names both places."""
    later = world()
    later.limits = Limits(at=datetime.now(UTC) + 310 * DAY)
    (finding,) = (f for f in later.wrong() if (f.id, f.subject) == ("server-certificate", "dc1"))
    assert "(consul/consul-server-cert; shown by consul-server-0)" in finding.found


# What cannot be looked at


def test_what_may_not_be_read_is_skipped_and_never_ok(world):
    """With the API server's own words; what else there is, is judged."""
    blind = world()
    blind.places[0].forbids("consul-ca-cert")
    blind.places[0].forbids("consul-server-cert")
    found = {f.id: f for f in blind.wrong()}
    assert {f.severity for f in found.values()} == {"skipped"}
    assert set(found) == {"server-ca", "server-certificate"}
    assert 'secrets "consul-server-cert" is forbidden' in found["server-certificate"].found
    rows = [r for r in blind.ledger() if r.verdict == "skipped"]
    assert [(r.credential, r.fingerprint, r.days_left) for r in rows] == [
        ("server CA", "", None), ("server certificate", "", None),
    ]  # fmt: skip


def test_a_consul_that_does_not_answer_leaves_the_secrets_to_be_judged(world):
    """Nothing of what only Consul can tell is ok, in the primary or compared with it."""
    down = world()
    down.places[0].dc.cluster.down = "dc1: port-forward to pod consul/consul-server-0 failed: no such pod."
    found = {(f.id, f.subject): f.severity for f in down.look()}
    assert found["federation-secret", "dc2"] == found["server-ca", "dc1"] == "ok"
    for id, subject in (
        ("server-certificate", "dc1"), ("replication-token", "dc1"), ("connect-ca", "dc1"), ("connect-ca", "dc2"),
    ):  # fmt: skip
        assert found[id, subject] == "skipped"


def test_a_consul_that_fails_has_not_refused_the_token(world):
    """Only Consul's no is a no."""
    failing = world()
    failing.places[0].says("acl/token/self", b"No cluster leader", 500)
    found = failing.wrong()
    assert [(f.id, f.subject, f.severity) for f in found] == [
        ("replication-token", subject, "skipped") for subject in ("dc1", "dc2")
    ]
    assert all("No cluster leader" in f.found for f in found)


def test_what_the_primary_says_of_its_token_holds_for_each_copy_that_is_the_same(world):
    """A refused token is no better where it was copied to; of another one the primary was not asked."""
    broken = world(3)
    primary_refuses_the_token(broken)
    other_token(broken)
    found = {f.subject: f.found for f in broken.look() if f.id == "replication-token"}
    assert ["dc1 does not accept it" in found[dc] for dc in ("dc1", "dc2", "dc3")] == [True, False, True]


def test_without_the_primarys_secret_nothing_is_compared(world):
    """One error, of what is missing; no copy is called equal to what nobody saw."""
    bare = world()
    del bare.places[0].api.answers[f"{SECRETS}/consul-federation"]
    errors = [f for f in bare.look() if f.severity == "error"]
    assert [(f.id, f.subject) for f in errors] == [("federation-secret", "dc1")]
    assert "01-primary-setup" in errors[0].hint
    assert {f.id for f in bare.look() if f.severity == "ok"} == {"connect-ca"}


def test_a_secret_that_could_not_be_read_is_no_secret_that_is_missing(world):
    """The caller read it, and gives the reason."""
    blind = world()
    held = blind.held()
    held[1] = hold(blind.places[1].dc, Unseen("dc2 answers 403"))
    found = [f for f in look_at_credentials(held, blind.limits) if f.severity != "ok"]
    assert [(f.id, f.severity) for f in found] == [
        (id, "skipped") for id in ("federation-secret", "server-ca", "gossip-key", "replication-token")
    ]
    assert all("dc2 answers 403" in f.found for f in found)


def test_a_secret_that_is_no_base64_is_one_sentence(world):
    """Written by hand, through an API server that did not look."""
    odd = world()
    odd.places[0].api.answers[f"{SECRETS}/consul-ca-cert"] = 200, {"metadata": {}, "data": {"tls.crt": "%%%"}}
    (finding,) = odd.wrong()
    assert (finding.id, finding.severity) == ("server-ca", "skipped")
    assert "is not base64" in finding.found


# Secrets of the user's own


def test_secrets_that_the_values_name_are_looked_at_instead_of_the_charts(world, authority):
    """The chart makes none of its own then, and renewing them is not Helm's business."""
    own = {
        "global": {"tls": {"caCert": {"secretName": "our-ca", "secretKey": "ca.pem"}}},
        "server": {"serverCert": {"secretName": "our-server"}},
    }
    theirs = world(values=own)
    primary, secondary = theirs.places
    primary.keeps("our-ca", {"ca.pem": authority.pem.encode()})
    del primary.api.answers[f"{SECRETS}/consul-ca-cert"], primary.api.answers[f"{SECRETS}/consul-server-cert"]
    primary.stores(ssl.DER_cert_to_PEM_cert(primary.dc.consul.certificate().der), "our-server")
    secondary.stores(ssl.DER_cert_to_PEM_cert(secondary.dc.consul.certificate().der), "our-server")
    assert theirs.wrong() == []
    assert {"consul/our-ca", "consul/our-server"} <= {row.where for row in theirs.ledger()}
    del primary.api.answers[f"{SECRETS}/our-server"]
    (finding,) = theirs.wrong()
    assert "put a new one" in finding.hint


def test_a_certificate_may_come_with_the_intermediate_that_signed_it(world):
    """A CA of one's own often signs through another; the file holds the chain."""
    root = MeshCA()
    between = MeshCA(365, by=root)
    end = MeshCA(365, by=between)
    theirs = world()
    theirs.places[1].stores(end.pem + between.pem)
    for place in theirs.places:
        place.keeps("consul-federation", theirs.data | {"caCert": root.pem.encode()})
    assert not any("not signed by" in f.found for f in theirs.wrong() if f.subject == "dc2")
    theirs.places[1].stores(end.pem)
    assert any("not signed by" in f.found for f in theirs.wrong() if f.subject == "dc2")


def test_while_the_server_ca_is_rotated_both_are_in_the_ledger(world):
    """A bundle is the same where it holds the same certificates, in whatever order."""
    rotated = world()
    old, new = rotated.authority.pem, Authority("New CA").pem
    rotated.places[0].keeps("consul-federation", rotated.data | {"caCert": (old + new).encode()})
    rotated.places[1].keeps("consul-federation", rotated.data | {"caCert": (new + old).encode()})
    rotated.places[0].keeps("consul-ca-cert", {"tls.crt": (old + new).encode()})
    assert [f for f in rotated.wrong() if f.id == "server-ca"] == []
    wheres = [r.where for r in rotated.ledger() if r.credential == "server CA" and r.datacenter == "dc2"]
    assert wheres == ["consul/consul-federation caCert (1 of 2)", "consul/consul-federation caCert (2 of 2)"]


# The table, and the calendar


def row(**changes: Any) -> Credential:
    well = Credential("dc1", "server CA", "consul/x", "ab12", "2027-01-02T03:04:05Z", 100, "ok")
    return Credential(**{**well.__dict__, **changes})


def test_the_calendar_names_each_end_once_the_first_first(world):
    """A credential in several places and datacenters has one end; what never expires has none."""
    rows = [
        row(datacenter="dc1"), row(datacenter="dc2", verdict="warning"), row(datacenter="dc2"),
        row(credential="Connect root", fingerprint="cd34", expires="2026-12-31T00:00:00Z", days_left=-3),
        row(credential="gossip key", expires="", days_left=None),
    ]  # fmt: skip
    first, second = calendar(rows)
    assert (first.credential, first.days_left, first.datacenters) == ("Connect root", -3, ("dc1",))
    assert (second.credential, second.datacenters, second.verdict) == ("server CA", ("dc1", "dc2"), "warning")
    ends = [each.expires for each in calendar(world().ledger())]
    assert ends == sorted(ends)
    assert len(ends) == 5  # the server CA, two server certificates, the root, an intermediate


def test_the_table_is_for_people_and_its_data_for_machines(world):
    """Signs beside words; a day is enough for a person, and what has no end has an empty cell, not `None`."""
    table = world().ledger()
    table.rows = [*table.rows[:1], row(verdict="error", days_left=-1)]
    text = repr(table)
    assert "✘ error" in text
    assert "2027-01-02 " in text
    assert "None" not in text
    assert "1 error" in table.summary()
    assert "the server CA, on 2027-01-02" in table.summary()
    assert table.data()[0]["days_left"] is None
    bundle = table._repr_mimebundle_()[Ledger.MIME]
    assert (bundle["kind"], bundle["expiry_warning_days"], bundle["expiry_error_days"]) == ("ledger", 60, 7)

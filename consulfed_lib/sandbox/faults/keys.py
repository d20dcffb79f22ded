"""Faults of keys and certificates: the federation secret, its copy, and what servers were started with from them."""

from __future__ import annotations

import base64
import json
import secrets
from datetime import UTC, datetime, timedelta

from cryptography import x509

from ...errors import SandboxError
from ..consul_k8s.certificates import make_ca, make_server_certificate
from .fault import fault
from .servers import forget_gossip_keys, restart, shown, until_healthy, until_ready
from .waiting import until_true
from .world import Datacenter, World

_CA, _CA_KEY, _CONFIG, _GOSSIP = "caCert", "caKey", "serverConfigJSON", "gossipEncryptionKey"
_LASTED = timedelta(days=30)
_KEY_BYTES = 32


async def _copy(world: World, *keys: str) -> tuple[Datacenter, dict[str, bytes]]:
    """The secondary and its copy of the federation secret. Raises SandboxError where that has no such key."""
    dc = await world.secondary()
    data = await dc.data(dc.secret)
    missing = [key for key in keys if key not in data]
    if missing:
        raise SandboxError(
            f"{dc.secret} of {dc.layout.name} has no {', '.join(missing)}.",
            "federate the sandbox first, for a gossip key with gossip_encryption: true.",
        )
    return dc, data


async def _put_back(world: World) -> None:
    await world.put_back()


async def _stale_copy(world: World) -> None:
    """The copy as it was before the primary's gateway moved to where it is now."""
    dc, data = await _copy(world, _CONFIG)
    config = json.loads(data[_CONFIG])
    # The last of the primary's addresses for load balancers: nobody has it as long as there are free ones.
    old = world.first.load_balancer_addresses[-1]
    ports = {gateway.rpartition(":")[2] for gateway in config["primary_gateways"]}
    config["primary_gateways"] = [f"{old}:{port}" for port in sorted(ports)]
    await world.write(dc, dc.secret, {_CONFIG: json.dumps(config, separators=(",", ":")).encode()})


async def _wrong_ca(world: World) -> None:
    dc, _ = await _copy(world, _CA, _CA_KEY)
    certificate, key = make_ca("Consul Agent CA")
    await world.write(dc, dc.secret, {_CA: certificate, _CA_KEY: key})


async def _double_base64(world: World) -> None:
    """What `kubectl get -o yaml` shows, put under `stringData`."""
    dc, data = await _copy(world, _CA)
    await world.write(dc, dc.secret, {_CA: base64.b64encode(data[_CA])})


async def _edited(world: World) -> None:
    dc = await world.primary()
    await world.write(dc, dc.secret, {_CA_KEY: None})


async def _unlabelled(world: World) -> None:
    for dc in (await world.primary(), await world.secondary()):
        await world.change(dc, dc.secret, {"metadata": {"labels": {"managed-by": None}}})


async def _another_gossip_key(world: World) -> None:
    """Another key in the copy, and the secondary's servers started with it; in force when their pools are apart."""
    dc, _ = await _copy(world, _GOSSIP)
    key = base64.b64encode(secrets.token_bytes(_KEY_BYTES))
    await world.write(dc, dc.secret, {_GOSSIP: key})
    await forget_gossip_keys(dc)
    await restart(dc)
    await until_healthy(world, dc)
    consul = await world.consul(dc)

    async def has_it() -> bool:
        # The LAN pool of this datacenter alone: the other pool is asked through servers that cannot be reached.
        rings = await consul.get("/v1/operator/keyring?local-only=true")
        return key.decode() in {known for ring in rings for known in ring["Keys"]}

    await until_true(f"the servers of {dc.layout.name} have another gossip key", has_it)


async def _same_gossip_key(world: World) -> None:
    if world.of_kind("object"):
        await world.put_back()
        dc = await world.secondary()
        await forget_gossip_keys(dc)
        await restart(dc)
        await until_ready(dc)


async def _expired(world: World) -> None:
    """A certificate by the federation's own CA that ended yesterday; in force when every server shows it."""
    dc, data = await _copy(world, _CA, _CA_KEY)
    current = x509.load_pem_x509_certificate((await dc.data(dc.server_certificate))["tls.crt"])
    names = current.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    alternatives = [
        *names.get_values_for_type(x509.DNSName),
        *map(str, names.get_values_for_type(x509.IPAddress)),
    ]
    common_name = str(current.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)
    yesterday = datetime.now(UTC) - timedelta(days=1)
    certificate, key = make_server_certificate(
        data[_CA], data[_CA_KEY], common_name, alternatives, _LASTED.days, begins=yesterday - _LASTED
    )
    await world.write(dc, dc.server_certificate, {"tls.crt": certificate, "tls.key": key})
    await restart(dc)

    async def is_shown() -> bool:
        return all(one.not_valid_after_utc < datetime.now(UTC) for one in await shown(dc))

    await until_true(f"the servers of {dc.layout.name} show a certificate that has ended", is_shown)
    await until_ready(dc)


async def _valid_again(world: World) -> None:
    if world.of_kind("object"):
        await world.put_back()
        dc = await world.secondary()
        await restart(dc)
        await until_ready(dc)


FAULTS = (
    fault(
        "stale-copy",
        "The copy of the federation secret in dc2 names a gateway of dc1 that is no more.",
        _stale_copy,
        _put_back,
    ),
    fault(
        "wrong-ca-in-copy", "The copy of the federation secret in dc2 has another CA.", _wrong_ca, _put_back
    ),
    fault(
        "double-base64-ca",
        "The CA in dc2's copy of the federation secret is encoded in base64 twice.",
        _double_base64,
        _put_back,
    ),
    fault(
        "federation-secret-edited",
        "The federation secret of dc1 has lost the CA's key.",
        _edited,
        _put_back,
    ),
    fault(
        "managed-by-stripped",
        "The federation secret in dc1 and its copy in dc2 have lost the label managed-by.",
        _unlabelled,
        _put_back,
    ),
    fault(
        "expired-server-certificate",
        "dc2's servers show a certificate by the right CA that ended yesterday.",
        _expired,
        _valid_again,
    ),
    fault(
        "gossip-key-mismatch",
        "dc2's servers have another gossip key than dc1's, by the copy of the federation secret.",
        _another_gossip_key,
        _same_gossip_key,
    ),
)

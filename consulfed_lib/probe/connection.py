"""What the `consul` CLI says about a TLS connection, and what it means.

The messages are Go's and the CLI's own; the tests run the real CLI against listeners of each kind.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ..gateway import split

Kind = Literal[
    "http", "tls", "unchecked",
    "refused", "timeout", "no-route", "unknown-name", "silent", "closed", "not-tls", "alert",
    "foreign", "wrong-ca", "expired", "not-yet-valid", "not-run",
]  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """How far one connection came.

    Attributes:
        kind: `http`: the certificate is right, and an HTTP answer came (`detail` is its status). `tls`: the
            certificate is right, and no HTTP is spoken there, or a client certificate is asked for, as Consul's
            servers do. `unchecked`: TLS is spoken under that name, and no more can be said. `not-run`: nothing was
            learned. Every other kind is where it ended.
        detail: in a few words what is not in the kind: a status, the names in a certificate, an alert.
        chain: whether the chain was checked against the CA that was asked for.
    """

    kind: Kind
    detail: str = ""
    chain: bool = True


def command(address: str, server_name: str, ca_file: str = "") -> list[str]:
    """The CLI's words for a connection to `host:port` as `server_name`; what answers is judged by `judge`."""
    words = ["consul", "catalog", "datacenters", f"-http-addr=https://{address}"]
    # In brackets, or the CLI takes the end of an IPv6 address for a port.
    words.append(f"-tls-server-name={f'[{server_name}]' if ':' in server_name else server_name}")
    words += [f"-ca-file={ca_file}"] if ca_file else []
    return [*words, "-token=none"]


# In this order: the first that is found decides. The texts are Go's and the CLI's, the same from Consul 1.8 to 2.0;
# newer ones put `tls: failed to verify certificate: ` before what x509 says.
_SIGNS: tuple[tuple[str, Kind], ...] = (
    (r"Unexpected response code: (\d{3})", "http"),
    (r"invalid character|cannot unmarshal|unexpected end of JSON", "http"),
    (r"(has expired or is not yet valid: current time \S+ is before \S+)", "not-yet-valid"),
    (r"has expired or is not yet valid(?:: current time \S+ is after (\S+))?", "expired"),
    (r"certificate is valid for (.+?), not ", "foreign"),
    (r"certificate is (not valid for any names)", "foreign"),
    (r"cannot validate certificate for \S+ because (it doesn't contain any IP SANs)", "foreign"),
    (r"certificate relies on (legacy Common Name)", "foreign"),
    (r"(failed to load system roots)", "not-run"),  # before the name was looked at
    (r"signed by unknown authority", "wrong-ca"),
    (r"x509: (.+)", "wrong-ca"),
    (r"remote error: tls: (bad certificate|certificate required)", "tls"),
    (r"malformed HTTP|transport connection broken", "tls"),
    (r"remote error: tls: (.+)", "alert"),
    (r"HTTP response to HTTPS client", "not-tls"),
    (r"does not look like a TLS handshake", "not-tls"),
    (r"lookup (.+)", "unknown-name"),
    (r"connection refused", "refused"),
    (r"(no route to host|network is unreachable|host is down)", "no-route"),
    (r"TLS handshake timeout", "silent"),
    (r"i/o timeout|deadline exceeded|Client\.Timeout|timed out", "timeout"),
    (r"tls: (.+)", "alert"),
    (r"EOF|reset by peer|broken pipe|server closed", "closed"),
)
NO_ALPN = "no application protocol"
"""The alert of a server that was offered HTTP/2 and speaks something else."""

CONSUL_ONLY = "it speaks only protocols of its own, as Consul's servers do"


def judge(said: str, address: str) -> Outcome:
    """What the CLI's output (stdout and stderr) says about the connection to `host:port`.

    The exit code is not looked at: releases of Consul differ in it.
    """
    said = said.strip()
    if "Error" not in said:
        return Outcome("http", "200")
    if "Error listing datacenters:" not in said:
        return Outcome("not-run", line(said))
    went = re.search(r'Get "?https?://([^/"]+)[^ ]*', said)
    if went and went[1] != address:  # a redirect was followed; whoever sent it has a right certificate
        return Outcome("http", f"a redirect to {went[1]}")
    said = said.replace(went[0], "") if went else said  # a host may be called anything
    for sign, kind in _SIGNS:
        if found := re.search(sign, said):
            detail = found[1] if found.groups() and found[1] else "200" if kind == "http" else ""
            return Outcome(kind, line(detail))
    return Outcome("not-run", line(said))


def line(text: str) -> str:
    """The first line, short enough for a table."""
    first = text.strip().splitlines()[0] if text.strip() else ""
    return first if len(first) <= 200 else first[:199] + "…"


def dialable(address: str) -> bool:
    """Whether this is a host and a port at all, and nothing that the CLI would take for something else.

    >>> dialable("lb.example.com:443"), dialable(":443"), dialable("a b:1")
    (True, False, False)
    """
    host, port = split(address)
    return bool(re.fullmatch(r"[A-Za-z0-9.:_-]+", host)) and bool(port)

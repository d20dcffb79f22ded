"""Consul's HTTP API of one datacenter, reached through the Kubernetes API (port-forward to a server pod).

TLS is checked against the federation's CA and the name that Consul's servers carry. Checks read only, and what changes
Consul for good goes through Kubernetes objects: `put` and `delete` are for what is taken away again (the ACL canary).
"""

from __future__ import annotations

import http.client
import json
import re
import ssl
import threading
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from .cluster import Cluster
from .errors import ClusterError
from .redact import Secret

HTTPS_PORT, HTTP_PORT = 8501, 8500
"""Ports of the API of servers and local agents in the chart, with `global.tls.enabled` and without."""

_ANONYMOUS = "anonymous"
"""The SecretID of the token of who brings none: no secret, and a word that stands in many places."""

_OWN_PORT = re.compile(r":\d+(?=->)")
"""The port that Consul dialled from, in its `read tcp a:1->b:2: …`: another one each time, so that a wait would take
the same failure for news."""


@dataclass(frozen=True)
class Shown:
    """The certificate that a server shows in the TLS handshake.

    Attributes:
        der: the server's own, without those of its CAs.
        refused: why it is not trusted, in OpenSSL's words; empty: the federation's CA, the server's name and the
            dates vouch for it.
    """

    der: bytes
    refused: str = ""


@dataclass(frozen=True)
class Pool:
    """A gossip pool as Consul's keyring has it.

    Attributes:
        datacenter: whose servers said so.
        wan: the pool of all datacenters' servers, or that of one datacenter.
        nodes: how many are in it.
        keys: each key that any of them would take, and how many do.
    """

    datacenter: str
    wan: bool
    nodes: int
    keys: tuple[tuple[Secret, int], ...]


class _Forwarded(http.client.HTTPSConnection):
    """An HTTPS connection over a port-forward."""

    def __init__(self, cluster: Cluster, namespace: str, pod: str, server_name: str, context: ssl.SSLContext):
        super().__init__(server_name, HTTPS_PORT, timeout=30, context=context)
        self._dial = lambda: cluster.dial(namespace, pod, HTTPS_PORT)
        self._tls = context

    def connect(self) -> None:
        raw = self._dial()
        raw.settimeout(
            self.timeout
        )  # or a forward that went silent would hold the caller past every deadline
        self.sock = self._tls.wrap_socket(raw, server_hostname=self.host)

    def shown_to_anyone(self) -> bytes:
        """The certificate (DER) of a connection in which nobody is trusted and nothing is sent after the handshake."""
        trusting_nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting_nobody.check_hostname, trusting_nobody.verify_mode = False, ssl.CERT_NONE
        raw = self._dial()
        raw.settimeout(self.timeout)
        with trusting_nobody.wrap_socket(raw, server_hostname=self.host) as connection:
            return connection.getpeercert(binary_form=True) or b""


class _ForwardedPlain(http.client.HTTPConnection):
    """An HTTP connection over a port-forward, for servers without TLS."""

    def __init__(self, cluster: Cluster, namespace: str, pod: str):
        super().__init__("localhost", HTTP_PORT, timeout=30)
        self._dial = lambda: cluster.dial(namespace, pod, HTTP_PORT)

    def connect(self) -> None:
        self.sock = self._dial()
        self.sock.settimeout(self.timeout)


class Consul:
    """The API of one datacenter.

    Args:
        pod: a server pod; its agent answers, and forwards what is asked of another datacenter (`dc=`).
        ca_pem: the server CA of the federation, or of a datacenter that is in none yet; empty: without TLS.
        token: an ACL token; None without ACLs. The replication token can read all that is asked here.
        domain: Consul's DNS domain (`global.domain`), which the names in the servers' certificate end with.

    Every method raises ClusterError when Consul does not answer, or with Consul's own words when it refuses.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        pod: str,
        datacenter: str,
        ca_pem: str,
        token: Secret | None,
        domain: str = "consul",
    ):
        self.datacenter = datacenter
        self.pod = pod
        self.ca_pem, self.domain = ca_pem, domain
        self._cluster, self._namespace = cluster, namespace
        self._where = f"Consul in {datacenter} ({cluster.context}, pod {pod})"
        self._token = token
        self._connection: _Forwarded | _ForwardedPlain
        if ca_pem:
            context = ssl.create_default_context(cadata=ca_pem)
            name = f"server.{datacenter}.{domain.strip('.')}"
            self._connection = _Forwarded(cluster, namespace, pod, name, context)
        else:
            self._connection = _ForwardedPlain(cluster, namespace, pod)
        self._lock = threading.Lock()

    def beside(self, pod: str) -> Consul:
        """Another server of this datacenter, asked the same way."""
        return Consul(
            self._cluster, self._namespace, pod, self.datacenter, self.ca_pem, self._token, self.domain
        )

    def get(self, path: str, **query: str) -> Any:
        """The JSON that `/v1/<path>` answers. `dc` in the query asks another datacenter through this one."""
        return self._json("GET", f"/v1/{path}" + (f"?{urlencode(query)}" if query else ""), self._token)

    def put(self, path: str, body: Any) -> Any:
        """Write through this datacenter's own server, and never twice: what Consul answers, which may hold a secret."""
        return self._json("PUT", f"/v1/{path}", self._token, json.dumps(body).encode())

    def delete(self, path: str) -> None:
        """Delete through this datacenter's own server. Consul says nothing of what was not there."""
        self._json("DELETE", f"/v1/{path}", self._token)

    def _json(
        self, method: str, url: str, token: Secret | None, body: bytes | None = None, also: int = 0
    ) -> Any:
        """`also` is a status that is an answer here, and no failure."""
        headers = {"x-consul-token": token.text()} if token else {}
        with self._lock:
            status, answer = self._answer(url, headers, method, body)
        if status >= 400 and status != also:
            words = _OWN_PORT.sub("", answer.decode("utf-8", "replace").strip())[:300] or "no message"
            raise ClusterError(
                f"{self._where} answers {status} to {method} {url}: {words}",
                "see that message",
                status=status,
            )
        try:
            return json.loads(answer) if answer else None
        except ValueError:
            raise ClusterError(
                f"{self._where} answers {method} {url} with something that is not JSON.",
                "see what listens on that port",
            ) from None

    def status_of(self, url: str) -> int:
        """The HTTP status of a page that holds nothing for us, such as the UI's."""
        with self._lock:
            return self._answer(url, {})[0]

    def certificate(self) -> Shown:
        """The certificate that the server shows now: always of a new connection, which then serves what is asked next.

        One that is not trusted is shown all the same, so that it can be said what is wrong with it.
        """
        connection = self._connection
        assert isinstance(connection, _Forwarded), "without TLS there is no certificate"
        with self._lock:
            connection.close()  # it may be older than the server's last start
            try:
                connection.connect()
                return Shown(connection.sock.getpeercert(binary_form=True) or b"")
            except ssl.SSLCertVerificationError as error:
                refused = error.verify_message
            except OSError as error:
                raise self._failed(error) from None
            try:
                return Shown(connection.shown_to_anyone(), refused)
            except OSError as error:
                raise self._failed(error) from None

    def _answer(
        self, url: str, headers: dict[str, str], method: str = "GET", body: bytes | None = None
    ) -> tuple[int, bytes]:
        if method != "GET":
            self._connection.close()  # over a kept one that is stale, a write might be sent twice
        for attempt in (1, 2):
            kept_open = self._connection.sock is not None
            try:
                self._connection.request(method, url, body, headers)
                answer = self._connection.getresponse()
                return answer.status, answer.read()
            except (
                ClusterError
            ):  # of dialling, after http.client has noted a request: the next one begins anew
                self._connection.close()
                raise
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                if attempt == 2 or not kept_open:  # only a connection that was kept open may have gone stale
                    raise self._failed(error) from None
        raise AssertionError("unreachable")

    def _failed(self, error: Exception) -> ClusterError:
        if isinstance(error, ssl.SSLCertVerificationError):
            return ClusterError(
                f"{self._where} shows a certificate that the federation's CA does not vouch for:"
                f" {error.verify_message}.",
                "compare the CA in the federation secret with the one that this datacenter uses",
            )
        reason = str(error) or type(error).__name__
        return ClusterError(f"{self._where} does not answer: {reason}.", "see that its server pods are ready")

    def close(self) -> None:
        self._connection.close()

    # -- what a verifier asks -----------------------------------------------------------------------------------

    def settings(self) -> dict[str, Any]:
        """What the server asked was started with: `{Datacenter, PrimaryGateways, …}`. Needs agent:read."""
        return self.get("agent/self")["DebugConfig"]

    def version(self) -> str:
        """Of the server asked. Needs agent:read."""
        return str(self.get("agent/self")["Config"]["Version"])

    def raft_term(self) -> int:
        """Of the server asked: each election begins a new one. Needs agent:read."""
        return int(self.get("agent/self")["Stats"]["raft"]["term"])

    def wan_members(self) -> list[dict[str, Any]]:
        """Servers of every datacenter: `[{Name, Addr, Port, Tags: {dc, …}, Status}]`; serf status 1 is alive."""
        return self.get("agent/members", wan="1")

    def lan_members(self) -> list[dict[str, Any]]:
        """Members of this datacenter; `Tags.acls` is "1" once the server runs the current ACL system."""
        return self.get("agent/members")

    def datacenters(self) -> list[str]:
        return self.get("catalog/datacenters")

    def services(self, datacenter: str) -> dict[str, list[str]]:
        """Service names and tags of a datacenter."""
        return self.get("catalog/services", dc=datacenter)

    def service(self, name: str, datacenter: str) -> list[dict[str, Any]]:
        """Instances of a service: `[{Node, ServiceTaggedAddresses: {wan: {Address, Port}}, ServiceMeta, …}]`."""
        return self.get(f"catalog/service/{quote(name)}", dc=datacenter)

    def node_checks(self, node: str, datacenter: str) -> list[dict[str, Any]]:
        """Health checks of a node: `[{CheckID, Status}]`; asked of another datacenter it goes through the gateways."""
        return self.get(f"health/node/{quote(node)}", dc=datacenter)

    def acl_replication(self) -> dict[str, Any]:
        return self.get("acl/replication")

    def ca_roots(self) -> dict[str, Any]:
        """`{ActiveRootID, TrustDomain, Roots: […]}` of the service mesh's CA."""
        return self.get("connect/ca/roots")

    def federation_states(self) -> list[dict[str, Any]]:
        """`[{Datacenter, MeshGateways: [{Node, Service}]}]` as this datacenter has it. Needs operator:read."""
        return self.get("internal/federation-states")

    def proxy_defaults(self) -> dict[str, Any] | None:
        """The config entry `proxy-defaults/global` as this datacenter has it, None if there is none."""
        try:
            return self.get("config/proxy-defaults/global")
        except ClusterError as error:
            if error.status == 404:
                return None
            raise

    def leader(self) -> str:
        return self.get("status/leader")

    def raft_servers(self) -> list[dict[str, Any]]:
        return self.get("operator/raft/configuration")["Servers"]

    def autopilot_health(self) -> dict[str, Any]:
        """`{Healthy, FailureTolerance, Servers: [{Name, Healthy, SerfStatus, Voter, …}]}`. Needs operator:read.

        Consul answers 429, with the same body, where a server is not healthy.
        """
        return self._json("GET", "/v1/operator/autopilot/health", self._token, also=429)

    def service_health(self, name: str) -> list[dict[str, Any]]:
        """Instances of a service of this datacenter, healthy or not: `[{Node, Service: {Meta, …}, Checks}]`."""
        return self.get(f"health/service/{quote(name)}") or []

    def coordinates(self) -> list[dict[str, Any]]:
        """`[{Datacenter, AreaID, Coordinates: [{Node, Coord}]}]`: where gossip places the servers of each one."""
        return self.get("coordinate/datacenters") or []

    def policies(self) -> list[dict[str, Any]]:
        """ACL policies without their rules: `[{ID, Name, Description}]`. Needs acl:read."""
        return self.get("acl/policies") or []

    def policy(self, id: str) -> dict[str, Any]:
        """An ACL policy with its `Rules`."""
        return self.get(f"acl/policy/{quote(id)}")

    def binding_rules(self) -> list[dict[str, Any]]:
        """`[{ID, AuthMethod, BindType, BindName, Selector, Description}]`. Needs acl:read."""
        return self.get("acl/binding-rules") or []

    def auth_method(self, name: str) -> dict[str, Any] | None:
        """An ACL auth method, None if there is none: `{Name, TokenLocality, Config: {Host, CACert}}`. Needs acl:read.

        The service account's token, which Consul tells as well, is left out.
        """
        try:
            found = self.get(f"acl/auth-method/{quote(name)}")
        except ClusterError as error:
            if error.status == 404:
                return None
            raise
        told = (found.get("Config") or {}).pop("ServiceAccountJWT", "")
        Secret("ServiceAccountJWT", str(told).encode())  # known from here on, in case it turns up elsewhere
        return found

    def token(self, accessor: str) -> dict[str, Any] | None:
        """An ACL token by its public id, None if there is none: `{AccessorID, Policies: [{ID, Name}], …}`.

        Its secret, which Consul tells who may write ACLs, is left out.
        """
        try:
            found = self.get(f"acl/token/{quote(accessor)}")
        except ClusterError as error:
            # "ACL not found" is said of the token that is asked about, and in the same words of the one that asks.
            if error.status in (403, 404) and "not found" in error.found.lower() and self._is_known():
                return None
            raise
        secret = str(found.pop("SecretID", ""))
        if secret != _ANONYMOUS:
            Secret("SecretID", secret.encode())
        return found

    def tokens(self) -> list[dict[str, Any]]:
        """Every ACL token: `[{AccessorID, Description, Policies}]`, their secrets left out. Needs acl:read."""
        found = self.get("acl/tokens") or []
        for each in found:
            # Some versions of Consul tell them here. Thousands of values to look for would make every output slow:
            # these end here instead.
            each.pop("SecretID", None)
        return found

    def knows(self, token: Secret) -> bool:
        """Whether a token is one here: asked with that token, and of this datacenter's own state."""
        try:
            self._json("GET", "/v1/acl/token/self", token)
        except ClusterError as error:
            if error.status in (401, 403, 404):
                return False
            raise
        return True

    def _is_known(self) -> bool:
        """Whether the token that asks is one here."""
        return self._token is None or self.knows(self._token)

    def keyring(self) -> list[Pool]:
        """The gossip pools of every datacenter, which are asked through the WAN (with `local-only` Consul leaves the
        WAN pool out). Needs keyring:read.

        Consul tells the keys themselves, some of them again as `PrimaryKeys`; they are wrapped here.
        """
        return [
            Pool(
                each["Datacenter"],
                bool(each["WAN"]),
                int(each["NumNodes"]),
                tuple((Secret("gossip key", key.encode()), int(held)) for key, held in each["Keys"].items()),
            )
            for each in self.get("operator/keyring")
        ]

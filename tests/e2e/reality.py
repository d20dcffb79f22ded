"""One datacenter as it really is: its Kubernetes objects, its Helm release and its Consul.

kubectl, Helm and Consul's own HTTPS API are asked, and nothing of the library under test.
"""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import urllib3

from consulfed_lib.places import find_program

from .conftest import Sandbox


@dataclass(frozen=True)
class Reality:
    """A datacenter of a sandbox; the names of its objects are to begin with `prefix`."""

    sandbox: Sandbox
    context: str
    datacenter: str
    namespace: str
    release: str
    prefix: str
    domain: str = "consul"

    # -- Kubernetes and Helm ------------------------------------------------------------------------------------

    def kubectl(self, *words: str) -> str:
        return self.sandbox.kubectl(self.context, "-n", self.namespace, *words)

    def get(self, *words: str) -> Any:
        """`kubectl get …` in JSON: one object, or the items of a list."""
        found = json.loads(self.kubectl("get", *words, "-o", "json"))
        return found["items"] if found["kind"].endswith("List") else found

    def names(self, *resources: str) -> set[str]:
        return {item["metadata"]["name"] for item in self.get(",".join(resources))}

    def secret(self, name: str) -> dict[str, bytes]:
        data = self.get("secret", name).get("data") or {}
        return {key: base64.b64decode(value) for key, value in data.items()}

    def helm(self, *words: str) -> Any:
        """What a read-only Helm command says, in JSON."""
        program = find_program("helm")
        assert program is not None
        target = ["--kube-context", f"{self.context}-admin", "--namespace", self.namespace, "-o", "json"]
        done = subprocess.run(
            [program, *words, *target], env=self.sandbox.env, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def gateway(self, form: str, static: str, port: int) -> str:
        """`host:port` of the gateway as its Service and its node have it now, for one form of the WAN address."""
        if form == "Static":
            return f"{static}:{port}"
        node = self.get("nodes")[0]
        if form == "NodeName":
            return f"{node['metadata']['name']}:{port}"
        if form in ("NodePort", "NodeIP"):
            addresses = {entry["type"]: entry["address"] for entry in node["status"]["addresses"]}
            return f"{addresses['InternalIP']}:{port}"
        (entry,) = self.get("service", f"{self.prefix}-mesh-gateway")["status"]["loadBalancer"]["ingress"]
        return f"{entry['hostname' if form == 'LoadBalancer hostname' else 'ip']}:{port}"

    # -- Consul -------------------------------------------------------------------------------------------------

    @cached_property
    def _api(self) -> urllib3.HTTPSConnectionPool:
        """Consul's API at the address of the first server pod, checked against the CA in this very cluster."""
        (server,) = self.get("pods", "-l", f"component=server,release={self.release}")
        values = self.helm("get", "values", self.release)
        named = values["global"]["tls"].get("caCert")
        ca = (
            self.secret(named["secretName"])[named["secretKey"]]
            if named
            else self.secret(f"{self.prefix}-ca-cert")["tls.crt"]
        )
        name = f"server.{self.datacenter}.{self.domain}"
        return urllib3.HTTPSConnectionPool(
            server["status"]["podIP"],
            8501,
            ca_cert_data=ca.decode(),
            server_hostname=name,
            assert_hostname=name,
            timeout=20,
            retries=False,
        )

    def consul(self, path: str, token: str = "") -> tuple[int, Any]:
        """Status and body (from JSON, where it is that) of `GET /v1/<path>`."""
        answer = self._api.request("GET", f"/v1/{path}", headers={"x-consul-token": token} if token else {})
        text = answer.data.decode()
        return answer.status, json.loads(text) if text.startswith(("{", "[", '"')) else text

    def wan_addresses(self, other: str, token: str) -> list[str]:
        """`host:port` of each gateway of a datacenter, as this one's catalog knows it."""
        status, found = self.consul(f"catalog/service/mesh-gateway?dc={other}", token)
        assert status == 200, found
        wan = [instance["ServiceTaggedAddresses"]["wan"] for instance in found]
        return sorted(f"{each['Address']}:{each['Port']}" for each in wan)

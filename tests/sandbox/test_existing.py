"""A sandbox with a Consul that lives already: what it is like, that it is made once, and how it takes to TLS.

With real Helm, real Consul and real sidecars; each kind has a sandbox of its own.
"""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from consulfed_lib import params as parameters
from consulfed_lib import places
from consulfed_lib.errors import SandboxError
from consulfed_lib.sandbox import existing, existing_data, lifecycle, status
from consulfed_lib.sandbox.commands import params_text
from consulfed_lib.sandbox.layout import EXISTING
from consulfed_lib.sandbox.state import Folder

SHOP = existing_data.SHOP


def quiet(line: str) -> None:
    pass


class Lived:
    """A sandbox of one cluster with one server, asked as its administrator."""

    def __init__(self, folder: Folder, kind: str):
        self.folder, self.kind = folder, kind

    def up(self, report: Callable[[str], None] = quiet) -> None:
        lifecycle.up(self.folder, 1, 1, None, report, None, self.kind)

    def run(self, program: str, *words: str, stdin: str | None = None, code: int = 0) -> str:
        path = places.find_program(program)
        assert path is not None
        context = "--kube-context" if program == "helm" else "--context"
        where = ["--kubeconfig", str(self.folder.kubeconfig), context, "sandbox-dc1-admin"]
        done = subprocess.run([path, *where, *words], input=stdin, capture_output=True, text=True, timeout=90)
        assert done.returncode == code, done.stderr
        return done.stdout

    def get(self, namespace: str, *words: str) -> Any:
        return json.loads(self.run("kubectl", "-n", namespace, "get", *words, "-o", "json"))

    def secret(self, name: str, key: str) -> str:
        return base64.b64decode(self.get("consul", "secret", name)["data"][key]).decode()

    def consul(self, *words: str) -> str:
        """The command in the server's pod; its token, where there is one, goes by standard input."""
        token = self.secret("consul-bootstrap-acl-token", "token") if self.kind == "acl" else None
        with_token = ["-token-file=/dev/stdin"] if token else []
        pod = ["-n", "consul", "exec", "-i", "consul-server-0", "--"]
        return self.run("kubectl", *pod, "consul", *words[:2], *with_token, *words[2:], stdin=token)

    def values(self) -> dict[str, Any]:
        return json.loads(self.run("helm", "-n", "consul", "get", "values", "consul", "-o", "json"))

    def upgrade(self, *sets: str, wait: bool = True) -> None:
        words = ["upgrade", "consul", str(self.folder.chart), "-n", "consul", "--reset-then-reuse-values"]
        self.run("helm", *words, "--set", ",".join(sets), *(["--wait"] if wait else []), "--timeout", "60s")

    def sidecar(self, app: str) -> dict[str, Any]:
        pods = self.get(SHOP, "pods", "-l", f"app={app}")["items"]
        return next(one for one in pods[-1]["spec"]["containers"] if one["name"] == "consul-dataplane")

    def call(self) -> str:
        """The answer of the shop's one workload to the other, through both their sidecars."""
        command = ["curl", "-sS", "-m", "5", f"http://localhost:{existing_data.UPSTREAM}"]
        where = ["-n", SHOP, "exec", f"deploy/{existing_data.CALLER}", "-c", existing_data.CALLER, "--"]
        return self.run("kubectl", *where, *command).strip()


@pytest.fixture(scope="module", params=EXISTING)
def lived(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lived]:
    """One of each kind."""
    sandbox = Lived(Folder(tmp_path_factory.mktemp("existing") / "sandbox"), request.param)
    sandbox.up()
    yield sandbox
    lifecycle.down(sandbox.folder, False, quiet)


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Lived]:
    """One without TLS, for one test only."""
    sandbox = Lived(Folder(tmp_path / "sandbox"), "plain")
    sandbox.up()
    yield sandbox
    lifecycle.down(sandbox.folder, False, quiet)


def test_the_release_has_the_values_that_its_owner_gave_and_nothing_of_ours(lived):
    """Oddities included: a null, a number that is text, a key that the chart does not know."""
    values = lived.values()
    assert values == existing.values(lived.kind, 1)
    assert values["server"]["resources"]["limits"] is None
    assert values["server"]["extraLabels"] == {"cost-center": "4711"}
    assert "federation" not in values["global"]
    assert "meshGateway" not in values
    releases = lived.get("consul", "secrets", "-l", "owner=helm")["items"]
    assert [one["metadata"]["labels"]["version"] for one in releases] == ["1"]
    assert "consulfed" not in json.dumps([one["metadata"] for one in releases])


def test_its_chart_is_an_older_one_where_that_is_the_kind(lived):
    """The same chart under another version otherwise."""
    releases = json.loads(lived.run("helm", "-n", "consul", "list", "-o", "json"))
    newest = yaml.safe_load((lived.folder.chart / "Chart.yaml").read_text())["version"]
    version = existing.OLD_VERSION if lived.kind == "old-chart" else newest
    assert [one["chart"] for one in releases] == [f"consul-{version}"]


def test_it_is_in_use(lived):
    """Keys, machines outside Kubernetes, and two workloads of which one calls the other."""
    found = json.loads(lived.consul("kv", "export", "shop/"))
    assert {one["key"] for one in found} == existing.keys().keys()
    values = {one["key"]: json.loads(base64.b64decode(one["value"])) for one in found}
    assert values == {key: json.loads(value) for key, value in existing.keys().items()}
    assert {"api", "web", "inventory", "storefront"} <= set(lived.consul("catalog", "services").split())
    assert lived.call() == existing_data.ANSWER


def test_security_is_as_the_kind_says(lived):
    """TLS, gossip encryption and ACLs, each as a server has them."""
    config = lived.get("consul", "configmap", "consul-server-config")["data"]
    command = lived.get("consul", "statefulset", "consul-server")["spec"]["template"]["spec"]["containers"][0]
    assert ("tls-config.json" in config) == (lived.kind != "plain")
    assert ("acl-config.json" in config) == (lived.kind == "acl")
    assert ("GOSSIP_KEY" in json.dumps(command["env"])) == (lived.kind != "plain")
    own = [one["metadata"]["name"] for one in lived.get("consul", "secrets")["items"]]
    assert (existing.GOSSIP_SECRET in own) == (lived.kind in ("tls", "old-chart"))
    assert not [name for name in own if "replication" in name or "federation" in name]


def test_its_sidecars_are_of_the_day_when_they_were_injected(lived):
    """With -tls-disabled exactly where TLS was off."""
    for app in (existing_data.SERVED, existing_data.CALLER):
        assert ("-tls-disabled" in lived.sidecar(app)["args"]) == (lived.kind == "plain")


def test_the_params_are_for_a_primary_that_is_there(lived):
    """They are well, and say ACLs and gossip encryption as they are."""
    raw = yaml.safe_load(params_text(lived.folder, lived.folder.shape()))
    context = {"context": "other", "datacenter": "dc2"}
    federation = parameters.check(raw | {"secondaries": [context], "kubeconfig": ""}, "the test")
    assert federation.upgrade.existing
    assert (federation.acls, federation.gossip_encryption) == (lived.kind == "acl", lived.kind != "plain")
    own = existing.GOSSIP_SECRET if lived.kind in ("tls", "old-chart") else ""
    assert federation.gossip_key.secret == own


def test_the_status_says_with_what_it_came(lived):
    """In words and for a machine."""
    found = status.look(lived.folder)
    assert found.existing == lived.kind
    assert f"sandbox-dc1 came with a Consul that was there before ({lived.kind})" in str(found)


def test_up_again_leaves_it_as_it_is(lived):
    """Also when its owner has changed it since: it was installed once."""
    lived.run("kubectl", "-n", SHOP, "scale", "deployment", existing_data.CALLER, "--replicas=2")
    lines: list[str] = []
    lived.up(lines.append)
    assert len(lines) == 1
    assert f"({lived.kind})" in lines[0]
    assert lived.get(SHOP, "deployment", existing_data.CALLER)["spec"]["replicas"] == 2
    lived.run("kubectl", "-n", SHOP, "scale", "deployment", existing_data.CALLER, "--replicas=1")


def test_up_with_another_kind_is_refused(lived):
    """As with the other options."""
    other = next(kind for kind in EXISTING if kind != lived.kind)
    with pytest.raises(SandboxError, match="is up already"):
        lifecycle.up(lived.folder, None, None, None, quiet, None, other)


def test_an_up_that_was_cut_off_is_gone_on_with(plain):
    """What is there stays, what is missing is made; an install that Helm did not finish is begun anew."""
    plain.folder.existing_file.unlink()
    plain.run("kubectl", "-n", SHOP, "delete", "deployment", existing_data.CALLER)
    plain.consul("kv", "delete", "shop/config/00")
    claim = plain.get("consul", "pvc")["items"][0]["metadata"]["uid"]
    plain.up()
    assert plain.call() == existing_data.ANSWER
    assert len(json.loads(plain.consul("kv", "export", "shop/"))) == existing.KEYS
    assert [one["metadata"]["uid"] for one in plain.get("consul", "pvc")["items"]] == [claim]

    plain.folder.existing_file.unlink()
    broken = ["upgrade", "consul", str(plain.folder.chart), "-n", "consul", "--wait", "--timeout", "1s"]
    plain.run("helm", *broken, "--set", "global.image=", "--set", "server.replicas=9", code=1)
    plain.up()
    assert plain.values() == existing.values("plain", 1)


def test_it_outlives_down_and_up_with_its_state(plain):
    """And is not installed a second time."""
    lifecycle.down(plain.folder, True, quiet)
    lines: list[str] = []
    lifecycle.up(plain.folder, None, None, None, lines.append)
    assert not [line for line in lines if "installing" in line]
    plain.run("kubectl", "-n", "consul", "rollout", "status", "statefulset/consul-server", "--timeout=60s")
    # A server that has just been elected answers before it has read its whole log.
    deadline = time.monotonic() + 20
    while (found := len(json.loads(plain.consul("kv", "export", "shop/")))) != existing.KEYS:
        assert time.monotonic() < deadline, found
    assert lifecycle.up(plain.folder, None, None, None, quiet).existing == "plain"


def test_a_sandbox_without_one_has_none(tmp_path):
    """The usual sandbox is empty, and cannot be given one later."""
    folder = Folder(tmp_path / "sandbox")
    shape = lifecycle.up(folder, 1, None, None, quiet)
    try:
        assert (shape.existing, folder.existing_file.exists()) == ("", False)
        assert "came with" not in str(status.look(folder))
        assert "upgrade" not in yaml.safe_load(params_text(folder, shape))
        with pytest.raises(SandboxError, match="is up already"):
            lifecycle.up(folder, None, None, None, quiet, None, "plain")
    finally:
        lifecycle.down(folder, False, quiet)


# What Kubernetes, consul-k8s and sidecars do when TLS is turned on


def test_tls_comes_with_the_server_and_old_sidecars_stay_behind(plain):
    """Until the server restarts nothing speaks TLS: the new injector is not ready, and the old one goes on. After that
    a sidecar from before has lost the servers, and still takes and makes calls; one made anew has the new way."""
    tls = ("global.tls.enabled=true", "global.tls.verify=false")
    plain.upgrade(*tls, "server.updatePartition=1", wait=False)
    assert plain.secret("consul-ca-cert", "tls.crt").startswith("-----BEGIN CERTIFICATE-----")
    injectors = plain.get("consul", "pods", "-l", "component=connect-injector")["items"]
    ready = {one["metadata"]["name"]: one["status"]["containerStatuses"][0]["ready"] for one in injectors}
    assert sorted(ready.values()) == [False, True]
    plain.run("kubectl", "-n", SHOP, "rollout", "restart", f"deployment/{existing_data.CALLER}")
    plain.run("kubectl", "-n", SHOP, "rollout", "status", f"deployment/{existing_data.CALLER}")
    assert "-tls-disabled" in plain.sidecar(existing_data.CALLER)["args"]

    plain.upgrade(*tls, "server.updatePartition=0")
    pods = plain.get("consul", "pods", "-l", "component=connect-injector")["items"]
    assert [
        one["metadata"]["name"]
        for one in pods
        if one["metadata"]["name"] in ready and ready[one["metadata"]["name"]]
    ] == []
    assert plain.call() == existing_data.ANSWER
    log = plain.run("kubectl", "-n", SHOP, "logs", f"deploy/{existing_data.CALLER}", "-c", "consul-dataplane")
    assert "no address of a Consul server is known" in log

    for app in (existing_data.SERVED, existing_data.CALLER):
        plain.run("kubectl", "-n", SHOP, "rollout", "restart", f"deployment/{app}")
        plain.run("kubectl", "-n", SHOP, "rollout", "status", f"deployment/{app}", "--timeout=60s")
        assert "-tls-disabled" not in plain.sidecar(app)["args"]
    assert plain.call() == existing_data.ANSWER

"""One cluster through one context: what is asked, and one sentence for whatever goes wrong."""

from __future__ import annotations

import base64
import logging
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from consulfed_lib import cluster as cluster_module
from consulfed_lib.cluster import FIELD_MANAGER, Cluster, resource_path
from consulfed_lib.errors import ClusterError
from consulfed_lib.redact import leaks

from .conftest import COOKIE, TOKEN, HttpsServer, _Handler, _Server

SECRET = {"kind": "Secret", "metadata": {"name": "s"}, "data": {"key": "c2VjcmV0LWJvZHk="}}


def status(code: int, reason: str, message: str) -> tuple[int, dict]:
    """An error as an API server words it."""
    return code, {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}


def failure(act) -> ClusterError:
    """The error that it raises; nothing of requests' or answers' headers may stand in it."""
    with pytest.raises(ClusterError) as caught:
        act()
    error = caught.value
    assert TOKEN not in str(error)
    assert COOKIE not in str(error)
    hidden = error.__context__ is None or error.__suppress_context__
    assert hidden, "a traceback would show the client's own error, with headers"
    assert len(error.found.splitlines()) == 1
    return error


# Paths


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (("namespaces",), "/api/v1/namespaces"),
        (("namespaces", "", "consul"), "/api/v1/namespaces/consul"),
        (("secrets", "consul"), "/api/v1/namespaces/consul/secrets"),
        (("secrets", "consul", "x"), "/api/v1/namespaces/consul/secrets/x"),
        (("statefulsets", "consul"), "/apis/apps/v1/namespaces/consul/statefulsets"),
        (("jobs", "consul", "j"), "/apis/batch/v1/namespaces/consul/jobs/j"),
        (
            ("proxydefaults", "consul", "global"),
            "/apis/consul.hashicorp.com/v1alpha1/namespaces/consul/proxydefaults/global",
        ),
        (("secrets", "a/b", "../x?y#z"), "/api/v1/namespaces/a%2Fb/secrets/..%2Fx%3Fy%23z"),
    ],
)
def test_a_path_is_the_apis_and_no_name_gets_out_of_its_place(arguments, path):
    """A core resource is under /api/v1, every other under its group; names are quoted."""
    assert resource_path(*arguments) == path


# Requests


def test_a_request_carries_the_contexts_token_and_our_name(cluster, api):
    """And speaks JSON both ways."""
    api.answers["POST /x"] = 201, {"made": True}
    assert cluster.request("POST", "/x", {"a": 1}, query={"dryRun": "All"}) == {"made": True}
    (asked,) = api.requests
    assert asked.headers["authorization"] == f"Bearer {TOKEN}"
    assert asked.headers["user-agent"] == "consulfed"
    assert asked.headers["content-type"] == "application/json"
    assert asked.query == {"dryRun": "All"}
    assert asked.body == {"a": 1}


def test_one_connection_serves_many_requests(cluster, api):
    """A handshake for each of a hundred questions would be most of a preflight."""
    api.answers["GET /version"] = 200, {"gitVersion": "v1.34.0"}
    assert [cluster.version() for _ in range(3)] == ["v1.34.0"] * 3
    assert len({asked.connection for asked in api.requests}) == 1


def test_two_contexts_are_two_clients(https, kubeconfig):
    """Nothing global is configured: each cluster is asked with its own URL."""
    one, two = https(), https()
    one.answers["GET /version"] = 200, {"gitVersion": "one"}
    two.answers["GET /version"] = 200, {"gitVersion": "two"}
    path = kubeconfig(one=one.url, two=two.url)
    clusters = [Cluster(context, path) for context in ("one", "two")]
    assert [cluster.version() for cluster in clusters] == ["one", "two"]
    assert [cluster.server for cluster in clusters] == [one.url, two.url]


def test_what_is_not_there_is_none_or_empty_and_no_error(cluster):
    """Looking whether something exists is what half of the steps do."""
    assert cluster.get("secrets", "consul", "x") is None
    assert cluster.list("proxydefaults", "consul") == []
    assert cluster.delete("jobs", "consul", "x") is False


def test_objects_are_read_by_name_and_by_label(cluster, api):
    """As plain dictionaries."""
    api.answers["GET /api/v1/namespaces/consul/secrets/s"] = 200, SECRET
    api.answers["GET /api/v1/namespaces/consul/secrets"] = 200, {"items": [SECRET]}
    assert cluster.get("secrets", "consul", "s") == SECRET
    assert cluster.list("secrets", "consul", "owner=helm,name=consul") == [SECRET]
    assert api.requests[-1].query == {"labelSelector": "owner=helm,name=consul"}


def test_an_empty_list_may_be_null(cluster, api):
    """Some API servers write `items: null`."""
    api.answers["GET /api/v1/nodes"] = 200, {"items": None}
    assert cluster.list("nodes") == []


def test_applying_is_server_side_and_under_our_own_name(cluster, api):
    """Fields of others stay theirs, and managedFields tell who wrote ours."""
    api.answers["PATCH /api/v1/namespaces/consul/secrets/s"] = 200, SECRET
    cluster.apply("secrets", "consul", SECRET)
    (asked,) = api.requests
    assert asked.headers["content-type"] == "application/apply-patch+yaml"
    assert asked.query == {"fieldManager": FIELD_MANAGER, "force": "true"}
    assert asked.body == SECRET


def test_deleting_takes_along_what_the_object_owns(cluster, api):
    """A Job's pods, in the background."""
    api.answers["DELETE /apis/batch/v1/namespaces/consul/jobs/j"] = 200, {}
    assert cluster.delete("jobs", "consul", "j") is True
    assert api.requests[0].body["propagationPolicy"] == "Background"


def test_a_clusters_identity_is_the_uid_of_kube_system(cluster, api):
    """Two contexts may be the same cluster under two names."""
    assert cluster.uid() == ""
    api.answers["GET /api/v1/namespaces/kube-system"] = 200, {"metadata": {"uid": "u-1"}}
    assert cluster.uid() == "u-1"


def test_the_last_line_of_a_log_is_read_and_none_is_empty(cluster, api):
    """A Job that has not begun has no log, which is no error."""
    assert cluster.log_tail("consul", "pod-1") == ""
    api.answers["GET /api/v1/namespaces/consul/pods/pod-1/log"] = 200, b"waiting for \xff gateway\n"
    assert cluster.log_tail("consul", "pod-1") == "waiting for \ufffd gateway"
    assert api.requests[-1].query == {"tailLines": "1"}


def test_the_clients_loggers_stay_quiet():
    """At DEBUG they log bodies, Secrets included."""
    for name in ("kubernetes", "urllib3"):
        assert not logging.getLogger(f"{name}.client.rest").isEnabledFor(logging.DEBUG)


def test_a_cluster_shows_its_context_and_nothing_else(cluster):
    """Its configuration holds the token."""
    assert repr(cluster) == "<Cluster one>"


# What goes wrong


def test_a_closed_port_is_one_sentence(kubeconfig):
    """With the URL that was tried, and no status, because there was no answer."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"https://127.0.0.1:{taken.getsockname()[1]}"
    cluster = Cluster("one", kubeconfig(one=url))
    error = failure(cluster.version)
    assert url in error.found
    assert "refused" in error.found
    assert error.hint
    assert error.status is None
    assert error.exit_code == 20


def test_a_server_of_another_ca_is_one_sentence(https, kubeconfig, other_authority):
    """The token is not sent to it."""
    server = https(signed_by=other_authority)
    cluster = Cluster("one", kubeconfig(one=server.url))
    error = failure(cluster.version)
    assert "certificate" in error.found
    assert server.requests == []


def test_a_server_of_another_name_is_one_sentence(https, kubeconfig):
    """A valid certificate of somebody else is no proof."""
    server = https(names=("elsewhere.example.com",))
    error = failure(Cluster("one", kubeconfig(one=server.url)).version)
    assert "127.0.0.1" in error.found
    assert server.requests == []


def test_what_speaks_no_tls_is_one_sentence(kubeconfig):
    """A port that something else listens on."""

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"SSH-2.0-OpenSSH\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        assert url in failure(Cluster("one", kubeconfig(one=url)).version).found


@pytest.mark.parametrize(
    ("code", "reason", "word"),
    [
        (401, "Unauthorized", "credentials"),
        (403, "Forbidden", "rights"),
        (409, "Conflict", ""),
        (500, "", ""),
    ],
)
def test_a_refusal_is_the_api_servers_own_sentence(cluster, api, code, reason, word):
    """With what was asked, the status for the caller, and a hint where one helps."""
    message = 'secrets "s" is forbidden: User "jane" cannot get it'
    api.answers["GET /api/v1/namespaces/consul/secrets/s"] = status(code, reason, message)
    error = failure(lambda: cluster.get("secrets", "consul", "s"))
    assert error.status == code
    assert message in error.found
    assert "GET /api/v1/namespaces/consul/secrets/s" in error.found
    assert "one" in error.found
    assert word in error.hint


def test_a_refused_write_does_not_repeat_what_was_written(cluster, api):
    """The body holds the federation secret."""
    api.answers["PATCH /api/v1/namespaces/consul/secrets/s"] = status(403, "Forbidden", "no")
    error = failure(lambda: cluster.apply("secrets", "consul", SECRET))
    assert SECRET["data"]["key"] not in str(error)  # type: ignore[index]


@pytest.mark.parametrize("body", [b"", b"<html>Bad gateway</html>", b"[]", b'"text"', b"\xff"])
def test_a_refusal_of_a_proxy_is_one_sentence_too(cluster, api, body):
    """It is no Status object, and its page is not shown."""
    api.answers["GET /version"] = 502, body
    error = failure(cluster.version)
    assert error.status == 502
    assert "html" not in error.found


@pytest.mark.parametrize("body", [b"<html>Log in</html>", b"[]", b"\xff"])
def test_an_answer_that_is_no_object_is_one_sentence(cluster, api, body):
    """A log-in page of a proxy comes with 200."""
    api.answers["GET /version"] = 200, body
    assert "Log in" not in failure(cluster.version).found


@pytest.mark.parametrize("code", [401, 403, 404, 500])
def test_streams_fail_with_one_sentence_that_has_the_status(cluster, api, code):
    """The WebSocket client's own error holds the answer's headers and its body."""
    base = "GET /api/v1/namespaces/consul/pods/consul-server-0"
    for verb in ("exec", "portforward"):
        api.answers[f"{base}/{verb}"] = status(code, "x", "body of the answer")
    for act in (
        lambda: cluster.exec("consul", "consul-server-0", ["consul", "members"]),
        lambda: cluster.dial("consul", "consul-server-0", 8501),
    ):
        error = failure(act)
        assert "consul/consul-server-0" in error.found
        assert str(code) in error.found
        assert "body of the answer" not in str(error)
    assert api.requests[0].query["command"] == "consul"


# Watching


def test_a_bell_rings_when_something_changes(cluster, api):
    """Nobody waits out a pause when the world has moved."""
    path = resource_path("services", "consul")
    api.answers[f"GET {path}"] = 200, {"type": "ADDED", "object": {}}
    with cluster.watching(path) as bell:
        assert bell._rung.wait(10)
        bell.wait(10)
    assert api.requests[0].query["watch"] == "1"


def test_a_watch_that_breaks_rings_too(kubeconfig):
    """An event may have been lost with it: better one look too many."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"https://127.0.0.1:{taken.getsockname()[1]}"
    with Cluster("one", kubeconfig(one=url)).watching("/api/v1/nodes") as bell:
        assert bell._rung.wait(10)


def test_a_bell_is_silent_once_it_has_been_heard(cluster):
    """One change, one look: `wait` returns at once for the ring, and takes it back."""
    bell = cluster.watching()
    bell.ring()
    start = time.monotonic()
    bell.wait(10)
    assert time.monotonic() - start < 1
    assert not bell._rung.is_set()


def test_a_lost_event_costs_two_seconds_at_most(cluster, monkeypatch):
    """However long the deadline is."""
    waited: list[float] = []
    bell = cluster.watching()
    monkeypatch.setattr(bell._rung, "wait", waited.append)
    bell.wait(300)
    bell.wait(0.5)
    assert waited == [2.0, 0.5]


# Port-forwards


@pytest.mark.parametrize(
    ("name", "error", "told"),
    [
        ("Kubernetes port forward proxy: 8501", ConnectionResetError(), False),
        ("Kubernetes port forward proxy: 8501", ValueError("a mistake"), True),
        ("another", ConnectionResetError(), True),
    ],
)
def test_a_forward_that_is_reset_prints_no_traceback(capsys, name, error, told):
    """Who reads from it gets the error; every other thread's end is still told."""

    def fail() -> None:
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "excepthook", cluster_module._unless_a_forward_was_reset)
        thread = threading.Thread(target=fail, name=name)
        thread.start()
        thread.join()
    assert (type(error).__name__ in capsys.readouterr().err) is told


# Kubeconfigs


def test_a_wrong_context_is_one_sentence_with_the_right_ones(kubeconfig):
    """A person picks from the list instead of opening the file."""
    path = kubeconfig(one="https://127.0.0.1:1", two="https://127.0.0.1:2")
    error = failure(lambda: Cluster("three", path))
    assert "three" in error.found
    assert path in error.found
    assert "one, two" in error.hint


def test_a_kubeconfig_that_is_not_there_is_one_sentence(tmp_path, monkeypatch):
    """For the sandbox's, the remedy is to start it; for any other one, it is not."""
    monkeypatch.setenv("CONSULFED_SANDBOX", str(tmp_path))
    error = failure(lambda: Cluster("one", str(tmp_path / "kubeconfig")))
    assert str(tmp_path / "kubeconfig") in error.found
    assert "sandbox up" in error.hint
    assert "sandbox up" not in failure(lambda: Cluster("one", str(tmp_path / "other"))).hint


@pytest.mark.parametrize(
    "content",
    [b"", b"text", b"[]", b"a: [", b"\x00", b"clusters: 5\ncontexts: 6\n", b"contexts: [{name: one}]"],
)
def test_a_damaged_kubeconfig_is_one_sentence(tmp_path, content):
    """Whatever stands in it."""
    path = tmp_path / "kubeconfig"
    path.write_bytes(content)
    assert str(path) in failure(lambda: Cluster("one", str(path))).found


def test_a_damaged_kubeconfig_does_not_show_its_token(kubeconfig):
    """The error of a parser may quote the line."""
    path = Path(kubeconfig(one="https://127.0.0.1:1"))
    path.write_text(path.read_text() + "\n  token: [\n")
    assert TOKEN not in str(failure(lambda: Cluster("one", str(path))))


def test_nothing_is_kept_for_the_whole_process(cluster):
    """The official client's default configuration stays as it was: another cluster must not inherit ours."""
    from kubernetes import client

    assert client.Configuration._default is None
    assert cluster._configuration.debug is False


# Clocks, and lists without bodies


@pytest.mark.parametrize("ahead", [0, 40, -7200])
def test_an_api_servers_clock_is_read_off_its_answer(api, cluster, ahead):
    """To about a second, which is what HTTP's Date has; with its version, in one request."""
    api.answers["GET /version"] = 200, {"gitVersion": "v1.34.0"}
    api.ahead = ahead
    greeting = cluster.greeting()
    assert greeting.version == cluster.version() == "v1.34.0"
    assert greeting.ahead == pytest.approx(ahead, abs=1.5)
    assert api.asked() == ["GET /version"] * 2


def test_a_list_of_metadata_asks_for_nothing_else(api, cluster):
    """And takes whole objects from an API server that knows no such thing."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    api.answers[f"GET {path}"] = 200, {"items": [{"metadata": {"name": "x"}, "spec": {"large": True}}]}
    (found,) = cluster.list("customresourcedefinitions", whole=False)
    assert found["metadata"]["name"] == "x"
    accepted = api.requests[0].headers["accept"].split(",")
    assert "as=PartialObjectMetadataList" in accepted[0]
    assert accepted[1] == "application/json"
    cluster.list("customresourcedefinitions")
    assert api.requests[1].headers["accept"] == "application/json"


# Credentials


@pytest.fixture
def as_user(api, kubeconfig) -> Callable[..., Cluster]:
    """The client of the API server, for a user of the kubeconfig who has these credentials."""

    def make(**user: object) -> Cluster:
        path = Path(kubeconfig(one=api.url))
        config = yaml.safe_load(path.read_text())
        config["users"][0]["user"] = user
        path.write_text(yaml.safe_dump(config))
        api.answers["GET /version"] = 200, {"gitVersion": "v1.34.0"}
        return Cluster("one", str(path))

    return make


def test_the_token_of_a_kubeconfig_is_known_to_be_secret(as_user):
    """Before the first request, which may fail and say what it sent."""
    assert leaks(TOKEN) == 0
    as_user(token=TOKEN)
    assert leaks(f"authorization: Bearer {TOKEN}")


def test_the_token_in_a_file_is_known_to_be_secret(as_user, tmp_path):
    """That is where a pod finds its own."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    as_user(tokenFile=str(tmp_path / "token"))
    assert leaks(TOKEN)


def test_a_password_is_known_to_be_secret(as_user, api):
    """As it is, and as it is sent; the user's name is not."""
    as_user(username="someone-with-a-name", password="password-of-somebody").version()
    sent = api.requests[0].headers["authorization"]
    assert base64.b64decode(sent.removeprefix("Basic ")) == b"someone-with-a-name:password-of-somebody"
    assert leaks(sent)
    assert leaks("password-of-somebody")
    assert leaks("someone-with-a-name") == 0


PLUGIN = """
echo >> {folder}/calls
echo '{{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {{
  "token": "token-of-a-plugin-'$(wc -l < {folder}/calls)'", "expirationTimestamp": "2020-01-01T00:00:00Z"}}}}'
"""


def test_the_tokens_of_a_plugin_are_known_to_be_secret(as_user, api, tmp_path):
    """Clouds have one, which is asked again when the token has expired: here it always has."""
    command = ["-c", PLUGIN.format(folder=tmp_path)]
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": command}
    cluster = as_user(exec=plugin | {"interactiveMode": "Never"})
    cluster.version()
    cluster.version()
    sent = [asked.headers["authorization"] for asked in api.requests]
    assert len(set(sent)) == 2
    assert all(header.startswith("Bearer token-of-a-plugin-") for header in sent)
    assert all(map(leaks, sent))


@pytest.fixture
def asking(authority, tmp_path) -> Iterator[HttpsServer]:
    """An API server that lets nobody in without a certificate."""
    table = HttpsServer(answers={"GET /version": (200, {"gitVersion": "v1.34.0"})})
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"table": table}))
    server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (tmp_path / "pem").write_text("".join(authority.issue(("127.0.0.1",))))
    server.context.load_cert_chain(tmp_path / "pem")
    server.context.load_verify_locations(cadata=authority.pem)
    server.context.verify_mode = ssl.CERT_REQUIRED
    table.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield table
    server.shutdown()
    server.server_close()


@dataclass(frozen=True)
class Certified:
    """A kubeconfig with a user's certificate and key in it, and that key."""

    kubeconfig: str
    key: str


@pytest.fixture
def certified(asking, authority, tmp_path) -> Certified:
    certificate, key = authority.issue(("somebody",))
    ours, secret, theirs = (
        base64.b64encode(text.encode()).decode() for text in (certificate, key, authority.pem)
    )
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "users": [{"name": "somebody", "user": {"client-certificate-data": ours, "client-key-data": secret}}],
        "clusters": [
            {"name": "one", "cluster": {"server": asking.url, "certificate-authority-data": theirs}}
        ],
        "contexts": [{"name": "one", "context": {"cluster": "one", "user": "somebody"}}],
    }
    path = tmp_path / "certified"
    path.write_text(yaml.safe_dump(config))
    return Certified(str(path), key)


def test_an_api_server_that_asks_for_a_certificate_gets_it(asking, certified, authority):
    """For requests and for streams; and so does a second client of the same context."""
    for _ in range(2):
        cluster = Cluster("one", certified.kubeconfig)
        assert cluster.version() == "v1.34.0"
        assert cluster.ca_pem == authority.pem
    failure(lambda: cluster.exec("consul", "consul-server-0", ["true"]))
    assert asking.asked()[-1] == "GET /api/v1/namespaces/consul/pods/consul-server-0/exec"


def test_that_api_server_lets_nobody_in_without_one(asking, kubeconfig):
    """Else the test above would prove nothing."""
    failure(Cluster("one", kubeconfig(one=asking.url)).version)
    assert asking.requests == []


def test_the_key_of_a_kubeconfig_is_known_to_be_secret(certified):
    """Each line of it, and in base64, as the kubeconfig has it."""
    lines = certified.key.splitlines()[1:-1]
    assert not any(map(leaks, lines))
    Cluster("one", certified.kubeconfig)
    assert all(map(leaks, lines))
    assert leaks(base64.b64encode(certified.key.encode()).decode())


ASKS = """
import sys
from consulfed_lib.cluster import Cluster
print(Cluster("one", sys.argv[1]).version(), Cluster("one", sys.argv[1]).version(), flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has files in memory without a name")
def test_the_key_of_a_kubeconfig_is_never_on_a_disk(certified, tmp_path):
    """The official client writes it into a temporary file, and a process that is killed leaves that behind."""
    (tmp_path / "temporary").mkdir()
    environment = os.environ | {"TMPDIR": str(tmp_path / "temporary")}
    words = [sys.executable, "-c", ASKS, certified.kubeconfig]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, env=environment, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "v1.34.0 v1.34.0\n"
        assert list((tmp_path / "temporary").rglob("*")) == []
        process.kill()
    assert list((tmp_path / "temporary").rglob("*")) == []

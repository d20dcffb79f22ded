"""Nothing leaks: every secret of every cluster is looked for in everything that a run leaves, shows, or ever had.

Two canaries are planted beside what the clusters make themselves: a gossip key of the user's own, and a Secret that an
older installation left. Looked through are records, the log, the home and temporary folders (also files that are there
for a moment only), and the arguments and environment of every process of the run.
"""

from __future__ import annotations

import base64
import json
import os
import secrets as random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from consulfed_lib import redact
from consulfed_lib.places import tools_folder

from .conftest import PARAMS, ROOT, Sandbox, leaks

CANARY = {
    "canary/gossip": base64.b64encode(random.token_bytes(32)),
    "canary/left over": f"canary-{random.token_hex(16)}".encode(),
}


class Watched:
    """A run in a home of its own, whose processes and files are looked at all the time while it works."""

    def __init__(self, sandbox: Sandbox, folder: Path, command: list[str]):
        self.folder = folder
        for name in ("home", "tmp", "cwd"):
            (folder / name).mkdir(parents=True)
        cache = folder / "home" / ".cache" / "consulfed" / "tools"
        cache.mkdir(parents=True)
        (cache / "bin").symlink_to(tools_folder())
        self.env = {
            **sandbox.env,
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "XDG_CACHE_HOME": str(folder / "home" / ".cache"),
            "IPYTHONDIR": str(folder / "home" / ".ipython"),
        }
        self.seen: dict[str, set[str]] = {"arguments": set(), "environment": set(), "passing files": set()}
        process = subprocess.Popen(
            command,
            env=self.env,
            cwd=folder / "cwd",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        ended = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(process.pid, ended))
        watcher.start()
        self.said, _ = process.communicate(timeout=300)
        ended.set()
        watcher.join()
        self.returncode = process.returncode

    def _watch(self, pid: int, ended: threading.Event) -> None:
        while not ended.wait(0.02):
            try:
                family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            for process in family:
                for what, name in (("arguments", "cmdline"), ("environment", "environ")):
                    try:
                        self.seen[what].add(
                            Path(f"/proc/{process.pid}/{name}").read_bytes().decode("utf-8", "replace")
                        )
                    except OSError:  # it has ended
                        continue
            for path in self._files():
                try:
                    if path.stat().st_size < 2_000_000:
                        self.seen["passing files"].add(path.read_text(errors="replace"))
                except OSError:  # it was there for a moment only
                    continue

    def _files(self) -> Iterator[Path]:
        for top in ("home", "tmp"):
            for where, folders, names in os.walk(self.folder / top):
                folders[:] = [name for name in folders if not (Path(where) / name).is_symlink()]
                yield from (Path(where) / name for name in names)

    def leaking(self, values: dict[str, bytes]) -> list[str]:
        """`place: name of the secret` for each that stands anywhere."""
        self.seen["log"] = {self.said}
        found = leaks(self.folder, values)
        for place, texts in self.seen.items():
            found += [
                f"{place}: {name}"
                for name, value in values.items()
                if any(form in text for form in redact.forms(value) for text in texts)
            ]
        return found


@pytest.fixture(scope="module")
def planted(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Canaries in the clusters, and a params file that names the first."""
    gossip = CANARY["canary/gossip"].decode()
    for context in ("sandbox-dc1", "sandbox-dc2"):
        sandbox.kubectl(context, "create", "namespace", "consul")
        words = ["-n", "consul", "create", "secret", "generic", "another-federation"]
        value = CANARY["canary/left over"].decode()
        sandbox.kubectl(context, *words, f"--from-literal=caKey={value}")
        sandbox.kubectl(
            context, "-n", "consul", "label", "secret", "another-federation", "managed-by=consul-k8s"
        )
    words = ["-n", "consul", "create", "secret", "generic", "own-gossip", f"--from-literal=key={gossip}"]
    sandbox.kubectl("sandbox-dc1", *words)
    path = tmp_path_factory.mktemp("planted") / "params.yaml"
    raw = yaml.safe_load(PARAMS.read_text()) | {"gossip_key": {"secret": "own-gossip", "key": "key"}}
    path.write_text(yaml.safe_dump(raw))
    return path


@pytest.fixture(scope="module")
def values(sandbox: Sandbox) -> Callable[[], dict[str, bytes]]:
    """Every secret that there is at that moment, the canaries among them."""
    return lambda: {**sandbox.secret_values(), **CANARY}


def consulfed(folder: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "consulfed_lib.cli", *words, "--records", str(folder / "records")]


def papermill(notebook: str, params: Path, *words: str) -> list[str]:
    source = str(ROOT / "notebooks" / f"{notebook}.ipynb")
    return [sys.executable, "-m", "papermill", source, "out.ipynb", "-f", str(params), "--log-output", *words]


def test_a_run_that_applies_leaks_nothing(
    sandbox: Sandbox, planted: Path, values: Callable[[], dict[str, bytes]], tmp_path: Path
) -> None:
    """From an empty federation to a verified one."""
    run = Watched(sandbox, tmp_path / "run", consulfed(tmp_path / "run", "run", str(planted), "--apply"))
    assert run.returncode == 0, run.said
    found = values()
    assert {"canary/gossip", "sandbox-dc2/consul-federation/gossipEncryptionKey"} <= set(found)
    assert found["sandbox-dc2/consul-federation/gossipEncryptionKey"] == CANARY["canary/gossip"]
    assert run.leaking(found) == []
    record = next((tmp_path / "run" / "records" / "sandbox").glob("2*"))
    assert len(run.seen["arguments"]) > 5
    assert any("consulfed_lib.nursery" in text for text in run.seen["arguments"])
    scan = json.loads(base64.b64decode(json.loads((record / "run.json").read_text())["payload"]))
    assert scan["predicate"]["scan"]["secrets"] > 5
    assert scan["predicate"]["scan"]["hits"] == 0


@pytest.mark.parametrize("engine", [[], ["--engine", "consulfed"]], ids=["vanilla", "engine"])
def test_papermill_alone_leaks_nothing(
    sandbox: Sandbox, planted: Path, values: Callable[[], dict[str, bytes]], tmp_path: Path, engine: list[str]
) -> None:
    """The secret is copied anew, with papermill's own log of every output switched on."""
    sandbox.kubectl("sandbox-dc2", "-n", "consul", "delete", "secret", "consul-federation")
    command = papermill("02-secret-transfer", planted, "-y", "dry_run: false", *engine)
    run = Watched(sandbox, tmp_path / "run", command)
    assert run.returncode == 0, run.said
    assert "federation-secret" in run.said
    assert run.leaking(values()) == []


def test_a_leak_anywhere_would_be_seen(sandbox: Sandbox, tmp_path: Path) -> None:
    """Each place that is looked at: a file of a moment, one that stays, an argument, the environment, the log."""
    value = f"canary-{random.token_hex(12)}"
    code = (
        "import os, subprocess, sys, tempfile, time\n"
        "value = sys.stdin.read()\n"
        "with tempfile.NamedTemporaryFile('w') as file:\n"
        "    file.write(value); file.flush()\n"
        "    env = {**os.environ, 'TOKEN': value}\n"
        "    subprocess.run(['sleep', '0.2'], env=env); subprocess.run(['sh', '-c', 'sleep 0.2', value])\n"
        "print(value); open('left', 'w').write(value)\n"
    )
    command = ["sh", "-c", f'printf {value} | {sys.executable} -c "$CODE"']
    sandbox.env["CODE"] = code
    try:
        run = Watched(sandbox, tmp_path / "run", command)
    finally:
        del sandbox.env["CODE"]
    found = run.leaking({"canary": value.encode()})
    assert set(found) == {
        "left: canary", "log: canary", "arguments: canary", "environment: canary", "passing files: canary",
    }  # fmt: skip


# Every step made to fail at every point

HARNESS = """
import json, threading
from consulfed_lib import cluster, consul, helm, redact, steps
from consulfed_lib import params as parameters
from IPython import get_ipython
from IPython.display import display

redact.install()
params = parameters.load({params!r}).model_copy(update={{"dry_run": False}})
lock, left = threading.Lock(), 0

def fails():
    global left
    with lock:
        left -= 1
        return left == 0

def telling(refuse, real):
    def ask(self, *given, **more):
        found = real(self, *given, **more)
        if not fails():
            return found
        # The worst that an API server, a webhook or a proxy could answer: everything it knows about the request.
        said = json.dumps([repr(given), repr(more), repr(found), json.dumps(found, default=repr)])
        raise refuse(self, said)
    return ask

def refused(self, said):
    return self._refused(500, json.dumps({{"message": said}}).encode(), "GET", "/x")

cluster.Cluster._ask = telling(refused, cluster.Cluster._ask)
cluster.Cluster.exec = telling(refused, cluster.Cluster.exec)
consul.Consul._answer = telling(lambda self, said: consul.ClusterError(said), consul.Consul._answer)
helm.Charts._run = telling(lambda self, said: helm.ApplyError(said), helm.Charts._run)
"""
EACH = """
points = {first} - {stride}
while True:
    left = points = points + {stride}
    step = steps.open_step({notebook!r}, params)
    try:
        for part in (step.preflight, step.plan, step.apply, step.verify, step.result):
            display(part())
    except BaseException:
        get_ipython().showtraceback()
    if left > 0:
        break
print("failed at", points // {stride}, "points of", points)
"""


STRIDES = {"01-primary-setup": 3, "02-secret-transfer": 1, "03-secondary-setup": 3, "04-verification": 5}
"""Every so many points of a notebook are tried, beginning with another one each time: the long ones have two hundred
between them, half a second each. CONSULFED_EVERY_POINT=1 tries them all."""


@pytest.mark.parametrize("notebook", STRIDES)
def test_every_step_made_to_fail_at_every_point_leaks_nothing(
    sandbox: Sandbox, planted: Path, values: Callable[[], dict[str, bytes]], tmp_path: Path, notebook: str
) -> None:
    """Whatever is answered fails once, with an error that repeats all that was asked and answered."""
    import nbformat
    import papermill as pm

    stride = 1 if os.environ.get("CONSULFED_EVERY_POINT") else STRIDES[notebook]
    first = random.randbelow(stride) + 1
    print(f"from point {first} on, every {stride}")
    each = EACH.format(notebook=notebook, first=first, stride=stride)
    sources = [HARNESS.format(params=str(planted)), each]
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "in.ipynb")
    before = dict(os.environ)
    os.environ.update({k: v for k, v in sandbox.env.items() if k.startswith(("CONSULFED", "KUBECONFIG"))})
    try:
        pm.execute_notebook(
            tmp_path / "in.ipynb", tmp_path / "out.ipynb", kernel_name="python3", progress_bar=False
        )
    except pm.PapermillExecutionError:  # the tracebacks shown are errors to papermill, all of them ours
        pass
    finally:
        os.environ.clear()
        os.environ.update(before)
    text = (tmp_path / "out.ipynb").read_text()
    points = _points(text)
    assert points > 15 // stride, text[-2000:]
    assert leaks(tmp_path, values()) == []
    assert redact.REDACTED in text


def _points(text: str) -> int:
    for cell in json.loads(text)["cells"]:
        for output in cell.get("outputs", []):
            printed: Any = "".join(output.get("text", []))
            for line in printed.splitlines():
                if line.startswith("failed at"):
                    return int(line.split()[2])
    return 0

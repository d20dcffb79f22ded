"""Redaction: no form of a registered secret leaves the kernel, on any channel."""

from __future__ import annotations

import base64
import collections
import hashlib
import json
import subprocess
import sys
import urllib.parse
from pathlib import Path

import nbformat
import pytest

from consulfed_lib import redact
from consulfed_lib.redact import REDACTED, Secret, forms, leaks, register, scrub

TOKEN = b"7b1f3c5e-2f64-4be0-9c39-3b1ea5ab0c11"
AWKWARD = 'pass"word with\nlines, ümlauts & <marks>/+'.encode()
ENCODINGS = {
    "raw": lambda value: value.decode(),
    "base64": lambda value: base64.b64encode(value).decode(),
    "base64 twice": lambda value: base64.b64encode(base64.b64encode(value)).decode(),
    "base64url": lambda value: base64.urlsafe_b64encode(value).decode(),
    "base64url without padding": lambda value: base64.urlsafe_b64encode(value).decode().rstrip("="),
    "hex": lambda value: value.hex(),
    "URL-quoted": lambda value: urllib.parse.quote(value.decode(), safe=""),
    "JSON": lambda value: json.dumps(value.decode()),
    "in JSON in JSON": lambda value: json.dumps(base64.b64encode(value).decode()),
}


# Forms


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS.keys())
@pytest.mark.parametrize("value", [TOKEN, TOKEN + b"\n", AWKWARD], ids=["token", "with newline", "awkward"])
def test_a_secret_is_recognised_in_every_form(value, encode):
    """Kubernetes gives base64, a URL quotes, JSON escapes, a debugger shows hex."""
    text = f"before {encode(value)} after"
    assert leaks(text) == 0
    register(value)
    assert leaks(text)
    cleaned = scrub(text)
    assert leaks(cleaned) == 0
    assert REDACTED in cleaned
    assert cleaned.startswith("before ")
    assert cleaned.endswith(" after")


def test_a_value_is_recognised_without_the_newline_that_a_file_has(authority):
    """`kubectl get -o jsonpath` prints none."""
    register(TOKEN + b"\n")
    assert leaks(f"token={TOKEN.decode()}")


def test_every_line_of_a_pem_is_a_secret_but_not_its_frame(authority):
    """A key comes apart into lines in logs and diffs; `-----BEGIN` alone tells nothing."""
    register(authority.key_pem.encode())
    first, *lines, last = authority.key_pem.splitlines()
    assert all(leaks(f"+ {line}") for line in lines)
    assert leaks(first + last) == 0


@pytest.mark.parametrize("value", [b"", b"a", b"dc1", b"1234567"])
def test_what_is_too_short_to_be_a_secret_is_left_alone(value):
    """An empty or tiny value would blot out whole records."""
    register(value)
    assert scrub("dc1: a 1234567") == "dc1: a 1234567"


def test_bytes_that_are_no_text_are_recognised_by_their_encodings():
    """A raw gossip key has no text form."""
    value = bytes(range(200, 232))
    register(value)
    assert leaks(base64.b64encode(value).decode())
    assert leaks(value.hex())
    assert forms(value)


def test_what_is_not_registered_is_left_alone():
    """Scrubbing changes nothing else."""
    register(TOKEN)
    text = "7b1f3c5e-2f64-4be0-9c39-000000000000 -----BEGIN CERTIFICATE-----"
    assert scrub(text) is text


def test_a_form_inside_a_longer_form_does_not_spoil_it():
    """The longest goes first, so that nothing of it is left standing, whatever order a set has."""
    register(b"secret-one")
    register(b"secret-one-and-more-of-it")
    assert scrub("x secret-one-and-more-of-it y secret-one z") == f"x {REDACTED} y {REDACTED} z"


# Structures


def test_nested_structures_are_scrubbed_everywhere():
    """Keys and values, lists and tuples, to any depth; what is no text stays as it is."""
    register(TOKEN)
    token = TOKEN.decode()
    content = {
        "data": {"text/plain": token, token: 1},
        "list": [token, (token, 5, None)],
        "n": 1.5,
        "t": True,
    }
    assert scrub(content) == {
        "data": {"text/plain": REDACTED, REDACTED: 1},
        "list": [REDACTED, (REDACTED, 5, None)],
        "n": 1.5,
        "t": True,
    }


@pytest.mark.parametrize(
    "wrap",
    [
        collections.namedtuple("Point", "x"),
        lambda x: (each for each in [x]),
        lambda x: {x: 1}.keys(),
        lambda x: {x},
        lambda x: frozenset([x]),
        lambda x: collections.deque([x]),
        lambda x: collections.OrderedDict(a=x),
        lambda x: x.encode(),
        lambda x: type("Text", (str,), {})(x),
    ],
    ids=[
        "namedtuple",
        "generator",
        "keys",
        "set",
        "frozenset",
        "deque",
        "OrderedDict",
        "bytes",
        "text of its own kind",
    ],
)
def test_whatever_json_would_take_is_scrubbed(wrap):
    """Jupyter writes any iterable as a list and bytes as base64: none of them is a way around."""
    from jupyter_client.jsonutil import json_default

    register(TOKEN)
    text = json.dumps(scrub({"data": [wrap(TOKEN.decode())]}), default=json_default)
    assert leaks(text) == 0


def test_scrubbing_leaves_the_original_as_it_was():
    """Code that goes on working with the value needs it whole."""
    register(TOKEN)
    content = {"list": [TOKEN.decode()]}
    scrub(content)
    assert content == {"list": [TOKEN.decode()]}


def test_a_secret_may_be_registered_while_another_thread_scrubs():
    """Several clusters are read at the same time, and the kernel's output thread must never stumble over it."""

    class Text(str):
        """Something else happens in the middle of every look at it."""

        def __contains__(self, form) -> bool:
            register(f"a secret read meanwhile {len(redact._known)}".encode())
            return super().__contains__(form)

    register(TOKEN)
    assert scrub(Text(f"the token {TOKEN.decode()}")) == f"the token {REDACTED}"
    assert leaks(Text("nothing")) == 0


def test_a_secret_registers_itself():
    """Nobody can hold one that is not scrubbed."""
    Secret("token", TOKEN)
    assert leaks(TOKEN.decode())


def test_outside_a_kernel_there_is_nothing_to_guard():
    """A script or a test has no session; `install` says so."""
    assert redact.install() is False


def test_a_script_that_guards_its_outputs_needs_no_ipython():
    """The library works where Jupyter is not installed."""
    code = (
        "import sys; sys.modules['IPython'] = None; from consulfed_lib import redact; print(redact.install())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# A real kernel

SETUP = """
import base64, hashlib, json, logging, subprocess, sys, threading, warnings
from IPython import get_ipython
from IPython.display import HTML, display
import ipywidgets
from consulfed_lib import redact
from consulfed_lib.errors import ApplyError

assert redact.install() and redact.install()
secret, control = (hashlib.sha256(seed).hexdigest() for seed in (b"secret", b"control"))
held = redact.Secret("token", secret.encode())

def shown(*values):
    for value in values:
        try:
            raise KeyError(value)
        except KeyError:
            get_ipython().showtraceback()
"""
PROBES = {
    "stdout": "print(secret, control)",
    "stderr": "print(secret, control, file=sys.stderr)",
    "without newline, in pieces": "sys.stdout.write('x ' + secret); sys.stdout.write(' ' + control)",
    "logging": "logging.warning('%s %s', secret, control)",
    "warning": "warnings.warn(secret + control)",
    "display": "display({'token': secret}, [control])",
    "html": "display(HTML(f'<b>{secret}</b>{control}'))",
    "mime bundle": "display({'application/x+json': {secret: [control]}, 'text/plain': secret}, raw=True)",
    "bytes in a mime bundle": "display({'application/x+json': [secret.encode()], 'text/plain': control}, raw=True)",
    "repr": "secret, control",
    "the secret object": "held, control",
    "handled traceback": "shown(secret, control)",
    "verbose traceback": "%xmode Verbose\nshown(secret, control)\n%xmode Context",
    "captured child": "subprocess.run(['echo', secret, control], capture_output=True, text=True)",
    "shell": "!echo $secret $control",
    "thread": "t = threading.Thread(target=print, args=(secret, control)); t.start(); t.join()",
    "widget": "ipywidgets.Text(value=secret + control)",
    "password widget": "ipywidgets.Password(value=secret + control)",
    # Not `with Output(): print(…)`: nbclient then waits for ever now and then, with and without our guard.
    "output widget": "out = ipywidgets.Output(outputs=({'output_type': 'stream', 'text': secret + control},))",
    "updated display": "h = display('x', display_id=True); h.update(secret + control)",
    "base64": "print(base64.b64encode(secret.encode()).decode(), control)",
    "hex": "print(secret.encode().hex(), control)",
    "json": "print(json.dumps({'token': secret, 'control': control}))",
}
LAST = "raise ApplyError(f'It stopped at {secret} {control}.', secret, [secret])"


def value_of(seed: bytes) -> str:
    """The same values as in the notebook, which must not stand in its source."""
    return hashlib.sha256(seed).hexdigest()


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A notebook that tries every channel, each with a secret and with a value that is none, run by papermill."""
    import papermill

    folder = tmp_path_factory.mktemp("leaks")
    sources = [SETUP, *PROBES.values(), LAST]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    nbformat.write(notebook, folder / "in.ipynb")
    with pytest.raises(papermill.PapermillExecutionError) as caught:
        papermill.execute_notebook(
            folder / "in.ipynb",
            folder / "out.ipynb",
            kernel_name="python3",
            progress_bar=False,
            execution_timeout=60,
        )
    (folder / "error").write_text(str(caught.value))
    return folder


def outputs(executed: Path) -> list[str]:
    """What each cell put out, as JSON; the pieces of a stream together, as a reader sees them."""
    cells = json.loads((executed / "out.ipynb").read_text())["cells"]
    cells = [cell for cell in cells if "papermill-error-cell-tag" not in cell["metadata"].get("tags", [])]
    streams = ["".join(text for o in cell["outputs"] for text in o.get("text", [])) for cell in cells]
    return [json.dumps([cell["outputs"], stream]) for cell, stream in zip(cells, streams, strict=True)]


def test_a_real_notebook_leaks_nothing_on_any_channel(executed):
    """The whole file: outputs, tracebacks, widget state, metadata, in any encoding."""
    text = (executed / "out.ipynb").read_text()
    secret = value_of(b"secret").encode()
    assert leaks(text, forms(secret)) == 0
    assert leaks(text, [secret.decode()[:32], secret.decode()[32:]]) == 0


@pytest.mark.parametrize("probe", PROBES)
def test_each_channel_was_open(executed, probe):
    """A value that is no secret came through: the probe ran, and only the secret was held back."""
    index = 1 + list(PROBES).index(probe)
    text = outputs(executed)[index]
    if "widget" in probe:
        text = (executed / "out.ipynb").read_text()
    assert value_of(b"control") in text


def test_the_error_that_ended_it_is_redacted_too(executed):
    """papermill prints it into the pipeline's log."""
    error = (executed / "error").read_text()
    assert value_of(b"secret") not in error
    assert value_of(b"control") in error
    assert REDACTED in error

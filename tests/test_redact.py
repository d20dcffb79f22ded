"""Redaction: no form of a registered secret leaves the kernel, on any channel."""

from __future__ import annotations

import base64
import collections
import hashlib
import html
import json
import os
import subprocess
import sys
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import markupsafe
import nbformat
import pytest

from consulfed_lib import redact
from consulfed_lib.redact import (
    REDACTED,
    Secret,
    betrays,
    finder,
    forms,
    known,
    leaks,
    register,
    scrub,
    texts,
)
from consulfed_lib.redact.finder import Finder

TOKEN = b"7b1f3c5e-2f64-4be0-9c39-3b1ea5ab0c11"
AWKWARD = 'pass"word with\nlines, ümlauts & <marks>/+'.encode()
LONG = b"".join(hashlib.sha256(bytes([i])).digest() for i in range(5))
ENCODINGS: dict[str, Callable[[bytes], str]] = {
    "raw": lambda value: value.decode(),
    "base64": lambda value: base64.b64encode(value).decode(),
    "base64 twice": lambda value: base64.b64encode(base64.b64encode(value)).decode(),
    "base64url": lambda value: base64.urlsafe_b64encode(value).decode(),
    "base64url without padding": lambda value: base64.urlsafe_b64encode(value).decode().rstrip("="),
    "hex": lambda value: value.hex(),
    "URL-quoted": lambda value: urllib.parse.quote(value.decode(), safe=""),
    "JSON": lambda value: json.dumps(value.decode()),
    "base64 in JSON": lambda value: json.dumps(base64.b64encode(value).decode()),
    "JSON in JSON": lambda value: json.dumps(json.dumps({"token": value.decode()})),
    "JSON in JSON, as UTF-8": lambda value: json.dumps(
        json.dumps(value.decode(), ensure_ascii=False), ensure_ascii=False
    ),
    "upper hex": lambda value: value.hex().upper(),
    "a form's fields": lambda value: urllib.parse.urlencode({"token": value.decode()}),
    "URL-quoted in lower case": lambda value: "".join(
        chr(byte) if chr(byte).isascii() and (chr(byte).isalnum() or chr(byte) in "-._~") else f"%{byte:02x}"
        for byte in value
    ),
    "HTML": lambda value: html.escape(value.decode()),
    "HTML with quotes": lambda value: html.escape(value.decode(), quote=False),
    "Jinja's HTML": lambda value: str(markupsafe.escape(value.decode())),
    "repr of bytes": repr,
    "within base64, at its beginning": lambda value: base64.b64encode(value + b": and more").decode(),
    "within base64, after one byte": lambda value: base64.b64encode(b"!" + value + b": and more").decode(),
    "within base64, after two bytes": lambda value: base64.b64encode(b"!!" + value + b": and more").decode(),
    "within base64url": lambda value: base64.urlsafe_b64encode(b"user:" + value).decode(),
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


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS.keys())
def test_a_value_is_recognised_without_the_newline_that_a_file_has(encode):
    """Who reads it drops that, and encodes the rest."""
    register(AWKWARD + b"\n")
    assert leaks(encode(AWKWARD))


@pytest.mark.parametrize("width", [64, 76])
def test_every_line_of_wrapped_base64_is_recognised(width):
    """PEM breaks it at 64 columns, MIME at 76; a log shows one line of it."""
    encoded = base64.b64encode(LONG).decode()
    lines = [encoded[i : i + width] for i in range(0, len(encoded), width)]
    assert not any(map(leaks, lines))
    register(LONG)
    assert len(lines) > 2
    assert all(map(leaks, lines))


def test_of_a_large_value_only_the_usual_encodings_are_looked_for():
    """Nobody quotes a megabyte by hand, and each form is looked for in each message."""
    large = b'"' + TOKEN * 1000
    few, many = len(forms(large)), len(forms(TOKEN))
    assert few < many
    register(large)
    for encode in ("raw", "base64", "base64 twice", "base64url", "JSON", "JSON in JSON"):
        assert leaks(ENCODINGS[encode](large)), encode


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
    assert scrub({"data": {"text/plain": repr(value)}}) == {"data": {"text/plain": f"b'{REDACTED}'"}}


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


def test_a_secret_that_is_learnt_later_is_looked_for_too():
    """What finds them is made once, and anew when there are more of them."""
    register(TOKEN)
    before = finder()
    assert finder() is before
    assert leaks(LONG.hex()) == 0
    register(LONG)
    assert finder() is not before
    assert leaks(LONG.hex())


def test_what_is_known_is_counted_once():
    """The record says for how many values it was searched."""
    assert known() == (0, 0)
    for value in (TOKEN, TOKEN, LONG, b"short"):
        register(value)
    assert known() == (2, len(forms(TOKEN) | forms(LONG)))


# Whether a text may be kept


def test_a_registered_value_betrays_a_text_and_nothing_else_does():
    """A certificate is to be shown, and so is the mere word."""
    text = f"token {TOKEN.decode()} -----BEGIN CERTIFICATE----- a private key"
    assert not betrays(text)
    register(TOKEN)
    assert betrays(text)


@pytest.mark.parametrize("kind", ["", "EC ", "RSA ", "ENCRYPTED ", "OPENSSH "])
def test_a_private_key_betrays_a_text_whoevers_it_is(kind):
    """Also one that nobody registered, as it is or in base64."""
    key = f"-----BEGIN {kind}PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\n"
    assert betrays(f"x {key}")
    assert betrays(base64.b64encode(key.encode()).decode())


# The beginning of a secret


def test_the_end_of_a_text_with_which_a_secret_begins_is_found():
    """The longest one; a whole secret is none, for that is scrubbed already."""
    register(TOKEN)
    token = TOKEN.decode()
    for size in range(1, len(token)):
        assert finder().beginning(f"-{token[:size]}") == token[:size]
    for text in ("", "-", f"{token[:5]}-", f"-{token[1:9]}-"):
        assert finder().beginning(text) == ""


def test_a_beginning_is_found_also_where_a_secret_repeats_itself():
    """Compared with what a definition would do, letter by letter."""
    wanted = ["aaaaaaaaab", "abababababac", "bababababbab", "cccccccccccc"]
    for text in (
        "a" * 9,
        "a" * 12,
        "ab" * 5,
        "c" + "ab" * 7,
        "ab" * 5 + "a",
        "ba" * 5,
        "ba" * 4 + "b",
        "c" * 30,
    ):
        for extra in ("", "a", "b", "c", "ab", "aab"):
            whole = text + extra
            ends = [whole[-n:] for n in range(len(whole), 0, -1)]
            expected = [end for end in ends if any(w.startswith(end) and w != end for w in wanted)]
            assert Finder(wanted).beginning(whole) == (expected[0] if expected else ""), whole


# Finding


def test_finding_gives_what_one_search_after_the_other_would():
    """Every one that stands in the text, also those within others."""
    wanted = [*(hashlib.sha256(bytes([i])).hexdigest()[: 8 + i] for i in range(40)), "abababab", "babababa"]
    text = "-".join(wanted[::3]) + "abababababa" + wanted[0][:7]
    matches = list(Finder(wanted).matches(text))
    assert {each for _, each in matches} == {each for each in wanted if each in text}
    assert all(text[at:].startswith(each) for at, each in matches)
    assert list(Finder().matches(text)) == []


def test_secrets_that_overlap_leave_nothing_of_each_other():
    """The end of one may be the beginning of the next."""
    find = Finder(["0123456789", "56789abcdef", "0123456789"[:8]])
    assert find.replace("x 0123456789abcdef y 01234567 z", "?") == "x ? y ? z"
    assert find.replace("0123456701234567", "?") == "??"


# Structures


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS.keys())
@pytest.mark.parametrize("value", [TOKEN, AWKWARD], ids=["token", "awkward"])
def test_every_form_is_scrubbed_within_a_message_too(value, encode):
    """JSON would escape once more what is escaped already: each text of it is looked at as it is."""
    text = encode(value)
    register(value)
    content = scrub({"data": {"text/plain": f"({text})", "application/json": [text]}})
    assert leaks(content["data"]["text/plain"]) == 0
    assert content["data"]["text/plain"].startswith("(")
    assert not any(map(leaks, texts(content)))
    assert betrays("\n".join(texts({"data": [text]})))


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

        def __getitem__(self, place) -> str:
            register(f"a secret read meanwhile {len(redact._known)}".encode())
            return super().__getitem__(place)

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
import base64, hashlib, json, logging, os, subprocess, sys, threading, warnings
from IPython import get_ipython
from IPython.display import HTML, display
import ipywidgets
from consulfed_lib import redact
from consulfed_lib.errors import ApplyError

assert redact.install() and redact.install()
secret, control = (hashlib.sha256(seed).hexdigest() for seed in (b"secret", b"control"))
held = redact.Secret("token", secret.encode())

def in_pieces(*pieces, file=sys.stdout):
    for piece in pieces:
        file.write(piece)
        file.flush()

def read(work, *args):  # what goes into the process's own stdout, a thread of the kernel reads
    written, write = threading.Event(), sys.stdout.write
    sys.stdout.write = lambda text: (write(text), written.set())[0]
    work(*args)
    assert written.wait(20)
    sys.stdout.write = write

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
    "uncaptured child": "read(subprocess.run, ['echo', secret, control])",
    "shell": "!echo $secret $control",
    "process's own stdout": "read(os.write, 1, f'{secret} {control}'.encode())",
    "in pieces": "in_pieces(secret[:20], secret[20:], control)",
    "in pieces on stderr": "in_pieces('x ', secret[:40], secret[40:] + control, file=sys.stderr)",
    "one character at a time": "in_pieces(*secret, *control)",
    "base64 in pieces": "text = base64.b64encode(secret.encode()).decode(); in_pieces(text[:50], text[50:], control)",
    "in pieces from a thread": "t = threading.Thread(target=in_pieces, args=(secret[:9], secret[9:], control)); "
    "t.start(); t.join()",
    "thread": "t = threading.Thread(target=print, args=(secret, control)); t.start(); t.join()",
    "widget": "ipywidgets.Text(value=secret + control)",
    "password widget": "ipywidgets.Password(value=secret + control)",
    # Not `with Output(): print(…)`: nbclient then waits for ever now and then, with and without our guard.
    "output widget": "out = ipywidgets.Output(outputs=({'output_type': 'stream', 'text': secret + control},))",
    # Its repr is cut off: half a secret would be in it, which no search for values finds.
    "picture widget": "ipywidgets.Image(value=(control + secret).encode())",
    "updated display": "h = display('x', display_id=True); h.update(secret + control)",
    "base64": "print(base64.b64encode(secret.encode()).decode(), control)",
    "hex": "print(secret.encode().hex(), control)",
    "json": "print(json.dumps({'token': secret, 'control': control}))",
}
SECRET = hashlib.sha256(b"secret").hexdigest()
CONTROL = hashlib.sha256(b"control").hexdigest()
ENDS = {
    "much of a secret": ("in_pieces('so far: ', secret[:30])", f"so far: {REDACTED}"),
    "little of a secret": ("in_pieces('so far: ', secret[:5])", f"so far: {SECRET[:5]}"),
    "the beginning of one, and no newline": ("in_pieces(control + secret[0])", CONTROL + SECRET[0]),
    "no secret after all": ("in_pieces(secret[:30], '…')", f"{SECRET[:30]}…"),
}
"""Streams that end, or go on, where a secret may have begun: (source, what a reader sees)."""
BETWEEN = {
    "a display": "in_pieces(secret[:6]); display(1); in_pieces(secret[6:], control)",
    "much before a display": "in_pieces(secret[:40]); display(1); in_pieces(secret[40:], control)",
    "a display after each character": "[(in_pieces(each), display(1)) for each in secret]; in_pieces(control)",
    "a widget": "in_pieces(secret[:6]); ipywidgets.IntProgress(); in_pieces(secret[6:], control)",
    "the other stream": "in_pieces(secret[:6]); in_pieces('x', file=sys.stderr); in_pieces(secret[6:], control)",
}
"""Something else comes between two pieces of a secret: the first may be shown, if it is short, and no other."""
ORDER = "in_pieces('one ' + secret[:3]); display('two'); in_pieces('three ' + secret[:3]); 'four'"
LAST = "raise ApplyError(f'It stopped at {secret} {control}.', secret, [secret])"


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A notebook that tries every channel, each with a secret and with a value that is none, run by papermill.

    By its own command and engine, in a process of its own, of which `log` holds the output and the errors.
    """
    folder = tmp_path_factory.mktemp("leaks")
    sources = [
        SETUP,
        *PROBES.values(),
        *(source for source, _ in ENDS.values()),
        *BETWEEN.values(),
        ORDER,
        LAST,
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    nbformat.write(notebook, folder / "in.ipynb")
    words = ["papermill", "in.ipynb", "out.ipynb", "-k", "python3", "--no-progress-bar", "--log-output"]
    environment = os.environ | {"IPYTHONDIR": str(folder / "ipython")}
    del environment["PYTEST_CURRENT_TEST"]  # where it stands, ipykernel leaves the process's own stdout alone
    done = subprocess.run(
        [sys.executable, "-m", *words, "--execution-timeout", "60"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    (folder / "log").write_text(done.stdout + done.stderr)
    assert done.returncode == 1, done.stderr
    return folder


def cells(executed: Path) -> list[dict[str, Any]]:
    found = json.loads((executed / "out.ipynb").read_text())["cells"]
    return [cell for cell in found if "papermill-error-cell-tag" not in cell["metadata"].get("tags", [])]


def stream(cell: dict[str, Any]) -> str:
    """The pieces of a cell's streams together, as a reader sees them."""
    return "".join(text for output in cell["outputs"] for text in output.get("text", []))


def test_a_real_notebook_leaks_nothing_on_any_channel(executed):
    """The whole file: outputs, tracebacks, widget state, metadata, in any encoding."""
    text = (executed / "out.ipynb").read_text()
    assert leaks(text, forms(SECRET.encode())) == 0
    assert leaks(text, [SECRET[:32], SECRET[32:]]) == 0


def test_whole_streams_of_a_real_notebook_hold_nothing_either(executed):
    """What is in two outputs in the file is one line to its reader."""
    for cell in cells(executed):
        assert leaks(stream(cell), [SECRET, SECRET[32:]]) == 0


@pytest.mark.parametrize("probe", PROBES)
def test_each_channel_was_open(executed, probe):
    """A value that is no secret came through: the probe ran, and only the secret was held back."""
    cell = cells(executed)[1 + list(PROBES).index(probe)]
    text = json.dumps([cell["outputs"], stream(cell)])
    if "widget" in probe:
        text = (executed / "out.ipynb").read_text()
    assert CONTROL in text


def test_pictures_of_widgets_are_looked_through(executed):
    """They travel beside the state, as bytes, and stand in the file in base64."""
    widgets = json.loads((executed / "out.ipynb").read_text())["metadata"]["widgets"]
    ((state),) = widgets.values()
    buffers = [each for model in state["state"].values() for each in model.get("buffers", [])]
    assert [base64.b64decode(each["data"]).decode() for each in buffers] == [CONTROL + REDACTED]


@pytest.mark.parametrize("end", ENDS)
def test_what_only_begins_like_a_secret_is_not_lost(executed, end):
    """It comes when it is clear that no secret comes of it; of a long one so much is not shown."""
    cell = cells(executed)[1 + len(PROBES) + list(ENDS).index(end)]
    assert stream(cell) == ENDS[end][1]


@pytest.mark.parametrize("between", BETWEEN)
def test_pieces_of_a_secret_are_known_whatever_comes_between_them(executed, between):
    """A display does not make two secrets of one."""
    cell = cells(executed)[1 + len(PROBES) + len(ENDS) + list(BETWEEN).index(between)]
    out = "".join(text for o in cell["outputs"] if o.get("name") == "stdout" for text in o["text"])
    assert not any(SECRET[at : at + 8] in out for at in range(len(SECRET) - 8))
    assert REDACTED in out
    assert out.endswith(CONTROL)


def test_what_was_held_back_keeps_its_place(executed):
    """Before whatever the cell shows next."""
    outputs = cells(executed)[-2]["outputs"]
    shown = ["".join(o.get("text") or o["data"]["text/plain"]) for o in outputs]
    assert "".join(shown) == f"one {SECRET[:3]}'two'three {SECRET[:3]}'four'"


def test_the_log_of_the_pipeline_is_redacted_too(executed):
    """papermill writes there what cells put out, and the error that ended it.

    And ipykernel what child processes write, as it comes: past the guard, if the guard did not see to it.
    """
    log = (executed / "log").read_text()
    assert leaks(log, forms(SECRET.encode())) == 0
    assert CONTROL in log
    assert f"It stopped at {REDACTED} {CONTROL}." in log


def test_no_history_of_ipython_holds_it(executed):
    """papermill's kernels keep theirs in memory."""
    for path in (executed / "ipython").rglob("*"):
        assert path.is_dir() or leaks(path.read_bytes().decode("latin-1"), [SECRET]) == 0

"""In a real kernel, as a front end sees it: waits that are shown, questions, interrupts, cells run again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager

ROOT = Path(__file__).parents[1]
PATIENCE = 10
SETUP = """
from consulfed_lib import params, redact, steps, waiting
from consulfed_lib.results import Finding, Findings
from consulfed_lib.steps import panel
panel._TRIES = (0.1,)
from tests.conftest import RAW
from tests.switch import Switch
redact.install()
def new(**given):
    return steps.begin(Switch(params.check(RAW | given, "the test")))
"""
VIEW = "application/vnd.jupyter.widget-view+json"


@dataclass
class Ran:
    """What a cell showed: its outputs as a front end keeps them, and its error."""

    shown: list[dict[str, Any]] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)
    text: str = ""
    updates: int = 0
    error: dict[str, Any] | None = None
    raw: list[Any] = field(default_factory=list)

    def take(self, kind: str, content: dict[str, Any]) -> None:
        self.raw.append(content)
        name = content.get("transient", {}).get("display_id", "")
        if kind == "stream":
            self.text += content["text"]
        elif kind == "update_display_data":
            self.updates += 1
            self.shown[self.names[name]] = content["data"]
        elif kind in ("display_data", "execute_result"):
            if name:
                self.names[name] = len(self.shown)
            self.shown.append(content["data"])
        elif kind == "error":
            self.error = content

    def html(self, kind: str) -> str:
        """The newest output of that class."""
        return next(
            d["text/html"] for d in reversed(self.shown) if f"consulfed-{kind}" in d.get("text/html", "")
        )


class Lab:
    """A front end that takes input and, if it has `subshells`, sends widgets' messages as JupyterLab does."""

    def __init__(self, folder: Path):
        self.manager = KernelManager(
            kernel_name="python3", transport="ipc", connection_file=str(folder / "k.json")
        )
        state = {"XDG_STATE_HOME": str(folder), "PYTHONPATH": str(ROOT), "KUBECONFIG": str(folder / "none")}
        self.manager.start_kernel(cwd=str(folder), env=os.environ | state)
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)
        self.subshell = ""
        self.subshells = False
        self.widgets: dict[str, dict[str, Any]] = {}

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def run(self, code: str, *events: tuple[Callable[[Ran], bool], Callable[[], Any]],
            answer: str | None = None, stdin: bool = True) -> Ran:  # fmt: skip
        """Run a cell to its end. Once the first of each event says of what is shown that it is time, its second is
        done; one event after another."""
        ran, todo = Ran(), list(events)
        cell = self.client.execute(code, allow_stdin=stdin)
        give_up = time.monotonic() + PATIENCE
        while time.monotonic() < give_up:
            if self.client.stdin_channel.msg_ready():
                ran.text += self.client.get_stdin_msg()["content"]["prompt"]
                if answer is not None:
                    self.client.input(answer)
            if not self.client.iopub_channel.msg_ready():
                if todo and todo[0][0](ran):
                    todo.pop(0)[1]()
                time.sleep(0.005)
                continue
            message = self.client.get_iopub_msg()
            kind, content = message["msg_type"], message["content"]
            if kind.startswith("comm"):
                self._comm(kind, content)
            if message["parent_header"].get("msg_id") != cell and kind != "update_display_data":
                continue
            if kind == "status" and content["execution_state"] == "idle":
                return ran
            ran.take(kind, content)
        raise AssertionError(f"the cell did not end: {ran}")

    def _comm(self, kind: str, content: dict[str, Any]) -> None:
        comm = content["comm_id"]
        if kind == "comm_open":
            self.widgets[comm] = content["data"]["state"]
            if self.subshells and not self.subshell:
                self.subshell = self._new_subshell()
        elif kind == "comm_msg" and content["data"].get("method") == "update":
            self.widgets[comm] |= content["data"]["state"]
            if self.subshells and content["data"]["state"].get(
                "playing"
            ):  # not if it is so from the beginning
                self.send(comm, {"method": "update", "state": {"value": 1}, "buffer_paths": []})

    def _new_subshell(self) -> str:
        self.client.control_channel.send(self.client.session.msg("create_subshell_request", {}))
        return str(self.client.get_control_msg(timeout=PATIENCE)["content"]["subshell_id"])

    def send(self, comm: str, data: dict[str, Any]) -> None:
        message = self.client.session.msg("comm_msg", {"comm_id": comm, "data": data})
        message["header"]["subshell_id"] = self.subshell
        self.client.shell_channel.send(message)

    def widget(self, kind: str) -> str:
        return next(
            c for c, s in reversed(self.widgets.items()) if f"consulfed-{kind}" in s.get("_dom_classes", ())
        )

    def type_and_click(self, words: str, button: str = "apply") -> None:
        self.send(self.widget("name"), {"method": "update", "state": {"value": words}, "buffer_paths": []})
        self.send(self.widget(button), {"method": "custom", "content": {"event": "click"}})


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One for all: each test makes a step of its own in it."""
    lab = Lab(tmp_path_factory.mktemp("k"))
    assert lab.run(SETUP).error is None
    yield lab
    lab.close()


@pytest.fixture
def lab(kernel: Lab) -> Lab:
    kernel.subshells = False
    return kernel


def waits(ran: Ran) -> bool:
    return any("… waiting" in data.get("text/plain", "") for data in ran.shown)


def asks(ran: Ran) -> bool:
    """Whether there is a button, and not only the widget that tries whether it would be heard."""
    return any(VIEW in data and "VBox" in data["text/plain"] for data in ran.shown)


# Interrupts


@pytest.mark.parametrize("part", ["preflight", "plan", "apply", "verify"])
@pytest.mark.parametrize("mode", ["auto", "headless"])
def test_an_interrupt_ends_a_cell_in_three_lines_and_it_goes_on(lab: Lab, part: str, mode: str) -> None:
    """Whatever part is waiting. The same cell, and every one after it, then does what is missing."""
    lab.run(f"step = new(dry_run=False, mode={mode!r}); step.held = {{{part!r}}}")
    stopped = lab.run(
        f"step.{part}()",
        (lambda ran: waits(ran) or "waiting for" in ran.text, lab.manager.interrupt_kernel),
        answer="dc1",
    )
    assert stopped.error
    assert stopped.error["ename"] == "Interrupted"
    (lines,) = stopped.error["traceback"]
    found, done, hint = lines.splitlines()
    assert f"{part.capitalize()} of 01-primary-setup (dc1) was interrupted" in found
    assert ("1 created (switch)" in done) is (part == "apply")
    assert ("wait for light was begun" in done) is (part == "apply")
    assert "run the same again" in hint
    assert lab.run("step.held.clear()").error is None
    again = lab.run(f"step.{part}()", answer="dc1")
    assert again.error is None
    end = lab.run("step.result()", answer="dc1")
    assert end.error is None
    outcome = "unchanged" if part == "apply" else "applied"
    assert f"dc1: {outcome}" in end.shown[-1]["text/plain"]


def test_cells_in_any_order_do_what_is_missing(lab: Lab) -> None:
    """The last one first: everything before it is done, and what would be done is shown before it is confirmed."""
    ran = lab.run("step = new(dry_run=False); step.result()", answer="dc1")
    assert ran.error is None
    assert lab.run("print(step.calls)").text == "['preflight', 'plan', 'plan', 'apply', 'verify']\n"
    plan, summary, question, result = (data["text/plain"] for data in ran.shown)
    assert "Plan: 1 would create" in plan
    assert summary.startswith("To be applied in dc1: 1 would create")
    assert question == ""
    assert result.startswith("01-primary-setup dc1: applied")


def test_everything_can_be_run_again_from_the_top(lab: Lab) -> None:
    """With a dry run, as notebooks come: nobody is asked."""
    cells = [
        "step = new()",
        *(f"step.{part}()" for part in ("preflight", "plan", "apply", "verify", "result")),
    ]
    for code in cells * 2:
        assert lab.run(code).error is None
    assert "planned" in lab.run("step.result()").shown[-1]["text/plain"]


# Questions


def test_an_interrupt_at_the_question_writes_nothing(lab: Lab) -> None:
    """Who does not answer has not confirmed."""
    lab.run("step = new(dry_run=False)")
    ran = lab.run("step.apply()", (lambda ran: "Type dc1" in ran.text, lab.manager.interrupt_kernel))
    assert ran.error
    assert "nothing was changed by this cell" in ran.error["traceback"][0]
    assert lab.run("print(step.on)").text == "False\n"


@pytest.mark.parametrize("subshells", [False, True])
def test_a_wrong_name_is_said_and_writes_nothing(lab: Lab, subshells: bool) -> None:
    """In a line of input, and at the button, where it can be corrected."""
    lab.subshells = subshells
    lab.run("step = new(dry_run=False)")
    if not subshells:
        ran = lab.run("step.apply()", answer="dc2")
        assert ran.error
        assert "What was typed is not dc1; nothing was written." in ran.error["evalue"]
        return

    def said(ran: Ran) -> bool:
        return any("What was typed is not dc1" in str(state.get("value")) for state in lab.widgets.values())

    wrong, cancel = lambda: lab.type_and_click("dc2"), lambda: lab.type_and_click("dc1", "cancel")
    ran = lab.run("step.apply()", (asks, wrong), (said, cancel))
    assert ran.error
    assert "not confirmed for dc1; nothing was written" in ran.error["evalue"]
    assert lab.run("print(step.on)").text == "False\n"


def test_the_button_applies_once_the_name_is_typed(lab: Lab) -> None:
    """While the cell waits. What it leaves in the notebook is a sentence, and no widget."""
    lab.subshells = True
    lab.run("step = new(dry_run=False)")
    ran = lab.run(
        "import threading; step.apply()",
        (asks, lambda: lab.type_and_click("dc1")),
    )
    assert ran.error is None
    assert not any(VIEW in data for data in ran.shown)
    assert "dc1 was typed" in ran.html("confirmed")
    assert "switch: created" in ran.text


def test_an_interrupt_at_the_button_writes_nothing_and_one_after_it_stops_what_was_begun(lab: Lab) -> None:
    """What was confirmed runs in the cell, where an interrupt reaches it."""
    lab.subshells = True
    lab.run("step = new(dry_run=False); step.held = {'apply'}")
    ran = lab.run("step.apply()", (asks, lab.manager.interrupt_kernel))
    assert ran.error
    assert ran.error["ename"] == "Interrupted"
    assert not asks(ran)
    assert lab.run("print(step.on)").text == "False\n"
    click, interrupt = (asks, lambda: lab.type_and_click("dc1")), (waits, lab.manager.interrupt_kernel)
    ran = lab.run("step.apply()", click, interrupt)
    assert ran.error
    assert "1 created (switch)" in ran.error["traceback"][0]


# What is shown


def test_a_wait_is_one_display_that_stays_as_it_was_in_the_end(lab: Lab) -> None:
    """What is waited for, the state, the time so far and the usual time; static, once it is over."""
    lab.run("import threading; step = new(dry_run=True); step.held = {'preflight'}")
    free = "threading.Timer(1.1, step.held.clear).start(); step.preflight()"
    ran = lab.run(free)
    assert ran.updates >= 2
    assert len([d for d in ran.shown if "consulfed-progress" in d.get("text/html", "")]) == 1
    html = ran.html("progress")
    assert all(words in html for words in ("dc1: preflight", "✔ ready", "dark", "not known yet"))
    lab.run("step = new(dry_run=True); step.held = {'preflight'}")
    assert "not known yet" not in lab.run(free).html("progress")


def test_what_a_wait_sees_passes_the_guard(lab: Lab) -> None:
    """A display that is written anew is a channel like any other; so are a widget and its messages."""
    secret = "c29tZXRoaW5nLXNlY3JldA-of-the-federation"
    lab.subshells = True
    lab.run(f"redact.register({secret[::-1]!r}[::-1].encode()); step = new(dry_run=False)")
    lab.run("import threading; step.held = {'thread'}; step.state = " + repr(secret[::-1]) + "[::-1]")
    ran = lab.run(
        "threading.Timer(0.5, step.held.clear).start(); step.apply()",
        (asks, lambda: (lab.type_and_click(secret), lab.type_and_click("dc1"))),
    )
    assert ran.error is None
    assert "‹redacted›" in ran.html("progress")
    assert secret not in str(ran.raw)
    assert secret not in str(lab.widgets)


def test_long_tables_can_be_sorted_only_where_somebody_is(lab: Lab) -> None:
    """A record runs no script, and is printed."""
    table = "Findings('T', [Finding(f'x{i}', 'dc1', 'ok', str(i)) for i in range(20)])"
    for mode, sortable in (("interactive", True), ("headless", False)):
        lab.run(f"new(mode={mode!r})")
        assert ("onclick" in lab.run(table).shown[-1]["text/html"]) is sortable


# Without a front end that takes input


@pytest.mark.parametrize("mode", ["auto", "interactive"])
def test_headless_asks_nobody_and_shows_lines(lab: Lab, mode: str) -> None:
    """As papermill runs it. Where the parameters say that somebody is there, it writes nothing, and does not hang."""
    code = f"import threading; step = new(dry_run=False, mode={mode!r}); step.held = {{'preflight'}}\n"
    code += "threading.Timer(0.3, step.held.clear).start(); step.result()"
    ran = lab.run(code, stdin=False)
    if mode == "auto":
        assert ran.error is None
        assert "waiting for dc1: preflight: dark" in ran.text
        assert len(ran.shown) == 1
    else:
        assert ran.error
        assert "nobody can be asked" in ran.error["evalue"]
        assert lab.run("print(step.on)").text == "False\n"

"""The JupyterLab of `make jupyter`, and a notebook in it as a person works with it: by mouse and keyboard.

What ends a wait is what the page shows: the number in front of a cell that has run, an input box, a text.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from playwright.sync_api import BrowserContext, Locator, Page, expect

from consulfed_lib.places import SANDBOX_VARIABLE
from consulfed_lib.waiting import Seen, wait_for

NUMBER = re.compile(r"^\[\d+\]:$")
LONG = 60_000.0
"""Milliseconds within which the slowest cell ends; the steps' own deadlines are shorter."""
SETTINGS = {"docmanager-extension/plugin": {"autosave": False}}
"""A notebook is saved when a test saves it, and at no other time."""


_IDLE = """() => {
  const kernel = window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel
  return kernel?.connectionStatus === 'connected' && kernel.status === 'idle'
}"""

_INTO_SIGHT = """async e => {
  e.scrollIntoView()
  for (const _ of [1, 2]) await new Promise(requestAnimationFrame)
}"""


class Lab:
    """`consulfed jupyter` in a copy of the repository, with a home, a configuration and a token of its own."""

    def __init__(self, folder: Path, sandbox: Path, home: Path):
        self.folder, self.home = folder, home
        self._token = secrets.token_urlsafe(24)
        for name, settings in SETTINGS.items():
            path = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(settings))
        environment = {
            **{name: value for name, value in os.environ.items() if name != "KUBECONFIG"},
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "state"),
            "JUPYTER_CONFIG_DIR": str(home / "config"),
            "JUPYTER_DATA_DIR": str(home / "data"),
            "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
            "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
            "IPYTHONDIR": str(home / "ipython"),
            "JUPYTER_TOKEN": self._token,
            "LOGNAME": "sre",
            SANDBOX_VARIABLE: str(sandbox),
        }
        # The port is the kernel's choice; which one it was stands in the server's own file.
        options = (
            "--no-browser",
            "--ServerApp.ip=127.0.0.1",
            "--ServerApp.port=0",
            "--LabApp.expose_app_in_browser=True",
        )
        self.log = (home / "jupyterlab.log").open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "consulfed_lib.cli", "jupyter", *options],
            cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
        )  # fmt: skip
        self.url = ""
        wait_for("JupyterLab", self._look, 60, report=lambda line: None)

    def _look(self) -> Seen:
        assert self.process.poll() is None, (self.home / "jupyterlab.log").read_text()[-2000:]
        for path in (self.home / "runtime").glob("jpserver-*.json"):
            try:
                url = json.loads(path.read_text())["url"]
                with urlopen(f"{url}api?token={self._token}", timeout=5):
                    self.url = url
            except (OSError, URLError, ValueError) as error:
                return Seen(False, str(error))
        return Seen(bool(self.url), "no server yet")

    def open(self, page: Page, path: str) -> Notebook:
        """Load JupyterLab with one notebook, as a bookmark does."""
        page.goto(f"{self.url}lab/tree/{path}?token={self._token}&reset")
        notebook = Notebook(page, Path(path).name).ready()
        page.keyboard.press("Control+b")  # the notebook gets the file browser's room
        return notebook

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        finally:
            self.process.kill()
            self.process.wait()
            self.log.close()


class Outside:
    """What a browser's pages asked of anything that is not this machine's loopback."""

    def __init__(self, context: BrowserContext):
        self.asked: list[str] = []
        context.on("request", lambda request: self.note(request.url))
        context.on("page", lambda page: page.on("websocket", lambda socket: self.note(socket.url)))

    def note(self, url: str) -> None:
        """
        >>> outside = Outside.__new__(Outside); outside.asked = []
        >>> for url in ("http://127.0.0.1:8888/lab", "data:,x", "https://example.com/font"): outside.note(url)
        >>> outside.asked
        ['https://example.com/font']
        """
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob", "about") and parts.hostname != "127.0.0.1":
            self.asked.append(url)


class Notebook:
    """A notebook in the page's main area."""

    def __init__(self, page: Page, name: str):
        self.page, self.name = page, name
        self.panel = page.locator(".jp-NotebookPanel:visible")
        self.cells = self.panel.locator(".jp-Cell")
        self.code = self.panel.locator(".jp-CodeCell")
        self.outputs = self.panel.locator(".jp-Cell-outputWrapper")

    def ready(self) -> Notebook:
        """Shown, and its kernel is idle."""
        title = self.page.locator(".lm-DockPanel-tabBar .lm-mod-current .lm-TabBar-tabLabel")
        expect(title).to_have_text(self.name, timeout=LONG)
        self.idle()
        return self

    def idle(self) -> None:
        """The page's own word, because its sign is the same for a kernel that is idle and for one not heard of yet."""
        self.page.wait_for_function(_IDLE, timeout=LONG)

    # -- cells --------------------------------------------------------------------------------------------------

    def cell(self, source: str) -> Locator:
        """The code cell whose source begins so; one out of sight JupyterLab makes when it has nothing else to do."""
        found = self.code.filter(has=self.page.locator(".cm-content", has_text=source))
        expect(found).to_have_count(1, timeout=LONG)
        return found

    def count(self, cell: Locator) -> str:
        """What stands in front of it: its number, `*` while it runs, nothing before it ran."""
        return cell.locator(".jp-InputArea-prompt").inner_text().strip("[]: \xa0")

    def start(self, source: str) -> Locator:
        """Run a cell by its key, and be back while it runs."""
        cell = self.cell(source)
        before = self.count(cell)
        cell.locator(".jp-InputArea-prompt").click()
        self.page.keyboard.press("Control+Enter")
        expect(cell.locator(".jp-InputArea-prompt")).not_to_have_text(f"[{before or ' '}]:", timeout=LONG)
        return cell

    def ended(self, cell: Locator) -> str:
        """Wait for the end of a cell that was started; what it shows."""
        expect(cell.locator(".jp-InputArea-prompt")).to_have_text(NUMBER, timeout=LONG)
        return self.output(cell)

    def run(self, source: str) -> str:
        """Run a cell to its end; what it shows."""
        return self.ended(self.start(source))

    def output(self, cell: Locator | str) -> str:
        cell = self.cell(cell) if isinstance(cell, str) else cell
        # What is out of sight is not laid out, and has no words then.
        cell.evaluate(_INTO_SIGHT)
        return cell.locator(".jp-Cell-outputWrapper").inner_text()

    def confirm(self, name: str) -> None:
        """Answer what a cell asks before it applies: in the field with its button, or, where the page is too slow to be
        heard, in the kernel's own line."""
        field = self.panel.locator(".consulfed-confirm .consulfed-name input")
        line = self.panel.locator(".jp-Stdin-input")
        expect(field.or_(line)).to_be_visible(timeout=LONG)
        if line.is_visible():
            line.fill(name)
            line.press("Enter")
            return
        field.fill(name)
        self.panel.locator(".consulfed-confirm .consulfed-apply").click()

    def shows(self, source: str, words: str) -> None:
        """Wait until a cell shows what it showed before."""
        cell = self.cell(source)
        cell.evaluate(_INTO_SIGHT)
        expect(cell.locator(".jp-Cell-outputWrapper")).to_have_text(words, use_inner_text=True, timeout=LONG)

    def replace(self, source: str, line: str, old: str, new: str) -> None:
        """Put another word into a line of a cell, as with a double click and the keyboard."""
        found = self.cell(source).locator(".cm-line", has_text=line).first
        found.get_by_text(old, exact=True).dblclick()
        self.page.keyboard.type(new)
        expect(found).to_contain_text(new)
        self.page.keyboard.press("Escape")

    # -- menus and toolbar --------------------------------------------------------------------------------------

    def menu(self, *words: str) -> None:
        """Choose an entry of the main menu, `("Run", "Run All Cells")`."""
        self.page.get_by_role("menubar").get_by_role("menuitem", name=words[0], exact=True).click()
        for word in words[1:]:
            self.page.locator(".lm-Menu").get_by_role("menuitem", name=word).first.click()

    def run_all(self) -> None:
        """Run → Run All Cells, to the end of the last cell or the first error."""
        self.run_all_starts()
        self.run_all_ends()

    def run_all_starts(self) -> None:
        before = self.count(self.code.first)
        self.menu("Run", "Run All Cells")
        expect(self.code.first.locator(".jp-InputArea-prompt")).not_to_have_text(
            f"[{before or ' '}]:", timeout=LONG
        )

    def run_all_ends(self) -> None:
        expect(self.code.locator(".jp-InputArea-prompt", has_text="*")).to_have_count(0, timeout=LONG)

    def interrupt(self) -> None:
        """The toolbar's square."""
        self.panel.locator(
            "[data-command='notebook:interrupt-kernel'], [data-jp-item-name='interrupt']"
        ).first.click()

    def save(self) -> None:
        self.page.keyboard.press("Control+s")
        expect(self.page.locator(".lm-DockPanel-tabBar .lm-mod-current.jp-mod-dirty")).to_have_count(0)

    def follow(self, link: str, within: Locator | None = None) -> None:
        """Click on a link to another notebook, which is then in front."""
        (within or self.panel).get_by_role("link").and_(self.page.locator(f"a[href*='{link}']")).first.click()
        self.name = link
        self.ready()

    def open(self, name: str) -> None:
        """Bring a notebook that is open to the front, by its tab."""
        self.page.locator(".lm-DockPanel-tabBar .lm-TabBar-tab", has_text=name).click()
        self.name = name
        self.ready()

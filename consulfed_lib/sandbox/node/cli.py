"""The real `consul` command line in a container: what a pod of anyone's may run here, beside the sandbox's programs.

Nothing else is run, no shell and no other program of this machine; and subcommands that would start one, or an
agent, are refused. Paths mean the container's files: a mounted file is given by where it is here, any other path
by a place in the container's own folder, so that no file of this machine is read or written.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from .process import exit_code, spawn, stop
from .resolver import environment, hosts_of_pod, names_among
from .workload import Container, Program

Send = Callable[[bytes], Awaitable[None]]

_REFUSED = {"agent", "debug", "exec", "lock", "watch"}
"""Subcommands that start programs, or write folders, on the machine that the CLI runs on: this one."""

_TAKES_FILES = {"config", "intention", "services", "snapshot", "validate"}
"""Subcommands whose plain arguments may be files; elsewhere only a flag's value, or what follows an @, is one."""

_STREAMS = {"/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/null"}

_PATH_VARIABLES = (
    "CONSUL_CACERT",
    "CONSUL_CAPATH",
    "CONSUL_CLIENT_CERT",
    "CONSUL_CLIENT_KEY",
    "CONSUL_HTTP_TOKEN_FILE",
)

_IMAGE = re.compile(r"(?:.*/)?consul(?:-enterprise)?(?:[:@].*)?")
"""Images whose entry point is the consul command: `hashicorp/consul:1.22`, `consul`, with any registry."""

_NO_SUBCOMMAND = re.compile(r"[./]|(?:ba|da|k|z)?sh$")


def cli_words(spec: Mapping[str, Any], arguments: list[str]) -> list[str] | None:
    """What follows `consul` in a container whose command is the CLI; None for any other container.

    Without a command of its own a consul image runs its arguments as a subcommand, and mere flags as an agent's.

    >>> cli_words({"command": ["/bin/consul"]}, ["/bin/consul", "members", "-wan"])
    ['members', '-wan']
    >>> cli_words({"image": "hashicorp/consul:1.22"}, ["members"])
    ['members']
    >>> cli_words({"image": "hashicorp/consul:1.22", "command": ["sh"]}, ["sh", "-c", "consul members"])
    """
    if arguments and PurePosixPath(arguments[0]).name == "consul":
        return arguments[1:]
    if spec.get("command") or not arguments or not _IMAGE.fullmatch(spec.get("image", "")):
        return None
    if _NO_SUBCOMMAND.match(arguments[0]):
        return None
    return ["agent", *arguments] if arguments[0].startswith("-") else list(arguments)


def refusal(words: list[str]) -> str:
    """Why the CLI is not run with these arguments; empty when it is."""
    subcommand = next((word for word in words if not word.startswith("-")), "")
    if subcommand in _REFUSED or (subcommand == "connect" and "ca" not in words):
        return f'"consul {subcommand}" is not executed in a sandbox pod'
    return ""


def arguments_here(container: Container, words: list[str]) -> list[str]:
    """The arguments with each path replaced by where that file is on this machine."""
    subcommand = next((word for word in words if not word.startswith("-")), "")
    return [_argument(container, word, subcommand in _TAKES_FILES) for word in words]


def _argument(container: Container, word: str, may_be_file: bool) -> str:
    flag, equals, value = word.partition("=")
    if not (equals and flag.startswith("-")):
        flag, equals, value = "", "", word
    if value.startswith("@"):
        return f"{flag}{equals}@{_place(container, value[1:])}"
    if value.startswith("/") and (equals or may_be_file or _is_mounted(container, value)):
        return f"{flag}{equals}{_place(container, value)}"
    if ".." in value.split("/"):
        return f"{flag}{equals}{_place(container, value)}"
    return word


def _is_mounted(container: Container, path: str) -> bool:
    folder = path.rstrip("/") + "/"
    return any(name == path or name.startswith(folder) for name in container.files)


def _place(container: Container, path: str) -> Path:
    """Where a path of the container is; a relative one begins at the container's root, its working directory."""
    absolute = os.path.normpath(f"/{path}")
    absolute = absolute if not absolute.startswith("//") else absolute[1:]
    if absolute in _STREAMS:
        return Path(absolute)
    with contextlib.suppress(KeyError):
        return container.on_disk(absolute)
    made = container.folder / "files" / absolute.lstrip("/")
    made.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return made


def environment_here(container: Container) -> dict[str, str]:
    """The container's CONSUL_… variables, paths in them replaced as in arguments."""
    env = {name: value for name, value in container.env.items() if name.startswith("CONSUL_")}
    for name in _PATH_VARIABLES:
        if env.get(name):
            env[name] = str(_place(container, env[name]))
    return env


async def start_cli(
    container: Container, words: list[str], env: Mapping[str, str], **streams: Any
) -> asyncio.subprocess.Process:
    """Start the CLI in the container's own folder. Raises OSError, or ResolverError for names it cannot resolve."""
    scratch = container.folder / "exec"
    scratch.mkdir(mode=0o700, exist_ok=True)
    names = names_among(_dialled(words, env))
    hosts = await hosts_of_pod(container, names) if names else None
    return await spawn(
        [container.tools["consul"], *arguments_here(container, words)],
        env={**env, **await environment(container, names, hosts), "HOME": str(scratch)},
        folder=scratch,
        **streams,
    )


def _dialled(words: list[str], env: Mapping[str, str]) -> list[str]:
    """The host that the command talks to: its last -http-addr, else the variable's."""
    given = [word.partition("=")[2] for word in words if re.match(r"--?http-addr=", word)]
    given += [after for word, after in itertools.pairwise(words) if re.fullmatch(r"--?http-addr", word)]
    address = (given or [env.get("CONSUL_HTTP_ADDR", "")])[-1]
    if address.startswith("unix:"):
        return []
    return [urlsplit(address if "://" in address else f"//{address}").hostname or ""]


async def run_cli(
    container: Container,
    words: list[str],
    env: Mapping[str, str],
    stdin: asyncio.StreamReader | None,
    stdout: Send,
    stderr: Send,
) -> int:
    """Run the CLI with these streams, to its end; its exit code. What is refused says so on stderr: 126."""
    refused = refusal(words)
    if refused:
        await stderr(f"exec failed: {refused}\n".encode())
        return 126
    # A pipe, as a container has it: asyncio's own is a socket, which nobody can open as /dev/stdin.
    reading, writing = os.pipe()
    sink = os.fdopen(writing, "wb", buffering=0)
    try:
        process = await start_cli(container, words, env, stdin=reading, stderr=asyncio.subprocess.PIPE)
    except BaseException:
        sink.close()
        raise
    finally:
        os.close(reading)
    assert process.stdout is not None
    assert process.stderr is not None
    feed = asyncio.create_task(_feed(stdin, sink))
    try:
        await asyncio.gather(_drain(process.stdout, stdout), _drain(process.stderr, stderr))
        return exit_code(await process.wait())
    finally:
        # Also when the client has gone away and this task is cancelled.
        feed.cancel()
        await stop(process, grace=0)


async def _feed(source: asyncio.StreamReader | None, pipe: BinaryIO) -> None:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, pipe)
    sink = asyncio.StreamWriter(transport, protocol, None, loop)
    try:
        with contextlib.suppress(ConnectionError):  # the command ended without reading all of its input
            while source is not None and (data := await source.read(1 << 16)):
                sink.write(data)
                await sink.drain()
    finally:
        transport.close()


async def _drain(source: asyncio.StreamReader, send: Send) -> None:
    while data := await source.read(1 << 16):
        await send(data)


def command_of(command: list[str]) -> list[str] | None:
    """What follows `consul` in a command that is executed in a container; None when it is another program."""
    return command[1:] if PurePosixPath(command[0]).name == "consul" else None


async def refuse_command(command: list[str], stderr: Send) -> int:
    """Say that a command is none that a sandbox pod executes; the exit code of a container without a shell."""
    await stderr(f'exec failed: "{command[0]}": a sandbox pod executes only the consul command\n'.encode())
    return 126


class ConsulCli(Program):
    """A container whose command is the CLI: a person's own Job or Pod, that ends with the CLI's exit code."""

    def __init__(self, container: Container, words: list[str]):
        super().__init__(container)
        self._words = words
        self._env = environment_here(container)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        refused = refusal(self._words)
        if refused:
            raise PermissionError(refused)
        self._process = await start_cli(self.container, self._words, self._env, log=self.container.log)

    async def ready(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def wait(self) -> int:
        return 0 if self._process is None else exit_code(await self._process.wait())

    async def stop(self) -> None:
        if self._process is not None:
            await stop(self._process, grace=self.container.grace)

    async def exec(
        self, command: list[str], stdin: asyncio.StreamReader | None, stdout: Send, stderr: Send
    ) -> int:
        words = command_of(command)
        if words is None:
            return await refuse_command(command, stderr)
        return await run_cli(self.container, words, self._env, stdin, stdout, stderr)

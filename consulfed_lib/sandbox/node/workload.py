"""What the kubelet hands to the program of a container, and what it expects of it."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import shlex
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..names import Names

if TYPE_CHECKING:
    from ..controllers.client import KubeClient
    from ..layout import ClusterLayout


@dataclass
class Container:
    """A container of a pod that is starting: everything that its spec asked for is resolved.

    Attributes:
        cluster: the cluster's addresses and folders.
        client: a client of the API server with the rights of the pod's own service account.
        token: the bearer token (a signed JWT) of that service account: what a pod finds under
            /var/run/secrets/kubernetes.io/serviceaccount/token.
        pod: the Pod object.
        address: the pod's IP.
        env: the container's environment, `secretKeyRef` and the like resolved.
        files: absolute path in the container → content, of every Secret, ConfigMap, downward API and
            projected volume that the container mounts.
        arguments: command and args, in one list.
        folder: a private folder (0700) for this container's files; removed with the pod.
        data: a folder that lives as long as the PersistentVolumeClaim (or the pod, where there is none).
        log: appends a line to what `kubectl logs` shows.
        tools: name → path of the programs on this machine (`consul`, `envoy`, `helm`, `kubectl`).
        dns: the cluster's DNS, as far as pods use it to find each other.
        names: the DNS names outside the cluster, of which the cluster's DNS knows as well.
        spec: what the pod's spec says of this container.
    """

    cluster: ClusterLayout
    client: KubeClient
    token: str
    pod: dict[str, Any]
    address: str
    env: dict[str, str]
    files: dict[str, bytes]
    arguments: list[str]
    folder: Path
    data: Path
    log: Callable[[str], None]
    tools: Mapping[str, Path] = field(default_factory=dict)
    dns: Dns = field(default_factory=lambda: NoDns())
    names: Names = field(default_factory=Names)
    spec: dict[str, Any] = field(default_factory=dict)
    flags: dict[str, list[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.flags = parse_flags(self.arguments, self.env)

    @property
    def name(self) -> str:
        return self.pod["metadata"]["name"]

    @property
    def namespace(self) -> str:
        return self.pod["metadata"]["namespace"]

    @property
    def component(self) -> str:
        return self.pod["metadata"].get("labels", {}).get("component", "")

    @property
    def grace(self) -> float:
        """Seconds that a program has to end by itself: the deletion's own, else the pod's."""
        asked = self.pod["metadata"].get("deletionGracePeriodSeconds")
        return float(self.pod["spec"].get("terminationGracePeriodSeconds", 30) if asked is None else asked)

    def flag(self, name: str, default: str = "") -> str:
        """The last value of a flag given as -name=value, -name value or --name=value; a bare one: `true`."""
        return self.flags.get(name, [default])[-1]

    def on_disk(self, path: str) -> Path:
        """Where a file of the container, or a folder of them, is on this machine; written (0600) on demand.

        KeyError when the container has no such file.
        """
        root = self.folder / "files"
        wanted = {name for name in self.files if name == path or name.startswith(path.rstrip("/") + "/")}
        if not wanted:
            raise KeyError(path)
        for name in wanted:
            write_private(root / name.lstrip("/"), self.files[name])
        return root / path.strip("/")


class Dns(ABC):
    """The cluster's DNS: names of Services, and of the pods behind a headless one, to pod addresses."""

    @abstractmethod
    async def resolve(self, host: str) -> list[str]:
        """Addresses of `name`, `name.namespace`, `name.namespace.svc…` or `pod.name.namespace.svc…`.

        A literal address is its own answer; an unknown name has none: an empty list.
        """


class NoDns(Dns):
    """Literal addresses only; for a container that is started outside a cluster, as in tests."""

    async def resolve(self, host: str) -> list[str]:
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            return []


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only this user can read, all at once: a reader sees the old content or the new."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    draft.replace(path)


def expand_variables(word: str, env: Mapping[str, str]) -> str:
    """A word of a shell script with $NAME, ${NAME} and ${NAME?} replaced; what is not set becomes empty.

    >>> expand_variables("-encrypt=${KEY}", {"KEY": "x"})
    '-encrypt=x'
    """
    return re.sub(r"\$(?:\{(\w+)\??\}|(\w+))", lambda match: env.get(match[1] or match[2], ""), word)


def parse_flags(arguments: list[str], env: Mapping[str, str] | None = None) -> dict[str, list[str]]:
    """Go-style flags of a command line, also where the command is a shell script in one argument.

    In a script the shell would expand variables: with `env` they are expanded here. (Outside a script it is
    the kubelet that expands, and its form is `$(NAME)`.)

    >>> parse_flags(["/bin/sh", "-e", "exec tool sub \\\\\\n  -name=a -on \\\\\\n  --list=1 -list=2"])
    {'e': ['exec'], 'name': ['a'], 'on': ['true'], 'list': ['1', '2']}
    >>> parse_flags(["sh", "-ec", "tool -in=${NS} -x"], {"NS": "consul"})["in"]
    ['consul']
    """
    words: list[str] = []
    for argument in arguments:
        script = argument.replace("\\\n", " ")
        if not re.search(r"\s", script):
            words.append(script)
            continue
        try:
            found = shlex.split(script, comments=True)
        except ValueError:  # a here-document with an apostrophe: no quoting to go by
            found = script.split()
        words += found if env is None else [expand_variables(word, env) for word in found]
    flags: dict[str, list[str]] = {}
    for position, word in enumerate(words):
        match = re.fullmatch(r"--?([A-Za-z][\w-]*)(?:=(.*))?", word, re.DOTALL)
        if not match:
            continue
        name, value = match.groups()
        if value is None:
            following = words[position + 1] if position + 1 < len(words) else "-"
            value = "true" if following.startswith("-") else following
        flags.setdefault(name, []).append(value)
    return flags


Job = Callable[[Container], Awaitable[int]]
"""The work of a Job's container; returns the exit code. Its last log line says why it failed."""


class Program(ABC):
    """A long-running container."""

    def __init__(self, container: Container):
        self.container = container

    @abstractmethod
    async def start(self) -> None:
        """Start it; returns when it is started, which is not yet ready. Raises an Exception that says why."""

    @abstractmethod
    async def ready(self) -> bool:
        """Whether it answers; the pod's Ready condition follows it. Called several times a second."""

    @abstractmethod
    async def wait(self) -> int:
        """The exit code, once it has ended by itself; the kubelet then restarts it, with back-off."""

    @abstractmethod
    async def stop(self) -> None:
        """End it, gracefully first, and everything that it started; harmless when it has ended already."""

    async def exec(
        self,
        command: list[str],
        stdin: asyncio.StreamReader | None,
        stdout: Callable[[bytes], Awaitable[None]],
        stderr: Callable[[bytes], Awaitable[None]],
    ) -> int:
        """Run a command in the container; only what the program's own class allows.

        The base class allows nothing: like a container without a shell it answers 126 with a line on stderr.
        """
        await stderr(f'exec failed: "{command[0]}": not in this container\n'.encode())
        return 126

"""Images of applications that the sandbox can run: a server that answers one text, and a box with curl in it.

They stand in for a team's own service and its client. Nothing is pulled, and no program of this machine is started:
the server answers inside the sandbox's own process, and curl is the one request that it understands.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from .workload import Container, Program

Send = Callable[[bytes], Awaitable[None]]

_LISTEN = ":5678"
"""Where hashicorp/http-echo listens when it is not told."""

_LOCAL = ("localhost", "127.0.0.1")
_REFUSED, _USAGE, _CONNECT, _TIMEOUT, _EMPTY, _RESET = 126, 2, 7, 28, 52, 56
"""Exit codes: of a container without that program, and curl's own."""


def image_name(spec: Mapping[str, Any]) -> str:
    """The last part of a container's image, without tag and digest.

    >>> image_name({"image": "registry.example.com:5000/hashicorp/http-echo:1.0"})
    'http-echo'
    """
    return re.split("[:@]", str(spec.get("image", "")).rpartition("/")[2])[0]


class HttpEcho(Program):
    """hashicorp/http-echo: answers each request with the text of its flag -text."""

    def __init__(self, container: Container):
        super().__init__(container)
        self._runner: web.AppRunner | None = None
        self._ended = asyncio.Event()

    async def start(self) -> None:
        text = self.container.flag("text")
        if not text:
            raise ValueError("Missing -text option!")

        async def answer(request: web.Request) -> web.Response:
            self.container.log(f"{request.remote} {request.method} {request.path} 200")
            return web.Response(text=f"{text}\n")

        application = web.Application()
        application.router.add_route("*", "/{path:.*}", answer)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        port = int(self.container.flag("listen", _LISTEN).rpartition(":")[2])
        # A container listens on every address of its pod, which here is one.
        await web.TCPSite(self._runner, self.container.address, port).start()
        self.container.log(f"[INFO] server is listening on :{port}")

    async def ready(self) -> bool:
        return self._runner is not None and not self._ended.is_set()

    async def wait(self) -> int:
        await self._ended.wait()
        return 0

    async def stop(self) -> None:
        self._ended.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


class CurlBox(Program):
    """curlimages/curl that sleeps: `kubectl exec … -- curl http://localhost:<port>` is what it is there for."""

    def __init__(self, container: Container):
        super().__init__(container)
        self._ended = asyncio.Event()

    async def start(self) -> None:
        words = self.container.arguments
        if not words or words[0].rpartition("/")[2] != "sleep":
            raise PermissionError("the sandbox lets this image do one thing: sleep, until curl is executed")

    async def ready(self) -> bool:
        return not self._ended.is_set()

    async def wait(self) -> int:
        await self._ended.wait()
        return 0

    async def stop(self) -> None:
        self._ended.set()

    async def exec(
        self, command: list[str], stdin: asyncio.StreamReader | None, stdout: Send, stderr: Send
    ) -> int:
        """curl to a port of the pod's own localhost; every other command and every other place is refused."""
        if command[0].rpartition("/")[2] != "curl":
            await stderr(
                f'exec failed: "{command[0]}": a sandbox pod of this image executes only curl\n'.encode()
            )
            return _REFUSED
        try:
            asked = Curl.of(command[1:])
        except ValueError as error:
            await stderr(f"curl: {error}\n".encode())
            return _USAGE
        if asked.refusal:
            await stderr(f"exec failed: {asked.refusal}\n".encode())
            return _REFUSED
        code, out, why = await asked.run(self.container.address)
        await stdout(out.encode())
        if why and not asked.quiet:
            await stderr(f"curl: ({code}) {why}\n".encode())
        return code


class Curl:
    """One GET as curl would do it: `-s -S -f --max-time SECONDS -w FORMAT URL`."""

    def __init__(self, url: str, flags: set[str], seconds: float, form: str):
        self.url, self.flags, self.seconds, self.form = url, flags, seconds, form

    @classmethod
    def of(cls, words: list[str]) -> Curl:
        """Raises ValueError for what this curl does not know."""
        url, flags, given, rest = "", set[str](), {"m": "0", "w": ""}, list(words)
        longer = {"silent": "s", "show-error": "S", "fail": "f", "max-time": "m", "write-out": "w"}
        while rest:
            word = rest.pop(0)
            if not word.startswith("-"):
                url = word
                continue
            letters = [longer.get(word[2:], word)] if word.startswith("--") else list(word[1:])
            for letter in letters:
                if letter in given and rest:
                    given[letter] = rest.pop(0)
                elif letter in ("s", "S", "f"):
                    flags.add(letter)
                else:
                    raise ValueError(f"option {word}: is unknown in the sandbox")
        if not url:
            raise ValueError("no URL specified")
        return cls(url, flags, float(given["m"]), given["w"])

    @property
    def quiet(self) -> bool:
        return "s" in self.flags and "S" not in self.flags

    @property
    def refusal(self) -> str:
        """Why the request is not made; empty when it is."""
        parts = urlsplit(self.url)
        if parts.scheme == "http" and parts.hostname in _LOCAL and parts.port:
            return ""
        return f"in a sandbox pod curl asks http://localhost:<port> only, not {self.url}"

    async def run(self, address: str) -> tuple[int, str, str]:
        """(exit code, standard output, error message), of the pod whose localhost that address is."""
        parts, began = urlsplit(self.url), time.monotonic()
        status, body, code, why = 0, "", 0, ""
        try:
            limit = aiohttp.ClientTimeout(total=self.seconds or None)
            async with aiohttp.ClientSession(timeout=limit) as session:
                url = parts._replace(netloc=f"{address}:{parts.port}").geturl()
                async with session.get(url, headers={"Host": parts.netloc}) as response:
                    status, body = response.status, await response.text()
        except aiohttp.ClientConnectorError:
            code, why = (
                _CONNECT,
                f"Failed to connect to {parts.hostname} port {parts.port}: Connection refused",
            )
        except aiohttp.ServerDisconnectedError:
            code, why = _EMPTY, "Empty reply from server"
        except TimeoutError:
            took = round((time.monotonic() - began) * 1000)
            code, why = _TIMEOUT, f"Operation timed out after {took} milliseconds with 0 bytes received"
        except (aiohttp.ClientError, OSError):
            code, why = _RESET, "Recv failure: Connection reset by peer"
        if status >= 400 and "f" in self.flags:
            code, body, why = 22, "", f"The requested URL returned error: {status}"
        facts = {"http_code": f"{status:03}", "time_total": f"{time.monotonic() - began:.6f}"}
        said = re.sub(r"%\{(\w+)\}", lambda match: facts.get(match[1], ""), self.form).replace("\\n", "\n")
        return code, body + said, why

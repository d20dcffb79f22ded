"""From a server pod's command line and mounted files to a configuration that the Consul at hand accepts.

The chart writes for one Consul version; the sandbox may have another one. What to do with a key is decided by
asking the binary (`consul validate`): the `tls` block has flat equivalents, the `ui_config` block a switch,
and a key without equivalent is left out, with a line in the pod's log. A key that guards something is never
left out: then the server does not start.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import hcl
from .process import spawn
from .workload import Container, expand_variables, write_private

Config = dict[str, Any]

_INVALID_KEY = re.compile(r"invalid config key (\S+)")

_GUARDS = ("acl", "auto_encrypt", "ca_", "cert_", "connect", "encrypt", "key_file", "tls", "verify_")
"""Beginnings of keys whose loss would make a server less safe, or another server, than was asked for."""

_FLAGS = {
    "datacenter": "datacenter",
    "domain": "domain",
    "node": "node_name",
    "encrypt": "encrypt",
    "bootstrap-expect": "bootstrap_expect",
    "log-level": "log_level",
    "serf-lan-port": "ports.serf_lan",
    "https-port": "ports.https",
    "http-port": "ports.http",
    "grpc-port": "ports.grpc",
}
"""Flags of `consul agent` that charts use, with the configuration key of each."""

_LISTS = {"retry-join": "retry_join", "recursor": "recursors"}


class ConfigError(Exception):
    """The pod's configuration cannot be run; the message says which part and why."""


def server_config(container: Container) -> tuple[Config, list[str]]:
    """The merged configuration of a pod's `consul agent` command, as the chart meant it, and those -hcl snippets
    that only Consul itself can read.

    Addresses, folders and join names are still the container's own. Raises ConfigError.
    """
    files = _files_after_script(container)
    config: Config = {}
    for name in _config_files(container, files):
        try:
            merge(config, json.loads(files[name] or b"{}"))
        except ValueError as error:
            raise ConfigError(f"{name} is not JSON: {error}") from error
    for flag, key in _FLAGS.items():
        value = container.flag(flag)
        if value:
            number = key.startswith("ports.") or key == "bootstrap_expect"
            _put(config, key, int(value) if number else value)
    for flag, key in _LISTS.items():
        merge(config, {key: container.flags.get(flag, [])})
    for flag in ("server", "ui"):
        if container.flag(flag) == "true":
            config[flag] = True
    unread = []
    for snippet in container.flags.get("hcl", []):
        try:
            merge(config, hcl.parse(snippet))
        except ValueError:
            unread.append(snippet)
    return config, unread


def merge(into: Config, more: Config) -> Config:
    """Merge as Consul merges its files: objects key by key, lists appended, otherwise the later one wins."""
    for key, value in more.items():
        before = into.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            merge(before, value)
        elif isinstance(before, list) and isinstance(value, list):
            into[key] = before + value
        else:
            into[key] = json.loads(json.dumps(value))
    return into


def on_this_machine(config: Any, container: Container) -> Any:
    """The same configuration with each path of a mounted file replaced by where that file is here."""
    if isinstance(config, dict):
        return {key: on_this_machine(value, container) for key, value in config.items()}
    if isinstance(config, list):
        return [on_this_machine(value, container) for value in config]
    if isinstance(config, str) and config.startswith("/"):
        try:
            return str(container.on_disk(config))
        except KeyError:
            return config
    return config


async def fit(config: Config, container: Container, folder: Path) -> Config:
    """The configuration in the words of the Consul at hand. Raises ConfigError with what Consul says."""
    draft = folder / "draft.json"
    for _ in range(5):  # each round translates every key that was complained about; two are usual
        write_private(draft, json.dumps(config).encode())
        process = await spawn([container.tools["consul"], "validate", draft], env={"HOME": str(folder)})
        output, _ = await process.communicate()
        draft.unlink()
        if process.returncode == 0:
            return config
        complaint = output.decode(errors="replace").strip()
        unknown = _INVALID_KEY.findall(complaint)
        if not unknown:
            raise ConfigError(f"consul refuses this configuration: {complaint}")
        for key in unknown:
            _translate(config, key, container)
    raise ConfigError(f"consul refuses this configuration: {complaint}")


def _translate(config: Config, key: str, container: Container) -> None:
    value = _take(config, key)
    if key == "tls":
        merge(config, _flat_tls(value))
    elif key == "ui_config":
        merge(config, {"ui": bool(value.get("enabled", False))})
    elif key.startswith(_GUARDS):
        raise ConfigError(f"this Consul does not know the setting {key}, which is not one to leave out")
    else:
        container.log(f"sandbox: this Consul does not know the setting {key}: left out")


def _flat_tls(tls: Config) -> Config:
    """The `tls` block (Consul 1.12) in the flat keys that older versions know, and newer ones deprecate.

    What it does not say is left as other files have it.
    """
    defaults, rpc, https = (tls.get(part, {}) for part in ("defaults", "internal_rpc", "https"))
    flat = {}
    for name in ("ca_file", "ca_path", "cert_file", "key_file"):
        value = rpc.get(name) or defaults.get(name) or https.get(name)
        if value:
            flat[name] = value
    said = {
        "verify_outgoing": rpc.get("verify_outgoing", defaults.get("verify_outgoing")),
        "verify_incoming_rpc": rpc.get("verify_incoming", defaults.get("verify_incoming")),
        "verify_incoming_https": https.get("verify_incoming", defaults.get("verify_incoming")),
        "verify_server_hostname": rpc.get("verify_server_hostname"),
    }
    return flat | {key: bool(value) for key, value in said.items() if value is not None}


def _put(config: Config, key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        config = config.setdefault(parent, {})
    config[last] = value


def _take(config: Config, key: str) -> Any:
    *parents, last = key.split(".")
    for parent in parents:
        config = config[parent]
    return config.pop(last)


def _config_files(container: Container, files: Mapping[str, bytes]) -> list[str]:
    """The files that -config-dir (its own, by name) and -config-file load, in the order given."""
    names: list[str] = []
    for folder in container.flags.get("config-dir", []):
        prefix = folder.rstrip("/") + "/"
        own = (name for name in files if name.startswith(prefix) and "/" not in name[len(prefix) :])
        names += sorted(name for name in own if name.endswith(".json"))
    return names + [name for name in container.flags.get("config-file", []) if name in files]


def _files_after_script(container: Container) -> dict[str, bytes]:
    """The container's files once the chart's start script has run.

    The script is never given to a shell. Of its lines two kinds change files, and are done here: `cp FROM
    TO`, and `sed -E… "s|WORD|VALUE|g" FILE`, with which the chart fills HOST_IP, POD_IP and HOSTNAME in.
    """
    files = dict(container.files)
    for script in container.arguments:
        for line in script.replace("\\\n", " ").splitlines():
            copy = re.fullmatch(r"\s*cp\s+(/\S+)\s+(/\S+)\s*", line)
            if copy and copy[1] in files:
                files[copy[2]] = files[copy[1]]
            edit = re.search(r"sed -Ei\s+(\"[^\"]*\"|'[^']*')\s+(/\S+)", line)
            if edit and edit[2] in files:
                _, word, value, _ = shlex.split(edit[1])[0].split("|")
                value = expand_variables(value, container.env)
                if value:
                    files[edit[2]] = files[edit[2]].replace(word.encode(), value.encode())
    return files

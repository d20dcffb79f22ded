"""The page by hand (helm and kubectl in a shell script) against `consulfed run --apply`: same chart, fresh sandboxes.

    python -m tests.bench [--rounds N] [--datacenters N] [-o FILE]

In turns, so that a machine that gets slower meanwhile slows both. Then what a verification costs, of two datacenters
and of many, and with that of each further one. Prints a table, and JSON to the file.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from consulfed_lib.places import SANDBOX_VARIABLE, find_program

HERE = Path(__file__).parent
PARAMS = HERE.parents[1] / "params" / "sandbox.yaml"
CONSULFED = [sys.executable, "-m", "consulfed_lib.cli"]
LIMITS = {
    "sandbox up (s)": 3.0,
    "run / by hand": 1.6,
    "sandbox federated (MiB, PSS)": 350.0,
    "--help (s)": 0.3,
    "verify 2 datacenters (s)": 2.0,
    "verify 8 datacenters (s)": 5.0,
}


@click.command()
@click.option("--rounds", default=3, show_default=True, help="Counted rounds of each.")
@click.option(
    "--datacenters", default=8, show_default=True, help="Verified beside two; 2: no more than these."
)
@click.option("-o", "--output", default="bench-results.json", show_default=True, help="Where the JSON goes.")
def main(rounds: int, datacenters: int, output: str) -> None:
    """Measure both ways to federate a 2×1 sandbox, in turns, and the verification of what they made."""
    by_hand: list[dict[str, float]] = []
    run: list[dict[str, float]] = []
    for number in range(rounds):
        by_hand.append(_one_round(_by_hand))
        run.append(_one_round(_consulfed))
        click.echo(
            f"round {number + 1}: by hand {by_hand[-1]['wall']:.1f} s, consulfed {run[-1]['wall']:.1f} s"
        )
    figures = {
        "by hand (s)": _median(by_hand, "wall"),
        "consulfed run --apply (s)": _median(run, "wall"),
        "by hand, largest process (MiB)": _median(by_hand, "memory"),
        "consulfed run, largest process (MiB)": _median(run, "memory"),
        "sandbox up (s)": _median([*by_hand, *run], "up"),
        "sandbox federated (MiB, PSS)": _median([*by_hand, *run], "pss"),
        "--help (s)": statistics.median(_timed([*CONSULFED, "--help"], os.environ)["wall"] for _ in range(5)),
    }
    figures["run / by hand"] = round(figures["consulfed run --apply (s)"] / figures["by hand (s)"], 2)
    figures |= _verification(_median(run, "verify"), datacenters)
    click.echo(f"\n| figure (median of {rounds}) | measured | limit |\n|---|---:|---:|")
    for name, value in figures.items():
        limit = LIMITS.get(name)
        click.echo(f"| {name} | {value:g} | {f'{limit:g}' if limit else ''} |")
    Path(output).write_text(
        json.dumps({"rounds": {"by hand": by_hand, "run": run}, "figures": figures}, indent=2)
    )
    click.echo(f"\nJSON in {output}")


def _one_round(federate: Any, datacenters: int = 2) -> dict[str, float]:
    """A fresh sandbox, federated in one way; seconds and MiB of it."""
    with tempfile.TemporaryDirectory(prefix="consulfed-bench-") as folder:
        environment = {**os.environ, SANDBOX_VARIABLE: f"{folder}/sandbox"}
        environment["KUBECONFIG"] = f"{folder}/sandbox/kubeconfig"
        try:
            size = ("--datacenters", str(datacenters))
            up = _timed([*CONSULFED, "sandbox", "up", *size], environment)
            figures = federate(folder, environment)
            return figures | {"up": up["wall"], "pss": _sandbox_pss(environment)}
        finally:
            subprocess.run([*CONSULFED, "sandbox", "down"], env=environment, check=True, capture_output=True)


def _by_hand(folder: str, environment: dict[str, str]) -> dict[str, float]:
    chart = f"{folder}/sandbox/chart/consul"
    beside = {str(program.parent) for name in ("helm", "kubectl") if (program := find_program(name))}
    environment = environment | {"PATH": os.pathsep.join([*sorted(beside), environment["PATH"]])}
    return _timed([shutil.which("sh") or "sh", str(HERE / "by_hand.sh"), chart, folder], environment)


def _consulfed(folder: str, environment: dict[str, str], params: Path = PARAMS) -> dict[str, float]:
    command = [*CONSULFED, "run", str(params), "--apply", "--records", f"{folder}/records"]
    return _timed(command, environment) | {"verify": _verified(params, environment)}


def _verified(params: Path, environment: dict[str, str]) -> float:
    """Seconds that the library takes to verify a federation that is well; the median of five."""
    command = [*CONSULFED, "verify", str(params), "-o", "json"]
    taken = []
    for _ in range(5):
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise click.ClickException(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
        taken.append(float(json.loads(done.stdout)["seconds"]))
    return statistics.median(taken)


def _verification(two: float, datacenters: int) -> dict[str, float]:
    """What verifying two costs, and many, and thus each further datacenter and each further ordered pair."""
    figures = {"verify 2 datacenters (s)": two}
    if datacenters > 2:
        many = _one_round(_many, datacenters)["verify"]
        figures[f"verify {datacenters} datacenters (s)"] = many
        figures["each further datacenter (s)"] = round((many - two) / (datacenters - 2), 3)
        pairs = datacenters * (datacenters - 1) - 2
        figures["each further ordered pair (ms)"] = round((many - two) / pairs * 1000, 1)
    return figures


def _many(folder: str, environment: dict[str, str]) -> dict[str, float]:
    """The sandbox's own shape, with parameters that the sandbox gives."""
    params = Path(folder) / "params.yaml"
    command = [*CONSULFED, "sandbox", "params"]
    params.write_bytes(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)
    return _consulfed(folder, environment, params)


def _timed(command: list[str], environment: Any) -> dict[str, float]:
    """Run to the end; wall seconds, and MiB of the largest process that it started. Fails loudly."""
    with tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        process = subprocess.Popen(command, env=dict(environment), stdout=said, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise click.ClickException(
                f"{' '.join(command)} ended with {process.returncode}:\n{said.read().decode(errors='replace')[-4000:]}"
            )
    return {"wall": round(wall, 2), "memory": round(usage.ru_maxrss / 1024, 1)}


def _sandbox_pss(environment: dict[str, str]) -> float:
    """MiB of all the sandbox's processes, shared pages counted once (PSS)."""
    text = subprocess.run(
        [*CONSULFED, "sandbox", "status", "-o", "json"], env=environment, check=True, capture_output=True
    ).stdout
    return round(json.loads(text)["memory_mib"], 1)


def _median(rounds: list[dict[str, float]], key: str) -> float:
    return round(statistics.median(each[key] for each in rounds), 2)


if __name__ == "__main__":
    main()

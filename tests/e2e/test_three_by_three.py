"""Three datacenters with three servers each, from the params file that the sandbox itself prints."""

from __future__ import annotations

from collections.abc import Callable

from .conftest import Sandbox


def test_three_datacenters_with_three_servers(new_sandbox: Callable[..., Sandbox]) -> None:
    """Each of the six ordered pairs is proven, and every datacenter sees nine servers alive."""
    sandbox = new_sandbox(datacenters=3, servers=3)
    params = sandbox.folder / "params.yaml"
    params.write_text(sandbox.consulfed("sandbox", "params").stdout)
    done = sandbox.run(params, "--apply", timeout=580)
    assert done.returncode == 0, done.stderr
    checks = sandbox.results()["04-verification"]["checks"]
    healthy = {c["subject"] for c in checks if c["id"] == "node-health" and c["severity"] == "ok"}
    assert healthy == {f"dc{a} → dc{b}" for a in (1, 2, 3) for b in (1, 2, 3) if a != b}
    assert [c["found"] for c in checks if c["id"] == "wan-members"] == ["9 servers alive"] * 3

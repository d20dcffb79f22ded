"""The snippets of configuration on the command line of charts up to 0.43."""

from __future__ import annotations

from typing import Any

import pytest

from consulfed_lib.sandbox.node.hcl import parse


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("", {}),
        ('ca_file = "/consul/tls/ca/tls.crt"', {"ca_file": "/consul/tls/ca/tls.crt"}),
        ("auto_encrypt = {allow_tls = true}", {"auto_encrypt": {"allow_tls": True}}),
        ("ports { http = -1 }", {"ports": {"http": -1}}),
        ("ports { http = -1 }\nports { https = 8501 }", {"ports": {"http": -1, "https": 8501}}),
        (
            'acl { tokens { agent = "a", replication = "r" } }',
            {"acl": {"tokens": {"agent": "a", "replication": "r"}}},
        ),
        ('retry_join = ["a", "b"]\nserver = false', {"retry_join": ["a", "b"], "server": False}),
        ('note = "a \\"quoted\\" = word"', {"note": 'a "quoted" = word'}),
    ],
)
def test_what_charts_write_is_read(text: str, settings: dict[str, Any]) -> None:
    """Assignments, blocks, objects and lists."""
    assert parse(text) == settings


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "a =",
        "a = b",
        "a { b = 1",
        "a = [1",
        "a = 1 }",
        "a = 1.5",
        "{ a = 1 }",
        "a = <<EOF\nx\nEOF",
        "a b { c = 1 }",
    ],
)
def test_anything_else_is_left_to_consul(text: str) -> None:
    """Half of a setting would be another setting."""
    with pytest.raises(ValueError, match=r"\w"):
        parse(text)

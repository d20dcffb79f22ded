"""What a verification found, in the words of who reads it: a table, JSON, JUnit, Prometheus' text format."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from ..checks.layers import causes, in_order, layer
from ..errors import ConsulfedError, ParamsError
from ..results import MARKS, Finding, Findings

if TYPE_CHECKING:
    from ..steps.verification import Verification

_WORST = ("error", "skipped", "warning", "ok")
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, not even escaped."""


class Report:
    """One look at a federation.

    Args:
        error: what it came to, if it is not proven.
    """

    def __init__(
        self, step: Verification, findings: list[Finding], error: ConsulfedError | None, seconds: float
    ):
        self.step = step
        self.findings = Findings(f"Verification of {step.subject}", findings)
        self.error = error
        self.seconds = seconds

    @property
    def outcome(self) -> str:
        return "not proven" if self.error else "verified"

    def verdicts(self) -> dict[tuple[str, str], Finding]:
        """(check, subject) → its worst finding, causes first; preflight has some checks that the look after it has."""
        found: dict[tuple[str, str], Finding] = {}
        for each in in_order(sorted(self.findings, key=lambda f: _WORST.index(f.severity))):
            found.setdefault((each.id, each.subject), each)
        return found

    def table(self) -> str:
        """For a person: what is wrong first, and what to do."""
        alone = self.findings.proven or self.step.stopped
        parts = [self.findings] if alone else [self.step.diagnosis(), self.findings]
        return "\n\n".join(repr(part) for part in parts)

    def data(self) -> dict[str, Any]:
        """For a program."""
        # Where preflight stopped it, nothing of Consul was looked at.
        proof = None if self.step.stopped else self.step.proof
        return {
            "federation": self.step.params.federation,
            "outcome": self.outcome,
            "exit_code": self.error.exit_code if self.error else 0,
            "seconds": round(self.seconds, 2),
            "error": self.error.data() if self.error else None,
            "causes": [
                {
                    "id": each.finding.id,
                    "subject": each.finding.subject,
                    "layer": layer(each.finding.id),
                    "found": each.finding.found,
                    "hint": each.finding.hint,
                    "consequences": [f"{f.id} ({f.subject})" for f in each.consequences],
                }
                for each in causes(self.findings, self.step.params.primary.datacenter)
            ],
            "checks": self.findings.data(),
            "credentials": proof.ledger().data() if proof else [],
            "gateways": proof.addresses().data() if proof else [],
            "readers": proof.readers().data() if proof else [],
            "latencies": self.step.latencies.data(),
            "clusters": self.step.identities,
            "versions": self.step.versions,
        }

    def json(self, indent: int | None = 2) -> str:
        return json.dumps(self.data(), ensure_ascii=False, indent=indent)

    def junit(self) -> str:
        """A suite for each layer, a case for each check and subject; a warning passes and says so."""
        root = ElementTree.Element("testsuites", name=self.findings.title)
        suites: dict[str, ElementTree.Element] = {}
        for each in self.findings:
            name = layer(each.id) or "other"
            if name not in suites:
                suites[name] = ElementTree.SubElement(root, "testsuite", name=name)
            suite = suites[name]
            case = ElementTree.SubElement(
                suite,
                "testcase",
                classname=each.id,
                name=f"{each.id} ({each.subject})",
                time=f"{each.seconds:.3f}",
            )
            self._verdict(case, each)
        for suite in suites.values():
            counts = {kind: len(suite.findall(f"testcase/{kind}")) for kind in ("failure", "skipped")}
            suite.attrib |= {
                "tests": str(len(suite)), "failures": str(counts["failure"]), "skipped": str(counts["skipped"])
            }  # fmt: skip
        ElementTree.indent(root)
        return ElementTree.tostring(root, encoding="unicode", xml_declaration=True)

    @staticmethod
    def _verdict(case: ElementTree.Element, each: Finding) -> None:
        found, hint = (_NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text) for text in (each.found, each.hint))
        words = f"{found}\nWhat to do: {hint}" if hint else found
        if each.severity == "error":
            ElementTree.SubElement(case, "failure", message=found, type=each.id).text = words
        elif each.severity == "skipped":
            ElementTree.SubElement(case, "skipped", message=found)
        else:
            ElementTree.SubElement(
                case, "system-out"
            ).text = f"{MARKS[each.severity]} {each.severity}: {words}"

    # -- Prometheus ---------------------------------------------------------------------------------------------

    def prometheus(self) -> str:
        """Prometheus' text format, for the textfile collector of node_exporter."""
        return "\n".join(self._metrics()) + "\n"

    def _metrics(self) -> Iterator[str]:
        of = {"federation": self.step.params.federation}
        data = self.data()
        yield from _metric(
            "consulfed_verified", "1: everything that was asked for was proven.", [(of, int(not self.error))]
        )
        yield from _metric(
            "consulfed_verification_timestamp_seconds",
            "When it was looked.",
            [(of, round(datetime.now().timestamp()))],
        )
        yield from _metric(
            "consulfed_verification_seconds", "How long that took.", [(of, round(self.seconds, 3))]
        )
        yield from _metric(
            "consulfed_check",
            "1: the check found nothing wrong (ok or warning); 0: an error, or not looked at.",
            (
                (
                    {**of, "check": id, "subject": subject, "severity": worst.severity},
                    int(worst.severity in {"ok", "warning"}),
                )
                for (id, subject), worst in self.verdicts().items()
            ),
        )
        yield from _metric(
            "consulfed_credential_expiry_timestamp_seconds",
            "When a credential ends.",
            (
                (
                    {**of, **{key: row[key] for key in ("datacenter", "credential", "where", "fingerprint")}},
                    round(datetime.fromisoformat(row["expires"]).timestamp()),
                )
                for row in data["credentials"]
                if row["expires"]
            ),
        )
        yield from _metric(
            "consulfed_latency_milliseconds",
            "Way through the gateways and back, as requests and as gossip take it.",
            (
                ({**of, "pair": row["pair"], "what": row["what"], "quantile": quantile}, row[key])
                for row in data["latencies"]
                for quantile, key in (("0.5", "p50"), ("0.99", "p99"))
                if row[key] is not None
            ),
        )


def _metric(name: str, help: str, samples: Iterable[tuple[dict[str, str], float]]) -> Iterator[str]:
    """A gauge; nothing where there is no sample. Of two with the same labels Prometheus would refuse the whole file."""
    told = {
        ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items()): value
        for labels, value in samples
    }
    if told:
        yield from (f"# HELP {name} {help}", f"# TYPE {name} gauge")
        yield from (f"{name}{{{labels}}} {value}" for labels, value in told.items())


def _escaped(text: str) -> str:
    """
    >>> _escaped('a "b"')
    'a \\\\"b\\\\"'
    """
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def write(path: Path, text: str) -> None:
    """Write it at once, so that nobody reads half of it. Raises ParamsError where that cannot be."""
    begun = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        begun.write_text(text)
        begun.replace(path)
    except OSError as error:
        with suppress(OSError):
            begun.unlink()
        raise ParamsError(
            f"{path} cannot be written: {error.strerror}.", "choose another --prometheus"
        ) from None

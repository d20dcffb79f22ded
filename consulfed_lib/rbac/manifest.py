"""Rights as objects for `kubectl apply -f -`: namespaces, service account, roles and their bindings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from .chart import RBAC
from .rules import Rule, from_policy

LABEL = {"app.kubernetes.io/part-of": "consulfed"}
"""On all that is made here but namespaces: by it the rights can be taken back."""

NAMESPACE = "consulfed"
"""Where the service account is, unless another place is named. Not where Consul is: who may start pods there may be
any of its service accounts."""

_SHIPPED = Path(__file__).with_name("sandbox.json")


@dataclass(frozen=True)
class Subject:
    """Who gets the rights: `User`, `Group`, or a `ServiceAccount` of a namespace."""

    kind: str
    name: str
    namespace: str = ""

    def data(self) -> dict[str, str]:
        if self.kind == "ServiceAccount":
            return {"kind": self.kind, "name": self.name, "namespace": self.namespace}
        return {"kind": self.kind, "name": self.name, "apiGroup": RBAC}


def shipped(read_only: bool) -> list[Rule]:
    """The rights for the sandbox's own chart, with any namespace, name and option: no Helm is needed for them.

    The file is written by `python -m tests.test_rbac`; that test fails when it is not what the chart asks for.
    """
    policies = json.loads(_SHIPPED.read_text())["read-only" if read_only else "run"]
    return [rule for policy in policies for rule in from_policy(policy, why=policy["why"])]


def roles(
    rules: Iterable[Rule], subject: Subject, name: str, labels: Mapping[str, str] = LABEL
) -> list[dict[str, Any]]:
    """ClusterRole and Roles of that name with these rules, each with its binding."""
    found = []
    for namespace, these in groupby(
        sorted(rules, key=lambda rule: rule.namespace), lambda rule: rule.namespace
    ):
        place = {"namespace": namespace} if namespace else {}
        kind = "Role" if namespace else "ClusterRole"
        policies = [rule.data() for rule in these]
        found.append(_object(f"{RBAC}/v1", kind, name, labels, **place) | {"rules": policies})
        binding = _object(f"{RBAC}/v1", f"{kind}Binding", name, labels, **place)
        reference = {"apiGroup": RBAC, "kind": kind, "name": name}
        found.append(binding | {"roleRef": reference, "subjects": [subject.data()]})
    return found


def manifest(rules: Sequence[Rule], subject: Subject, name: str, heading: str) -> str:
    """All of it as YAML that says what each rule is for.

    Args:
        name: of the roles and bindings.
        heading: sentences for the top, as a comment.
    """
    import yaml

    def dump(content: Any) -> str:
        return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=100)

    namespaces = {rule.namespace for rule in rules if rule.namespace} | {subject.namespace} - {""}
    objects = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": each}} for each in sorted(namespaces)
    ]
    if subject.kind == "ServiceAccount":
        objects.append(_object("v1", "ServiceAccount", subject.name, LABEL, namespace=subject.namespace))
    whys = {(rule.namespace, json.dumps(rule.data())): rule.why for rule in rules}
    documents = ["".join(f"# {line}".rstrip() + "\n" for line in heading.splitlines())]
    for each in [*objects, *roles(rules, subject, name)]:
        policies, namespace = each.pop("rules", []), each["metadata"].get("namespace", "")
        text = dump(each) + ("rules:\n" if policies else "")
        reasons = [whys[namespace, json.dumps(policy)] for policy in policies]
        for why, these in groupby(zip(reasons, policies, strict=True), lambda pair: pair[0]):
            text += f"# {why[:1].upper()}{why[1:]}.\n" + dump([policy for _, policy in these])
        documents.append(text)
    return "---\n".join(documents)


def _object(
    api_version: str, kind: str, name: str, labels: Mapping[str, str], **place: str
) -> dict[str, Any]:
    metadata = {"name": name, **place, **({"labels": dict(labels)} if labels else {})}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}

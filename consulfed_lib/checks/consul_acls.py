"""What ACLs must hold for datacenters to work together, and the chart's server-acl-init Job leaves behind once.

Nothing notices when it is gone or stale but whoever needs it next: components of a secondary that log in at the
primary, and requests between datacenters, which come without a token. Everything here reads.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from ..results import Finding, several
from . import Check, check
from .federation import Datacenter

ANONYMOUS = "00000000-0000-0000-0000-000000000002"
"""Accessor of the token that stands for whoever shows none."""


def _consul(dc: Datacenter, command: str) -> str:
    """A command whose token is given to it by the person who runs it."""
    return (
        f"kubectl --context {dc.of.context} -n {dc.of.namespace} exec {dc.consul.pod} -- consul acl {command}"
        " (with a token that may write ACLs)"
    )


@check(
    "auth-method",
    "components of the secondary can log in at the primary, which asks the right Kubernetes API",
)
def auth_method(
    self: Check, subject: str, primary: Datacenter, dc: Datacenter, api_url: str
) -> Iterator[Finding]:
    """`api_url`: of the secondary, as the primary's servers reach it."""
    name = f"{dc.fullname}-k8s-component-auth-method-{dc.name}"
    hint = (
        f"run 03-secondary-setup for {dc.name} with the right api_url; if it changes nothing, let Helm run the"
        f" chart's set-up Job again: helm --kube-context {dc.of.context} -n {dc.of.namespace} upgrade"
        f" {dc.of.release} {dc.params.chart.location} --version {dc.params.chart.version} --reuse-values"
    )
    found = primary.consul.auth_method(name)
    if found is None:
        yield self.error(subject, f"{name} is not in {primary.name} (consul-k8s #1425)", hint)
        return
    host = str((found.get("Config") or {}).get("Host", ""))
    wrong = []
    if host.rstrip("/") != api_url.rstrip("/"):
        wrong.append(f"it asks {host or 'nobody'}; the API of {dc.name} is {api_url}")
    if found.get("TokenLocality") != "global":
        wrong.append(f"its tokens are good in {primary.name} only; expected TokenLocality global")
    if wrong:
        yield self.error(subject, f"{name} in {primary.name}: {'; '.join(wrong)}", hint)
    else:
        yield self.ok(subject, f"{name} in {primary.name} asks {host}")


@check(
    "anonymous-policy",
    "requests without a token may read nodes and services, as requests between datacenters must",
)
def anonymous_policy(self: Check, subject: str, primary: Datacenter) -> Iterator[Finding]:
    """Local tokens are stripped from what is asked of another datacenter, and the anonymous one counts there."""
    token = primary.consul.token(ANONYMOUS)
    if token is None:
        yield self.error(
            subject, "there is no anonymous token", "run 01-primary-setup: ACLs are not set up yet"
        )
        return
    everywhere = {each.datacenter for each in primary.params.clusters}
    names, rules = [], []
    for link in token.get("Policies") or []:
        policy = primary.consul.policy(link["ID"])
        names.append(policy["Name"])
        if everywhere <= set(policy.get("Datacenters") or everywhere):
            rules.append(str(policy.get("Rules", "")))
    missing = [each for each in ("node", "service") if not _may_read(each, rules)]
    if missing:
        policies = ", ".join(names) or "none"
        yield self.error(
            subject,
            f"the anonymous token may not read every {' and every '.join(missing)} in every datacenter;"
            f" its policies: {policies}",
            'give it one that says node_prefix "" and service_prefix "" read: '
            + _consul(primary, f"token update -id {ANONYMOUS} -append-policy-name NAME"),
        )
    else:
        yield self.ok(subject, f"nodes and services may be read, by {', '.join(names)}")


def _may_read(resource: str, rules: Iterable[str]) -> bool:
    """Whether policies let all of a resource be read; a deny of one of them outweighs the others.

    >>> _may_read("node", ['node_prefix "" { policy = "read" }']), _may_read("node", ['node "" { policy = "read" }'])
    (True, False)
    """
    said = {_said(resource, each) for each in rules}
    return bool(said & {"read", "write"}) and "deny" not in said


def _said(resource: str, rules: str) -> str:
    """What rules, in HCL or JSON, say of every node or service (prefix ""); empty: nothing."""
    try:
        return str(json.loads(rules)[f"{resource}_prefix"][""]["policy"])
    except (ValueError, KeyError, TypeError):
        bare = re.sub(r"(?m)(#|//).*$", "", rules)
    found = re.search(rf'\b{resource}_prefix\s+""\s*{{([^}}]*)}}', bare)
    level = re.search(r'\bpolicy\s*=\s*"(\w+)"', found[1]) if found else None
    return level[1] if level else ""


_WHO_GETS_WHAT = ("AuthMethod", "BindType", "BindName", "Selector")


@check("binding-rules", "no auth method has the same binding rule twice", severity="warning")
def binding_rules(self: Check, subject: str, dc: Datacenter) -> Iterator[Finding]:
    """consul-k8s looks for a rule in its own datacenter and writes it to the primary: upgrades may leave more."""
    same: dict[tuple[str, ...], list[str]] = defaultdict(list)
    rules = dc.consul.binding_rules()
    for each in rules:
        same[tuple(str(each.get(key, "")) for key in _WHO_GETS_WHAT)].append(each["ID"])
    for (method, kind, name, _), ids in same.items():
        if len(ids) > 1:
            yield self.warning(
                subject,
                f"{method} binds to {kind} {name} {len(ids)} times; once is enough",
                _consul(dc, f"binding-rule delete -id {ids[1]}")
                + (f", and of {', '.join(ids[2:])}" if ids[2:] else ""),
            )
    if len(same) == len(rules):
        yield self.ok(subject, several(len(rules), "binding rule"))

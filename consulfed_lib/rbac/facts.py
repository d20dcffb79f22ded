"""Which rights the runbook needs: what consulfed itself asks of an API server, and through Helm of the chart.

The table is checked from both sides: an end-to-end test compares it with the audit logs of a whole run, and the check
`permissions` asks for what stands here before anything is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from ..values import merged
from ..values.facts import get
from .chart import HELM, Object, granted_rules, helm_rules
from .rules import Held, Rule, simplify

if TYPE_CHECKING:
    from ..params import Cluster, Federation

READS, HINTS = "what consulfed reads", "what consulfed reads to say more; it goes on without"
WRITES = "what consulfed changes, and what it watches meanwhile"

_GROUPS = {
    "daemonsets": "apps",
    "deployments": "apps",
    "statefulsets": "apps",
    "jobs": "batch",
    "roles": "rbac.authorization.k8s.io",
    "rolebindings": "rbac.authorization.k8s.io",
    "clusterroles": "rbac.authorization.k8s.io",
    "clusterrolebindings": "rbac.authorization.k8s.io",
    "customresourcedefinitions": "apiextensions.k8s.io",
    "leases": "coordination.k8s.io",
    "mutatingwebhookconfigurations": "admissionregistration.k8s.io",
    "storageclasses": "storage.k8s.io",
    "proxydefaults": "consul.hashicorp.com",
    "serviceintentions": "consul.hashicorp.com",
}
"""API groups of the resources below; the core group has no name."""

_READ, _TUNNEL = ("get",), ("get", "create")
"""A stream into a pod begins as a GET, for which older API servers ask `get`, and from 1.35 on `create` as well."""

ALL, SETUP, TRIAL, LEAVE = "00 01 02 03 04", "00 01 03", "05", "90"
"""Notebooks. 05 and 90 are none of those that 00 looks ahead for: who asks for them asks for their rights."""

TRIAL_NAMESPACE = "{trial}"


class Fact(NamedTuple):
    """Requests that consulfed makes.

    Attributes:
        names: names of the objects, as templates (see `_names`); empty where any may be meant.
        notebooks: in which notebooks, by number.
        role: `primary` or `secondary`; empty for both.
        cluster: whether it reaches beyond the release's namespace.
        writes: whether only a run that changes something makes them.
        hint: whether it does without the answer where it may not ask.
        namespace: another one than the release's.
        option: the parameter without which nobody makes them.
    """

    resource: str
    verbs: tuple[str, ...]
    names: tuple[str, ...] = ()
    notebooks: str = ALL
    role: str = ""
    cluster: bool = False
    writes: bool = False
    hint: bool = False
    namespace: str = ""
    option: str = ""


FACTS = (
    # The namespace kube-system is the cluster's identity, which every record holds.
    Fact("namespaces", _READ, ("kube-system",), cluster=True),
    Fact("namespaces", _READ, ("{namespace}",), "00 01 02 03", cluster=True),
    Fact("nodes", ("list",), notebooks=SETUP, cluster=True),
    # Preflight: who owns what the chart will own; which volumes, addresses and clocks there are.
    *(
        Fact(each, ("list",), notebooks=SETUP, cluster=True)
        for each in (
            "clusterroles",
            "customresourcedefinitions",
            "mutatingwebhookconfigurations",
            "storageclasses",
        )
    ),
    # Clocks of nodes; other load balancers.
    *(Fact(each, ("list",), notebooks=SETUP, cluster=True, hint=True) for each in ("leases", "services")),
    # Why a load balancer gives no address.
    Fact("events", ("list",), notebooks=SETUP, hint=True),
    Fact("services", ("list",), notebooks=SETUP),
    # Helm's records are Secrets whose names hold a number: they can only be listed.
    Fact("secrets", ("list",), notebooks=SETUP),
    Fact("secrets", _READ, ("{secret}",)),
    # The trust ledger. Reading a Secret gives all of it: a private key comes along with its certificate.
    Fact("secrets", _READ, ("{server_cert}",), "00 04"),
    Fact("secrets", _READ, ("{ca_cert}",), "00 04", role="primary"),
    # Who can read the federation secret.
    *(Fact(each, ("list",), notebooks="00 04") for each in ("roles", "rolebindings")),
    *(
        Fact(each, ("list",), notebooks="00 04", cluster=True)
        for each in ("clusterroles", "clusterrolebindings")
    ),
    Fact("services", _READ, ("{fullname}-mesh-gateway",)),
    Fact("services", _READ, ("{fullname}-ui",), "00 04"),
    Fact("jobs", ("list",), notebooks=SETUP),
    Fact("persistentvolumeclaims", ("list",), notebooks=SETUP),
    Fact("statefulsets", _READ, ("{fullname}-server",), SETUP),
    # Where gateways are dialled on nodes, their pods tell on which.
    Fact("deployments", _READ, ("{fullname}-mesh-gateway",)),
    Fact("pods", ("list",)),
    Fact("pods", ("watch",), notebooks="00 04"),
    Fact("pods/portforward", _TUNNEL, ("{server}",), "00 01 03 04"),
    Fact("pods/exec", _TUNNEL, ("{server}",), "00 03 04"),
    # Handshakes through gateway pods, whose names nobody knows before.
    Fact("pods/portforward", _TUNNEL, notebooks="00 04", hint=True),
    # The primary's servers are asked before there is a federation secret: which gateways they know, how they are.
    Fact("secrets", _READ, ("{ca_cert}", "{fullname}-acl-replication-acl-token"), "00 01", role="primary"),
    # Of a Consul that lives already there may be no other token; and what changes its catalog takes this one.
    *(
        Fact("secrets", _READ, ("{fullname}-bootstrap-acl-token",), "00 01", role="primary", option=option)
        for option in ("upgrade.existing", "upgrade.clear_leftovers")
    ),
    # Which workloads have sidecars from before TLS; and to restart them.
    Fact("pods", ("list",), (), "00 01", "primary", cluster=True, hint=True, option="upgrade.existing"),
    Fact(
        "pods",
        ("list", "watch"),
        (),
        "00 01",
        "primary",
        True,
        writes=True,
        option="upgrade.restart_workloads",
    ),
    *(
        Fact(each, ("patch",), (), "00 01", "primary", True, writes=True, option="upgrade.restart_workloads")
        for each in ("daemonsets", "deployments", "statefulsets")
    ),
    # The CA of a secondary's Kubernetes API, which the primary's servers must trust.
    Fact("configmaps", _READ, ("kube-root-ca.crt",), "00 03 04", role="secondary"),
    # There is one for the whole federation, in whichever namespace.
    Fact("proxydefaults", ("list",), notebooks="00 01", role="primary", cluster=True),
    Fact("proxydefaults", ("create", "patch"), notebooks="00 01", role="primary", cluster=True, writes=True),
    Fact("proxydefaults", ("watch",), notebooks="00 01", role="primary", cluster=True, writes=True),
    # What is waited for is watched; the last line of a Job's log tells what it waits for.
    Fact("secrets", ("watch",), notebooks="00 01", role="primary", writes=True),
    *(
        Fact(each, ("watch",), notebooks=SETUP, writes=True)
        for each in ("services", "statefulsets", "deployments")
    ),
    Fact("pods/log", _READ, notebooks=SETUP, writes=True),
    # Servers are restarted one by one, and looked at meanwhile.
    Fact("pods", ("watch",), notebooks=SETUP, writes=True),
    # A Pod tries the way to the primary's gateways before Helm installs what could not join.
    Fact("pods", ("get", "watch", "create", "delete"), notebooks="00 03", role="secondary", writes=True),
    # Left over by a killed run: failed hook Jobs, and a release's record that says it is still being worked on.
    Fact("jobs", ("watch", "delete"), notebooks=SETUP, writes=True),
    Fact("secrets", ("get", "patch"), notebooks=SETUP, writes=True),
    Fact("secrets", ("delete",), notebooks=SETUP, writes=True, option="upgrade.clear_leftovers"),
    Fact("secrets", ("create", "patch"), notebooks="00 02", role="secondary", writes=True),
    # A trial of service traffic. In the release's namespace it only asks Consul, by way of a server's pod.
    Fact("namespaces", _READ, ("kube-system", TRIAL_NAMESPACE), TRIAL, cluster=True),
    Fact("secrets", _READ, ("{secret}",), TRIAL),
    Fact("pods", ("list",), notebooks=TRIAL),
    Fact("pods/portforward", _TUNNEL, ("{server}",), TRIAL),
    *(
        Fact(each, ("list",), notebooks=TRIAL, namespace=TRIAL_NAMESPACE)
        for each in ("deployments", "pods", "serviceaccounts", "services")
    ),
    Fact("serviceintentions", ("list",), notebooks=TRIAL, role="primary", namespace=TRIAL_NAMESPACE),
    # Its workloads are in a namespace of their own, which is made where it is not there, and deleted then.
    Fact("namespaces", ("create",), notebooks=TRIAL, cluster=True, writes=True),
    Fact("namespaces", ("delete",), (TRIAL_NAMESPACE,), TRIAL, cluster=True, writes=True),
    *(
        Fact(each, ("create", "patch", "delete"), notebooks=TRIAL, writes=True, namespace=TRIAL_NAMESPACE)
        for each in ("deployments", "serviceaccounts", "services")
    ),
    Fact(
        "serviceintentions",
        ("create", "patch", "delete"),
        (),
        TRIAL,
        "primary",
        writes=True,
        namespace=TRIAL_NAMESPACE,
    ),
    Fact("pods", ("watch",), notebooks=TRIAL, writes=True, namespace=TRIAL_NAMESPACE),
    Fact("pods/exec", _TUNNEL, notebooks=TRIAL, writes=True, namespace=TRIAL_NAMESPACE),
    # The cluster that leaves. In all others 90 looks as 04 does: what it changes in Consul goes through a server's pod.
    Fact("namespaces", _READ, ("kube-system",), LEAVE, "secondary", cluster=True),
    *(
        Fact(each, ("list",), (), LEAVE, "secondary")
        for each in ("persistentvolumeclaims", "pods", "secrets")
    ),
    Fact("secrets", _READ, ("{secret}",), LEAVE, "secondary"),
    Fact("secrets", ("delete",), ("{secret}",), LEAVE, "secondary", writes=True),
    Fact("statefulsets", ("get", "patch"), ("{fullname}-server",), LEAVE, "secondary", writes=True),
    Fact("pods", ("watch",), (), LEAVE, "secondary", writes=True),
    Fact("jobs", ("list", "delete"), (), LEAVE, "secondary", writes=True),
)
"""Requests of the library itself. Reviews of one's own rights and `/version` are everybody's (system:basic-user)."""

_RELEASE_RECORDS = ("get", "list", "create", "update", "delete")
"""Helm keeps a Secret a revision, marks it as it goes on, and deletes the oldest from the eleventh on."""


def needs(
    params: Federation,
    of: Cluster,
    objects: Iterable[Object],
    *,
    notebook: str = "00-preflight",
    read_only: bool = False,
    create_namespace: bool = False,
) -> list[Rule]:
    """The rights that the runbook needs in one cluster of a federation, none of them twice.

    Args:
        objects: what the pinned chart renders for that cluster, hooks and CRDs included.
        notebook: name or number; 00 stands for all of them, because it looks ahead.
        read_only: what a dry run and the verification need.
        create_namespace: whether the release's namespace has to be made.
    """
    number = notebook[:2]
    primary = of.datacenter == params.primary.datacenter
    rules = list(_own(params, of, number, "primary" if primary else "secondary", read_only))
    if create_namespace and not read_only and number not in ("04", LEAVE):
        rules.append(Rule("", ("namespaces",), ("create",), why=WRITES))
    if number in SETUP or (number == LEAVE and params.leave.uninstall):
        objects = list(objects)
        if not read_only:
            rules.append(Rule("", ("secrets",), _RELEASE_RECORDS, (), of.namespace, why=HELM))
        rules += helm_rules(objects, of.namespace, read_only)
        rules += () if read_only else granted_rules(objects, of.namespace)
    needed = simplify(rule for rule in rules if rule.why != HINTS)
    # Apart from the others: a hint for the whole cluster must not stand for a need in one namespace.
    held = Held(right for rule in needed for right in rule.rights())
    hints = (rule for rule in rules if rule.why == HINTS)
    return needed + simplify(rule for rule in hints if not all(right in held for right in rule.rights()))


def anywhere(rules: Iterable[Rule]) -> list[Rule]:
    """The same rights for any namespace, any name and thus any parameters."""
    wide = (Rule(r.group, r.resources, r.verbs, (), "", r.urls, r.why) for r in rules)
    return simplify(wide)


def _own(params: Federation, of: Cluster, number: str, role: str, read_only: bool) -> Iterator[Rule]:
    for fact in FACTS:
        meant = number in fact.notebooks and fact.role in ("", role) and _asked_for(params, fact.option)
        if meant and not (read_only and fact.writes):
            resource = fact.resource.partition("/")[0]
            yield Rule(
                _GROUPS.get(resource, ""),
                (fact.resource,),
                fact.verbs,
                tuple(name for template in fact.names for name in _names(template, params, of)),
                "" if fact.cluster else fact.namespace.format(trial=params.traffic.namespace) or of.namespace,
                why=HINTS if fact.hint else WRITES if fact.writes else READS,
            )


def _asked_for(params: Federation, option: str) -> bool:
    section, _, name = option.partition(".")
    return not option or bool(getattr(getattr(params, section), name))


def _names(template: str, params: Federation, of: Cluster) -> list[str]:
    """The names that a template stands for in one cluster."""
    fullname = params.fullname(of)
    if template == "{server}":
        return [f"{fullname}-server-{i}" for i in range(params.servers)]
    own = {
        "{server_cert}": ("server.serverCert", "server-cert"),
        "{ca_cert}": ("global.tls.caCert", "ca-cert"),
    }
    if template in own:
        path, suffix = own[template]
        given = get(merged(params, of).values, f"{path}.secretName")
        return [given if isinstance(given, str) and given else f"{fullname}-{suffix}"]
    return [
        template.format(
            trial=params.traffic.namespace,
            namespace=of.namespace,
            fullname=fullname,
            secret=params.secret_name,
        )
    ]

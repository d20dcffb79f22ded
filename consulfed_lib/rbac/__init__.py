"""Least privilege: the rights that the runbook needs, from one table of facts.

    rules     what a rule allows, and the fewest rules that say the same
    chart     what a rendered chart asks for: Helm's verbs on its kinds, and what its own roles grant
    facts     what consulfed itself asks for, and `needs`: all of it for one cluster
    manifest  the same as YAML for `kubectl apply`

Used by `consulfed rbac`, by the check `permissions`, and by the sandbox, whose contexts have exactly these rights.
Nothing here needs a cluster, and importing it is cheap; rendering a chart takes Helm (`rendered`).
"""

from __future__ import annotations

from .facts import needs
from .rules import Held, Right, Rule

__all__ = ["Held", "Right", "Rule", "needs"]

"""The form that makes and changes a params file, in JupyterLab, and everything that it does without one.

page = form.open("../params/production.yaml")     # or form.open() for a new one
page.contexts()         # the kubeconfig's contexts, with each cluster's version and the Consul there
page.form()             # the widgets
page.text()             # the params file as it would be written
page.values()           # the Helm values of each cluster
page.commands()         # the same without a form

`consulfed params new`, `check` and `values` are these as commands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .page import FormPage


def open(file: str = "") -> FormPage:
    """Open a params file, or begin a new one; every output of the notebook is guarded against secrets."""
    from .. import redact
    from .page import FormPage

    redact.install()
    return FormPage(file)

"""Rehearsals: a change is made on a sandbox of the same shape before it is made for real (`consulfed rehearse`).

    imitation.py   what of the parameters is imitated, replaced or not imitated, and the federation that is rehearsed
    gateways.py    … of each datacenter's gateway: privileged ports, names and ways in of the user's own
    overlays.py    … of the user's Helm values
    charts.py      which chart: the pinned one where it can be had, else the sandbox's own
    stage.py       the sandbox: its kubeconfig with the user's contexts, and what they have made beforehand
    rehearse.py    plan, apply, verify, drills, and what came of it

The user's own clusters and kubeconfig are never looked at. Only the command and tests import this.
"""

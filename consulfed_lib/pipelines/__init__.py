"""Pipelines: plan, approval, apply of exactly the approved plan, and the record as an artefact, ready to adapt.

Each is a YAML file of its system with five words to fill in: `<params>` (the params file, quoted), `<file>` (the same
in a comment), `<paths>` (what a change of the federation may touch, as a list), `<federation>` and `<slug>` (its name
as Kubernetes allows it).
"""

"""A plan: what a notebook would do to each cluster, as data that a machine can compare.

`document` says it (items, Helm values, which cluster), `file` is the plan of a whole federation on disk, `approval`
decides whether what would be done now is what was approved.
"""

from .document import Document, Item, item_of
from .file import PlanFile

__all__ = ["Document", "Item", "PlanFile", "item_of"]

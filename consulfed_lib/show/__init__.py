"""What people look at: text, diffs, and the pictures and tables of a verification.

Static, readable in print and without colour, in JupyterLab's light and dark theme; nothing is loaded from outside.
Each says in a log, as plain text, what it shows in a notebook.
"""

from .diagnosis import Diagnosis, Trouble
from .latencies import Latencies, Latency
from .matrix import Matrix
from .progress import Progress
from .svg import Picture
from .text import Diff, Page, Text, Yaml, as_yaml, diff, display
from .timeline import Expiry, Timeline
from .topology import Topology
from .verdict import Verdict

__all__ = [
    "Diagnosis",
    "Diff",
    "Expiry",
    "Latencies",
    "Latency",
    "Matrix",
    "Page",
    "Picture",
    "Progress",
    "Text",
    "Timeline",
    "Topology",
    "Trouble",
    "Verdict",
    "Yaml",
    "as_yaml",
    "diff",
    "display",
]

"""The typed parameters of a federation: one YAML file, or the parameters cell of a notebook.

Whatever is wrong is reported at once, each mistake with the place, what stands there and what was expected.
"""

from .files import kubeconfig_contexts, kubeconfig_servers, read_yaml
from .models import (
    NOTEBOOK_NAMES,
    SANDBOX,
    Chart,
    Cluster,
    Federation,
    GossipKey,
    MeshGateway,
    Timeouts,
    Verification,
)  # fmt: skip
from .reading import anchored, check, from_notebook, load, read

__all__ = [
    "NOTEBOOK_NAMES", "SANDBOX", "Chart", "Cluster", "Federation", "GossipKey", "MeshGateway", "Timeouts",
    "Verification",
    "anchored", "check", "from_notebook", "kubeconfig_contexts", "kubeconfig_servers", "load", "read", "read_yaml",
]  # fmt: skip

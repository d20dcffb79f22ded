"""A Kubernetes API server, emulated over the real protocol: what helm, kubectl and client libraries talk to.

contracts     User and Kubelet: what others hand in
server        HTTPS, authentication, authorization, audit
dispatch      verbs of resources and subresources
rest          create, update, patch, apply     deletion      grace, finalizers, garbage collection
reads         get, list, watch                 definitions   CustomResourceDefinitions
admission     defaults · kinds · validation · structural · fields
patches       JSON, merge, strategic           apply         server-side apply on fieldsets and schema
store         objects, revisions, history      resources     what is served
auth · rbac · reviews · bootstrap              discovery · openapi · tables
protobuf · request · selectors · status        audit
"""

from .contracts import Kubelet, User
from .server import ApiServer
from .status import ApiError

__all__ = ["ApiError", "ApiServer", "Kubelet", "User"]

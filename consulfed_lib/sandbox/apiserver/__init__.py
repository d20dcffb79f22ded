"""A Kubernetes API server, emulated over the real protocol: what helm, kubectl and client libraries talk to.

contracts                       User and Kubelet: what others hand in
server → dispatch               HTTPS, who asks, whether they may, the audit log; then verbs and subresources
request · status                a request taken apart, its body decoded; refusals as Status objects
rest · apply · patches          create, update, patch, server-side apply (on fieldsets and schema)
deletion · definitions          grace, finalizers, garbage collection; CustomResourceDefinitions
reads · selectors · tables      get, list, watch, and the columns that kubectl prints
admission                       shapes · fields · defaults · generated · refusals · validation · structural ·
                                escalation · webhooks
streams · portforward · spdy    log, exec, attach, port-forward
store · snapshot                objects, revisions, history; the same on disk
auth · rbac · reviews           tokens, roles, and questions about them
resources · discovery · openapi what is served, and how clients learn it
bootstrap · protobuf · audit    what is there from the start; a wire format; who did what
"""

from .contracts import Kubelet, User
from .server import ApiServer
from .status import ApiError

__all__ = ["ApiError", "ApiServer", "Kubelet", "User"]

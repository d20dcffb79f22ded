"""Who we are to a cluster, and which cluster it is: what makes a record speak of this world and no other."""

from __future__ import annotations

import hashlib

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from .cluster import Cluster
from .errors import ClusterError

NOT_SAID = "not said by the API server"


def identity(cluster: Cluster) -> dict[str, str]:
    """`{context, server, uid, ca, user, kubernetes}` of a cluster.

    `uid` is the UID of kube-system, `ca` the SHA-256 of the API server's CA certificate (empty where the system's own
    list of CAs is used), `user` who the API server takes us for. Raises ClusterError when it does not answer.
    """
    return {
        "context": cluster.context,
        "server": cluster.server,
        "uid": cluster.uid(),
        "ca": _fingerprint(cluster.ca_pem),
        "user": user(cluster) or NOT_SAID,
        "kubernetes": cluster.version(),
    }


def user(cluster: Cluster) -> str:
    """The user name that the API server takes us for (SelfSubjectReview, Kubernetes 1.28); empty if it does not say."""
    kind = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    try:
        answer = cluster.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", kind)
        return str(answer["status"]["userInfo"]["username"])
    except (ClusterError, KeyError, TypeError):
        return ""


def _fingerprint(pem: str) -> str:
    """SHA-256 over the first certificate, in hex; empty where there is none."""
    try:
        certificate = x509.load_pem_x509_certificates(pem.encode())[0]
    except ValueError:
        return ""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()

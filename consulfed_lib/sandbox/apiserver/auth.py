"""Who makes a request: bearer tokens, and the tokens of service accounts that this server signs itself.

A service account's token is a JWT (HS256, where a real cluster signs with RS256) with the claims of a real
one. It is good for as long as the ServiceAccount, and the Pod or Secret that it is bound to, live with the
same uid.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from .contracts import User
from .status import unauthorized
from .store import Store

AUDIENCE = "https://kubernetes.default.svc.cluster.local"
"""The API server's own audience and issuer, as kubeadm sets them up."""

ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))
_SERVICE_ACCOUNTS = ("", "serviceaccounts")


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Authenticator:
    """Tokens of one cluster.

    Args:
        key: signs service accounts' tokens.
        tokens: static bearer tokens.
    """

    def __init__(self, store: Store, key: bytes, tokens: Mapping[str, User]):
        self._store = store
        self._key = key
        self._tokens = {hashlib.sha256(token.encode()).digest(): user for token, user in tokens.items()}

    def authenticate(self, authorization: str) -> User:
        """The user of an Authorization header; the anonymous one when there is none.

        Raises:
            ApiError: 401 for a token that is not good.
        """
        if not authorization:
            return ANONYMOUS
        scheme, _, token = authorization.partition(" ")
        user = self.user_of(token.strip()) if scheme.lower() == "bearer" else None
        if user is None:
            raise unauthorized()
        groups = tuple(dict.fromkeys((*user.groups, "system:authenticated")))
        return User(user.name, groups, user.uid, user.extra)

    def user_of(self, token: str, audiences: Sequence[str] = (AUDIENCE,)) -> User | None:
        """The user of a token that is good for one of those audiences; None when it is not good."""
        static = self._tokens.get(hashlib.sha256(token.encode()).digest())
        if static is not None:
            return static if AUDIENCE in audiences else None
        claims = self.claims(token)
        if claims is None:
            return None
        if claims.get("iss") == "kubernetes/serviceaccount":
            return self._legacy_user(claims, token) if AUDIENCE in audiences else None
        if not set(claims["aud"]) & set(audiences) or claims["exp"] < time.time():
            return None
        bound = claims["kubernetes.io"]
        namespace, account = bound["namespace"], bound["serviceaccount"]
        extra = [("authentication.kubernetes.io/credential-id", (f"JTI={claims['jti']}",))]
        for kind, plural in (("pod", "pods"), ("secret", "secrets")):
            if kind not in bound:
                continue
            held = self._store.get(("", plural), namespace, bound[kind]["name"])
            if held is None or held["metadata"]["uid"] != bound[kind]["uid"]:
                return None
            if kind == "pod":
                node = held.get("spec", {}).get("nodeName")
                extra += [("authentication.kubernetes.io/node-name", (node,))] if node else []
                extra += [
                    ("authentication.kubernetes.io/pod-name", (bound[kind]["name"],)),
                    ("authentication.kubernetes.io/pod-uid", (bound[kind]["uid"],)),
                ]
        return self._account_user(namespace, account["name"], account["uid"], tuple(extra))

    def audiences_of(self, token: str, asked: Sequence[str]) -> list[str]:
        """Those of the audiences asked about that a token is good for, as TokenReview answers."""
        claims = self.claims(token)
        held = claims.get("aud", [AUDIENCE]) if claims else [AUDIENCE]
        return [audience for audience in asked if audience in held]

    def claims(self, token: str) -> dict[str, Any] | None:
        """The claims of a JWT that this cluster signed; None for anything else."""
        parts = token.split(".")
        if len(parts) != 3:
            return None
        signed = hmac.new(self._key, f"{parts[0]}.{parts[1]}".encode(), hashlib.sha256).digest()
        try:
            if not hmac.compare_digest(signed, _unb64(parts[2])):
                return None
            return json.loads(_unb64(parts[1]))
        except ValueError:
            return None

    def _account_user(
        self, namespace: str, name: str, uid: str, extra: tuple[tuple[str, tuple[str, ...]], ...] = ()
    ) -> User | None:
        account = self._store.get(_SERVICE_ACCOUNTS, namespace, name)
        if account is None or account["metadata"]["uid"] != uid:
            return None
        return User(
            f"system:serviceaccount:{namespace}:{name}",
            ("system:serviceaccounts", f"system:serviceaccounts:{namespace}"),
            uid,
            extra,
        )

    def _legacy_user(self, claims: dict[str, Any], token: str) -> User | None:
        prefix = "kubernetes.io/serviceaccount/"
        namespace = claims[prefix + "namespace"]
        secret = self._store.get(("", "secrets"), namespace, claims[prefix + "secret.name"])
        held = (secret or {}).get("data", {}).get("token", "")
        if not hmac.compare_digest(held, base64.b64encode(token.encode()).decode()):
            return None
        return self._account_user(
            namespace, claims[prefix + "service-account.name"], claims[prefix + "service-account.uid"]
        )

    def _sign(self, claims: dict[str, Any]) -> str:
        header = _b64(json.dumps({"alg": "HS256", "kid": "sandbox"}, separators=(",", ":")).encode())
        payload = _b64(json.dumps(claims, separators=(",", ":")).encode())
        signature = hmac.new(self._key, f"{header}.{payload}".encode(), hashlib.sha256).digest()
        return f"{header}.{payload}.{_b64(signature)}"

    def sign(
        self,
        account: dict[str, Any],
        audiences: Sequence[str] = (),
        expires_in: int = 3600,
        bound: tuple[str, dict[str, Any]] | None = None,
    ) -> str:
        """A token of a ServiceAccount object, as TokenRequest hands it out.

        Args:
            expires_in: seconds.
            bound: ("pod" or "secret", the object that the token dies with).
        """
        metadata, issued = account["metadata"], int(time.time())
        private: dict[str, Any] = {
            "namespace": metadata["namespace"],
            "serviceaccount": {"name": metadata["name"], "uid": metadata["uid"]},
        }
        if bound:
            kind, obj = bound
            private[kind] = {"name": obj["metadata"]["name"], "uid": obj["metadata"]["uid"]}
        return self._sign(
            {
                "aud": list(audiences) or [AUDIENCE],
                "exp": issued + expires_in,
                "iat": issued,
                "iss": AUDIENCE,
                "jti": str(uuid.uuid4()),
                "kubernetes.io": private,
                "nbf": issued,
                "sub": f"system:serviceaccount:{metadata['namespace']}:{metadata['name']}",
            }
        )

    def sign_for_secret(self, account: dict[str, Any], secret_name: str) -> str:
        """The lasting token that goes into a Secret of type kubernetes.io/service-account-token."""
        metadata = account["metadata"]
        prefix = "kubernetes.io/serviceaccount/"
        return self._sign(
            {
                "iss": "kubernetes/serviceaccount",
                prefix + "namespace": metadata["namespace"],
                prefix + "secret.name": secret_name,
                prefix + "service-account.name": metadata["name"],
                prefix + "service-account.uid": metadata["uid"],
                "sub": f"system:serviceaccount:{metadata['namespace']}:{metadata['name']}",
            }
        )

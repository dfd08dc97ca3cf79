"""Issuers of tokens, and the server where their keys are published."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

ISSUER = "https://login.test/tenant"
AUDIENCE = "api://scoring"
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims(**changes: object) -> dict[str, object]:
    """Claims of a good token; a change to None leaves the claim out."""
    now = int(time.time())
    good: dict[str, object] = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": "client-1", "iat": now, "exp": now + 300,
    }  # fmt: skip
    return {name: value for name, value in (good | changes).items() if value is not None}


class Issuer:
    """One signing key."""

    def __init__(self, algorithm: str = "RS256", kid: str = "one") -> None:
        self.algorithm = algorithm
        self.kid = kid
        self.key: PrivateKey
        if algorithm.startswith("ES"):
            self.key = ec.generate_private_key(ec.SECP256R1())
        elif algorithm == "EdDSA":
            self.key = ed25519.Ed25519PrivateKey.generate()
        else:
            self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def token(self, payload: dict[str, Any] | None = None, **header: Any) -> str:
        """A signed token; ``header`` adds to its header or, with None, takes away."""
        fields = {"kid": self.kid} | header
        return jwt.encode(
            claims() if payload is None else payload,
            self.key,
            algorithm=self.algorithm,
            headers={name: value for name, value in fields.items() if value is not None},
        )

    def sign(self, header: dict[str, Any], payload: bytes) -> str:
        """A token with exactly this header and payload, whatever a library thinks of them."""
        first = base64url(json.dumps({"alg": self.algorithm, **header}).encode())
        message = f"{first}.{base64url(payload)}"
        signature = jwt.get_algorithm_by_name(self.algorithm).sign(message.encode(), self.key)
        return f"{message}.{base64url(signature)}"

    def jwk(self, **members: object) -> dict[str, object]:
        """The public key as a JWK; ``members`` add to it."""
        exported = jwt.get_algorithm_by_name(self.algorithm).to_jwk(self.key.public_key())
        return {**json.loads(exported), "kid": self.kid, "use": "sig", **members}

    def pem(self) -> bytes:
        """The public key as PEM."""
        return self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )


def key_set(*issuers: Issuer) -> bytes:
    """A JWK Set of the issuers' public keys."""
    return json.dumps({"keys": [issuer.jwk() for issuer in issuers]}).encode()


def unsigned(header: dict[str, object], payload: dict[str, object], signature: bytes = b"x") -> str:
    """A token of any header at all; nobody signed it."""
    parts = [json.dumps(part).encode() for part in (header, payload)]
    return ".".join(base64url(part) for part in (*parts, signature))


Publish = Callable[[BaseHTTPRequestHandler], None]


def document(body: bytes, status: int = 200, **headers: str) -> Publish:
    """An ordinary answer."""

    def publish(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return publish


class KeyServer:
    """Publishes a JWK Set on loopback. ``answer`` can be changed at any time, ``paths`` are the
    requests so far."""

    def __init__(self, answer: Publish) -> None:
        self.answer = answer
        self.paths: list[str] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.paths.append(self.path)
                with contextlib.suppress(OSError):
                    owner.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing to standard error."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    @property
    def fetches(self) -> int:
        return len(self.paths)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/keys"

    def __enter__(self) -> KeyServer:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Refuse connections from now on."""
        self._server.shutdown()
        self._server.server_close()

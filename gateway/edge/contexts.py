"""OpenSSL's settings: what is offered and accepted (RFC 9325), made from the content of files."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from gateway.core.server_names import ServerNames

# Forward secrecy and authenticated encryption only (RFC 9325 section 4.2), in the order of
# Mozilla's intermediate profile. Those of TLS 1.3 are all of that kind.
SUITES = ":".join(
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
    )
)
# Every client that speaks TLS 1.2 has it. CPython sets one group or leaves all of OpenSSL's, slow
# ones and those of finite fields among them.
CURVE = "prime256v1"
PROTOCOLS = ["http/1.1"]
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate chain and its key, both PEM, and the names that it is good for."""

    chain: bytes
    key: bytes
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ServerRules:
    """How clients are met.

    The first of ``identities`` is shown to who asks for no name that another has. ``client_ca`` is
    PEM; without it, nobody is asked for a certificate. ``required``: without one, nobody gets in.
    """

    identities: tuple[Identity, ...]
    lowest: str = "1.2"
    highest: str = "1.2"
    client_ca: bytes | None = None
    required: bool = False


@dataclass(frozen=True, slots=True)
class ClientRules:
    """How containers are met: ``ca`` is PEM, None for what the system trusts."""

    ca: bytes | None = None
    identity: Identity | None = None
    verify: bool = True


def server_context(rules: ServerRules) -> ssl.SSLContext:
    """
    :raises ssl.SSLError: OpenSSL cannot use a certificate, key or authority.
    """
    contexts = [_one_server(rules, identity) for identity in rules.identities]
    first = contexts[0]
    if len(contexts) > 1:
        names = ServerNames([identity.names for identity in rules.identities])
        first.sni_callback = _Chooser(names, contexts)
    return first


def client_context(rules: ClientRules) -> ssl.SSLContext:
    """
    :raises ssl.SSLError: OpenSSL cannot use a certificate, key or authority.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _restrict(context, "1.2", "1.3")
    if not rules.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif rules.ca is not None:
        _trust(context, rules.ca)
    else:
        context.load_default_certs()
    if rules.identity is not None:
        load_identity(context, rules.identity)
    return context


class _Chooser:
    """Puts the certificate in place that the client has asked for."""

    def __init__(self, names: ServerNames, contexts: Sequence[ssl.SSLContext]) -> None:
        self._names = names
        self._contexts = contexts

    def __call__(self, connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        connection.context = self._contexts[self._names.choose(name)]


def _one_server(rules: ServerRules, identity: Identity) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _restrict(context, rules.lowest, rules.highest)
    context.set_ecdh_curve(CURVE)
    # All that is left is good: a client knows best what it can compute fast.
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    load_identity(context, identity)
    if rules.client_ca is not None:
        _trust(context, rules.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED if rules.required else ssl.CERT_OPTIONAL
    return context


def _restrict(context: ssl.SSLContext, lowest: str, highest: str) -> None:
    context.minimum_version = VERSIONS[lowest]
    context.maximum_version = VERSIONS[highest]
    context.set_ciphers(SUITES)
    context.set_alpn_protocols(PROTOCOLS)


def _trust(context: ssl.SSLContext, authorities: bytes) -> None:
    context.load_verify_locations(cadata=authorities.decode("ascii", "replace"))
    # An authority may be one that another has signed: what is configured is where trust begins.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def load_identity(context: ssl.SSLContext, identity: Identity) -> None:
    """Make ``context`` show a certificate.

    :raises ssl.SSLError: OpenSSL cannot use it, or its key.
    """
    with _as_file(identity.chain) as chain, _as_file(identity.key) as key:
        # Never ask for a pass phrase on a terminal.
        context.load_cert_chain(chain, key, password="")


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """OpenSSL wants the names of files; nothing is written to any disk."""
    descriptor = os.memfd_create("pem")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)

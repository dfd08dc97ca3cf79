"""From settings to TLS: certificates and keys are read and judged, contexts are made of them."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from gateway.core.backends import Backend
from gateway.core.certificates import (
    Chain,
    UnusableCertificate,
    judge_chain,
    judge_dates,
    judge_key,
    judge_server,
    read_certificates,
    read_chain,
)
from gateway.edge.contexts import (
    ClientRules,
    Identity,
    ServerRules,
    client_context,
    server_context,
)
from gateway.engine.pools import Encryption
from gateway.settings.encryption import BackendTls, ListenTls
from gateway.settings.mistakes import Keys
from gateway.settings.notes import Notes


@dataclass(frozen=True, slots=True)
class Expiry:
    """When a certificate ends, in unix seconds, or the first of its chain.

    ``use`` is what for: ``listen`` or ``backend``; ``file`` is named as it is configured.
    """

    use: str
    file: str
    moment: float


@dataclass(slots=True)
class Contexts:
    """Makes what TLS needs, once for all who need the same."""

    notes: Notes
    #: Unix time in seconds, None if what has expired is to be used all the same.
    now: float | None
    #: What the configuration before has made. What has not changed is used again: sessions of
    #: clients go on, and the authorities of the system are not read anew.
    before: Mapping[bytes, ssl.SSLContext] = field(default_factory=dict)
    #: By a digest of what they were made of.
    made: dict[bytes, ssl.SSLContext] = field(default_factory=dict)
    expiries: list[Expiry] = field(default_factory=list)
    _clients: dict[str, ssl.SSLContext | None] = field(default_factory=dict)

    def server(self, at: Keys, entry: ListenTls | None) -> ssl.SSLContext | None:
        """How clients are met; None for plain HTTP, and if it cannot be made."""
        if entry is None:
            return None
        identities = [
            self._identity((*at, *keys), files.certificate, files.key, "listen")
            for keys, files in entry.files
        ]
        authorities: bytes | None = None
        if entry.client_ca is not None:
            authorities = self._authorities((*at, "client_ca"), entry.client_ca)
            if authorities is None:
                return None
        usable = tuple(identity for identity in identities if identity is not None)
        if not usable or len(usable) < len(identities):
            return None
        rules = ServerRules(
            usable,
            lowest=entry.min_version,
            highest=entry.max_version,
            client_ca=authorities,
            required=entry.client_certificate == "required",
        )
        return self._make(at, rules, lambda: server_context(rules))

    def towards(
        self, at: Keys, entry: BackendTls | None, backends: Iterable[Backend]
    ) -> dict[Backend, Encryption]:
        """How the containers of a deployment are met, those that are ``secure``."""
        secure = [backend for backend in backends if backend.secure]
        if not secure:
            if entry is not None:
                self.notes.note(at, "none of the backends is an https:// URL")
            return {}
        entry = entry or BackendTls()
        if not entry.verify:
            why = "backends are not verified, so anybody on the way can read and change requests"
            self.notes.warn((*at, "verify"), why)
        context = self._shared(at, entry)
        if context is None:
            return {}
        return {b: Encryption(context, entry.server_name or b.host) for b in secure}

    def _shared(self, at: Keys, entry: BackendTls) -> ssl.SSLContext | None:
        key = entry.model_copy(update={"server_name": None}).model_dump_json()
        if key not in self._clients:
            self._clients[key] = self._client(at, entry)
        return self._clients[key]

    def _client(self, at: Keys, entry: BackendTls) -> ssl.SSLContext | None:
        authorities: bytes | None = None
        if entry.ca is not None:
            authorities = self._authorities((*at, "ca"), entry.ca)
            if authorities is None:
                return None
        identity: Identity | None = None
        if entry.certificate is not None and entry.key is not None:
            identity = self._identity(at, entry.certificate, entry.key, "backend")
            if identity is None:
                return None
        rules = ClientRules(authorities, identity, entry.verify)
        return self._make(at, rules, lambda: client_context(rules))

    def _make(
        self, at: Keys, rules: ServerRules | ClientRules, make: Callable[[], ssl.SSLContext]
    ) -> ssl.SSLContext | None:
        digest = hashlib.sha256(repr(rules).encode()).digest()
        try:
            context = self.made[digest] = self.before.get(digest) or make()
            return context
        except ssl.SSLError as error:
            # What passed our own judgement and not OpenSSL's, such as what its policy forbids.
            self.notes.note(at, f"OpenSSL refuses it: {error.reason or error}")
            return None

    def _identity(self, at: Keys, certificate: str, key: str, use: str) -> Identity | None:
        before = len(self.notes.mistakes)
        pem = self.notes.read_file((*at, "certificate"), certificate)
        chain = None
        if pem is not None:
            chain = self._chain((*at, "certificate"), certificate, pem, use)
        secret = self.notes.read_file((*at, "key"), key)
        if secret is not None and (wrong := judge_key(secret, chain)):
            self.notes.note((*at, "key"), f"{key} {wrong}")
        if pem is None or chain is None or secret is None or len(self.notes.mistakes) > before:
            return None
        return Identity(pem, secret, chain.names)

    def _chain(self, at: Keys, name: str, pem: bytes, use: str) -> Chain | None:
        try:
            chain = read_chain(pem)
        except UnusableCertificate as why:
            self.notes.note(at, f"{name} {why}")
            return None
        wrong = judge_chain(chain) + (judge_server(chain) if use == "listen" else [])
        if self.now is not None:
            wrong += judge_dates(chain, self.now)
        for reason in wrong:
            self.notes.note(at, f"{name} {reason}")
        self.expiries.append(Expiry(use, name, chain.expires))
        return chain

    def _authorities(self, at: Keys, name: str) -> bytes | None:
        pem = self.notes.read_file(at, name)
        if pem is None:
            return None
        try:
            read_certificates(pem)
        except UnusableCertificate as why:
            self.notes.note(at, f"{name} {why}")
            return None
        return pem

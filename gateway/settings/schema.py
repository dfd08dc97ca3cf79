"""What may stand in a configuration file (design.md section 5).

Every default that Azure ML documents is the documented one (contract.md 1.5). Descriptions end up
in the JSON Schema that ``scoring-gateway schema`` prints for editors.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
    model_validator,
)

from gateway.settings.encryption import BackendTls, ListenTls
from gateway.settings.secrets import SecretSource
from gateway.settings.sections import (
    Address,
    Duration,
    Section,
    Size,
    SomeSize,
    SomeTime,
    Texts,
    written,
)
from gateway.settings.units import (
    ADDRESS,
)

# Endpoint and deployment names, contract.md 1.5.
NAME = r"^[a-zA-Z]([-a-zA-Z0-9]{0,30}[a-zA-Z0-9])?$"
MOST_WORKERS = 64
# Where in a body the rows are: names of members, from the outermost one.
MEMBERS = r"[^.]{1,100}(?:\.[^.]{1,100}){0,3}"


Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
    "ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512",
]  # fmt: skip


def _named(entry: dict[str, Any]) -> None:
    """Keys of this mapping are names; which they may be is judged apart, see judging.py."""
    entry["propertyNames"] = {"pattern": NAME, "minLength": 2, "maxLength": 32}


class Limits(Section):
    """Bounds on what a client may make the gateway hold."""

    connections: int = Field(10000, ge=1, le=1000000, description="Open client connections.")
    request_line: SomeSize = 8192
    headers: SomeSize = 32768
    header_count: int = Field(100, ge=1, le=10000)
    requests_per_connection: int = Field(100000, ge=1, le=10**9)
    json_buffer: Size = Field(
        1 << 20, description="JSON bodies up to this size are collected, larger ones streamed."
    )


class Timeouts(Section):
    """How long a client is waited for."""

    headers: SomeTime = Field(10.0, description="From the first byte of a request to its body.")
    body: SomeTime = Field(20.0, description="Between two pieces of a body.")
    idle: SomeTime = Field(75.0, description="For the next request on a connection.")
    write: SomeTime = Field(30.0, description="For a client to take its answer.")
    handshake: SomeTime = Field(5.0, description="For a TLS handshake.")
    linger: Duration = Field(2.0, description="For a refused client to stop sending.")
    drain_delay: Duration = Field(
        0.0, description="From unreadiness to the end of accepting when stopping."
    )
    drain: Duration = Field(30.0, description="For requests in flight when stopping.")
    body_rate: Size = Field(256, description="Bytes per second below which a body is too slow.")


class Listen(Section):
    """The public address."""

    address: Address
    tls: ListenTls | None = Field(None, description="Plain HTTP if absent.")
    plain: Address | None = Field(None, description="Plain HTTP beside TLS, at this address.")
    backlog: int = Field(2048, ge=1, le=65535)
    trusted_proxies: list[str] = Field(
        default_factory=list,
        description="Addresses or networks whose X-Forwarded-* and Forwarded are believed.",
    )
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()


class Admin(Section):
    """The control plane's address."""

    address: Address = ("127.0.0.1", 9090)
    token: SecretSource | None = Field(
        None, description="Bearer token that /metrics and /config then ask for."
    )


def _address_only(value: object) -> object:
    """``listen: 127.0.0.1:8080`` is short for ``listen: {address: 127.0.0.1:8080}``."""
    return {"address": value} if isinstance(value, str) else value


class AccessLog(Section):
    """One JSON line per request."""

    path: str | None = Field(None, description="A file; standard output if absent.")
    enabled: bool = True


def _access_log(value: object) -> object:
    """``off`` is a word to us and ``false`` to whoever reads YAML 1.1, as many editors do. What is
    true or false there means the same here, and is not the path of a file."""
    if isinstance(value, bool):
        return {"enabled": value}
    if not isinstance(value, str):
        return value
    match value.lower():
        case "stdout" | "on" | "yes":
            return {}
        case "off" | "no":
            return {"enabled": False}
    return {"path": value}


class Keys(Section):
    """API keys. Both are valid; two make it possible to change one while clients use the other."""

    primary: SecretSource
    secondary: SecretSource | None = None


class Tokens(Section):
    """JSON Web Tokens. Exactly one source of keys: ``jwks``, ``jwks_file``, ``public_key`` or
    ``secret``."""

    algorithms: list[Algorithm] = Field(min_length=1)
    issuer: str | None = Field(None, description="Exact value of `iss`.")
    audience: Texts | None = Field(None, description="One of these must be in `aud`.")
    jwks: str | None = Field(None, description="https:// URL of a JWK Set.")
    jwks_file: str | None = None
    public_key: str | None = Field(None, description="Path of a public key or certificate, PEM.")
    secret: SecretSource | None = Field(None, description="Shared secret for HS algorithms.")
    refresh: Duration = Field(600.0, description="Between two fetches of the JWK Set.")
    leeway: Duration = Field(30.0, description="Clock skew allowed, at most 60s.")
    max_lifetime: SomeTime | None = Field(None, description="Longest `exp - iat` accepted.")
    principal: str = Field("sub", description="Claim that names the caller in logs.")


class Auth(Section):
    """Who may call. ``auth: none`` opens the endpoint to everybody and must be said aloud."""

    keys: Keys | None = None
    tokens: Tokens | None = None
    certificates: list[str] | None = Field(
        None,
        min_length=1,
        description="Names in client certificates: cn:, dns:, uri: or email: and the name.",
    )
    forward_credentials: bool = Field(
        False, description="Pass the Authorization header on to the container."
    )
    open: bool = Field(False, exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _none(cls, value: object) -> object:
        if isinstance(value, dict) and "open" in value:
            raise ValueError("has an unknown key 'open'; to let everybody in say `auth: none`")
        return {"open": True} if value == "none" else value

    @model_validator(mode="after")
    def _something(self) -> Auth:
        some = self.keys or self.tokens or self.certificates
        if self.open and some:
            raise ValueError("say `auth: none` alone, or keys, tokens and certificates")
        if not (self.open or some):
            raise ValueError(
                "say keys, tokens or certificates; to let everybody in say `auth: none`"
            )
        return self

    @model_serializer(mode="wrap")
    def _as_written(self, section: SerializerFunctionWrapHandler) -> Any:
        return "none" if self.open else section(self)


class CorsSettings(Section):
    """Pages of which origins may read the answers."""

    origins: list[str] = Field(
        min_length=1,
        description="scheme://host[:port], https://*.example.com for sub-domains, or *",
    )
    methods: list[Literal["GET", "POST"]] = Field(["GET", "POST"])
    headers: list[str] = Field(["authorization", "content-type", "azureml-model-deployment"])
    expose: list[str] | None = None
    max_age: Duration = 600.0
    credentials: bool = False
    private_network: bool = False


class EndpointLimits(Section):
    body: Size = Field(100 << 20, description="Bytes of one request body.")


class Connections(Section):
    """Connections to each backend."""

    max: int = Field(256, ge=1, le=1000000)
    # Shorter than gunicorn's keep-alive of 2 s and uvicorn's of 5 s, so that no request is sent
    # into a connection that the container is just closing.
    idle_timeout: Duration = 1.5
    connect_timeout: SomeTime = 1.0


class Queue(Section):
    """Requests that wait until a container is free."""

    max_wait: Duration = Field(0.5, description="After that, the client is told of the overload.")
    max_length: int = Field(1000, ge=0, le=1000000)


def _members(value: object) -> object:
    if not isinstance(value, str) or not re.fullmatch(MEMBERS, value):
        raise ValueError("expected up to 4 names with dots between them, as data or Inputs.rows")
    return value


def _mode(value: object) -> object:
    """``on`` and ``off`` are truth values to whoever reads YAML 1.1 (see ``_access_log``)."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return value


class Batching(Section):
    """Requests that wait for a container are sent to it together (docs/batching.md)."""

    mode: Annotated[
        Literal["on", "off", "shadow"],
        BeforeValidator(_mode),
        WithJsonSchema(
            {
                "enum": ["on", "off", "shadow", True, False],
                "description": "shadow: nothing is merged but a sample, to compare the answers.",
            }
        ),
    ] = "on"
    field: Annotated[
        str,
        BeforeValidator(_members),
        written(MEMBERS, "Member that lists the rows, as data or Inputs.rows.", "data"),
    ] = "data"
    max_rows: int = Field(1024, ge=1, le=1000000, description="Rows of one call.")
    max_bytes: SomeSize = Field(1 << 20, description="Bytes of one call's body.")
    max_queue_delay: Duration = Field(
        0.0, description="Wait for company though a container is free; for accelerators."
    )
    latency_target: SomeTime = Field(
        0.05, description="Rows of a call are limited so that the container answers within this."
    )
    significant_headers: Literal["all"] | list[str] = Field(
        "all", description="Request headers that must be equal for requests to share a call."
    )
    isolate_principals: bool = Field(
        False, description="Requests of different callers never share a call."
    )
    scatter: bool = Field(
        False, description="Cut requests above max_rows and send the parts to several backends."
    )
    tolerance: float = Field(
        1e-6, ge=0, le=0.1, description="Relative difference of numbers that proofs overlook."
    )
    sample: float = Field(1.0, ge=0.001, le=100, description="Percent that shadow compares.")
    debug_header: bool = Field(False, description="Answers name their batch and its rows.")


def _batching(value: object) -> object:
    """``batching: on`` is short for ``batching: {mode: on}``."""
    return {"mode": value} if isinstance(value, str | bool) else value


class DeploymentSettings(Section):
    """One version of a model."""

    backends: list[str] = Field(min_length=1, description="URLs such as http://10.0.0.5:5001")
    tls: BackendTls | None = Field(None, description="How https:// backends are verified.")
    concurrency: int = Field(1, ge=1, le=100000, description="Requests at a time per backend.")
    queue: Queue = Queue()
    batching: Annotated[Batching, BeforeValidator(_batching)] = Batching(mode="off")
    connections: Connections = Connections()


class EndpointSettings(Section):
    """One service."""

    auth: Auth
    deployments: dict[str, DeploymentSettings] = Field(min_length=1, json_schema_extra=_named)
    hosts: list[str] = Field(default_factory=list, description="Host names for v2 style paths.")
    dialect: Literal["v1", "managed"] = "v1"
    cors: CorsSettings | None = None
    default: str | None = Field(
        None, description="Deployment that gets what `traffic` leaves; the first one if absent."
    )
    traffic: dict[str, int] | None = Field(None, description="Percent by deployment.")
    timeout: Duration = Field(60.0, description="From the header to the end of the answer.")
    limits: EndpointLimits = EndpointLimits()


def _workers(value: object) -> object:
    number = value if isinstance(value, int) and not isinstance(value, bool) else 0
    if value != "auto" and not 1 <= number <= MOST_WORKERS:
        raise ValueError(f"expected a number from 1 to {MOST_WORKERS}, or auto")
    return value


class Settings(Section):
    """The whole file."""

    listen: Annotated[Listen, BeforeValidator(_address_only)]
    admin: Annotated[Admin, BeforeValidator(_address_only)] = Admin()
    access_log: Annotated[AccessLog, BeforeValidator(_access_log)] = AccessLog()
    workers: Annotated[
        int | Literal["auto"],
        BeforeValidator(_workers),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "integer", "minimum": 1, "maximum": MOST_WORKERS},
                    {"const": "auto"},
                ],
                "description": "Processes that serve; auto: one for each processor.",
            }
        ),
    ] = 1
    worker_timeout: SomeTime = Field(
        10.0, description="A worker without a sign of life for so long is replaced."
    )
    watch: bool = Field(True, description="Reload when files of the configuration change.")
    takeover: str | None = Field(
        None, description="Path of a socket at which a new gateway takes over from an old one."
    )
    endpoints: dict[str, EndpointSettings] = Field(min_length=1, json_schema_extra=_named)


def json_schema() -> dict[str, Any]:
    """JSON Schema of the file for editors, with the short forms that validators accept."""
    schema = Settings.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "scoring-gateway configuration"
    sections = {kind.__name__: kind for kind in Section.__subclasses__()}
    for name, entry in [("Settings", schema), *schema["$defs"].items()]:
        if name in sections:
            _write_defaults(sections[name], entry)
    address = {"type": "string", "pattern": f"^{ADDRESS}$", "examples": ["127.0.0.1:8080"]}
    words = {
        "type": "string",
        "description": "stdout, off or the path of a file",
        "examples": ["stdout"],
    }
    log = [words, {"type": "boolean", "description": "true is stdout, false is off"}]
    for name, short in (("listen", [address]), ("admin", [address]), ("access_log", log)):
        entry = schema["properties"][name]
        default = {"default": entry.pop("default")} if "default" in entry else {}
        schema["properties"][name] = {"anyOf": [*short, dict(entry)]} | default
    deployment = schema["$defs"]["DeploymentSettings"]["properties"]
    batching = deployment["batching"]
    modes = [{"enum": ["on", "off", "shadow"]}, {"type": "boolean", "description": "on or off"}]
    deployment["batching"] = {
        "anyOf": [*modes, {"$ref": batching["$ref"]}],
        "default": batching["default"],
    }
    auth = schema["$defs"]["Auth"]
    auth["properties"].pop("open", None)
    schema["$defs"]["Auth"] = {"anyOf": [{"const": "none"}, auth]}
    return schema


def _write_defaults(kind: type[Section], entry: dict[str, Any]) -> None:
    """Defaults as they are written in the file: pydantic shows what they are in the program."""
    defaults = kind.model_construct().model_dump(mode="json", warnings=False)
    for name, described in entry["properties"].items():
        if "default" in described and name in defaults:
            described["default"] = defaults[name]

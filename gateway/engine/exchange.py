"""The record of one request on its way through the gateway, and the parties it meets."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from gateway.core.faults import Fault, Refusal
from gateway.core.replies import Reply

if TYPE_CHECKING:
    from gateway.engine.endpoints import Deployment, Endpoint
    from gateway.engine.pools import Pool
    from gateway.engine.routed import Routed


class Custodian(Protocol):
    """Whatever a walk waits at, so that it can be told that the walk waits no longer."""

    def abandon(self, caller: Any, /) -> None:
        """:param caller: who waited: an ``Exchange``, or what stands for several."""


class Caller(Protocol):
    """What a connection carries to a container: one request, or what stands for several."""

    walk: Coroutine[None, Any, None] | None
    custody: Custodian | None
    upstream_seconds: float

    @property
    def length(self) -> int:
        """Bytes of the body, or CHUNKED."""


class Taker(Protocol):
    """Where an answer flows to."""

    def write_reply(self, data: bytes, source: Source) -> None:
        """Take a piece of the body, and make ``source`` wait if it comes too fast."""


class Source(Protocol):
    """Where bytes come from, told by where they go to: backpressure is these two calls."""

    def hold(self) -> None: ...

    def go_on(self) -> None: ...


class Upload(Custodian, Source, Protocol):
    """A request body that did not come whole with its head."""

    #: All of it is here.
    complete: bool
    #: What is wrong with it, if that is known before anybody asks for it.
    refusal: Refusal | None

    def take(self) -> bytes:
        """The body as far as it has come."""

    def collect(self, exchange: Exchange, limit: int) -> None:
        """Wait for the whole body. The walk parks and is resumed with it, or with None when it has
        more than ``limit`` bytes; it must be poured then."""

    def pour(self, connection: Connection) -> None:
        """Send what came and what will come to ``connection``, no faster than it accepts it."""

    def detach(self) -> None:
        """Send nothing more: the answer is there already, or the connection is gone."""


class Client(Taker, Protocol):
    """The downstream connection, as the walk sees it. None of these wait."""

    @property
    def address(self) -> str:
        """Address of the client: the other end's, unless that is a trusted proxy."""

    @property
    def certificate(self) -> frozenset[str]:
        """The names in the client's verified certificate; empty if it has shown none."""

    @property
    def forwarding(self) -> bytes:
        """Header lines that tell the container who asks."""

    def proceed(self) -> None:
        """Send the client its 100 Continue if it waits for one."""

    def send_reply(self, exchange: Exchange, reply: Reply) -> None:
        """Send an answer whose body is complete."""

    def send_local(self, exchange: Exchange, status: int, lines: bytes) -> None:
        """Send an answer of the gateway's own, without a body."""

    def send_refusal(self, exchange: Exchange, refusal: Refusal) -> None: ...

    def begin_reply(self, exchange: Exchange, reply: Reply) -> None:
        """Send the head of an answer whose body is still coming."""

    def end_reply(self) -> None: ...

    def finish(self, exchange: Exchange) -> None:
        """The walk is over: go on with the connection."""

    def abort(self) -> None:
        """Break the connection: the answer cannot be completed, and must not look complete."""


class Connection(Custodian, Source, Protocol):
    """An upstream connection that was taken from its pool."""

    #: It has served a request before.
    reused: bool
    #: Bytes of an answer to the request in hand have arrived.
    answered: bool

    def send(self, caller: Caller, head: bytes, body: bytes | None, now: float) -> None:
        """Send a request; None as the body means that it will be poured. The walk parks and is
        resumed with a ``Reply``.
        """

    def attach(self, upload: Upload) -> None:
        """Name who will pour the body, so that it can be made to wait."""

    def write_body(self, data: bytes) -> None: ...

    def end_body(self) -> None: ...

    def pour(self, taker: Taker) -> None:
        """Let the rest of the answer flow to ``taker``. The walk parks and is resumed once all of
        it has been passed on."""


class Exchange:
    """One request. Fields stand in the order of the walk, and each has one writer."""

    __slots__ = (
        "attempts",
        "begun",
        "body",
        "client",
        "custody",
        "deadline",
        "deployment",
        "detail",
        "ended",
        "endpoint",
        "fault",
        "length",
        "principal",
        "queue_seconds",
        "received",
        "request_id",
        "routed",
        "sent",
        "slot",
        "started",
        "status",
        "upload",
        "upstream_name",
        "upstream_seconds",
        "walk",
    )

    def __init__(
        self,
        client: Client,
        routed: Routed,
        length: int,
        body: bytes | None,
        request_id: bytes,
        started: float,
    ) -> None:
        # The server, when the head is complete.
        self.client = client
        self.routed = routed
        #: Declared length of the body, or CHUNKED.
        self.length = length
        #: The whole body, or None as long as it has not been collected; ``upload`` has it then.
        self.body = body
        self.upload: Upload | None = None
        self.request_id = request_id
        #: Monotonic seconds.
        self.started = started
        self.deadline = started + routed.timeout
        # The walk.
        self.endpoint: Endpoint | None = None
        self.principal = ""
        self.deployment: Deployment | None = None
        self.attempts = 0
        #: The backend at which it has a place.
        self.slot: Pool | None = None
        self.queue_seconds = 0.0
        self.upstream_name = ""
        self.upstream_seconds = 0.0
        #: What the walk waits at.
        self.custody: Custodian | None = None
        self.walk: Coroutine[None, Any, None] | None = None
        # Whoever answers.
        #: The head of the answer has been sent.
        self.begun = False
        self.status = 0
        self.fault: Fault | None = None
        self.detail = ""
        #: Bytes of the request body that arrived, and of the answer's body that were sent.
        self.received = len(body) if body is not None else 0
        self.sent = 0
        self.ended = 0.0

    def __repr__(self) -> str:
        return f"<Exchange {self.request_id.decode()} {self.routed.head!r}>"

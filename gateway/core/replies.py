"""An upstream answer's head: which of it reaches the client.

The head was accepted by llhttp before it comes here. What is left to decide is what llhttp leaves
open (versions, status codes, transfer codings), how the body is framed (RFC 9112 section 6.3), and
which fields go on: neither hop-by-hop ones (RFC 9110 section 7.6.1) nor those that are the
gateway's own to set.
"""

from __future__ import annotations

from enum import Enum, auto

from gateway.core.faults import Fault, Refusal
from gateway.core.grammar import OWS, STATUS_LINE, tokens

MAX_HEAD = 65536
MAX_FIELDS = 256
MAX_INTERIM = 16

CHUNKED = -1
UNTIL_CLOSE = -2

_LENGTH_NAME = len(b"Content-Length:")
_MINOR_0 = ord("0")


class Rule(Enum):
    """What becomes of an upstream header field."""

    KEEP = auto()
    DROP = auto()
    LENGTH = auto()
    CODING = auto()
    CONNECTION = auto()
    CLOSE = auto()
    KEEP_ALIVE = auto()
    CORS = auto()
    LOCATION = auto()


# Unpacked, because a look-up in an Enum costs 70 ns on CPython 3.11 and a global 2.
KEEP, DROP, LENGTH, CODING, CONNECTION, CLOSE, KEEP_ALIVE, CORS, LOCATION = Rule


_RULES: dict[bytes, Rule] = {
    b"content-length": LENGTH,
    b"transfer-encoding": CODING,
    b"connection": CONNECTION,
    b"location": LOCATION,
    b"content-location": LOCATION,
    # Hop-by-hop.
    b"keep-alive": DROP,
    b"proxy-connection": DROP,
    b"proxy-authenticate": DROP,
    b"proxy-authorization": DROP,
    b"te": DROP,
    b"trailer": DROP,
    b"upgrade": DROP,
    # Ours to say, or nobody's business (reliability.md T46).
    b"server": DROP,
    b"date": DROP,
    b"x-powered-by": DROP,
    b"alt-svc": DROP,
    b"x-request-id": DROP,
    b"x-ms-request-id": DROP,
    b"x-ms-client-request-id": DROP,
    b"azureml-model-deployment": DROP,
    b"ms-azureml-model-error-statuscode": DROP,
    b"ms-azureml-model-error-reason": DROP,
    b"access-control-allow-origin": CORS,
    b"access-control-allow-credentials": CORS,
    b"access-control-allow-headers": CORS,
    b"access-control-allow-methods": CORS,
    b"access-control-allow-private-network": CORS,
    b"access-control-expose-headers": CORS,
    b"access-control-max-age": CORS,
}
# Whose value changes with every answer, so that remembering the line would be of no use.
_CHANGING = frozenset((b"date", b"x-request-id", b"x-ms-request-id", b"x-ms-run-fn-exec-ms"))

# A container says nearly the same lines in every answer, so each line is looked at once. Of those
# that change, the name is remembered. Both memories are bounded and begun anew when full.
_lines: dict[bytes, Rule] = {}
_names: dict[bytes, Rule] = {}
_statuses: dict[bytes, int] = {}
_MAX_KNOWN = 1024
_MAX_LINE = 256


def _learn(line: bytes) -> Rule:
    spelling, _, value = line.partition(b":")
    name = spelling.lower()
    rule = _RULES.get(name, KEEP)
    if name == b"proxy-connection" and b"close" in tokens(value.strip(b"\r\n")):
        rule = CLOSE  # llhttp takes it for `Connection`, and reads no more
    if rule is CONNECTION:
        option = value.strip(OWS + b"\r\n").lower()
        if option == b"close":
            rule = CLOSE
        elif option == b"keep-alive":
            rule = KEEP_ALIVE
    elif name == b"vary" and value.strip(OWS + b"\r\n").lower() == b"origin":
        rule = CORS  # said once: by us where we have rules, else by the container
    known, key = (_names, spelling) if name in _CHANGING else (_lines, line)
    if len(key) <= _MAX_LINE:
        if len(known) >= _MAX_KNOWN:
            known.clear()
        known[key] = rule
    return rule


class Reply:
    """What a container answered. ``lines`` are the fields that go on, as they came, each with its
    CRLF.

    ``length`` is the body's length in bytes, ``CHUNKED`` or ``UNTIL_CLOSE``. ``body`` is the whole
    body, or None while it is still arriving.
    """

    # Few answers have any of these, so the defaults live in the class and cost nothing to set.
    length = UNTIL_CLOSE
    #: The container will close the connection after this answer.
    close = False
    #: It says ``keep-alive``, which only HTTP/1.0 has to.
    kept = False
    body: bytes | None = None
    #: What every client that gets it is told alike, once that was rendered for one of them. All of
    #: them have asked the same deployment.
    head = b""
    #: CORS fields of the container's own, used where the endpoint has no rules.
    cors_lines: tuple[bytes, ...] = ()
    #: ``Location`` and its like, which may have to be rewritten.
    locations: tuple[bytes, ...] = ()
    #: Names that ``Connection`` lists, lower case.
    nominated: tuple[bytes, ...] = ()

    def __init__(self, status: int) -> None:
        self.status = status
        self.lines: list[bytes] = []

    def __repr__(self) -> str:
        return f"<Reply {self.status}, length {self.length}>"

    def with_body(self, body: bytes) -> Reply:
        """A copy that answers with ``body``, whole."""
        copy = Reply(self.status)
        copy.lines = self.lines[:]
        copy.body = body
        if self.cors_lines:
            copy.cors_lines = self.cors_lines
        return copy


def parse_reply_head(raw: bytes) -> Reply:
    """Read an answer's head that llhttp accepted.

    :param raw: from the status line up to and including the empty line.
    :raises Refusal: ``UPSTREAM_MALFORMED``.
    """
    # llhttp saw to it that only CRLF ends a line. Splitting costs a quarter of a regular
    # expression, and this runs on every answer.
    lines = raw[:-2].splitlines(True)
    status_line = lines[0]
    reply = Reply(_statuses.get(status_line) or _read_status(status_line))
    if len(lines) > MAX_FIELDS + 1:
        raise Refusal(Fault.UPSTREAM_MALFORMED, f"more than {MAX_FIELDS} header fields")
    keep = reply.lines.append
    know = _lines.get
    for line in lines[1:]:
        rule = know(line) or _names.get(line[: line.find(b":")]) or _learn(line)
        if rule is KEEP:
            keep(line)
        elif rule is LENGTH:
            if reply.length != UNTIL_CLOSE:
                raise Refusal(Fault.UPSTREAM_MALFORMED, "its length is given twice")
            # llhttp agreed that these are digits; int() does not mind white space around them.
            reply.length = int(line[_LENGTH_NAME:])
        elif rule is not DROP:
            _read_field(reply, rule, line)
    if status_line[7] == _MINOR_0:
        _read_as_old(reply)
    if reply.nominated:
        reply.lines = [
            line for line in reply.lines if line.partition(b":")[0].lower() not in reply.nominated
        ]
    if reply.status in (204, 304):
        reply.length = 0
    return reply


def _read_as_old(reply: Reply) -> None:
    """HTTP/1.0 closes unless it says otherwise, and knows no transfer codings: RFC 9112 section 6.1
    has such framing treated as faulty."""
    if reply.length == CHUNKED:
        raise Refusal(Fault.UPSTREAM_MALFORMED, "a transfer coding in HTTP/1.0")
    if not reply.kept:
        reply.close = True


def _read_status(line: bytes) -> int:
    match = STATUS_LINE.fullmatch(line)
    if match is None:
        raise Refusal(Fault.UPSTREAM_MALFORMED, "its status line is not HTTP/1.x")
    status = int(match[1])
    if not 200 <= status <= 599:
        raise Refusal(Fault.UPSTREAM_MALFORMED, "its status is not between 200 and 599")
    if len(_statuses) < _MAX_KNOWN and len(line) <= _MAX_LINE:
        _statuses[line] = status
    return status


def _read_field(reply: Reply, rule: Rule, line: bytes) -> None:
    if rule is CLOSE:
        reply.close = True
    elif rule is KEEP_ALIVE:
        reply.kept = True
    elif rule is CORS:
        reply.cors_lines += (line,)
    elif rule is LOCATION:
        reply.locations += (line,)
    else:
        value = line.partition(b":")[2].strip(OWS + b"\r\n")
        if rule is CODING:
            if value.lower() != b"chunked" or reply.length != UNTIL_CLOSE:
                raise Refusal(Fault.UPSTREAM_MALFORMED, "its transfer coding is not chunked")
            reply.length = CHUNKED
        else:
            _read_connection(reply, tokens(value))


def _read_connection(reply: Reply, options: list[bytes]) -> None:
    if b"close" in options:
        reply.close = True
    if b"keep-alive" in options:
        reply.kept = True
    reply.nominated += tuple(o for o in options if o not in (b"close", b"keep-alive"))

"""Which identifiers go to the container and which come back (contract 1.4 and 2.5)."""

from __future__ import annotations

import os
import uuid
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.identity import identify, request_ids, trace_id

#: x-request-id, x-ms-request-id, x-ms-client-request-id as the client sent them.
Sent = tuple[bytes | None, bytes | None, bytes | None]


@pytest.mark.parametrize(
    ("sent", "upstream", "echo", "theirs"),
    [
        pytest.param((None, None, None), [], [], None, id="nothing"),
        pytest.param((b"A", None, None), [b"x-request-id: A"], [], b"A", id="A"),
        pytest.param(
            (None, b"B", None),
            [b"x-ms-request-id: B"],
            [b"x-ms-client-request-id: B"],
            None,
            id="B",
        ),
        pytest.param(
            (None, None, b"C"),
            [b"x-ms-client-request-id: C"],
            [b"x-ms-client-request-id: C"],
            None,
            id="C",
        ),
        pytest.param(
            (b"A", b"B", None),
            [b"x-request-id: A", b"x-ms-request-id: B"],
            [b"x-ms-client-request-id: B"],
            b"A",
            id="A and B",
        ),
        pytest.param(
            (b"A", b"B", b"C"),
            [b"x-request-id: A", b"x-ms-request-id: B", b"x-ms-client-request-id: C"],
            [b"x-ms-client-request-id: C"],
            b"A",
            id="A, B and C",
        ),
        # The container judges lengths itself; our answers repeat no more than it accepts.
        pytest.param(
            (b"A" * 120, None, b"C" * 120),
            [b"x-request-id: " + b"A" * 120, b"x-ms-client-request-id: " + b"C" * 120],
            [b"x-ms-client-request-id: " + b"C" * 100],
            b"A" * 100,
            id="too long",
        ),
        pytest.param(
            (b"A\x80", None, b"C\xff;"),
            [b"x-request-id: A\x80", b"x-ms-client-request-id: C\xff;"],
            [b"x-ms-client-request-id: C?;"],
            b"A?",
            id="not printable",
        ),
    ],
)
def test_v1_keeps_what_the_client_sent(
    sent: Sent, upstream: list[bytes], echo: list[bytes], theirs: bytes | None
) -> None:
    identifiers = identify(False, *sent)
    assert identifiers.upstream == b"".join(line + b"\r\n" for line in upstream)
    assert identifiers.echo == b"".join(line + b"\r\n" for line in echo)
    assert identifiers.theirs == theirs


@pytest.mark.parametrize(
    ("sent", "client"),
    [
        pytest.param((None, None, None), "", id="nothing"),
        pytest.param((b"A", None, None), "", id="A is the front end's"),
        pytest.param((None, b"B", None), "B", id="B"),
        pytest.param((None, None, b"C"), "C", id="C"),
        pytest.param((b"A", b"B", b"C"), "C", id="A, B and C"),
        pytest.param((None, None, b"a.b c;d\xff_-9"), "abcd_-9", id="foreign characters"),
        pytest.param((None, None, b"." * 50 + b"C" * 50), "C" * 40, id="cleaned, then cut"),
        pytest.param((None, None, b"..."), "", id="nothing left"),
    ],
)
def test_managed_reduces_what_the_client_sent(sent: Sent, client: str) -> None:
    identifiers = identify(True, *sent)
    line = b"x-ms-client-request-id: %b\r\n" % client.encode() if client else b""
    assert (identifiers.upstream, identifiers.echo) == (line, line)
    # None: the front end's own identifier is sent in place of the client's.
    assert identifiers.theirs is None
    assert identifiers.client == client


def test_an_empty_identifier_is_none_at_all() -> None:
    identifiers = identify(False, b"", None, None)
    assert (identifiers.upstream, identifiers.theirs) == (b"", None)
    identifiers = identify(False, b"A", b"B", b"")
    assert identifiers.upstream == b"x-request-id: A\r\nx-ms-request-id: B\r\n"
    assert identifiers.echo == b"x-ms-client-request-id: B\r\n"


VALUES = st.none() | st.binary(max_size=120).filter(lambda value: not set(value) & set(b"\r\n\0"))


@given(managed=st.booleans(), sent=st.tuples(VALUES, VALUES, VALUES))
def test_what_is_sent_back_and_logged_is_printable_and_bounded(managed: bool, sent: Sent) -> None:
    identifiers = identify(managed, *sent)
    for text in (identifiers.echo.removesuffix(b"\r\n"), identifiers.theirs or b""):
        assert all(0x20 <= byte <= 0x7E for byte in text)
        assert len(text) <= len(b"x-ms-client-request-id: ") + 100
    assert identifiers.client.isascii()
    assert len(identifiers.client) <= 100


def test_identifiers_are_guids_and_never_repeat() -> None:
    made = list(islice(request_ids(os.urandom), 50_000))
    assert len(set(made)) == len(made)
    for identifier in made:
        guid = uuid.UUID(identifier.decode())
        assert (guid.version, guid.variant) == (4, uuid.RFC_4122)
        assert str(guid).encode() == identifier


def test_randomness_is_drawn_for_every_4096_identifiers() -> None:
    drawn: list[int] = []

    def draw(size: int) -> bytes:
        drawn.append(size)
        return bytes([len(drawn) * 0x11]) * size

    made = list(islice(request_ids(draw), 4097))
    assert drawn == [16, 16]
    assert made[0] == b"11111111-1111-4111-9111-111111111000"
    assert made[4095] == b"11111111-1111-4111-9111-111111111fff"
    assert made[4096] == b"22222222-2222-4222-a222-222222222000"


@given(st.binary(min_size=16, max_size=16))
def test_any_random_bytes_make_a_guid(drawn: bytes) -> None:
    guid = uuid.UUID(next(request_ids(lambda size: drawn[:size])).decode())
    assert (guid.version, guid.variant) == (4, uuid.RFC_4122)


TRACE = b"0af7651916cd43dd8448eb211c80319c"
PARENT = b"b7ad6b7169203331"


@pytest.mark.parametrize(
    ("traceparent", "trace"),
    [
        (b"00-" + TRACE + b"-" + PARENT + b"-01", TRACE),
        (b"01-" + TRACE + b"-" + PARENT + b"-01-more", TRACE),
        (None, b""),
        (b"", b""),
        (b"00-" + TRACE + b"-" + PARENT, b""),
        (b"00-" + TRACE.upper() + b"-" + PARENT + b"-01", b""),
        (b"00-" + b"0" * 32 + b"-" + PARENT + b"-01", b""),
        (b"00-" + TRACE[1:] + b"-" + PARENT + b"-01", b""),
        (b"0-" + TRACE + b"-" + PARENT + b"-01", b""),
        (b"00-" + TRACE + b"-" + PARENT + b"-01\n", b""),
        (b"01-" + TRACE + b"-" + PARENT + b"-01more", b""),
    ],
)
def test_the_trace_is_that_of_a_valid_traceparent(traceparent: bytes | None, trace: bytes) -> None:
    assert trace_id(traceparent) == trace.decode()


@pytest.mark.parametrize(
    "traceparent",
    [
        pytest.param(b"ff-" + TRACE + b"-" + PARENT + b"-01", id="version ff"),
        pytest.param(b"00-" + TRACE + b"-" + b"0" * 16 + b"-01", id="parent of zeros"),
        pytest.param(b"00-" + TRACE + b"-" + PARENT + b"-01-more", id="longer than version 00"),
    ],
)
def test_an_invalid_traceparent_has_no_trace(traceparent: bytes) -> None:
    assert trace_id(traceparent) == ""

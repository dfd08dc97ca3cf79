"""A protocol on TLS sees what it would see on TCP: data, backpressure, the end of each half."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.gateways import KEY
from tests.support.raw import request
from tests.support.script import Script, Setup
from tests.support.tls import ASKING, SERVING, FarEnd, Stage, serving

SCORE = request(key=KEY)


def test_a_conversation() -> None:
    with Stage().open() as stage:
        stage.far.says(b"question")
        stage.inner.transport.write(b"answer")
        assert stage.far.heard() == b"answer"
        stage.inner.transport.writelines([b"and ", b"more"])
        stage.inner.transport.write(b"")
        assert stage.far.heard() == b"and more"
        assert stage.inner.told == [b"question"]
        assert stage.far.tls.version() == "TLSv1.2"
        assert stage.far.tls.selected_alpn_protocol() == "http/1.1"


@given(st.lists(st.integers(1, 70_000), min_size=1, max_size=4), st.integers(500, 50_000))
@settings(max_examples=25, deadline=None)
def test_what_is_said_is_heard(sizes: list[int], piece: int) -> None:
    said = [bytes([at % 251]) * size for at, size in enumerate(sizes)]
    with Stage().open() as stage:
        for data in said:
            stage.far.says(data, piece)
            stage.inner.transport.write(data)
        assert b"".join(d for d in stage.inner.told if isinstance(d, bytes)) == b"".join(said)
        assert stage.far.heard() == b"".join(said)


def test_the_first_request_may_come_with_the_end_of_the_handshake() -> None:
    with Stage() as stage:
        far = stage.far
        for _ in range(2):
            with pytest.raises(ssl.SSLWantReadError):
                far.tls.do_handshake()
            far.exchange()
        far.tls.do_handshake()
        far.says(b"x" * 100_000)
        assert b"".join(d for d in stage.inner.told if isinstance(d, bytes)) == b"x" * 100_000


def test_a_flood_before_the_handshake_is_held_back() -> None:
    with Stage() as stage:
        stage.loop.perform(lambda: stage.transport.deliver(b"\x16\x03\x01\x40\x00" + b"x" * 80_000))
        assert stage.results == ["failed", "gone"]


def test_goodbye_ends_one_half() -> None:
    with Stage().open() as stage:
        stage.inner.keeps = True
        stage.far.says(b"last words")
        stage.far.says_goodbye()
        assert stage.inner.told == [b"last words", "eof"]
        stage.inner.transport.write(b"the answer")
        assert stage.far.heard() == b"the answer"
        stage.loop.perform(stage.inner.transport.close)
        assert stage.far.was_told
        assert stage.inner.told[-1] == "lost"


def test_goodbye_ends_both_if_nobody_objects() -> None:
    with Stage().open() as stage:
        stage.far.says_goodbye()
        assert stage.far.was_told
        assert stage.inner.told == ["eof", "lost"]


def test_a_client_that_leaves_without_goodbye_has_ended_its_half() -> None:
    with Stage().open() as stage:
        stage.inner.keeps = True
        stage.loop.perform(lambda: stage.transport.deliver(None))
        assert stage.inner.told == ["eof"]
        assert not stage.transport.is_closing()


def test_our_half_ends_alone() -> None:
    with Stage().open() as stage:
        stage.inner.transport.write(b"refused")
        stage.inner.transport.write_eof()
        assert stage.far.heard() == b"refused"
        assert stage.far.was_told
        assert stage.transport.shut
        assert not stage.transport.is_closing()
        # That more comes is told, what it is nobody wants to know.
        stage.loop.perform(lambda: stage.transport.deliver(b"whatever"))
        assert stage.inner.told == [b""]
        stage.inner.transport.write(b"too late")
        stage.loop.perform(lambda: stage.transport.deliver(None))
        assert stage.inner.told == [b"", "eof", "lost"]


def test_backpressure_is_that_of_the_connection_below() -> None:
    with Stage().open() as stage:
        transport = stage.inner.transport
        transport.set_write_buffer_limits(1000)
        stage.transport.room = 0
        transport.write(b"x" * 5000)
        assert stage.inner.told == ["pause"]
        assert transport.get_write_buffer_size() > 5000
        stage.transport.take(None)
        assert stage.inner.told == ["pause", "resume"]
        transport.pause_reading()
        stage.far.says(b"later")
        assert b"later" not in stage.inner.told
        assert not transport.is_reading()
        stage.loop.perform(transport.resume_reading)
        assert stage.inner.told[-1] == b"later"
        assert transport.can_write_eof()


def test_a_broken_record_ends_the_connection_with_an_alert() -> None:
    with Stage().open() as stage:
        stage.far.says(b"fine")
        stage.loop.perform(lambda: stage.transport.deliver(b"\x17\x03\x03\x00\x20" + b"x" * 32))
        assert stage.inner.told == [b"fine", "lost"]
        with pytest.raises(ssl.SSLError, match=r"(?i)bad.record.mac"):
            stage.far.heard()


def test_nonsense_is_refused_with_an_alert() -> None:
    with Stage() as stage:
        stage.loop.perform(lambda: stage.transport.deliver(b"\x16\x03\x01\x00\x04nope"))
        assert stage.results == ["failed", "gone"]
        assert stage.transport.sent[:1] == b"\x15"


def test_a_reset_is_passed_on() -> None:
    with Stage().open() as stage:
        stage.loop.perform(lambda: stage.transport.deliver(ConnectionResetError()))
        assert stage.inner.told == ["lost"]
        stage.inner.transport.close()
        stage.inner.transport.write_eof()
        assert stage.inner.transport.is_closing()


@pytest.mark.parametrize("last", [None, ConnectionResetError()])
def test_a_client_that_leaves_during_the_handshake(last: Exception | None) -> None:
    with Stage() as stage:
        stage.loop.perform(lambda: stage.transport.deliver(b"\x16\x03"))
        stage.loop.perform(lambda: stage.transport.deliver(last))
        assert stage.results == ["gone"]
        assert stage.inner.told == []
        assert "in handshake" in repr(stage.secured)


def test_plain_text_is_refused() -> None:
    with Stage() as stage:
        stage.loop.perform(lambda: stage.transport.deliver(b"GET / HTTP/1.1\r\n\r\n"))
        assert stage.results == ["failed", "gone"]
        assert stage.transport.sent.startswith(b"HTTP/1.1 400 ")
        assert stage.transport.lost


def test_tls_1_3() -> None:
    modern = serving(highest="1.3")
    with Stage(modern).open() as stage:
        assert stage.far.tls.version() == "TLSv1.3"
        stage.far.says(b"question")
        stage.inner.transport.write(b"answer")
        assert stage.far.heard() == b"answer"


# The whole gateway.


def test_a_request_is_scored() -> None:
    with Script(Setup(tls=SERVING)) as script:
        side = script.client()
        far = FarEnd(script.loop, side.transport, ASKING)
        far.shakes_hands()
        far.says(SCORE)
        seen = script.container().hears()
        assert seen.header("x-forwarded-proto") == "https"
        script.containers[0].answers(b"[1]")
        assert far.heard().endswith(b"\r\n\r\n[1]")
        assert script.listener.tally.handshakes["full"] == 1

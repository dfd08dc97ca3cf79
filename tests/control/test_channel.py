"""Messages arrive whole, once and in order, however the socket cuts them up."""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.channel import LONGEST, Channel
from tests.support.loops import run_within, until


def framed(*messages: Any) -> bytes:
    texts = [pickle.dumps(message) for message in messages]
    return b"".join(struct.pack(">I", len(text)) + text for text in texts)


@given(st.lists(st.binary(max_size=50), max_size=8), st.lists(st.integers(1, 40), min_size=1))
def test_any_pieces_make_the_same_messages(messages: list[bytes], sizes: list[int]) -> None:
    taken: list[Any] = []
    channel = Channel(taken.append, lambda: None)
    data = framed(*messages)
    while data:
        size = sizes[len(data) % len(sizes)]
        channel.data_received(data[:size])
        data = data[size:]
    assert taken == messages


def test_what_cannot_be_a_message_is_refused() -> None:
    channel = Channel(lambda _: None, lambda: None)
    with pytest.raises(ValueError, match="a message of"):
        channel.data_received(struct.pack(">I", LONGEST + 1))


def test_two_ends_talk_until_one_is_gone() -> None:
    async def talk() -> None:
        ours, theirs = socket.socketpair()
        heard: list[Any] = []
        lost = asyncio.Event()
        one = Channel(heard.append, lost.set)
        other = Channel(lambda message: other.send(("heard", message)), lambda: None)
        await one.open(ours)
        await other.open(theirs)
        large = b"x" * 3_000_000
        for message in ("first", {"second": 2}, large):
            one.send(message)
        await until(lambda: len(heard) == 3)
        assert heard == [("heard", "first"), ("heard", {"second": 2}), ("heard", large)]
        assert "open" in repr(one)
        other.close()
        await lost.wait()
        assert one.is_closed
        one.send("to nobody")
        assert "closed" in repr(one)

    run_within(10, talk())

"""Live objects of a configuration, without a world around them."""

from __future__ import annotations

import random
import time
from typing import Any

from gateway.core.identity import request_ids
from gateway.settings.loading import Source
from gateway.settings.schema import Settings
from gateway.wired import Wired
from gateway.wiring import Tools, wire
from tests.support.checking import SECRETS


async def _nowhere(_: object) -> Any:
    raise OSError("there is no world")


class _Nobody:
    def record(self, exchange: object) -> None:
        pass


def idle_tools() -> Tools:
    """Tools that reach nobody."""
    return Tools(
        dial=_nowhere,
        fetch=_nowhere,
        recorder=_Nobody(),
        clock=time.monotonic,
        wall=time.time,
        draw=random.random,
        ids=request_ids(lambda size: bytes(size)),
        environment=SECRETS,
    )


def wired_from(settings: Settings, source: Source) -> Wired:
    """What a good configuration becomes."""
    wired, mistakes = wire(settings, source, idle_tools())
    assert not mistakes
    return wired

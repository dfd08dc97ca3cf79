"""A loop that is held up is seen."""

from __future__ import annotations

import asyncio
import time

from gateway.engine.lag import INTERVAL, LoopLag


def test_what_holds_the_loop_is_noted() -> None:
    async def story() -> LoopLag:
        lag = LoopLag()
        lag.start()
        await asyncio.sleep(INTERVAL / 2)
        time.sleep(INTERVAL * 3)  # noqa: ASYNC251  this is what is to be seen
        await asyncio.sleep(0.001)
        lag.stop()
        seen = sum(lag.tally.late.counts)
        await asyncio.sleep(INTERVAL * 2)
        assert sum(lag.tally.late.counts) == seen
        return lag

    lag = asyncio.run(story())
    assert lag.tally.worst >= INTERVAL * 2
    assert repr(lag).endswith(" ms at worst>")

"""Real containers and a real gateway that serves each of them twice: with batching and without."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.batching import scripts
from tests.e2e.batching.calling import Address, Caller
from tests.e2e.batching.mixes import Ask
from tests.support.containers import Container
from tests.support.gateways import GatewayProcess
from tests.support.raw import Answer

# Set by the gateway, belonging to one connection only, or different in every answer.
_OWN = {
    "x-request-id", "x-ms-request-id", "x-ms-client-request-id", "server", "date", "connection",
    "transfer-encoding", "x-ms-run-fn-exec-ms",
}  # fmt: skip
# Nobody is to be turned away for waiting.
_QUEUE = "queue: {max_wait: 50s, max_length: 100000}"
# Seconds. A request that is not answered by then is one that was forgotten.
_PATIENCE = 40.0


class Different(AssertionError):
    """With batching, a request got another answer than without."""


@dataclass(slots=True)
class Stage:
    """What mixes of requests are sent to. ``alone`` are the answers without batching."""

    gateway: GatewayProcess
    runner: asyncio.Runner
    alone: dict[bytes, Answer] = field(default_factory=dict)

    def compare(self, box: str, asks: Sequence[Ask]) -> None:
        """Send the requests at the same time, with batching, and compare every answer with what the
        request gets when it is sent alone, without.

        :param box: the container.
        :raises Different: an answer is not the same, or there is none.
        """
        self.runner.run(self.compare_at(self.gateway.address, box, asks))

    async def compare_at(self, at: Address, box: str, asks: Sequence[Ask]) -> None:
        """The same for requests that are sent somewhere else."""
        callers = [Caller(at) for _ in asks]
        await asyncio.gather(*(caller.connect() for caller in callers))
        async with asyncio.timeout(_PATIENCE):
            answers = await asyncio.gather(
                *(_act(caller, ask, f"{box}-on") for caller, ask in zip(callers, asks, strict=True))
            )
        single = Caller(self.gateway.address)
        try:
            for ask, answer in zip(asks, answers, strict=True):
                if answer is not None:
                    request = ask.request(f"{box}-off")
                    if request not in self.alone:
                        self.alone[request] = await single.ask(request)
                    _compare(ask, answer, self.alone[request])
        finally:
            await single.leave()

    def count(self, box: str, metric: str, **labels: str) -> float:
        """A metric of a container's deployment with batching."""
        return self.gateway.metric(metric, endpoint=f"{box}-on", deployment="blue", **labels)


async def _act(caller: Caller, ask: Ask, service: str) -> Answer | None:
    """What one client does; None if it does not wait for an answer."""
    request = ask.request(service)
    if ask.leaves is None:
        try:
            return await caller.ask(request)
        except (AssertionError, ValueError, EOFError) as error:
            raise Different(f"{ask}\ngot no answer: {error}") from error
        finally:
            await caller.leave()
    await caller.send(request[: int(len(request) * ask.share)])
    await asyncio.sleep(ask.leaves)
    await caller.leave()
    return None


def _compare(ask: Ask, answer: Answer, alone: Answer) -> None:
    if _meaning(answer) != _meaning(alone):
        raise Different(f"{ask}\ngot {_meaning(answer)}\nnot {_meaning(alone)}")


def _meaning(answer: Answer) -> tuple[int, str, bytes, list[tuple[str, str]]]:
    headers = sorted(pair for pair in answer.headers if pair[0] not in _OWN)
    return answer.status, answer.reason, answer.body, headers


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """The whole cast. Containers start at the same time."""
    folder.mkdir()
    # No script here has a model. Where there is a file, none is trained.
    (folder / "sklearn_regression_model.pkl").touch()
    with ExitStack() as stack:
        boxes = {
            name: Container(
                folder,
                scripts.write(folder / name, text),
                environment=scripts.ENVIRONMENTS.get(name),
            )
            for name, text in scripts.TEXTS.items()
        }
        with ThreadPoolExecutor() as pool:
            for box in boxes.values():
                stack.callback(box.stop)
            list(pool.map(Container.start, boxes.values()))
        other = boxes.pop("other")
        gateway = stack.enter_context(GatewayProcess(_configuration(boxes, other), folder))
        runner = stack.enter_context(asyncio.Runner())
        yield Stage(gateway, runner)
        assert gateway.complaints() == []


def _configuration(boxes: dict[str, Container], other: Container) -> str:
    lines = ["listen: 127.0.0.1:0", "admin: 127.0.0.1:0", "access_log: off", "endpoints:"]
    for name, box in boxes.items():
        for mode in ("off", "on"):
            lines += [
                f"  {name}-{mode}:",
                "    auth: {keys: {primary: {env: TEST_KEY}, secondary: {env: TEST_SECOND_KEY}}}",
                "    deployments:",
                f"      blue: {{backends: [{box.url}], batching: {mode}, {_QUEUE}}}",
                f"      green: {{backends: [{other.url}], batching: {mode}, {_QUEUE}}}",
            ]
    return "\n".join(lines) + "\n"

"""Backends that refuse, vanish, die or take too long: what the client is told, and when.

Threat T50 and contract.md 1.3. The promise: a backend that cannot be reached costs a request
nothing as long as another can; a container that dies fails only the requests that were inside it;
and a request has one deadline, whatever its time was spent on.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.control.demo import ROWS
from tests.support.backends import FakeBackend, Link, answering
from tests.support.containers import Container, free_port
from tests.support.gateways import KEY, GatewayProcess, minimal, wait_until
from tests.support.raw import Answer, Closed, request

NO_REPLICAS = "No ready replicas for service diabetes"
CLOSED = "Replica closed connection before replying"
LATE = "Post /score: net/http: request canceled (Client.Timeout exceeded while awaiting headers)"
MANAGED = "    dialect: managed"
SCORE = request(body=json.dumps({"data": ROWS}).encode(), key=KEY)
# An entry script that takes its time: a container in the middle of its work.
SLOW = """
import time

from azureml.contrib.services.aml_request import rawhttp
from azureml.contrib.services.aml_response import AMLResponse


def init():
    pass


def pieces():
    for _ in range(600):
        yield b"piece" * 1000
        time.sleep(0.05)


@rawhttp
def run(request):
    if request.args.get("do") == "stream":
        return AMLResponse(pieces(), 200)
    time.sleep(float(request.args.get("for", "0")))
    return AMLResponse("done", 200)
"""


@contextlib.contextmanager
def blackhole() -> Iterator[str]:
    """URL of a port where nobody answers: its queue is full, so the system drops every SYN."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(2):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def refusing() -> str:
    """URL of a port where nobody listens."""
    return f"http://127.0.0.1:{free_port()}"


def refuses(port: int) -> bool:
    """Whether nobody listens there: of a killed process, the connection may go before the port."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0


@contextlib.contextmanager
def gateway_to(folder: Path, *backends: str, more: str = "") -> Iterator[GatewayProcess]:
    with GatewayProcess(minimal(", ".join(backends), more), folder) as running:
        yield running
        assert running.complaints() == []


def test_a_backend_that_refuses_costs_nothing_while_another_serves(tmp_path: Path) -> None:
    with FakeBackend(answering(b"good")) as good, gateway_to(tmp_path, refusing(), good.url) as gw:
        for _ in range(10):
            answer = gw.ask()
            assert (answer.status, answer.body) == (200, b"good")
        assert len(good.seen) == 10
        assert gw.metric("gateway_upstream_connect_failures_total") > 0
        assert gw.metric("gateway_requests_total", code="200") == 10


def test_one_dead_backend_of_two_is_tried_by_every_second_request_at_most(tmp_path: Path) -> None:
    """It matters when the dead one does not refuse but drops packets, at a second each."""
    with FakeBackend(answering(b"good")) as good, gateway_to(tmp_path, refusing(), good.url) as gw:
        for _ in range(10):
            assert gw.ask().status == 200
        assert gw.metric("gateway_upstream_connect_failures_total") <= 5


def test_a_backend_that_drops_every_packet_costs_the_connect_timeout(tmp_path: Path) -> None:
    with FakeBackend(answering(b"good")) as good, blackhole() as hole:
        with gateway_to(tmp_path, hole, good.url) as gw:
            begun = time.monotonic()
            answer = gw.ask()
            taken = time.monotonic() - begun
        assert (answer.status, answer.body) == (200, b"good")
        assert 1.0 <= taken < 2.0, "the default connect_timeout is 1 s"


@pytest.mark.parametrize("count", [1, 2])
def test_without_any_reachable_backend_v1_says_503(tmp_path: Path, count: int) -> None:
    with gateway_to(tmp_path, *(refusing() for _ in range(count))) as gw:
        answer = gw.ask()
        assert (answer.status, answer.text) == (503, NO_REPLICAS)
        assert answer.header("azureml-model-deployment") == "blue"
        # SDK v2 repeats whatever carries this (contract.md 1.3), v1 needs no such hint.
        assert answer.header("retry-after") is None
        assert gw.metric("gateway_upstream_connects_total") == count, "each is tried once"


def test_without_any_reachable_backend_managed_says_424_model_not_ready(tmp_path: Path) -> None:
    with gateway_to(tmp_path, refusing(), more=MANAGED) as gw:
        answer = gw.ask()
        assert (answer.status, answer.body) == (424, b"")
        assert answer.header("ms-azureml-model-error-statuscode") == "503"
        assert answer.header("ms-azureml-model-error-reason") == "model_not_ready"
        assert answer.header("content-type") is None


def test_a_streamed_upload_moves_on_to_the_next_backend_whole(tmp_path: Path) -> None:
    """Nothing of the body was lost on the backend that could not be reached."""
    body = bytes(range(256)) * 4096
    echo = FakeBackend(_echo_digest)
    with echo as good, gateway_to(tmp_path, refusing(), good.url) as gw:
        kind = {"Content-Type": "application/octet-stream"}
        answer = gw.ask(request(body=body, key=KEY, headers=kind))
        assert answer.status == 200
        assert good.seen[0].body == body


def _echo_digest(link: Link) -> None:
    link.socket.settimeout(10)
    if link.read_request() is not None:
        link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


@pytest.fixture(scope="module")
def slow_script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    script = tmp_path_factory.mktemp("slow") / "score.py"
    script.write_text(SLOW)
    return script


@pytest.fixture(scope="module")
def slow(slow_script: Path) -> Iterator[Container]:
    with Container(slow_script.parent, slow_script) as running:
        yield running


@pytest.mark.parametrize(("more", "status"), [("", 502), (MANAGED, 424)], ids=["v1", "managed"])
def test_a_container_killed_in_the_middle_of_its_work_is_a_502(
    slow_script: Path, tmp_path: Path, more: str, status: int
) -> None:
    with Container(tmp_path, slow_script) as box, gateway_to(tmp_path, box.url, more=more) as gw:
        with gw.client() as client:
            client.send(request("/api/v1/service/diabetes/score?for=30", key=KEY))
            wait_until(
                lambda: (
                    gw.metric("gateway_deployment_requests_in_flight") == 1
                    and gw.metric("gateway_upstream_connections") == 1
                )
            )
            box.kill()
            answer = client.answer()
            assert (answer.status, answer.text) == (status, CLOSED)
            wait_until(lambda: refuses(box.port))
            client.send(request(key=KEY))
            assert client.answer().status == (503 if status == 502 else 424)
            box.start()
            client.send(request(key=KEY))
            assert client.answer().status == 200, "it is used again as soon as it is back"
        assert gw.metric("gateway_requests_in_flight") == 0


def test_a_container_killed_while_streaming_breaks_the_clients_connection(
    slow_script: Path, tmp_path: Path
) -> None:
    with Container(tmp_path, slow_script) as box, gateway_to(tmp_path, box.url) as gw:
        with gw.client() as client:
            client.send(request("/api/v1/service/diabetes/score?do=stream", key=KEY))
            received = b""
            while b"piecepiece" not in received:
                received += client.receive()
            assert b"\r\nTransfer-Encoding: chunked\r\n" in received
            box.kill()
            with contextlib.suppress(Closed):
                while more := client.receive():
                    received += more
            assert b"\r\n0\r\n" not in received, "a cut answer must not look whole"
        wait_until(lambda: gw.metric("gateway_faults_total", fault="upstream_closed") == 1)


class Load:
    """Clients that score without a pause, each one request at a time."""

    def __init__(self, gateway: GatewayProcess, clients: int) -> None:
        #: When each request was sent, and what was answered.
        self.answers: list[tuple[float, Answer]] = []
        self._gateway = gateway
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def _run(self) -> None:
        with self._gateway.client(30) as client:
            while not self._stop.is_set():
                sent = time.monotonic()
                client.send(SCORE)
                self.answers.append((sent, client.answer()))

    @property
    def served(self) -> int:
        return sum(answer.status == 200 for _, answer in self.answers)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()


def test_only_requests_inside_a_killed_container_fail(container: Container, tmp_path: Path) -> None:
    kills: list[tuple[float, float]] = []
    with Container(tmp_path) as victim, gateway_to(tmp_path, container.url, victim.url) as gw:
        name = victim.url.removeprefix("http://")
        with Load(gw, clients=8) as load:
            for _ in range(2):
                _await_more(load, 50)
                begun = time.monotonic()
                victim.kill()
                kills.append((begun, time.monotonic()))
                _await_more(load, 150)
                failures = gw.metric("gateway_upstream_connect_failures_total", backend=name)
                assert failures > 0, "the dead container is tried, and costs nothing"
                victim.start()
                opened = gw.metric("gateway_upstream_connects_total", backend=name)
                _await_more(load, 50)
                assert gw.metric("gateway_upstream_connects_total", backend=name) > opened
    failed = [(sent, answer) for sent, answer in load.answers if answer.status != 200]
    for sent, answer in failed:
        assert (answer.status, answer.text) == (502, CLOSED)
        # Sent before the kill was over (its worker may outlive the server by a moment), and inside:
        # a request takes milliseconds.
        assert any(begun - 1 < sent < ended + 0.3 for begun, ended in kills)


def _await_more(load: Load, count: int) -> None:
    goal = load.served + count
    wait_until(lambda: load.served >= goal, 20, f"{count} more answers")


@pytest.mark.parametrize(
    ("more", "status", "text"),
    [("", 504, LATE), (MANAGED, 408, "upstream request timeout")],
    ids=["v1", "managed"],
)
def test_a_container_that_takes_too_long_is_given_up(
    slow: Container, tmp_path: Path, more: str, status: int, text: str
) -> None:
    with gateway_to(tmp_path, slow.url, more=f"{more}\n    timeout: 500ms") as gw:
        begun = time.monotonic()
        answer = gw.ask(request("/api/v1/service/diabetes/score?for=1", key=KEY))
        taken = time.monotonic() - begun
        assert (answer.status, answer.text) == (status, text)
        assert 0.5 <= taken < 1.0
        wait_until(lambda: gw.metric("gateway_upstream_connections") == 0)


def test_the_time_of_a_slow_upload_counts_towards_the_one_deadline(tmp_path: Path) -> None:
    def silent(link: Link) -> None:
        while link.read_request() is not None:
            pass

    more = "    timeout: 1s"
    with FakeBackend(silent) as backend, gateway_to(tmp_path, backend.url, more=more) as gw:
        data = request(body=b"[" + b"1," * 300 + b"1]", key=KEY)
        with gw.client() as client:
            begun = time.monotonic()
            client.send_slowly(data, 0.06, size=len(data) // 10)
            uploaded = time.monotonic() - begun
            assert client.answer().status == 504
            taken = time.monotonic() - begun
        assert 0.5 < uploaded < 0.9
        assert 1.0 <= taken < 1.5, "a second in all, not a second after the upload"
        assert len(backend.seen) == 1


def test_an_upload_that_outlasts_the_deadline_is_the_clients_fault(tmp_path: Path) -> None:
    more = "    timeout: 500ms"
    with FakeBackend(answering()) as backend, gateway_to(tmp_path, backend.url, more=more) as gw:
        with gw.client() as client:
            client.send(request(body=b"[1, 2]", key=KEY)[:-3])
            begun = time.monotonic()
            answer = client.answer()
            assert 0.4 <= time.monotonic() - begun < 1.0
            assert answer.status == 408
            assert answer.text == "The request took too long: the body did not arrive in time"
            assert answer.header("connection") == "close"
        assert backend.seen == []

"""The whole process: it starts completely or says in one sentence why not, and it stops without
dropping what is in flight.

Real processes and signals; the backend is a fake one where the moment of its answer matters.
"""

from __future__ import annotations

import json
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from gateway import __version__, app
from gateway.app import check_descriptors, load, plan_demo, shipped
from gateway.control.supervisor import CannotStart
from gateway.settings.schema import Settings
from tests.support.backends import FakeBackend, Link, answering
from tests.support.checking import FILE, SECRETS, demo
from tests.support.containers import free_port
from tests.support.gateways import KEY, GatewayProcess, minimal, wait_until
from tests.support.processes import Ended, serve_until_exit
from tests.support.raw import Answer, Closed, RawClient, request
from tests.support.tools import tool


class LateBackend(FakeBackend):
    """Answers when it is told to."""

    def __init__(self) -> None:
        super().__init__(self._behave)
        self.may_answer = threading.Event()

    def _behave(self, link: Link) -> None:
        while link.read_request() is not None and self.may_answer.wait(30):
            link.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")


@contextmanager
def in_flight(
    folder: Path, top: str = ""
) -> Iterator[tuple[GatewayProcess, LateBackend, RawClient]]:
    """A gateway with one request that waits for its backend."""
    backend = LateBackend()
    with (
        backend,
        GatewayProcess(minimal(backend.url, top=top), folder) as gateway,
        gateway.client() as client,
    ):
        client.send(request(key=KEY))
        wait_until(lambda: backend.seen, what="the request at the backend")
        yield gateway, backend, client
        backend.may_answer.set()


def is_refused(gateway: GatewayProcess) -> bool:
    try:
        gateway.client().close()
    except ConnectionRefusedError:
        return True
    return False


def messages(gateway: GatewayProcess) -> list[object]:
    return [entry["message"] for entry in gateway.log_entries() if "message" in entry]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_gateway_stops_at_once_and_says_so(tmp_path: Path, number: signal.Signals) -> None:
    with GatewayProcess(minimal("http://127.0.0.1:1"), tmp_path) as gateway:
        host, port = gateway.address
        admin = gateway.admin[1]
        gateway.process.send_signal(number)
        assert gateway.process.wait(5) == 0
    public = f"http://{host}:{port}"
    assert messages(gateway) == [
        f"scoring-gateway {__version__} serves diabetes on {public}, admin on http://{host}:{admin}",
        f"{number.name}: finishing what is in flight",
        "stopped",
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_in_flight_is_finished_before_the_gateway_ends(
    tmp_path: Path, number: signal.Signals
) -> None:
    with in_flight(tmp_path) as (gateway, backend, client):
        gateway.process.send_signal(number)
        wait_until(lambda: gateway.admin_get("/readyz")[0] == 503, what="unreadiness")
        assert json.loads(gateway.admin_get("/readyz")[1]) == {
            "ready": False,
            "reasons": ["stopping"],
            "generation": 1,
            "workers": 1,
            "reload_problems": [],
        }
        assert gateway.admin_get("/healthz") == (200, "ok\n")
        wait_until(lambda: is_refused(gateway), what="the end of accepting")
        assert gateway.process.poll() is None
        backend.may_answer.set()
        answer = client.answer()
        assert (answer.status, answer.body) == (200, b"late")
        assert answer.header("connection") == "close"
        assert client.is_closed()
        client.close()
        assert gateway.process.wait(5) == 0


def test_a_connection_without_a_request_is_closed_when_the_gateway_stops(tmp_path: Path) -> None:
    with in_flight(tmp_path) as (gateway, backend, client), gateway.client() as idle:
        gateway.process.send_signal(signal.SIGTERM)
        assert idle.is_closed()
        backend.may_answer.set()
        assert client.answer().status == 200


def test_what_does_not_finish_in_time_is_cut_off_and_shows_in_the_status(tmp_path: Path) -> None:
    top = "listen: {address: 127.0.0.1:0, timeouts: {drain: 300ms}}\n"
    with in_flight(tmp_path, top) as (gateway, _, client):
        began = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        with suppress(Closed):  # the end of the connection may overtake the answer
            assert (answer := client.answer()).status == 503
            assert answer.text == "The gateway is stopping"
        assert gateway.process.wait(5) == 1
        assert 0.3 <= time.monotonic() - began < 3


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_gateway_at_once(tmp_path: Path, second: signal.Signals) -> None:
    with in_flight(tmp_path) as (gateway, _, client):
        gateway.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "finishing" in gateway.log(), what="the first signal")
        gateway.process.send_signal(second)
        assert gateway.process.wait(2) == 128 + second
        with pytest.raises(Closed):
            client.answer()


def test_a_port_that_is_taken_is_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        where = f"127.0.0.1:{other.getsockname()[1]}"
        for text in (
            demo(top=f"listen: {where}", end="admin: 127.0.0.1:0"),
            demo(top="listen: 127.0.0.1:0", end=f"admin: {where}"),
        ):
            assert serve_until_exit(tmp_path, text) == Ended(
                1, "", f"scoring-gateway: {where} is in use by another program\n"
            )


def test_a_second_gateway_does_not_take_the_port_of_the_first(tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    with GatewayProcess(minimal("http://127.0.0.1:1"), tmp_path) as first:
        where = f"127.0.0.1:{first.address[1]}"
        text = demo(top=f"listen: {where}", end="admin: 127.0.0.1:0")
        ended = serve_until_exit(tmp_path / "second", text)
        assert ended.errors == f"scoring-gateway: {where} is in use by another program\n"
        assert first.ask().text == "No ready replicas for service diabetes"


def test_one_address_for_both_planes_is_one_sentence(tmp_path: Path) -> None:
    where = f"127.0.0.1:{free_port()}"
    ended = serve_until_exit(
        tmp_path, demo(top=f"listen: {where}", end=f"admin: {where}"), timeout=3
    )
    assert (ended.status, ended.output) == (2, "")
    assert ":6: admin.address: is taken by listen already" in ended.errors
    assert ended.errors.endswith("1 mistake\n")


@pytest.mark.parametrize(
    ("address", "why"),
    [
        # 203.0.113.0/24 is for documentation: no machine has it.
        ("203.0.113.1:8080", "Cannot assign requested address"),
        ("no-such-name.invalid:8080", "Name or service not known"),
        ("no..name:8080", "Name or service not known"),
    ],
)
def test_an_address_that_is_not_ours_is_one_sentence(
    tmp_path: Path, address: str, why: str
) -> None:
    ended = serve_until_exit(tmp_path, demo(top=f"listen: '{address}'", end="admin: 127.0.0.1:0"))
    assert ended == Ended(1, "", f"scoring-gateway: cannot listen on {address}: {why}\n")


def test_a_broken_configuration_opens_no_port(tmp_path: Path) -> None:
    port = free_port()
    ended = serve_until_exit(tmp_path, demo(top=f"listen: 127.0.0.1:{port}", more="timeout: 5"))
    assert ended.status == 2
    assert ended.errors.endswith("\n1 mistake\n")


def needs_files(count: int) -> str:
    return demo(
        top=f"listen: {{address: '127.0.0.1:0', limits: {{connections: {count}}}}}",
        deployments="{blue: {backends: [http://h, http://i], connections: {max: 10}}}",
        end="admin: 127.0.0.1:0",
    )


def test_t18_too_few_file_descriptors_are_one_sentence(tmp_path: Path) -> None:
    prefix = (tool("prlimit"), "--nofile=300:300")
    # 300 for clients, 2 backends with 10 each, 160 for everything else.
    assert serve_until_exit(tmp_path, needs_files(300), prefix=prefix) == Ended(
        1,
        "",
        "scoring-gateway: the configuration allows 480 open connections and files, but the system "
        "only 300: raise the limit (ulimit -Hn, LimitNOFILE=) or lower listen.limits.connections "
        "and deployments' connections.max\n",
    )


def test_t18_the_soft_limit_is_raised_as_far_as_needed(tmp_path: Path) -> None:
    prefix = (tool("prlimit"), "--nofile=100:900")
    text = needs_files(300).replace("env: KEY", "env: TEST_KEY")
    with GatewayProcess(text, tmp_path, prefix=prefix) as gateway:
        assert resource.prlimit(gateway.worker(), resource.RLIMIT_NOFILE) == (480, 900)
        # And by a reload, for workers that run already.
        worker = gateway.worker()
        gateway.config.write_text(needs_files(500).replace("env: KEY", "env: TEST_KEY"))
        gateway.process.send_signal(signal.SIGHUP)
        wait_until(lambda: gateway.metric("gateway_config_generation") == 2)
        assert resource.prlimit(worker, resource.RLIMIT_NOFILE) == (680, 900)
        assert gateway.worker() == worker


@pytest.mark.parametrize(
    ("soft", "hard", "raised"),
    [
        (480, 480, None),
        (479, 480, (480, 480)),
        (100, resource.RLIM_INFINITY, (480, resource.RLIM_INFINITY)),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, None),
        (100, 479, CannotStart),
    ],
)
def test_t18_limits_of_the_system_are_weighed_exactly(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    soft: int,
    hard: int,
    raised: object,
) -> None:
    (tmp_path / FILE).write_text(needs_files(300))
    settings: Settings = load(tmp_path / FILE, SECRETS)[0]
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, both: asked.append(both))
    if raised is CannotStart:
        with pytest.raises(CannotStart):
            check_descriptors(settings)
    else:
        check_descriptors(settings)
    assert asked == ([raised] if isinstance(raised, tuple) else [])


def test_ipv6_is_served_and_shown_in_brackets(tmp_path: Path) -> None:
    with FakeBackend(answering()) as backend:
        text = minimal(backend.url, top="listen: '[::1]:0'\n").replace("127.0.0.1:0", "'[::1]:0'")
        with GatewayProcess(text, tmp_path) as gateway:
            assert gateway.address[0] == gateway.admin[0] == "::1"
            assert f"on http://[::1]:{gateway.address[1]}, admin on http://[::1]:" in gateway.log()
            assert gateway.ask().status == 200
            assert gateway.admin_get("/readyz")[0] == 200
        (forwarded,) = backend.seen
        assert forwarded.header("x-forwarded-for") == "::1"
        assert forwarded.header("forwarded") == 'for="[::1]";proto=http;host="gateway.test"'


def ask_and_stop(text: str, folder: Path) -> tuple[GatewayProcess, Answer]:
    with GatewayProcess(text, folder) as gateway:
        answer = gateway.ask()
    return gateway, answer


def test_the_access_log_goes_to_a_file_beside_the_configuration(tmp_path: Path) -> None:
    with FakeBackend(answering()) as backend:
        text = minimal(backend.url, top="access_log: access.log\n")
        gateway, answer = ask_and_stop(text, tmp_path)
        (line,) = (tmp_path / "access.log").read_text().splitlines()
        assert json.loads(line)["request_id"] == answer.header("x-request-id")
        assert all("request_id" not in entry for entry in gateway.log_entries())
        ask_and_stop(text, tmp_path)
        assert len((tmp_path / "access.log").read_text().splitlines()) == 2
    assert (tmp_path / "access.log").stat().st_mode & 0o007 == 0


@pytest.mark.parametrize(("words", "lines"), [("", 1), ("stdout", 1), ("on", 1), ("off", 0)])
def test_the_access_log_goes_to_standard_output_or_nowhere(
    tmp_path: Path, words: str, lines: int
) -> None:
    with FakeBackend(answering()) as backend:
        top = f"access_log: {words}\n" if words else ""
        gateway, _ = ask_and_stop(minimal(backend.url, top=top), tmp_path)
    assert sum("request_id" in entry for entry in gateway.log_entries()) == lines


def test_an_access_log_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    text = demo(top="listen: 127.0.0.1:0", end="admin: 127.0.0.1:0\naccess_log: /proc/log")
    assert serve_until_exit(tmp_path, text) == Ended(
        1,
        "",
        "scoring-gateway: cannot write the access log /proc/log: No such file or directory\n",
    )


def test_secrets_are_read_at_the_start_and_not_again(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    with FakeBackend(answering()) as backend:
        text = minimal(backend.url).replace("{env: TEST_KEY}", "{file: key}")
        with GatewayProcess(text, tmp_path) as gateway:
            (tmp_path / "key").write_text("another-key-of-the-tests")
            assert gateway.ask().status == 200


def test_nothing_of_the_command_line_or_the_log_holds_a_secret(tmp_path: Path) -> None:
    with FakeBackend(answering()) as backend:
        with GatewayProcess(minimal(backend.url), tmp_path) as gateway:
            gateway.ask()
            gateway.ask(request(key=f"{KEY}-wrong"))
            command = Path(f"/proc/{gateway.process.pid}/cmdline").read_bytes()
        assert KEY.encode() not in command
        assert KEY not in gateway.log()


def test_what_we_ship_is_found_in_a_checkout_and_in_an_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shipped("demo.yaml").read_text().startswith("# What `scoring-gateway demo` runs")
    assert shipped("demo/score.py").name == "score.py"
    monkeypatch.setattr(app, "__file__", str(tmp_path / "site-packages/gateway/app.py"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with pytest.raises(CannotStart) as caught:
        shipped("demo.yaml")
    assert str(caught.value) == (
        "this installation lacks the file demo.yaml: reinstall scoring-gateway"
    )
    installed = tmp_path / "share/scoring-gateway/config/demo.yaml"
    installed.parent.mkdir(parents=True)
    installed.touch()
    assert shipped("demo.yaml") == installed


def test_the_demo_starts_what_its_configuration_names(tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_text(
        demo(
            top="listen: 127.0.0.1:81",
            auth="{keys: {primary: {env: DEMO_PRIMARY_KEY}}}",
            deployments="{blue: {backends: [http://127.0.0.1:82, http://127.0.0.1:83]}, "
            "green: {backends: [http://127.0.0.1:84]}}",
            end="admin: 127.0.0.1:85",
        )
    )
    plan = plan_demo(path)
    assert (plan.config, plan.endpoint) == (path, "demo")
    assert (plan.public, plan.admin) == (("127.0.0.1", 81), ("127.0.0.1", 85))
    assert plan.backends == [("127.0.0.1", port) for port in (82, 83, 84)]
    assert plan.scoring_uri == "http://127.0.0.1:81/api/v1/service/demo/score"
    assert plan_demo(None).config == shipped("demo.yaml")

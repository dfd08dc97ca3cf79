"""What the gateway tells about itself: metrics and the access log agree with what clients saw.

The promise: every request is counted once and logged once, under names from the configuration
only, whatever clients and containers send (threats T42 and T43).
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.support.backends import FakeBackend, Link
from tests.support.containers import free_port
from tests.support.gateways import KEY, SECOND_KEY, GatewayProcess, wait_until
from tests.support.raw import request

FIELDS = {
    "time", "request_id", "client_request_id", "trace_id", "client", "method", "path", "endpoint",
    "deployment", "backend", "principal", "status", "duration_ms", "queue_ms", "upstream_ms",
    "attempts", "bytes_in", "bytes_out", "user_agent",
}  # fmt: skip
TRACE = "0af7651916cd43dd8448eb211c80319c"


def behave(link: Link) -> None:
    """Answers with the status that the path's last segment names."""
    while (seen := link.read_request()) is not None:
        status = seen.line.split(" ")[1].rpartition("/")[2]
        if status == "closes":
            return
        if status == "hangs":
            continue
        code = status if status.isdigit() else "200"
        body = "" if code in ("204", "304") else "well"
        link.send(f"HTTP/1.1 {code} X\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())


@pytest.fixture
def backend() -> Iterator[FakeBackend]:
    with FakeBackend(behave) as running:
        yield running


@pytest.fixture
def gateway(backend: FakeBackend, tmp_path: Path) -> Iterator[GatewayProcess]:
    """A process of its own for every test: counters begin at nothing."""
    keys = "auth: {keys: {primary: {env: TEST_KEY}, secondary: {env: TEST_SECOND_KEY}}}"
    dead = f"http://127.0.0.1:{free_port()}"
    text = f"""
listen: 127.0.0.1:0
admin: 127.0.0.1:0
endpoints:
  keyed: {{{keys}, deployments: {{blue: {{backends: [{backend.url}]}}}}, timeout: 300ms}}
  open: {{auth: none, dialect: managed, traffic: {{red: 100}},
    deployments: {{red: {{backends: [{backend.url}]}}, gone: {{backends: ["{dead}"]}}}}}}
"""
    with GatewayProcess(text, tmp_path) as running:
        yield running
        assert running.complaints() == []


def to(endpoint: str, what: str, key: str | None = None, **more: str) -> bytes:
    headers = {name.replace("_", "-"): value for name, value in more.items()}
    return request(f"/api/v1/service/{endpoint}/{what}", key=key, headers=headers)


# Requests, and under which endpoint, deployment, code and fault each is to be counted.
MIXTURE = [
    (to("keyed", "score", KEY), 7, ("keyed", "blue", 200, None)),
    (to("keyed", "score", SECOND_KEY), 5, ("keyed", "blue", 200, None)),
    (to("keyed", "404", KEY), 3, ("keyed", "blue", 404, None)),
    (to("keyed", "500", KEY), 2, ("keyed", "blue", 502, None)),
    (to("keyed", "closes", KEY), 2, ("keyed", "blue", 502, "upstream_closed")),
    (to("keyed", "999", KEY), 2, ("keyed", "blue", 502, "upstream_malformed")),
    (to("keyed", "hangs", KEY), 1, ("keyed", "blue", 504, "deadline")),
    (to("keyed", "score"), 4, ("keyed", "", 401, "no_credentials")),
    (to("keyed", "score", "wrong-key-of-nobody"), 3, ("keyed", "", 401, "bad_credentials")),
    (request("/api/v1/service/keyed/score", None, method="OPTIONS"), 2, ("keyed", "", 204, None)),
    (to("open", "score"), 6, ("open", "red", 200, None)),
    (to("open", "404"), 2, ("open", "red", 424, None)),
    (to("open", "score", azureml_model_deployment="gone"), 2, ("open", "gone", 424, "no_backend")),
    (to("open", "score", azureml_model_deployment="grey"), 2, ("open", "", 404, "no_deployment")),
    (to("nowhere", "score"), 3, ("", "", 404, "no_route")),
    (b"GARBAGE\r\n\r\n", 2, ("", "", 400, "bad_request")),
    (request(method="DELETE"), 1, ("", "", 405, "method_not_allowed")),
]


def send_mixture(gateway: GatewayProcess) -> int:
    """Send it all; returns how many requests that were."""
    for data, count, (_, _, code, _) in MIXTURE:
        for _ in range(count):
            assert gateway.ask(data).status == code
    return sum(count for _, count, _ in MIXTURE)


_SAMPLE = re.compile(r"(\w+)\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
PLACE = ("endpoint", "deployment")


def samples(
    gateway: GatewayProcess, name: str, labels: tuple[str, ...]
) -> dict[tuple[str, ...], float]:
    """The values of ``labels`` and of the metric, where that is not zero."""
    found: dict[tuple[str, ...], float] = {}
    for metric, text, value in _SAMPLE.findall(gateway.admin_get("/metrics")[1]):
        if metric == name and float(value):
            given = dict(_LABEL.findall(text))
            assert set(given) == set(labels)
            found[tuple(given[label] for label in labels)] = float(value)
    return found


def test_metrics_agree_with_the_clients_own_count(
    gateway: GatewayProcess, backend: FakeBackend
) -> None:
    total = send_mixture(gateway)
    codes: collections.Counter[tuple[str, ...]] = collections.Counter()
    faults: collections.Counter[tuple[str, ...]] = collections.Counter()
    durations: collections.Counter[tuple[str, ...]] = collections.Counter()
    for _, count, (endpoint, deployment, code, fault) in MIXTURE:
        codes[endpoint, deployment, str(code)] += count
        durations[endpoint, deployment] += count
        if fault is not None:
            faults[endpoint, deployment, fault] += count
    assert samples(gateway, "gateway_requests_total", (*PLACE, "code")) == codes
    assert samples(gateway, "gateway_faults_total", (*PLACE, "fault")) == faults
    assert samples(gateway, "gateway_request_duration_seconds_count", PLACE) == durations
    assert samples(gateway, "gateway_authentications_total", ("endpoint", "outcome")) == {
        ("keyed", "key"): 22,
        ("keyed", "missing"): 4,
        ("keyed", "wrong_key"): 3,
        ("open", "open"): 12,
    }
    assert samples(gateway, "gateway_requests_in_flight", ("endpoint",)) == {}
    assert samples(gateway, "gateway_deployment_requests_in_flight", PLACE) == {}
    wait_until(lambda: gateway.metric("gateway_connections") == 0, what="the clients' leave")
    assert gateway.metric("gateway_connections_accepted_total") == total
    assert gateway.metric("gateway_access_log_dropped_lines_total") == 0


def test_upstream_metrics_agree_with_the_backends_own_count(
    gateway: GatewayProcess, backend: FakeBackend
) -> None:
    send_mixture(gateway)
    name = backend.url.removeprefix("http://")
    reached = sum(
        count
        for _, count, (_, deployment, _, fault) in MIXTURE
        if deployment and fault != "no_backend"
    )
    assert len(backend.seen) == reached
    connects = samples(gateway, "gateway_upstream_connects_total", (*PLACE, "backend"))
    reused = samples(gateway, "gateway_upstream_reused_total", (*PLACE, "backend"))
    here = [("keyed", "blue", name), ("open", "red", name)]
    assert sum(connects[labels] for labels in here) == backend.connections
    assert sum(connects[labels] + reused.get(labels, 0) for labels in here) == reached
    (gone,) = (labels for labels in connects if labels not in here)
    assert gone[:2] == ("open", "gone")
    assert samples(gateway, "gateway_upstream_connect_failures_total", (*PLACE, "backend")) == {
        gone: 2
    }
    # What was answered is timed; so is nothing else.
    assert samples(gateway, "gateway_upstream_duration_seconds_count", PLACE) == {
        ("keyed", "blue"): 17,
        ("open", "red"): 8,
    }


def test_requests_in_flight_are_seen_while_they_are(
    gateway: GatewayProcess, backend: FakeBackend
) -> None:
    with gateway.client() as one, gateway.client() as two:
        one.send(to("open", "hangs"))
        two.send(to("open", "hangs"))
        wait_until(lambda: gateway.metric("gateway_requests_in_flight", endpoint="open") == 2)
        labels = {"endpoint": "open", "deployment": "red"}
        assert gateway.metric("gateway_deployment_requests_in_flight", **labels) == 2
        assert gateway.metric("gateway_connections") == 2
        one.reset()
        wait_until(lambda: gateway.metric("gateway_requests_in_flight", endpoint="open") == 1)
        two.reset()
        wait_until(lambda: gateway.metric("gateway_requests_in_flight", endpoint="open") == 0)
    assert samples(gateway, "gateway_requests_total", (*PLACE, "code")) == {
        ("open", "red", "499"): 2
    }
    assert samples(gateway, "gateway_faults_total", (*PLACE, "fault")) == {
        ("open", "red", "client_gone"): 2
    }


def access(gateway: GatewayProcess, count: int) -> list[dict[str, object]]:
    """The access log, once ``count`` lines are there."""

    def lines() -> list[dict[str, object]]:
        return [entry for entry in gateway.log_entries() if "request_id" in entry]

    wait_until(lambda: len(lines()) >= count, what=f"{count} lines in the access log")
    assert len(lines()) == count
    return lines()


def test_every_request_has_one_line_with_every_field(gateway: GatewayProcess) -> None:
    entries = access(gateway, send_mixture(gateway))
    found = collections.Counter(
        (e["endpoint"], e["deployment"], e["status"], e.get("fault")) for e in entries
    )
    expected: collections.Counter[tuple[object, ...]] = collections.Counter()
    for _, count, labels in MIXTURE:
        expected[labels] += count
    assert found == expected
    assert len({entry["request_id"] for entry in entries}) == len(entries)
    for entry in entries:
        assert set(entry) - {"fault", "detail"} == FIELDS
        assert ("fault" in entry) == ("detail" in entry)
        assert entry["client"] == "127.0.0.1"
        assert 0 <= float(str(entry["upstream_ms"])) <= float(str(entry["duration_ms"]))
    times = [datetime.fromisoformat(str(entry["time"])) for entry in entries]
    assert times == sorted(times)
    assert abs((datetime.now(times[0].tzinfo) - times[-1]).total_seconds()) < 30


def test_a_line_says_what_happened(gateway: GatewayProcess, backend: FakeBackend) -> None:
    headers = {
        "x-ms-client-request-id": "call-17",
        "traceparent": f"00-{TRACE}-b7ad6b7169203331-01",
        "User-Agent": 'curl/8 "quoted"',
    }
    body = b"[" + b"1," * 500 + b"1]"
    path = "/api/v1/service/keyed/score?code=secret"
    answer = gateway.ask(request(path, body, key=SECOND_KEY, headers=headers))
    (entry,) = access(gateway, 1)
    timed = {name: entry.pop(name) for name in ("time", "duration_ms", "queue_ms", "upstream_ms")}
    assert entry == {
        "request_id": answer.header("x-ms-request-id"),
        "client_request_id": "call-17",
        "trace_id": TRACE,
        "client": "127.0.0.1",
        "method": "POST",
        "path": "/api/v1/service/keyed/score",
        "endpoint": "keyed",
        "deployment": "blue",
        "backend": backend.url.removeprefix("http://"),
        "principal": "secondary",
        "status": 200,
        "attempts": 1,
        "bytes_in": len(body),
        "bytes_out": 4,
        "user_agent": 'curl/8 "quoted"',
    }
    assert 0 < float(str(timed["upstream_ms"])) < 1000


def test_t42_hostile_values_make_no_new_series(gateway: GatewayProcess) -> None:
    send_mixture(gateway)

    def series() -> set[str]:
        text = gateway.admin_get("/metrics")[1]
        return {line.rsplit(" ", 1)[0] for line in text.splitlines() if not line.startswith("#")}

    before = series()
    for number in range(300):
        noise = f"bomb-{number}"
        for data in (
            to(noise, "score"),
            to("open", "score", azureml_model_deployment=noise),
            to("open", f"{noise}/404"),
            to("keyed", "score", noise, x_request_id=noise, User_Agent=noise, Origin=noise),
            request("/api/v1/service/open/score", host=f"{noise}.test"),
            request(method=noise.upper()),
        ):
            assert gateway.ask(data).status in (200, 401, 404, 405, 424)
    assert series() == before
    assert "bomb" not in gateway.admin_get("/metrics")[1]


def test_t42_the_containers_status_is_the_only_open_label_and_bounded(
    gateway: GatewayProcess,
) -> None:
    for code in range(200, 600):
        expected = {500: 502}.get(code, code)
        data = to("keyed", str(code), KEY)
        assert gateway.ask(data, head_only=code in (204, 304)).status == expected
    for code in (199, 600, 999):
        assert gateway.ask(to("keyed", str(code), KEY)).status in (502, 504)
    assert len(samples(gateway, "gateway_requests_total", (*PLACE, "code"))) <= 400


INJECTIONS = [
    ("User-Agent", 'x", "status": 200, "y": "'),
    ("User-Agent", "caf\xe9 \xff \x80"),
    ("User-Agent", "a\tb"),
    ("User-Agent", "x" * 5000),
    ("User-Agent", "\\u000a{\\n}\\"),
    ("x-ms-client-request-id", '"}{"request_id": "forged"}'),
    ("x-request-id", "<script>alert(1)</script>"),
    ("traceparent", '00-"-"-01'),
    ("traceparent", f"00-{TRACE.upper()}-b7ad6b7169203331-01"),
    ("X-Forwarded-For", '10.0.0.1", "client": "forged'),
]


def test_t43_nothing_a_client_sends_breaks_or_forges_a_line(gateway: GatewayProcess) -> None:
    for name, value in INJECTIONS:
        assert (
            gateway.ask(request("/api/v1/service/open/score", headers={name: value})).status == 200
        )
    paths = ["/%0a", "/%22%7d%0d%0a", '/a"b', "/<script>", "/" + "p" * 3000, "/%e2%80%a8"]
    for path in paths:
        assert gateway.ask(request(path)).status in (400, 404)
    entries = access(gateway, len(INJECTIONS) + len(paths))
    lines = [line for line in gateway.log().splitlines() if '"request_id"' in line]
    assert len(lines) == len(entries), "every line is one JSON object"
    for entry in entries:
        assert set(entry) - {"fault", "detail"} == FIELDS
        assert entry["client"] == "127.0.0.1"
        assert entry["trace_id"] == ""
        for field in ("path", "user_agent", "client_request_id"):
            assert len(str(entry[field])) <= 200
            assert str(entry[field]).isascii()
            assert str(entry[field]).isprintable()


def test_t43_a_flood_of_bad_requests_is_no_flood_of_errors(gateway: GatewayProcess) -> None:
    bad = (
        b"\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
        request(version="HTTP/9.9"),
    )
    for number in range(400):
        assert gateway.ask(bad[number % len(bad)]).status in (400, 505)
    assert len(access(gateway, 400)) == 400
    own = [entry for entry in gateway.log_entries() if "request_id" not in entry]
    assert [entry["level"] for entry in own] == ["info"], "only that it was started"
    assert "Traceback" not in gateway.log()

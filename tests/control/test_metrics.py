"""The metrics: exactly these families and exactly these labels, with values from closed sets.

Dashboards and alerts are written against the names below, so a change here is a change for users.
"""

from __future__ import annotations

import math
import os
import platform
import subprocess
from collections.abc import Callable, Iterator

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from gateway import __version__
from gateway.control.metrics import Metrics, Supervision
from gateway.core.gates import OUTCOMES
from gateway.core.lanes import Flush
from gateway.core.series import Reporter
from gateway.core.statistics import LATENCY_BOUNDS, Statistics
from tests.support.backends import FakeBackend, answering
from tests.support.counted import made_up
from tests.support.gateways import KEY, GatewayProcess, minimal
from tests.support.raw import request
from tests.support.tools import tool

# Family as the parser names it: (type, labels of its samples without `le`).
FAMILIES = {
    "gateway_build_info": ("gauge", {"version", "python"}),
    "gateway_workers": ("gauge", set()),
    "gateway_worker_restarts": ("counter", {"reason"}),
    "gateway_worker_cpu_seconds": ("counter", {"worker"}),
    "gateway_worker_resident_memory_bytes": ("gauge", {"worker"}),
    "gateway_worker_open_fds": ("gauge", {"worker"}),
    "gateway_worker_max_fds": ("gauge", {"worker"}),
    "gateway_event_loop_lag_seconds": ("histogram", set()),
    "gateway_event_loop_lag_max_seconds": ("gauge", {"worker"}),
    "gateway_config_generation": ("gauge", set()),
    "gateway_reloads": ("counter", {"result"}),
    "gateway_config_last_reload_successful": ("gauge", set()),
    "gateway_certificate_expiry_timestamp_seconds": ("gauge", set()),
    "gateway_requests": ("counter", {"endpoint", "deployment", "code"}),
    "gateway_faults": ("counter", {"endpoint", "deployment", "fault"}),
    "gateway_requests_in_flight": ("gauge", {"endpoint"}),
    "gateway_deployment_requests_in_flight": ("gauge", {"endpoint", "deployment"}),
    "gateway_request_duration_seconds": ("histogram", {"endpoint", "deployment"}),
    "gateway_upstream_duration_seconds": ("histogram", {"endpoint", "deployment"}),
    "gateway_connections": ("gauge", set()),
    "gateway_connections_limit": ("gauge", set()),
    "gateway_connections_accepted": ("counter", set()),
    "gateway_connections_refused": ("counter", set()),
    "gateway_pipelined_requests": ("counter", set()),
    "gateway_client_timeouts": ("counter", {"waiting_for"}),
    "gateway_tls_handshakes": ("counter", {"result"}),
    "gateway_places": ("gauge", {"endpoint", "deployment"}),
    "gateway_places_taken": ("gauge", {"endpoint", "deployment"}),
    "gateway_queue_length": ("gauge", {"endpoint", "deployment"}),
    "gateway_queue_wait_seconds": ("histogram", {"endpoint", "deployment"}),
    "gateway_batch_rows": ("histogram", {"endpoint", "deployment"}),
    "gateway_batch_requests": ("histogram", {"endpoint", "deployment"}),
    "gateway_batch_row_cap": ("gauge", {"endpoint", "deployment"}),
    "gateway_batch_kinds": ("gauge", {"endpoint", "deployment", "state"}),
    "gateway_batch_isolations": ("counter", {"endpoint", "deployment"}),
    "gateway_batch_extra_calls": ("counter", {"endpoint", "deployment"}),
    "gateway_batch_fallbacks": ("counter", {"endpoint", "deployment"}),
    "gateway_scattered_requests": ("counter", {"endpoint", "deployment"}),
    "gateway_batches": ("counter", {"endpoint", "deployment", "flush"}),
    "gateway_batch_proofs": ("counter", {"endpoint", "deployment", "result"}),
    "gateway_shadow_calls": ("counter", {"endpoint", "deployment"}),
    "gateway_shadow_comparisons": ("counter", {"endpoint", "deployment", "result"}),
    "gateway_upstream_connections": ("gauge", {"endpoint", "deployment", "backend"}),
    "gateway_upstream_connects": ("counter", {"endpoint", "deployment", "backend"}),
    "gateway_upstream_connect_failures": ("counter", {"endpoint", "deployment", "backend"}),
    "gateway_upstream_reused": ("counter", {"endpoint", "deployment", "backend"}),
    "gateway_upstream_stale": ("counter", {"endpoint", "deployment", "backend"}),
    "gateway_authentications": ("counter", {"endpoint", "outcome"}),
    "gateway_jwks_fetches": ("counter", {"endpoint", "result"}),
    "gateway_access_log_dropped_lines": ("counter", set()),
}


def exposition(source: Callable[[], Statistics]) -> Callable[[], bytes]:
    """A function that renders the page of one worker, which is this process.

    :param source: gives the statistics of the moment.
    """
    metrics, reporter = Metrics(), Reporter()

    def render() -> bytes:
        metrics.totals.apply(0, reporter.report(source()))
        return metrics.render(Supervision({0: os.getpid()}))

    return render


def families(text: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text)}


@pytest.fixture(scope="module")
def parsed() -> dict[str, Metric]:
    return families(exposition(made_up)().decode())


def value(parsed: dict[str, Metric], name: str, **labels: str) -> float:
    """The one sample of that name with exactly these labels."""
    (found,) = [
        sample.value
        for family in parsed.values()
        for sample in family.samples
        if sample.name == name and sample.labels == labels
    ]
    return found


def test_the_families_are_these_and_have_these_labels(parsed: dict[str, Metric]) -> None:
    own = {name: family for name, family in parsed.items() if name.startswith("gateway_")}
    found = {
        name: (family.type, {label for s in family.samples for label in s.labels} - {"le"})
        for name, family in own.items()
    }
    assert found == FAMILIES
    assert all(family.documentation.endswith(".") for family in own.values())


def test_the_process_itself_is_measured_too(parsed: dict[str, Metric]) -> None:
    others = {name for name in parsed if not name.startswith("gateway_")}
    assert {"process_resident_memory_bytes", "process_open_fds", "python_info"} <= others
    assert all(name.startswith(("process_", "python_")) for name in others)


BLUE = {"endpoint": "first", "deployment": "blue"}
OWN = {"endpoint": "first", "deployment": ""}
UNROUTED = {"endpoint": "", "deployment": ""}
AT = BLUE | {"backend": "10.0.0.1:80"}


@pytest.mark.parametrize(
    ("name", "labels", "wanted"),
    [
        ("gateway_build_info", {"version": __version__, "python": platform.python_version()}, 1),
        ("gateway_workers", {}, 1),
        ("gateway_worker_restarts_total", {"reason": "killed"}, 0),
        ("gateway_worker_cpu_seconds_total", {"worker": "0"}, 171.5),
        ("gateway_event_loop_lag_seconds_count", {}, 2),
        ("gateway_event_loop_lag_seconds_sum", {}, 0.024),
        ("gateway_event_loop_lag_max_seconds", {"worker": "0"}, 0.02),
        ("gateway_config_generation", {}, 1),
        ("gateway_reloads_total", {"result": "failure"}, 0),
        ("gateway_config_last_reload_successful", {}, 1),
        ("gateway_requests_total", UNROUTED | {"code": "404"}, 31),
        ("gateway_requests_total", UNROUTED | {"code": "400"}, 32),
        ("gateway_requests_total", OWN | {"code": "401"}, 41),
        ("gateway_requests_total", BLUE | {"code": "200"}, 51),
        ("gateway_requests_total", BLUE | {"code": "502"}, 52),
        ("gateway_faults_total", UNROUTED | {"fault": "no_route"}, 31),
        ("gateway_faults_total", OWN | {"fault": "no_credentials"}, 41),
        ("gateway_requests_in_flight", {"endpoint": "first"}, 7),
        ("gateway_requests_in_flight", {"endpoint": "second"}, 0),
        ("gateway_deployment_requests_in_flight", BLUE, 6),
        ("gateway_connections", {}, 3),
        ("gateway_connections_limit", {}, 1000),
        ("gateway_connections_accepted_total", {}, 11),
        ("gateway_connections_refused_total", {}, 2),
        ("gateway_pipelined_requests_total", {}, 5),
        ("gateway_client_timeouts_total", {"waiting_for": "head"}, 21),
        ("gateway_client_timeouts_total", {"waiting_for": "body"}, 22),
        ("gateway_client_timeouts_total", {"waiting_for": "idle"}, 23),
        ("gateway_client_timeouts_total", {"waiting_for": "write"}, 24),
        ("gateway_tls_handshakes_total", {"result": "full"}, 25),
        ("gateway_tls_handshakes_total", {"result": "resumed"}, 26),
        ("gateway_tls_handshakes_total", {"result": "displaced"}, 30),
        ("gateway_places_taken", BLUE, 5),
        ("gateway_places", BLUE, 6),
        ("gateway_queue_length", BLUE, 7),
        ("gateway_queue_wait_seconds_count", BLUE, 1),
        ("gateway_queue_wait_seconds_sum", BLUE, 0.03),
        ("gateway_batch_rows_count", BLUE, 4),
        ("gateway_batch_rows_sum", BLUE, 5006),
        ("gateway_batch_requests_count", BLUE, 1),
        ("gateway_batch_requests_sum", BLUE, 2),
        ("gateway_batch_isolations_total", BLUE, 101),
        ("gateway_batch_extra_calls_total", BLUE, 102),
        ("gateway_batch_fallbacks_total", BLUE, 103),
        ("gateway_scattered_requests_total", BLUE, 104),
        ("gateway_batches_total", BLUE | {"flush": "slot_free"}, 111),
        ("gateway_batches_total", BLUE | {"flush": "full"}, 112),
        ("gateway_batches_total", BLUE | {"flush": "bytes"}, 113),
        ("gateway_batches_total", BLUE | {"flush": "delay"}, 114),
        ("gateway_batches_total", BLUE | {"flush": "deadline"}, 115),
        ("gateway_batch_proofs_total", BLUE | {"result": "proved"}, 121),
        ("gateway_batch_proofs_total", BLUE | {"result": "disproved"}, 122),
        ("gateway_batch_proofs_total", BLUE | {"result": "inconclusive"}, 123),
        ("gateway_shadow_calls_total", BLUE, 131),
        ("gateway_shadow_comparisons_total", BLUE | {"result": "agree"}, 141),
        ("gateway_shadow_comparisons_total", BLUE | {"result": "differ"}, 142),
        ("gateway_shadow_comparisons_total", BLUE | {"result": "incomparable"}, 143),
        ("gateway_shadow_comparisons_total", BLUE | {"result": "ineligible"}, 144),
        ("gateway_shadow_comparisons_total", BLUE | {"result": "dropped"}, 145),
        ("gateway_batch_row_cap", BLUE, 151),
        ("gateway_batch_kinds", BLUE | {"state": "proving"}, 161),
        ("gateway_batch_kinds", BLUE | {"state": "on"}, 162),
        ("gateway_batch_kinds", BLUE | {"state": "off"}, 163),
        ("gateway_upstream_connections", AT, 4),
        ("gateway_upstream_connects_total", AT, 61),
        ("gateway_upstream_connect_failures_total", AT, 62),
        ("gateway_upstream_reused_total", AT, 63),
        ("gateway_upstream_stale_total", AT, 64),
        ("gateway_authentications_total", {"endpoint": "first", "outcome": "key"}, 71),
        ("gateway_authentications_total", {"endpoint": "first", "outcome": "missing"}, 72),
        ("gateway_authentications_total", {"endpoint": "second", "outcome": "open"}, 0),
        ("gateway_jwks_fetches_total", {"endpoint": "first", "result": "success"}, 81),
        ("gateway_jwks_fetches_total", {"endpoint": "first", "result": "failure"}, 82),
        ("gateway_access_log_dropped_lines_total", {}, 91),
    ],
)
def test_every_number_is_where_it_belongs(
    parsed: dict[str, Metric], name: str, labels: dict[str, str], wanted: float
) -> None:
    assert value(parsed, name, **labels) == wanted


def test_the_outcomes_of_authentication_are_there_before_they_happen(
    parsed: dict[str, Metric],
) -> None:
    samples = parsed["gateway_authentications"].samples
    for endpoint in ("first", "second"):
        found = [s.labels["outcome"] for s in samples if s.labels["endpoint"] == endpoint]
        assert found == list(OUTCOMES)


def test_an_endpoint_without_a_key_set_has_no_fetches(parsed: dict[str, Metric]) -> None:
    samples = parsed["gateway_jwks_fetches"].samples
    assert {sample.labels["endpoint"] for sample in samples} == {"first"}


def buckets(parsed: dict[str, Metric], name: str, **labels: str) -> list[tuple[float, float]]:
    return [
        (float(sample.labels["le"]), sample.value)
        for sample in parsed[name].samples
        if sample.name == f"{name}_bucket" and labels.items() <= sample.labels.items()
    ]


def test_buckets_are_cumulative_and_a_bound_belongs_to_its_bucket(
    parsed: dict[str, Metric],
) -> None:
    name = "gateway_request_duration_seconds"
    found = buckets(parsed, name, **BLUE)
    assert [bound for bound, _ in found] == [*LATENCY_BOUNDS, math.inf]
    assert dict(found)[0.0005] == 2
    assert dict(found)[0.001] == 3
    assert dict(found)[0.025] == 3
    assert dict(found)[0.05] == 4
    assert dict(found)[60.0] == 4
    assert dict(found)[math.inf] == 5
    assert [count for _, count in found] == sorted(count for _, count in found)
    assert value(parsed, f"{name}_count", **BLUE) == 5
    assert value(parsed, f"{name}_sum", **BLUE) == pytest.approx(70.0315)


def test_only_deployments_have_an_upstream_time(parsed: dict[str, Metric]) -> None:
    samples = parsed["gateway_upstream_duration_seconds"].samples
    assert {sample.labels["deployment"] for sample in samples} == {"blue", "green", "red"}


@pytest.mark.parametrize(
    ("prefix", "deployments"),
    [
        ("gateway_batch", {"blue", "green"}),
        ("gateway_scattered", {"blue", "green"}),
        ("gateway_shadow", {"blue"}),
    ],
)
def test_only_what_merges_or_compares_is_measured_at_it(
    parsed: dict[str, Metric], prefix: str, deployments: set[str]
) -> None:
    found = [family for name, family in parsed.items() if name.startswith(prefix)]
    assert found
    for family in found:
        assert {sample.labels["deployment"] for sample in family.samples} == deployments


def test_outcomes_of_batches_are_there_before_they_happen(parsed: dict[str, Metric]) -> None:
    green = {"endpoint": "first", "deployment": "green"}
    for flush in Flush:
        assert value(parsed, "gateway_batches_total", flush=flush.value, **green) == 0
    for result in ("proved", "disproved", "inconclusive"):
        assert value(parsed, "gateway_batch_proofs_total", result=result, **green) == 0


def test_requests_that_belong_to_nobody_have_a_duration_too(parsed: dict[str, Metric]) -> None:
    assert buckets(parsed, "gateway_request_duration_seconds", **UNROUTED)[-1] == (math.inf, 0)


def test_a_scrape_shows_the_moment_of_the_scrape() -> None:
    statistics = made_up()
    render = exposition(lambda: statistics)
    before = families(render().decode())
    statistics.log_dropped += 1
    after = families(render().decode())
    name = "gateway_access_log_dropped_lines_total"
    assert value(after, name) - value(before, name) == 1


def test_workers_and_what_became_of_them_are_shown() -> None:
    metrics = Metrics()
    reporters = {number: Reporter() for number in (0, 1)}
    for number, reporter in reporters.items():
        metrics.totals.apply(number, reporter.report(made_up()))
    metrics.totals.retire(1)
    metrics.totals.apply(1, Reporter().report(made_up()))
    supervision = Supervision(
        workers={0: os.getpid(), 1: 2**22 + 1},
        restarts={"killed": 3},
        generation=4,
        reloads={"success": 5, "failure": 6},
        last_reload_successful=False,
        certificates={("listen", "cert.pem"): 1790000000.5},
    )
    found = families(metrics.render(supervision).decode())
    for name, labels, wanted in (
        ("gateway_workers", {}, 2),
        ("gateway_worker_restarts_total", {"reason": "exited"}, 0),
        ("gateway_worker_restarts_total", {"reason": "killed"}, 3),
        ("gateway_config_generation", {}, 4),
        ("gateway_reloads_total", {"result": "success"}, 5),
        ("gateway_reloads_total", {"result": "failure"}, 6),
        ("gateway_config_last_reload_successful", {}, 0),
        (
            "gateway_certificate_expiry_timestamp_seconds",
            {"use": "listen", "file": "cert.pem"},
            1790000000.5,
        ),
        # Two live and a dead one, in all.
        ("gateway_requests_total", BLUE | {"code": "200"}, 3 * 51),
        ("gateway_request_duration_seconds_count", BLUE, 3 * 5),
        ("gateway_worker_cpu_seconds_total", {"worker": "0"}, 171.5),
        ("gateway_worker_cpu_seconds_total", {"worker": "1"}, 2 * 171.5),
        ("gateway_requests_in_flight", {"endpoint": "first"}, 2 * 7),
        ("gateway_places", BLUE, 6),
        ("gateway_places_taken", BLUE, 2 * 5),
        ("gateway_batch_row_cap", BLUE, 151),
        ("gateway_connections_limit", {}, 2 * 1000),
    ):
        assert value(found, name, **labels) == wanted, name
    # The other is gone before it could be looked at.
    memory = found["gateway_worker_resident_memory_bytes"].samples
    assert [sample.labels for sample in memory] == [{"worker": "0"}]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("gateway")
    with FakeBackend(answering()) as backend, GatewayProcess(minimal(backend.url), folder) as own:
        yield own


def series(gateway: GatewayProcess) -> set[str]:
    """Every series of ours, by name and labels."""
    page = gateway.admin_get("/metrics")[1]
    return {line.rpartition(" ")[0] for line in page.splitlines() if line.startswith("gateway_")}


HOSTILE = {
    "unknown-path": request("/attack-{n}", key=KEY),
    "unknown-service": request("/api/v1/service/attack-{n}/score", key=KEY),
    "unknown-host": request("/score", host="attack-{n}.example", key=KEY),
    "unknown-method": request(method="ATTACK{n}", key=KEY),
    "unknown-key": request(key="attack-{n}-0123456789"),
    "unknown-deployment": request(key=KEY, headers={"azureml-model-deployment": "attack-{n}"}),
    "unknown-version": request(version="HTTP/{n}.7", key=KEY),
    "identifiers": request(key=KEY, headers={"x-ms-client-request-id": "attack-{n}"}),
    "origin": request(key=KEY, headers={"Origin": "https://attack-{n}.example"}),
}


@pytest.mark.parametrize("template", HOSTILE.values(), ids=HOSTILE)
def test_t42_nothing_that_a_client_sends_makes_a_series(
    gateway: GatewayProcess, template: bytes
) -> None:
    for number in range(2):
        gateway.ask(template.replace(b"{n}", str(number).encode()))
    settled = series(gateway)
    for number in range(2, 8):
        gateway.ask(template.replace(b"{n}", str(number).encode()))
    assert series(gateway) == settled
    assert not any("attack" in line.lower() for line in settled)


def test_t42_a_request_counts_once_and_where_it_was_served(gateway: GatewayProcess) -> None:
    def count(**labels: str) -> float:
        return gateway.metric("gateway_requests_total", **labels)

    places = [
        {"endpoint": "diabetes", "deployment": "blue", "code": "200"},
        {"endpoint": "diabetes", "deployment": "", "code": "401"},
        {"endpoint": "", "deployment": "", "code": "404"},
    ]
    total, before = count(), [count(**labels) for labels in places]
    gateway.ask()
    gateway.ask(request(key="not-a-key-of-this-endpoint"))
    gateway.ask(request("/api/v1/service/nobody/score", key=KEY))
    assert count() == total + 3
    assert [count(**labels) for labels in places] == [n + 1 for n in before]


@pytest.mark.tool
def test_t42_promtool_finds_nothing_to_complain_about(gateway: GatewayProcess) -> None:
    promtool = tool("promtool")
    gateway.ask()
    for page in (exposition(made_up)(), gateway.admin_get("/metrics")[1].encode()):
        judged = subprocess.run(
            [promtool, "check", "metrics"], input=page, capture_output=True, check=False
        )
        assert (judged.returncode, judged.stdout, judged.stderr) == (0, b"", b"")

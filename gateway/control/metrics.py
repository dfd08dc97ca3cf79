"""Statistics in the Prometheus exposition format.

The request path counts in plain numbers; they become metric families when a scrape asks. Every
label value is a configured name, a status code or a member of a fixed set (reliability.md T42).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from gateway import __version__
from gateway.core.statistics import (
    BatchStatistics,
    EndpointStatistics,
    Histogram,
    Statistics,
    Tally,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class GatewayCollector(Collector):
    """Turns the statistics of the moment into metric families."""

    def __init__(self, source: Callable[[], Statistics]) -> None:
        self._source = source

    def collect(self) -> Iterable[Metric]:
        statistics = self._source()
        yield InfoMetricFamily(
            "gateway_build", "The running gateway.", value={"version": __version__}
        )
        yield from _requests(statistics)
        yield from _queues(statistics.endpoints)
        yield from _batches(statistics.endpoints)
        yield from _batch_outcomes(statistics.endpoints)
        yield from _connections(statistics)
        yield from _backends(statistics.endpoints)
        yield from _authentication(statistics.endpoints)
        yield CounterMetricFamily(
            "gateway_access_log_dropped_lines",
            "Lines of the access log that could not be written in time.",
            value=statistics.log_dropped,
        )


def exposition(source: Callable[[], Statistics]) -> Callable[[], bytes]:
    """A function that renders all metrics, those of the process included."""
    registry = CollectorRegistry()
    registry.register(GatewayCollector(source))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return lambda: generate_latest(registry)


def _tallies(statistics: Statistics) -> Iterator[tuple[str, str, Tally]]:
    """Endpoint, deployment and what happened there. Empty names stand for requests that ended
    before an endpoint or a deployment was found."""
    yield "", "", statistics.unrouted
    for endpoint in statistics.endpoints:
        yield endpoint.name, "", endpoint.tally
        for name, deployment in endpoint.deployments.items():
            yield endpoint.name, name, deployment.tally


def _requests(statistics: Statistics) -> Iterator[Metric]:
    labels = ["endpoint", "deployment"]
    requests = CounterMetricFamily(
        "gateway_requests", "Requests answered.", labels=[*labels, "code"]
    )
    faults = CounterMetricFamily(
        "gateway_faults", "Requests that failed, by what went wrong.", labels=[*labels, "fault"]
    )
    in_flight = GaugeMetricFamily(
        "gateway_requests_in_flight", "Requests being handled.", labels=["endpoint"]
    )
    at_deployment = GaugeMetricFamily(
        "gateway_deployment_requests_in_flight",
        "Requests that a deployment was chosen for and that are not answered yet.",
        labels=labels,
    )
    duration = HistogramMetricFamily(
        "gateway_request_duration_seconds",
        "From the end of the request's header to the end of the answer.",
        labels=labels,
    )
    upstream = HistogramMetricFamily(
        "gateway_upstream_duration_seconds",
        "From sending to the container to its answer (to its header, if that is streamed).",
        labels=labels,
    )
    for endpoint, deployment, tally in _tallies(statistics):
        names = [endpoint, deployment]
        for code, count in sorted(tally.codes.items()):
            requests.add_metric([*names, str(code)], count)
        for fault, count in sorted(tally.faults.items()):
            faults.add_metric([*names, fault], count)
        _add_histogram(duration, names, tally.duration)
        if deployment:
            _add_histogram(upstream, names, tally.upstream)
            at_deployment.add_metric(names, tally.in_flight)
        elif endpoint:
            in_flight.add_metric([endpoint], tally.in_flight)
    yield from (requests, faults, in_flight, at_deployment, duration, upstream)


def _queues(endpoints: Iterable[EndpointStatistics]) -> Iterator[Metric]:
    labels = ["endpoint", "deployment"]
    places = GaugeMetricFamily(
        "gateway_places", "Requests that the containers may have at a time.", labels=labels
    )
    taken = GaugeMetricFamily("gateway_places_taken", "Of those, taken.", labels=labels)
    waiting = GaugeMetricFamily(
        "gateway_queue_length", "Requests that wait for a place.", labels=labels
    )
    wait = HistogramMetricFamily(
        "gateway_queue_wait_seconds",
        "How long requests waited that found no place free, those that gave up included.",
        labels=labels,
    )
    for endpoint in endpoints:
        for name, deployment in endpoint.deployments.items():
            names = [endpoint.name, name]
            taken.add_metric(names, deployment.places[0])
            places.add_metric(names, deployment.places[1])
            waiting.add_metric(names, deployment.waiting)
            _add_histogram(wait, names, deployment.queue.wait)
    yield from (places, taken, waiting, wait)


def _batching(
    endpoints: Iterable[EndpointStatistics],
) -> Iterator[tuple[list[str], BatchStatistics]]:
    """Endpoint and deployment, for those where requests are merged or compared."""
    for endpoint in endpoints:
        for name, deployment in endpoint.deployments.items():
            if deployment.batching is not None:
                yield [endpoint.name, name], deployment.batching


def _batches(endpoints: Iterable[EndpointStatistics]) -> Iterator[Metric]:
    labels = ["endpoint", "deployment"]
    rows = HistogramMetricFamily("gateway_batch_rows", "Rows of a merged call.", labels=labels)
    requests = HistogramMetricFamily(
        "gateway_batch_requests", "Requests that a merged call stood for.", labels=labels
    )
    cap = GaugeMetricFamily(
        "gateway_batch_row_cap", "Rows that a merged call may have at present.", labels=labels
    )
    families = GaugeMetricFamily(
        "gateway_batch_kinds",
        "Kinds of requests seen, by whether they are merged: proving, on, off.",
        labels=[*labels, "state"],
    )
    counters = {
        "isolations": CounterMetricFamily(
            "gateway_batch_isolations",
            "Merged calls whose answer did not serve everybody.",
            labels=labels,
        ),
        "extra_calls": CounterMetricFamily(
            "gateway_batch_extra_calls", "Calls for isolation and for proofs.", labels=labels
        ),
        "scattered": CounterMetricFamily(
            "gateway_scattered_requests", "Requests that were cut into parts.", labels=labels
        ),
        "fallbacks": CounterMetricFamily(
            "gateway_batch_fallbacks", "How often merging was stopped for a while.", labels=labels
        ),
    }
    for names, batching in _batching(endpoints):
        _add_histogram(rows, names, batching.tally.rows)
        _add_histogram(requests, names, batching.tally.requests)
        cap.add_metric(names, batching.cap)
        for state, count in batching.families.items():
            families.add_metric([*names, state], count)
        for field, counter in counters.items():
            counter.add_metric(names, getattr(batching.tally, field))
    yield from (rows, requests, cap, families, *counters.values())


def _batch_outcomes(endpoints: Iterable[EndpointStatistics]) -> Iterator[Metric]:
    labels = ["endpoint", "deployment"]
    flushes = CounterMetricFamily(
        "gateway_batches", "Merged calls, by what made them leave.", labels=[*labels, "flush"]
    )
    proofs = CounterMetricFamily(
        "gateway_batch_proofs",
        "Merged calls whose requests were scored alone, too, to compare.",
        labels=[*labels, "result"],
    )
    calls = CounterMetricFamily(
        "gateway_shadow_calls", "Merged calls whose answers nobody gets.", labels=labels
    )
    comparisons = CounterMetricFamily(
        "gateway_shadow_comparisons",
        "Requests of the sample, by how a merged answer compares with theirs.",
        labels=[*labels, "result"],
    )
    for names, batching in _batching(endpoints):
        for flush, count in batching.tally.flushes.items():
            flushes.add_metric([*names, flush], count)
        for result, count in batching.tally.proofs.items():
            proofs.add_metric([*names, result], count)
        if batching.shadow is not None:
            calls.add_metric(names, batching.shadow.calls)
            for result, count in batching.shadow.results.items():
                comparisons.add_metric([*names, result], count)
    yield from (flushes, proofs, calls, comparisons)


def _add_histogram(family: HistogramMetricFamily, labels: list[str], data: Histogram) -> None:
    buckets: list[tuple[str, float]] = []
    count = 0
    for bound, own in zip((*data.bounds, float("inf")), data.counts, strict=True):
        count += own
        buckets.append(("+Inf" if bound == float("inf") else repr(bound), count))
    family.add_metric(labels, buckets, data.total)


def _connections(statistics: Statistics) -> Iterator[Metric]:
    tally = statistics.connections
    yield GaugeMetricFamily("gateway_connections", "Open client connections.", value=tally.open)
    yield GaugeMetricFamily(
        "gateway_connections_limit", "Client connections accepted at most.", value=tally.limit
    )
    for name, text, value in (
        ("accepted", "Client connections accepted.", tally.accepted),
        ("refused", "Client connections turned away at the limit.", tally.refused),
    ):
        yield CounterMetricFamily(f"gateway_connections_{name}", text, value=value)
    yield CounterMetricFamily(
        "gateway_pipelined_requests", "Requests that came before their turn.", value=tally.pipelined
    )
    timeouts = CounterMetricFamily(
        "gateway_client_timeouts", "Clients not waited for any longer.", labels=["waiting_for"]
    )
    for kind, count in tally.timeouts.items():
        timeouts.add_metric([kind], count)
    yield timeouts


def _backends(endpoints: Iterable[EndpointStatistics]) -> Iterator[Metric]:
    labels = ["endpoint", "deployment", "backend"]
    connections = GaugeMetricFamily(
        "gateway_upstream_connections", "Connections to a backend.", labels=labels
    )
    counters = {
        "connects": CounterMetricFamily(
            "gateway_upstream_connects", "Connections opened or tried.", labels=labels
        ),
        "connect_failures": CounterMetricFamily(
            "gateway_upstream_connect_failures", "Connections that failed.", labels=labels
        ),
        "reused": CounterMetricFamily(
            "gateway_upstream_reused", "Requests sent on a kept connection.", labels=labels
        ),
        "stale": CounterMetricFamily(
            "gateway_upstream_stale", "Of those, sent again: it had just closed.", labels=labels
        ),
    }
    for endpoint in endpoints:
        for deployment, data in endpoint.deployments.items():
            for backend, (opened, tally) in data.backends.items():
                names = [endpoint.name, deployment, backend]
                connections.add_metric(names, opened)
                for field, family in counters.items():
                    family.add_metric(names, getattr(tally, field))
    yield connections
    yield from counters.values()


def _authentication(endpoints: Iterable[EndpointStatistics]) -> Iterator[Metric]:
    outcomes = CounterMetricFamily(
        "gateway_authentications", "How authentication went.", labels=["endpoint", "outcome"]
    )
    fetches = CounterMetricFamily(
        "gateway_jwks_fetches", "Fetches of a JWK Set.", labels=["endpoint", "result"]
    )
    for endpoint in endpoints:
        for outcome, count in endpoint.authentications.items():
            outcomes.add_metric([endpoint.name, outcome], count)
        if endpoint.key_fetches is not None:
            good, bad = endpoint.key_fetches
            fetches.add_metric([endpoint.name, "success"], good)
            fetches.add_metric([endpoint.name, "failure"], bad)
    yield outcomes
    yield fetches

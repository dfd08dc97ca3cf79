"""The metric families, and where in them the numbers belong that workers report.

Every label value is a configured name, a status code or a member of a fixed set (reliability.md
T42).
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.core.confidence import State
from gateway.core.gates import OUTCOMES
from gateway.core.lanes import Flush
from gateway.core.statistics import (
    BATCH_BOUNDS,
    HANDSHAKES,
    LAG_BOUNDS,
    LATENCY_BOUNDS,
    BatchTally,
    ConnectionTally,
    ShadowTally,
)

# Name, type and help, in the order of the page. The name is that of the samples, which for counters
# ends in `_total` (a histogram's have `_bucket`, `_sum` and `_count` behind it).
FAMILIES: tuple[tuple[str, str, str], ...] = (
    ("gateway_build_info", "gauge", "The running gateway."),
    ("gateway_workers", "gauge", "Workers that are up."),
    ("gateway_worker_restarts_total", "counter", "Workers replaced, by what had become of them."),
    (
        "gateway_worker_cpu_seconds_total",
        "counter",
        "CPU time of a worker and of those that had its number before.",
    ),
    ("gateway_worker_resident_memory_bytes", "gauge", "Resident memory of a worker."),
    ("gateway_worker_open_fds", "gauge", "Open file descriptors of a worker."),
    ("gateway_worker_max_fds", "gauge", "File descriptors that a worker may have open."),
    (
        "gateway_event_loop_lag_seconds",
        "histogram",
        "How late the workers' event loops came to what was due.",
    ),
    (
        "gateway_event_loop_lag_max_seconds",
        "gauge",
        "How late a worker's event loop came at worst during the last half minute or minute.",
    ),
    ("gateway_config_generation", "gauge", "How many configurations have been in use."),
    ("gateway_reloads_total", "counter", "Attempts to load a new configuration."),
    (
        "gateway_config_last_reload_successful",
        "gauge",
        "1 if the configuration was accepted when it was last read.",
    ),
    (
        "gateway_certificate_expiry_timestamp_seconds",
        "gauge",
        "Unix time at which a certificate ends, the first of a file.",
    ),
    ("gateway_requests_total", "counter", "Requests answered."),
    ("gateway_faults_total", "counter", "Requests that failed, by what went wrong."),
    ("gateway_requests_in_flight", "gauge", "Requests being handled."),
    (
        "gateway_deployment_requests_in_flight",
        "gauge",
        "Requests that a deployment was chosen for and that are not answered yet.",
    ),
    (
        "gateway_request_duration_seconds",
        "histogram",
        "From the end of the request's header to the end of the answer.",
    ),
    (
        "gateway_upstream_duration_seconds",
        "histogram",
        "From sending to the container to its answer (to its header, if that is streamed).",
    ),
    ("gateway_places", "gauge", "Requests that the containers may have at a time."),
    ("gateway_places_taken", "gauge", "Of those, taken."),
    ("gateway_queue_length", "gauge", "Requests that wait for a place."),
    (
        "gateway_queue_wait_seconds",
        "histogram",
        "How long requests waited that found no place free, those that gave up included.",
    ),
    ("gateway_batch_rows", "histogram", "Rows of a merged call."),
    ("gateway_batch_requests", "histogram", "Requests that a merged call stood for."),
    ("gateway_batch_row_cap", "gauge", "Rows that a merged call may have at present."),
    (
        "gateway_batch_kinds",
        "gauge",
        "Kinds of requests seen, by whether they are merged: proving, on, off.",
    ),
    (
        "gateway_batch_isolations_total",
        "counter",
        "Merged calls whose answer did not serve everybody.",
    ),
    ("gateway_batch_extra_calls_total", "counter", "Calls for isolation and for proofs."),
    ("gateway_scattered_requests_total", "counter", "Requests that were cut into parts."),
    ("gateway_batch_fallbacks_total", "counter", "How often merging was stopped for a while."),
    ("gateway_batches_total", "counter", "Merged calls, by what made them leave."),
    (
        "gateway_batch_proofs_total",
        "counter",
        "Merged calls whose requests were scored alone, too, to compare.",
    ),
    ("gateway_shadow_calls_total", "counter", "Merged calls whose answers nobody gets."),
    (
        "gateway_shadow_comparisons_total",
        "counter",
        "Requests of the sample, by how a merged answer compares with theirs.",
    ),
    ("gateway_connections", "gauge", "Open client connections."),
    ("gateway_connections_limit", "gauge", "Client connections accepted at most."),
    ("gateway_connections_accepted_total", "counter", "Client connections accepted."),
    (
        "gateway_connections_refused_total",
        "counter",
        "Client connections turned away at the limit.",
    ),
    ("gateway_pipelined_requests_total", "counter", "Requests that came before their turn."),
    ("gateway_client_timeouts_total", "counter", "Clients not waited for any longer."),
    ("gateway_tls_handshakes_total", "counter", "TLS handshakes of clients, by how they ended."),
    ("gateway_upstream_connections", "gauge", "Connections to a backend."),
    ("gateway_upstream_connects_total", "counter", "Connections opened or tried."),
    ("gateway_upstream_connect_failures_total", "counter", "Connections that failed."),
    ("gateway_upstream_reused_total", "counter", "Requests sent on a kept connection."),
    ("gateway_upstream_stale_total", "counter", "Of those, sent again: it had just closed."),
    ("gateway_authentications_total", "counter", "How authentication went."),
    ("gateway_jwks_fetches_total", "counter", "Fetches of a JWK Set."),
    (
        "gateway_access_log_dropped_lines_total",
        "counter",
        "Lines of the access log that could not be written in time.",
    ),
    ("process_virtual_memory_bytes", "gauge", "Virtual memory of the process asked."),
    ("process_resident_memory_bytes", "gauge", "Resident memory of the process asked."),
    ("process_start_time_seconds", "gauge", "Unix time at which it was started."),
    ("process_cpu_seconds_total", "counter", "CPU time of it, user and system."),
    ("process_open_fds", "gauge", "Its open file descriptors."),
    ("process_max_fds", "gauge", "How many it may have."),
    ("python_info", "gauge", "The Python that runs it."),
    ("python_gc_objects_collected_total", "counter", "Objects that its collector destroyed."),
    ("python_gc_objects_uncollectable_total", "counter", "Objects that its collector could not."),
    ("python_gc_collections_total", "counter", "How often its collector looked."),
)


@dataclass(frozen=True, slots=True)
class Column:
    """What the next numbers of a block are: one sample of the family; or one for each of
    ``choices``, the values of ``label``; or, with ``bounds``, a histogram: the counts of its
    buckets, and the sum in millionths."""

    family: str
    label: str = ""
    choices: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    #: In millionths.
    scaled: bool = False

    @property
    def width(self) -> int:
        """How many numbers that are."""
        return len(self.bounds) + 2 if self.bounds else len(self.choices) or 1


_ENDPOINT = ("endpoint",)
_DEPLOYMENT = ("endpoint", "deployment")
_BACKEND = ("endpoint", "deployment", "backend")
_DURATION = Column("gateway_request_duration_seconds", bounds=LATENCY_BOUNDS)

# For each kind of block (`core/readings.py` makes them) the names of its labels, and its columns.
LAYOUTS: dict[str, tuple[tuple[str, ...], tuple[Column, ...]]] = {
    "code": ((*_DEPLOYMENT, "code"), (Column("gateway_requests_total"),)),
    "fault": ((*_DEPLOYMENT, "fault"), (Column("gateway_faults_total"),)),
    "endpoint": (_DEPLOYMENT, (_DURATION,)),
    "endpoint_in_flight": (_ENDPOINT, (Column("gateway_requests_in_flight"),)),
    "deployment": (
        _DEPLOYMENT,
        (_DURATION, Column("gateway_upstream_duration_seconds", bounds=LATENCY_BOUNDS)),
    ),
    "deployment_in_flight": (_DEPLOYMENT, (Column("gateway_deployment_requests_in_flight"),)),
    "queue": (_DEPLOYMENT, (Column("gateway_places_taken"), Column("gateway_queue_length"))),
    "places": (_DEPLOYMENT, (Column("gateway_places"),)),
    "wait": (_DEPLOYMENT, (Column("gateway_queue_wait_seconds", bounds=LATENCY_BOUNDS),)),
    "batch": (
        _DEPLOYMENT,
        (
            Column("gateway_batch_rows", bounds=BATCH_BOUNDS),
            Column("gateway_batch_requests", bounds=BATCH_BOUNDS),
            Column("gateway_batches_total", "flush", tuple(flush.value for flush in Flush)),
            Column("gateway_batch_proofs_total", "result", tuple(BatchTally().proofs)),
            Column("gateway_batch_isolations_total"),
            Column("gateway_batch_extra_calls_total"),
            Column("gateway_scattered_requests_total"),
            Column("gateway_batch_fallbacks_total"),
        ),
    ),
    "learned": (
        _DEPLOYMENT,
        (
            Column("gateway_batch_row_cap"),
            Column("gateway_batch_kinds", "state", tuple(state.value for state in State)),
        ),
    ),
    "shadow": (
        _DEPLOYMENT,
        (
            Column("gateway_shadow_calls_total"),
            Column("gateway_shadow_comparisons_total", "result", tuple(ShadowTally().results)),
        ),
    ),
    "pool": (_BACKEND, (Column("gateway_upstream_connections"),)),
    "backend": (
        _BACKEND,
        (
            Column("gateway_upstream_connects_total"),
            Column("gateway_upstream_connect_failures_total"),
            Column("gateway_upstream_reused_total"),
            Column("gateway_upstream_stale_total"),
        ),
    ),
    "authentications": (
        _ENDPOINT,
        (Column("gateway_authentications_total", "outcome", OUTCOMES),),
    ),
    "fetches": (
        _ENDPOINT,
        (Column("gateway_jwks_fetches_total", "result", ("success", "failure")),),
    ),
    "connections": ((), (Column("gateway_connections"),)),
    "limit": ((), (Column("gateway_connections_limit"),)),
    "clients": (
        (),
        (
            Column("gateway_connections_accepted_total"),
            Column("gateway_connections_refused_total"),
            Column("gateway_pipelined_requests_total"),
            Column(
                "gateway_client_timeouts_total",
                "waiting_for",
                tuple(ConnectionTally(0).timeouts),
            ),
            Column("gateway_tls_handshakes_total", "result", HANDSHAKES),
        ),
    ),
    "log": ((), (Column("gateway_access_log_dropped_lines_total"),)),
    "lag": ((), (Column("gateway_event_loop_lag_seconds", bounds=LAG_BOUNDS),)),
    "worst": (("worker",), (Column("gateway_event_loop_lag_max_seconds", scaled=True),)),
    "cpu": (("worker",), (Column("gateway_worker_cpu_seconds_total", scaled=True),)),
}

# For each kind, how many numbers a block has.
WIDTHS = {kind: sum(column.width for column in columns) for kind, (_, columns) in LAYOUTS.items()}

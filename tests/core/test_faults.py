"""The fault table is whole, and says to each client what the wire contract says (1.2, 1.3)."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter

import pytest

from gateway.core.faults import NO_VALID_DEPLOYMENTS, Answer, Blame, Fault, Refusal, Row

EVERY_FAULT = pytest.mark.parametrize("fault", Fault, ids=lambda fault: fault.name.lower())


def rows() -> list[Row]:
    return [fault.value for fault in Fault]


def test_slugs_are_unique_snake_case() -> None:
    slugs = [fault.slug for fault in Fault]
    assert len(set(slugs)) == len(slugs)
    assert [slug for slug in slugs if not re.fullmatch(r"[a-z]+(_[a-z]+)*", slug)] == []


@EVERY_FAULT
def test_each_fault_has_a_sendable_answer_in_both_dialects(fault: Fault) -> None:
    row: Row = fault.value
    for answer in (row.v1, row.managed):
        assert 400 <= answer.status <= 599
        fields = {field for _, field, _, _ in Formatter().parse(answer.text) if field is not None}
        assert fields <= {"service", "detail"}
        text = answer.text.format(service="diabetes", detail="why")
        assert text.isascii()
        assert "\r" not in text
        assert "\n" not in text


@EVERY_FAULT
def test_only_the_managed_dialect_tells_the_status_of_the_model(fault: Fault) -> None:
    row: Row = fault.value
    assert (row.v1.model_status, row.v1.model_reason) == (0, "")
    # Contract 1.3: a wrapped failure is a 424 that names what it wraps; an overflow has neither.
    assert (row.managed.status == 424) == bool(row.managed.model_status)
    assert bool(row.managed.model_status) == bool(row.managed.model_reason)


@EVERY_FAULT
def test_no_text_names_an_address(fault: Fault) -> None:
    row: Row = fault.value
    assert not re.search(r"\w+://|localhost|:\d", row.v1.text + row.managed.text)


def test_v1_never_answers_429_which_makes_its_sdk_wait_for_half_a_minute() -> None:
    assert [fault.slug for fault in Fault if fault.value.v1.status == 429] == []


def test_managed_answers_for_the_upstream_stay_in_the_documented_set() -> None:
    statuses = {row.managed.status for row in rows() if row.blame is Blame.UPSTREAM}
    assert statuses <= {408, 424}


@pytest.mark.parametrize(
    ("fault", "v1", "managed"),
    [
        pytest.param(
            Fault.NO_CREDENTIALS,
            Answer(401, "Unauthorized, no Authorization header"),
            Answer(401, "key_auth_bad_header_forbidden"),
            id="no credentials",
        ),
        pytest.param(
            Fault.BAD_CREDENTIALS,
            Answer(401, "Unauthorized, the key or token is not valid"),
            Answer(401, "key_auth_access_denied"),
            id="wrong credentials",
        ),
        pytest.param(
            Fault.NO_BACKEND,
            Answer(503, "No ready replicas for service {service}"),
            Answer(424, "", 503, "model_not_ready"),
            id="no replica",
        ),
        pytest.param(
            Fault.OVERLOADED,
            Answer(503, "Too many requests for service {service} (overloaded)"),
            Answer(429, ""),
            id="overload",
        ),
        pytest.param(
            Fault.UPSTREAM_CLOSED,
            Answer(502, "Replica closed connection before replying"),
            Answer(424, "Replica closed connection before replying", 502, "model_error"),
            id="replica closed",
        ),
        # The contract's text names the container's address between `Post` and `/score`.
        pytest.param(
            Fault.DEADLINE,
            Answer(
                504,
                "Post /score: net/http: request canceled "
                "(Client.Timeout exceeded while awaiting headers)",
            ),
            Answer(408, "upstream request timeout"),
            id="timeout",
        ),
        pytest.param(
            Fault.NO_DEPLOYMENT,
            Answer(404, NO_VALID_DEPLOYMENTS),
            Answer(404, NO_VALID_DEPLOYMENTS),
            id="no deployment",
        ),
    ],
)
def test_the_words_are_those_of_the_contract(fault: Fault, v1: Answer, managed: Answer) -> None:
    assert (fault.value.v1, fault.value.managed) == (v1, managed)


def test_the_text_for_no_deployment_is_complete() -> None:
    assert NO_VALID_DEPLOYMENTS == (
        "No valid deployments to route to. Please check that the endpoint has at least one "
        "deployment with positive weight values or use a deployment specific header to route."
    )


@pytest.mark.parametrize(
    ("fault", "status", "blame"),
    [
        (Fault.BAD_REQUEST, 400, Blame.CLIENT),
        (Fault.URI_TOO_LONG, 414, Blame.CLIENT),
        (Fault.HEAD_TOO_LARGE, 431, Blame.CLIENT),
        (Fault.REQUEST_TIMEOUT, 408, Blame.CLIENT),
        (Fault.VERSION, 505, Blame.CLIENT),
        (Fault.EXPECTATION, 417, Blame.CLIENT),
        (Fault.METHOD, 405, Blame.CLIENT),
        (Fault.BODY_TOO_LARGE, 413, Blame.CLIENT),
        (Fault.NO_ROUTE, 404, Blame.CLIENT),
        (Fault.CONNECTIONS, 503, Blame.GATEWAY),
        (Fault.DRAINING, 503, Blame.GATEWAY),
        (Fault.INTERNAL, 500, Blame.GATEWAY),
    ],
    ids=lambda value: value.name.lower() if isinstance(value, Fault) else "",
)
def test_what_http_itself_defines_is_the_same_in_both_dialects(
    fault: Fault, status: int, blame: Blame
) -> None:
    row: Row = fault.value
    assert (row.v1.status, row.managed.status, fault.blame) == (status, status, blame)


def test_a_refusal_carries_the_fault_its_detail_and_header_lines() -> None:
    refusal = Refusal(Fault.METHOD, "why", b"Allow: GET\r\n")
    assert (refusal.fault, refusal.detail, refusal.headers) == (
        Fault.METHOD,
        "why",
        b"Allow: GET\r\n",
    )
    bare = Refusal(Fault.INTERNAL)
    assert (bare.detail, bare.headers) == ("", b"")


def test_every_fault_is_in_the_documents() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "operation.md").read_text()
    assert [fault.slug for fault in Fault if f"`{fault.slug}`" not in text] == []

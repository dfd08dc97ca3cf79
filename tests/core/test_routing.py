"""A request reaches the endpoint that it names by path or host, and no other (contract 1.1)."""

from __future__ import annotations

import pytest

from gateway.core.faults import Fault, Refusal
from gateway.core.heads import HeadLimits, RequestHead, parse_request_head
from gateway.core.routing import Router, host_name


def head(target: str, host: str = "gateway.test") -> RequestHead:
    return parse_request_head(
        f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(), HeadLimits()
    )


TWO = Router(
    {"diabetes": "D", "churn": "C"},
    {"churn": ["churn.example.com", "CHURN.internal"], "diabetes": []},
)
ONE = Router({"diabetes": "D"}, {"diabetes": ["diabetes.example.com"]})


@pytest.mark.parametrize(
    ("target", "host", "route"),
    [
        pytest.param(
            "/api/v1/service/diabetes/score",
            "gateway.test",
            ("D", b"/score", b"/api/v1/service/diabetes"),
            id="v1 score",
        ),
        pytest.param(
            "/api/v1/service/churn/v2/models/m/infer?x=1",
            "gateway.test",
            ("C", b"/v2/models/m/infer?x=1", b"/api/v1/service/churn"),
            id="v1, any path below",
        ),
        pytest.param(
            "/api/v1/service/churn/",
            "gateway.test",
            ("C", b"/", b"/api/v1/service/churn"),
            id="v1 health",
        ),
        pytest.param(
            "/api/v1/service/churn",
            "gateway.test",
            ("C", b"/", b"/api/v1/service/churn"),
            id="v1 without a slash",
        ),
        pytest.param(
            "/api/v1/service/churn?a",
            "gateway.test",
            ("C", b"/?a", b"/api/v1/service/churn"),
            id="v1 without a slash, query",
        ),
        pytest.param(
            "/%61pi/v1//service/churn/score",
            "gateway.test",
            ("C", b"/score", b"/api/v1/service/churn"),
            id="v1 in its normal form",
        ),
        pytest.param(
            "/api/v1/service/diabetes/score",
            "churn.example.com",
            ("D", b"/score", b"/api/v1/service/diabetes"),
            id="the path wins over the host",
        ),
        pytest.param("/score", "churn.example.com", ("C", b"/score", b""), id="v2 by host"),
        pytest.param("/score?a=b", "CHURN.Example.com:443", ("C", b"/score?a=b", b""), id="case"),
        pytest.param("/score", "churn.internal.", ("C", b"/score", b""), id="trailing dot"),
        pytest.param(
            "/api/v1/services", "churn.internal", ("C", b"/api/v1/services", b""), id="v2"
        ),
    ],
)
def test_requests_are_routed_by_path_or_host(
    target: str, host: str, route: tuple[str, bytes, bytes]
) -> None:
    assert TWO.route(head(target, host)) == route


@pytest.mark.parametrize(
    ("target", "host"),
    [
        ("/score", "gateway.test"),
        ("/score", "example.com"),
        ("/score", "evilchurn.example.com"),
        ("/score", "churn.example.com.evil.test"),
        ("/api/v1/service/other/score", "gateway.test"),
        ("/api/v1/service/other/score", "churn.example.com"),
        ("/api/v1/service/Churn/score", "gateway.test"),
        ("/api/v1/service/chur/n", "gateway.test"),
        ("/api/v1/service/churnx/score", "gateway.test"),
        ("/api/v1/service/", "gateway.test"),
        ("/api/v1/service/%20churn/score", "gateway.test"),
        ("/API/v1/service/churn/score", "gateway.test"),
    ],
)
def test_what_names_no_endpoint_goes_nowhere(target: str, host: str) -> None:
    with pytest.raises(Refusal) as caught:
        TWO.route(head(target, host))
    assert caught.value.fault is Fault.NO_ROUTE


@pytest.mark.parametrize("host", ["gateway.test", "127.0.0.1:8080", "[::1]"])
def test_the_only_endpoint_is_reached_by_any_path_on_any_host(host: str) -> None:
    assert ONE.route(head("/score?a", host)) == ("D", b"/score?a", b"")
    assert ONE.route(head("/api/v1/service/diabetes/x", host)) == (
        "D",
        b"/x",
        b"/api/v1/service/diabetes",
    )


def test_even_the_only_endpoint_is_not_reached_under_another_name() -> None:
    with pytest.raises(Refusal) as caught:
        ONE.route(head("/api/v1/service/other/score"))
    assert caught.value.fault is Fault.NO_ROUTE


def test_a_request_without_a_host_is_routed_by_path_alone() -> None:
    old = parse_request_head(b"GET /api/v1/service/churn/ HTTP/1.0\r\n\r\n", HeadLimits())
    assert TWO.route(old) == ("C", b"/", b"/api/v1/service/churn")
    with pytest.raises(Refusal) as caught:
        TWO.route(parse_request_head(b"GET /score HTTP/1.0\r\n\r\n", HeadLimits()))
    assert caught.value.fault is Fault.NO_ROUTE


@pytest.mark.parametrize(
    ("host", "name"),
    [
        (b"a.test", b"a.test"),
        (b"A.Test:80", b"a.test"),
        (b"a.test.", b"a.test"),
        (b"a.test.:80", b"a.test"),
        (b"[::1]", b"[::1]"),
        (b"[2001:DB8::1]:443", b"[2001:db8::1]"),
        (b"", b""),
    ],
    ids=repr,
)
def test_a_host_name_has_neither_port_nor_case(host: bytes, name: bytes) -> None:
    assert host_name(host) == name

"""Pages of allowed origins may read answers, all others may not (Fetch standard, threat T41)."""

from __future__ import annotations

import pytest

from gateway.core.cors import VARY, Cors, CorsRules, check_origin, check_rules, is_preflight

APP = "https://app.example.com"
VARY_PREFLIGHT = (
    b"Vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers, "
    b"Access-Control-Request-Private-Network"
)


def rules(*origins: str, credentials: bool = False) -> Cors:
    return Cors(CorsRules(origins, expose=("x-ms-request-id",), credentials=credentials))


def lines(block: bytes) -> list[bytes]:
    assert block.endswith(b"\r\n")
    return block.split(b"\r\n")[:-1]


@pytest.mark.parametrize(
    ("configured", "origin", "allowed"),
    [
        pytest.param(APP, b"https://app.example.com", True, id="itself"),
        pytest.param(APP, b"http://app.example.com", False, id="other scheme"),
        pytest.param(APP, b"https://app.example.com:8443", False, id="other port"),
        pytest.param(APP, b"https://app.example.com:443", False, id="own port said aloud"),
        pytest.param(APP, b"https://APP.example.com", False, id="upper case"),
        pytest.param(APP, b"https://app.example.com/", False, id="with a path"),
        pytest.param(APP, b"https://app.example.com.evil.com", False, id="evil suffix"),
        pytest.param(APP, b"https://evil-app.example.com", False, id="evil prefix"),
        pytest.param(APP, b"https://xapp.example.com", False, id="evil prefix without a dash"),
        pytest.param(APP, b"https://example.com", False, id="parent"),
        pytest.param(APP, b"https://app.example.com https://evil.com", False, id="list"),
        pytest.param(APP, b"https://appxexample.com", False, id="dot taken for any character"),
        pytest.param(APP, b"null", False, id="null"),
        pytest.param(APP, b"", False, id="empty"),
        pytest.param("https://*.example.com", b"https://a.example.com", True, id="sub-domain"),
        pytest.param("https://*.example.com", b"https://a.b.example.com", True, id="two levels"),
        pytest.param("https://*.example.com", b"https://example.com", False, id="pattern's parent"),
        pytest.param("https://*.example.com", b"https://.example.com", False, id="empty label"),
        pytest.param("https://*.example.com", b"https://evilexample.com", False, id="no dot"),
        pytest.param("https://*.example.com", b"https://evil-example.com", False, id="dash"),
        pytest.param(
            "https://*.example.com", b"https://a.example.com.evil.com", False, id="pattern's suffix"
        ),
        pytest.param(
            "https://*.example.com", b"https://evil.com/.example.com", False, id="path as a label"
        ),
        pytest.param(
            "https://*.example.com", b"https://evil.com#.example.com", False, id="fragment"
        ),
        pytest.param(
            "https://*.example.com", b"https://u@a.example.com", False, id="user information"
        ),
        pytest.param(
            "https://*.example.com", b"https://a.example.com\n", False, id="pattern and line feed"
        ),
        pytest.param("https://*.example.com", b"https://a.exampleXcom", False, id="pattern's dot"),
        pytest.param("https://*.example.com", b"http://a.example.com", False, id="pattern, scheme"),
        pytest.param(
            "https://*.example.com:8443", b"https://a.example.com:8443", True, id="pattern and port"
        ),
        pytest.param(
            "https://*.example.com:8443", b"https://a.example.com", False, id="pattern, other port"
        ),
        pytest.param("http://localhost:3000", b"http://localhost:3000", True, id="localhost"),
        pytest.param("http://[::1]:3000", b"http://[::1]:3000", True, id="IPv6"),
    ],
)
def test_an_origin_is_allowed_when_it_is_configured(
    configured: str, origin: bytes, allowed: bool
) -> None:
    cors = rules("http://first.test", configured)
    told = b"Access-Control-Allow-Origin: " + origin
    assert lines(cors.headers(origin)) == (
        [told, b"Access-Control-Expose-Headers: x-ms-request-id", b"Vary: Origin"]
        if allowed
        else [b"Vary: Origin"]
    )
    preflight = lines(cors.preflight(origin, b"POST", b"", False))
    assert (told in preflight) is allowed
    assert VARY_PREFLIGHT in preflight


@pytest.mark.parametrize("origin", [b"https://anyone.test", b"null"])
def test_the_wildcard_is_answered_as_such(origin: bytes) -> None:
    # A literal `*` and never the caller's origin, so that no credentials can go with it.
    assert lines(rules("*", APP).headers(origin))[0] == b"Access-Control-Allow-Origin: *"
    assert lines(rules(APP, "*").headers(APP.encode()))[0] == b"Access-Control-Allow-Origin: *"


@pytest.mark.parametrize("origins", [(APP,), ("*",), ()])
def test_an_answer_to_no_page_still_varies(origins: tuple[str, ...]) -> None:
    assert rules(*origins).headers(None) == VARY == b"Vary: Origin\r\n"


def test_credentials_are_allowed_only_where_configured_and_only_to_the_named() -> None:
    line = b"Access-Control-Allow-Credentials: true"
    cors = rules(APP, "https://*.example.org", credentials=True)
    for origin in (APP.encode(), b"https://a.example.org"):
        assert line in lines(cors.headers(origin))
        assert line in lines(cors.preflight(origin, b"POST", b"", False))
    assert line not in lines(cors.headers(b"https://evil.test"))
    assert line not in lines(rules(APP).headers(APP.encode()))


def test_without_exposed_headers_the_line_is_left_out() -> None:
    cors = Cors(CorsRules((APP,), expose=()))
    assert lines(cors.headers(APP.encode())) == [
        b"Access-Control-Allow-Origin: https://app.example.com",
        b"Vary: Origin",
    ]


def test_the_identifiers_of_the_contract_are_exposed_by_default() -> None:
    [line] = [
        line
        for line in lines(Cors(CorsRules((APP,))).headers(APP.encode()))
        if line.startswith(b"Access-Control-Expose-Headers: ")
    ]
    assert {b"x-ms-request-id", b"x-ms-run-function-failed", b"azureml-model-deployment"} <= set(
        line.removeprefix(b"Access-Control-Expose-Headers: ").split(b", ")
    )


def test_a_preflight_is_told_methods_headers_and_how_long() -> None:
    cors = Cors(CorsRules((APP,), methods=("POST",), headers=("authorization",), max_age=60))
    assert lines(cors.preflight(APP.encode(), b"POST", b"Authorization", False)) == [
        b"Access-Control-Allow-Origin: https://app.example.com",
        b"Access-Control-Allow-Methods: POST",
        b"Access-Control-Allow-Headers: authorization",
        b"Access-Control-Max-Age: 60",
        VARY_PREFLIGHT,
    ]


@pytest.mark.parametrize(
    ("origin", "method"),
    [
        pytest.param(b"https://evil.test", b"POST", id="origin"),
        pytest.param(None, b"POST", id="no origin"),
        pytest.param(APP.encode(), b"DELETE", id="method"),
        pytest.param(APP.encode(), b"post", id="method in lower case"),
        pytest.param(APP.encode(), b"", id="no method"),
    ],
)
def test_a_refused_preflight_is_told_nothing(origin: bytes | None, method: bytes) -> None:
    assert lines(rules(APP).preflight(origin, method, b"x", True)) == [VARY_PREFLIGHT]


@pytest.mark.parametrize(("configured", "asked"), [(a, b) for a in (0, 1) for b in (0, 1)])
def test_a_private_network_is_opened_only_if_asked_for_and_configured(
    configured: bool, asked: bool
) -> None:
    cors = Cors(CorsRules((APP,), private_network=bool(configured)))
    told = lines(cors.preflight(APP.encode(), b"POST", b"", bool(asked)))
    assert (b"Access-Control-Allow-Private-Network: true" in told) == bool(configured and asked)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (b"authorization, X-Mine", b"Access-Control-Allow-Headers: authorization, x-mine"),
        (b"", None),
    ],
)
def test_any_header_means_those_that_were_asked_for(asked: bytes, told: bytes | None) -> None:
    # A literal `*` would not cover Authorization (Fetch standard, CORS-preflight fetch step 7).
    cors = Cors(CorsRules((APP,), headers=("*",)))
    found = [
        line
        for line in lines(cors.preflight(APP.encode(), b"POST", asked, False))
        if line.startswith(b"Access-Control-Allow-Headers")
    ]
    assert found == ([told] if told else [])


@pytest.mark.parametrize("asked", [b"x-mine, \xff\xfe", b"x-mine, <b>", b"x-mine, a b"], ids=repr)
def test_what_is_no_header_name_is_not_sent_back(asked: bytes) -> None:
    # Threat T5: what we build from a request is made of what we know it to be.
    told = lines(
        Cors(CorsRules((APP,), headers=("*",))).preflight(APP.encode(), b"POST", asked, False)
    )
    assert b"Access-Control-Allow-Headers: x-mine" in told


NOT_AN_ORIGIN = "is not an origin"


@pytest.mark.parametrize(
    ("origin", "mistake"),
    [
        ("*", None),
        ("https://app.example.com", None),
        ("http://localhost:3000", None),
        ("http://[::1]:3000", None),
        ("https://*.example.com", None),
        ("chrome-extension://abcdef", None),
        ("null", "'null' is the origin of any sandboxed frame"),
        ("https://app.example.com/", NOT_AN_ORIGIN),
        ("https://app.example.com/path", NOT_AN_ORIGIN),
        ("https://App.example.com", NOT_AN_ORIGIN),
        ("HTTPS://app.example.com", NOT_AN_ORIGIN),
        ("app.example.com", NOT_AN_ORIGIN),
        ("//app.example.com", NOT_AN_ORIGIN),
        ("https://*", NOT_AN_ORIGIN),
        ("https://*example.com", NOT_AN_ORIGIN),
        ("https://a.*.example.com", NOT_AN_ORIGIN),
        ("https://*.*.example.com", NOT_AN_ORIGIN),
        ("*.example.com", NOT_AN_ORIGIN),
        ("https://user@example.com", NOT_AN_ORIGIN),
        ("https://a.example.com,https://b.example.com", NOT_AN_ORIGIN),
        ("https://a.example.com\n", NOT_AN_ORIGIN),
        ("", NOT_AN_ORIGIN),
        ("https://example.com:443", "would never match: browsers leave out port 443"),
        ("http://*.example.com:80", "would never match: browsers leave out port 80"),
        ("http://example.com:443", None),
    ],
    ids=repr,
)
def test_a_mistake_in_an_origin_is_named(origin: str, mistake: str | None) -> None:
    found = check_origin(origin)
    assert (mistake is None) == (found is None)
    assert mistake is None or mistake in (found or "")


def test_every_mistake_is_reported_at_once() -> None:
    mistakes = check_rules(CorsRules(("null", "*", "x"), credentials=True))
    assert [mistake.split()[0] for mistake in mistakes] == ["'null'", "'x'", "origin"]
    assert mistakes[-1] == "origin * cannot be combined with credentials: name the origins"


def test_rules_with_mistakes_make_no_cors() -> None:
    with pytest.raises(ValueError, match=r"^'null' is .*; origin \* cannot be combined"):
        Cors(CorsRules(("null", "*"), credentials=True))


@pytest.mark.parametrize(
    ("method", "origin", "asked", "preflight"),
    [
        (b"OPTIONS", b"https://a.test", b"POST", True),
        (b"OPTIONS", b"null", b"", True),
        (b"OPTIONS", b"https://a.test", None, False),
        (b"OPTIONS", None, b"POST", False),
        (b"POST", b"https://a.test", b"POST", False),
    ],
)
def test_a_preflight_is_options_with_an_origin_and_a_method(
    method: bytes, origin: bytes | None, asked: bytes | None, preflight: bool
) -> None:
    assert is_preflight(method, origin, asked) is preflight

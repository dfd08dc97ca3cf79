"""Backends are plain HTTP addresses from the configuration, and nowhere dangerous (threat T39)."""

from __future__ import annotations

import re

import pytest

from gateway.core.backends import Backend, parse_backend, reaches


@pytest.mark.parametrize(
    ("url", "backend", "host_line"),
    [
        ("http://10.0.0.5:5001", Backend("10.0.0.5", 5001), b"Host: 10.0.0.5:5001\r\n"),
        ("http://model", Backend("model", 80), b"Host: model:80\r\n"),
        ("http://model/", Backend("model", 80), b"Host: model:80\r\n"),
        ("http://model_1.net:65535", Backend("model_1.net", 65535), b"Host: model_1.net:65535\r\n"),
        ("http://[::1]:5001", Backend("::1", 5001), b"Host: [::1]:5001\r\n"),
        ("http://a:1/some/where/", Backend("a", 1, b"/some/where"), b"Host: a:1\r\n"),
        ("http://a:1/x%20y", Backend("a", 1, b"/x%20y"), b"Host: a:1\r\n"),
        ("http://a:1/x;v=1", Backend("a", 1, b"/x;v=1"), b"Host: a:1\r\n"),
        ("https://a", Backend("a", 443, secure=True), b"Host: a:443\r\n"),
        ("https://a:80/x", Backend("a", 80, b"/x", True), b"Host: a:80\r\n"),
    ],
)
def test_a_url_becomes_host_port_and_prefix(url: str, backend: Backend, host_line: bytes) -> None:
    assert parse_backend(url) == backend
    assert backend.host_line == host_line
    assert backend.name == host_line[6:-2].decode()
    assert parse_backend(backend.url) == backend


NOT_A_URL = "is not a URL such as http://10.0.0.5:5001"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", NOT_A_URL),
        ("model:5001", NOT_A_URL),
        ("http://", NOT_A_URL),
        ("http:///score", NOT_A_URL),
        ("http://a:", NOT_A_URL),
        ("http://a:123456", NOT_A_URL),
        ("http://a b", NOT_A_URL),
        ("http://a/b c", NOT_A_URL),
        ("http://a/b?c", NOT_A_URL),
        ("http://a/b#c", NOT_A_URL),
        ("http://a\n", NOT_A_URL),
        ("http://a/\r\nX: y", NOT_A_URL),
        ("http://münchen.de", NOT_A_URL),
        ("http://fe80::1", NOT_A_URL),
        ("ftp://a", "backends are reached by http:// or https://, not ftp://"),
        ("file://a/etc/passwd", "backends are reached by http:// or https://, not file://"),
        ("http://a:0", "the port must lie between 1 and 65535"),
        ("http://a:65536", "the port must lie between 1 and 65535"),
        ("http://[1:2]", "not an IPv6 address"),
        ("http://[::1::]", "not an IPv6 address"),
        ("http://169.254.169.254", "link-local addresses are not accepted as backends"),
        ("http://169.254.0.1:80/x", "link-local addresses are not accepted as backends"),
        ("http://[fe80::1]:80", "link-local addresses are not accepted as backends"),
        ("http://0.0.0.0:5001", "not the address of one machine"),
        ("http://[::]:5001", "not the address of one machine"),
        ("http://224.0.0.1", "not the address of one machine"),
        ("http://[ff02::1]", "not the address of one machine"),
    ],
    ids=repr,
)
def test_a_mistake_is_named_with_what_was_found(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message) + "$") as caught:
        parse_backend(url)
    assert repr(url) in str(caught.value)


NORMAL = "write the path in its normal form, "


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/a/../b%2f", "an escaped slash or backslash in the path"),
        ("/a%2fb", "an escaped slash or backslash in the path"),
        ("/a%5Cb", "an escaped slash or backslash in the path"),
        ("/a/../b", "a dot segment in the path"),
        ("/.", "a dot segment in the path"),
        ("/a/%2e%2E/b", "a dot segment in the path"),
        ("/..;x=1/b", "a dot segment in the path"),
        ("/a%252fb", "an escaped escape in the path"),
        ("/a%0d%0aX:y", "an escaped control character in the path"),
        ("/a%", "a percent sign without two hexadecimal digits in the path"),
        ("//", NORMAL + "/"),
        ("/a//b", NORMAL + "/a/b"),
        ("/a/b//", NORMAL + "/a/b/"),
        ("/%61", NORMAL + "/a"),
        ("/x%c3%a9", NORMAL + "/x%C3%A9"),
    ],
)
def test_t11_a_prefix_is_its_own_normal_form(path: str, message: str) -> None:
    url = f"http://h:1{path}"
    with pytest.raises(ValueError, match="path") as caught:
        parse_backend(url)
    assert str(caught.value) == f"{url!r}: {message}"


@pytest.mark.parametrize(
    ("url", "host", "own"),
    [
        ("http://127.0.0.1:80", "127.0.0.1", True),
        ("http://127.0.0.1:80/prefix", "127.0.0.1", True),
        ("http://localhost", "127.0.0.1", True),
        ("http://127.1", "LOCALHOST", True),
        ("http://Gateway.internal", "gateway.INTERNAL", True),
        ("http://[::1]", "::1", True),
        ("http://[0:0::1]", "::1", True),
        ("http://[::ffff:127.0.0.1]", "127.0.0.1", True),
        ("http://127.0.0.1", "0.0.0.0", True),
        ("http://127.0.0.9", "::", True),
        ("http://localhost", "0.0.0.0", True),
        ("http://[::1]", "::", True),
        ("http://127.0.0.1:81", "127.0.0.1", False),
        ("http://127.0.0.2", "127.0.0.1", False),
        ("http://10.0.0.1", "0.0.0.0", False),
        ("http://[2001:db8::1]", "::", False),
        ("http://[::1]", "0.0.0.0", False),
        ("http://[::1]", "127.0.0.1", False),
        ("http://model", "0.0.0.0", False),
        ("http://model", "gateway", False),
    ],
)
def test_the_gateways_own_listener_is_recognised(url: str, host: str, own: bool) -> None:
    assert reaches(parse_backend(url), host, 80) is own


def test_a_port_that_is_yet_to_be_chosen_is_nobodys() -> None:
    assert not reaches(parse_backend("http://127.0.0.1"), "127.0.0.1", 0)


SECRET = "hunter2"


def test_credentials_are_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match=r"^a backend URL must not carry a user name or password$"):
        parse_backend(f"http://user:{SECRET}@model:5001")


@pytest.mark.parametrize(
    "url",
    [f"https://user:{SECRET}@model", f"http://user:{SECRET}@model?x", f"http://u:{SECRET}@"],
)
def test_no_message_repeats_a_password(url: str) -> None:
    # Threat T44: messages about the configuration end in logs.
    with pytest.raises(ValueError, match=r"backend|URL") as caught:
        parse_backend(url)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("[::ffff:169.254.169.254]", id="mapped into IPv6"),
        pytest.param("2852039166", id="one number"),
        pytest.param("0xa9.0xfe.0xa9.0xfe", id="hexadecimal"),
        pytest.param("169.254.43518", id="three parts"),
        pytest.param("0", id="zero"),
        pytest.param("[::ffff:0.0.0.0]", id="mapped unspecified"),
        pytest.param("[::169.254.169.254]", id="compatible"),
        pytest.param("[64:ff9b::a9fe:a9fe]", id="through NAT64"),
        pytest.param("0251.0376.0251.0376", id="octal"),
        pytest.param("0XA9FEA9FE", id="one hexadecimal number"),
        pytest.param("169.16689662", id="two parts"),
        pytest.param("0xe0.1", id="multicast"),
    ],
)
def test_a_forbidden_address_is_refused_however_it_is_written(host: str) -> None:
    # getaddrinfo(3) understands every one of these.
    with pytest.raises(ValueError, match=r"link-local|not the address"):
        parse_backend(f"http://{host}:80")


@pytest.mark.parametrize(
    "host",
    [
        *("127.1", "2130706433", "0x7f.0.0.1", "1.2.3.4", "[::1]", "[::ffff:10.0.0.1]"),
        # Names, whatever they look like.
        *("0xg", "08", "0x", "1.2.3.4.5", "4294967296", "256.1", "1.65536.1", "1_0", "1.", "a.1"),
        "9" * 63,
    ],
)
def test_other_addresses_and_names_are_taken_as_they_are_written(host: str) -> None:
    assert parse_backend(f"http://{host}:80").host == host.strip("[]")


@pytest.mark.parametrize("host", ["a..b", ".a", "a..", "x" * 64, "a." * 127 + "a"])
def test_what_no_name_server_knows_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="not a host name"):
        parse_backend(f"http://{host}:80")


@pytest.mark.parametrize("prefix", ["/\0", "/\x7f", "/é"], ids=repr)
def test_a_prefix_is_what_a_request_line_may_hold(prefix: str) -> None:
    with pytest.raises(ValueError, match="is not a URL"):
        parse_backend(f"http://model{prefix}")

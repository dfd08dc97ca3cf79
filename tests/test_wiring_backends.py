"""A backend is a plain address of one machine, and not the gateway: each mistake on its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.checking import check, demo, good, refused
from tests.test_wiring import BACKEND, backends

OWN = "is the gateway itself: the address of"

BACKENDS: dict[str, tuple[str, list[str]]] = {
    "backend-without-scheme": (
        backends("10.0.0.5:5001"),
        [f"{BACKEND}[0]: '10.0.0.5:5001' is not a URL such as http://10.0.0.5:5001"],
    ),
    "backend-with-query": (
        backends("http://h/?a=b"),
        [f"{BACKEND}[0]: 'http://h/?a=b' is not a URL such as http://10.0.0.5:5001"],
    ),
    "backend-scheme": (
        backends("h2c://h:1", "ftp://h:1"),
        [f"{BACKEND}[0]: 'h2c://h:1' is not a URL such as http://10.0.0.5:5001",
         f"{BACKEND}[1]: 'ftp://h:1': backends are reached by http:// or https://, not ftp://"],
    ),
    "backend-with-user": (
        backends("http://me:pass@h:1"),
        [f"{BACKEND}[0]: a backend URL must not carry a user name or password"],
    ),
    "backend-port": (
        backends("http://h:0", "http://h:65536"),
        [f"{BACKEND}[0]: 'http://h:0': the port must lie between 1 and 65535",
         f"{BACKEND}[1]: 'http://h:65536': the port must lie between 1 and 65535"],
    ),
    "backend-link-local": (
        backends("http://169.254.169.254", "http://[fe80::1]:80"),
        [(f"{BACKEND}[0]: 'http://169.254.169.254': link-local addresses are not accepted as "
         "backends"),
         f"{BACKEND}[1]: 'http://[fe80::1]:80': link-local addresses are not accepted as backends"],
    ),
    "backend-nowhere": (
        backends("http://0.0.0.0:1", "http://224.0.0.1:1", "http://[::]:1"),
        [f"{BACKEND}[0]: 'http://0.0.0.0:1': not the address of one machine",
         f"{BACKEND}[1]: 'http://224.0.0.1:1': not the address of one machine",
         f"{BACKEND}[2]: 'http://[::]:1': not the address of one machine"],
    ),
    "backend-bad-ipv6": (
        backends("http://[1:2:3]:80"), [f"{BACKEND}[0]: 'http://[1:2:3]:80': not an IPv6 address"]
    ),
    "backend-path": (
        backends("http://127.0.0.1:6001/a/../b%2f", "http://h:1/a%2fb", "http://h:1//a"),
        [(f"{BACKEND}[0]: 'http://127.0.0.1:6001/a/../b%2f': an escaped slash or backslash in the "
          "path"),
         f"{BACKEND}[1]: 'http://h:1/a%2fb': an escaped slash or backslash in the path",
         f"{BACKEND}[2]: 'http://h:1//a': write the path in its normal form, /a"],
    ),
    "backend-is-the-gateway": (
        backends("http://127.0.0.1:8080/x", "http://localhost:8080", "http://127.0.0.1:9090"),
        [f"{BACKEND}[0]: 'http://127.0.0.1:8080/x' {OWN} listen",
         f"{BACKEND}[1]: 'http://localhost:8080' {OWN} listen",
         f"{BACKEND}[2]: 'http://127.0.0.1:9090' {OWN} admin"],
    ),
    "backend-beside-a-wrong-address": (
        demo(top="listen: nowhere",
             deployments="{blue: {backends: ['http://127.0.0.1:8080', 'http://127.0.0.1:9090']}}"),
        [("1: listen.address: found 'nowhere', expected an address such as 127.0.0.1:8080 or "
          "[::1]:8080"),
         f"{BACKEND}[1]: 'http://127.0.0.1:9090' {OWN} admin"],
    ),
    "backend-twice": (
        backends("http://h:80", "http://i", "http://h/"),
        [f"{BACKEND}[2]: 'http://h/' is there twice"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "report"), BACKENDS.values(), ids=BACKENDS)
def test_t39_a_backend_is_a_plain_address_of_one_machine(
    tmp_path: Path, text: str, report: list[str]
) -> None:
    assert check(tmp_path, text) == refused(*report)


def test_a_gateway_that_chooses_its_port_is_no_backend(tmp_path: Path) -> None:
    text = demo(top="listen: 127.0.0.1:0", end="admin: 127.0.0.1:0")
    assert check(tmp_path, text) == good()


def test_the_gateway_is_recognised_on_every_address(tmp_path: Path) -> None:
    text = demo(top="listen: 0.0.0.0:5001")
    assert check(tmp_path, text) == refused(f"{BACKEND}[0]: 'http://127.0.0.1:5001' {OWN} listen")


# Places and connections.

MAX = "5: endpoints.demo.deployments.blue.connections.max"


@pytest.mark.parametrize(
    ("rest", "report"),
    [
        ("concurrency: 256", []),
        ("concurrency: 300, connections: {max: 300}", []),
        ("concurrency: 300", [f"{MAX}: must be at least concurrency, which is 300"]),
        (
            "concurrency: 3, connections: {max: 2}",
            [f"{MAX}: must be at least concurrency, which is 3"],
        ),
        (
            "concurrency: 300, connections: {max: 0}",
            [f"{MAX}: found 0, expected at least 1"],
        ),
        (
            "concurrency: 0, connections: {max: 1}",
            ["5: endpoints.demo.deployments.blue.concurrency: found 0, expected at least 1"],
        ),
    ],
)
def test_each_place_can_have_its_connection(tmp_path: Path, rest: str, report: list[str]) -> None:
    text = demo(deployments=f"{{blue: {{backends: [http://h], {rest}}}}}")
    assert check(tmp_path, text) == (refused(*report) if report else good())

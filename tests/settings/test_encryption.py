"""The sections about TLS have one form each, and say what they miss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.settings.encryption import CertificateFiles, ListenTls
from tests.support.checking import check, demo, refused

SHORT = {"certificate": "a.pem", "key": "a.key"}


def test_the_short_form_is_a_list_of_one() -> None:
    assert ListenTls.model_validate(SHORT).files == [((), CertificateFiles(**SHORT))]
    several = ListenTls.model_validate({"certificates": [SHORT, SHORT]})
    assert [keys for keys, _ in several.files] == [("certificates", 0), ("certificates", 1)]


@pytest.mark.parametrize(("written", "read"), [(1.2, "1.2"), ("1.3", "1.3")])
def test_a_version_may_look_like_a_number(written: Any, read: str) -> None:
    section = ListenTls.model_validate(SHORT | {"max_version": 1.3, "min_version": written})
    assert (section.min_version, section.max_version) == (read, "1.3")


OLD = "expected 1.2 or 1.3: what came before is broken (RFC 8996)"
LISTEN = {
    "nothing": ("{}", "say certificate and key, or certificates with some of each"),
    "half": ("{key: a.key}", "say certificate and key, or certificates with some of each"),
    "both": (
        "{certificate: a, key: b, certificates: [{certificate: a, key: b}]}",
        "say certificate and key, or certificates, not both",
    ),
    "upside-down": (
        "{certificate: a, key: b, min_version: 1.3}",
        "min_version 1.3 is above max_version 1.2",
    ),
    "required-of-whom": (
        "{certificate: a, key: b, client_certificate: required}",
        "client_certificate: required needs a client_ca",
    ),
}


@pytest.mark.parametrize(("section", "why"), LISTEN.values(), ids=LISTEN)
def test_towards_clients(tmp_path: Path, section: str, why: str) -> None:
    text = demo(top=f"listen: {{address: 127.0.0.1:8443, tls: {section}}}")
    assert check(tmp_path, text) == refused(f"1: listen.tls: {why}")


@pytest.mark.parametrize(
    ("version", "why"),
    [("1.1", f"found 1.1, {OLD}"), ("TLSv1", f"found 'TLSv1', {OLD}"),
     ("2", "found 2, expected 1.2 or 1.3"), ("[1.2]", "found a list, expected 1.2 or 1.3")],
)  # fmt: skip
def test_versions(tmp_path: Path, version: str, why: str) -> None:
    tls = f"{{certificate: a, key: b, min_version: {version}}}"
    text = demo(top=f"listen: {{address: 127.0.0.1:8443, tls: {tls}}}")
    report = check(tmp_path, text).report
    assert report[0] == f"gateway.yaml:1: listen.tls.min_version: {why}"


@pytest.mark.parametrize(
    ("section", "why"),
    [
        ("{key: b}", "certificate and key go together"),
        ("{verify: false, ca: a.pem}", "verify: false makes no use of a ca"),
    ],
)
def test_towards_containers(tmp_path: Path, section: str, why: str) -> None:
    text = demo(deployments=f"{{blue: {{backends: ['https://h:1'], tls: {section}}}}}")
    assert check(tmp_path, text) == refused(f"5: endpoints.demo.deployments.blue.tls: {why}")

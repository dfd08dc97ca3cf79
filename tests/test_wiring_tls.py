"""Certificates that clients or containers would refuse are refused by ``check``, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.engine.pools import Pool
from gateway.settings.loading import Source, parse_source, validate
from gateway.settings.mistakes import Mistake
from gateway.wired import Wired
from gateway.wiring import Tools, wire
from gateway.wiring_tls import Expiry
from tests.support.certificates import (
    DAY,
    HOST,
    NOW,
    Issued,
    authority,
    client,
    ec_key,
    issue,
    rsa_key,
)
from tests.support.checking import SECRETS, Verdict, check, demo, good, refused

ROOT = authority()
BETWEEN = authority("Between", by=ROOT)
GOOD = issue(HOST, by=BETWEEN)
LISTEN = "listen: {address: 127.0.0.1:8443, tls: {certificate: c.pem, key: c.key%s}}"
SECURE = "{blue: {backends: ['https://h:1']%s}}"
AT = "1: listen.tls"


def put(folder: Path, issued: Issued, name: str = "c") -> None:
    issued.write(folder, name)


BAD: dict[str, tuple[Issued, list[str]]] = {
    "expired": (
        issue(HOST, start=NOW - 3 * DAY, end=NOW - 2 * DAY),
        [f"certificate: c.pem expired on {NOW - 2 * DAY:%Y-%m-%d %H:%M} UTC"],
    ),
    "not-yet": (
        issue(HOST, start=NOW + 2 * DAY, end=NOW + 3 * DAY),
        [f"certificate: c.pem is not valid before {NOW + 2 * DAY:%Y-%m-%d %H:%M} UTC"],
    ),
    "other-key": (
        Issued(GOOD.certificate, ec_key(), GOOD.above),
        ["key: c.key is not the key of the certificate"],
    ),
    "weak": (
        issue(HOST, key=rsa_key(1024)),
        ["certificate: c.pem has an RSA key of 1024 bits: at least 2048 are needed"],
    ),
    "order": (
        Issued(GOOD.certificate, GOOD.key, (ROOT.certificate, BETWEEN.certificate)),
        [
            (
                "certificate: c.pem is out of order: certificate 2 is not the issuer of "
                "certificate 1; say the server's own first, then the one that signed it, and so on"
            )
        ],
    ),
    "nameless": (
        issue(common_name=HOST),
        [
            (
                "certificate: c.pem names no host: it needs a subject alternative name, clients do "
                "not look at the common name"
            )
        ],
    ),
    "for-clients": (
        client("c.test", by=ROOT),
        ["certificate: c.pem is not for servers: its extended key usage lacks serverAuth"],
    ),
    "all-at-once": (
        Issued(issue(common_name=HOST, end=NOW - DAY, start=NOW - 2 * DAY).certificate, ec_key()),
        [
            (
                "certificate: c.pem names no host: it needs a subject alternative name, clients do "
                "not look at the common name"
            ),
            f"certificate: c.pem expired on {NOW - DAY:%Y-%m-%d %H:%M} UTC",
            "key: c.key is not the key of the certificate",
        ],
    ),
}


@pytest.mark.parametrize(("issued", "report"), BAD.values(), ids=BAD)
def test_a_certificate_that_clients_would_refuse(
    tmp_path: Path, issued: Issued, report: list[str]
) -> None:
    put(tmp_path, issued)
    assert check(tmp_path, demo(top=LISTEN % "")) == refused(*(f"{AT}.{line}" for line in report))


def test_good_ones(tmp_path: Path) -> None:
    put(tmp_path, GOOD)
    put(tmp_path, issue("other.test", by=ROOT, key=rsa_key()), "d")
    put(tmp_path, ROOT, "ca")
    assert check(tmp_path, demo(top=LISTEN % ", client_ca: ca.pem")) == good()
    several = (
        "listen: {address: 127.0.0.1:8443, plain: 127.0.0.1:8080, tls: {certificates: "
        "[{certificate: c.pem, key: c.key}, {certificate: d.pem, key: d.key}]}}"
    )
    assert check(tmp_path, demo(top=several)) == good()


def test_files_that_are_not_what_they_should_be(tmp_path: Path) -> None:
    text = demo(top=LISTEN % ", client_ca: ca.pem")
    assert check(tmp_path, text) == refused(
        *(
            f"{AT}.{key}: cannot read {tmp_path / name}: No such file or directory"
            for key, name in (("certificate", "c.pem"), ("key", "c.key"), ("client_ca", "ca.pem"))
        )
    )
    (tmp_path / "c.pem").write_bytes(GOOD.key_pem)
    (tmp_path / "c.key").write_bytes(GOOD.encrypted_key_pem)
    (tmp_path / "ca.pem").write_bytes(b"# no certificate yet\n")
    assert check(tmp_path, text) == refused(
        f"{AT}.certificate: c.pem has no certificate in PEM",
        f"{AT}.key: c.key is encrypted: the gateway asks for no pass phrase, decrypt the key",
        f"{AT}.client_ca: ca.pem has no certificate in PEM",
    )
    (tmp_path / "c.key").write_bytes(GOOD.pem)
    assert (
        f"gateway.yaml:{AT}.key: c.key is not a private key in PEM" in check(tmp_path, text).report
    )


def test_empty_files_are_no_choice_of_plain_http(tmp_path: Path) -> None:
    """As they are for a moment when somebody writes them anew."""
    put(tmp_path, GOOD)
    (tmp_path / "ca.pem").write_bytes(b"")
    reports = {
        "c.pem": f"{AT}.certificate: c.pem has no certificate in PEM",
        "c.key": f"{AT}.key: c.key is not a private key in PEM",
    }
    for name, report in reports.items():
        put(tmp_path, GOOD)
        (tmp_path / name).write_bytes(b"")
        assert check(tmp_path, demo(top=LISTEN % "")) == refused(report)
    put(tmp_path, GOOD)
    assert check(tmp_path, demo(top=LISTEN % ", client_ca: ca.pem")) == refused(
        f"{AT}.client_ca: ca.pem has no certificate in PEM"
    )


def test_each_of_several_is_judged(tmp_path: Path) -> None:
    put(tmp_path, GOOD)
    put(tmp_path, issue("d.test", key=rsa_key(1024)), "d")
    text = demo(
        top="listen: {address: 127.0.0.1:8443, tls: {certificates: "
        "[{certificate: c.pem, key: c.key}, {certificate: d.pem, key: c.key}]}}"
    )
    assert check(tmp_path, text) == refused(
        f"{AT}.certificates[1].certificate: d.pem has an RSA key of 1024 bits: at least 2048 are "
        "needed",
        f"{AT}.certificates[1].key: c.key is not the key of the certificate",
    )


def test_names_of_clients(tmp_path: Path) -> None:
    put(tmp_path, GOOD)
    put(tmp_path, ROOT, "ca")
    text = demo(
        top=LISTEN % ", client_ca: ca.pem",
        auth="{certificates: [scoring, 'cn:', 'ip:10.0.0.1', 'dns:A.test', 'dns:a.test']}",
    )
    form = (
        "is not a name in a certificate, such as cn:scoring-client, dns:client.example.com, "
        "uri:spiffe://example.com/client or email:me@example.com"
    )
    at = "4: endpoints.demo.auth.certificates"
    assert check(tmp_path, text) == refused(
        f"{at}[0]: 'scoring' {form}",
        f"{at}[1]: 'cn:' {form}",
        f"{at}[2]: 'ip:10.0.0.1' {form}",
        f"{at}[4]: 'dns:a.test' is there twice",
    )
    nobody = demo(top=LISTEN % "", auth="{certificates: ['cn:a']}")
    assert check(tmp_path, nobody) == refused(
        f"{at}: nobody is asked for a certificate: say listen.tls.client_ca"
    )


@pytest.mark.parametrize(
    ("listen", "why"),
    [
        ("{address: 127.0.0.1:80, plain: 127.0.0.1:81}", ("listen.plain: is for plain HTTP beside "
         "TLS, and there is no listen.tls")),
        ("{address: 127.0.0.1:80, plain: 127.0.0.1:80, tls: {certificate: c.pem, key: c.key}}",
         "listen.plain: is the address for TLS already: use another port"),
    ],
)  # fmt: skip
def test_plain_http_is_beside_something(tmp_path: Path, listen: str, why: str) -> None:
    put(tmp_path, GOOD)
    assert check(tmp_path, demo(top=f"listen: {listen}")) == refused(f"1: {why}")


def test_plain_http_is_not_at_the_admin_port(tmp_path: Path) -> None:
    put(tmp_path, GOOD)
    listen = LISTEN.replace("tls:", "plain: 127.0.0.1:81, tls:") % ""
    text = demo(top=f"{listen}\nadmin: 127.0.0.1:81")
    assert check(tmp_path, text) == refused(
        "2: admin.address: is taken by listen already: the two need different ports"
    )


# Towards containers.


def test_containers(tmp_path: Path) -> None:
    put(tmp_path, client("c.test", by=ROOT))
    put(tmp_path, ROOT, "ca")
    assert check(tmp_path, demo(deployments=SECURE % "")) == good()
    more = ", tls: {ca: ca.pem, certificate: c.pem, key: c.key, server_name: model}"
    assert check(tmp_path, demo(deployments=SECURE % more)) == good()
    at = "5: endpoints.demo.deployments.blue.tls"
    (tmp_path / "c.key").write_bytes(GOOD.key_pem)
    assert check(tmp_path, demo(deployments=SECURE % more)) == refused(
        f"{at}.key: c.key is not the key of the certificate"
    )
    plain = "{blue: {backends: ['http://h:1'], tls: {ca: ca.pem}}}"
    assert check(tmp_path, demo(deployments=plain)) == refused(
        f"{at}: none of the backends is an https:// URL"
    )
    missing = SECURE % ", tls: {ca: none.pem}"
    assert check(tmp_path, demo(deployments=missing)) == refused(
        f"{at}.ca: cannot read {tmp_path / 'none.pem'}: No such file or directory"
    )


def test_who_does_not_verify_is_warned(tmp_path: Path) -> None:
    text = demo(deployments=SECURE % ", tls: {verify: false}")
    found = check(tmp_path, text)
    assert found == Verdict(
        0,
        good().output,
        [
            (
                "gateway.yaml:5: endpoints.demo.deployments.blue.tls.verify: warning: backends are "
                "not verified, so anybody on the way can read and change requests"
            )
        ],
    )


# What comes of it.


class Nobody:
    def record(self, exchange: object) -> None:
        raise AssertionError("nothing happens here")


async def never(_: object) -> Any:
    raise AssertionError("nothing is connected here")


def build(
    folder: Path, text: str, previous: Wired | None = None, **more: Any
) -> tuple[Wired, list[Mistake]]:
    settings, mistakes = validate(source := parse_source(text, Source("gateway.yaml", folder)))
    assert settings is not None
    assert mistakes == []
    tools = Tools(
        dial=never,
        fetch=never,
        recorder=Nobody(),
        clock=lambda: 0.0,
        wall=NOW.timestamp,
        draw=lambda: 0.5,
        ids=iter(()),
        environment=SECRETS,
        **more,
    )
    return wire(settings, source, tools, previous)


def test_when_certificates_expire(tmp_path: Path) -> None:
    put(tmp_path, issue(HOST, by=ROOT, end=NOW + 5 * DAY))
    put(tmp_path, client("c.test", by=ROOT, common_name="The gateway"), "g")
    tls = ", tls: {certificate: g.pem, key: g.key}"
    wired, mistakes = build(tmp_path, demo(top=LISTEN % "", deployments=SECURE % tls))
    assert mistakes == []
    assert wired.expiries == [
        Expiry("listen", "c.pem", (NOW + 5 * DAY).timestamp()),
        Expiry("backend", "g.pem", (NOW + 30 * DAY).timestamp()),
    ]
    assert wired.tls is not None
    (pool,) = wired.endpoints["demo"].deployments[0].pools
    assert pool.encryption is not None
    assert pool.encryption.server_name == "h"


def test_what_has_expired_since_it_was_judged_is_served(tmp_path: Path) -> None:
    put(tmp_path, issue(HOST, start=NOW - 3 * DAY, end=NOW - 2 * DAY))
    assert len(build(tmp_path, demo(top=LISTEN % ""))[1]) == 1
    wired, mistakes = build(tmp_path, demo(top=LISTEN % ""), judges_dates=False)
    assert mistakes == []
    assert wired.tls is not None


def test_without_tls_there_is_none(tmp_path: Path) -> None:
    wired, _ = build(tmp_path, demo())
    assert (wired.tls, wired.expiries, wired.warnings) == (None, [], [])
    assert wired.endpoints["demo"].deployments[0].pools[0].encryption is None


def test_what_is_the_same_is_read_once(tmp_path: Path) -> None:
    put(tmp_path, ROOT, "ca")
    text = demo(
        deployments="{blue: {backends: ['https://h:1', 'https://i:1'], tls: {ca: ca.pem}}, "
        "green: {backends: ['https://h:2', 'http://h:3'], tls: {ca: ca.pem, server_name: m}}, "
        "red: {backends: ['https://h:4']}}"
    )
    wired, mistakes = build(tmp_path, text)
    assert mistakes == []
    blue, green, red = wired.endpoints["demo"].deployments
    (one, two), (three, plain), (four,) = (
        [pool.encryption for pool in deployment.pools] for deployment in (blue, green, red)
    )
    assert plain is None
    assert one
    assert two
    assert three
    assert four
    assert one.context is two.context is three.context is not four.context
    assert (one.server_name, two.server_name, three.server_name) == ("h", "i", "m")


def test_names_open_their_endpoint(tmp_path: Path) -> None:
    put(tmp_path, GOOD)
    put(tmp_path, ROOT, "ca")
    text = demo(top=LISTEN % ", client_ca: ca.pem", auth="{certificates: ['cn:A', 'dns:B.test']}")
    wired, mistakes = build(tmp_path, text)
    assert mistakes == []
    gate = wired.endpoints["demo"].gate
    assert gate.certificates == ("cn:A", "dns:b.test")
    assert not gate.is_open


def test_what_has_not_changed_is_used_again(tmp_path: Path) -> None:
    """Clients resume their sessions, and connections to containers stay."""
    put(tmp_path, GOOD)
    put(tmp_path, ROOT, "ca")
    text = demo(top=LISTEN % "", deployments=SECURE % ", tls: {ca: ca.pem}")
    first, _ = build(tmp_path, text)
    again, _ = build(tmp_path, text, first)
    assert again.tls is first.tls is not None
    assert pools(again) == pools(first)
    put(tmp_path, issue(HOST, by=ROOT))
    renewed, _ = build(tmp_path, text, again)
    assert renewed.tls is not first.tls
    assert pools(renewed) == pools(first)


def test_who_is_trusted_otherwise_is_called_anew(tmp_path: Path) -> None:
    """No connection outlives the trust that it was opened with."""
    put(tmp_path, ROOT, "ca")
    text = demo(deployments=SECURE % ", tls: {ca: ca.pem}")
    first, _ = build(tmp_path, text)
    put(tmp_path, authority("Another"), "ca")
    other, _ = build(tmp_path, text, first)
    named, _ = build(tmp_path, text.replace("ca.pem", "ca.pem, server_name: m"), other)
    assert not set(pools(first)) & set(pools(other))
    assert not set(pools(other)) & set(pools(named))


def pools(wired: Wired) -> list[Pool]:
    return list(wired.made["demo", "blue"].pools.values())


def test_a_file_that_was_moved_is_the_same(tmp_path: Path) -> None:
    """Where the file has changed and not what it says, nothing is made anew."""
    put(tmp_path, ROOT, "ca")
    put(tmp_path, ROOT, "moved")
    first, _ = build(tmp_path, demo(deployments=SECURE % ", tls: {ca: ca.pem}"))
    moved, _ = build(tmp_path, demo(deployments=SECURE % ", tls: {ca: moved.pem}"), first)
    (one,), (other,) = pools(first), pools(moved)
    assert one.encryption == other.encryption

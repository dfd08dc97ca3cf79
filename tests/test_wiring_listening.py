"""What a listener is told by the settings, at the start and by a reload."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from gateway.app import load
from gateway.core.heads import HeadLimits
from gateway.edge.phases import Patience
from gateway.settings.schema import AccessLog
from gateway.wiring_listening import adjust, make_listener, open_writer
from tests.support.certificates import issue
from tests.support.checking import FILE, SECRETS, demo
from tests.support.wirings import wired_from

EVERYTHING = """\
listen:
  address: 127.0.0.1:8080
  limits: {connections: 7, request_line: 1KiB, headers: 2KiB, header_count: 9,
    requests_per_connection: 11}
  timeouts: {headers: 1s, body: 2s, idle: 3s, write: 4s, linger: 5s, body_rate: 6B,
    handshake: 7s}
"""


def test_every_setting_arrives_at_the_start_and_by_a_reload(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(demo())
    plain = load(tmp_path / FILE, SECRETS)
    (tmp_path / FILE).write_text(demo(top=EVERYTHING))
    full = load(tmp_path / FILE, SECRETS)
    first, second = wired_from(*plain), wired_from(*full)
    made = make_listener("listen", full[0], second)
    adjusted = make_listener("listen", plain[0], first)
    assert adjusted.limits == HeadLimits(8192, 32768, 100)
    adjust(adjusted, "listen", full[0], second)
    for listener in (made, adjusted):
        assert listener.plane is second.plane
        assert listener.limits == HeadLimits(1024, 2048, 9)
        assert listener.patience == Patience(
            head=1.0, body=2.0, idle=3.0, write=4.0, linger=5.0, body_rate=6, handshake=7.0
        )
        assert listener.requests_per_connection == 11
        assert listener.tally.limit == 7


def test_who_has_asked_for_tls_never_gets_plain_http(tmp_path: Path) -> None:
    issue("gateway.test").write(tmp_path, "c")
    tls = "listen: {address: 127.0.0.1:8443, tls: {certificate: c.pem, key: c.key}}"
    (tmp_path / FILE).write_text(demo(top=tls))
    settings, source = load(tmp_path / FILE, SECRETS)
    wired = wired_from(settings, source)
    listener = make_listener("listen", settings, wired)
    assert listener.tls is wired.tls is not None
    assert make_listener("plain", settings, wired).tls is None
    wired.tls = None
    with pytest.raises(RuntimeError, match="nothing to encrypt with"):
        make_listener("listen", settings, wired)
    with pytest.raises(RuntimeError, match="nothing to encrypt with"):
        adjust(listener, "listen", settings, wired)


def test_the_access_log_is_open_when_it_is_promised(tmp_path: Path) -> None:
    assert open_writer(AccessLog(enabled=False), tmp_path) is None
    writer = open_writer(AccessLog(path="access.log"), tmp_path)
    assert writer is not None
    writer.put(b"line\n", 1)
    writer.stop(5.0)
    assert (tmp_path / "access.log").read_text() == "line\n"


def test_an_access_log_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        OSError, match="cannot write the access log no/file: No such file"
    ) as caught:
        open_writer(AccessLog(path="no/file"), tmp_path)
    assert caught.value.errno != errno.ENOENT  # the sentence is all that is shown

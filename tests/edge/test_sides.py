"""What the two sides of TLS do differently; what they share is in test_tls.py."""

from __future__ import annotations

import ssl

import pytest

from tests.support.certificates import HOST, Issued, authority, client
from tests.support.tls import ASKING, ROOT, FarEnd, Stage, Upstream, asking, serving

# Towards clients.


def test_a_client_that_does_not_trust_us_says_so() -> None:
    with Stage(asks=asking(authority("Another"))) as stage:
        with pytest.raises(ssl.SSLCertVerificationError):
            stage.far.shakes_hands()
        stage.far.exchange()
        assert stage.results == ["failed", "gone"]


def test_a_session_is_resumed() -> None:
    with Stage().open() as first:
        session = first.far.tls.session
    with Stage() as second:
        second.far = FarEnd(second.loop, second.transport, ASKING, session=session)
        second.open()
        assert second.results == ["resumed"]


def test_certificates_of_clients() -> None:
    asks_back = serving(client_ca=ROOT.pem)
    known = client("client.test", by=ROOT, common_name="A client")
    with Stage(asks_back, asking(certificate=known)).open() as stage:
        names = stage.inner.transport.get_extra_info("certificate_names")
        assert names == {"cn:A client", "dns:client.test"}
        assert stage.inner.transport.get_extra_info("peername")[0] == "192.0.2.7"
    with Stage(asks_back).open() as stage:
        assert stage.inner.transport.get_extra_info("certificate_names") == frozenset()
    stranger = client("client.test", by=authority("Another"))
    with Stage(asks_back, asking(certificate=stranger)) as stage:
        stage.is_refused()
        assert stage.results[0] == "failed"


def test_a_resumed_client_is_still_known() -> None:
    asks_back = serving(client_ca=ROOT.pem)
    known = asking(certificate=client("client.test", by=ROOT))
    with Stage(asks_back, known).open() as first:
        session = first.far.tls.session
    with Stage(asks_back, known) as second:
        second.far = FarEnd(second.loop, second.transport, known, session=session)
        second.open()
        assert second.results == ["resumed"]
        names = second.inner.transport.get_extra_info("certificate_names")
        assert names == {"cn:client", "dns:client.test"}


# Towards containers.


def test_the_gateway_as_client() -> None:
    with Upstream().open() as stage:
        stage.inner.transport.write(b"question")
        assert stage.far.heard() == b"question"
        stage.far.says(b"answer")
        assert stage.inner.told == [b"answer"]


def test_an_answer_that_was_cut_short_does_not_look_whole() -> None:
    with Upstream().open() as stage:
        stage.far.says(b"a part")
        stage.loop.perform(lambda: stage.transport.deliver(None))
        assert stage.inner.told == [b"a part", "lost"]
        assert stage.transport.aborted
    with Upstream().open() as stage:
        stage.far.says(b"all")
        stage.far.says_goodbye()
        assert stage.inner.told == [b"all", "eof", "lost"]


@pytest.mark.parametrize(
    ("by", "name", "why"),
    [
        (authority("Another"), HOST, "unable to get local issuer certificate"),
        (ROOT, "other.test", "Hostname mismatch"),
        (ROOT, "10.0.0.1", "IP address mismatch"),
    ],
)
def test_a_container_that_is_not_what_it_says(by: Issued, name: str, why: str) -> None:
    with Upstream(asking(by), name) as stage:
        stage.far.exchange()
        stage.is_refused()
        assert stage.client.ready.exception() is not None
        assert why in str(stage.client.ready.exception())
        assert not stage.client.is_established


def test_a_container_that_leaves_during_the_handshake() -> None:
    with Upstream() as stage:
        stage.loop.perform(lambda: stage.transport.deliver(None))
        assert isinstance(stage.client.ready.exception(), ConnectionResetError)

"""What is believed after requests were scored merged and alone, and what is not."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.confidence import DEPENDENT, NOBODY_GUILTY, NOT_SPLITTABLE
from gateway.core.proofs import Proof


class Seen(NamedTuple):
    """Somebody's answer alone, and its part of the merged one."""

    inner: bytes
    alone: bytes
    part: bytes | None
    rows: int = 1


GOOD = Seen(b"[1]", b"[10]", b"[10]")
OTHER = Seen(b"[2]", b"[20]", b"[20]")
WRONG = Seen(b"[2]", b"[20]", b"[15]")
NEAR = Seen(b"[2]", b"[20.0]", b"[20.000000001]")
UNCUT = Seen(b"[1]", b"[10]", None)
UNCUT_OTHER = Seen(b"[2]", b"[20]", None)
ODD = Seen(b"[1]", b'"10"', None)
ODD_OTHER = Seen(b"[2]", b'{"a": 1}', None)
#: Its part can be compared, but its own answer has no such shape.
MISFIT = Seen(b"[2]", b"[20, 21]", b"[20]")
TWO_ROWS = Seen(b"[1], [2]", b"[10, 20]", b"[10, 20]", 2)


@pytest.mark.parametrize(
    ("was_split", "seen", "failures", "objection", "sufficient", "only"),
    [
        (True, [], 0, None, False, None),
        (True, [GOOD], 0, None, False, b"[1]"),
        (True, [GOOD, OTHER], 0, None, True, None),
        (True, [GOOD, GOOD, GOOD], 0, None, True, b"[1]"),
        (True, [GOOD, TWO_ROWS], 0, None, True, None),
        (True, [GOOD, NEAR], 0, None, True, None),
        (True, [GOOD, WRONG], 0, DEPENDENT, True, None),
        (True, [WRONG], 0, DEPENDENT, False, b"[2]"),
        (True, [GOOD, MISFIT], 0, DEPENDENT, False, None),
        # Somebody's answer alone was an error: of the others nothing is said against it.
        (True, [GOOD, OTHER], 1, None, False, None),
        (True, [GOOD, WRONG], 1, DEPENDENT, False, None),
        # The merged call failed, and none alone does; or it did for somebody.
        (False, [UNCUT], 0, None, False, None),
        (False, [UNCUT, UNCUT_OTHER], 0, NOBODY_GUILTY, False, None),
        (False, [UNCUT, UNCUT_OTHER], 1, None, False, None),
        (False, [UNCUT], 1, None, False, None),
        # Nobody's answer can be cut; or only somebody's, who may be the one to blame.
        (False, [ODD], 0, None, False, None),
        (False, [ODD, ODD_OTHER], 0, NOT_SPLITTABLE, False, None),
        (False, [UNCUT, UNCUT_OTHER, ODD], 0, None, False, None),
        (False, [UNCUT, ODD, ODD_OTHER], 0, None, False, None),
        (False, [], 3, None, False, None),
    ],
)
def test_what_is_concluded(
    was_split: bool,
    seen: list[Seen],
    failures: int,
    objection: str | None,
    sufficient: bool,
    only: bytes | None,
) -> None:
    proof = Proof(1e-6, was_split)
    for each in seen:
        proof.add(each.inner, each.rows, each.alone, each.part)
    for _ in range(failures):
        proof.fail()
    assert proof.objection == objection
    assert proof.is_sufficient == sufficient
    assert proof.only == only


def test_the_first_difference_is_kept() -> None:
    proof = Proof(0.0, was_split=True)
    proof.add(b"[1]", 1, b"[10]", b"[11]")
    proof.add(b"[2]", 1, b"[20]", b"[21]")
    assert proof.difference is not None
    assert (proof.difference.alone, proof.difference.merged) == ("10", "11")
    assert repr(proof).startswith("<Proof, 2 compared, Difference(")


def test_without_a_tolerance_the_bytes_must_be_equal() -> None:
    proof = Proof(0.0, was_split=True)
    proof.add(b"[1]", 1, b"[10.0]", b"[10.00]")
    assert proof.objection == DEPENDENT


SEEN = st.sampled_from([GOOD, OTHER, WRONG, NEAR, MISFIT, TWO_ROWS])


@given(st.lists(SEEN, max_size=6), st.booleans())
def test_the_order_makes_no_difference(seen: list[Seen], fails: bool) -> None:
    orders = [seen, seen[::-1]]
    proofs = []
    for order in orders:
        proof = Proof(1e-6, was_split=True)
        if fails:
            proof.fail()
        for each in order:
            proof.add(each.inner, each.rows, each.alone, each.part)
        proofs.append((proof.objection, proof.is_sufficient, proof.only))
    assert proofs[0] == proofs[1]


@given(st.lists(SEEN, max_size=6))
def test_a_difference_is_never_outvoted(seen: list[Seen]) -> None:
    proof = Proof(1e-6, was_split=True)
    for each in seen:
        proof.add(each.inner, each.rows, each.alone, each.part)
    assert (proof.objection is not None) == any(each in (WRONG, MISFIT) for each in seen)

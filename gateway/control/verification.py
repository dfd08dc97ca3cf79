"""Whether merging requests changes the answers of a model: found out by scoring sample requests
alone and merged in many ways, at the container itself."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from gateway.control.calling import PATH, Answer, Caller, NoAnswer
from gateway.control.groupings import Caps, groupings
from gateway.control.samples import MOST, BadSample, Sample, read_samples
from gateway.core.backends import Backend
from gateway.core.comparing import compare
from gateway.core.rows import Rows, merge
from gateway.core.splitting import split_answer
from gateway.core.verdicts import SHARE, SHRINK, SPLIT, judge
from gateway.engine.pools import Encryption

Say = Callable[[str], None]

_NEAR_ZERO = 1e-3
# Of an answer that is shown, so many characters.
_SHOWN = 200


class Outcome(Enum):
    """``UNCLEAR``: nothing can be said, because of the container or of the sample."""

    SAFE = "safe"
    UNSAFE = "unsafe"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class VerificationPlan:
    """What the configuration says of the deployment.

    ``max_rows`` and ``max_bytes`` are those of one call, ``largest`` are the bytes of a request
    that may be merged; ``timeout`` is in seconds, for one call. ``encryptions`` are for
    the backends that are ``secure``.
    """

    deployment: str
    mode: str
    backends: Sequence[Backend]
    field: tuple[str, ...]
    max_rows: int
    max_bytes: int
    largest: int
    tolerance: float
    timeout: float
    encryptions: Mapping[Backend, Encryption] | None = None


Score = Callable[[bytes], Awaitable[Answer]]


class _Ended(Exception):
    """It is known what to say."""

    def __init__(self, outcome: Outcome, why: str, *details: str) -> None:
        super().__init__(why)
        self.outcome = outcome
        self.why = why
        self.details = details


@dataclass(frozen=True, slots=True)
class Member:
    """A sample that can be merged, and what it is answered alone. ``headers`` are those that a
    second answer had again, times and identifiers left out."""

    name: str
    rows: Rows
    alone: Answer
    headers: dict[bytes, bytes]


def run_verification(plan: VerificationPlan, text: bytes, say: Say) -> bool:
    """Verify every backend of the plan, until one is not safe.

    :param text: of the file with the sample.
    :returns: whether all are safe.
    :raises BadSample: there is nothing in the file that could be merged.
    """
    samples = read_samples(text, plan.field, plan.max_rows, plan.largest)
    _check_company(samples)
    say(
        f"{plan.deployment}: rows in {'.'.join(plan.field)}, at most {plan.max_rows} rows and "
        f"{plan.max_bytes} bytes a call, tolerance {plan.tolerance:g}"
        + ("" if plan.mode == "on" else f" (batching is {plan.mode})")
    )
    mergeable = sum(sample.rows is not None for sample in samples)
    say(f"{_count(len(samples), 'request')}, {mergeable} can be merged")
    if len(samples) == MOST:
        say(f"  only the first {MOST} requests of the file are used")
    for sample in samples:
        if sample.why:
            say(f"  {sample.name} is never merged: {sample.why}")
    return asyncio.run(_verify_all(plan, samples, say))


async def _verify_all(plan: VerificationPlan, samples: Sequence[Sample], say: Say) -> bool:
    for backend in plan.backends:
        say(backend.url + PATH)
        async with Caller(backend, plan.timeout, (plan.encryptions or {}).get(backend)) as caller:
            if await verify(plan, samples, caller, say) is not Outcome.SAFE:
                return False
    return True


async def verify(
    plan: VerificationPlan, samples: Sequence[Sample], score: Score, say: Say
) -> Outcome:
    """Score samples alone and merged, and say what comes of it, the verdict last."""
    try:
        verdict = await _Verification(plan, score, say).run(samples)
    except _Ended as end:
        for line in end.details:
            say(f"    {line}")
        say(f"{end.outcome.value}: {end.why}")
        return end.outcome
    say(verdict)
    return Outcome.SAFE


class _Verification:
    """One container's."""

    def __init__(self, plan: VerificationPlan, score: Score, say: Say) -> None:
        self._plan = plan
        self._score = score
        self._say = say
        self._max_rows = plan.max_rows
        self._calls = 0
        self._answers = 0
        self._inexact = 0
        #: The largest relative difference, and where.
        self._gap = 0.0
        self._gap_at = ""

    async def run(self, samples: Sequence[Sample]) -> str:
        """
        :returns: the verdict, if merging is safe.
        :raises _Ended: it is not.
        """
        members = await self._score_alone([sample for sample in samples if sample.rows])
        kinds = _by_kind(members)
        alike = [kind for kind in kinds if not _tells_something(kind)]
        for kind in alike:
            names = _listed(member.name for member in kind)
            self._say(f"  {names}: no other rows of that kind, so nothing is known about them")
        if len(alike) == len(kinds):
            raise _Ended(Outcome.UNCLEAR, "no two different samples of a kind were answered")
        for number, kind in enumerate(kinds, 1):
            if kind in alike:
                continue
            if len(kinds) > 1:
                self._say(f"  kind {number}: {_listed(member.name for member in kind)}")
            await self._score_merged(kind)
        return self._verdict()

    def _verdict(self) -> str:
        sums = f"{_count(self._answers, 'answer')} of {_count(self._calls, 'merged call')}"
        if not self._inexact:
            return f"safe: {sums} are byte for byte those given alone"
        return (
            f"safe within the tolerance, not byte for byte: {self._inexact} of {sums} differ from "
            f"those given alone, at most by {self._gap:.2g} of a value ({self._gap_at})"
        )

    # Alone.

    async def _score_alone(self, samples: Sequence[Sample]) -> list[Member]:
        first = [await self._call(sample.body, sample.name) for sample in samples]
        second = [await self._call(sample.body, sample.name) for sample in samples]
        members = []
        unlike = whole = 0
        for sample, answer, again in zip(samples, first, second, strict=True):
            self._demand_the_same(sample, answer, again)
            unlike += answer.body != again.body
            rows = sample.rows
            if rows is None or answer.status != 200:
                self._say(f"  {sample.name} is left out: it is answered {answer.status} even alone")
            elif _split(answer, [rows.count]) is None:
                whole += 1
                self._say(
                    f"  {sample.name} is left out: its answer is not one that can be split, "
                    f"{_shown(answer.body)}"
                )
            else:
                again_there = set(again.telling.items())
                same = {k: v for k, v in answer.telling.items() if (k, v) in again_there}
                members.append(Member(sample.name, rows, answer, same))
        if whole and not members:
            raise _Ended(Outcome.UNSAFE, "answers cannot be split, so nothing is gained by merging")
        words = "not byte for byte the same, but within the tolerance" if unlike else "the same"
        self._row("alone, twice", 2 * len(samples), words)
        return members

    def _demand_the_same(self, sample: Sample, first: Answer, second: Answer) -> None:
        unlike = ""
        if first.status != second.status:
            unlike = f"status {first.status} and {second.status}"
        elif first.body != second.body:
            found = compare(first.body, second.body, self._plan.tolerance)
            unlike = "" if found is None else f"{found.where}: {found.alone} and {found.merged}"
        if unlike:
            raise _Ended(
                Outcome.UNCLEAR,
                "the model is not deterministic: it answers the same request differently, so "
                "nothing can be said about merging",
                f"{sample.name}, sent alone twice",
                f"first   {_shown(first.body)}",
                f"second  {_shown(second.body)}",
                f"differ  {unlike}",
            )

    # Merged.

    async def _score_merged(self, kind: Sequence[Member]) -> None:
        weights = [(member.rows.count, len(member.rows.inner) + 1) for member in kind]
        caps = Caps(self._plan.max_rows, self._plan.max_bytes)
        for name, groups in groupings(weights, caps):
            calls, inexact = self._calls, self._inexact
            for group in groups:
                members = [kind[at] for at in group]
                rows = sum(member.rows.count for member in members)
                # As many rows as a list beside them has elements are never sent together.
                if rows <= self._max_rows and rows not in kind[0].rows.frame.lengths:
                    await self._try_group(name, members)
            if calls == self._calls:
                self._row(name, 0, "would never be made")
            else:
                words = "the same" if inexact == self._inexact else "the same within the tolerance"
                self._row(name, self._calls - calls, words)

    async def _try_group(self, name: str, members: Sequence[Member]) -> None:
        counts = [member.rows.count for member in members]
        answer = await self._call(
            merge([member.rows for member in members]),
            f"{_count(sum(counts), 'row')} merged ({name})",
        )
        self._calls += 1
        pieces = _split(answer, counts)
        if pieces is None:
            self._judge_failure(name, members, answer)
            return
        for at, (member, piece) in enumerate(zip(members, pieces, strict=True)):
            self._answers += 1
            if piece != member.alone.body:
                self._compare(name, members, at, piece)
        self._compare_headers(name, members, answer.telling)

    def _judge_failure(self, name: str, members: Sequence[Member], answer: Answer) -> None:
        rows = sum(member.rows.count for member in members)
        verdict = judge(answer.status, answer.lines, answer.body)
        details = [
            f"{name}: {_listed(member.name for member in members)} ({_count(rows, 'row')})",
            f"alone   {_shown(members[0].alone.body)}",
            f"merged  status {answer.status}, {_shown(answer.body)}",
        ]
        if verdict is SHARE:
            why = f"the container answers {answer.status}, which says nothing of any row"
            raise _Ended(Outcome.UNCLEAR, why, *details)
        if verdict is SHRINK and rows > 2:
            self._max_rows = min(self._max_rows, rows - 1)
            self._say(f"  {rows} rows are too many at once: {_shown(answer.body)}")
            return
        if answer.status == 200:
            why = (
                f"the answer to {_count(rows, 'merged row')} cannot be split into those given alone"
            )
        else:
            why = "a merged call fails though none of its requests does"
        raise _Ended(Outcome.UNSAFE, why, *details)

    def _compare(self, name: str, members: Sequence[Member], at: int, piece: bytes) -> None:
        alone = members[at].alone.body
        found = compare(alone, piece, self._plan.tolerance)
        if found is not None:
            raise _Ended(
                Outcome.UNSAFE,
                "an answer depends on the rows that are merged with it",
                *_place(name, members, at),
                f"alone   {_shown(alone)}",
                f"merged  {_shown(piece)}",
                f"differ  {found.where}: {found.alone} and {found.merged}",
            )
        self._inexact += 1
        gap = largest_gap(json.loads(alone), json.loads(piece))
        if gap > self._gap or not self._gap_at:
            self._gap, self._gap_at = gap, f"{members[at].name}, {name}"

    def _compare_headers(
        self, name: str, members: Sequence[Member], merged: Mapping[bytes, bytes]
    ) -> None:
        """What is the same in all answers is the container's; what is not is about the rows."""
        everywhere = set.intersection(*(set(member.headers) for member in members))
        for header in sorted(everywhere):
            alone = [member.headers[header] for member in members]
            if len(set(alone)) > 1:
                at = next(at for at, value in enumerate(alone) if value != merged.get(header))
                raise _Ended(
                    Outcome.UNSAFE,
                    "a header of the answer depends on the rows",
                    *_place(name, members, at),
                    f"alone   {_shown(header + b': ' + alone[at])}",
                    f"merged  {_shown(header + b': ' + merged.get(header, b''))}",
                )

    async def _call(self, body: bytes, what: str) -> Answer:
        try:
            return await self._score(body)
        except NoAnswer as why:
            raise _Ended(
                Outcome.UNCLEAR, f"no answer from the container to {what}: {why}"
            ) from None

    def _row(self, name: str, calls: int, words: str) -> None:
        self._say(f"  {name:<20}{_count(calls, 'call'):>12}   {words}")


def largest_gap(one: Any, other: Any) -> float:
    """The largest difference of two numbers at the same place of two documents of the same form,
    relative to the larger of them (or to a thousandth, near zero: as ``compare`` judges)."""
    if isinstance(one, str) and isinstance(other, str):
        if one == other:
            return 0.0
        return largest_gap(json.loads(one), json.loads(other))  # JSON in a string
    if isinstance(one, dict):
        return max((largest_gap(one[name], other[name]) for name in one), default=0.0)
    if isinstance(one, list):
        return max((largest_gap(*pair) for pair in zip(one, other, strict=True)), default=0.0)
    if one == other or not (isinstance(one, int | float) and math.isfinite(one)):
        return 0.0
    return float(abs(one - other) / max(abs(one), abs(other), _NEAR_ZERO))


def _check_company(samples: Sequence[Sample]) -> None:
    """
    :raises BadSample: no two requests could be merged, so that there is nothing to verify.
    """
    kinds: dict[tuple[object, object], set[bytes]] = {}
    for sample in samples:
        if sample.rows is not None:
            key = sample.rows.frame, sample.rows.kind
            kinds.setdefault(key, set()).add(sample.rows.inner)
    if not any(len(different) > 1 for different in kinds.values()):
        reasons = [f"{sample.name}: {sample.why}" for sample in samples if sample.why]
        raise BadSample(
            "\n".join(["holds no two different requests that could be merged", *reasons[:5]])
        )


def _by_kind(members: Sequence[Member]) -> list[list[Member]]:
    """Those that the gateway would merge: what is around their rows is the same, and so is how the
    rows are read."""
    kinds: dict[tuple[object, object], list[Member]] = {}
    for member in members:
        kinds.setdefault((member.rows.frame, member.rows.kind), []).append(member)
    return list(kinds.values())


def _tells_something(kind: Sequence[Member]) -> bool:
    return len({member.rows.inner for member in kind}) > 1


def _split(answer: Answer, counts: Sequence[int]) -> list[bytes] | None:
    if judge(answer.status, answer.lines, answer.body) is not SPLIT:
        return None
    return split_answer(answer.body, counts)


def _place(name: str, members: Sequence[Member], at: int) -> list[str]:
    others = [member.name for number, member in enumerate(members) if number != at]
    return [f"{name}: {members[at].name}, place {at + 1}, merged with {_listed(others)}"]


def _listed(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - 8} more" if len(listed) > 8 else ""
    return ", ".join(listed[:8]) + more


def _shown(text: bytes) -> str:
    shown = text.decode("utf-8", "backslashreplace").strip()
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in shown)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}... ({len(text)} bytes)"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

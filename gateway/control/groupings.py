"""Ways to merge sample requests, so many and so different that a model whose answers depend on what
else is in a call has hardly a chance to hide it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# Places of members in a sample, in the order in which their rows are to be merged.
Group = tuple[int, ...]

# Rounds of groups that chance puts together. The seed is fixed: a verdict can be had again.
ROUNDS = 4
_SEED = 20200212
_RANDOM_SIZE = 12


@dataclass(frozen=True, slots=True)
class Caps:
    """What one call may have at most. Bytes are counted as the gateway counts them: those of the
    rows and one more for each member."""

    rows: int
    size: int


def groupings(
    members: Sequence[tuple[int, int]], caps: Caps
) -> Iterator[tuple[str, Sequence[Group]]]:
    """Names of groupings, and the groups of each: two or more members, within the caps. A member
    may occur more than once in a group.

    :param members: rows and bytes of each, two or more members.
    """
    for name, groups in _wanted(len(members), caps.rows):
        fitting = [part for group in groups for part in _fit(group, members, caps)]
        if fitting:
            yield name, fitting


def _wanted(count: int, max_rows: int) -> Iterator[tuple[str, list[Group]]]:
    everybody = tuple(range(count))
    pairs = [everybody[at : at + 2] for at in range(0, count, 2)]
    yield "pairs", [pair if len(pair) == 2 else (pair[0], 0) for pair in pairs]
    yield "pairs, swapped", [pair[::-1] if len(pair) == 2 else (0, pair[0]) for pair in pairs]
    yield "other neighbours", [(at, (at + 1) % count) for at in range(1, count, 2)]
    half = (count + 1) // 2
    yield "halves", [everybody[:half], everybody[half:]]
    yield "all", [everybody]
    yield "all, reversed", [everybody[::-1]]
    yield "each three times", [(at, at, at, (at + 1) % count) for at in everybody]
    chance = random.Random(_SEED)  # noqa: S311  no secret
    for number in range(1, ROUNDS + 1):
        yield f"random groups {number}", _random_groups(chance, everybody)
    size = 4
    while size < max_rows:
        yield f"groups of {size}", _filled(chance, everybody, size)
        size *= 4
    if max_rows > 2:
        yield f"groups of {max_rows}", _filled(chance, everybody, max_rows)


def _random_groups(chance: random.Random, everybody: Group) -> list[Group]:
    order = chance.sample(everybody, len(everybody))
    largest = max(2, min(_RANDOM_SIZE, len(everybody) // 2))
    groups = []
    while order:
        size = chance.randint(2, largest)
        groups.append(tuple(order[:size]))
        del order[:size]
    return groups


def _filled(chance: random.Random, everybody: Group, size: int) -> list[Group]:
    """Groups of one size that together hold everybody, in an order of chance; whoever is needed to
    fill them comes again."""
    order: list[int] = []
    while len(order) < max(size, len(everybody)):
        order += chance.sample(everybody, len(everybody))
    return [tuple(order[at : at + size]) for at in range(0, len(order) - size + 1, size)]


def _fit(group: Group, members: Sequence[tuple[int, int]], caps: Caps) -> Iterator[Group]:
    """The group in parts that are within the caps. Parts of one are left out: alone is alone."""
    part: list[int] = []
    rows = size = 0
    for at in group:
        own_rows, own_size = members[at]
        if part and (rows + own_rows > caps.rows or size + own_size > caps.size):
            if len(part) > 1:
                yield tuple(part)
            part, rows, size = [], 0, 0
        part.append(at)
        rows += own_rows
        size += own_size
    if len(part) > 1:
        yield tuple(part)

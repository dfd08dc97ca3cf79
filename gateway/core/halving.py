"""Who of those merged into a failed call is to blame: found by calling again for halves.

A group whose call failed is cut in two, and each half is called on its own, down to single members.
A single member's call is the one it would have made without batching, so its answer is its own
whatever it says. One guilty member among n costs at most ``2 * ceil(log2(n))`` calls: halves differ
by at most one member, so there are that many levels, and at each level only the two halves of the
one group with the guilty member in it are called.

It is often less. When the first half of a failed group turns out well, the guilty member must be in
the second, which is therefore halved without being called. Should that be wrong (the failure was of
the moment, or of the rows together), everybody still gets an answer of its own call; it may only
have been a smaller one.

With many guilty members halving is dearer than calling for each, so it has a budget. Past it,
whoever is left is called for alone.
"""

from __future__ import annotations

from collections.abc import Iterable

# Members of one batch, in the order of their coming.
Group = tuple[int, ...]


class Halving:
    """The plan for a batch whose merged call has failed.

    Each group that :meth:`take` hands out is called for, and reported by exactly one of
    :meth:`settle`, :meth:`halve` and :meth:`blame`. Several groups may be out at the same time.
    """

    __slots__ = ("_gone", "_pending", "_seconds", "budget", "calls", "guilty")

    def __init__(self, count: int) -> None:
        """
        :param count: members of the batch, at least one.
        """
        if count < 1:
            raise ValueError("a batch has members")
        #: Calls handed out so far.
        self.calls = 0
        #: Calls that halving may take. Two guilty members need ``4 * ceil(log2(n)) - 2`` at most:
        #: two at the first level, four at each other. Three need little more in nearly all cases.
        self.budget = 4 * (count - 1).bit_length() + 4
        #: Members whose own call failed, in the order of the reports.
        self.guilty: list[int] = []
        self._gone: set[int] = set()
        #: What is to be called, the next one last.
        self._pending: list[Group] = []
        #: First halves to their second halves.
        self._seconds: dict[Group, Group] = {}
        self._cut(tuple(range(count)))

    def __repr__(self) -> str:
        return f"<Halving, {self.calls} calls, guilty {self.guilty}, pending {self._pending}>"

    @property
    def exhausted(self) -> bool:
        """Whether the budget is spent, so that every group from now on is a single member."""
        return self.calls >= self.budget

    def take(self) -> Group | None:
        """The next group to call for, without those who have left; None while there is none.

        There is nothing left to do when this is None and no group is out.
        """
        pending = self._pending
        while pending:
            whole = pending.pop()
            if len(whole) > 1 and self.exhausted:
                pending.extend((member,) for member in reversed(whole))
                continue
            group = self._present(whole)
            if group:
                self.calls += 1
                return group
        return None

    def settle(self, group: Group) -> None:
        """Everybody in the group has a good answer."""
        second = self._seconds.get(group, ())
        if len(second) < 2 or self.exhausted or second not in self._pending:
            return
        # Whoever left may have been the guilty one: nothing can be concluded then.
        if self._gone.isdisjoint(group) and self._gone.isdisjoint(second):
            self._pending.remove(second)
            self._cut(second)

    def halve(self, group: Group) -> None:
        """The merged call for the group failed.

        :raises ValueError: a single member cannot be halved; see :meth:`blame`.
        """
        if len(group) < 2:
            raise ValueError("a single member has its own answer")
        present = self._present(group)
        if len(present) > 1:
            self._cut(present)
        elif present:
            self._pending.append(present)  # it has not been called for alone yet

    def blame(self, group: Group) -> None:
        """A single member's own call failed: that is its answer.

        :raises ValueError: there is more than one member.
        """
        if len(group) != 1:
            raise ValueError("only a single member can be to blame")
        self.guilty.extend(group)

    def discard(self, members: Iterable[int]) -> None:
        """These have left: they are in no group from now on."""
        self._gone.update(members)

    def _present(self, group: Group) -> Group:
        if not self._gone:
            return group
        return tuple(member for member in group if member not in self._gone)

    def _cut(self, group: Group) -> None:
        middle = (len(group) + 1) // 2
        first, second = group[:middle], group[middle:]
        if second:
            self._pending.append(second)
            self._seconds[first] = second
        self._pending.append(first)

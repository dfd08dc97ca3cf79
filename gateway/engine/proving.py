"""The first batch of a kind of requests: scored merged and alone, before others are merged."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.core.faults import Fault, Refusal
from gateway.core.proofs import Proof
from gateway.core.replies import Reply
from gateway.core.verdicts import SHARE, SHRINK
from gateway.engine.batches import Batch, Deserted, Member
from gateway.engine.walking import interrupt

# Seconds for a call whose answer nobody waits for.
_PATIENCE = 5.0


class ProvingBatch(Batch):
    """Everybody in it gets what it got alone."""

    __slots__ = ()

    async def run(self) -> None:
        """Send the group as one call, and each of it alone. Everybody gets what it got alone; if
        that is what it would have got from the merged call, its family is believed."""
        self._family.confidence.begin_proof()
        judged = False
        try:
            members = self._members
            reply = await self._send_merged(members)
            verdict = self._judge(reply)
            pieces = self._split(verdict, reply, members)
            proof = Proof(self._batcher.rules.tolerance, pieces is not None)
            heard: list[tuple[Member, Reply]] = []
            if verdict is SHRINK:
                self._batcher.limit.shrink(self._rows)
            for at, member in enumerate(members):
                if self._waits(member):
                    piece = None if pieces is None else pieces[at]
                    alone = await self._compare(proof, member, piece, b"".join(reply.lines))
                    if alone is not None:
                        heard.append((member, alone))
            if pieces is None and 1 < len(heard) < len(members) and not self._present:
                proof = await self._prove_without_the_guilty(heard)
            elif verdict in (SHRINK, SHARE) or (pieces is None and self._deserters):
                proof.fail()  # the guilty one may be among those who left
            judged = self._conclude(proof)
            self._send_back(members)
        except Exception as error:  # noqa: BLE001  whatever it is, everybody gets an answer
            if isinstance(error, Refusal) and error.fault is Fault.NO_BACKEND:
                self._family.confidence.postpone_proof()
                judged = True
            self._fail(error)
        finally:
            if not judged:
                self._batcher.give_up_proof(self._family)
            self._release()

    async def _compare(
        self, proof: Proof, member: Member, piece: bytes | None, lines: bytes
    ) -> Reply | None:
        """Send one request alone, answer it, and note how that compares with its piece. Its answer
        if it is of the kind that can be cut out of a merged one."""
        self._batcher.tally.extra_calls += 1
        try:
            alone = await self._send_alone(member)
        except Refusal as refusal:
            if refusal.fault is Fault.NO_BACKEND:
                raise
            proof.fail()
            self._tell([member], refusal)
            return None
        if alone.status == 200 and alone.body is not None:
            proof.add(member.freight.inner, member.rows, alone.body, piece)
            proof.add_fields(b"".join(alone.lines), lines)
        else:
            proof.fail()
        if alone.body is None:
            return None
        self._deliver(member, alone)
        return alone if self._is_proper(member, alone) else None

    async def _prove_without_the_guilty(self, heard: Sequence[tuple[Member, Reply]]) -> Proof:
        """Merge those who were answered well once more. Or one client with a bad row in every proof
        could see to it that there never is one."""
        batcher = self._batcher
        members = [member for member, _ in heard]
        proof = Proof(batcher.rules.tolerance, was_split=False)
        if sum(member.rows for member in members) in self._family.frame.lengths:
            proof.fail()  # see Batcher.board
            return proof
        batcher.tally.extra_calls += 1
        # Everybody has been answered: nobody would end a call that hangs.
        give_up = asyncio.get_running_loop().call_later(_PATIENCE, self._give_up)
        try:
            reply = await self._send_merged(members)
        finally:
            give_up.cancel()
        verdict = self._judge(reply)
        pieces = self._split(verdict, reply, members)
        proof = Proof(batcher.rules.tolerance, pieces is not None)
        if verdict in (SHRINK, SHARE):
            proof.fail()
        for at, (member, alone) in enumerate(heard):
            piece = None if pieces is None else pieces[at]
            proof.add(member.freight.inner, member.rows, alone.body or b"", piece)
            proof.add_fields(b"".join(alone.lines), b"".join(reply.lines))
        return proof

    def _give_up(self) -> None:
        if self.custody is not None:
            interrupt(self, Deserted())

    def _conclude(self, proof: Proof) -> bool:
        """Whether the proof has said anything."""
        batcher, family = self._batcher, self._family
        objection = proof.objection
        if objection is not None:
            batcher.tally.proofs["disproved"] += 1
            batcher.distrust(family, objection)
        elif proof.is_sufficient:
            family.confidence.proved(self.clock())
            family.only = proof.only
            batcher.tally.proofs["proved"] += 1
        return objection is not None or proof.is_sufficient

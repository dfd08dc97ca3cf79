"""The first batch of a kind of requests: scored merged and alone, before others are merged."""

from __future__ import annotations

from gateway.core.faults import Fault, Refusal
from gateway.core.proofs import Proof
from gateway.core.verdicts import SHARE, SHRINK
from gateway.engine.batches import Batch, Member


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
            if verdict is SHRINK:
                self._batcher.limit.shrink(self._rows)
            for at, member in enumerate(members):
                if self._waits(member):
                    piece = None if pieces is None else pieces[at]
                    await self._compare(proof, member, piece, b"".join(reply.lines))
            if verdict in (SHRINK, SHARE) or (pieces is None and self._deserters):
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
    ) -> None:
        """Send one request alone, answer it, and note how that compares with its piece."""
        self._batcher.tally.extra_calls += 1
        try:
            alone = await self._send_alone(member)
        except Refusal as refusal:
            if refusal.fault is Fault.NO_BACKEND:
                raise
            proof.fail()
            self._tell([member], refusal)
            return
        if alone.status == 200 and alone.body is not None:
            proof.add(member.freight.inner, member.rows, alone.body, piece)
            proof.add_fields(b"".join(alone.lines), lines)
        else:
            proof.fail()
        if alone.body is not None:
            self._deliver(member, alone)

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

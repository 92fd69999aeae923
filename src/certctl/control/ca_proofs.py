"""Answers to challenges at other CAs: what stands for an order is known, and taken away when the order has ended.

An order that its CA forgot, a job that was called off, a process that died: nobody else would take a record out of a
zone again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import groupby

from certctl.connectors.base.issuer import TakesBack
from certctl.connectors.base.solver import Proof
from certctl.core.catalogue import IssuerRecord
from certctl.core.errors import CertctlError
from certctl.lifecycle.context import Context
from certctl.store import catalogue, proofs
from certctl.store.proofs import ProofRecord
from certctl.telemetry.logging import get_logger

log = get_logger(__name__)

_AT_ONCE = 200
# a dry run takes five minutes at most, and one more to take away what it put
_LONGEST_DRY_RUN = timedelta(minutes=10)
# a zone that takes no update for so long has another owner by now
_TRIED_FOR = timedelta(days=7)


async def keep(ctx: Context, issuer_id: str, order_id: str, standing: Sequence[Proof]) -> None:
    """Keep what is about to be put for an order."""
    now = ctx.now()
    records = [
        ProofRecord(
            tenant_id=ctx.scope.tenant_id,
            order_id=order_id,
            token=each.token,
            issuer_id=issuer_id,
            name=each.name,
            key_authorization=each.key_authorization,
            job_id=each.job_id,
            agent_id=each.agent_id,
            created_at=now,
        )
        for each in standing
    ]
    async with ctx.database.begin("ca_proof.keep") as tx:
        await proofs.keep(tx, ctx.scope, records)


async def of_order(ctx: Context, order_id: str) -> list[Proof]:
    """What stands for an order."""
    async with ctx.database.read() as tx:
        return [_proof(each) for each in await proofs.of_order(tx, ctx.scope, order_id)]


async def drop(ctx: Context, order_id: str) -> None:
    """It was taken away."""
    async with ctx.database.begin("ca_proof.drop") as tx:
        await proofs.drop(tx, ctx.scope, order_id)


async def sweep(ctx: Context) -> int:
    """Take away what stands for orders that have ended; of how many orders. What cannot be is tried again later."""
    async with ctx.database.read() as tx:
        found = await proofs.left(tx, ctx.scope, _AT_ONCE, ctx.now() - _LONGEST_DRY_RUN)
        wanted = tuple({each.issuer_id for each in found})
        known = await catalogue.many(tx, ctx.scope, IssuerRecord, wanted)
    swept = 0
    for order_id, rows in groupby(sorted(found, key=lambda each: each.order_id), key=lambda each: each.order_id):
        standing = list(rows)
        if await _taken_back(ctx, known.get(standing[0].issuer_id), standing):
            await drop(ctx, order_id)
            swept += 1
    return swept


async def _taken_back(ctx: Context, record: IssuerRecord | None, standing: Sequence[ProofRecord]) -> bool:
    if record is None:
        return True  # who could do it went with its configuration
    try:
        issuer = await ctx.open_issuer(record)
        if isinstance(issuer, TakesBack):
            await issuer.take_back([_proof(each) for each in standing])
    except CertctlError as error:
        log.warning("challenge_not_cleaned_up", order_id=standing[0].order_id, error=error.message)
        return ctx.now() - standing[0].created_at > _TRIED_FOR
    return True


def _proof(record: ProofRecord) -> Proof:
    return Proof(record.name, record.token, record.key_authorization, record.job_id, record.agent_id)

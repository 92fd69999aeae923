"""What has become of an order: it lapses by time, and ends with its job. Asked for whenever an order is looked at,
so that no process has to live for an order to end.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from certctl.core.acme import AcmeOrder, OrderState
from certctl.core.actor import Actor
from certctl.core.events import Event, EventType
from certctl.core.job import Job
from certctl.core.status import LIVE_JOB, JobStatus
from certctl.ledger import append
from certctl.lifecycle.context import Context
from certctl.store import acme
from certctl.store.tx import Tx
from certctl.wire.problem import AcmeRefusal, ProblemType

RETRY = timedelta(seconds=1)
_OPEN = (OrderState.PENDING, OrderState.READY)
# what a job failed of, as ACME tells it; what the CA behind will not issue is refused as we would refuse it ourselves
_KINDS = {
    "policy_denied": ProblemType.BAD_CSR,
    "malformed": ProblemType.BAD_CSR,
    "rejected": ProblemType.REJECTED_IDENTIFIER,
}


async def settled(ctx: Context, order: AcmeOrder, actor: Actor) -> AcmeOrder:
    """The order as it stands now; what time or its job has made of it is written down."""
    if order.status in _OPEN and order.expires_at <= ctx.now():
        async with ctx.database.begin("acme.lapse") as tx:
            await fail(tx, ctx, order.id, AcmeRefusal(ProblemType.MALFORMED, "the order has expired"), actor)
            return await _again(tx, ctx, order)
    if order.status != OrderState.PROCESSING:
        return order
    async with ctx.database.read() as tx:
        job = await acme.job(tx, ctx.scope, order.job_id)
    if job is None or job.status in LIVE_JOB:
        return order
    async with ctx.database.begin("acme.settle") as tx:
        return await _end(tx, ctx, order, job, actor)


async def _again(tx: Tx, ctx: Context, order: AcmeOrder) -> AcmeOrder:
    return await acme.get(tx, ctx.scope, AcmeOrder, order.id) or order


async def _end(tx: Tx, ctx: Context, order: AcmeOrder, job: Job, actor: Actor) -> AcmeOrder:
    if job.status == JobStatus.COMPLETED and job.version_id:
        done = {"version_id": job.version_id, "updated_at": ctx.now()}
        if await acme.move(tx, ctx.scope, AcmeOrder, order.id, OrderState.VALID, **done):
            details = {"certificate_id": order.certificate_id, "version_id": job.version_id, "job_id": job.id}
            await _note(tx, ctx, EventType.ACME_ORDER_FINALIZED, order.id, actor, details)
            return msgspec.structs.replace(order, status=OrderState.VALID, **done)
        return await _again(tx, ctx, order)
    kind = _KINDS.get(job.error_kind, ProblemType.SERVER_INTERNAL)
    if job.status == JobStatus.CANCELLED and job.error_kind == "rejected":
        kind = ProblemType.UNAUTHORIZED  # by a person
    why = job.last_error if kind is not ProblemType.SERVER_INTERNAL else "it could not be issued"
    await fail(tx, ctx, order.id, AcmeRefusal(kind, why or "it was not issued"), actor)
    return await _again(tx, ctx, order)


async def fail(tx: Tx, ctx: Context, order_id: str, why: AcmeRefusal, actor: Actor) -> None:
    """End an order for a reason, unless it has ended."""
    document = why.document()
    if await acme.move(tx, ctx.scope, AcmeOrder, order_id, OrderState.INVALID, error=document, updated_at=ctx.now()):
        await _note(tx, ctx, EventType.ACME_ORDER_FAILED, order_id, actor, {"error": msgspec.to_builtins(document)})


async def _note(tx: Tx, ctx: Context, kind: EventType, order_id: str, actor: Actor, details: dict[str, Any]) -> None:
    event = Event(type=kind, subject_type="acme_order", subject_id=order_id, actor=actor, details=details)
    await append(tx, ctx.scope, ctx.now(), event)

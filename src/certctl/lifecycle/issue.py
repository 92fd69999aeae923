"""issue: ask the CA. The intent (serial and whole TBS for our own CA, a reference for another) is stored before the
act.

After a crash the same intent is acted on again: our CA signs the same TBS, another is asked by reference. No serial
ever signs other bytes. Hands on to itself while the CA takes its time, then to record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

import msgspec
from msgspec import structs

from certctl.connectors.base.issuer import (
    DraftsIntent,
    DraftsTogether,
    Intent,
    Issued,
    Issuer,
    LeafRules,
    Order,
    Pending,
)
from certctl.core.catalogue import IssuerRecord
from certctl.core.certificate import OrderRecord, RequestBody
from certctl.core.errors import Rejected, TrustError
from certctl.core.events import Event, EventType
from certctl.core.ids import new_id
from certctl.core.job import Job, Step
from certctl.core.names import parse_names
from certctl.core.status import OrderStatus, StepKind, StepStatus
from certctl.ledger import append
from certctl.lifecycle import counts, facts, handoff, settle
from certctl.lifecycle.context import Context, Known
from certctl.pki.csr import read_csr
from certctl.pki.fingerprints import serial_hex, serial_int
from certctl.pki.pem import chain_pem
from certctl.store import catalogue, certificates, jobs
from certctl.store.tx import Tx
from certctl.telemetry import points, tracing


class Asked(msgspec.Struct):
    """One claimed step on its way to the CA."""

    step: Step
    job: Job
    issuer: Issuer
    order: Order
    record: OrderRecord | None = None
    answer: Issued | Pending | None = None
    error: Exception | None = None
    # what it was approved for, where its driver knows: nothing was read for it
    known: Known | None = None


class Record(Protocol):
    """How `record` takes an answer in the transaction that stores it."""

    async def __call__(self, tx: Tx, ctx: Context, job: Job, order: OrderRecord) -> None:
        """Judge the answer that `order` holds, and write it as a version or as what is wrong with it."""
        ...


async def run(ctx: Context, claimed: Sequence[Step], *, record: Record) -> None:
    """Store each intent, act on it with no transaction open, store each answer.

    `record` takes the answer of a CA of ours along, where the job is driven: one commit, not two. If that is lost, the
    stored TBS is signed again, byte by byte the same; another CA's answer is stored before it is judged.
    """
    asked = await _gather(ctx, claimed)
    await _store_intents(ctx, asked)
    await act(ctx, asked)
    if len(asked) == 1:
        await finish(ctx, asked[0], record=record)
    else:
        await _store_answers(ctx, asked)


async def act(ctx: Context, asked: Sequence[Asked]) -> None:
    """Ask the CAs, each by its stored intent, with no transaction open: `answer` or `error` is told of each."""
    # beside one another: a CA that takes its time holds up none of the others
    await asyncio.gather(*(_act(ctx, one) for one in asked if one.error is None))


async def finish(ctx: Context, one: Asked, *, record: Record) -> None:
    """Store what came of one order, and record it with that where it may be."""
    if may_be_recorded(one):
        await _store_and_record(ctx, one, record)
    else:
        await _store_answers(ctx, [one])


async def _gather(ctx: Context, claimed: Sequence[Step]) -> list[Asked]:
    handed = {step.id: ctx.known.pop(step.id) for step in claimed if step.id in ctx.known}
    if len(handed) == len(claimed):
        return await _of_handed(ctx, claimed, handed)
    async with ctx.database.read() as tx:
        known = await jobs.jobs_by_id(tx, ctx.scope, [step.job_id for step in claimed])
        records = await certificates.orders_of_jobs(tx, ctx.scope, list(known))
        wanted = tuple({str(job.body["issuer_id"]) for job in known.values()})
        issuers = await catalogue.many(tx, ctx.scope, IssuerRecord, wanted)
        replaced = await _replaced(tx, ctx, known.values())
    opened = {issuer_id: await ctx.open_issuer(record) for issuer_id, record in issuers.items()}
    return [
        Asked(
            step=step,
            job=job,
            issuer=opened[job.body["issuer_id"]],
            order=_order(job, records.get(job.id), ctx.now(), step.attempts, replaced.get(job.id)),
            record=records.get(job.id),
        )
        for step in claimed
        for job in (known[step.job_id],)
    ]


async def _of_handed(ctx: Context, claimed: Sequence[Step], handed: dict[str, Known]) -> list[Asked]:
    """Jobs that were written with these steps: they have no order yet, and are as their driver knows them."""
    replaced: dict[str, bytes] = {}
    if any(one.job.body["replaces_id"] for one in handed.values()):
        async with ctx.database.read() as tx:
            replaced = await _replaced(tx, ctx, [one.job for one in handed.values()])
    return [
        asked_by(ctx, step, known, await ctx.open_issuer(known.issuer), replaced.get(known.job.id))
        for step in claimed
        for known in (handed[step.id],)
    ]


def asked_by(ctx: Context, step: Step, known: Known, issuer: Issuer, replaces_der: bytes | None = None) -> Asked:
    """A job that was written with this step, or is about to be, on its way to its CA."""
    order = _order(known.job, None, ctx.now(), step.attempts, replaces_der)
    return Asked(step=step, job=known.job, issuer=issuer, order=order, known=known)


async def _replaced(tx: Tx, ctx: Context, known: Iterable[Job]) -> dict[str, bytes]:
    """The certificates that the new ones take the place of, where the same foreign CA issued them; by job."""
    found: dict[str, bytes] = {}
    for job in known:
        if job.body.get("replaces_id"):
            version = await certificates.version(tx, ctx.scope, job.body["replaces_id"])
            if version.issuer_id == job.body["issuer_id"] and not version.ca_certificate_id:
                found[job.id] = version.leaf_der
    return found


def _order(job: Job, record: OrderRecord | None, now: datetime, attempt: int, replaces_der: bytes | None) -> Order:
    body = msgspec.convert(job.body, RequestBody)
    if facts.hash_of(body, profile_version=body.profile_version) != body.decision_hash:
        raise TrustError("the request was changed after it was approved; nothing is issued for it")
    return Order(
        order_id=record.id if record else new_id("order"),
        common_name=body.common_name,
        names=parse_names(body.names),
        csr_der=read_csr(body.csr_pem).csr_der,
        validity=timedelta(seconds=body.validity_seconds),
        rules=LeafRules(ekus=tuple(body.ekus), must_staple=body.must_staple),
        now=now,
        intent=_intent(record),
        replaces_der=replaces_der,
        certificate_id=job.certificate_id,
        job_id=job.id,
        agent_id=job.agent_id,
        attempt=attempt,
    )


def _intent(record: OrderRecord | None) -> Intent | None:
    if record is None or record.tbs_der is None or record.not_before is None or record.not_after is None:
        return None
    return Intent(
        serial_number=serial_int(record.serial_number),
        tbs_der=record.tbs_der,
        ca_certificate_id=record.ca_certificate_id,
        not_before=record.not_before,
        not_after=record.not_after,
    )


async def _store_intents(ctx: Context, asked: Sequence[Asked]) -> None:
    fresh = [one for one in asked if one.record is None]
    await draft(fresh)
    if not any(one.error is None for one in fresh):
        return
    async with ctx.database.begin("issue.intent") as tx:
        for one in fresh:
            if one.error is None:
                await jobs.held_step(tx, ctx.scope, one.step.id, one.step.fence)
                one.record = await certificates.insert_order(tx, ctx.scope, intended(ctx, one))
                one.order = structs.replace(one.order, order_id=one.record.id, intent=_intent(one.record))
                await append(tx, ctx.scope, ctx.now(), intended_event(ctx, one.record, one.job))


async def draft(asked: Sequence[Asked]) -> None:
    """Have the orders drafted whose issuers draft, those of one issuer together: `order.intent` or `error` of each."""
    by_issuer: dict[int, list[Asked]] = {}
    for one in asked:
        by_issuer.setdefault(id(one.issuer), []).append(one)
    for of_one in by_issuer.values():
        issuer = of_one[0].issuer
        if isinstance(issuer, DraftsTogether):
            found = await _all_drafts(issuer, [one.order for one in of_one])
        elif isinstance(issuer, DraftsIntent):
            found = [await _one_draft(issuer, one.order) for one in of_one]
        else:
            continue
        for one, intent in zip(of_one, found, strict=True):
            if isinstance(intent, Intent):
                one.order = structs.replace(one.order, intent=intent)
            else:
                one.error = intent


async def _all_drafts(issuer: DraftsTogether, orders: Sequence[Order]) -> list[Intent | Exception]:
    try:
        return await issuer.draft_all(orders)
    except Exception as error:
        return [error for _ in orders]


async def _one_draft(issuer: DraftsIntent, order: Order) -> Intent | Exception:
    try:
        return await issuer.draft(order)
    except Exception as error:
        return error


def intended_event(ctx: Context, order: OrderRecord, job: Job) -> Event:
    """That an order is about to be acted on, and under which serial number."""
    return Event(
        type=EventType.ORDER_INTENDED,
        subject_type="certificate",
        subject_id=job.certificate_id,
        actor=ctx.actor,
        details={"job_id": job.id, "serial_number": order.serial_number},
    )


def intended(ctx: Context, one: Asked) -> OrderRecord:
    """The intent as it is stored before the act."""
    intent = one.order.intent
    return OrderRecord(
        tenant_id=ctx.scope.tenant_id,
        id=one.order.order_id,
        job_id=one.job.id,
        issuer_id=str(one.job.body["issuer_id"]),
        ca_certificate_id=intent.ca_certificate_id if intent else "",
        serial_number=serial_hex(intent.serial_number) if intent else "",
        tbs_der=intent.tbs_der if intent else None,
        not_before=intent.not_before if intent else None,
        not_after=intent.not_after if intent else None,
        csr_der=one.order.csr_der,
        reference="",
        status=OrderStatus.INTENDED,
        leaf_der=None,
        chain_pem="",
        created_at=ctx.now(),
    )


async def _act(ctx: Context, one: Asked) -> None:
    record = one.record
    if record is None:
        raise AssertionError("an order is acted on only after its intent is stored")
    if record.status in {OrderStatus.ANSWERED, OrderStatus.RECORDED}:
        return
    collects = record.status == OrderStatus.PENDING
    # one of a batch has its trace in its job alone
    parent = tracing.traceparent() or one.job.traceparent
    facts_of_call: tracing.Facts = {"issuer_id": record.issuer_id, "job_id": one.job.id, "attempt": one.step.attempts}
    try:
        _refuse_stale(one.order, ctx.now())
        with tracing.span("ca.collect" if collects else "ca.submit", parent=parent, kind="client", **facts_of_call):
            points.reach("issue.asking")
            if collects:
                one.answer = await one.issuer.collect(record.reference, one.order)
            else:
                one.answer = await one.issuer.submit(one.order)
            points.reach("issue.answered")
    except Exception as error:
        one.error = error


def _refuse_stale(order: Order, now: datetime) -> None:
    """An intent that lay past half its life is not worth signing: the job ends, the next one draws a fresh serial."""
    if order.intent is not None and order.intent.not_after - now < order.validity / 2:
        raise Rejected(
            "the stored intent lay so long that the certificate would be half spent; a new request is needed"
        )


def may_be_recorded(one: Asked) -> bool:
    """Whether an answer is right here, of a CA of ours, for a job that its driver has from its request on."""
    is_here = one.error is None and isinstance(one.answer, Issued)
    return is_here and one.known is not None and isinstance(one.issuer, DraftsIntent)


async def _store_and_record(ctx: Context, one: Asked, record: Record) -> None:
    order, answer, known = one.record, one.answer, one.known
    if order is None or known is None or not isinstance(answer, Issued):
        raise AssertionError("an answer without an order")
    now, chain = ctx.now(), chain_pem(answer.chain_der)
    async with ctx.database.begin("issue.record") as tx:
        catalogue.saw(tx, ctx.scope, known.issuer, known.issuer.id)
        await counts.answered(tx, ctx, one.job, now - order.created_at)
        await jobs.end_step(tx, ctx.scope, one.step, StepStatus.DONE, now)
        with tracing.span("record", job_id=one.job.id, certificate_id=one.job.certificate_id):
            answered = structs.replace(order, status=OrderStatus.ANSWERED, leaf_der=answer.leaf_der, chain_pem=chain)
            await record(tx, ctx, one.job, answered)
    ctx.ended.add(one.job.id)


async def _store_answers(ctx: Context, asked: Sequence[Asked]) -> None:
    async with ctx.database.begin("issue.answer") as tx:
        for one in asked:
            if one.error is not None:
                await settle.fail(tx, ctx, one.step, one.error)
                continue
            record, now = one.record, ctx.now()
            if record is None:
                raise AssertionError("an answer without an order")
            if isinstance(one.answer, Pending):
                await certificates.change_order(
                    tx, ctx.scope, record.id, OrderStatus.PENDING, reference=one.answer.reference
                )
                await jobs.wait_step(tx, ctx.scope, one.step, now + one.answer.retry_after, "waiting for the CA")
                continue
            if isinstance(one.answer, Issued):
                await certificates.change_order(
                    tx,
                    ctx.scope,
                    record.id,
                    OrderStatus.ANSWERED,
                    leaf_der=one.answer.leaf_der,
                    chain_pem=chain_pem(one.answer.chain_der),
                )
                await counts.answered(tx, ctx, one.job, now - record.created_at)
            await jobs.end_step(tx, ctx.scope, one.step, StepStatus.DONE, now)
            await handoff.next_step(tx, ctx, one.job.id, StepKind.RECORD)

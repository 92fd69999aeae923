"""record: judge the CA's answer, byte by byte, and only then make it a version.

The CSR's key? the approved names, lifetime, usages? does the chain verify? A TrustError stops here, pages a human,
and keeps the bytes. Writes the immutable version; hands on to one deployment a target of this key holder.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec

from certctl.core.certificate import OrderRecord, RequestBody, Version
from certctl.core.errors import CertctlError, TrustError
from certctl.core.events import Event, EventType, Notice
from certctl.core.ids import new_id
from certctl.core.job import Job, Step
from certctl.core.names import parse_names
from certctl.core.status import JobStatus, JobType, OrderStatus, StepKind, StepStatus, VersionStatus
from certctl.ledger import append, notify
from certctl.lifecycle import counts, incidents, rollout, settle, standing
from certctl.lifecycle.context import Context
from certctl.pki.certs import CertificateFacts, read_certificate
from certctl.pki.chain import verify_chain
from certctl.pki.csr import read_csr
from certctl.pki.fingerprints import serial_hex
from certctl.pki.pem import read_certificates
from certctl.store import certificates, jobs
from certctl.store.tx import Tx

# A CA may round or backdate; it may not give more than was approved, beyond an hour of slack for clocks and backdating.
_SLACK = timedelta(hours=1)


async def run(ctx: Context, claimed: Sequence[Step]) -> None:
    """Judge each answer and record it, with what comes next, in one transaction."""
    async with ctx.database.begin("record") as tx:
        known = await jobs.jobs_by_id(tx, ctx.scope, [step.job_id for step in claimed])
        orders = await certificates.orders_of_jobs(tx, ctx.scope, list(known))
        for step in claimed:
            job = known[step.job_id]
            try:
                end_step = partial(jobs.end_step, tx, ctx.scope, step, StepStatus.DONE, ctx.now())
                await _record(tx, ctx, job, orders[job.id], end_step)
            except CertctlError as error:
                await settle.fail(tx, ctx, step, error)


async def at_once(tx: Tx, ctx: Context, job: Job, order: OrderRecord) -> None:
    """Judge an answer in the transaction that ended its issue step. `order` is not written as answered yet: it is here,
    with its bytes, as recorded or with what is wrong. The step of this stage is written as it ends.
    """
    now, kept = ctx.now(), {"leaf_der": order.leaf_der, "chain_pem": order.chain_pem}
    ends = partial(jobs.insert_steps, tx, ctx.scope, [done_step(ctx, job, now)])
    try:
        await _record(tx, ctx, job, order, ends, **kept)
    except CertctlError as error:
        await certificates.change_order(tx, ctx.scope, order.id, OrderStatus.ANSWERED, **kept)
        step = await jobs.add_leased_step(
            tx, ctx.scope, job.id, StepKind.RECORD, now, owner=ctx.owner, lease=ctx.patience.lease
        )
        await settle.fail(tx, ctx, step, error)


def done_step(ctx: Context, job: Job, now: datetime) -> Step:
    """The step of this stage where it was done with the one before."""
    return Step(
        tenant_id=ctx.scope.tenant_id,
        id=new_id("step"),
        job_id=job.id,
        kind=StepKind.RECORD,
        status=StepStatus.DONE,
        agent_id="",
        run_at=now,
        attempts=1,
        lease_owner="",
        lease_until=None,
        fence=1,
        error_kind="",
        error="",
        created_at=now,
        ended_at=now,
    )


async def _record(
    tx: Tx, ctx: Context, job: Job, order: OrderRecord, end_step: Callable[[], Awaitable[None]], **kept: Any
) -> None:
    now = ctx.now()
    version = await certificates.insert_current(tx, ctx.scope, judged(ctx, job, order))
    await certificates.change_order(tx, ctx.scope, order.id, OrderStatus.RECORDED, **kept)
    await end_step()
    await jobs.move_job(tx, ctx.scope, job.id, JobStatus.COMPLETED, now, version_id=version.id, last_error="")
    refreshed = await standing.renewed(tx, ctx, job, version)
    targets = [target for target in refreshed.targets if target.agent_id == job.holder_id]
    await rollout.deploy_to(
        tx,
        ctx,
        refreshed.certificate,
        version,
        targets,
        actor=ctx.actor,
        parent_id=job.id,
        traceparent=job.traceparent,
    )
    await counts.issued(tx, ctx, job)
    current = [each.id for each in refreshed.current.values()]
    if refreshed.was_told_of:
        await incidents.renewed(tx, ctx, refreshed.certificate, job.holder_id, current)
    await _tell(tx, ctx, job, version)


def judged(ctx: Context, job: Job, order: OrderRecord) -> Version:
    """The version that an answered order comes to. Raises TrustError when its answer is wrong."""
    body = msgspec.convert(job.body, RequestBody)
    leaf_der = order.leaf_der or b""
    chain = read_certificates(order.chain_pem) if order.chain_pem else ()
    return _version(ctx, job, order, judge_answer(body, order, leaf_der, chain, ctx.now()), leaf_der)


def judge_answer(
    body: RequestBody, order: OrderRecord, leaf_der: bytes, chain_der: Sequence[bytes], now: datetime
) -> CertificateFacts:
    """Is this the certificate that was approved? Raises TrustError naming every fault."""
    try:
        leaf = read_certificate(leaf_der)
    except CertctlError as error:
        raise TrustError("the CA's answer is no certificate", detail=error.message) from error
    faults: list[str] = []
    if leaf.spki_sha256 != read_csr(order.csr_der).spki_sha256:
        faults.append("it certifies another public key than the CSR's")
    if set(leaf.names) != set(parse_names([body.common_name, *body.names])):
        faults.append(f"it names {', '.join(str(name) for name in leaf.names) or 'nothing'}, not what was approved")
    if leaf.not_after - leaf.not_before > timedelta(seconds=body.validity_seconds) + _SLACK:
        faults.append("it lives longer than was approved")
    if not leaf.not_before <= now < leaf.not_after:
        faults.append("it is not valid now")
    if leaf.is_ca:
        faults.append("it is a CA certificate")
    if order.serial_number and serial_hex(leaf.serial_number) != order.serial_number:
        faults.append("it carries another serial number than the stored intent")
    if faults:
        raise TrustError("the CA's answer is wrong: " + "; ".join(faults))
    if not chain_der:
        raise TrustError("the CA gave no chain, so nothing shows who signed the certificate")
    # the topmost certificate that the CA gave is the anchor here; that its root is trusted is for its clients to say
    verify_chain(leaf_der, tuple(chain_der[:-1]), chain_der[-1], now)
    return leaf


def _version(ctx: Context, job: Job, order: OrderRecord, leaf: CertificateFacts, leaf_der: bytes) -> Version:
    return Version(
        tenant_id=ctx.scope.tenant_id,
        id=new_id("certver"),
        certificate_id=job.certificate_id,
        holder_id=job.holder_id,
        job_id=job.id,
        issuer_id=order.issuer_id,
        ca_certificate_id=order.ca_certificate_id,
        replaces_id=str(job.body.get("replaces_id", "")),
        status=VersionStatus.ISSUED,
        serial_number=serial_hex(leaf.serial_number),
        not_before=leaf.not_before,
        not_after=leaf.not_after,
        fingerprint_sha256=leaf.fingerprint_sha256,
        spki_sha256=leaf.spki_sha256,
        key_algorithm=leaf.key.kind,
        key_size=leaf.key.size_bits,
        leaf_der=leaf_der,
        chain_pem=order.chain_pem,
        csr_der=order.csr_der,
        created_at=ctx.now(),
    )


def issued_event(ctx: Context, job: Job, version: Version, kind: EventType = EventType.CERTIFICATE_ISSUED) -> Event:
    """That a version was recorded."""
    return Event(
        type=kind,
        subject_type="certificate",
        subject_id=job.certificate_id,
        actor=ctx.actor,
        details={
            "job_id": job.id,
            "version_id": version.id,
            "serial_number": version.serial_number,
            "fingerprint_sha256": version.fingerprint_sha256,
            "not_after": version.not_after.isoformat(),
        },
    )


async def _tell(tx: Tx, ctx: Context, job: Job, version: Version) -> None:
    events, notices = told_of(ctx, job, version)
    for notice in notices:
        await notify(tx, ctx.scope, ctx.now(), notice)
    await append(tx, ctx.scope, ctx.now(), *events)


def told_of(ctx: Context, job: Job, version: Version) -> tuple[list[Event], list[Notice]]:
    """What is told of a version that was recorded for a job."""
    events = [issued_event(ctx, job, version)]
    if job.type != JobType.RENEWAL:
        return events, []
    name = job.body.get("common_name") or job.certificate_id
    notice = Notice(
        type="RenewalSuccess",
        certificate_id=job.certificate_id,
        severity="informational",
        message=f"{name} was renewed until {version.not_after.isoformat()}",
        dedup_key=f"renewed/{version.id}",
    )
    return [*events, issued_event(ctx, job, version, EventType.RENEWAL_JOB_COMPLETED)], [notice]

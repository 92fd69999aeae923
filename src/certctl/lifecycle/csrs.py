"""CSRs that agents bring at the same time, for versions that our own CA signs: taken with the intents of their orders
by one commit, signed, and recorded with their deployments by another (ADR 44, 52).

The rules of `prepare`, `issue` and `record` judge, and the same events and steps are written, under the same fences.
Whoever is not plainly right, or is in another's way, goes alone, stage by stage (`prepare.accept_csr`, `flow.drive`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

import msgspec
from msgspec import Struct, structs

from certctl.connectors.base.issuer import Issuer
from certctl.core.catalogue import IssuerRecord, Profile
from certctl.core.certificate import OrderRecord, RequestBody, Version
from certctl.core.errors import CertctlError, Temporary
from certctl.core.events import Event, Notice
from certctl.core.job import Job, Step
from certctl.core.status import JOB, JobStatus, StepKind, before
from certctl.ledger import append, notify_all
from certctl.lifecycle import (
    counts,
    facts,
    flow,
    incidents,
    issue,
    prepare,
    record,
    rollout,
    standing,
    together,
)
from certctl.lifecycle.context import Context, Known
from certctl.lifecycle.reports import Report, take
from certctl.pki.csr import CsrFacts, csr_pem, read_csr
from certctl.store import catalogue, certificates, issuances, jobs, many_jobs, outbox, reported, standings
from certctl.store.tx import Tx
from certctl.wire.agent import CsrReport

_MAY_RUN = frozenset({*before(JOB, JobStatus.RUNNING), JobStatus.RUNNING})


class Member(together.OnItsWay):
    """A CSR that is taken with others: its step and job as they were found, and the job as it goes on."""

    report: Report[CsrReport]
    step: Step
    found: Job
    csr: CsrFacts
    known: Known


async def intend(ctx: Context, reports: Sequence[Report[CsrReport]]) -> list[Member | None]:
    """Judge CSRs and write those that are plainly right, with the intents of their orders, by one commit; in order,
    None for one that has to go alone. Raises Temporary: then it is not known of any what was written.
    """
    taken = await take("csrs", reports, partial(_intend, flow.driving(ctx)))
    return [taken.get(report) for report in reports]


async def _intend(ctx: Context, reports: Mapping[str, Report[CsrReport]]) -> dict[str, Member]:
    members = await _judge_all(ctx, reports)
    await _draft_all(ctx, members)
    ready = [member for member in members if member.asked is not None and member.asked.error is None]
    if not ready:
        return {}
    with issuances.conflicts():
        async with ctx.database.begin("prepare") as tx:
            return {member.step.id: member for member in await _write(tx, ctx, ready)}


async def _judge_all(ctx: Context, reports: Mapping[str, Report[CsrReport]]) -> list[Member]:
    found: list[Member] = []
    async with ctx.database.read() as tx:
        for step_id, (step, job) in (await reported.leased(tx, ctx.scope, list(reports))).items():
            try:
                member = await _judge(tx, ctx, reports[step_id], step, job)
            except Temporary:
                raise
            except CertctlError:
                continue  # alone it is told, and logged, what is wrong
            if member is not None:
                found.append(member)
            await asyncio.sleep(0)  # others are served meanwhile
    return found


async def _judge(tx: Tx, ctx: Context, report: Report[CsrReport], step: Step, job: Job) -> Member | None:
    if not report.is_of(step, job, StepKind.PREPARE) or job.status not in _MAY_RUN:
        return None
    body, csr = msgspec.convert(job.body, RequestBody), read_csr(report.said.csr_pem)
    profile = await catalogue.as_first_seen(tx, ctx.scope, Profile, body.profile_id)
    issuer = await catalogue.as_first_seen(tx, ctx.scope, IssuerRecord, body.issuer_id)
    if facts.csr_violations(body, profile, issuer, csr):
        return None
    kept = structs.replace(body, csr_pem=csr_pem(csr.csr_der))
    goes_on = structs.replace(
        job,
        status=JobStatus.RUNNING,
        started_at=job.started_at or ctx.now(),
        body=msgspec.to_builtins(kept),
        last_error="",
    )
    return Member(report, step, job, csr, Known(goes_on, issuer))


async def _draft_all(ctx: Context, members: Sequence[Member]) -> None:
    """The order of each, with its serial and TBS; one whose issuer does not draft has none."""
    opened: dict[str, Issuer | None] = {}
    for member in members:
        job, found = member.known.job, member.known.issuer
        if found.id not in opened:
            opened[found.id] = await together.opened(ctx, found)
        issuer = opened[found.id]
        if issuer is not None:
            step = jobs.leased_step(
                ctx.scope, job.id, StepKind.ISSUE, ctx.now(), owner=ctx.owner, lease=ctx.patience.lease
            )
            member.asked = _asked(ctx, step, member.known, issuer)
    await issue.draft([member.asked for member in members if member.asked is not None])


def _asked(ctx: Context, step: Step, known: Known, issuer: Issuer) -> issue.Asked | None:
    try:
        return issue.asked_by(ctx, step, known, issuer)
    except CertctlError:
        return None  # alone its job is settled by what is wrong with it


async def _write(tx: Tx, ctx: Context, ready: Sequence[Member]) -> list[Member]:
    """Those that are written: whose step is still leased under its fence, for a job that is as it was judged."""
    held = await reported.leased(tx, ctx.scope, [member.step.id for member in ready], lock=True)
    going: list[Member] = []
    records: list[OrderRecord] = []
    told: list[Event] = []
    for member in ready:
        step, job = held.get(member.step.id, (None, None))
        if step is None or step.fence != member.step.fence or job != member.found:
            continue
        member.order.record = issue.intended(ctx, member.order)
        going.append(member)
        records.append(member.order.record)
        told.append(prepare.submitted_event(member.known.job, member.csr, member.report.actor))
        told.append(issue.intended_event(ctx, member.order.record, member.known.job))
    now = ctx.now()
    await many_jobs.end_locked(tx, ctx.scope, [member.step for member in going], now)
    await many_jobs.run_locked(tx, ctx.scope, [member.known.job for member in going])
    await jobs.insert_steps(tx, ctx.scope, [member.order.step for member in going])
    await issuances.draw(tx, records)
    await append(tx, ctx.scope, now, *told)
    return going


async def finish(ctx: Context, members: Sequence[Member]) -> None:
    """Have the orders of a group signed, and record them with their deployments by one commit."""
    of_steps = {member.order.step.id: member for member in members}
    await together.sign(ctx, [member.order for member in members], partial(_record, of_steps))


class _Right(Struct, frozen=True):
    """An answer that is right, of a step that is still ours, and what its version makes of its certificate."""

    asked: issue.Asked
    version: Version
    renewed: standing.Renewed


async def _record(
    members: Mapping[str, Member], ctx: Context, signed: Sequence[tuple[issue.Asked, Version]]
) -> set[str]:
    async with ctx.database.begin("record") as tx:
        right = await _still_right(tx, ctx, signed)
        if right:
            await _write_versions(tx, ctx, right)
    for one in right:
        members[one.asked.step.id].version = one.version
    return {one.asked.step.id for one in right}


async def _still_right(tx: Tx, ctx: Context, signed: Sequence[tuple[issue.Asked, Version]]) -> list[_Right]:
    rows = await standings.locked(tx, ctx.scope, sorted({version.certificate_id for _, version in signed}))
    # behind the locks: what else was written of these certificates meanwhile is seen
    held = await reported.leased(tx, ctx.scope, [one.step.id for one, _ in signed], lock=True)
    of_rows: dict[str, tuple[issue.Asked, Version]] = {}
    for one, version in signed:
        step, job = held.get(one.step.id, (None, None))
        is_ours = step is not None and step.fence == one.step.fence
        if is_ours and job is not None and job.status == JobStatus.RUNNING and version.certificate_id in rows:
            # of two key holders of one certificate the second stands behind the first
            of_rows.setdefault(version.certificate_id, (one, version))
    found: list[_Right] = []
    stands = await standing.load_all(tx, ctx, [rows[certificate_id] for certificate_id in of_rows])
    for stand, (one, version) in zip(stands, of_rows.values(), strict=True):
        renewed = standing.with_next(ctx, stand, one.job, version)
        if renewed is not None:
            found.append(_Right(one, version, renewed))
    return found


async def _write_versions(tx: Tx, ctx: Context, right: Sequence[_Right]) -> None:
    now, ended, deploying = ctx.now(), list[issuances.Issued](), list[rollout.ToDeploy]()
    events, notices = list[Event](), list[Notice]()
    await certificates.make_way(tx, ctx.scope, [one.version for one in right])
    for one in right:
        job, order, targets = one.asked.job, one.asked.record, one.renewed.stands.targets
        if order is None or one.asked.known is None:
            raise AssertionError("what was signed has its intent")
        ended.append(
            issuances.Issued(
                one.asked.step, record.done_step(ctx, job, now), job, order, one.version, one.renewed.columns
            )
        )
        deploying.append(
            rollout.ToDeploy(
                certificate=one.renewed.certificate,
                version=one.version,
                targets=[target for target in targets if target.agent_id == job.holder_id],
                parent_id=job.id,
                traceparent=job.traceparent,
            )
        )
        happened, told = record.told_of(ctx, job, one.version)
        events += happened
        notices += [*one.renewed.notices, *told]
        catalogue.saw(tx, ctx.scope, one.asked.known.issuer, one.asked.known.issuer.id)
        await counts.answered(tx, ctx, job, now - order.created_at)
        await counts.issued(tx, ctx, job)
    await issuances.issued(tx, ctx.scope, now, ended)
    await rollout.deploy_all(tx, ctx, deploying, actor=ctx.actor)
    await notify_all(tx, ctx.scope, now, notices)
    await _tell_over(tx, ctx, right)
    await append(tx, ctx.scope, now, *events)


async def _tell_over(tx: Tx, ctx: Context, right: Sequence[_Right]) -> None:
    """Whoever was told of something that a new version ends is told that it is over."""
    told = await outbox.told_about(tx, ctx.scope, [one.version.certificate_id for one in right])
    for one in right:
        if one.version.certificate_id in told:
            stands = one.renewed.stands
            current = [version.id for version in stands.current.values()]
            await incidents.renewed(tx, ctx, stands.certificate, one.version.holder_id, current)

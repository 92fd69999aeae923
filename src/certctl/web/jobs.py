"""/jobs: work under way and done, live; one job with its steps, what it waits for, and a way to cancel it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from litestar import Response, get, post
from litestar.params import FromPath
from msgspec import Struct

from certctl.core.job import Job, Step
from certctl.core.status import LIVE_JOB, JobStatus, StepKind, StepStatus
from certctl.core.target import AgentRecord, TargetRecord
from certctl.lifecycle import request as request_stage
from certctl.store import truths, views
from certctl.store.listings import JOBS
from certctl.web import tables
from certctl.web.acts import act, going
from certctl.web.guard import needs
from certctl.web.marks import Mark
from certctl.web.pages import render
from certctl.web.request import Fields, WebRequest
from certctl.web.words import gettext as _
from certctl.web.words import span

PATH = "/jobs"
_LIVE = ",".join(sorted(str(each) for each in LIVE_JOB))


class Stage(Struct, frozen=True, kw_only=True):
    """One step of a job, with its bar on the job's own time."""

    step: Step
    mark: Mark
    name: str
    told: str
    x: str
    width: str
    took: str


def mark_of(job: Job) -> Mark:
    """How a job stands."""
    s = JobStatus
    return {
        s.COMPLETED: Mark("ok", "s-ok", _("Done")),
        s.FAILED: Mark("bad", "s-bad", _("Failed")),
        s.CANCELLED: Mark("unk", "s-none", _("Cancelled")),
        s.AWAITING_APPROVAL: Mark("warn", "s-wait", _("Waits for approval")),
        s.AWAITING_CSR: Mark("work", "s-due", _("Waits for its host")),
        s.RUNNING: Mark("work", "s-work", _("Under way")),
        s.PENDING: Mark("work", "s-none", _("Next")),
    }[JobStatus(job.status)]


def type_of(job: Job) -> str:
    """What a job is for."""
    return type_word(str(job.type))


def type_word(type_: str) -> str:
    """A type of job in words."""
    return {
        "Issuance": _("Issuance"),
        "Renewal": _("Renewal"),
        "Deployment": _("Deployment"),
        "Validation": _("Dry run"),
        "Revocation": _("Revocation"),
    }.get(type_, type_)


@get(PATH, opt=needs("job.read"))
async def show_all(request: WebRequest) -> Response[str]:
    """Live ones first asked for; tabs lead to those that ended."""
    scope = request.visible
    async with request.ctx.database.read() as tx:
        table = await tables.read(request, tx, JOBS, scope)
        certificates = await truths.named_certificates(tx, scope, [job.certificate_id for job in table.rows])
        targets = await truths.named(tx, request.seen_by("target.read"), TargetRecord, _targets(table.rows))
    tabs = [
        (_("All"), ""),
        (_("Under way"), _LIVE),
        (_("Wait for approval"), str(JobStatus.AWAITING_APPROVAL)),
        (_("Failed"), str(JobStatus.FAILED)),
        (_("Done"), str(JobStatus.COMPLETED)),
        (_("Cancelled"), str(JobStatus.CANCELLED)),
    ]
    return await render(
        request,
        "jobs.html",
        table=table,
        tabs=[(text, table.to(status=value), table.chosen("status") == value) for text, value in tabs],
        marks={job.id: mark_of(job) for job in table.rows},
        types={job.id: type_of(job) for job in table.rows},
        certificates=certificates,
        targets=targets,
    )


def _targets(jobs: Sequence[Job]) -> list[str]:
    return [job.target_id for job in jobs]


@get(f"{PATH}/{{job_id:str}}", opt=needs("job.read"))
async def show(request: WebRequest, job_id: FromPath[str]) -> Response[str]:
    """One job: its stages on its own time, and why it stands where it does."""
    scope, now = request.visible, request.ctx.now()
    async with request.ctx.database.read() as tx:
        job = await views.job(tx, scope, job_id)
        steps = await views.steps_of(tx, scope, job_id)
        certificates = await truths.named_certificates(tx, scope, [job.certificate_id])
        targets = await truths.named(tx, request.seen_by("target.read"), TargetRecord, [job.target_id])
        agents = await truths.named(tx, request.seen_by("agent.read"), AgentRecord, [job.agent_id, job.holder_id])
    end = job.completed_at or now
    return await render(
        request,
        "job.html",
        job=job,
        mark=mark_of(job),
        kind=type_of(job),
        stages=_stages(steps, job.created_at, end, now),
        certificate=certificates.get(job.certificate_id, job.certificate_id),
        target=targets.get(job.target_id, job.target_id),
        agent=agents.get(job.agent_id or job.holder_id, job.agent_id or job.holder_id),
        live=job.status in LIVE_JOB,
        may_cancel=job.status in LIVE_JOB and request.may("job.cancel"),
        plan=job.body.get("plan"),
    )


def _stages(steps: Sequence[Step], begin: datetime, end: datetime, now: datetime) -> list[Stage]:
    whole = max((end - begin).total_seconds(), 0.001)
    found = []
    for step in steps:
        until = step.ended_at or now
        at = min(max((step.created_at - begin).total_seconds() / whole, 0.0), 1.0)
        wide = min(max((until - step.created_at).total_seconds() / whole, 0.004), 1.0 - at if at < 1.0 else 0.004)
        found.append(
            Stage(
                step=step,
                mark=_step_mark(step),
                name=_stage_name(step.kind),
                told=step.error or (_("attempt {number}").format(number=step.attempts) if step.attempts > 1 else ""),
                x=f"{1 + at * 97:.2f}%",
                width=f"{max(wide * 97, 0.6):.2f}%",
                took=_took(step, until),
            )
        )
    return found


def _took(step: Step, until: datetime) -> str:
    seconds = max((until - step.created_at).total_seconds(), 0)
    if step.ended_at is None:
        return _("{span} so far").format(span=span(until - step.created_at))
    return f"{seconds:.1f} s" if seconds < 10 else span(until - step.created_at)


def _step_mark(step: Step) -> Mark:
    s = StepStatus
    if step.status == s.READY and step.error:
        return Mark("warn", "s-due", _("Tried again"))
    return {
        s.DONE: Mark("ok", "s-ok", _("Done")),
        s.FAILED: Mark("bad", "s-bad", _("Failed")),
        s.CANCELLED: Mark("unk", "s-none", _("Cancelled")),
        s.LEASED: Mark("work", "s-work", _("Now")),
        s.READY: Mark("unk", "s-none", _("Next")),
    }[StepStatus(step.status)]


def _stage_name(kind: StepKind | str) -> str:
    k = StepKind
    return {
        k.APPROVE: _("Rules judged"),
        k.PREPARE: _("Key and request made"),
        k.ISSUE: _("Issued by the CA"),
        k.RECORD: _("Judged and recorded"),
        k.DEPLOY: _("Installed and reloaded"),
        k.VERIFY: _("Seen served"),
        k.PLAN: _("Planned"),
        k.REVOKE: _("Revoked"),
        k.PUBLISH: _("Published"),
    }.get(StepKind(kind), str(kind))


@post(f"{PATH}/{{job_id:str}}/cancel", opt=needs("job.cancel"))
async def cancel(request: WebRequest, job_id: FromPath[str]) -> Response[str]:
    """A result that comes later meets a stale fence and is refused."""

    async def doing(_fields: Fields) -> str:
        await request_stage.cancel(request.ctx, request.visible, request.actor, job_id)
        return going(f"{PATH}/{job_id}", "cancelled")

    return await act(request, doing)


HANDLERS = (show_all, show, cancel)

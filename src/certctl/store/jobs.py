"""Jobs and their steps: create once by idempotency key, claim with a lease, settle under the fence.

Server workers and far agents claim alike: `FOR UPDATE SKIP LOCKED` on PostgreSQL, one writer on SQLite. A lapsed
lease gives the step back; the next claim raises the fence, and a result under the old one is refused with StaleFence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from msgspec import structs

from certctl.core.errors import Conflict, NotFound, StaleFence
from certctl.core.ids import new_id
from certctl.core.job import Job, Step
from certctl.core.scope import Scope
from certctl.core.status import JOB, LIVE_JOB, JobStatus, JobType, StepKind, StepStatus, before
from certctl.store import arrays
from certctl.store.among import any_of
from certctl.store.listings import jobs_in_scope
from certctl.store.schema import jobs, steps
from certctl.store.statuses import is_one_of
from certctl.store.tx import Tx, chosen_once
from certctl.store.wake import agent_channel, job_channel
from certctl.telemetry import metrics

SERVER_CHANNEL = "steps"
UNDER_WAY = "a job of this kind is already under way for this certificate; wait for it or cancel it"
_COUNTED = {JobStatus.COMPLETED: metrics.JOB_COMPLETED, JobStatus.FAILED: metrics.JOB_FAILED}


async def create_job(tx: Tx, scope: Scope, job: Job, *, live_key: str | None) -> Job:
    """Write a job once: the same idempotency key gives the job already there; another live job on `live_key` is a
    Conflict.
    """
    (stands,) = await create_jobs(tx, scope, [(job, live_key)])
    if stands is None:
        raise Conflict(UNDER_WAY)
    return stands


async def create_jobs(tx: Tx, scope: Scope, made: Sequence[tuple[Job, str | None]]) -> list[Job | None]:
    """`create_job` for many, each with its live key, in order: the job that stands, or None for a Conflict."""
    if not made:
        return []
    rows = [{name: getattr(job, name) for name in job.__struct_fields__} | {"live_key": key} for job, key in made]
    written = await arrays.insert_once(tx, jobs, rows)
    left = [job.idempotency_key for job, _ in made if job.id not in written]
    known: dict[str, Job] = {}
    if left:
        found = await tx.all(Job, sa.select(jobs).where(_of(jobs, scope), jobs.c.idempotency_key.in_(tuple(left))))
        known = {job.idempotency_key: job for job in found}
    return [job if job.id in written else known.get(job.idempotency_key) for job, _ in made]


async def insert_ended(tx: Tx, scope: Scope, made: Sequence[Job]) -> None:
    """Write jobs that are complete as they are written, and count them."""
    await arrays.insert(tx, jobs, [structs.asdict(job) for job in made])
    tx.count(scope.tenant_id, metrics.JOB_COMPLETED, len(made))


async def add_step(
    tx: Tx,
    scope: Scope,
    job_id: str,
    kind: StepKind,
    now: datetime,
    *,
    agent_id: str = "",
    run_at: datetime | None = None,
) -> None:
    """Write the next step of a job and wake who runs it."""
    await add_steps(tx, scope, [job_id], kind, now, agent_id=agent_id, run_at=run_at)


async def add_steps(
    tx: Tx,
    scope: Scope,
    job_ids: Sequence[str],
    kind: StepKind,
    now: datetime,
    *,
    agent_id: str = "",
    run_at: datetime | None = None,
) -> None:
    """`add_step` for many jobs that go on alike."""
    if not job_ids:
        return
    step = {
        "tenant_id": scope.tenant_id,
        "kind": kind,
        "status": StepStatus.READY,
        "agent_id": agent_id,
        "run_at": run_at or now,
        "created_at": now,
    }
    await arrays.insert(tx, steps, [step | {"id": new_id("step"), "job_id": job_id} for job_id in job_ids])
    tx.wake(agent_channel(agent_id) if agent_id else SERVER_CHANNEL)


async def add_leased_step(
    tx: Tx, scope: Scope, job_id: str, kind: StepKind, now: datetime, *, owner: str, lease: timedelta
) -> Step:
    """Write the next step of a job as `claim` would leave it, leased to `owner`: nobody else is woken for it."""
    step = leased_step(scope, job_id, kind, now, owner=owner, lease=lease)
    await insert_steps(tx, scope, [step])
    return step


def leased_step(scope: Scope, job_id: str, kind: StepKind, now: datetime, *, owner: str, lease: timedelta) -> Step:
    """The next step of a job, leased to `owner`; it is yet to be written."""
    return Step(
        tenant_id=scope.tenant_id,
        id=new_id("step"),
        job_id=job_id,
        kind=kind,
        status=StepStatus.LEASED,
        agent_id="",
        run_at=now,
        attempts=1,
        lease_owner=owner,
        lease_until=now + lease,
        fence=1,
        error_kind="",
        error="",
        created_at=now,
        ended_at=None,
    )


async def insert_steps(tx: Tx, scope: Scope, made: Sequence[Step]) -> None:
    """Write steps as they are; nobody is woken for them."""
    del scope
    await arrays.insert(tx, steps, [structs.asdict(step) for step in made])


async def claim(
    tx: Tx,
    scope: Scope,
    *,
    owner: str,
    lease: timedelta,
    now: datetime,
    limit: int,
    agent_id: str = "",
    job_id: str | None = None,
    kinds: Sequence[StepKind] = (),
) -> list[Step]:
    """Lease up to `limit` due steps (of the server, or bound to `agent_id`; of one job, of some kinds when given)."""
    due = sa.select(steps.c.id).where(
        _of(steps, scope), steps.c.status == StepStatus.READY, steps.c.agent_id == agent_id, steps.c.run_at <= now
    )
    if job_id is not None:
        due = due.where(steps.c.job_id == job_id)
    if kinds:
        due = due.where(steps.c.kind.in_(tuple(kinds)))
    due = due.order_by(steps.c.run_at, steps.c.id).limit(limit).with_for_update(skip_locked=True)
    leased = (
        sa.update(steps)
        .where(_of(steps, scope), steps.c.id.in_(chosen_once(due)), steps.c.status == StepStatus.READY)
        .values(
            status=StepStatus.LEASED,
            lease_owner=owner,
            lease_until=now + lease,
            fence=steps.c.fence + 1,
            attempts=steps.c.attempts + 1,
        )
        .returning(*steps.c)
    )
    return sorted(await tx.all(Step, leased), key=lambda step: (step.run_at, step.id))


async def extend_leases(
    tx: Tx, scope: Scope, leases: Iterable[tuple[str, int]], owner: str, until: datetime
) -> set[str]:
    """Push the end of leases (step id, fence) still held; returns the step ids that are."""
    asked = set(leases)
    statement = (
        sa.select(steps.c.id, steps.c.fence)
        .where(
            _of(steps, scope),
            any_of(steps.c.id, sorted({step_id for step_id, _ in asked})),
            steps.c.status == StepStatus.LEASED,
            steps.c.lease_owner == owner,
        )
        .order_by(steps.c.id)
        .with_for_update()
    )
    held = {row.id for row in await tx.execute(statement) if (row.id, row.fence) in asked}
    pushed = [{"tenant_id": scope.tenant_id, "id": step_id, "lease_until": until} for step_id in sorted(held)]
    await arrays.change(tx, steps, pushed)
    return held


async def release_lapsed(tx: Tx, scope: Scope, now: datetime, *, agents_too: bool = True) -> int:
    """Give back every step whose lease has run out, of servers alone or of agents too; returns how many."""
    whose = sa.true() if agents_too else steps.c.agent_id == ""
    return await _release(
        tx, sa.and_(_of(steps, scope), steps.c.status == StepStatus.LEASED, steps.c.lease_until <= now, whose)
    )


async def release_of_earlier_boots(tx: Tx, scope: Scope, owner_prefix: str, owner: str) -> int:
    """Give back what earlier runs of the same worker or agent still hold; returns how many."""
    return await _release(
        tx,
        sa.and_(
            _of(steps, scope),
            steps.c.status == StepStatus.LEASED,
            steps.c.lease_owner.startswith(owner_prefix, autoescape=True),
            steps.c.lease_owner != owner,
        ),
    )


async def release_owned(tx: Tx, scope: Scope, owner: str) -> int:
    """Give back what this very owner holds; returns how many."""
    return await _release(
        tx, sa.and_(_of(steps, scope), steps.c.status == StepStatus.LEASED, steps.c.lease_owner == owner)
    )


async def give_back(tx: Tx, scope: Scope, held: Sequence[Step]) -> int:
    """Give back leased steps that were not begun; returns how many were still held under their fences."""
    these = sa.or_(*(sa.and_(steps.c.id == step.id, steps.c.fence == step.fence) for step in held))
    return await _release(tx, sa.and_(_of(steps, scope), steps.c.status == StepStatus.LEASED, these))


async def open_steps(
    tx: Tx, scope: Scope, kinds: Sequence[StepKind], *, agent_id: str, job_id: str = "", certificate_id: str = ""
) -> list[Step]:
    """Steps bound to `agent_id` (empty: the server's) that have not ended, of one job or certificate when given."""
    wanted = sa.select(steps).where(
        _of(steps, scope),
        steps.c.agent_id == agent_id,
        steps.c.kind.in_(tuple(kinds)),
        steps.c.status.in_((StepStatus.READY, StepStatus.LEASED)),
    )
    if job_id:
        wanted = wanted.where(steps.c.job_id == job_id)
    if certificate_id:
        of_it = sa.select(jobs.c.id).where(_of(jobs, scope), jobs.c.certificate_id == certificate_id)
        wanted = wanted.where(steps.c.job_id.in_(of_it))
    return await tx.all(Step, wanted.order_by(steps.c.created_at, steps.c.id))


async def take_step(tx: Tx, scope: Scope, step: Step, owner: str, until: datetime) -> Step:
    """The step leased to `owner`: as it is when it has it, else leased now if nobody does. Raises StaleFence."""
    if step.status == StepStatus.LEASED and step.lease_owner == owner:
        return step
    taken = await tx.one(
        Step,
        sa.update(steps)
        .where(_of(steps, scope), steps.c.id == step.id, steps.c.status == StepStatus.READY)
        .values(status=StepStatus.LEASED, lease_owner=owner, lease_until=until, fence=steps.c.fence + 1)
        .returning(*steps.c),
    )
    if taken is None:
        raise StaleFence("this step is in another worker's hands; its result is not taken")
    return taken


async def newest_job(tx: Tx, scope: Scope, certificate_id: str, holder_id: str, types: Sequence[JobType]) -> Job | None:
    """The newest job of these types of one key holder of a certificate."""
    return await tx.one(
        Job,
        sa.select(jobs)
        .where(
            _of(jobs, scope),
            jobs.c.certificate_id == certificate_id,
            jobs.c.holder_id == holder_id,
            jobs.c.type.in_(tuple(types)),
        )
        .order_by(jobs.c.created_at.desc(), jobs.c.id.desc())
        .limit(1),
    )


async def _release(tx: Tx, which: sa.ColumnElement[bool]) -> int:
    released = await tx.execute(
        sa.update(steps)
        .where(which)
        .values(status=StepStatus.READY, lease_owner="", lease_until=None)
        .returning(steps.c.agent_id)
    )
    agents = [row[0] for row in released]
    for agent_id in set(agents):
        tx.wake(agent_channel(agent_id) if agent_id else SERVER_CHANNEL)
    return len(agents)


async def held_step(tx: Tx, scope: Scope, step_id: str, fence: int) -> Step:
    """The step, if it is still leased under this fence; raises StaleFence."""
    step = await tx.one(Step, sa.select(steps).where(_held(scope, step_id, fence)))
    if step is None:
        raise StaleFence("this step has passed to another worker, or has ended; its result is not taken")
    return step


async def end_step(
    tx: Tx, scope: Scope, step: Step, status: StepStatus, now: datetime, *, kind: str = "", error: str = ""
) -> None:
    """End a leased step as done, failed or cancelled; raises StaleFence when the lease has passed on."""
    ended = await tx.execute(
        sa.update(steps)
        .where(_held(scope, step.id, step.fence))
        .values(status=status, ended_at=now, lease_owner="", lease_until=None, error_kind=kind, error=error)
    )
    if ended.rowcount != 1:
        raise StaleFence("this step has passed to another worker, or has ended; its result is not taken")


async def retry_step(tx: Tx, scope: Scope, step: Step, run_at: datetime, *, kind: str, error: str) -> None:
    """Give a leased step back, to be run again at `run_at`, with the reason it failed."""
    given = await tx.execute(
        sa.update(steps)
        .where(_held(scope, step.id, step.fence))
        .values(status=StepStatus.READY, run_at=run_at, lease_owner="", lease_until=None, error_kind=kind, error=error)
    )
    if given.rowcount != 1:
        raise StaleFence("this step has passed to another worker, or has ended; its result is not taken")


async def wait_step(tx: Tx, scope: Scope, step: Step, run_at: datetime, why: str) -> None:
    """Give a leased step back that goes on at `run_at`: it waits for somebody, and spends no attempt on it."""
    given = await tx.execute(
        sa.update(steps)
        .where(_held(scope, step.id, step.fence))
        .values(
            status=StepStatus.READY,
            run_at=run_at,
            attempts=max(step.attempts - 1, 0),
            lease_owner="",
            lease_until=None,
            error_kind="",
            error=why,
        )
    )
    if given.rowcount != 1:
        raise StaleFence("this step has passed to another worker, or has ended; its result is not taken")


async def hasten_steps(tx: Tx, scope: Scope, job_id: str, kind: StepKind, now: datetime) -> None:
    """What a waiting step of the job waited for has come: it is due now."""
    which = sa.and_(_of(steps, scope), steps.c.job_id == job_id, steps.c.kind == kind)
    await tx.execute(
        sa.update(steps)
        .where(which, steps.c.status == StepStatus.READY, steps.c.run_at > now, steps.c.error_kind == "")
        .values(run_at=now)
    )
    tx.wake(SERVER_CHANNEL)


async def cancel_steps(tx: Tx, scope: Scope, job_id: str, now: datetime) -> None:
    """Cancel every step of a job that has not ended."""
    await tx.execute(
        sa.update(steps)
        .where(_of(steps, scope), steps.c.job_id == job_id, steps.c.status.in_((StepStatus.READY, StepStatus.LEASED)))
        .values(status=StepStatus.CANCELLED, ended_at=now, lease_owner="", lease_until=None)
    )


async def jobs_by_id(tx: Tx, scope: Scope, job_ids: Sequence[str]) -> dict[str, Job]:
    """Many jobs at once, by id; those that are missing are missing."""
    if not job_ids:
        return {}
    which = jobs.c.id == job_ids[0] if len(job_ids) == 1 else jobs.c.id.in_(tuple(job_ids))
    return {job.id: job for job in await tx.all(Job, sa.select(jobs).where(_of(jobs, scope), which))}


async def visible_job(tx: Tx, scope: Scope, job_id: str) -> Job:
    """One job whose certificate the scope may see; NotFound otherwise, by the same one statement."""
    found = await tx.one(Job, sa.select(jobs).where(jobs_in_scope(scope), jobs.c.id == job_id))
    if found is None:
        raise NotFound(f"no job {job_id}")
    return found


async def move_job(tx: Tx, scope: Scope, job_id: str, status: JobStatus, now: datetime, **values: Any) -> None:
    """Guarded change of a job's status; ended jobs give up their live key. Raises Conflict when it may not move so."""
    changes: dict[str, Any] = {"status": status, **values}
    if status == JobStatus.RUNNING:
        changes["started_at"] = sa.func.coalesce(
            jobs.c.started_at, sa.bindparam(None, now, type_=jobs.c.started_at.type)
        )
    if status not in LIVE_JOB:
        changes |= {"completed_at": now, "live_key": None}
    allowed = {*before(JOB, status), str(status)} if status in LIVE_JOB else set(before(JOB, status))
    moved = await tx.execute(
        sa.update(jobs).where(_of(jobs, scope), jobs.c.id == job_id, is_one_of(jobs.c.status, allowed)).values(changes)
    )
    if moved.rowcount != 1:
        raise Conflict(f"the job has ended or may not become {status} from where it stands")
    if status == JobStatus.CANCELLED:
        # a stage that ended while this waited for its job has written the next step meanwhile: it is cancelled too
        await cancel_steps(tx, scope, job_id, now)
    if status in _COUNTED:
        tx.count(scope.tenant_id, _COUNTED[status])
    tx.wake(job_channel(job_id))


async def note_job(tx: Tx, scope: Scope, job_id: str, **values: Any) -> None:
    """Change facts of a job that are not its status (attempts, last error, verification)."""
    await tx.execute(sa.update(jobs).where(_of(jobs, scope), jobs.c.id == job_id).values(values))


async def live_jobs(tx: Tx, scope: Scope, certificate_id: str, types: Sequence[JobType]) -> list[Job]:
    """Jobs of a certificate that have not ended, of the given types."""
    return await tx.all(
        Job,
        sa.select(jobs).where(
            _of(jobs, scope),
            jobs.c.certificate_id == certificate_id,
            is_one_of(jobs.c.type, types),
            is_one_of(jobs.c.status, LIVE_JOB),
        ),
    )


async def live_jobs_of_agent(tx: Tx, scope: Scope, agent_id: str) -> list[Job]:
    """Jobs that an agent has a part in and that have not ended, the eldest first."""
    return await tx.all(
        Job,
        sa.select(jobs)
        .where(_of(jobs, scope), jobs.c.agent_id == agent_id, jobs.c.status.in_(tuple(LIVE_JOB)))
        .order_by(jobs.c.created_at, jobs.c.id),
    )


async def ended_badly(tx: Tx, scope: Scope, certificate_id: str, idempotency_prefix: str) -> int:
    """How many jobs of a certificate under this prefix failed or were cancelled: asking again then is a new attempt."""
    return int(
        await tx.scalar(
            sa.select(sa.func.count())
            .select_from(jobs)
            .where(
                _of(jobs, scope),
                jobs.c.certificate_id == certificate_id,
                jobs.c.idempotency_key.startswith(idempotency_prefix, autoescape=True),
                jobs.c.status.in_((JobStatus.FAILED, JobStatus.CANCELLED)),
            )
        )
    )


async def has_due(tx: Tx, scope: Scope, agent_id: str, now: datetime) -> bool:
    """Whether a step of this agent (or of the server, when empty) waits to be claimed: a look that locks nothing."""
    found = await tx.scalar(
        sa.select(steps.c.id)
        .where(
            _of(steps, scope), steps.c.status == StepStatus.READY, steps.c.agent_id == agent_id, steps.c.run_at <= now
        )
        .limit(1)
    )
    return found is not None


async def agents_with_due(tx: Tx, scope: Scope, now: datetime) -> list[str]:
    """The ids of the agents for whom a step waits to be claimed: a look that locks nothing."""
    rows = await tx.execute(
        sa.select(steps.c.agent_id)
        .where(_of(steps, scope), steps.c.status == StepStatus.READY, steps.c.agent_id != "", steps.c.run_at <= now)
        .distinct()
    )
    return [row[0] for row in rows]


def _of(table: sa.Table, scope: Scope) -> sa.ColumnElement[bool]:
    return table.c.tenant_id == scope.tenant_id


def _held(scope: Scope, step_id: str, fence: int) -> sa.ColumnElement[bool]:
    return sa.and_(
        steps.c.tenant_id == scope.tenant_id,
        steps.c.id == step_id,
        steps.c.fence == fence,
        steps.c.status == StepStatus.LEASED,
    )

"""Jobs and steps that go on alike, many at once: each kind of change by one statement, under the guards of `jobs`.

All of them change or none: one that has passed on, or has ended, is told by the same error as alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from certctl.core.errors import Conflict, StaleFence
from certctl.core.ids import new_id
from certctl.core.job import Job, Step
from certctl.core.scope import Scope
from certctl.core.status import JOB, LIVE_JOB, JobStatus, StepKind, StepStatus, before
from certctl.store import arrays
from certctl.store.jobs import SERVER_CHANNEL, claim
from certctl.store.schema import jobs, steps
from certctl.store.tx import Tx, as_struct
from certctl.store.wake import agent_channel, job_channel
from certctl.telemetry import metrics


async def end_steps(tx: Tx, scope: Scope, held: Sequence[Step], now: datetime) -> None:
    """End leased steps as done; StaleFence when the lease of one has passed on."""
    rows = [{"row_id": step.id, "its_fence": step.fence} for step in held]
    ended = await arrays.update(
        tx,
        steps,
        rows,
        match={"row_id": steps.c.id.name, "its_fence": steps.c.fence.name},
        alike=_done(now),
        where={"tenant_id": scope.tenant_id, "status": StepStatus.LEASED},
    )
    if ended != len(held):
        raise StaleFence("one of these steps has passed to another worker, or has ended; its result is not taken")


async def end_locked(tx: Tx, scope: Scope, held: Sequence[Step], now: datetime) -> None:
    """`end_steps` for steps that the caller has locked and found leased: it waits for what else is written."""
    over = _done(now) | {"tenant_id": scope.tenant_id}
    await arrays.change(tx, steps, [over | {"id": step.id} for step in held])


def _done(now: datetime) -> dict[str, Any]:
    """What a step says that has ended as it was to."""
    return {
        "status": StepStatus.DONE,
        "ended_at": now,
        "lease_owner": "",
        "lease_until": None,
        "error_kind": "",
        "error": "",
    }


async def run_locked(tx: Tx, scope: Scope, going: Sequence[Job]) -> None:
    """Write jobs that run from now on as they are, with their bodies; the caller has locked them."""
    rows = [
        {
            "tenant_id": scope.tenant_id,
            "id": job.id,
            "status": JobStatus.RUNNING,
            "started_at": job.started_at,
            "body": job.body,
            "last_error": job.last_error,
        }
        for job in going
    ]
    await arrays.change(tx, jobs, rows)
    for job in going:
        tx.wake(job_channel(job.id))


async def complete_locked(tx: Tx, scope: Scope, changed: Mapping[str, Mapping[str, Any]], now: datetime) -> None:
    """End jobs (by id, with what else is written of them) as completed, which the caller has locked and found running;
    the same columns of each.
    """
    over = {
        "tenant_id": scope.tenant_id,
        "status": JobStatus.COMPLETED,
        "completed_at": now,
        "live_key": None,
        "last_error": "",
    }
    await arrays.change(tx, jobs, [over | {"id": job_id} | dict(columns) for job_id, columns in changed.items()])
    tx.count(scope.tenant_id, metrics.JOB_COMPLETED, len(changed))
    for job_id in changed:
        tx.wake(job_channel(job_id))


async def move_live(
    tx: Tx, scope: Scope, status: JobStatus, moved: Sequence[Job], bodies: Mapping[str, dict[str, Any]], now: datetime
) -> None:
    """Guarded change of the status of jobs that go on, each with its new body (by id); Conflict when one has ended, or
    may not move so.
    """
    if status not in LIVE_JOB:
        raise ValueError(f"a job that becomes {status} has ended")
    begins = status == JobStatus.RUNNING
    rows: list[dict[str, Any]] = [{"row_id": job.id, "body": bodies[job.id]} for job in moved]
    if begins:
        rows = [row | {"started_at": job.started_at or now} for row, job in zip(rows, moved, strict=True)]
    changed = await arrays.update(
        tx,
        jobs,
        rows,
        match={"row_id": jobs.c.id.name},
        alike={"status": status},
        where={"tenant_id": scope.tenant_id},
        only=_may_become(status),
    )
    if changed != len(moved):
        raise Conflict(f"one of these jobs has ended or may not become {status} from where it stands")
    for job in moved:
        tx.wake(job_channel(job.id))


def _may_become(status: JobStatus) -> str:
    """The jobs that may become, or are, of a status that goes on: words of ours."""
    allowed = ", ".join(f"'{one}'" for one in sorted({*map(str, before(JOB, status)), str(status)}))
    return f"status IN ({allowed})"


async def run_all(tx: Tx, scope: Scope, taken: Sequence[Job], now: datetime) -> int:
    """Mark jobs as running whose step somebody has taken; how many could be. One that has ended stays as it is."""
    changed = await arrays.update(
        tx,
        jobs,
        [{"row_id": job.id, "started_at": job.started_at or now} for job in taken],
        match={"row_id": jobs.c.id.name},
        alike={"status": JobStatus.RUNNING},
        where={"tenant_id": scope.tenant_id},
        only=_may_become(JobStatus.RUNNING),
    )
    for job in taken:
        tx.wake(job_channel(job.id))
    return changed


_CLAIM = f"""
WITH chosen AS MATERIALIZED (
  SELECT due.id, asking.owner FROM unnest($2::text[], $3::text[]) AS asking(agent_id, owner)
  CROSS JOIN LATERAL (
    SELECT s.id FROM {steps.name} s
    WHERE s.tenant_id = $1 AND s.status = '{StepStatus.READY}' AND s.agent_id = asking.agent_id AND s.run_at <= $4
    ORDER BY s.run_at, s.id LIMIT $6 FOR UPDATE SKIP LOCKED
  ) due
)
UPDATE {steps.name} s
SET status = '{StepStatus.LEASED}', lease_owner = chosen.owner, lease_until = $5, fence = s.fence + 1,
  attempts = s.attempts + 1
FROM chosen WHERE s.tenant_id = $1 AND s.id = chosen.id AND s.status = '{StepStatus.READY}'
RETURNING {", ".join(f"s.{name}" for name in Step.__struct_fields__)}
"""


async def claim_for_agents(
    tx: Tx, scope: Scope, owners: Mapping[str, str], *, lease: timedelta, now: datetime, limit: int
) -> list[Step]:
    """`claim` for agents, each with the owner of its leases; `limit` steps of each at most."""
    if not owners:
        return []
    if tx.dialect != "postgresql":
        each = [
            await claim(tx, scope, owner=owner, lease=lease, now=now, limit=limit, agent_id=agent_id)
            for agent_id, owner in owners.items()
        ]
        return [step for some in each for step in some]
    values = (scope.tenant_id, list(owners), list(owners.values()), now, now + lease, limit)
    rows = (await tx.ask(_CLAIM, values)).mappings()
    return sorted((as_struct(Step, row) for row in rows), key=lambda step: (step.run_at, step.id))


async def begin_steps(tx: Tx, scope: Scope, of: Sequence[Job], kind: StepKind, now: datetime) -> None:
    """Write the next step of each job, for its agent or (without one) a server, and wake who runs it."""
    await arrays.insert(
        tx, steps, [_step(scope, job, kind, StepStatus.READY, now, agent_id=job.agent_id) for job in of]
    )
    for channel in {agent_channel(job.agent_id) if job.agent_id else SERVER_CHANNEL for job in of}:
        tx.wake(channel)


async def insert_done(tx: Tx, scope: Scope, of: Sequence[Job], kind: StepKind, now: datetime) -> None:
    """Write a step of each job that ended as it was written: what it stands for was done by this very commit."""
    await arrays.insert(tx, steps, [_step(scope, job, kind, StepStatus.DONE, now) for job in of])


def _step(
    scope: Scope, job: Job, kind: StepKind, status: StepStatus, now: datetime, *, agent_id: str = ""
) -> dict[str, Any]:
    is_done = status == StepStatus.DONE
    return {
        "tenant_id": scope.tenant_id,
        "id": new_id("step"),
        "job_id": job.id,
        "kind": kind,
        "status": status,
        "agent_id": agent_id,
        "run_at": now,
        "attempts": int(is_done),
        "fence": int(is_done),
        "created_at": now,
        "ended_at": now if is_done else None,
    }

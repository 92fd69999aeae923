"""Ended jobs that nobody needs any more, with their steps: found by when they ended, a part at a time, and deleted.

What a certificate's page or an open job needs stays however old it is: jobs that made or brought about a version that
is current, jobs whose parent or child has not ended, and whatever a running batch may have begun.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from certctl.core.scope import Scope
from certctl.core.status import LIVE_JOB, BatchStatus, JobStatus, StepStatus, VersionStatus
from certctl.store.among import any_of
from certctl.store.schema import batches, jobs, steps, versions
from certctl.store.tx import Tx

ENDED = tuple(status for status in JobStatus if status not in LIVE_JOB)
_OPEN_STEP = (StepStatus.READY, StepStatus.LEASED)


class Place(Struct, frozen=True):
    """Where a walk stands: the last job that was looked at."""

    completed_at: datetime
    id: str


class Part(Struct, frozen=True):
    """What became of one part: so many jobs and steps are gone; `last` is None at the end of the walk."""

    jobs: int
    steps: int
    last: Place | None


async def prune(tx: Tx, scope: Scope, before: datetime, after: Place | None, limit: int) -> Part:
    """Look at the next `limit` jobs that ended before a moment, and delete those that nobody needs."""
    c = jobs.c
    old = sa.and_(c.tenant_id == scope.tenant_id, c.completed_at < before, c.status.in_(ENDED))
    page = sa.select(c.id, c.completed_at, c.created_at, c.version_id, c.parent_id).where(old)
    if after is not None:
        there = sa.tuple_(sa.literal(after.completed_at, c.completed_at.type), sa.literal(after.id, c.id.type))
        page = page.where(sa.tuple_(c.completed_at, c.id) > there)
    seen = (await tx.execute(page.order_by(c.completed_at, c.id).limit(limit))).all()
    if not seen:
        return Part(0, 0, None)
    needed = await _needed(tx, scope, seen)
    doomed = [row.id for row in seen if row.id not in needed]
    gone, lost = 0, 0
    if doomed:
        await _keep_failures(tx, scope, doomed)
        of_them = sa.and_(steps.c.tenant_id == scope.tenant_id, any_of(steps.c.job_id, doomed))
        lost = (await tx.execute(sa.delete(steps).where(of_them))).rowcount
        gone = (await tx.execute(sa.delete(jobs).where(old, any_of(c.id, doomed)))).rowcount
    last = Place(seen[-1].completed_at, seen[-1].id) if len(seen) == limit else None
    return Part(int(gone), int(lost), last)


async def _keep_failures(tx: Tx, scope: Scope, doomed: Sequence[str]) -> None:
    """What failed of the jobs that a batch began, and of those that these began, stays counted with the batch: one that
    is halted may be resumed later than its jobs are kept. A job that nobody can find from its batch any more, since the
    one that began it goes, is counted now.
    """
    began, begun = jobs.alias("began"), jobs.alias("begun")
    above = sa.and_(batches.c.tenant_id == began.c.tenant_id, batches.c.id == began.c.parent_id)
    beneath = sa.and_(begun.c.tenant_id == began.c.tenant_id, begun.c.parent_id == began.c.id)
    own = sa.select(began.c.id, batches.c.id.label("batch_id")).join(batches, above)
    of_own = sa.select(begun.c.id, batches.c.id.label("batch_id")).join(began, beneath).join(batches, above)
    looks = (
        own.where(began.c.status == JobStatus.FAILED, any_of(began.c.id, doomed)),
        of_own.where(begun.c.status == JobStatus.FAILED, any_of(begun.c.id, doomed)),
        of_own.where(begun.c.status == JobStatus.FAILED, any_of(began.c.id, doomed)),
    )
    failed: dict[str, str] = {}
    for look in looks:
        found = await tx.execute(look.where(began.c.tenant_id == scope.tenant_id))
        failed |= {row.id: row.batch_id for row in found}
    for batch_id, number in sorted(Counter(failed.values()).items()):
        mine = (batches.c.tenant_id == scope.tenant_id, batches.c.id == batch_id)
        more = batches.c.jobs_failed_gone + number
        await tx.execute(sa.update(batches).where(*mine).values(jobs_failed_gone=more))


async def _needed(tx: Tx, scope: Scope, seen: Sequence[sa.Row[Any]]) -> set[str]:
    """Which of these jobs somebody needs still. Each question is asked of an index by the ids alone: as conditions of
    one DELETE, PostgreSQL read whole tables for each part.
    """
    ids = [row.id for row in seen]

    async def among(column: sa.Column[str], values: Sequence[str], *conditions: sa.ColumnElement[bool]) -> set[str]:
        if not values:
            return set()
        mine = column.table.c.tenant_id == scope.tenant_id
        found = await tx.execute(sa.select(column).where(mine, any_of(column, values), *conditions))
        return set(found.scalars())

    is_current, lives = versions.c.status == VersionStatus.CURRENT, jobs.c.status.in_(tuple(LIVE_JOB))
    needed = await among(versions.c.job_id, ids, is_current)
    needed |= await among(jobs.c.parent_id, ids, lives)
    needed |= await among(steps.c.job_id, ids, steps.c.status.in_(_OPEN_STEP))
    brought = await among(versions.c.id, [row.version_id for row in seen if row.version_id], is_current)
    parents = await among(jobs.c.id, [row.parent_id for row in seen if row.parent_id], lives)
    running = batches.c.status == BatchStatus.RUNNING
    oldest = sa.select(batches.c.created_at).where(batches.c.tenant_id == scope.tenant_id, running)
    since: datetime | None = await tx.scalar(oldest.order_by(batches.c.created_at).limit(1))
    for row in seen:
        if row.version_id in brought or row.parent_id in parents or (since is not None and row.created_at >= since):
            needed.add(row.id)
    return needed

"""What agents are to answer to challenges, by job: the agent serves exactly the rows of a job, and says so."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from msgspec import Struct

from certctl.core.scope import Scope
from certctl.core.status import LIVE_JOB
from certctl.store.schema import agents, host_answers, jobs
from certctl.store.tx import Tx


class HostAnswerRecord(Struct, frozen=True, kw_only=True):
    """One answer. `type` is the challenge's; `webroot` empty and `port` name where it is served."""

    tenant_id: str
    job_id: str
    token: str
    agent_id: str
    type: str
    name: str
    key_authorization: str
    webroot: str
    port: int
    shown_by: str
    created_at: datetime


async def put(tx: Tx, scope: Scope, record: HostAnswerRecord) -> bool:
    """Keep what is to be answered; False when it is kept already."""
    row = {name: getattr(record, name) for name in record.__struct_fields__} | {"tenant_id": scope.tenant_id}
    inserted = await tx.execute(tx.insert(host_answers).values(row).on_conflict_do_nothing())
    return inserted.rowcount == 1


async def of_job(tx: Tx, scope: Scope, job_id: str) -> list[HostAnswerRecord]:
    """All that is to be answered for a job."""
    return await tx.all(HostAnswerRecord, sa.select(host_answers).where(_of(scope, job_id)))


class Showing(Struct, frozen=True):
    """Which run of the agent said that it serves an answer, and which run it is in now."""

    shown_by: str
    boot_id: str
    agent_id: str


async def showing(tx: Tx, scope: Scope, job_id: str, token: str) -> Showing | None:
    """Who serves an answer; None when it is not wanted, or its agent is gone."""
    c = host_answers.c
    statement = (
        sa.select(c.shown_by, agents.c.boot_id, c.agent_id)
        .join(agents, sa.and_(agents.c.tenant_id == c.tenant_id, agents.c.id == c.agent_id))
        .where(_of(scope, job_id), c.token == token)
    )
    return await tx.one(Showing, statement)


async def mark_shown(tx: Tx, scope: Scope, job_id: str, tokens: tuple[str, ...], boot_id: str) -> None:
    """The agent's run `boot_id` serves these."""
    c = host_answers.c
    await tx.execute(sa.update(host_answers).where(_of(scope, job_id), c.token.in_(tokens)).values(shown_by=boot_id))


async def drop(tx: Tx, scope: Scope, job_id: str, token: str = "") -> list[str]:
    """Forget one answer of a job, or all; the agents that were to give them."""
    which = _of(scope, job_id)
    if token:
        which = sa.and_(which, host_answers.c.token == token)
    gone = await tx.execute(sa.delete(host_answers).where(which).returning(host_answers.c.agent_id))
    return sorted({row[0] for row in gone})


async def left_over(tx: Tx, scope: Scope, limit: int) -> list[str]:
    """Jobs that have ended and still have answers."""
    c = host_answers.c
    live = sa.select(jobs.c.id).where(jobs.c.tenant_id == scope.tenant_id, jobs.c.status.in_(tuple(LIVE_JOB)))
    statement = sa.select(c.job_id).where(c.tenant_id == scope.tenant_id, c.job_id.not_in(live)).distinct().limit(limit)
    return [row[0] for row in await tx.execute(statement)]


def _of(scope: Scope, job_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(host_answers.c.tenant_id == scope.tenant_id, host_answers.c.job_id == job_id)

"""Counts by SQL for what a scope may see: nothing is loaded to be counted, and days are days in UTC on both databases.

A day begins at 00:00:00 UTC and belongs to whoever ends, or is made, before the next one begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from certctl.core.scope import Scope
from certctl.core.status import AgentStatus, CertificateStatus, JobStatus, JobType
from certctl.core.target import AgentRecord
from certctl.store import catalogue, certificates, schema
from certctl.store.lists import Total
from certctl.store.tx import Tx

EXPIRES_SOON = timedelta(days=30)

# what is revoked or put away does not expire on anybody
IN_USE = tuple(set(CertificateStatus) - {CertificateStatus.REVOKED, CertificateStatus.ARCHIVED})


class Summary(Struct, frozen=True, kw_only=True):
    """How things stood at `as_of`. A certificate expires soon within 30 days; expired ones are told by their end, not
    by their status; agents are those that are not retired.
    """

    as_of: datetime
    total_certificates: int
    expiring_certificates: int
    expired_certificates: int
    revoked_certificates: int
    active_agents: int
    offline_agents: int
    total_agents: int
    pending_jobs: int
    awaiting_csr_jobs: int
    awaiting_approval_jobs: int
    running_jobs: int
    failed_jobs: int
    complete_jobs: int
    notifications_dead: int


class Ending(Struct, frozen=True, kw_only=True):
    """A certificate in use and its end."""

    id: str
    name: str
    expires_at: datetime


class DayCount(Struct, frozen=True):
    """How many on one day (UTC)."""

    day: date
    number: int


class JobDay(Struct, frozen=True):
    """How jobs ended on one day (UTC)."""

    day: date
    completed: int
    failed: int


async def summary(tx: Tx, scope: Scope, now: datetime) -> Summary:
    """Every count of the summary, as committed when each statement runs."""
    c = schema.certificates.c
    # counts and ranges of narrow indexes in place of a look at every row: grouping all of them costs four times as much
    visible = certificates.in_scope(scope)
    in_use = sa.and_(visible, c.status.in_(IN_USE))
    everything = _counted(visible)
    # asked together: each is quick, and the way to the database is not
    found = (
        await tx.execute(
            sa.select(
                # as the metric counts: what was put away is no more
                (everything - _counted(visible, c.status == CertificateStatus.ARCHIVED)).label("total"),
                _counted(visible, c.status == CertificateStatus.REVOKED).label("revoked"),
                _counted(in_use, c.expires_at <= now).label("ended"),
                _counted(in_use, c.expires_at > now, c.expires_at <= now + EXPIRES_SOON).label("soon"),
                _dead_notices(scope).label("dead"),
            )
        )
    ).one()
    agents = await _agents(tx, scope)
    jobs = await _jobs(tx, scope)
    return Summary(
        as_of=now,
        total_certificates=found.total,
        expiring_certificates=found.soon,
        expired_certificates=found.ended,
        revoked_certificates=found.revoked,
        active_agents=agents.get(AgentStatus.ONLINE, 0),
        offline_agents=agents.get(AgentStatus.OFFLINE, 0),
        total_agents=sum(agents.values()),
        pending_jobs=jobs.get(JobStatus.PENDING, 0),
        awaiting_csr_jobs=jobs.get(JobStatus.AWAITING_CSR, 0),
        awaiting_approval_jobs=jobs.get(JobStatus.AWAITING_APPROVAL, 0),
        running_jobs=jobs.get(JobStatus.RUNNING, 0),
        failed_jobs=jobs.get(JobStatus.FAILED, 0),
        complete_jobs=jobs.get(JobStatus.COMPLETED, 0),
        notifications_dead=found.dead,
    )


async def soonest(tx: Tx, scope: Scope, until: datetime, limit: int) -> list[Ending]:
    """Certificates in use that end before `until`, the first to end first; those that have ended are among them."""
    c = schema.certificates.c
    found = (
        sa.select(c.id, c.name, c.expires_at)
        .where(certificates.in_scope(scope), c.status.in_(IN_USE), c.expires_at <= until)
        .order_by(c.expires_at, c.id)
    )
    return await tx.all(Ending, found.limit(limit))


async def expirations(tx: Tx, scope: Scope, now: datetime, days: int) -> list[DayCount]:
    """How many certificates in use end on each of `days` days, today first; what has ended today counts today."""
    c = schema.certificates.c
    first = now.astimezone(UTC).date()
    day = day_of(tx, c.expires_at)
    rows = await tx.execute(
        sa.select(day.label("day"), sa.func.count().label("number"))
        .where(certificates.in_scope(scope), c.status.in_(IN_USE), *_between(c.expires_at, first, days))
        .group_by(day)
    )
    found = {row.day: row.number for row in rows}
    return [DayCount(each, found.get(each.isoformat(), 0)) for each in _days(first, days)]


async def issuances(tx: Tx, scope: Scope, now: datetime, days: int) -> list[DayCount]:
    """How many versions were signed on each of the last `days` days, today last."""
    c = schema.versions.c
    first = now.astimezone(UTC).date() - timedelta(days=days - 1)
    day = day_of(tx, c.created_at)
    rows = await tx.execute(
        sa.select(day.label("day"), sa.func.count().label("number"))
        .where(*_of_visible(scope, schema.versions), *_between(c.created_at, first, days))
        .group_by(day)
    )
    found = {row.day: row.number for row in rows}
    return [DayCount(each, found.get(each.isoformat(), 0)) for each in _days(first, days)]


async def ended_jobs(tx: Tx, scope: Scope, now: datetime, days: int) -> list[JobDay]:
    """How jobs ended on each of the last `days` days, today last; cancelled ones are neither."""
    c = schema.jobs.c
    first = now.astimezone(UTC).date() - timedelta(days=days - 1)
    day = day_of(tx, c.completed_at)
    rows = await tx.execute(
        sa.select(
            day.label("day"),
            sa.func.count(sa.case((c.status == JobStatus.COMPLETED, 1))).label("completed"),
            sa.func.count(sa.case((c.status == JobStatus.FAILED, 1))).label("failed"),
        )
        .where(*_of_visible(scope, schema.jobs), *_between(c.completed_at, first, days))
        .group_by(day)
    )
    found = {row.day: JobDay(date.fromisoformat(row.day), row.completed, row.failed) for row in rows}
    return [found.get(each.isoformat(), JobDay(each, 0, 0)) for each in _days(first, days)]


async def _agents(tx: Tx, scope: Scope) -> dict[str, int]:
    c = schema.agents.c
    return await _by_status(tx, c.status, catalogue.in_scope(AgentRecord, scope), c.retired_at.is_(None))


async def _jobs(tx: Tx, scope: Scope) -> dict[str, int]:
    c = schema.jobs.c
    if _is_whole(scope):
        return await _all_jobs(tx, scope)
    # SQLite would walk the whole index of statuses to spare itself a sort: a part of the jobs is found by certificate
    status = c.status.concat(sa.literal_column("''"))
    return await _by_status(tx, status, *_of_visible(scope, schema.jobs))


async def _all_jobs(tx: Tx, scope: Scope) -> dict[str, int]:
    """Jobs by status, in one statement: of the great many that are completed only their number is found, as what the
    others leave of all.
    """
    c = schema.jobs.c
    mine = c.tenant_id == scope.tenant_id
    others = tuple(str(status) for status in JobStatus if status != JobStatus.COMPLETED)
    everything = (
        sa.select(sa.literal("").label("status"), sa.func.count().label("number")).select_from(schema.jobs).where(mine)
    )
    apart = sa.select(c.status, sa.func.count()).where(mine, c.status.in_(others)).group_by(c.status)
    found = {row.status: row.number for row in await tx.execute(sa.union_all(everything, apart))}
    total = found.pop("")
    return found | {JobStatus.COMPLETED: total - sum(found.values())}


async def _by_status(tx: Tx, status: sa.ColumnElement[Any], *conditions: sa.ColumnElement[bool]) -> dict[str, int]:
    counted = sa.select(status.label("status"), sa.func.count().label("number"))
    return {row.status: row.number for row in await tx.execute(counted.where(*conditions).group_by(status))}


async def has_more_than(tx: Tx, scope: Scope, number: int) -> bool:
    """Whether a scope sees more certificates than so many; looks at no more than that."""
    some = sa.select(schema.certificates.c.id).where(certificates.in_scope(scope)).limit(number + 1).subquery()
    return int(await tx.scalar(sa.select(sa.func.count()).select_from(some))) > number


async def by_status_up_to(
    tx: Tx, scope: Scope, most: int, among: Sequence[CertificateStatus] = tuple(CertificateStatus)
) -> dict[CertificateStatus, Total]:
    """How many certificates read so, each status counted up to `most` and no further: a tab that says so costs the same
    in an inventory of any size.
    """
    if not among:
        return {}
    c, visible = schema.certificates.c, certificates.in_scope(scope)
    parts = []
    for status in among:
        some = sa.select(c.id).where(visible, c.status == status).limit(most + 1).subquery()
        parts.append(sa.select(sa.func.count()).select_from(some).scalar_subquery().label(status.name))
    found = (await tx.execute(sa.select(*parts))).one()
    return {
        status: Total(min(number, most), estimated=number > most) for status, number in zip(among, found, strict=True)
    }


def _counted(*conditions: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
    return sa.select(sa.func.count()).select_from(schema.certificates).where(*conditions).scalar_subquery()


def _dead_notices(scope: Scope) -> sa.ScalarSelect[int]:
    table = schema.notifications
    counted = sa.select(sa.func.count()).select_from(table)
    return counted.where(*_of_visible(scope, table), table.c.status == "dead").scalar_subquery()


def _of_visible(scope: Scope, table: sa.Table) -> list[sa.ColumnElement[bool]]:
    """The rows of a table whose certificate the scope may see; the whole tenant needs no look at certificates."""
    conditions: list[sa.ColumnElement[bool]] = [table.c.tenant_id == scope.tenant_id]
    if not _is_whole(scope):
        visible = sa.select(schema.certificates.c.id).where(certificates.in_scope(scope))
        conditions.append(table.c.certificate_id.in_(visible))
    return conditions


def _is_whole(scope: Scope) -> bool:
    return scope == Scope.whole(scope.tenant_id)


def day_of(tx: Tx, column: sa.ColumnElement[datetime]) -> sa.ColumnElement[str]:
    """The day of a moment in UTC as `2026-11-26`, whatever the database's own time zone is."""
    if tx.dialect == "postgresql":
        return sa.func.to_char(sa.func.timezone("UTC", column), "YYYY-MM-DD", type_=sa.String())
    return sa.func.strftime("%Y-%m-%d", column, type_=sa.String())


def _between(column: sa.ColumnElement[datetime], first: date, days: int) -> tuple[sa.ColumnElement[bool], ...]:
    begin = datetime.combine(first, time(), UTC)
    return column >= begin, column < begin + timedelta(days=days)


def _days(first: date, days: int) -> list[date]:
    return [first + timedelta(days=number) for number in range(days)]


class IssuerFailures(Struct, frozen=True):
    """How many issuing jobs of one issuer ended in failure, and when the last one did."""

    number: int = 0
    last_at: datetime | None = None


async def issuer_failures(
    tx: Tx, scope: Scope, issuer_ids: Sequence[str], since: datetime
) -> dict[str, IssuerFailures]:
    """Failed issuances and renewals of these issuers since a moment, among the certificates that a scope may see."""
    jobs, owned = schema.jobs.c, schema.certificates.c
    together = sa.and_(owned.tenant_id == jobs.tenant_id, owned.id == jobs.certificate_id)
    rows = await tx.execute(
        sa.select(owned.issuer_id, sa.func.count().label("number"), sa.func.max(jobs.completed_at).label("last_at"))
        .select_from(schema.jobs.join(schema.certificates, together))
        .where(
            jobs.tenant_id == scope.tenant_id,
            jobs.status == JobStatus.FAILED,
            jobs.completed_at > since,
            jobs.type.in_((JobType.ISSUANCE, JobType.RENEWAL)),
            certificates.in_scope(scope),
            owned.issuer_id.in_(tuple(issuer_ids)),
        )
        .group_by(owned.issuer_id)
    )
    return {row.issuer_id: IssuerFailures(row.number, row.last_at) for row in rows}

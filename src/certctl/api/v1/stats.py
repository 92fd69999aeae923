"""/api/v1/stats: counts for overviews, by SQL, for what the caller may see."""

from __future__ import annotations

from typing import Annotated

from litestar import get
from litestar.params import QueryParameter

from certctl.api.guard import needs
from certctl.api.request import ApiRequest
from certctl.api.shown import shown
from certctl.client.models.stats import ExpirationDay, IssuanceDay, JobTrendDay, SummaryView
from certctl.client.models.system import StatusCount
from certctl.core.errors import Malformed, Violation
from certctl.store import stats, views

DEFAULT_DAYS = 30
MOST_DAYS = 365

Days = Annotated[int, QueryParameter(description="1 to 365 days (UTC)")]


def _check(days: int) -> int:
    if not 1 <= days <= MOST_DAYS:
        message = f"days must be 1 to {MOST_DAYS}, not {days}"
        raise Malformed(message, violations=(Violation("days_out_of_range", message, "days"),))
    return days


@get("/stats/summary", opt=needs("stats.read"), summary="How things stand")
async def show_summary(request: ApiRequest) -> SummaryView:
    """At most two seconds old; `as_of` says of when."""
    found = await request.door.summaries.of(request.ctx, request.visible)
    return shown(SummaryView, found, completed_at=found.as_of)


@get("/stats/certificates-by-status", opt=needs("stats.read"), summary="Certificates by status")
async def count_certificates(request: ApiRequest) -> list[StatusCount]:
    """Exact counts of what the caller may see."""
    async with request.ctx.database.read() as tx:
        found = await views.certificates_by_status(tx, request.visible)
    return [StatusCount(status=row.status, count=row.number) for row in found]


@get("/stats/expiration-timeline", opt=needs("stats.read"), summary="Certificates by the day they end")
async def show_expirations(request: ApiRequest, days: Days = DEFAULT_DAYS) -> list[ExpirationDay]:
    """Each of the next days, today first; revoked and archived certificates do not count."""
    _check(days)
    async with request.ctx.database.read() as tx:
        found = await stats.expirations(tx, request.visible, request.ctx.now(), days)
    return [ExpirationDay(date=row.day, count=row.number) for row in found]


@get("/stats/job-trends", opt=needs("stats.read"), summary="How jobs ended, day by day")
async def show_job_trends(request: ApiRequest, days: Days = DEFAULT_DAYS) -> list[JobTrendDay]:
    """Each of the last days, today last; cancelled jobs do not count."""
    _check(days)
    async with request.ctx.database.read() as tx:
        found = await stats.ended_jobs(tx, request.visible, request.ctx.now(), days)
    return [
        JobTrendDay(
            date=row.day,
            completed_count=row.completed,
            failed_count=row.failed,
            success_rate=round(100 * row.completed / ended, 2) if (ended := row.completed + row.failed) else None,
        )
        for row in found
    ]


@get("/stats/issuance-rate", opt=needs("stats.read"), summary="Versions signed, day by day")
async def show_issuances(request: ApiRequest, days: Days = DEFAULT_DAYS) -> list[IssuanceDay]:
    """Each of the last days, today last."""
    _check(days)
    async with request.ctx.database.read() as tx:
        found = await stats.issuances(tx, request.visible, request.ctx.now(), days)
    return [IssuanceDay(date=row.day, issued_count=row.number) for row in found]


HANDLERS = (show_summary, count_certificates, show_expirations, show_job_trends, show_issuances)

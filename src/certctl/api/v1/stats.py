"""/api/v1/stats: counts for overviews, by SQL, for what the caller may see."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated

from litestar import get
from litestar.params import QueryParameter

from certctl.api.guard import needs
from certctl.api.request import ApiRequest
from certctl.api.shown import shown
from certctl.client.models.stats import (
    ExpirationDay,
    ForecastCollisions,
    ForecastLimit,
    ForecastMonth,
    ForecastQueue,
    IssuanceDay,
    JobTrendDay,
    RenewalForecast,
    SummaryView,
)
from certctl.client.models.system import StatusCount
from certctl.control import forecast
from certctl.core.errors import Malformed, Violation
from certctl.policy.forecast import HOUR, PUBLIC_LIMITS, Budget, Collision
from certctl.store import stats, views

DEFAULT_DAYS = 30
MOST_DAYS = 365

Days = Annotated[int, QueryParameter(description="1 to 365 days (UTC)")]


MOST_FORECAST = timedelta(days=3653)
Until = Annotated[date | None, QueryParameter(description="the last day; the end of 2030 if none is given")]
Limited = Annotated[
    str,
    QueryParameter(
        description="ids of issuers that the limits of public trust bind, by commas; * for all, kind ACME if none"
    ),
]
Orders = Annotated[int, QueryParameter(ge=0, le=10**9, description="the budget of each of them: so many orders")]
PerHours = Annotated[int, QueryParameter(ge=0, le=24 * 366, description="within so many hours")]


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
    found = await request.door.reads.ask(request.known, lambda tx, _: views.certificates_by_status(tx, request.visible))
    return [StatusCount(status=row.status, count=row.number) for row in found]


@get("/stats/expiration-timeline", opt=needs("stats.read"), summary="Certificates by the day they end")
async def show_expirations(request: ApiRequest, days: Days = DEFAULT_DAYS) -> list[ExpirationDay]:
    """Each of the next days, today first; revoked and archived certificates do not count."""
    _check(days)
    found = await request.door.reads.ask(
        request.known, lambda tx, _: stats.expirations(tx, request.visible, request.ctx.now(), days)
    )
    return [ExpirationDay(date=row.day, count=row.number) for row in found]


@get("/stats/job-trends", opt=needs("stats.read"), summary="How jobs ended, day by day")
async def show_job_trends(request: ApiRequest, days: Days = DEFAULT_DAYS) -> list[JobTrendDay]:
    """Each of the last days, today last; cancelled jobs do not count."""
    _check(days)
    found = await request.door.reads.ask(
        request.known, lambda tx, _: stats.ended_jobs(tx, request.visible, request.ctx.now(), days)
    )
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
    found = await request.door.reads.ask(
        request.known, lambda tx, _: stats.issuances(tx, request.visible, request.ctx.now(), days)
    )
    return [IssuanceDay(date=row.day, issued_count=row.number) for row in found]


@get("/stats/renewal-forecast", opt=needs("stats.read"), summary="Renewals to come, for years")
async def show_forecast(
    request: ApiRequest, until: Until = None, limited: Limited = "", orders: Orders = 0, per_hours: PerHours = 0
) -> RenewalForecast:
    """Of what the caller may see, as it stands, under the limits of public trust to come (CA/B Forum SC-081v3)."""
    now = request.ctx.now()
    asked = forecast.Asked(
        until=_end_of(until, now),
        limited=frozenset(filter(None, limited.split(","))) if limited else None,
        budget=_budget(orders, per_hours),
    )
    found = await forecast.foresee(request.ctx, request.visible, asked)
    return RenewalForecast(
        as_of=found.as_of,
        certificates=found.certificates,
        limited_issuers=found.limited_issuers,
        limits=[ForecastLimit(date=one.since.date(), days=one.longest.days) for one in PUBLIC_LIMITS],
        months=[
            ForecastMonth(
                date=one.begins_at.date(),
                renewals=one.renewals,
                busiest_hour_renewals=one.busiest_hour,
                busiest_hour_at=one.busiest_at,
                busiest_hour_unspread=one.busiest_herd,
            )
            for one in found.months
        ],
        collisions=[
            ForecastCollisions(
                issuer_id=one.issuer_id, spread=_queue(one.spread, found.as_of), unspread=_queue(one.herd, found.as_of)
            )
            for one in found.clashes
        ],
    )


def _end_of(until: date | None, now: datetime) -> datetime:
    if until is None:
        return forecast.default_end(now)
    if not now.date() <= until <= (now + MOST_FORECAST).date():
        message = f"until must be a day from today on, and at most {MOST_FORECAST.days // 365} years ahead"
        raise Malformed(message, violations=(Violation("until_out_of_range", message, "until"),))
    return datetime.combine(until, time(), UTC) + timedelta(days=1)


def _budget(orders: int, per_hours: int) -> Budget | None:
    if bool(orders) != bool(per_hours):
        message = "a budget is `orders` within `per_hours`: give both"
        raise Malformed(message, violations=(Violation("budget_incomplete", message, "orders"),))
    return Budget(orders, per_hours) if orders else None


def _queue(found: Collision, began: datetime) -> ForecastQueue:
    return ForecastQueue(
        hours_over=found.hours_over,
        first_at=began + found.first_hour * HOUR if found.hours_over else None,
        most_waiting=math.ceil(found.most_waiting),
        longest_wait_hours=found.longest_wait if found.longest_wait >= 0 else None,
    )


HANDLERS = (show_summary, count_certificates, show_expirations, show_job_trends, show_issuances, show_forecast)

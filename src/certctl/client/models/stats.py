"""Counts for overviews: the reference product's fields, and a few of ours. Days are days in UTC."""

from __future__ import annotations

from datetime import date, datetime

from msgspec import Struct


class SummaryView(Struct, frozen=True, kw_only=True):
    """How things stood at `as_of` (`completed_at` says the same), at most two seconds before it was asked for.

    Expiring: in use and ends within 30 days. Expired: in use and has ended. Each count of jobs is that of one status.
    """

    as_of: datetime
    completed_at: datetime
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


class ExpirationDay(Struct, frozen=True, kw_only=True):
    """How many certificates in use end on one day."""

    date: date
    count: int


class JobTrendDay(Struct, frozen=True, kw_only=True):
    """How jobs ended on one day. `success_rate` is a percentage; null on a day when none ended."""

    date: date
    completed_count: int
    failed_count: int
    success_rate: float | None


class IssuanceDay(Struct, frozen=True, kw_only=True):
    """How many versions were signed on one day, renewals too."""

    date: date
    issued_count: int


class ForecastMonth(Struct, frozen=True, kw_only=True):
    """One month: how many renewals, how many in its busiest hour, and in that of a fleet that spreads nothing."""

    date: date
    renewals: int
    busiest_hour_renewals: int
    busiest_hour_at: datetime
    busiest_hour_unspread: int


class ForecastLimit(Struct, frozen=True, kw_only=True):
    """From this day on a publicly trusted certificate may live so many days at most."""

    date: date
    days: int


class ForecastQueue(Struct, frozen=True, kw_only=True):
    """In how many hours renewals have to wait for the budget, since when (null: never), and how many at most.

    `longest_wait_hours` is null when some wait beyond the end.
    """

    hours_over: int
    first_at: datetime | None
    most_waiting: int
    longest_wait_hours: int | None


class ForecastCollisions(Struct, frozen=True, kw_only=True):
    """One issuer's renewals beside its budget, `spread` as certctl renews, `unspread` as a fleet that comes at once."""

    issuer_id: str
    spread: ForecastQueue
    unspread: ForecastQueue


class RenewalForecast(Struct, frozen=True, kw_only=True):
    """The renewals to come, month by month. `limited_issuers` are those that the limits of public trust bind."""

    as_of: datetime
    certificates: int
    limited_issuers: list[str]
    limits: list[ForecastLimit]
    months: list[ForecastMonth]
    collisions: list[ForecastCollisions]

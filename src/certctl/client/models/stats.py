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

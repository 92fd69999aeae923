"""The fleet's figures as JSON, in the reference product's shape."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct


class Gauges(Struct, frozen=True, kw_only=True):
    """What is, at this moment."""

    certificate_total: int
    certificate_active: int
    certificate_expiring_soon: int
    certificate_expired: int
    certificate_revoked: int
    agent_total: int
    agent_online: int
    job_pending: int


class Counters(Struct, frozen=True, kw_only=True):
    """What has ended since the installation began; never falls."""

    job_completed_total: int
    job_failed_total: int
    notifications_dead_total: int


class Uptime(Struct, frozen=True, kw_only=True):
    """Of the process that answers."""

    uptime_seconds: float
    server_started: datetime
    measured_at: datetime


class MetricsView(Struct, frozen=True, kw_only=True):
    """The figures of the whole fleet."""

    gauge: Gauges
    counter: Counters
    uptime: Uptime

"""CRLs as they stand: the reference product's fields, and what it does not have: shards, deltas, what waits."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct


class CrlEventView(Struct, frozen=True, kw_only=True):
    """One CRL that was published; one that could not be made is in the server's log."""

    started_at: datetime
    duration_ms: int
    succeeded: bool
    crl_number: int
    revoked_count: int
    error: str


class CrlPartView(Struct, frozen=True, kw_only=True):
    """The newest of a shard (from 1 on) or a delta (of the whole: shard 0); `base_number` of a delta alone."""

    shard: int
    is_delta: bool
    crl_number: int
    base_number: int
    this_update: datetime
    next_update: datetime
    revoked_count: int


class CrlView(Struct, frozen=True, kw_only=True):
    """The newest full CRL of a CA generation.

    `pending`: so many revocations that OCSP tells are not on it yet. `is_stale`: there are some, or it has ended.
    """

    issuer_id: str
    ca_certificate_id: str
    cache_present: bool
    crl_number: int
    this_update: datetime | None
    next_update: datetime | None
    generated_at: datetime | None
    generation_duration_ms: int
    revoked_count: int
    pending: int
    is_stale: bool
    shards: int
    deltas: bool
    parts: list[CrlPartView]
    recent_events: list[CrlEventView]


class CrlsAnswer(Struct, frozen=True, kw_only=True):
    """One row a CA generation that is not retired."""

    cache_rows: list[CrlView]
    row_count: int
    generated_at: datetime

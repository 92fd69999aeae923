"""What people are told: channels that operators configure, and the notifications of the outbox."""

from __future__ import annotations

import hashlib
from datetime import datetime
from enum import StrEnum
from typing import Any

from msgspec import Struct


class Tier(StrEnum):
    """How much something matters, the least first."""

    INFORMATIONAL = "informational"
    WARNING = "warning"
    CRITICAL = "critical"


class NotificationStatus(StrEnum):
    """What became of a notification. `failed` is tried again; `dead` was given up; `skipped` went to nobody, and says
    why; `read` was sent and somebody says so.
    """

    PENDING = "pending"
    SENT = "sent"
    FAILED = "failed"
    DEAD = "dead"
    READ = "read"
    SKIPPED = "skipped"


RESOLVE = "resolve"
EXPIRY = "expiry"
DIGEST = "Digest"
_LONGEST_KEY = 140


def incident(kind: str, *ids: str) -> str:
    """The name of what notices are about; of ids that are too long together, their hash."""
    name = "/".join((kind, *ids))
    return name if len(name) <= _LONGEST_KEY else f"{kind}/{hashlib.sha256(name.encode()).hexdigest()}"


class Channel(Struct, frozen=True, kw_only=True):
    """Where notifications go. `config` has no secrets; those are in `sealed_config`, under `secrets` are their names.

    `address` is where it leads, for people. `min_severity` is the least that it takes where no policy names it.
    """

    tenant_id: str
    id: str
    name: str
    type: str
    config: dict[str, Any]
    secrets: list[str]
    sealed_config: bytes | None
    address: str
    enabled: bool
    min_severity: str
    last_tested_at: datetime | None
    test_status: str
    source: str
    created_at: datetime
    updated_at: datetime
    row_version: int = 1


class Notification(Struct, frozen=True, kw_only=True):
    """One message for one channel; with no channel yet it waits to be routed. `action` is empty or `resolve`."""

    tenant_id: str
    id: str
    type: str
    certificate_id: str
    channel: str
    channel_id: str
    recipient: str
    severity: str
    subject: str
    message: str
    html: str
    incident: str
    action: str
    status: str
    dedup_key: str
    retry_count: int
    next_retry_at: datetime | None
    last_error: str
    sent_at: datetime | None
    read_at: datetime | None
    queued_at: datetime | None
    lease_owner: str
    created_at: datetime

"""What an audit entry is as bytes, and to which of three categories it belongs: one truth for server and verifier.

An entry is one JSON object, keys sorted, no spaces, UTF-8, times in UTC with microseconds. Its hash is what is sealed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from msgspec import Struct

from certctl.core.events import EventType

SEALED_FIELDS = (
    "action",
    "actor",
    "actor_type",
    "address",
    "details",
    "id",
    "request_id",
    "resource_id",
    "resource_type",
    "timestamp",
)


class Category(StrEnum):
    """The reference product's three."""

    LIFECYCLE = "cert_lifecycle"
    AUTH = "auth"
    CONFIG = "config"


AUTH_EVENTS = frozenset(
    {
        EventType.BOOTSTRAP_USED,
        EventType.ROLE_ASSIGNED,
        EventType.ROLE_REVOKED,
        EventType.KEY_ROTATED,
        EventType.SESSION_BEGUN,
        EventType.SESSION_ENDED,
        EventType.BREAKGLASS_REFUSED,
        EventType.ENROLMENT_TOKEN_CREATED,
        EventType.ACME_ACCOUNT_CREATED,
        EventType.ACME_ACCOUNT_UPDATED,
        EventType.ACME_ACCOUNT_DEACTIVATED,
        EventType.ACME_ACCOUNT_KEY_ROLLED,
        EventType.CALL_DENIED,
        EventType.AUDIT_EXPORTED,
    }
)
CONFIG_EVENTS = frozenset(
    {
        EventType.CONFIG_CREATED,
        EventType.CONFIG_UPDATED,
        EventType.CONFIG_DELETED,
        EventType.CONFIG_KEY_ROTATED,
        EventType.POLICY_EVALUATED,
    }
)


def category_of(event_type: str) -> Category:
    """Where an event belongs."""
    if event_type in AUTH_EVENTS:
        return Category.AUTH
    return Category.CONFIG if event_type in CONFIG_EVENTS else Category.LIFECYCLE


class Entry(Struct, frozen=True, kw_only=True):
    """What is sealed of one event."""

    id: str
    timestamp: datetime
    action: str
    actor: str
    actor_type: str
    resource_type: str
    resource_id: str
    request_id: str
    address: str
    details: Mapping[str, Any]

    def as_bytes(self) -> bytes:
        """The bytes whose hash is sealed."""
        told = {name: getattr(self, name) for name in SEALED_FIELDS}
        told["timestamp"] = f"{self.timestamp.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        return json.dumps(told, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode(
            "utf-8", "surrogatepass"
        )

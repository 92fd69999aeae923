"""Notifications and the channels they go to: the reference product's fields, and ours."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from msgspec import Struct

from certctl.client.models.bounds import Id, Text


class NotificationView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message for one channel. `failed` is tried again at `next_retry_at`, `dead` was given up, `skipped` went to
    nobody; `last_error` says why. `action` is `resolve` for a message that says that something is over.
    """

    id: str
    type: str
    channel: str
    recipient: str
    message: str
    status: str
    severity: str
    retry_count: int
    created_at: datetime
    channel_id: str = ""
    certificate_id: str = ""
    action: str = ""
    sent_at: datetime | None = None
    read_at: datetime | None = None
    next_retry_at: datetime | None = None
    error: str = ""
    last_error: str = ""


class ChannelView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where notifications go. `secrets` names the secret fields of `config` that are set; their values are never shown.

    `source` is `env` for those that the server's environment names. `min_severity` is the least that it takes where no
    renewal policy names its kind.
    """

    id: str
    name: str
    type: str
    config: dict[str, Any]
    secrets: list[str]
    address: str
    enabled: bool
    min_severity: str
    source: str
    test_status: str
    created_at: datetime
    updated_at: datetime
    last_tested_at: datetime | None = None
    row_version: int = 0


class ChannelWrite(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a caller may say of a channel; what is absent on an update stays. A `config` that is given replaces the
    whole, but for secrets that it does not name; when the address changes, they have to be given anew.
    """

    read_only: ClassVar[frozenset[str]] = frozenset(
        {
            "row_version",
            "created_at",
            "updated_at",
            "last_tested_at",
            "test_status",
            "source",
            "secrets",
            "address",
        }
    )
    cleared: ClassVar[Mapping[str, Any]] = {"config": {}}

    id: Id | None = None
    name: Text | None = None
    type: Text | None = None
    config: dict[str, Any] | None = None
    enabled: bool | None = None
    min_severity: Text | None = None


class ChannelKind(Struct, frozen=True, kw_only=True):
    """A kind of channel and the JSON Schema of its configuration; `secrets` are its fields that are written only."""

    type: str
    config_schema: dict[str, Any]
    secrets: list[str]


class ChannelKindsAnswer(Struct, frozen=True, kw_only=True):
    """Every kind there is."""

    kinds: list[ChannelKind]

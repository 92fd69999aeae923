"""Targets: servers that take certificates, each reached through one agent."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from msgspec import Struct

from certctl.client.models.bounds import Id, Text


class TargetView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One target; secrets of its configuration are never shown."""

    id: str
    name: str
    type: str
    agent_id: str
    config: dict[str, Any]
    enabled: bool
    created_at: datetime
    updated_at: datetime
    last_tested_at: datetime | None = None
    test_status: str = ""
    source: str = ""
    retired_at: datetime | None = None
    retired_reason: str = ""
    row_version: int = 0


class TargetWrite(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a caller may say of a target; what is absent on an update stays."""

    # what null clears in a merge patch, and to what
    cleared: ClassVar[Mapping[str, Any]] = {"config": {}, "agent_id": ""}
    read_only: ClassVar[frozenset[str]] = frozenset(
        {
            "row_version",
            "created_at",
            "updated_at",
            "last_tested_at",
            "test_status",
            "source",
            "retired_at",
            "retired_reason",
        }
    )

    id: Id | None = None
    name: Text | None = None
    type: Text | None = None
    agent_id: Id | None = None
    config: dict[str, Any] | None = None
    enabled: bool | None = None


class TestAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a test went: `success`, `failed` or (issuers) `connection_successful`."""

    status: str
    message: str = ""

"""Issuers: the CAs that may be asked."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from msgspec import Struct

from certctl.client.models.bounds import Id, Text


class IssuerView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One issuer; secrets of its configuration are never shown."""

    id: str
    name: str
    type: str
    config: dict[str, Any]
    enabled: bool
    created_at: datetime
    updated_at: datetime
    last_tested_at: datetime | None = None
    test_status: str = ""
    source: str = ""
    hierarchy_mode: str = ""
    row_version: int = 0
    # of issuances and renewals that ended in failure within 24 hours, among the jobs that the caller may see
    recent_failures: int = 0
    last_failure_at: datetime | None = None


class IssuerWrite(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a caller may say of an issuer; what is absent on an update stays."""

    # what null clears in a merge patch, and to what
    cleared: ClassVar[Mapping[str, Any]] = {"config": {}}
    read_only: ClassVar[frozenset[str]] = frozenset(
        {"row_version", "created_at", "updated_at", "last_tested_at", "test_status", "source", "hierarchy_mode"}
        | {"recent_failures", "last_failure_at"}
    )

    id: Id | None = None
    name: Text | None = None
    type: Text | None = None
    config: dict[str, Any] | None = None
    enabled: bool | None = None

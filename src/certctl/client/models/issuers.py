"""Issuers: the CAs that may be asked."""

from __future__ import annotations

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


class IssuerWrite(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a caller may say of an issuer; what is absent on an update stays."""

    read_only: ClassVar[frozenset[str]] = frozenset(
        {"created_at", "updated_at", "last_tested_at", "test_status", "source", "hierarchy_mode"}
    )

    id: Id | None = None
    name: Text | None = None
    type: Text | None = None
    config: dict[str, Any] | None = None
    enabled: bool | None = None

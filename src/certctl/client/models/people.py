"""Owners and teams: who answers for certificates."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from msgspec import Struct

from certctl.client.models.bounds import Id, LongText, Text


class OwnerView(Struct, frozen=True, kw_only=True):
    """A person or group."""

    id: str
    name: str
    email: str
    team_id: str
    created_at: datetime
    updated_at: datetime
    row_version: int = 0


class OwnerWrite(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a caller may say of an owner; what is absent on an update stays."""

    # what null clears in a merge patch, and to what
    cleared: ClassVar[Mapping[str, Any]] = {"email": "", "team_id": ""}
    read_only: ClassVar[frozenset[str]] = frozenset({"row_version", "created_at", "updated_at"})

    id: Id | None = None
    name: Text | None = None
    email: Text | None = None
    team_id: Id | None = None


class TeamView(Struct, frozen=True, kw_only=True):
    """Owners who work together."""

    id: str
    name: str
    description: str
    created_at: datetime
    updated_at: datetime
    row_version: int = 0


class TeamWrite(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a caller may say of a team; what is absent on an update stays."""

    # what null clears in a merge patch, and to what
    cleared: ClassVar[Mapping[str, Any]] = {"description": ""}
    read_only: ClassVar[frozenset[str]] = frozenset({"row_version", "created_at", "updated_at"})

    id: Id | None = None
    name: Text | None = None
    description: LongText | None = None

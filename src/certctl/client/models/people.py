"""Owners and teams: who answers for certificates."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

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


class OwnerWrite(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a caller may say of an owner; what is absent on an update stays."""

    read_only: ClassVar[frozenset[str]] = frozenset({"created_at", "updated_at"})

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


class TeamWrite(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a caller may say of a team; what is absent on an update stays."""

    read_only: ClassVar[frozenset[str]] = frozenset({"created_at", "updated_at"})

    id: Id | None = None
    name: Text | None = None
    description: LongText | None = None

"""Views that people keep: the filter of a list under a name of their own."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct


class SavedView(Struct, frozen=True, kw_only=True):
    """A list's filter as its address has it: `path` and `query` (without its `?`). Seen by whoever keeps it, alone."""

    tenant_id: str
    id: str
    actor_id: str
    path: str
    name: str
    query: str
    created_at: datetime
    updated_at: datetime

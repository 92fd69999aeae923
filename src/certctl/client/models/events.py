"""What the stream of events tells of one change."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct


class ChangeView(Struct, frozen=True, kw_only=True):
    """Something happened to one thing; look at the thing to know how it is now."""

    type: str
    subject_type: str
    subject_id: str
    at: datetime

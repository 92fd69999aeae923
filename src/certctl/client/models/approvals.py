"""Requests that wait for a person's word, with the reference product's fields."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from certctl.client.models.bounds import LongText, Text


class ApprovalView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request. `metadata` says what was judged; `payload` is the reference product's and is never set here."""

    id: str
    kind: str
    profile_id: str
    requested_by: str
    state: str
    created_at: datetime
    updated_at: datetime
    certificate_id: str = ""
    job_id: str = ""
    decision_hash: str = ""
    decided_by: str = ""
    decided_at: datetime | None = None
    decision_note: str = ""
    metadata: dict[str, Any] = {}
    payload: str = ""


class DecisionBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why; `decision_hash` binds the word to what was shown."""

    note: LongText = ""
    decision_hash: Text = ""


class RejectBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a job is rejected."""

    reason: LongText = ""


class DecisionAnswer(Struct, frozen=True, kw_only=True):
    """What was decided, by whom."""

    id: str
    decided_by: str
    action: str

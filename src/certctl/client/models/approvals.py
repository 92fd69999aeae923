"""Requests that wait for a person's word, with the reference product's fields."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from certctl.client.models.bounds import LongText, Text


class WordView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One person who said yes, and with which key or session."""

    person: str
    actor: str
    created_at: datetime
    note: str = ""


class ApprovalView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request. `metadata` says what was judged; `payload` is the whole change of an edit of a profile.

    `required` people must say yes and `given` have; who they are, one approval tells and a list does not.
    """

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
    required: int = 1
    given: int = 0
    approved_by: list[WordView] = []
    payload: dict[str, Any] = {}


class DecisionBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why; `decision_hash` binds the word to what was shown."""

    note: LongText = ""
    decision_hash: Text = ""


class BatchDecisionBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why; `after` is that of the answer before, to go on behind it."""

    note: LongText = ""
    after: Text = ""


class RejectBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a job is rejected."""

    reason: LongText = ""


class DecisionAnswer(Struct, frozen=True, kw_only=True):
    """What was decided, by whom."""

    id: str
    decided_by: str
    action: str


class BatchDecisionAnswer(Struct, frozen=True, kw_only=True):
    """What one word on all requests of a batch came to. `given` wait for other people too; `refused` may not be
    approved (`reasons`, the most frequent first) and wait on; with `is_over` false there are more: say it again with
    `after`.
    """

    batch_id: str
    approved: int
    rejected: int
    given: int
    refused: int
    is_over: bool
    after: str = ""
    reasons: list[str] = []

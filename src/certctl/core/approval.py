"""A request that waits for a person: what is asked, by whom, and what was said."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from certctl.core.status import ApprovalState

ISSUANCE = "cert_issuance"
PROFILE_EDIT = "profile_edit"


class Holder(Struct, frozen=True):
    """The person behind an actor, and everybody who may know a value that it called with (themselves too)."""

    person: str
    known_to: frozenset[str]


class Approval(Struct, frozen=True, kw_only=True):
    """One decision to be made, by `required` people. It binds to `decision_hash`: names, profile and version, issuer,
    lifetime, key rule; or, of an edit of a profile, to its version and the whole change (`payload`).

    An edit has no job: its own id stands in `job_id`, which is unique.
    """

    tenant_id: str
    id: str
    kind: str
    certificate_id: str
    job_id: str
    profile_id: str
    requested_by: str
    state: ApprovalState
    decision_hash: str
    decided_by: str
    decided_at: datetime | None
    decision_note: str
    metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    required: int = 1
    given: int = 0
    profile_version: int = 0
    payload: dict[str, Any] | None = None


class Word(Struct, frozen=True, kw_only=True):
    """One person's yes."""

    tenant_id: str
    approval_id: str
    person: str
    actor: str
    known_to: list[str]
    note: str
    created_at: datetime

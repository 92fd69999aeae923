"""A request that waits for a person: what is asked, by whom, and what was said."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from certctl.core.status import ApprovalState

ISSUANCE = "cert_issuance"


class Approval(Struct, frozen=True, kw_only=True):
    """One decision to be made. It binds to `decision_hash`: names, profile and version, issuer, lifetime, key rule."""

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

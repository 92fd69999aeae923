"""One action over many certificates: chosen once, frozen, run item by item by whichever worker holds the lease.

A batch acts as the person or key that asked, within the scope they had, and never beyond what they still may.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from certctl.core.actor import Actor, ActorType
from certctl.core.status import BatchAction, BatchStatus, ItemStatus


class Selection(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which certificates: every condition must hold, an empty one says nothing. Statuses match in any case."""

    certificate_ids: tuple[str, ...] = ()
    profile_id: str = ""
    owner_id: str = ""
    agent_id: str = ""
    issuer_id: str = ""
    team_id: str = ""
    status: str = ""
    environment: str = ""
    source: str = ""
    tags: dict[str, str] = {}
    expires_before: datetime | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing at all; that never means everything."""
        return self == Selection()


class Batch(Struct, frozen=True, kw_only=True):
    """One batch. `scope` is what its asker could see; `wanted` are the action's own parameters."""

    tenant_id: str
    id: str
    action: BatchAction
    dry_run: bool
    status: BatchStatus
    status_reason: str
    selection: dict[str, Any]
    wanted: dict[str, Any]
    max_failures: int | None
    scope: dict[str, Any]
    scope_key: str
    key_id: str
    permission: str
    requested_by: str
    actor_type: str
    request_id: str
    address: str
    total: int
    done: int
    skipped: int
    failed: int
    lease_owner: str
    lease_until: datetime | None
    fence: int
    run_at: datetime
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None
    # so many items at a time, and how long it rests between them; 0: all at once
    wave_size: int = 0
    wave_pause_seconds: int = 0
    # of the jobs that it began, how many failed and are deleted since
    jobs_failed_gone: int = 0

    def wave_of(self, seq: int) -> int:
        """Which wave the item of this number belongs to, from 0 on."""
        return (seq - 1) // self.wave_size if self.wave_size else 0

    @property
    def actor(self) -> Actor:
        """Who each item's events name."""
        return Actor(self.requested_by, ActorType(self.actor_type), self.request_id, self.address)

    @property
    def waiting(self) -> int:
        """Items that nobody has come to yet."""
        return self.total - self.done - self.skipped - self.failed


class BatchItem(Struct, frozen=True, kw_only=True):
    """One certificate of a batch and what became of it; `reason` says why it was skipped or failed."""

    tenant_id: str
    batch_id: str
    seq: int
    certificate_id: str
    status: ItemStatus
    reason: str
    error_kind: str
    job_ids: list[str]
    ended_at: datetime | None

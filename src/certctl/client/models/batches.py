"""Bulk operations and the batches that run them: the reference product's fields, and what makes them complete."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct

from certctl.client.models.bounds import Id, Text

Failures = Annotated[int, Meta(ge=0, le=1_000_000)]
WaveSize = Annotated[int, Meta(ge=0, le=1_000_000)]
WavePause = Annotated[int, Meta(ge=0, le=604_800)]


class BulkRenewBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which certificates to renew: every condition given must hold, at least one is needed.

    `dry_run` shows what would happen and changes nothing; `max_failures` halts the batch when more items failed.
    """

    certificate_ids: list[Id] | None = None
    profile_id: Id = ""
    owner_id: Id = ""
    agent_id: Id = ""
    issuer_id: Id = ""
    team_id: Id = ""
    status: Text = ""
    environment: Text = ""
    source: Text = ""
    tags: dict[Text, Text] = {}
    expires_before: datetime | None = None
    force: bool = False
    dry_run: bool = False
    max_failures: Failures | None = None
    # so many certificates at a time, and how long it rests between them; between two waves what their jobs came to
    # counts against `max_failures` as well
    wave_size: WaveSize = 0
    wave_pause_seconds: WavePause = 0


class BulkRevokeBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which certificates to revoke, and why (`reason` as for one certificate)."""

    reason: Text = ""
    certificate_ids: list[Id] | None = None
    profile_id: Id = ""
    owner_id: Id = ""
    agent_id: Id = ""
    issuer_id: Id = ""
    team_id: Id = ""
    status: Text = ""
    environment: Text = ""
    source: Text = ""
    tags: dict[Text, Text] = {}
    expires_before: datetime | None = None
    dry_run: bool = False
    max_failures: Failures | None = None


class BulkFilter(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Conditions beside `owner_id` and `team_id` of a reassignment, which there name the new owner and team."""

    profile_id: Id = ""
    owner_id: Id = ""
    agent_id: Id = ""
    issuer_id: Id = ""
    team_id: Id = ""
    status: Text = ""
    environment: Text = ""
    source: Text = ""
    tags: dict[Text, Text] = {}
    expires_before: datetime | None = None


class BulkReassignBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """To whom certificates go: `owner_id`, and `team_id` unless the team stays. Chosen by ids, `filter` or both."""

    owner_id: Id = ""
    team_id: Id = ""
    certificate_ids: list[Id] | None = None
    filter: BulkFilter | None = None
    dry_run: bool = False
    max_failures: Failures | None = None


class BulkError(Struct, frozen=True, kw_only=True):
    """A certificate for which it failed."""

    certificate_id: str
    error: str


class EnqueuedJob(Struct, frozen=True, kw_only=True):
    """A job that was written: one for each key holder of the certificate."""

    certificate_id: str
    job_id: str


class BatchItemView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One certificate of a batch. `not_run`: the batch ended before anybody came to it."""

    seq: int
    certificate_id: str
    status: str
    reason: str = ""
    error_kind: str = ""
    job_ids: list[str] = []
    ended_at: datetime | None = None


class BulkRenewAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Totals: complete with status 200, as far as it has come with 202. `items` are the first ones of a dry run."""

    total_matched: int
    total_enqueued: int
    total_skipped: int
    total_failed: int
    batch_id: str
    status: str
    enqueued_jobs: list[EnqueuedJob] = []
    errors: list[BulkError] = []
    dry_run: bool = False
    items: list[BatchItemView] = []


class BulkRevokeAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Totals: complete with status 200, as far as it has come with 202. `items` are the first ones of a dry run."""

    total_matched: int
    total_revoked: int
    total_skipped: int
    total_failed: int
    batch_id: str
    status: str
    errors: list[BulkError] = []
    dry_run: bool = False
    items: list[BatchItemView] = []


class BulkReassignAnswer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Totals: complete with status 200, as far as it has come with 202. `items` are the first ones of a dry run."""

    total_matched: int
    total_reassigned: int
    total_skipped: int
    total_failed: int
    batch_id: str
    status: str
    errors: list[BulkError] = []
    dry_run: bool = False
    items: list[BatchItemView] = []


class BatchView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One batch. `total` is `waiting` and what has become of the rest; `selection` and `wanted` are what was asked."""

    id: str
    action: str
    status: str
    total: int
    done: int
    skipped: int
    failed: int
    waiting: int
    requested_by: str
    created_at: datetime
    updated_at: datetime
    dry_run: bool = False
    status_reason: str = ""
    selection: dict[str, Any] = {}
    wanted: dict[str, Any] = {}
    max_failures: int | None = None
    ended_at: datetime | None = None
    wave_size: int = 0
    wave_pause_seconds: int = 0
    # of one batch: how far the jobs have come that it began, and those that these began, by type and status
    progress: dict[str, dict[str, int]] = {}


class BatchResumeBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a halted batch goes on: until more than `max_failures` have failed, those of before among them; left out,
    however many do.
    """

    max_failures: Failures | None = None

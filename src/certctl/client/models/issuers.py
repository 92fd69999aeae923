"""Issuers: the CAs that may be asked."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct

from certctl.client.models.bounds import Id, Text


class IssuerView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One issuer; secrets of its configuration are never shown."""

    id: str
    name: str
    type: str
    config: dict[str, Any]
    enabled: bool
    created_at: datetime
    updated_at: datetime
    last_tested_at: datetime | None = None
    test_status: str = ""
    source: str = ""
    hierarchy_mode: str = ""
    row_version: int = 0
    # of issuances and renewals that ended in failure within 24 hours, among the jobs that the caller may see
    recent_failures: int = 0
    last_failure_at: datetime | None = None


class LimitView(Struct, frozen=True, kw_only=True):
    """A limit that the CA publishes: how much of it is used now, and whether new orders wait for it."""

    limit: str
    number: int
    window_seconds: int
    used: int


class LostOrderView(Struct, frozen=True, kw_only=True):
    """An order that may have been placed at the CA, whose address nobody knows: left to expire there."""

    certificate_id: str
    names: str
    asked_at: datetime


class PauseView(Struct, frozen=True, kw_only=True):
    """Names for which nothing is asked of the CA until somebody resumes them."""

    certificate_id: str
    names: str
    reason: str
    failures: int
    paused_at: datetime


class IssuerAccountView(Struct, frozen=True, kw_only=True):
    """An issuer's account at its CA. `limits_source` on `limits_as_of` says where its limits are from."""

    directory_url: str
    account_url: str
    created_at: datetime | None
    key_change_open: bool
    limits: list[LimitView]
    limits_source: str
    limits_as_of: str
    limits_note: str
    lost_orders: list[LostOrderView]
    pauses: list[PauseView]


class ResumeBody(Struct, frozen=True, kw_only=True):
    """What to resume; without `certificate_id` all that is paused at the issuer."""

    certificate_id: Id = ""


class ResumedAnswer(Struct, frozen=True, kw_only=True):
    """How many pauses ended; each certificate is asked for anew."""

    resumed: int


class TrialBody(Struct, frozen=True, kw_only=True):
    """Names to have issued at the CA's directory for trials, and how long that may take."""

    names: Annotated[list[Text], Meta(min_length=1, max_length=100)]
    timeout_seconds: Annotated[int, Meta(ge=10, le=300)] = 120


class TrialStepView(Struct, frozen=True, kw_only=True):
    """One step: `account`, `precheck`, `order`, `present`, `propagation`, `validation`, `finalize`, `certificate`,
    `cleanup`; `outcome` is `done` or `failed`.
    """

    step: str
    outcome: str
    message: str
    seconds: float


class TrialAnswer(Struct, frozen=True, kw_only=True):
    """How it went at `directory_url`: `outcome` is `passed` when every step was done, else `failed`."""

    directory_url: str
    outcome: str
    steps: list[TrialStepView]


class IssuerWrite(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a caller may say of an issuer; what is absent on an update stays."""

    # what null clears in a merge patch, and to what
    cleared: ClassVar[Mapping[str, Any]] = {"config": {}}
    read_only: ClassVar[frozenset[str]] = frozenset(
        {"row_version", "created_at", "updated_at", "last_tested_at", "test_status", "source", "hierarchy_mode"}
        | {"recent_failures", "last_failure_at"}
    )

    id: Id | None = None
    name: Text | None = None
    type: Text | None = None
    config: dict[str, Any] | None = None
    enabled: bool | None = None

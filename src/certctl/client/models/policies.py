"""Policies and who breaks them: the reference product's fields, and a few of ours."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct

from certctl.client.models.bounds import Id, Text


class PolicyView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One rule. Error and Critical keep certificates from being issued, a Warning is recorded.

    `evaluated_at` is when the whole inventory was last held against a version of it, `is_evaluated` whether that was
    the present one.
    """

    id: str
    name: str
    type: str
    config: dict[str, Any]
    enabled: bool
    severity: str
    created_at: datetime
    updated_at: datetime
    is_evaluated: bool
    evaluated_at: datetime | None = None
    row_version: int = 0


class PolicyWrite(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a caller may say of a rule; what is absent on an update stays. `config` has the keys of its `type`:

    AllowedIssuers `allowed_issuer_ids`, AllowedDomains `allowed_domains`, RequiredMetadata `required_keys`,
    AllowedEnvironments `allowed`, RenewalLeadTime `lead_time_days`, CertificateLifetime `max_days`.
    """

    read_only: ClassVar[frozenset[str]] = frozenset(
        {"row_version", "created_at", "updated_at", "is_evaluated", "evaluated_at"}
    )
    # what null clears in a merge patch, and to what
    cleared: ClassVar[Mapping[str, Any]] = {"config": {}}

    id: Id | None = None
    name: Text | None = None
    type: Text | None = None
    config: dict[str, Any] | None = None
    enabled: bool | None = None
    severity: Text | None = None


class ViolationView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A certificate that breaks a rule since `created_at`; `resolved_at` is when it was cured."""

    id: str
    certificate_id: str
    rule_id: str
    message: str
    severity: str
    created_at: datetime
    resolved_at: datetime | None = None


class EvaluateBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How many offenders to name, and behind which certificate to go on."""

    limit: Annotated[int, Meta(ge=0, le=500)] = 50
    after: Id = ""


class DryRunBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A rule that is not written yet, held against the inventory."""

    type: Text
    config: dict[str, Any] = {}
    limit: Annotated[int, Meta(ge=0, le=500)] = 50
    after: Id = ""


class OffenderView(Struct, frozen=True, kw_only=True):
    """A certificate that breaks the rule, and how."""

    certificate_id: str
    name: str
    message: str


class EvaluationView(Struct, frozen=True, kw_only=True):
    """What a rule finds among what the caller may see; nothing was written.

    When `complete` is false the time was too short: ask again with `after` to go on.
    """

    looked_at: int
    violations: int
    offenders: list[OffenderView]
    complete: bool
    after: str

"""Profiles: the rules a certificate must keep."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct

from certctl.client.models.bounds import Id, LongText, Seconds, Text


class KeyRuleView(Struct, frozen=True, kw_only=True):
    """An allowed kind of key: RSA, ECDSA or Ed25519, of at least `min_size` bits."""

    algorithm: Text
    min_size: Annotated[int, Meta(ge=0, le=16384)] = 0


class ProfileView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One profile. `version` grows with every edit; `max_ttl_seconds` 0 means no limit of its own."""

    id: str
    name: str
    description: str
    allowed_key_algorithms: list[KeyRuleView]
    max_ttl_seconds: int
    allowed_ekus: list[str]
    required_san_patterns: list[str]
    spiffe_uri_pattern: str
    allow_short_lived: bool
    must_staple: bool
    enabled: bool
    created_at: datetime
    updated_at: datetime
    version: int = 0
    required_csr_attributes: list[str] = []
    acme_auth_mode: str = ""
    acme_issuer_id: str = ""
    acme_profiles: list[str] = []
    requires_approval: bool = False
    approvals_required: int = 1
    approvers: list[str] = []
    row_version: int = 0
    # of an edit that waits for another person: "pending_approval", the approval, and what that means
    status: str = ""
    pending_approval_id: str = ""
    message: str = ""


class ProfileWrite(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a caller may say of a profile; what is absent on an update stays."""

    # what null clears in a merge patch, and to what
    cleared: ClassVar[Mapping[str, Any]] = {
        "description": "",
        "max_ttl_seconds": 0,
        "required_san_patterns": [],
        "spiffe_uri_pattern": "",
        "required_csr_attributes": [],
        "acme_auth_mode": "",
        "acme_issuer_id": "",
        "acme_profiles": [],
        "approvers": [],
    }
    read_only: ClassVar[frozenset[str]] = frozenset(
        {"row_version", "created_at", "updated_at", "version", "status", "pending_approval_id", "message"}
    )

    id: Id | None = None
    name: Text | None = None
    description: LongText | None = None
    allowed_key_algorithms: list[KeyRuleView] | None = None
    max_ttl_seconds: Seconds | None = None
    allowed_ekus: list[Text] | None = None
    required_san_patterns: list[Text] | None = None
    spiffe_uri_pattern: Text | None = None
    allow_short_lived: bool | None = None
    must_staple: bool | None = None
    required_csr_attributes: list[Text] | None = None
    acme_auth_mode: Text | None = None
    acme_issuer_id: Id | None = None
    acme_profiles: Annotated[list[Id], Meta(max_length=20)] | None = None
    requires_approval: bool | None = None
    approvals_required: Annotated[int, Meta(ge=1, le=16)] | None = None
    approvers: Annotated[list[Text], Meta(max_length=100)] | None = None
    enabled: bool | None = None

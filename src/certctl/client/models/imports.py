"""Certificates from elsewhere: brought in, claimed, and reissued by certctl."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from certctl.client.models.bounds import Id, Pem, Text

Der = Annotated[bytes, Meta(max_length=65536)]


class ImportItem(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One certificate with its chain: `pem` (certificates or PKCS #7), or `der` (base64 of either). Never a key."""

    pem: Pem = ""
    der: Der = b""
    name: Text = ""
    environment: Text = ""
    owner_id: Id = ""
    team_id: Id = ""
    tags: dict[Text, Text] = {}


class ImportBody(Struct, frozen=True, kw_only=True):
    """Certificates to take into the inventory."""

    certificates: Annotated[list[ImportItem], Meta(min_length=1, max_length=500)]


class ImportResult(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one: imported, known (by its SHA-256, left as it was) or failed."""

    index: int
    status: str
    certificate_id: str = ""
    version_id: str = ""
    fingerprint_sha256: str = ""
    error: str = ""


class ImportAnswer(Struct, frozen=True, kw_only=True):
    """All of them, in the order given."""

    total: int
    total_imported: int
    total_known: int
    total_failed: int
    results: list[ImportResult]


class ClaimBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who owns and issues it from now on; what is left out is as for a new certificate."""

    owner_id: Id | None = None
    team_id: Id | None = None
    issuer_id: Id | None = None
    certificate_profile_id: Id | None = None
    renewal_policy_id: Id | None = None
    target_ids: list[Id] | None = None
    name: Text | None = None
    common_name: Text | None = None
    sans: list[Text] | None = None
    environment: Text | None = None
    tags: dict[Text, Text] | None = None


class ReissueBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`revoke_old` revokes each old version (for `reason`, superseded when empty) once its successor is seen served."""

    revoke_old: bool = False
    reason: Text = ""
    force: bool = False

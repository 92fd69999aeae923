"""Managed certificates, their versions and deployments: the reference product's fields, and a few of ours."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct

from certctl.client.models.bounds import Id, Pem, PositiveSeconds, Text
from certctl.client.models.page import Paged


class CertificateView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One managed certificate."""

    id: str
    name: str
    common_name: str
    sans: list[str]
    environment: str
    owner_id: str
    team_id: str
    issuer_id: str
    target_ids: list[str]
    renewal_policy_id: str
    status: str
    expires_at: datetime | None
    tags: dict[str, str]
    created_at: datetime
    updated_at: datetime
    certificate_profile_id: str = ""
    validity_seconds: int | None = None
    status_reason: str = ""
    failures: int = 0
    next_check_at: datetime | None = None
    last_renewal_at: datetime | None = None
    last_deployment_at: datetime | None = None
    revoked_at: datetime | None = None
    revocation_reason: str = ""
    source: str = ""
    row_version: int = 0


class CertificateWrite(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a caller may say of a certificate. On an update what is absent (or null) stays as it is.

    `validity_seconds` is the wished life; `csr_pem` (PKCS #10) makes the caller the holder of the key.
    """

    read_only: ClassVar[frozenset[str]] = frozenset(
        {
            "status",
            "expires_at",
            "created_at",
            "updated_at",
            "last_renewal_at",
            "last_deployment_at",
            "revoked_at",
            "revocation_reason",
            "source",
            "status_reason",
            "failures",
            "next_check_at",
            "row_version",
        }
    )
    # what null clears in a merge patch, and to what
    cleared: ClassVar[Mapping[str, Any]] = {
        "sans": [],
        "environment": "",
        "owner_id": "",
        "team_id": "",
        "target_ids": [],
        "tags": {},
        "validity_seconds": None,
    }

    id: Id | None = None
    name: Text | None = None
    common_name: Text | None = None
    sans: list[Text] | None = None
    environment: Text | None = None
    owner_id: Id | None = None
    team_id: Id | None = None
    issuer_id: Id | None = None
    renewal_policy_id: Id | None = None
    certificate_profile_id: Id | None = None
    target_ids: list[Id] | None = None
    tags: dict[Text, Text] | None = None
    validity_seconds: PositiveSeconds | None = None
    csr_pem: Pem | None = None


class VersionView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One signed certificate. `pem_chain` is the leaf and what stands between it and the root."""

    id: str
    certificate_id: str
    serial_number: str
    not_before: datetime
    not_after: datetime
    fingerprint_sha256: str
    pem_chain: str
    csr_pem: str
    created_at: datetime
    status: str
    holder_id: str
    key_algorithm: str = ""
    key_size: int = 0
    issuer_id: str = ""
    ca_certificate_id: str = ""
    spki_sha256: str = ""
    replaces_id: str = ""
    job_id: str = ""
    # since when its holder is asked to replace it; renewal information (RFC 9773) says so too while it is current
    replacement_wished_at: datetime | None = None


class DeploymentState(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of one version on one target: done when, seen when, and what was seen."""

    id: str
    status: str
    version_id: str
    job_id: str
    served_before: str = ""
    observed_fingerprint: str = ""
    error: str = ""
    applied_at: datetime | None = None
    verified_at: datetime | None = None
    updated_at: datetime | None = None


class DeploymentTargetView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A target that a certificate is mapped to, with the newest deployment there, if there was one."""

    id: str
    name: str
    type: str
    agent_id: str
    config: dict[str, Any]
    enabled: bool
    created_at: datetime
    updated_at: datetime
    last_tested_at: datetime | None = None
    test_status: str = ""
    source: str = ""
    retired_at: datetime | None = None
    retired_reason: str = ""
    deployment: DeploymentState | None = None


class DeploymentsAnswer(Paged, frozen=True, kw_only=True, omit_defaults=True):
    """All targets of a certificate."""

    data: list[DeploymentTargetView]


class RenewBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`force` cancels an issuance under way and replaces it."""

    force: bool = False


class DeployBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One target or all; each holder's current version or a named older one. `dry_run` only tells what it would do."""

    target_id: Id = ""
    version_id: Id = ""
    dry_run: bool = False


class RevokeBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`reason` is an RFC 5280 name (keyCompromise, superseded, ...); `replace` asks each holder for a new key."""

    reason: Text = ""
    version_id: Id = ""
    replace: bool = False


class CsrBody(Struct, frozen=True, kw_only=True):
    """A CSR (PKCS #10, PEM) of a caller that holds its own key."""

    csr_pem: Pem


class PemExport(Struct, frozen=True, kw_only=True):
    """A version in PEM; `chain_pem` ends below the root."""

    cert_pem: str
    chain_pem: str
    full_pem: str


class Pkcs12Body(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The password of the file; empty leaves it readable by all."""

    password: Annotated[str, Meta(max_length=1024)] = ""
    version_id: Id = ""

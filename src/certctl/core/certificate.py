"""A managed certificate, its immutable versions, and the orders (intents) they came from.

A certificate is what people own ("the one for shop.example"); a version is one signed X.509 certificate for one key
holder. `holder_id` is an agent's id, or `client` when the requester keeps the key, or `external` for what was imported.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from certctl.core.status import CertificateStatus, OrderStatus, VersionStatus

CLIENT_HOLDER = "client"
# of an imported certificate nobody we know holds the key, and no CA of ours signed it: OCSP and CRL never speak of it
EXTERNAL_HOLDER = "external"
EXTERNAL_PREFIX = "external:"
# where the control plane's own TLS certificates come from; no caller can say so of theirs
OWN_TLS_SOURCE = "own-tls"
# ordered through our ACME server: its client holds the key, and is told by renewal information (RFC 9773)
ACME_SOURCE = "ACME"


class Certificate(Struct, frozen=True, kw_only=True):
    """One managed certificate. `next_check_at` is the earliest moment at which a decision about it may change."""

    tenant_id: str
    id: str
    name: str
    common_name: str
    sans: list[str]
    environment: str
    owner_id: str
    team_id: str
    issuer_id: str
    renewal_policy_id: str
    certificate_profile_id: str
    validity_seconds: int | None
    status: CertificateStatus
    status_reason: str
    expires_at: datetime | None
    tags: dict[str, str]
    last_renewal_at: datetime | None
    last_deployment_at: datetime | None
    revoked_at: datetime | None
    revocation_reason: str
    next_check_at: datetime | None
    failures: int
    last_failure_at: datetime | None
    source: str
    row_version: int
    created_at: datetime
    updated_at: datetime

    @property
    def is_unclaimed(self) -> bool:
        """Imported, and nobody has yet said who issues it from now on."""
        return not self.issuer_id


class VersionFacts(Struct, frozen=True, kw_only=True):
    """One signed certificate without its bytes: what decisions go by."""

    tenant_id: str
    id: str
    certificate_id: str
    holder_id: str
    job_id: str
    issuer_id: str
    ca_certificate_id: str
    replaces_id: str
    status: VersionStatus
    serial_number: str
    not_before: datetime
    not_after: datetime
    fingerprint_sha256: str
    spki_sha256: str
    key_algorithm: str
    key_size: int
    created_at: datetime
    # since when its holder, whose key is none of ours, is asked to replace it (RFC 9773); over when it is not current
    replacement_wished_at: datetime | None = None


class Version(VersionFacts, frozen=True, kw_only=True):
    """One signed certificate: immutable but for `status`. `job_id` names the key on its holder.

    An imported one had no job and no CA of ours: both fields then begin with `external:` and name nothing.
    """

    leaf_der: bytes
    chain_pem: str
    csr_der: bytes


class OrderRecord(Struct, frozen=True, kw_only=True):
    """The intent to issue, stored before the act: for our own CA the serial and whole TBS, else the CA's reference."""

    tenant_id: str
    id: str
    job_id: str
    issuer_id: str
    ca_certificate_id: str
    serial_number: str
    tbs_der: bytes | None
    not_before: datetime | None
    not_after: datetime | None
    csr_der: bytes
    reference: str
    status: OrderStatus
    leaf_der: bytes | None
    chain_pem: str
    created_at: datetime


class RevocationRecord(Struct, frozen=True, kw_only=True):
    """A fact of revocation: OCSP and CRL speak from it the moment it is committed."""

    tenant_id: str
    id: str
    certificate_id: str
    version_id: str
    issuer_id: str
    ca_certificate_id: str
    serial_number: str
    reason: str
    revoked_by: str
    revoked_at: datetime
    issuer_notified: bool


class RequestBody(Struct, frozen=True, kw_only=True):
    """What was asked and approved, kept with the job: the one source of the leaf's subject, names and lifetime."""

    common_name: str
    names: list[str]
    validity_seconds: int
    ekus: list[str]
    must_staple: bool
    key_algorithm: str
    profile_id: str
    profile_version: int
    issuer_id: str
    decision_hash: str = ""
    csr_pem: str = ""
    replaces_id: str = ""
    reason: str = ""
    extra: dict[str, Any] = {}
    # asked by the control plane for the certificate of its own listener (ADR 5)
    own_tls: bool = False

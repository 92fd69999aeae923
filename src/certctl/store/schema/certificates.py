"""The inventory: certificates, their names, versions, orders and revocations."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from certctl.core import status
from certctl.store.schema import columns as c

certificates = c.table(
    "managed_certificates",
    c.words("name"),
    c.words("common_name"),
    c.json("sans"),
    c.words("environment"),
    c.reference("owner_id"),
    c.reference("team_id"),
    c.reference("issuer_id"),
    c.reference("renewal_policy_id"),
    c.reference("certificate_profile_id"),
    Column("validity_seconds", Integer),
    c.words("status"),
    c.words("status_reason"),
    c.time("expires_at"),
    c.json("tags"),
    c.time("last_renewal_at"),
    c.time("last_deployment_at"),
    c.time("revoked_at"),
    c.words("revocation_reason"),
    c.time("next_check_at"),
    c.count("failures"),
    c.time("last_failure_at"),
    c.words("source"),
    c.count("row_version", 1),
    c.born(),
    c.changed(),
    UniqueConstraint("tenant_id", "name"),
    Index(None, "tenant_id", "status", "created_at", "id"),
    Index(None, "tenant_id", "created_at", "id"),
    Index(None, "tenant_id", "status", "updated_at", "id"),
    # the summary counts from these alone
    Index(None, "tenant_id", "status", "expires_at", "id"),
    Index(None, "tenant_id", "team_id", "status", "expires_at"),
    Index(None, "tenant_id", "next_check_at"),
    Index(None, "tenant_id", "common_name"),
    Index(None, "tenant_id", "expires_at", "id"),
    Index(None, "tenant_id", "updated_at", "id"),
    # by one of these, and by status besides: judged in the index
    Index("ix_certificates_by_environment", "tenant_id", "environment", "created_at", "id", "status"),
    Index("ix_certificates_by_owner", "tenant_id", "owner_id", "created_at", "id", "status"),
    Index("ix_certificates_by_team", "tenant_id", "team_id", "created_at", "id", "status"),
    Index("ix_certificates_by_issuer", "tenant_id", "issuer_id", "created_at", "id", "status"),
    Index("ix_certificates_by_profile", "tenant_id", "certificate_profile_id", "created_at", "id", "status"),
    Index("ix_certificates_by_renewal_policy", "tenant_id", "renewal_policy_id", "created_at", "id", "status"),
    Index(
        "ix_certificates_by_source",
        "tenant_id",
        "source",
        "created_at",
        "id",
        "status",
        sqlite_where=text("source <> ''"),
        postgresql_where=text("source <> ''"),
    ),
    c.one_of("status", status.CertificateStatus),
)

# code point order whatever the database's locale: prefixes are ranges of the index
_Searched = Text().with_variant(Text(collation="C"), "postgresql")

# what a search finds certificates by; `reversed` is empty where a domain suffix makes no sense
certificate_names = Table(
    "certificate_names",
    c.metadata,
    c.key("tenant_id"),
    c.key("certificate_id"),
    Column("kind", String(16), nullable=False),
    Column("value", _Searched, nullable=False),
    Column("reversed", _Searched, nullable=False),
    PrimaryKeyConstraint("tenant_id", "certificate_id", "kind", "value"),
    Index(None, "tenant_id", "value", "certificate_id"),
    Index(None, "tenant_id", "reversed", "certificate_id"),
    c.one_of("kind", ("name", "common_name", "san", "serial_number", "fingerprint")),
)

certificate_targets = Table(
    "certificate_target_mappings",
    c.metadata,
    c.key("tenant_id"),
    c.key("certificate_id"),
    c.key("target_id"),
    PrimaryKeyConstraint("tenant_id", "certificate_id", "target_id"),
    Index(None, "tenant_id", "target_id"),
)

versions = c.table(
    "certificate_versions",
    c.reference("certificate_id"),
    c.reference("holder_id"),
    c.reference("job_id"),
    c.reference("issuer_id"),
    c.reference("ca_certificate_id"),
    c.reference("replaces_id"),
    c.words("status"),
    c.words("serial_number"),
    c.time("not_before", nullable=False),
    c.time("not_after", nullable=False),
    c.words("fingerprint_sha256"),
    c.words("spki_sha256"),
    c.words("key_algorithm"),
    c.count("key_size"),
    Column("leaf_der", LargeBinary, nullable=False),
    c.words("chain_pem"),
    Column("csr_der", LargeBinary, nullable=False),
    c.born(),
    c.time("replacement_wished_at"),
    UniqueConstraint("tenant_id", "job_id"),
    UniqueConstraint("tenant_id", "fingerprint_sha256"),
    UniqueConstraint("tenant_id", "issuer_id", "ca_certificate_id", "serial_number"),
    Index(None, "tenant_id", "certificate_id", "created_at"),
    Index(None, "tenant_id", "created_at"),
    Index(
        "ux_certificate_versions_current",
        "tenant_id",
        "certificate_id",
        "holder_id",
        unique=True,
        sqlite_where=text("status = 'current'"),
        postgresql_where=text("status = 'current'"),
    ),
    c.one_of("status", status.VersionStatus),
)

orders = c.table(
    "orders",
    c.reference("job_id"),
    c.reference("issuer_id"),
    c.reference("ca_certificate_id"),
    # NULL until the CA has chosen it: a unique key leaves NULLs alone on both databases
    Column("serial_number", Text),
    Column("tbs_der", LargeBinary),
    c.time("not_before"),
    c.time("not_after"),
    Column("csr_der", LargeBinary, nullable=False),
    c.words("reference"),
    c.words("status"),
    Column("leaf_der", LargeBinary),
    c.words("chain_pem"),
    c.born(),
    UniqueConstraint("tenant_id", "job_id"),
    UniqueConstraint("tenant_id", "ca_certificate_id", "serial_number"),
    c.one_of("status", status.OrderStatus),
)

revocations = c.table(
    "certificate_revocations",
    c.reference("certificate_id"),
    c.reference("version_id"),
    c.reference("issuer_id"),
    c.reference("ca_certificate_id"),
    c.words("serial_number"),
    c.words("reason"),
    c.words("revoked_by"),
    c.time("revoked_at", nullable=False),
    c.flag("issuer_notified"),
    # the first CRL that tells it; NULL until one does
    Column("listed_number", BigInteger),
    c.count("crl_shard"),
    UniqueConstraint("tenant_id", "issuer_id", "ca_certificate_id", "serial_number"),
    Index(None, "tenant_id", "ca_certificate_id"),
    Index(None, "tenant_id", "version_id"),
    Index("ix_certificate_revocations_listed", "tenant_id", "ca_certificate_id", "listed_number"),
    Index(
        "ix_certificate_revocations_unlisted",
        "tenant_id",
        "ca_certificate_id",
        sqlite_where=text("listed_number IS NULL AND ca_certificate_id <> ''"),
        postgresql_where=text("listed_number IS NULL AND ca_certificate_id <> ''"),
    ),
)

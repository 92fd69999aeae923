"""Revision 1: every table of the first release."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")

TABLES = (
    "agents",
    "api_keys",
    "audit_events",
    "ca_certificates",
    "ca_keys",
    "certificate_profiles",
    "certificate_revocations",
    "certificate_target_mappings",
    "certificate_versions",
    "crls",
    "deployment_targets",
    "deployments",
    "enrolment_tokens",
    "installation",
    "issuers",
    "jobs",
    "managed_certificates",
    "notification_events",
    "observations",
    "ocsp_responders",
    "orders",
    "owners",
    "renewal_policies",
    "steps",
    "teams",
    "ticks",
)


def upgrade() -> None:
    """Make them all."""
    op.create_table(
        "agents",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("id", sa.String(length=140), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("hostname", sa.Text(), server_default="", nullable=False),
        sa.Column("status", sa.Text(), server_default="", nullable=False),
        sa.Column("last_heartbeat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("registered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("os", sa.Text(), server_default="", nullable=False),
        sa.Column("architecture", sa.Text(), server_default="", nullable=False),
        sa.Column("ip_address", sa.Text(), server_default="", nullable=False),
        sa.Column("version", sa.Text(), server_default="", nullable=False),
        sa.Column("protocol", sa.Integer(), server_default="0", nullable=False),
        sa.Column("capabilities", JSON, nullable=False),
        sa.Column("agent_group", sa.Text(), server_default="", nullable=False),
        sa.Column("boot_id", sa.Text(), server_default="", nullable=False),
        sa.Column("credential_hash", sa.Text(), server_default="", nullable=False),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("retired_reason", sa.Text(), server_default="", nullable=False),
        sa.CheckConstraint(
            "status IN ('Online', 'Offline', 'Degraded', 'Unknown')", name=op.f("ck_agents_status_is_known")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_agents")),
    )
    op.create_index(op.f("ix_agents_credential_hash"), "agents", ["credential_hash"], unique=True)
    op.create_index(
        "ux_agents_name",
        "agents",
        ["tenant_id", "name"],
        unique=True,
        sqlite_where=sa.text("retired_at IS NULL"),
        postgresql_where=sa.text("retired_at IS NULL"),
    )
    op.create_table(
        "api_keys",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("id", sa.String(length=140), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("prefix", sa.Text(), server_default="", nullable=False),
        sa.Column("key_hash", sa.Text(), server_default="", nullable=False),
        sa.Column("role_ids", JSON, nullable=False),
        sa.Column("teams", JSON, nullable=True),
        sa.Column("profiles", JSON, nullable=True),
        sa.Column("issuers", JSON, nullable=True),
        sa.Column("agent_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("created_by", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_api_keys_tenant_id_name")),
    )
    op.create_index(op.f("ix_api_keys_key_hash"), "api_keys", ["key_hash"], unique=True)
    op.create_table(
        "audit_events",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("id", sa.String(length=140), nullable=False),
        sa.Column("transaction_id", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("type", sa.Text(), server_default="", nullable=False),
        sa.Column("subject_type", sa.Text(), server_default="", nullable=False),
        sa.Column("subject_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("actor", sa.Text(), server_default="", nullable=False),
        sa.Column("actor_type", sa.Text(), server_default="", nullable=False),
        sa.Column("request_id", sa.Text(), server_default="", nullable=False),
        sa.Column("address", sa.Text(), server_default="", nullable=False),
        sa.Column("details", JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit_events")),
        sa.UniqueConstraint("tenant_id", "id", name=op.f("uq_audit_events_tenant_id_id")),
    )
    op.create_index(
        op.f("ix_audit_events_tenant_id_subject_id_seq"),
        "audit_events",
        ["tenant_id", "subject_id", "seq"],
        unique=False,
    )
    op.create_index(
        op.f("ix_audit_events_tenant_id_type_seq"), "audit_events", ["tenant_id", "type", "seq"], unique=False
    )
    op.create_table(
        "ca_certificates",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("id", sa.String(length=140), nullable=False),
        sa.Column("issuer_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("parent_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("kind", sa.Text(), server_default="", nullable=False),
        sa.Column("key_ref", sa.String(length=140), server_default="", nullable=False),
        sa.Column("key_algorithm", sa.Text(), server_default="", nullable=False),
        sa.Column("state", sa.Text(), server_default="", nullable=False),
        sa.Column("generation", sa.Integer(), server_default="1", nullable=False),
        sa.Column("subject", sa.Text(), server_default="", nullable=False),
        sa.Column("serial_number", sa.Text(), server_default="", nullable=False),
        sa.Column("certificate_der", sa.LargeBinary(), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("not_after", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('root', 'intermediate')", name=op.f("ck_ca_certificates_kind_is_known")),
        sa.CheckConstraint(
            "state IN ('active', 'retiring', 'retired')", name=op.f("ck_ca_certificates_state_is_known")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_ca_certificates")),
        sa.UniqueConstraint(
            "tenant_id",
            "issuer_id",
            "kind",
            "generation",
            name=op.f("uq_ca_certificates_tenant_id_issuer_id_kind_generation"),
        ),
    )
    op.create_table(
        "ca_keys",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("id", sa.String(length=140), nullable=False),
        sa.Column("algorithm", sa.Text(), server_default="", nullable=False),
        sa.Column("spki_der", sa.LargeBinary(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_ca_keys")),
    )
    op.create_table(
        "certificate_profiles",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("id", sa.String(length=140), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("allowed_key_algorithms", JSON, nullable=False),
        sa.Column("max_ttl_seconds", sa.Integer(), server_default="0", nullable=False),
        sa.Column("allowed_ekus", JSON, nullable=False),
        sa.Column("required_san_patterns", JSON, nullable=False),
        sa.Column("spiffe_uri_pattern", sa.Text(), server_default="", nullable=False),
        sa.Column("allow_short_lived", sa.Boolean(), nullable=False),
        sa.Column("must_staple", sa.Boolean(), nullable=False),
        sa.Column("required_csr_attributes", JSON, nullable=False),
        sa.Column("acme_auth_mode", sa.Text(), server_default="", nullable=False),
        sa.Column("requires_approval", sa.Boolean(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_certificate_profiles")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_certificate_profiles_tenant_id_name")),
    )
    op.create_table(
        "certificate_revocations",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("id", sa.String(length=140), nullable=False),
        sa.Column("certificate_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("version_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("issuer_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("ca_certificate_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("serial_number", sa.Text(), server_default="", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("revoked_by", sa.Text(), server_default="", nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("issuer_notified", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_certificate_revocations")),
        sa.UniqueConstraint(
            "tenant_id",
            "issuer_id",
            "ca_certificate_id",
            "serial_number",
            name=op.f("uq_certificate_revocations_tenant_id_issuer_id_ca_certificate_id_serial_number"),
        ),
    )
    op.create_index(
        op.f("ix_certificate_revocations_tenant_id_ca_certificate_id"),
        "certificate_revocations",
        ["tenant_id", "ca_certificate_id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_certificate_revocations_tenant_id_version_id"),
        "certificate_revocations",
        ["tenant_id", "version_id"],
        unique=False,
    )
    op.create_table(
        "certificate_target_mappings",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("certificate_id", sa.String(length=140), nullable=False),
        sa.Column("target_id", sa.String(length=140), nullable=False),
        sa.PrimaryKeyConstraint(
            "tenant_id", "certificate_id", "target_id", name=op.f("pk_certificate_target_mappings")
        ),
    )
    op.create_index(
        op.f("ix_certificate_target_mappings_tenant_id_target_id"),
        "certificate_target_mappings",
        ["tenant_id", "target_id"],
        unique=False,
    )
    op.create_table(
        "certificate_versions",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("id", sa.String(length=140), nullable=False),
        sa.Column("certificate_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("holder_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("job_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("issuer_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("ca_certificate_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("replaces_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("status", sa.Text(), server_default="", nullable=False),
        sa.Column("serial_number", sa.Text(), server_default="", nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("not_after", sa.DateTime(timezone=True), nullable=False),
        sa.Column("fingerprint_sha256", sa.Text(), server_default="", nullable=False),
        sa.Column("spki_sha256", sa.Text(), server_default="", nullable=False),
        sa.Column("key_algorithm", sa.Text(), server_default="", nullable=False),
        sa.Column("key_size", sa.Integer(), server_default="0", nullable=False),
        sa.Column("leaf_der", sa.LargeBinary(), nullable=False),
        sa.Column("chain_pem", sa.Text(), server_default="", nullable=False),
        sa.Column("csr_der", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "status IN ('issued', 'current', 'superseded', 'revoked')",
            name=op.f("ck_certificate_versions_status_is_known"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_certificate_versions")),
        sa.UniqueConstraint(
            "tenant_id", "fingerprint_sha256", name=op.f("uq_certificate_versions_tenant_id_fingerprint_sha256")
        ),
        sa.UniqueConstraint(
            "tenant_id",
            "issuer_id",
            "ca_certificate_id",
            "serial_number",
            name=op.f("uq_certificate_versions_tenant_id_issuer_id_ca_certificate_id_serial_number"),
        ),
        sa.UniqueConstraint("tenant_id", "job_id", name=op.f("uq_certificate_versions_tenant_id_job_id")),
    )
    op.create_index(
        op.f("ix_certificate_versions_tenant_id_certificate_id_created_at"),
        "certificate_versions",
        ["tenant_id", "certificate_id", "created_at"],
        unique=False,
    )
    op.create_index(
        "ux_certificate_versions_current",
        "certificate_versions",
        ["tenant_id", "certificate_id", "holder_id"],
        unique=True,
        sqlite_where=sa.text("status = 'current'"),
        postgresql_where=sa.text("status = 'current'"),
    )
    op.create_table(
        "crls",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("id", sa.String(length=140), nullable=False),
        sa.Column("ca_certificate_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("this_update", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_update", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("crl_der", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_crls")),
        sa.UniqueConstraint(
            "tenant_id", "ca_certificate_id", "number", name=op.f("uq_crls_tenant_id_ca_certificate_id_number")
        ),
    )
    op.create_table(
        "deployment_targets",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("id", sa.String(length=140), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("type", sa.Text(), server_default="", nullable=False),
        sa.Column("agent_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("config", JSON, nullable=False),
        sa.Column("sealed_config", sa.LargeBinary(), nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("last_tested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("test_status", sa.Text(), server_default="", nullable=False),
        sa.Column("source", sa.Text(), server_default="", nullable=False),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("retired_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_deployment_targets")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_deployment_targets_tenant_id_name")),
    )
    op.create_index(
        op.f("ix_deployment_targets_tenant_id_agent_id"), "deployment_targets", ["tenant_id", "agent_id"], unique=False
    )
    op.create_table(
        "deployments",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("id", sa.String(length=140), nullable=False),
        sa.Column("certificate_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("version_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("target_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("agent_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("job_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("status", sa.Text(), server_default="", nullable=False),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.Column("receipt", JSON, nullable=True),
        sa.Column("served_before", sa.Text(), server_default="", nullable=False),
        sa.Column("observed_fingerprint", sa.Text(), server_default="", nullable=False),
        sa.Column("applied_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("verified_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "status IN ('pending', 'applying', 'applied', 'verified', 'drifted', 'failed', 'superseded')",
            name=op.f("ck_deployments_status_is_known"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_deployments")),
        sa.UniqueConstraint("tenant_id", "job_id", name=op.f("uq_deployments_tenant_id_job_id")),
    )
    op.create_index(
        op.f("ix_deployments_tenant_id_certificate_id_created_at"),
        "deployments",
        ["tenant_id", "certificate_id", "created_at"],
        unique=False,
    )
    op.create_index(
        op.f("ix_deployments_tenant_id_target_id_created_at"),
        "deployments",
        ["tenant_id", "target_id", "created_at"],
        unique=False,
    )
    op.create_index(
        op.f("ix_deployments_tenant_id_version_id"), "deployments", ["tenant_id", "version_id"], unique=False
    )
    op.create_table(
        "enrolment_tokens",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("id", sa.String(length=140), nullable=False),
        sa.Column("token_hash", sa.Text(), server_default="", nullable=False),
        sa.Column("agent_name", sa.Text(), server_default="", nullable=False),
        sa.Column("agent_group", sa.Text(), server_default="", nullable=False),
        sa.Column("created_by", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("used_by", sa.Text(), server_default="", nullable=False),
        sa.Column("used_key", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_enrolment_tokens")),
    )
    op.create_index(op.f("ix_enrolment_tokens_token_hash"), "enrolment_tokens", ["token_hash"], unique=True)
    op.create_table(
        "installation",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("name", sa.String(length=140), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "name", name=op.f("pk_installation")),
    )
    op.create_table(
        "issuers",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("id", sa.String(length=140), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("type", sa.Text(), server_default="", nullable=False),
        sa.Column("config", JSON, nullable=False),
        sa.Column("sealed_config", sa.LargeBinary(), nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("last_tested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("test_status", sa.Text(), server_default="", nullable=False),
        sa.Column("source", sa.Text(), server_default="", nullable=False),
        sa.Column("hierarchy_mode", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_issuers")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_issuers_tenant_id_name")),
    )
    op.create_table(
        "jobs",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("id", sa.String(length=140), nullable=False),
        sa.Column("type", sa.Text(), server_default="", nullable=False),
        sa.Column("certificate_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("holder_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("version_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("target_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("agent_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("parent_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("status", sa.Text(), server_default="", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("max_attempts", sa.Integer(), server_default="3", nullable=False),
        sa.Column("last_error", sa.Text(), server_default="", nullable=False),
        sa.Column("error_kind", sa.Text(), server_default="", nullable=False),
        sa.Column("idempotency_key", sa.Text(), server_default="", nullable=False),
        sa.Column("live_key", sa.Text(), nullable=True),
        sa.Column("body", JSON, nullable=False),
        sa.Column("requested_by", sa.Text(), server_default="", nullable=False),
        sa.Column("scheduled_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("verification_status", sa.Text(), server_default="", nullable=False),
        sa.Column("verified_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("verification_error", sa.Text(), server_default="", nullable=False),
        sa.Column("verification_fingerprint", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "status IN ('Pending', 'AwaitingCSR', 'AwaitingApproval', 'Running', 'Completed', 'Failed', 'Cancelled')",
            name=op.f("ck_jobs_status_is_known"),
        ),
        sa.CheckConstraint(
            "type IN ('Issuance', 'Renewal', 'Deployment', 'Validation', 'Revocation')",
            name=op.f("ck_jobs_type_is_known"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_jobs")),
        sa.UniqueConstraint("tenant_id", "idempotency_key", name=op.f("uq_jobs_tenant_id_idempotency_key")),
        sa.UniqueConstraint("tenant_id", "live_key", name=op.f("uq_jobs_tenant_id_live_key")),
    )
    op.create_index(
        op.f("ix_jobs_tenant_id_certificate_id_created_at"),
        "jobs",
        ["tenant_id", "certificate_id", "created_at"],
        unique=False,
    )
    op.create_index(op.f("ix_jobs_tenant_id_created_at_id"), "jobs", ["tenant_id", "created_at", "id"], unique=False)
    op.create_index(op.f("ix_jobs_tenant_id_parent_id"), "jobs", ["tenant_id", "parent_id"], unique=False)
    op.create_index(
        op.f("ix_jobs_tenant_id_status_created_at_id"),
        "jobs",
        ["tenant_id", "status", "created_at", "id"],
        unique=False,
    )
    op.create_table(
        "managed_certificates",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("id", sa.String(length=140), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("common_name", sa.Text(), server_default="", nullable=False),
        sa.Column("sans", JSON, nullable=False),
        sa.Column("environment", sa.Text(), server_default="", nullable=False),
        sa.Column("owner_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("team_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("issuer_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("renewal_policy_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("certificate_profile_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("validity_seconds", sa.Integer(), nullable=True),
        sa.Column("status", sa.Text(), server_default="", nullable=False),
        sa.Column("status_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tags", JSON, nullable=False),
        sa.Column("last_renewal_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_deployment_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revocation_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("next_check_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_failure_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("source", sa.Text(), server_default="", nullable=False),
        sa.Column("row_version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "status IN ('Pending', 'Active', 'Expiring', 'Expired', 'RenewalInProgress', 'Failed', "
            "'Revoked', 'Archived')",
            name=op.f("ck_managed_certificates_status_is_known"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_managed_certificates")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_managed_certificates_tenant_id_name")),
    )
    op.create_index(
        op.f("ix_managed_certificates_tenant_id_common_name"),
        "managed_certificates",
        ["tenant_id", "common_name"],
        unique=False,
    )
    op.create_index(
        op.f("ix_managed_certificates_tenant_id_created_at_id"),
        "managed_certificates",
        ["tenant_id", "created_at", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_managed_certificates_tenant_id_expires_at"),
        "managed_certificates",
        ["tenant_id", "expires_at"],
        unique=False,
    )
    op.create_index(
        op.f("ix_managed_certificates_tenant_id_next_check_at"),
        "managed_certificates",
        ["tenant_id", "next_check_at"],
        unique=False,
    )
    op.create_index(
        op.f("ix_managed_certificates_tenant_id_status_created_at_id"),
        "managed_certificates",
        ["tenant_id", "status", "created_at", "id"],
        unique=False,
    )
    op.create_table(
        "notification_events",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("id", sa.String(length=140), nullable=False),
        sa.Column("type", sa.Text(), server_default="", nullable=False),
        sa.Column("certificate_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("channel", sa.Text(), server_default="", nullable=False),
        sa.Column("recipient", sa.Text(), server_default="", nullable=False),
        sa.Column("severity", sa.Text(), server_default="", nullable=False),
        sa.Column("message", sa.Text(), server_default="", nullable=False),
        sa.Column("status", sa.Text(), server_default="", nullable=False),
        sa.Column("dedup_key", sa.Text(), server_default="", nullable=False),
        sa.Column("retry_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_retry_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), server_default="", nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "status IN ('pending', 'sent', 'failed', 'dead', 'read', 'skipped')",
            name=op.f("ck_notification_events_status_is_known"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_notification_events")),
        sa.UniqueConstraint("tenant_id", "dedup_key", name=op.f("uq_notification_events_tenant_id_dedup_key")),
    )
    op.create_index(
        op.f("ix_notification_events_tenant_id_status_created_at"),
        "notification_events",
        ["tenant_id", "status", "created_at"],
        unique=False,
    )
    op.create_table(
        "observations",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("id", sa.String(length=140), nullable=False),
        sa.Column("deployment_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("target_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("expected_fingerprint", sa.Text(), server_default="", nullable=False),
        sa.Column("observed_fingerprint", sa.Text(), server_default="", nullable=False),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.Column("observed_by", sa.Text(), server_default="", nullable=False),
        sa.Column("observed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_observations")),
    )
    op.create_index(
        op.f("ix_observations_tenant_id_target_id_observed_at"),
        "observations",
        ["tenant_id", "target_id", "observed_at"],
        unique=False,
    )
    op.create_table(
        "ocsp_responders",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("id", sa.String(length=140), nullable=False),
        sa.Column("ca_certificate_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("key_ref", sa.String(length=140), server_default="", nullable=False),
        sa.Column("key_algorithm", sa.Text(), server_default="", nullable=False),
        sa.Column("certificate_der", sa.LargeBinary(), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("not_after", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_ocsp_responders")),
    )
    op.create_index(
        op.f("ix_ocsp_responders_tenant_id_ca_certificate_id_not_after"),
        "ocsp_responders",
        ["tenant_id", "ca_certificate_id", "not_after"],
        unique=False,
    )
    op.create_table(
        "orders",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("id", sa.String(length=140), nullable=False),
        sa.Column("job_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("issuer_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("ca_certificate_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("serial_number", sa.Text(), nullable=True),
        sa.Column("tbs_der", sa.LargeBinary(), nullable=True),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("not_after", sa.DateTime(timezone=True), nullable=True),
        sa.Column("csr_der", sa.LargeBinary(), nullable=False),
        sa.Column("reference", sa.Text(), server_default="", nullable=False),
        sa.Column("status", sa.Text(), server_default="", nullable=False),
        sa.Column("leaf_der", sa.LargeBinary(), nullable=True),
        sa.Column("chain_pem", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "status IN ('intended', 'pending', 'answered', 'recorded', 'rejected')",
            name=op.f("ck_orders_status_is_known"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_orders")),
        sa.UniqueConstraint(
            "tenant_id",
            "ca_certificate_id",
            "serial_number",
            name=op.f("uq_orders_tenant_id_ca_certificate_id_serial_number"),
        ),
        sa.UniqueConstraint("tenant_id", "job_id", name=op.f("uq_orders_tenant_id_job_id")),
    )
    op.create_table(
        "owners",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("id", sa.String(length=140), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("email", sa.Text(), server_default="", nullable=False),
        sa.Column("team_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_owners")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_owners_tenant_id_name")),
    )
    op.create_table(
        "renewal_policies",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("id", sa.String(length=140), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("renewal_window_days", sa.Integer(), nullable=True),
        sa.Column("renewal_window_fraction", sa.Float(), nullable=True),
        sa.Column("auto_renew", sa.Boolean(), nullable=False),
        sa.Column("max_retries", sa.Integer(), server_default="3", nullable=False),
        sa.Column("retry_interval_seconds", sa.Integer(), server_default="3600", nullable=False),
        sa.Column("alert_thresholds_days", JSON, nullable=False),
        sa.Column("alert_channels", JSON, nullable=False),
        sa.Column("alert_severity_map", JSON, nullable=False),
        sa.Column("certificate_profile_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_renewal_policies")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_renewal_policies_tenant_id_name")),
    )
    op.create_table(
        "steps",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("id", sa.String(length=140), nullable=False),
        sa.Column("job_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("kind", sa.Text(), server_default="", nullable=False),
        sa.Column("status", sa.Text(), server_default="", nullable=False),
        sa.Column("agent_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("run_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_owner", sa.Text(), server_default="", nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("error_kind", sa.Text(), server_default="", nullable=False),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "kind IN ('approve', 'prepare', 'issue', 'record', 'deploy', 'verify', 'plan', 'revoke', 'publish')",
            name=op.f("ck_steps_kind_is_known"),
        ),
        sa.CheckConstraint(
            "status IN ('ready', 'leased', 'done', 'failed', 'cancelled')", name=op.f("ck_steps_status_is_known")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_steps")),
    )
    op.create_index(
        "ix_steps_leased",
        "steps",
        ["tenant_id", "lease_until"],
        unique=False,
        sqlite_where=sa.text("status = 'leased'"),
        postgresql_where=sa.text("status = 'leased'"),
    )
    op.create_index(
        "ix_steps_ready",
        "steps",
        ["tenant_id", "agent_id", "run_at"],
        unique=False,
        sqlite_where=sa.text("status = 'ready'"),
        postgresql_where=sa.text("status = 'ready'"),
    )
    op.create_index(op.f("ix_steps_tenant_id_job_id"), "steps", ["tenant_id", "job_id"], unique=False)
    op.create_table(
        "teams",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("id", sa.String(length=140), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_teams")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_teams_tenant_id_name")),
    )
    op.create_table(
        "ticks",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("name", sa.String(length=140), nullable=False),
        sa.Column("lease_owner", sa.Text(), server_default="", nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_run_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_run_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "name", name=op.f("pk_ticks")),
    )


def downgrade() -> None:
    """Drop them all: only a restore brings the data back."""
    for table in TABLES:
        op.drop_table(table)

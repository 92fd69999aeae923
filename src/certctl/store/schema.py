"""All tables, for SQLite and PostgreSQL alike. Changed only together with an Alembic revision.

Times are aware UTC (SQLite keeps them as sortable text), serial numbers lowercase hex text, JSON is JSONB on
PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Dialect,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy import DateTime as SqlDateTime
from sqlalchemy.dialects.postgresql import JSONB

from certctl.core import acme, status

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


class UtcTime(TypeDecorator[datetime]):
    """Aware UTC datetimes in, aware UTC datetimes out, on both databases."""

    impl = SqlDateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times; SQLite stores UTC without an offset."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive datetime reached the store")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the zone back."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def _key(name: str) -> Column[str]:
    return Column(name, String(140), nullable=False)


def _reference(name: str) -> Column[str]:
    """A reference by id; empty text when there is none, so that unique keys work on both databases."""
    return Column(name, String(140), nullable=False, server_default="")


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False, server_default="")


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False)


def _count(name: str, default: int = 0) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default=str(default))


def _json(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, Json, nullable=nullable)


def _time(name: str, *, nullable: bool = True) -> Column[datetime]:
    return Column(name, UtcTime, nullable=nullable)


def _born() -> Column[datetime]:
    return _time("created_at", nullable=False)


def _changed() -> Column[datetime]:
    return _time("updated_at", nullable=False)


def _one_of(column: str, words: Iterable[str]) -> CheckConstraint:
    listed = ", ".join(f"'{word}'" for word in words)
    return CheckConstraint(f"{column} IN ({listed})", name=f"{column}_is_known")


def _table(name: str, *items: Any) -> Table:
    """A table whose rows belong to a tenant and are named by (tenant_id, id)."""
    return Table(name, metadata, _key("tenant_id"), _key("id"), *items, PrimaryKeyConstraint("tenant_id", "id"))


installation = Table(
    "installation",
    metadata,
    _key("tenant_id"),
    _key("name"),
    Column("value", LargeBinary, nullable=False),
    _born(),
    PrimaryKeyConstraint("tenant_id", "name"),
)

teams = _table(
    "teams",
    _text("name"),
    _text("description"),
    _count("row_version", 1),
    _born(),
    _changed(),
    UniqueConstraint("tenant_id", "name"),
)

owners = _table(
    "owners",
    _text("name"),
    _text("email"),
    _reference("team_id"),
    _count("row_version", 1),
    _born(),
    _changed(),
    UniqueConstraint("tenant_id", "name"),
)

profiles = _table(
    "certificate_profiles",
    _text("name"),
    _text("description"),
    _count("version", 1),
    _json("allowed_key_algorithms"),
    _count("max_ttl_seconds"),
    _json("allowed_ekus"),
    _json("required_san_patterns"),
    _text("spiffe_uri_pattern"),
    _flag("allow_short_lived"),
    _flag("must_staple"),
    _json("required_csr_attributes"),
    _text("acme_auth_mode"),
    _reference("acme_issuer_id"),
    _flag("requires_approval"),
    _flag("enabled"),
    _count("row_version", 1),
    _born(),
    _changed(),
    UniqueConstraint("tenant_id", "name"),
)

renewal_policies = _table(
    "renewal_policies",
    _text("name"),
    Column("renewal_window_days", Integer),
    Column("renewal_window_fraction", Float),
    _flag("auto_renew"),
    _count("max_retries", 3),
    _count("retry_interval_seconds", 3600),
    _json("alert_thresholds_days"),
    _json("alert_channels"),
    _json("alert_severity_map"),
    _reference("certificate_profile_id"),
    _count("row_version", 1),
    _born(),
    _changed(),
    UniqueConstraint("tenant_id", "name"),
)

issuers = _table(
    "issuers",
    _text("name"),
    _text("type"),
    _json("config"),
    Column("sealed_config", LargeBinary),
    _flag("enabled"),
    _time("last_tested_at"),
    _text("test_status"),
    _text("source"),
    _text("hierarchy_mode"),
    _count("row_version", 1),
    _born(),
    _changed(),
    UniqueConstraint("tenant_id", "name"),
)

targets = _table(
    "deployment_targets",
    _text("name"),
    _text("type"),
    _reference("agent_id"),
    _json("config"),
    Column("sealed_config", LargeBinary),
    _flag("enabled"),
    _time("last_tested_at"),
    _text("test_status"),
    _text("source"),
    _time("retired_at"),
    _text("retired_reason"),
    _count("row_version", 1),
    _born(),
    _changed(),
    UniqueConstraint("tenant_id", "name"),
    Index(None, "tenant_id", "agent_id"),
    Index(None, "tenant_id", "type", "name"),
)

agents = _table(
    "agents",
    _text("name"),
    _text("hostname"),
    _text("status"),
    _time("last_heartbeat_at"),
    _time("registered_at", nullable=False),
    _text("os"),
    _text("architecture"),
    _text("ip_address"),
    _text("version"),
    _count("protocol"),
    _json("capabilities"),
    _text("agent_group"),
    _text("boot_id"),
    _text("credential_hash"),
    _time("retired_at"),
    _text("retired_reason"),
    # a retired agent's name may be used again
    Index(
        "ux_agents_name",
        "tenant_id",
        "name",
        unique=True,
        sqlite_where=text("retired_at IS NULL"),
        postgresql_where=text("retired_at IS NULL"),
    ),
    Index(None, "credential_hash", unique=True),
    Index(None, "tenant_id", "status", "name"),
    Index(None, "tenant_id", "agent_group", "name"),
    _one_of("status", status.AgentStatus),
)

policy_rules = _table(
    "policy_rules",
    _text("name"),
    _text("type"),
    _json("config"),
    _flag("enabled"),
    _text("severity"),
    _count("version", 1),
    _count("evaluated_version"),
    _time("evaluated_at"),
    _reference("scan_after"),
    _count("row_version", 1),
    _born(),
    _changed(),
    UniqueConstraint("tenant_id", "name"),
    _one_of("severity", ("Warning", "Error", "Critical")),
)

policy_violations = _table(
    "policy_violations",
    _reference("certificate_id"),
    _reference("rule_id"),
    _text("message"),
    _text("severity"),
    _born(),
    _time("resolved_at"),
    UniqueConstraint("tenant_id", "rule_id", "certificate_id"),
    Index(None, "tenant_id", "rule_id", "created_at", "id"),
    Index(None, "tenant_id", "certificate_id"),
    _one_of("severity", ("Warning", "Error", "Critical")),
)

agent_groups = _table(
    "agent_groups",
    _text("name"),
    _text("description"),
    _text("match_os"),
    _text("match_architecture"),
    _text("match_ip_cidr"),
    _text("match_version"),
    _flag("enabled"),
    _count("row_version", 1),
    _born(),
    _changed(),
    UniqueConstraint("tenant_id", "name"),
)

enrolment_tokens = _table(
    "enrolment_tokens",
    _text("token_hash"),
    _text("agent_name"),
    _text("agent_group"),
    _text("created_by"),
    _born(),
    _time("expires_at", nullable=False),
    _time("used_at"),
    _text("used_by"),
    _text("used_key"),
    Index(None, "token_hash", unique=True),
)

api_keys = _table(
    "api_keys",
    _text("name"),
    _text("prefix"),
    _text("key_hash"),
    _json("role_ids"),
    _json("teams", nullable=True),
    _json("profiles", nullable=True),
    _json("issuers", nullable=True),
    _reference("agent_id"),
    _text("created_by"),
    _born(),
    _time("expires_at"),
    _time("last_used_at"),
    _time("revoked_at"),
    # the value before the last rotation, good until then; NULL when there is none
    Column("previous_hash", Text),
    _time("previous_until"),
    _count("row_version", 1),
    # whose it is, when not its maker's; who was shown the present value last, and since when no other is good
    _text("person"),
    _text("shown_to"),
    _time("shown_at"),
    Index(None, "key_hash", unique=True),
    Index(None, "previous_hash", unique=True),
    UniqueConstraint("tenant_id", "name"),
)

sessions = _table(
    "sessions",
    _text("token_hash"),
    _text("csrf_hash"),
    _key("actor_id"),
    _key("actor_type"),
    _text("method"),
    _reference("key_id"),
    _text("ip_address"),
    _text("user_agent"),
    _born(),
    _time("last_seen_at", nullable=False),
    _time("idle_expires_at", nullable=False),
    _time("absolute_expires_at", nullable=False),
    _time("revoked_at"),
    _text("revoked_reason"),
    Index(None, "token_hash", unique=True),
    Index(None, "tenant_id", "actor_id", "actor_type"),
    Index(None, "tenant_id", "idle_expires_at"),
)

users = _table(
    "users",
    _text("email"),
    _text("display_name"),
    _text("oidc_subject"),
    _reference("oidc_provider_id"),
    _time("last_login_at"),
    _born(),
    _changed(),
    _time("deactivated_at"),
    UniqueConstraint("tenant_id", "oidc_provider_id", "oidc_subject"),
)

breakglass_credentials = _table(
    "breakglass_credentials",
    _text("password_hash"),
    _text("created_by"),
    _born(),
    _time("last_password_change_at", nullable=False),
    _count("failure_count"),
    _time("last_failure_at"),
    _time("locked_until"),
)

rate_buckets = Table(
    "rate_buckets",
    metadata,
    _key("tenant_id"),
    Column("name", Text, nullable=False),
    Column("tokens", Float, nullable=False),
    _changed(),
    PrimaryKeyConstraint("tenant_id", "name"),
    Index(None, "tenant_id", "updated_at"),
)

roles = _table(
    "roles",
    _text("name"),
    _text("description"),
    _count("row_version", 1),
    _born(),
    _changed(),
    UniqueConstraint("tenant_id", "name"),
)

role_permissions = Table(
    "role_permissions",
    metadata,
    _key("tenant_id"),
    _key("role_id"),
    _key("permission"),
    _key("scope_type"),
    _reference("scope_id"),
    PrimaryKeyConstraint("tenant_id", "role_id", "permission", "scope_type", "scope_id"),
    _one_of("scope_type", ("global", "profile", "issuer", "team")),
)

actor_roles = _table(
    "actor_roles",
    _key("actor_id"),
    _key("actor_type"),
    _key("role_id"),
    _key("scope_type"),
    _reference("scope_id"),
    _time("expires_at"),
    _text("granted_by"),
    _born(),
    UniqueConstraint(
        "tenant_id", "actor_id", "actor_type", "role_id", "scope_type", "scope_id", name="uq_actor_roles_grant"
    ),
    Index(None, "tenant_id", "role_id"),
    _one_of("scope_type", ("global", "profile", "issuer", "team")),
)

ca_keys = _table(
    "ca_keys",
    _text("algorithm"),
    Column("spki_der", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    _born(),
)

ca_certificates = _table(
    "ca_certificates",
    _reference("issuer_id"),
    _reference("parent_id"),
    _text("kind"),
    _reference("key_ref"),
    _text("key_algorithm"),
    _text("state"),
    _count("generation", 1),
    _text("subject"),
    _text("serial_number"),
    Column("certificate_der", LargeBinary, nullable=False),
    _time("not_before", nullable=False),
    _time("not_after", nullable=False),
    _born(),
    _text("name"),
    Column("metadata", Json, nullable=False, server_default="{}"),
    Column("path_length", Integer),
    _time("updated_at"),
    UniqueConstraint("tenant_id", "issuer_id", "kind", "generation"),
    _one_of("kind", ("root", "intermediate")),
    _one_of("state", ("active", "retiring", "retired")),
)

ca_intents = _table(
    "ca_intents",
    _reference("issuer_id"),
    _reference("parent_id"),
    _reference("key_ref"),
    _text("key_algorithm"),
    _count("generation", 1),
    _text("name"),
    _json("metadata"),
    _count("path_length"),
    _text("serial_number"),
    Column("tbs_der", LargeBinary, nullable=False),
    _text("created_by"),
    _born(),
    _time("answered_at"),
    UniqueConstraint("tenant_id", "issuer_id", "generation"),
    UniqueConstraint("tenant_id", "issuer_id", "name"),
)

ocsp_responders = _table(
    "ocsp_responders",
    _reference("ca_certificate_id"),
    _reference("key_ref"),
    _text("key_algorithm"),
    Column("certificate_der", LargeBinary, nullable=False),
    _time("not_before", nullable=False),
    _time("not_after", nullable=False),
    _born(),
    Index(None, "tenant_id", "ca_certificate_id", "not_after"),
)

crls = _table(
    "crls",
    _reference("ca_certificate_id"),
    Column("number", BigInteger, nullable=False),
    _time("this_update", nullable=False),
    _time("next_update", nullable=False),
    _count("revoked_count"),
    Column("crl_der", LargeBinary, nullable=False),
    _born(),
    UniqueConstraint("tenant_id", "ca_certificate_id", "number"),
)

certificates = _table(
    "managed_certificates",
    _text("name"),
    _text("common_name"),
    _json("sans"),
    _text("environment"),
    _reference("owner_id"),
    _reference("team_id"),
    _reference("issuer_id"),
    _reference("renewal_policy_id"),
    _reference("certificate_profile_id"),
    Column("validity_seconds", Integer),
    _text("status"),
    _text("status_reason"),
    _time("expires_at"),
    _json("tags"),
    _time("last_renewal_at"),
    _time("last_deployment_at"),
    _time("revoked_at"),
    _text("revocation_reason"),
    _time("next_check_at"),
    _count("failures"),
    _time("last_failure_at"),
    _text("source"),
    _count("row_version", 1),
    _born(),
    _changed(),
    UniqueConstraint("tenant_id", "name"),
    Index(None, "tenant_id", "status", "created_at", "id"),
    Index(None, "tenant_id", "created_at", "id"),
    Index(None, "tenant_id", "expires_at"),
    # the summary counts from these alone
    Index(None, "tenant_id", "status", "expires_at"),
    Index(None, "tenant_id", "team_id", "status", "expires_at"),
    Index(None, "tenant_id", "next_check_at"),
    Index(None, "tenant_id", "common_name"),
    Index(None, "tenant_id", "expires_at", "id"),
    Index(None, "tenant_id", "updated_at", "id"),
    Index(None, "tenant_id", "environment", "created_at", "id"),
    Index(None, "tenant_id", "owner_id", "created_at", "id"),
    Index(None, "tenant_id", "team_id", "created_at", "id"),
    Index(None, "tenant_id", "issuer_id", "created_at", "id"),
    Index(None, "tenant_id", "certificate_profile_id", "created_at", "id"),
    Index(None, "tenant_id", "renewal_policy_id", "created_at", "id"),
    _one_of("status", status.CertificateStatus),
)

# code point order whatever the database's locale: prefixes are ranges of the index
_Searched = Text().with_variant(Text(collation="C"), "postgresql")

# what a search finds certificates by; `reversed` is empty where a domain suffix makes no sense
certificate_names = Table(
    "certificate_names",
    metadata,
    _key("tenant_id"),
    _key("certificate_id"),
    Column("kind", String(16), nullable=False),
    Column("value", _Searched, nullable=False),
    Column("reversed", _Searched, nullable=False),
    PrimaryKeyConstraint("tenant_id", "certificate_id", "kind", "value"),
    Index(None, "tenant_id", "value", "certificate_id"),
    Index(None, "tenant_id", "reversed", "certificate_id"),
    _one_of("kind", ("name", "common_name", "san", "serial_number", "fingerprint")),
)

certificate_targets = Table(
    "certificate_target_mappings",
    metadata,
    _key("tenant_id"),
    _key("certificate_id"),
    _key("target_id"),
    PrimaryKeyConstraint("tenant_id", "certificate_id", "target_id"),
    Index(None, "tenant_id", "target_id"),
)

versions = _table(
    "certificate_versions",
    _reference("certificate_id"),
    _reference("holder_id"),
    _reference("job_id"),
    _reference("issuer_id"),
    _reference("ca_certificate_id"),
    _reference("replaces_id"),
    _text("status"),
    _text("serial_number"),
    _time("not_before", nullable=False),
    _time("not_after", nullable=False),
    _text("fingerprint_sha256"),
    _text("spki_sha256"),
    _text("key_algorithm"),
    _count("key_size"),
    Column("leaf_der", LargeBinary, nullable=False),
    _text("chain_pem"),
    Column("csr_der", LargeBinary, nullable=False),
    _born(),
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
    _one_of("status", status.VersionStatus),
)

orders = _table(
    "orders",
    _reference("job_id"),
    _reference("issuer_id"),
    _reference("ca_certificate_id"),
    # NULL until the CA has chosen it: a unique key leaves NULLs alone on both databases
    Column("serial_number", Text),
    Column("tbs_der", LargeBinary),
    _time("not_before"),
    _time("not_after"),
    Column("csr_der", LargeBinary, nullable=False),
    _text("reference"),
    _text("status"),
    Column("leaf_der", LargeBinary),
    _text("chain_pem"),
    _born(),
    UniqueConstraint("tenant_id", "job_id"),
    UniqueConstraint("tenant_id", "ca_certificate_id", "serial_number"),
    _one_of("status", status.OrderStatus),
)

revocations = _table(
    "certificate_revocations",
    _reference("certificate_id"),
    _reference("version_id"),
    _reference("issuer_id"),
    _reference("ca_certificate_id"),
    _text("serial_number"),
    _text("reason"),
    _text("revoked_by"),
    _time("revoked_at", nullable=False),
    _flag("issuer_notified"),
    UniqueConstraint("tenant_id", "issuer_id", "ca_certificate_id", "serial_number"),
    Index(None, "tenant_id", "ca_certificate_id"),
    Index(None, "tenant_id", "version_id"),
)

jobs = _table(
    "jobs",
    _text("type"),
    _reference("certificate_id"),
    _reference("holder_id"),
    _reference("version_id"),
    _reference("target_id"),
    _reference("agent_id"),
    _reference("parent_id"),
    _text("status"),
    _count("attempts"),
    _count("max_attempts", 3),
    _text("last_error"),
    _text("error_kind"),
    _text("idempotency_key"),
    # one live issuing job a holder, one live deployment a target: NULL when the job has ended
    Column("live_key", Text),
    _json("body"),
    _text("requested_by"),
    _time("scheduled_at", nullable=False),
    _time("started_at"),
    _time("completed_at"),
    _text("verification_status"),
    _time("verified_at"),
    _text("verification_error"),
    _text("verification_fingerprint"),
    _text("traceparent"),
    _born(),
    UniqueConstraint("tenant_id", "idempotency_key"),
    UniqueConstraint("tenant_id", "live_key"),
    Index(None, "tenant_id", "status", "created_at", "id"),
    Index(None, "tenant_id", "created_at", "id"),
    Index(None, "tenant_id", "certificate_id", "created_at"),
    Index(None, "tenant_id", "parent_id"),
    Index(None, "tenant_id", "completed_at", "status"),
    Index(None, "tenant_id", "type", "created_at", "id"),
    Index(None, "tenant_id", "agent_id", "created_at", "id"),
    Index(None, "tenant_id", "target_id", "created_at", "id"),
    _one_of("type", status.JobType),
    _one_of("status", status.JobStatus),
)

steps = _table(
    "steps",
    _reference("job_id"),
    _text("kind"),
    _text("status"),
    _reference("agent_id"),
    _time("run_at", nullable=False),
    _count("attempts"),
    _text("lease_owner"),
    _time("lease_until"),
    Column("fence", BigInteger, nullable=False, server_default="0"),
    _text("error_kind"),
    _text("error"),
    _born(),
    _time("ended_at"),
    Index(None, "tenant_id", "job_id"),
    Index(
        "ix_steps_ready",
        "tenant_id",
        "agent_id",
        "run_at",
        sqlite_where=text("status = 'ready'"),
        postgresql_where=text("status = 'ready'"),
    ),
    Index(
        "ix_steps_leased",
        "tenant_id",
        "lease_until",
        sqlite_where=text("status = 'leased'"),
        postgresql_where=text("status = 'leased'"),
    ),
    _one_of("kind", status.StepKind),
    _one_of("status", status.StepStatus),
)

deployments = _table(
    "deployments",
    _reference("certificate_id"),
    _reference("version_id"),
    _reference("target_id"),
    _reference("agent_id"),
    _reference("job_id"),
    _text("status"),
    _text("error"),
    _json("receipt", nullable=True),
    _text("served_before"),
    _text("observed_fingerprint"),
    _time("applied_at"),
    _time("verified_at"),
    _born(),
    _changed(),
    UniqueConstraint("tenant_id", "job_id"),
    Index(None, "tenant_id", "certificate_id", "created_at"),
    Index(None, "tenant_id", "target_id", "created_at"),
    Index(None, "tenant_id", "version_id"),
    _one_of("status", status.DeploymentStatus),
)

batches = _table(
    "batches",
    _text("action"),
    _flag("dry_run"),
    _text("status"),
    _text("status_reason"),
    _json("selection"),
    _json("wanted"),
    Column("max_failures", Integer),
    # what the asker could see, and the same as text: who has just this scope may look at the batch
    _json("scope"),
    _text("scope_key"),
    _reference("key_id"),
    _text("permission"),
    _text("requested_by"),
    _text("actor_type"),
    _text("request_id"),
    _text("address"),
    _count("total"),
    _count("done"),
    _count("skipped"),
    _count("failed"),
    _text("lease_owner"),
    _time("lease_until"),
    Column("fence", BigInteger, nullable=False, server_default="0"),
    _time("run_at", nullable=False),
    _born(),
    _changed(),
    _time("ended_at"),
    Index(None, "tenant_id", "created_at", "id"),
    Index(
        "ix_batches_running",
        "tenant_id",
        "run_at",
        sqlite_where=text("status = 'running'"),
        postgresql_where=text("status = 'running'"),
    ),
    _one_of("action", status.BatchAction),
    _one_of("status", status.BatchStatus),
)

batch_items = Table(
    "batch_items",
    metadata,
    _key("tenant_id"),
    _key("batch_id"),
    Column("seq", Integer, nullable=False),
    _key("certificate_id"),
    _text("status"),
    _text("reason"),
    _text("error_kind"),
    _json("job_ids"),
    _time("ended_at"),
    PrimaryKeyConstraint("tenant_id", "batch_id", "seq"),
    Index(None, "tenant_id", "batch_id", "status", "seq"),
    _one_of("status", status.ItemStatus),
)

approvals = _table(
    "approval_requests",
    _text("kind"),
    _reference("certificate_id"),
    _reference("job_id"),
    _reference("profile_id"),
    _text("requested_by"),
    _text("state"),
    _text("decision_hash"),
    _text("decided_by"),
    _time("decided_at"),
    _text("decision_note"),
    _json("metadata"),
    _born(),
    _changed(),
    UniqueConstraint("tenant_id", "job_id"),
    Index(None, "tenant_id", "state", "created_at", "id"),
    Index(None, "tenant_id", "created_at", "id"),
    _one_of("state", status.ApprovalState),
)

observations = _table(
    "observations",
    _reference("deployment_id"),
    _reference("target_id"),
    _text("expected_fingerprint"),
    _text("observed_fingerprint"),
    _text("error"),
    _text("observed_by"),
    _time("observed_at", nullable=False),
    Index(None, "tenant_id", "target_id", "observed_at"),
)

notifications = _table(
    "notification_events",
    _text("type"),
    _reference("certificate_id"),
    _text("channel"),
    _text("recipient"),
    _text("severity"),
    _text("message"),
    _text("status"),
    _text("dedup_key"),
    _count("retry_count"),
    _time("next_retry_at"),
    _text("last_error"),
    _time("sent_at"),
    _born(),
    UniqueConstraint("tenant_id", "dedup_key"),
    Index(None, "tenant_id", "status", "created_at"),
    _one_of("status", ("pending", "sent", "failed", "dead", "read", "skipped")),
)

events = Table(
    "audit_events",
    metadata,
    # followers read below the oldest running transaction, never by the largest seq seen
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    _key("tenant_id"),
    _key("id"),
    Column("transaction_id", BigInteger, nullable=False, server_default="0"),
    _text("type"),
    _text("subject_type"),
    _reference("subject_id"),
    _text("actor"),
    _text("actor_type"),
    _text("request_id"),
    _text("address"),
    _json("details"),
    _born(),
    UniqueConstraint("tenant_id", "id"),
    # followers read in this order
    Index(None, "tenant_id", "transaction_id", "seq"),
    Index(None, "tenant_id", "subject_id", "seq"),
    Index(None, "tenant_id", "type", "seq"),
)

# the audit seal: one Merkle tree over the events in the order of their commits (docs/adr/0026-audit-seal.md)
audit_tree = Table(
    "audit_tree",
    metadata,
    _key("tenant_id"),
    _reference("key_ref"),
    _text("origin"),
    Column("size", BigInteger, nullable=False, server_default="0"),
    # the place in the log behind which nothing is sealed yet
    Column("transaction_id", BigInteger, nullable=False, server_default="0"),
    Column("seq", BigInteger, nullable=False, server_default="0"),
    Column("verified_size", BigInteger, nullable=False, server_default="0"),
    _time("verified_at"),
    _time("walked_at"),
    Column("broken_at", BigInteger, nullable=True),
    _text("broken"),
    _born(),
    PrimaryKeyConstraint("tenant_id"),
)

audit_leaves = Table(
    "audit_leaves",
    metadata,
    _key("tenant_id"),
    Column("leaf_index", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    PrimaryKeyConstraint("tenant_id", "leaf_index"),
    UniqueConstraint("tenant_id", "seq"),
)

# roots of complete subtrees of 256, 65536, ... leaves: level 1, 2, ...
audit_nodes = Table(
    "audit_nodes",
    metadata,
    _key("tenant_id"),
    Column("level", Integer, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    PrimaryKeyConstraint("tenant_id", "level", "position"),
)

audit_heads = Table(
    "audit_heads",
    metadata,
    _key("tenant_id"),
    Column("size", BigInteger, nullable=False),
    Column("root", LargeBinary, nullable=False),
    _text("note"),
    _born(),
    PrimaryKeyConstraint("tenant_id", "size"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    _key("tenant_id"),
    Column("caller", String(300), nullable=False),
    Column("key", String(255), nullable=False),
    Column("request_hash", String(64), nullable=False),
    _text("phase"),
    _text("token"),
    _time("lease_until", nullable=False),
    _text("subject_type"),
    _reference("subject_id"),
    Column("answer", LargeBinary),
    _born(),
    _time("expires_at", nullable=False),
    PrimaryKeyConstraint("tenant_id", "caller", "key"),
    Index(None, "tenant_id", "expires_at"),
    _one_of("phase", ("claimed", "acted", "answered")),
)

ticks = Table(
    "ticks",
    metadata,
    _key("tenant_id"),
    _key("name"),
    _text("lease_owner"),
    _time("lease_until"),
    _time("next_run_at"),
    _time("last_run_at"),
    Column("fence", BigInteger, nullable=False, server_default="0"),
    PrimaryKeyConstraint("tenant_id", "name"),
)

# Counters of the whole fleet: each transaction adds rows here that nobody waits for, a tick adds them up below.
counter_deltas = Table(
    "counter_deltas",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    _key("tenant_id"),
    _text("name"),
    _text("labels"),
    Column("amount", Float, nullable=False),
)

counter_totals = Table(
    "counter_totals",
    metadata,
    _key("tenant_id"),
    Column("name", String(140), nullable=False),
    Column("labels", String(500), nullable=False),
    Column("amount", Float, nullable=False),
    PrimaryKeyConstraint("tenant_id", "name", "labels"),
)

acme_accounts = _table(
    "acme_accounts",
    _reference("profile_id"),
    _text("jwk"),
    _text("thumbprint"),
    _text("status"),
    _json("contact"),
    _flag("terms_agreed"),
    _reference("external_key_id"),
    _born(),
    _changed(),
    UniqueConstraint("tenant_id", "profile_id", "thumbprint"),
    Index(None, "tenant_id", "created_at", "id"),
    _one_of("status", acme.AccountStatus),
)

acme_orders = _table(
    "acme_orders",
    _reference("account_id"),
    _reference("profile_id"),
    _text("status"),
    _json("names"),
    _text("names_key"),
    _time("not_before"),
    _time("not_after"),
    _text("replaces"),
    _text("profile"),
    _json("error", nullable=True),
    _time("expires_at", nullable=False),
    _reference("certificate_id"),
    _reference("job_id"),
    _reference("version_id"),
    _born(),
    _changed(),
    Index(None, "tenant_id", "account_id", "created_at", "id"),
    Index(None, "tenant_id", "account_id", "names_key"),
    Index(None, "tenant_id", "status", "expires_at"),
    Index(None, "tenant_id", "version_id"),
    # RFC 9773 5: a certificate is replaced once; an order that came to nothing gives it free
    Index(
        "ux_acme_orders_replaces",
        "tenant_id",
        "replaces",
        unique=True,
        sqlite_where=text("replaces <> '' AND status <> 'invalid'"),
        postgresql_where=text("replaces <> '' AND status <> 'invalid'"),
    ),
    # one order, one issuing job
    Index(
        "ux_acme_orders_job",
        "tenant_id",
        "job_id",
        unique=True,
        sqlite_where=text("job_id <> ''"),
        postgresql_where=text("job_id <> ''"),
    ),
    _one_of("status", acme.OrderState),
)

acme_authorizations = _table(
    "acme_authorizations",
    _reference("order_id"),
    _reference("account_id"),
    _text("name"),
    _flag("wildcard"),
    _text("status"),
    _time("expires_at", nullable=False),
    _time("validated_at"),
    _born(),
    Index(None, "tenant_id", "order_id"),
    Index(None, "tenant_id", "account_id", "name"),
    Index(None, "tenant_id", "status", "expires_at"),
    _one_of("status", acme.AuthorizationStatus),
)

acme_challenges = _table(
    "acme_challenges",
    _reference("authorization_id"),
    _reference("account_id"),
    _text("type"),
    _text("token"),
    _text("status"),
    _time("validated_at"),
    _json("error", nullable=True),
    _count("attempts"),
    _time("run_at", nullable=False),
    _text("lease_owner"),
    _time("lease_until"),
    _born(),
    Index(None, "tenant_id", "authorization_id"),
    Index(None, "tenant_id", "status", "run_at"),
    _one_of("status", acme.ChallengeStatus),
)

acme_external_keys = _table(
    "acme_external_keys",
    _text("name"),
    _reference("profile_id"),
    Column("sealed", LargeBinary, nullable=False),
    _reference("owner_id"),
    _reference("team_id"),
    _json("allowed_names"),
    _flag("reusable"),
    _time("expires_at"),
    _text("created_by"),
    _born(),
    _reference("bound_account_id"),
    _time("bound_at"),
    _time("revoked_at"),
    UniqueConstraint("tenant_id", "name"),
)

# nonces that were used: a nonce proves by itself that we made it and when (docs/adr, ACME nonces)
acme_spent_nonces = Table(
    "acme_spent_nonces",
    metadata,
    _key("tenant_id"),
    _key("nonce"),
    _time("expires_at", nullable=False),
    PrimaryKeyConstraint("tenant_id", "nonce"),
    Index(None, "tenant_id", "expires_at"),
)

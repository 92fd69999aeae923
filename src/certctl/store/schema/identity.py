"""Who may call: keys, sessions, people, roles, and how many calls."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

from certctl.store.schema import columns as c

api_keys = c.table(
    "api_keys",
    c.words("name"),
    c.words("prefix"),
    c.words("key_hash"),
    c.json("role_ids"),
    c.json("teams", nullable=True),
    c.json("profiles", nullable=True),
    c.json("issuers", nullable=True),
    c.reference("agent_id"),
    c.words("created_by"),
    c.born(),
    c.time("expires_at"),
    c.time("last_used_at"),
    c.time("revoked_at"),
    # the value before the last rotation, good until then; NULL when there is none
    Column("previous_hash", Text),
    c.time("previous_until"),
    c.count("row_version", 1),
    # whose it is, when not its maker's; who was shown the present value last, and since when no other is good
    c.words("person"),
    c.words("shown_to"),
    c.time("shown_at"),
    Index(None, "key_hash", unique=True),
    Index(None, "previous_hash", unique=True),
    UniqueConstraint("tenant_id", "name"),
)

sessions = c.table(
    "sessions",
    c.words("token_hash"),
    c.words("csrf_hash"),
    c.key("actor_id"),
    c.key("actor_type"),
    c.words("method"),
    c.reference("key_id"),
    c.words("ip_address"),
    c.words("user_agent"),
    c.born(),
    c.time("last_seen_at", nullable=False),
    c.time("idle_expires_at", nullable=False),
    c.time("absolute_expires_at", nullable=False),
    c.time("revoked_at"),
    c.words("revoked_reason"),
    Index(None, "token_hash", unique=True),
    Index(None, "tenant_id", "actor_id", "actor_type"),
    Index(None, "tenant_id", "idle_expires_at"),
)

users = c.table(
    "users",
    c.words("email"),
    c.words("display_name"),
    c.words("oidc_subject"),
    c.reference("oidc_provider_id"),
    c.time("last_login_at"),
    c.born(),
    c.changed(),
    c.time("deactivated_at"),
    UniqueConstraint("tenant_id", "oidc_provider_id", "oidc_subject"),
)

breakglass_credentials = c.table(
    "breakglass_credentials",
    c.words("password_hash"),
    c.words("created_by"),
    c.born(),
    c.time("last_password_change_at", nullable=False),
    c.count("failure_count"),
    c.time("last_failure_at"),
    c.time("locked_until"),
)

rate_buckets = Table(
    "rate_buckets",
    c.metadata,
    c.key("tenant_id"),
    Column("name", Text, nullable=False),
    Column("tokens", Float, nullable=False),
    c.changed(),
    PrimaryKeyConstraint("tenant_id", "name"),
    Index(None, "tenant_id", "updated_at"),
)

# the place in the log (LSN, as a number) that the last change of each caller ended at: a standby must have replayed it
# before it answers them
caller_writes = Table(
    "caller_writes",
    c.metadata,
    c.key("tenant_id"),
    Column("actor_id", Text, nullable=False),
    Column("place", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant_id", "actor_id"),
)

roles = c.table(
    "roles",
    c.words("name"),
    c.words("description"),
    c.count("row_version", 1),
    c.born(),
    c.changed(),
    UniqueConstraint("tenant_id", "name"),
)

role_permissions = Table(
    "role_permissions",
    c.metadata,
    c.key("tenant_id"),
    c.key("role_id"),
    c.key("permission"),
    c.key("scope_type"),
    c.reference("scope_id"),
    PrimaryKeyConstraint("tenant_id", "role_id", "permission", "scope_type", "scope_id"),
    c.one_of("scope_type", ("global", "profile", "issuer", "team")),
)

actor_roles = c.table(
    "actor_roles",
    c.key("actor_id"),
    c.key("actor_type"),
    c.key("role_id"),
    c.key("scope_type"),
    c.reference("scope_id"),
    c.time("expires_at"),
    c.words("granted_by"),
    c.born(),
    UniqueConstraint(
        "tenant_id", "actor_id", "actor_type", "role_id", "scope_type", "scope_id", name="uq_actor_roles_grant"
    ),
    Index(None, "tenant_id", "role_id"),
    c.one_of("scope_type", ("global", "profile", "issuer", "team")),
)

"""What is configured: people, profiles, policies, issuers, targets, agents."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    text,
)

from certctl.core import status
from certctl.store.schema import columns as c

installation = Table(
    "installation",
    c.metadata,
    c.key("tenant_id"),
    c.key("name"),
    Column("value", LargeBinary, nullable=False),
    c.born(),
    PrimaryKeyConstraint("tenant_id", "name"),
)

teams = c.table(
    "teams",
    c.words("name"),
    c.words("description"),
    c.count("row_version", 1),
    c.born(),
    c.changed(),
    UniqueConstraint("tenant_id", "name"),
)

owners = c.table(
    "owners",
    c.words("name"),
    c.words("email"),
    c.reference("team_id"),
    c.count("row_version", 1),
    c.born(),
    c.changed(),
    UniqueConstraint("tenant_id", "name"),
)

profiles = c.table(
    "certificate_profiles",
    c.words("name"),
    c.words("description"),
    c.count("version", 1),
    c.json("allowed_key_algorithms"),
    c.count("max_ttl_seconds"),
    c.json("allowed_ekus"),
    c.json("required_san_patterns"),
    c.words("spiffe_uri_pattern"),
    c.flag("allow_short_lived"),
    c.flag("must_staple"),
    c.json("required_csr_attributes"),
    c.words("acme_auth_mode"),
    c.reference("acme_issuer_id"),
    Column("acme_profiles", c.Json, nullable=False, server_default="[]"),
    c.flag("requires_approval"),
    c.count("approvals_required", 1),
    Column("approvers", c.Json, nullable=False, server_default="[]"),
    c.flag("enabled"),
    c.count("row_version", 1),
    c.born(),
    c.changed(),
    UniqueConstraint("tenant_id", "name"),
)

renewal_policies = c.table(
    "renewal_policies",
    c.words("name"),
    Column("renewal_window_days", Integer),
    Column("renewal_window_fraction", Float),
    c.flag("auto_renew"),
    c.count("max_retries", 3),
    c.count("retry_interval_seconds", 3600),
    c.json("alert_thresholds_days"),
    c.json("alert_channels"),
    c.json("alert_severity_map"),
    c.reference("certificate_profile_id"),
    Column("renewal_windows", c.Json, nullable=False, server_default="[]"),
    Column("freezes", c.Json, nullable=False, server_default="[]"),
    c.count("row_version", 1),
    c.born(),
    c.changed(),
    UniqueConstraint("tenant_id", "name"),
)

issuers = c.table(
    "issuers",
    c.words("name"),
    c.words("type"),
    c.json("config"),
    Column("sealed_config", LargeBinary),
    c.flag("enabled"),
    c.time("last_tested_at"),
    c.words("test_status"),
    c.words("source"),
    c.words("hierarchy_mode"),
    c.count("row_version", 1),
    c.born(),
    c.changed(),
    UniqueConstraint("tenant_id", "name"),
)

targets = c.table(
    "deployment_targets",
    c.words("name"),
    c.words("type"),
    c.reference("agent_id"),
    c.json("config"),
    Column("sealed_config", LargeBinary),
    c.flag("enabled"),
    c.time("last_tested_at"),
    c.words("test_status"),
    c.words("source"),
    c.time("retired_at"),
    c.words("retired_reason"),
    c.count("row_version", 1),
    c.born(),
    c.changed(),
    UniqueConstraint("tenant_id", "name"),
    Index(None, "tenant_id", "agent_id"),
    Index(None, "tenant_id", "type", "name"),
)

agents = c.table(
    "agents",
    c.words("name"),
    c.words("hostname"),
    c.words("status"),
    c.time("last_heartbeat_at"),
    c.time("registered_at", nullable=False),
    c.words("os"),
    c.words("architecture"),
    c.words("ip_address"),
    c.words("version"),
    c.count("protocol"),
    c.json("capabilities"),
    c.words("agent_group"),
    c.words("boot_id"),
    c.words("credential_hash"),
    c.time("retired_at"),
    c.words("retired_reason"),
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
    c.one_of("status", status.AgentStatus),
)

policy_rules = c.table(
    "policy_rules",
    c.words("name"),
    c.words("type"),
    c.json("config"),
    c.flag("enabled"),
    c.words("severity"),
    c.count("version", 1),
    c.count("evaluated_version"),
    c.time("evaluated_at"),
    c.reference("scan_after"),
    c.count("row_version", 1),
    c.born(),
    c.changed(),
    UniqueConstraint("tenant_id", "name"),
    c.one_of("severity", ("Warning", "Error", "Critical")),
)

policy_violations = c.table(
    "policy_violations",
    c.reference("certificate_id"),
    c.reference("rule_id"),
    c.words("message"),
    c.words("severity"),
    c.born(),
    c.time("resolved_at"),
    UniqueConstraint("tenant_id", "rule_id", "certificate_id"),
    Index(None, "tenant_id", "rule_id", "created_at", "id"),
    Index(None, "tenant_id", "certificate_id"),
    c.one_of("severity", ("Warning", "Error", "Critical")),
)

agent_groups = c.table(
    "agent_groups",
    c.words("name"),
    c.words("description"),
    c.words("match_os"),
    c.words("match_architecture"),
    c.words("match_ip_cidr"),
    c.words("match_version"),
    c.flag("enabled"),
    c.count("row_version", 1),
    c.born(),
    c.changed(),
    UniqueConstraint("tenant_id", "name"),
)

enrolment_tokens = c.table(
    "enrolment_tokens",
    c.words("token_hash"),
    c.words("agent_name"),
    c.words("agent_group"),
    c.words("created_by"),
    c.born(),
    c.time("expires_at", nullable=False),
    c.time("used_at"),
    c.words("used_by"),
    c.words("used_key"),
    Index(None, "token_hash", unique=True),
)

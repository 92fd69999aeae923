"""What operators configure: issuers, profiles, renewal policies, owners, teams, API keys, roles and grants."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct


class IssuerRecord(Struct, frozen=True, kw_only=True):
    """A CA that may be asked. `config` has no secrets; those are in `sealed_config`."""

    tenant_id: str
    id: str
    name: str
    type: str
    config: dict[str, Any]
    sealed_config: bytes | None
    enabled: bool
    last_tested_at: datetime | None
    test_status: str
    source: str
    hierarchy_mode: str
    created_at: datetime
    updated_at: datetime
    row_version: int = 1


class Profile(Struct, frozen=True, kw_only=True):
    """The rules a certificate must keep. `version` grows with every edit; decisions bind to it."""

    tenant_id: str
    id: str
    name: str
    description: str
    version: int
    allowed_key_algorithms: list[dict[str, Any]]
    max_ttl_seconds: int
    allowed_ekus: list[str]
    required_san_patterns: list[str]
    spiffe_uri_pattern: str
    allow_short_lived: bool
    must_staple: bool
    required_csr_attributes: list[str]
    acme_auth_mode: str
    requires_approval: bool
    enabled: bool
    created_at: datetime
    updated_at: datetime
    row_version: int = 1
    # who signs what is ordered through ACME; empty: the default issuer
    acme_issuer_id: str = ""
    # other profiles that may be ordered by name in this one's ACME directory
    acme_profiles: list[str] = []
    # so many people, other than who asks, must say yes; named ones alone where there are names
    approvals_required: int = 1
    approvers: list[str] = []


class RenewalPolicy(Struct, frozen=True, kw_only=True):
    """When to renew: a window in days, or a fraction of the life that may be left."""

    tenant_id: str
    id: str
    name: str
    renewal_window_days: int | None
    renewal_window_fraction: float | None
    auto_renew: bool
    max_retries: int
    retry_interval_seconds: int
    alert_thresholds_days: list[int]
    alert_channels: dict[str, list[str]]
    alert_severity_map: dict[str, str]
    certificate_profile_id: str
    created_at: datetime
    updated_at: datetime
    row_version: int = 1
    # when a renewal that is due may run, as `policy.calendar` reads it
    renewal_windows: list[dict[str, Any]] = []
    freezes: list[dict[str, Any]] = []


class Owner(Struct, frozen=True, kw_only=True):
    """A person or group that answers for certificates."""

    tenant_id: str
    id: str
    name: str
    email: str
    team_id: str
    created_at: datetime
    updated_at: datetime
    row_version: int = 1


class Team(Struct, frozen=True, kw_only=True):
    """Owners who work together."""

    tenant_id: str
    id: str
    name: str
    description: str
    created_at: datetime
    updated_at: datetime
    row_version: int = 1


class ApiKey(Struct, frozen=True, kw_only=True):
    """A bearer key, stored as its SHA-256. Scope lists of None mean no limit; `agent_id` binds it to one agent.

    `person` says whose it is when it is not its maker's; `shown_to` is who got its present value (empty: its maker),
    and since `shown_at` no other value is good.
    """

    tenant_id: str
    id: str
    name: str
    prefix: str
    key_hash: str
    role_ids: list[str]
    teams: list[str] | None
    profiles: list[str] | None
    issuers: list[str] | None
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None
    agent_id: str = ""
    previous_hash: str | None = None
    previous_until: datetime | None = None
    row_version: int = 1
    person: str = ""
    shown_to: str = ""
    shown_at: datetime | None = None


class Role(Struct, frozen=True, kw_only=True):
    """A role that operators made; built-in ones are in `core.permissions`."""

    tenant_id: str
    id: str
    name: str
    description: str
    created_at: datetime
    updated_at: datetime
    row_version: int = 1


class RolePermission(Struct, frozen=True):
    """One permission of a role, and how far it reaches; `scope_id` is empty when `scope_type` is global."""

    role_id: str
    permission: str
    scope_type: str
    scope_id: str


class ActorRole(Struct, frozen=True, kw_only=True):
    """A grant: somebody holds a role, as far as its scope reaches, until it expires."""

    tenant_id: str
    id: str
    actor_id: str
    actor_type: str
    role_id: str
    scope_type: str
    scope_id: str
    expires_at: datetime | None
    granted_by: str
    created_at: datetime


class EnrolmentToken(Struct, frozen=True, kw_only=True):
    """A one-time, expiring right to become the agent of one name, or one agent of a group."""

    tenant_id: str
    id: str
    token_hash: str
    agent_name: str
    agent_group: str
    created_by: str
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None
    used_by: str
    used_key: str = ""


class AgentGroup(Struct, frozen=True, kw_only=True):
    """Agents that match all its criteria, and those that were enrolled into it; empty criteria ask nothing."""

    tenant_id: str
    id: str
    name: str
    description: str
    match_os: str
    match_architecture: str
    match_ip_cidr: str
    match_version: str
    enabled: bool
    created_at: datetime
    updated_at: datetime
    row_version: int = 1


class PolicyRule(Struct, frozen=True, kw_only=True):
    """A rule of the organisation's own. `version` grows with every edit; the inventory was held against
    `evaluated_version` at `evaluated_at`, and a scan under way has come as far as the id `scan_after`.
    """

    tenant_id: str
    id: str
    name: str
    type: str
    config: dict[str, Any]
    enabled: bool
    severity: str
    version: int
    evaluated_version: int
    evaluated_at: datetime | None
    scan_after: str
    created_at: datetime
    updated_at: datetime
    row_version: int = 1


class PolicyViolation(Struct, frozen=True, kw_only=True):
    """A rule that a certificate breaks since `created_at`, or broke until `resolved_at`."""

    tenant_id: str
    id: str
    certificate_id: str
    rule_id: str
    message: str
    severity: str
    created_at: datetime
    resolved_at: datetime | None


class CaIntent(Struct, frozen=True, kw_only=True):
    """A CA certificate that is going to be signed: its serial and whole TBS are stored before the act."""

    tenant_id: str
    id: str
    issuer_id: str
    parent_id: str
    key_ref: str
    key_algorithm: str
    generation: int
    name: str
    metadata: dict[str, str]
    path_length: int
    serial_number: str
    tbs_der: bytes
    created_by: str
    created_at: datetime
    answered_at: datetime | None


class CaCertificate(Struct, frozen=True, kw_only=True):
    """One CA generation: each version names the one that signed it. A `path_length` above 0 is for CAs below it alone;
    None is that of the first release's intermediates (0) and roots (no bound).
    """

    tenant_id: str
    id: str
    issuer_id: str
    parent_id: str
    kind: str
    key_ref: str
    key_algorithm: str
    state: str
    generation: int
    subject: str
    serial_number: str
    certificate_der: bytes
    not_before: datetime
    not_after: datetime
    created_at: datetime
    name: str = ""
    metadata: dict[str, str] = {}
    path_length: int | None = None
    updated_at: datetime | None = None

    @property
    def issues_leaves(self) -> bool:
        """Whether leaves may be signed under it now; of several the newest generation does."""
        return self.kind == "intermediate" and self.state == "active" and not self.path_length

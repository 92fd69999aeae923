"""Where certificates go: targets, and deployments, each bound to one version."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from certctl.core.status import AgentStatus, DeploymentStatus


class TargetRecord(Struct, frozen=True, kw_only=True):
    """A server that takes certificates, reached through one agent. `config` has no secrets; those are in
    `sealed_config`.
    """

    tenant_id: str
    id: str
    name: str
    type: str
    agent_id: str
    config: dict[str, Any]
    sealed_config: bytes | None
    enabled: bool
    last_tested_at: datetime | None
    test_status: str
    source: str
    retired_at: datetime | None
    retired_reason: str
    created_at: datetime
    updated_at: datetime
    row_version: int = 1


class Deployment(Struct, frozen=True, kw_only=True):
    """One version on one target: what was done, and what was then seen. Its id is the plan id on the host."""

    tenant_id: str
    id: str
    certificate_id: str
    version_id: str
    target_id: str
    agent_id: str
    job_id: str
    status: DeploymentStatus
    error: str
    receipt: dict[str, Any] | None
    served_before: str
    observed_fingerprint: str
    applied_at: datetime | None
    verified_at: datetime | None
    created_at: datetime
    updated_at: datetime


class AgentRecord(Struct, frozen=True, kw_only=True):
    """A small program on a host. `boot_id` names its present run; a new one frees the leases of the last."""

    tenant_id: str
    id: str
    name: str
    hostname: str
    status: AgentStatus
    last_heartbeat_at: datetime | None
    registered_at: datetime
    os: str
    architecture: str
    ip_address: str
    version: str
    protocol: int
    capabilities: list[str]
    agent_group: str
    boot_id: str
    credential_hash: str
    retired_at: datetime | None
    retired_reason: str

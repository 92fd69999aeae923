"""Agents and the one-time tokens they enrol with."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from certctl.client.models.bounds import Text


class AgentView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One agent. `status` is what was last observed: Online while it is heard from.

    `groups` are the ids of the agent groups it belongs to now; it was enrolled into `agent_group`.
    """

    id: str
    name: str
    hostname: str
    status: str
    registered_at: datetime
    os: str
    architecture: str
    ip_address: str
    version: str
    last_heartbeat_at: datetime | None = None
    capabilities: list[str] = []
    agent_group: str = ""
    groups: list[str] = []
    retired_at: datetime | None = None
    retired_reason: str = ""


class TokenWrite(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Exactly one of `agent_name` and `agent_group`; `expires_in_seconds` is at most 30 days."""

    agent_name: Annotated[str, Meta(max_length=128)] = ""
    agent_group: Text = ""
    expires_in_seconds: Annotated[int, Meta(ge=1, le=30 * 86400)] = 3600


class TokenView(Struct, frozen=True, kw_only=True):
    """A token; `token` is shown this once."""

    id: str
    token: str
    agent_name: str
    agent_group: str
    expires_at: datetime


class DependencyCounts(Struct, frozen=True, kw_only=True):
    """What hung on an agent when it was retired."""

    active_targets: int = 0
    active_certificates: int = 0
    pending_jobs: int = 0


class RetireBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why, and whether what hangs on the agent goes with it: `force` needs a reason then."""

    reason: Annotated[str, Meta(max_length=500)] = ""
    force: bool = False


class RetiredAnswer(Struct, frozen=True, kw_only=True):
    """An agent that is retired now."""

    retired_at: datetime | None
    already_retired: bool
    cascade: bool
    counts: DependencyCounts


class AgentCertificate(Struct, frozen=True, kw_only=True):
    """A host's own version of a certificate, leaf and chain."""

    certificate_pem: str


class VerifiedAnswer(Struct, frozen=True, kw_only=True):
    """What a report of an agent's probe came to."""

    job_id: str
    verified: bool
    verified_at: datetime

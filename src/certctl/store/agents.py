"""Agents by liveness: heartbeats touch one row, silence is found by one query."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from certctl.core.scope import Scope
from certctl.core.status import LIVE_JOB, AgentStatus, CertificateStatus
from certctl.core.target import AgentRecord, TargetRecord
from certctl.store import catalogue
from certctl.store.certificates import in_scope
from certctl.store.listings import jobs_in_scope
from certctl.store.schema import agents, certificate_targets, certificates, jobs, targets
from certctl.store.tx import Tx


async def silent_since(tx: Tx, scope: Scope, moment: datetime) -> list[AgentRecord]:
    """Agents that read Online but have not beaten since `moment`."""
    return await tx.all(
        AgentRecord,
        sa.select(agents).where(
            agents.c.tenant_id == scope.tenant_id,
            agents.c.status == AgentStatus.ONLINE,
            agents.c.retired_at.is_(None),
            sa.func.coalesce(agents.c.last_heartbeat_at, agents.c.registered_at, type_=agents.c.registered_at.type)
            < sa.bindparam(None, moment, type_=agents.c.registered_at.type),
        ),
    )


async def note_signs(tx: Tx, scope: Scope, signs: Mapping[str, datetime]) -> None:
    """Write signs of life, by agent id: of agents that read Online, and none over a later one."""
    at = sa.bindparam("at", type_=agents.c.last_heartbeat_at.type)
    await tx.execute(
        sa.update(agents)
        .where(
            agents.c.tenant_id == scope.tenant_id,
            agents.c.id == sa.bindparam("of_agent"),
            agents.c.status == AgentStatus.ONLINE,
            agents.c.last_heartbeat_at < at,
        )
        .values(last_heartbeat_at=at),
        # in one order, so that two processes never wait for one another in a ring
        [{"of_agent": agent_id, "at": moment} for agent_id, moment in sorted(signs.items())],
    )


class Dependencies(Struct, frozen=True, kw_only=True):
    """What hangs on an agent: its unretired targets, the certificates mapped to them, its jobs that have not ended."""

    active_targets: int
    active_certificates: int
    pending_jobs: int


async def dependencies(tx: Tx, scope: Scope, agent_id: str) -> Dependencies:
    """Count what hangs on an agent, as far as a scope sees it."""
    live = sa.select(sa.func.count()).where(
        jobs_in_scope(scope), jobs.c.agent_id == agent_id, jobs.c.status.in_(tuple(LIVE_JOB))
    )
    seen = catalogue.in_scope(TargetRecord, scope)
    served = sa.select(sa.func.count()).select_from(targets).where(seen, _served_by(scope, agent_id))
    return Dependencies(
        active_targets=int(await tx.scalar(served)),
        active_certificates=len(await certificates_of(tx, scope, agent_id)),
        pending_jobs=int(await tx.scalar(live)),
    )


async def certificates_of(tx: Tx, scope: Scope, agent_id: str) -> list[str]:
    """The ids of the certificates, archived ones aside, that are mapped to an agent's unretired targets."""
    mapping = certificate_targets
    rows = await tx.execute(
        sa.select(certificates.c.id)
        .join(
            mapping,
            sa.and_(mapping.c.tenant_id == certificates.c.tenant_id, mapping.c.certificate_id == certificates.c.id),
        )
        .join(targets, sa.and_(targets.c.tenant_id == mapping.c.tenant_id, targets.c.id == mapping.c.target_id))
        .where(in_scope(scope), _served_by(scope, agent_id), certificates.c.status != CertificateStatus.ARCHIVED)
        .distinct()
        .order_by(certificates.c.id)
    )
    return [row.id for row in rows]


async def retire_targets(tx: Tx, scope: Scope, agent_id: str, reason: str, now: datetime) -> None:
    """Retire every target of an agent."""
    changes: dict[str, Any] = {
        "row_version": targets.c.row_version + 1,
        "retired_at": now,
        "retired_reason": reason,
        "updated_at": now,
    }
    await tx.execute(sa.update(targets).where(_served_by(scope, agent_id)).values(changes))


def _served_by(scope: Scope, agent_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(
        targets.c.tenant_id == scope.tenant_id, targets.c.agent_id == agent_id, targets.c.retired_at.is_(None)
    )

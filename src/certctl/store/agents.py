"""Agents by liveness: heartbeats touch one row, silence is found by one query."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from certctl.core.scope import Scope
from certctl.core.status import AgentStatus
from certctl.core.target import AgentRecord
from certctl.store.schema import agents, targets
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


async def active_targets(tx: Tx, scope: Scope, agent_id: str) -> int:
    """How many unretired targets an agent serves."""
    return int(await tx.scalar(sa.select(sa.func.count()).select_from(targets).where(_served_by(scope, agent_id))))


async def retire_targets(tx: Tx, scope: Scope, agent_id: str, reason: str, now: datetime) -> None:
    """Retire every target of an agent."""
    changes = {"retired_at": now, "retired_reason": reason, "updated_at": now}
    await tx.execute(sa.update(targets).where(_served_by(scope, agent_id)).values(changes))


def _served_by(scope: Scope, agent_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(
        targets.c.tenant_id == scope.tenant_id, targets.c.agent_id == agent_id, targets.c.retired_at.is_(None)
    )

"""observe: what is true over time. Agents that fell silent read Offline, and somebody is told; endpoint health
comes here too.
"""

from __future__ import annotations

from certctl.core.events import Event, EventType, Notice
from certctl.core.notification import incident
from certctl.core.status import AgentStatus
from certctl.core.target import AgentRecord
from certctl.ledger import append, notify
from certctl.lifecycle.context import Context
from certctl.store import agents, catalogue


async def tick(ctx: Context) -> int:
    """Mark agents that have not been heard from for too long; returns how many fell silent."""
    now = ctx.now()
    async with ctx.database.begin("observe") as tx:
        silent = await agents.silent_since(tx, ctx.scope, now - ctx.patience.agent_silence)
        for agent in silent:
            await catalogue.change(tx, ctx.scope, AgentRecord, agent.id, status=AgentStatus.OFFLINE)
            last = agent.last_heartbeat_at.isoformat() if agent.last_heartbeat_at else "never"
            await append(
                tx,
                ctx.scope,
                now,
                Event(
                    type=EventType.AGENT_SILENT,
                    subject_type="agent",
                    subject_id=agent.id,
                    actor=ctx.actor,
                    details={"last_heartbeat_at": last},
                ),
            )
            notice = Notice(
                type="AgentOffline",
                certificate_id="",
                severity="warning",
                message=f"agent {agent.name} has not been heard from since {last}",
                dedup_key=f"agent-silent/{agent.id}/{last}",
                incident=incident("agent", agent.id),
            )
            await notify(tx, ctx.scope, now, notice)
        return len(silent)

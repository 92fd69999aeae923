"""Agents leave for good: what hangs on one keeps it, unless it is told to go with its targets and its jobs."""

from __future__ import annotations

import msgspec

from certctl.control.changes import fault
from certctl.control.usage import Sees, told
from certctl.core.actor import Actor
from certctl.core.errors import Blocked
from certctl.core.events import Event, EventType
from certctl.core.status import AgentStatus
from certctl.core.target import AgentRecord
from certctl.ledger import append
from certctl.lifecycle import request
from certctl.lifecycle.context import Context
from certctl.store import agents, catalogue
from certctl.store.agents import Dependencies


async def retire(
    ctx: Context, actor: Actor, agent_id: str, *, reason: str, force: bool, sees: Sees | None = None
) -> tuple[AgentRecord, Dependencies]:
    """Retire an agent; what hung on it is told. Twice is once.

    Blocked with counts while something does, unless `force`: then its targets are retired, its jobs cancelled, and
    its certificates looked at without it; that needs a reason.
    """
    now = ctx.now()
    async with ctx.database.begin("agent.retire") as tx:
        agent = await catalogue.get(tx, ctx.scope, AgentRecord, agent_id)
        found = await agents.dependencies(tx, ctx.scope, agent_id)
        if agent.retired_at is not None:
            return agent, found
        counts: dict[str, int] = msgspec.to_builtins(found)
        if any(counts.values()):
            seen = await agents.dependencies(tx, sees("cert.read"), agent_id) if sees else found
            _judge(agent, msgspec.to_builtins(seen), counts, reason=reason, force=force)
        served = await agents.certificates_of(tx, ctx.scope, agent_id)
        await agents.retire_targets(tx, ctx.scope, agent_id, reason, now)
        await catalogue.change(
            tx, ctx.scope, AgentRecord, agent_id, retired_at=now, retired_reason=reason, status=AgentStatus.OFFLINE
        )
        await request.agent_left(tx, ctx, agent_id, served, actor, f"agent {agent.name} was retired: {reason}")
        details = {"reason": reason, "force": force} | counts
        event = Event(
            type=EventType.AGENT_RETIRED, subject_type="agent", subject_id=agent_id, actor=actor, details=details
        )
        await append(tx, ctx.scope, now, event)
        return await catalogue.get(tx, ctx.scope, AgentRecord, agent_id), found


def _judge(agent: AgentRecord, seen: dict[str, int], total: dict[str, int], *, reason: str, force: bool) -> None:
    if not force:
        message = f"agent {agent.name} still has {told(seen, total)}; force=true with a reason ends those too"
        raise Blocked(message, counts=seen)
    if not reason:
        raise fault("reason_is_missing", "retiring an agent with what hangs on it needs a reason", "reason")

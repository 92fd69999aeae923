"""Who may belong to a group: agents as the rules see them, without the rest of their rows."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from msgspec import Struct

from certctl.core.catalogue import AgentGroup
from certctl.core.scope import Scope
from certctl.core.target import AgentRecord
from certctl.store import catalogue
from certctl.store.schema import agent_groups, agents, enrolment_tokens
from certctl.store.tx import Tx


class Candidate(Struct, frozen=True, kw_only=True):
    """One agent that is not retired, and the group it was enrolled into, by id or name."""

    id: str
    os: str
    architecture: str
    ip_address: str
    version: str
    agent_group: str


async def candidates(tx: Tx, scope: Scope) -> list[Candidate]:
    """Every agent that is not retired, by name."""
    columns = [agents.c[name] for name in Candidate.__struct_fields__]
    return await tx.all(
        Candidate,
        sa.select(*columns)
        .where(catalogue.in_scope(AgentRecord, scope), agents.c.retired_at.is_(None))
        .order_by(agents.c.name, agents.c.id),
    )


async def enabled(tx: Tx, scope: Scope) -> list[AgentGroup]:
    """The groups that have members, by id."""
    return await tx.all(
        AgentGroup,
        sa.select(agent_groups)
        .where(catalogue.in_scope(AgentGroup, scope), agent_groups.c.enabled.is_(sa.true()))
        .order_by(agent_groups.c.id),
    )


async def uses(tx: Tx, scope: Scope, group: AgentGroup, now: datetime) -> dict[str, int]:
    """How many agents that a scope may see were enrolled into a group, and how many tokens still may be."""
    names = (group.id, group.name)
    enrolled = sa.select(sa.func.count()).where(
        catalogue.in_scope(AgentRecord, scope), agents.c.agent_group.in_(names), agents.c.retired_at.is_(None)
    )
    may_enrol = sa.select(sa.func.count()).where(
        enrolment_tokens.c.tenant_id == scope.tenant_id,
        enrolment_tokens.c.agent_group.in_(names),
        enrolment_tokens.c.used_at.is_(None),
        enrolment_tokens.c.expires_at > now,
    )
    tokens = int(await tx.scalar(may_enrol)) if scope.is_whole else 0
    return {"agents": int(await tx.scalar(enrolled)), "enrolment_tokens": tokens}


async def rename(tx: Tx, scope: Scope, group_id: str, old_name: str) -> None:
    """What named a group by a name that it loses names it by its id from now on."""
    for table in (agents, enrolment_tokens):
        await tx.execute(
            sa.update(table)
            .where(table.c.tenant_id == scope.tenant_id, table.c.agent_group == old_name)
            .values(agent_group=group_id)
        )

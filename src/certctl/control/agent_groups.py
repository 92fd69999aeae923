"""Agent groups: rules that agents match, and agents that were enrolled into them. One that is used is not deleted.

A disabled group has no members. Membership is looked up, never stored: it is true of this moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from certctl.control.changes import check_name, fault, note
from certctl.control.usage import Sees, told
from certctl.core.actor import Actor
from certctl.core.catalogue import AgentGroup
from certctl.core.errors import Blocked
from certctl.core.events import EventType
from certctl.core.ids import check_id, new_id
from certctl.core.revision import Expected
from certctl.core.scope import Scope
from certctl.core.target import AgentRecord
from certctl.lifecycle.context import Context
from certctl.policy.membership import AgentFacts, Criteria, belongs, check_criteria
from certctl.store import agent_groups, catalogue
from certctl.store.agent_groups import Candidate
from certctl.store.tx import Tx


async def create(ctx: Context, scope: Scope, actor: Actor, wanted: dict[str, Any]) -> AgentGroup:
    """A new group; `wanted` has the API's fields. Conflict when its id or name is taken."""
    now = ctx.now()
    blank = {"description": "", "match_os": "", "match_architecture": "", "match_ip_cidr": "", "match_version": ""}
    group = AgentGroup(
        **{"enabled": True}
        | blank
        | wanted
        | {
            "tenant_id": scope.tenant_id,
            "id": check_id(wanted["id"]) if wanted.get("id") else new_id("ag"),
            "name": check_name(wanted.get("name", "")),
            "created_at": now,
            "updated_at": now,
        }
    )
    check_criteria(_criteria(group))
    async with ctx.database.begin("config.agent_group") as tx:
        await _check_words(tx, scope, group)
        await catalogue.insert(tx, scope, group)
        await note(tx, ctx, actor, EventType.CONFIG_CREATED, "agent_group", group.id)
    return group


async def update(
    ctx: Context, scope: Scope, actor: Actor, group_id: str, changes: dict[str, Any], expected: Expected = None
) -> AgentGroup:
    """Change fields; absent ones stay. Agents that were enrolled into it by its name stay in it when that changes."""
    if "name" in changes:
        changes = changes | {"name": check_name(changes["name"])}
    async with ctx.database.begin("config.agent_group") as tx:
        before = await catalogue.get(tx, scope, AgentGroup, group_id, expected=expected)
        after = msgspec.structs.replace(before, **changes, updated_at=ctx.now())
        check_criteria(_criteria(after))
        await _check_words(tx, scope, after)
        await catalogue.change(
            tx, scope, AgentGroup, group_id, expected=expected, **changes, updated_at=after.updated_at
        )
        if after.name != before.name:
            await agent_groups.rename(tx, scope, group_id, before.name)
        await note(tx, ctx, actor, EventType.CONFIG_UPDATED, "agent_group", group_id, changes)
        return await catalogue.get(tx, scope, AgentGroup, group_id)


async def delete(
    ctx: Context, scope: Scope, actor: Actor, group_id: str, expected: Expected = None, *, sees: Sees | None = None
) -> None:
    """Delete a group that nobody was, or still may be, enrolled into; Conflict otherwise."""
    async with ctx.database.begin("config.agent_group") as tx:
        group = await catalogue.get(tx, scope, AgentGroup, group_id, expected=expected)
        total = await agent_groups.uses(tx, Scope.whole(scope.tenant_id), group, ctx.now())
        if any(total.values()):
            seen = await agent_groups.uses(tx, sees("agent.read") if sees else scope, group, ctx.now())
            raise Blocked(f"agent group {group_id} is still named by {told(seen, total)}", counts=seen)
        await catalogue.remove(tx, scope, AgentGroup, group_id, expected=expected)
        await note(tx, ctx, actor, EventType.CONFIG_DELETED, "agent_group", group_id)


async def members(tx: Tx, scope: Scope, group_id: str) -> list[str]:
    """The ids of a group's agents, by name; none while it is disabled. NotFound for an unknown group."""
    group = await catalogue.get(tx, scope, AgentGroup, group_id)
    if not group.enabled:
        return []
    return [agent.id for agent in await agent_groups.candidates(tx, scope) if is_member(group, agent)]


async def would_be_members(
    tx: Tx, scope: Scope, wanted: Mapping[str, Any], before: AgentGroup | None
) -> list[Candidate]:
    """The agents, by name, that a group of these criteria would have: of one that is there, those enrolled into it too.

    `wanted` has the API's fields. Malformed with every criterion that cannot be read.
    """
    criteria = Criteria(
        os=wanted.get("match_os") or "",
        architecture=wanted.get("match_architecture") or "",
        ip_cidr=wanted.get("match_ip_cidr") or "",
        version=wanted.get("match_version") or "",
    )
    check_criteria(criteria)
    words = {before.id, before.name} if before is not None else set()
    return [
        agent
        for agent in await agent_groups.candidates(tx, scope)
        if agent.agent_group in words or belongs(criteria, _facts(agent))
    ]


async def groups_of(tx: Tx, scope: Scope, agents: Iterable[AgentRecord]) -> dict[str, list[str]]:
    """The ids of the groups that each of these agents belongs to."""
    groups = await agent_groups.enabled(tx, scope)
    return {agent.id: [group.id for group in groups if is_member(group, agent)] for agent in agents}


def is_member(group: AgentGroup, agent: AgentRecord | Candidate) -> bool:
    """Whether an agent was enrolled into a group, or matches its rules."""
    if agent.agent_group and agent.agent_group in {group.id, group.name}:
        return True
    return belongs(_criteria(group), _facts(agent))


def _facts(agent: AgentRecord | Candidate) -> AgentFacts:
    return AgentFacts(os=agent.os, architecture=agent.architecture, ip_address=agent.ip_address, version=agent.version)


def _criteria(group: AgentGroup) -> Criteria:
    return Criteria(
        os=group.match_os,
        architecture=group.match_architecture,
        ip_cidr=group.match_ip_cidr,
        version=group.match_version,
    )


async def _check_words(tx: Tx, scope: Scope, group: AgentGroup) -> None:
    """A name that is another group's id would make it unclear whom an enrolment token means, and the other way."""
    for field, column, word in (("name", "id", group.name), ("id", "name", group.id)):
        other = await catalogue.find(tx, scope, AgentGroup, **{column: word})
        if other is not None and other.id != group.id:
            raise fault("means_another_group", f"{word} is the {column} of agent group {other.id}", field)

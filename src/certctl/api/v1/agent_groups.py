"""/api/v1/agent-groups: rules that agents match, and who does."""

from __future__ import annotations

from litestar import delete, get, post, put
from litestar.params import FromPath, JSONBody

from certctl.api import lists
from certctl.api.guard import edits, needs
from certctl.api.patching import patched
from certctl.api.request import ApiRequest
from certctl.api.shown import given, shown
from certctl.api.v1.agents import show_agents
from certctl.client.models.agent_groups import AgentGroupView, AgentGroupWrite
from certctl.client.models.agents import AgentView
from certctl.client.models.page import PageOf
from certctl.control import agent_groups
from certctl.core.catalogue import AgentGroup
from certctl.store import catalogue
from certctl.store.act_listings import MEMBERS, members_of
from certctl.store.listings import AGENT_GROUPS


def _view(group: AgentGroup) -> AgentGroupView:
    return shown(AgentGroupView, group)


@get("/agent-groups", opt=needs("agent.read") | lists.listed(AGENT_GROUPS), summary="List agent groups")
async def list_agent_groups(request: ApiRequest) -> PageOf[AgentGroupView]:
    """By name."""
    return await lists.answer_list(request, AgentGroupView)


@post("/agent-groups", status_code=201, opt=needs("agent.edit"), summary="Create an agent group")
async def create_agent_group(request: ApiRequest, data: JSONBody[AgentGroupWrite]) -> AgentGroupView:
    """An id or name that is taken answers 409, a criterion that cannot be read 400."""
    return _view(await agent_groups.create(request.ctx, request.visible, request.actor, given(data)))


@get("/agent-groups/{group_id:str}", opt=needs("agent.read"), summary="One agent group")
async def show_agent_group(request: ApiRequest, group_id: FromPath[str]) -> AgentGroupView:
    """One agent group."""
    async with request.ctx.database.read() as tx:
        return _view(await catalogue.get(tx, request.visible, AgentGroup, group_id))


@put("/agent-groups/{group_id:str}", opt=edits("agent.edit"), summary="Change an agent group")
async def update_agent_group(
    request: ApiRequest, group_id: FromPath[str], data: JSONBody[AgentGroupWrite]
) -> AgentGroupView:
    """What is absent stays."""
    changes = request.changes(data, group_id)
    return _view(
        await agent_groups.update(request.ctx, request.visible, request.actor, group_id, changes, request.expected)
    )


@delete("/agent-groups/{group_id:str}", status_code=204, opt=edits("agent.edit"), summary="Delete an agent group")
async def delete_agent_group(request: ApiRequest, group_id: FromPath[str]) -> None:
    """One that agents were, or still may be, enrolled into is kept (409)."""
    await agent_groups.delete(
        request.ctx, request.visible, request.actor, group_id, request.expected, sees=request.seen_by
    )


@get(
    "/agent-groups/{group_id:str}/members",
    opt=needs("agent.read") | lists.listed(MEMBERS),
    summary="Who belongs to an agent group",
)
async def list_members(request: ApiRequest, group_id: FromPath[str]) -> PageOf[AgentView]:
    """Agents that match its rules or were enrolled into it, by name; none while it is disabled."""
    async with request.ctx.database.read() as tx:
        members = members_of(group_id, await agent_groups.members(tx, request.visible, group_id))
    return await lists.answer_list(request, AgentView, show_all=show_agents, listing=members)


HANDLERS = (
    list_agent_groups,
    create_agent_group,
    show_agent_group,
    update_agent_group,
    patched(show_agent_group, update_agent_group),
    delete_agent_group,
    list_members,
)

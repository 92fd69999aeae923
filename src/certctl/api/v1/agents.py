"""/api/v1/agents: look at agents, make enrolment tokens, retire. What agents call is in `api.agent_protocol`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from litestar import Response, delete, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, JSONBody

from certctl.api.guard import needs
from certctl.api.lists import answer_list, listed
from certctl.api.request import ApiRequest
from certctl.api.shown import shown
from certctl.client.models.agents import (
    AgentView,
    DependencyCounts,
    RetireBody,
    RetiredAnswer,
    TokenView,
    TokenWrite,
)
from certctl.client.models.page import PageOf
from certctl.control import agent_groups, enrolment, retirement
from certctl.core.scope import Scope
from certctl.core.target import AgentRecord
from certctl.store import catalogue
from certctl.store.listings import AGENTS, RETIRED_AGENTS
from certctl.store.tx import Tx


async def show_agents(tx: Tx, scope: Scope, agents: Sequence[AgentRecord]) -> list[AgentView]:
    """Agents with the groups they belong to."""
    groups = await agent_groups.groups_of(tx, scope, agents)
    return [shown(AgentView, agent, groups=groups[agent.id]) for agent in agents]


@get("/agents", opt=needs("agent.read") | listed(AGENTS), summary="List agents")
async def list_agents(request: ApiRequest) -> PageOf[AgentView]:
    """By name, without retired ones."""
    return await answer_list(request, AgentView, show_all=show_agents)


@get("/agents/retired", opt=needs("agent.read") | listed(RETIRED_AGENTS), summary="List retired agents")
async def list_retired_agents(request: ApiRequest) -> PageOf[AgentView]:
    """The latest first."""
    return await answer_list(request, AgentView)


@get("/agents/{agent_id:str}", opt=needs("agent.read"), summary="One agent")
async def show_agent(request: ApiRequest, agent_id: FromPath[str]) -> AgentView:
    """One agent."""
    async with request.ctx.database.read() as tx:
        agent = await catalogue.get(tx, request.visible, AgentRecord, agent_id)
        return (await show_agents(tx, request.visible, [agent]))[0]


@post("/agents/enrolment-tokens", status_code=201, opt=needs("agent.edit"), summary="Make an enrolment token")
async def create_token(request: ApiRequest, data: JSONBody[TokenWrite]) -> TokenView:
    """A one-time right to enrol; its value is shown this once."""
    token, value = await enrolment.create_token(
        request.ctx,
        request.actor,
        agent_name=data.agent_name,
        agent_group=data.agent_group,
        ttl=timedelta(seconds=data.expires_in_seconds),
    )
    return shown(TokenView, token, token=value.reveal())


@delete(
    "/agents/{agent_id:str}",
    status_code=200,
    opt=needs("agent.retire"),
    summary="Retire an agent",
    responses={204: ResponseSpec(None, generate_examples=False, description="It was retired before")},
)
async def retire_agent(
    request: ApiRequest, agent_id: FromPath[str], reason: FromQuery[str] = "", force: FromQuery[bool] = False
) -> Response[RetiredAnswer | None]:
    """For good. `force` with a `reason` ends what hangs on it too; 204 when it was retired before."""
    return await _retire(request, agent_id, RetireBody(reason=reason[:500], force=force))


@post(
    "/agents/{agent_id:str}/retire",
    status_code=200,
    opt=needs("agent.retire"),
    summary="Retire an agent",
    responses={204: ResponseSpec(None, generate_examples=False, description="It was retired before")},
)
async def retire_agent_by_post(
    request: ApiRequest, agent_id: FromPath[str], data: JSONBody[RetireBody]
) -> Response[RetiredAnswer | None]:
    """As DELETE does, with `reason` and `force` in the body."""
    return await _retire(request, agent_id, data)


async def _retire(request: ApiRequest, agent_id: str, asked: RetireBody) -> Response[RetiredAnswer | None]:
    async with request.ctx.database.read() as tx:
        before = await catalogue.get(tx, request.visible, AgentRecord, agent_id)
    if before.retired_at is not None:
        return Response(None, status_code=204)
    agent, found = await retirement.retire(
        request.ctx, request.actor, agent_id, reason=asked.reason, force=asked.force, sees=request.seen_by
    )
    counts = shown(DependencyCounts, found)
    answer = RetiredAnswer(
        retired_at=agent.retired_at,
        already_retired=False,
        cascade=counts != DependencyCounts(),
        counts=counts,
    )
    return Response(answer, status_code=200)


HANDLERS = (
    list_agents,
    list_retired_agents,
    show_agent,
    create_token,
    retire_agent,
    retire_agent_by_post,
)

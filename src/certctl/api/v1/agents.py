"""/api/v1/agents: look at agents, make enrolment tokens, retire. What agents call is in `api.agent_protocol`."""

from __future__ import annotations

from datetime import timedelta

from litestar import Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from certctl.api.guard import needs
from certctl.api.request import ApiRequest
from certctl.api.shown import page_of, shown
from certctl.client.models.agents import AgentView, DependencyCounts, RetiredAnswer, TokenView, TokenWrite
from certctl.client.models.page import PageOf
from certctl.control import enrolment
from certctl.core.target import AgentRecord
from certctl.doors.paging import Paging
from certctl.store import catalogue, views


def _view(agent: AgentRecord) -> AgentView:
    return shown(AgentView, agent)


@get("/agents", opt=needs("agent.read"), summary="List agents")
async def list_agents(request: ApiRequest, paging: NamedDependency[Paging]) -> PageOf[AgentView]:
    """By name, without retired ones."""
    async with request.ctx.database.read() as tx:
        found = await views.record_page(tx, request.visible, AgentRecord, paging.part, retired_at=None)
    return page_of(found, paging, _view)


@get("/agents/retired", opt=needs("agent.read"), summary="List retired agents")
async def list_retired_agents(request: ApiRequest, paging: NamedDependency[Paging]) -> PageOf[AgentView]:
    """The latest first."""
    async with request.ctx.database.read() as tx:
        found = await views.retired_agents(tx, request.visible, paging.part)
    return page_of(found, paging, _view)


@get("/agents/{agent_id:str}", opt=needs("agent.read"), summary="One agent")
async def show_agent(request: ApiRequest, agent_id: FromPath[str]) -> AgentView:
    """One agent."""
    async with request.ctx.database.read() as tx:
        return _view(await catalogue.get(tx, request.visible, AgentRecord, agent_id))


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


@delete("/agents/{agent_id:str}", status_code=200, opt=needs("agent.retire"), summary="Retire an agent")
async def retire_agent(
    request: ApiRequest, agent_id: FromPath[str], reason: FromQuery[str] = "", force: FromQuery[bool] = False
) -> Response[RetiredAnswer | None]:
    """For good. `force` with a `reason` retires its targets too; 204 when it was retired before."""
    async with request.ctx.database.read() as tx:
        before = await catalogue.get(tx, request.visible, AgentRecord, agent_id)
    if before.retired_at is not None:
        return Response(None, status_code=204)
    agent, counts = await enrolment.retire(request.ctx, request.actor, agent_id, reason=reason[:500], force=force)
    answer = RetiredAnswer(
        retired_at=agent.retired_at,
        already_retired=False,
        cascade=force and bool(counts.get("active_targets")),
        counts=DependencyCounts(**counts),
    )
    return Response(answer, status_code=200)


HANDLERS = (list_agents, list_retired_agents, show_agent, create_token, retire_agent)

"""/api/v1/teams: owners who work together."""

from __future__ import annotations

from litestar import delete, get, post, put
from litestar.params import FromPath, JSONBody

from certctl.api.guard import edits, needs
from certctl.api.lists import answer_list, listed
from certctl.api.patching import patched
from certctl.api.request import ApiRequest
from certctl.api.shown import given, shown
from certctl.client.models.page import PageOf
from certctl.client.models.people import TeamView, TeamWrite
from certctl.control import teams
from certctl.core.catalogue import Team
from certctl.store import catalogue
from certctl.store.listings import TEAMS


def _view(team: Team) -> TeamView:
    return shown(TeamView, team)


@get("/teams", opt=needs("team.read") | listed(TEAMS), summary="List teams")
async def list_teams(request: ApiRequest) -> PageOf[TeamView]:
    """By name."""
    return await answer_list(request, TeamView)


@post("/teams", status_code=201, opt=needs("team.edit"), summary="Create a team")
async def create_team(request: ApiRequest, data: JSONBody[TeamWrite]) -> TeamView:
    """An id or name that is taken answers 409."""
    return _view(await teams.create(request.ctx, request.visible, request.actor, given(data)))


@get("/teams/{team_id:str}", opt=needs("team.read"), summary="One team")
async def show_team(request: ApiRequest, team_id: FromPath[str]) -> TeamView:
    """One team."""
    async with request.ctx.database.read() as tx:
        return _view(await catalogue.get(tx, request.visible, Team, team_id))


@put("/teams/{team_id:str}", opt=edits("team.edit"), summary="Change a team")
async def update_team(request: ApiRequest, team_id: FromPath[str], data: JSONBody[TeamWrite]) -> TeamView:
    """What is absent stays."""
    changes = request.changes(data, team_id)
    return _view(await teams.update(request.ctx, request.visible, request.actor, team_id, changes, request.expected))


@delete("/teams/{team_id:str}", status_code=204, opt=edits("team.delete"), summary="Delete a team")
async def delete_team(request: ApiRequest, team_id: FromPath[str]) -> None:
    """One that is still named is kept (409)."""
    await teams.delete(request.ctx, request.visible, request.actor, team_id, request.expected, sees=request.seen_by)


HANDLERS = (list_teams, create_team, show_team, update_team, patched(show_team, update_team), delete_team)

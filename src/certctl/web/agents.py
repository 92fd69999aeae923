"""/agents: who reports, who is silent and what depends on them; one agent with its places; a new one enrolled."""

from __future__ import annotations

import shlex
from datetime import timedelta
from typing import Any

from litestar import Response, get, post
from litestar.params import FromPath

from certctl.control import agent_groups, enrolment
from certctl.core.catalogue import AgentGroup
from certctl.core.errors import CallerError
from certctl.core.status import AgentStatus
from certctl.core.target import AgentRecord
from certctl.store import catalogue, truths
from certctl.store.act_listings import members_of
from certctl.store.listings import AGENTS, JOBS, TARGETS
from certctl.store.lists import Asked, read_list
from certctl.web import jobs, tables
from certctl.web.configure.sides import tabs_of
from certctl.web.guard import needs
from certctl.web.marks import Mark
from certctl.web.pages import render
from certctl.web.request import WebRequest
from certctl.web.words import gettext as _
from certctl.web.words import ngettext, number

PATH = "/agents"
_MOST = 50
_TOKEN_LIFE = timedelta(hours=1)


def mark_of(agent: AgentRecord) -> Mark:
    """How an agent stands."""
    if agent.retired_at is not None:
        return Mark("unk", "s-none", _("Retired"))
    s = AgentStatus
    return {
        s.ONLINE: Mark("ok", "s-ok", _("Reports")),
        s.OFFLINE: Mark("warn", "s-unknown", _("Silent")),
        s.DEGRADED: Mark("warn", "s-warn", _("Degraded")),
        s.UNKNOWN: Mark("unk", "s-unknown", _("Not heard of")),
    }[AgentStatus(agent.status)]


@get(PATH, opt=needs("agent.read"))
async def show_all(request: WebRequest) -> Response[str]:
    """By name, retired ones left out."""
    scope = request.visible
    async with request.ctx.database.read() as tx:
        table = await tables.read(request, tx, AGENTS, scope)
        burdens = await truths.burdens(tx, request.seen_by("cert.read"), [agent.id for agent in table.rows])
    tabs = [(_("All"), ""), (_("Report"), str(AgentStatus.ONLINE)), (_("Silent"), str(AgentStatus.OFFLINE))]
    return await render(
        request,
        "agents.html",
        table=table,
        beside=tabs_of(request, PATH),
        tabs=[(text, table.to(status=value), table.chosen("status") == value) for text, value in tabs],
        marks={agent.id: mark_of(agent) for agent in table.rows},
        burdens=burdens,
    )


@get(f"{PATH}/{{agent_id:str}}", opt=needs("agent.read"))
async def show(request: WebRequest, agent_id: FromPath[str]) -> Response[str]:
    """One agent: what it said of itself, its places, its latest jobs."""
    scope = request.visible
    async with request.ctx.database.read() as tx:
        agent = await catalogue.get(tx, scope, AgentRecord, agent_id)
        groups = (await agent_groups.groups_of(tx, scope, [agent]))[agent_id]
        group_names = await truths.named(tx, scope, AgentGroup, groups)
        burden = (await truths.burdens(tx, request.seen_by("cert.read"), [agent_id])).get(agent_id)
        by_agent: Any = {"agent_id": (agent_id,)}
        places = await read_list(
            tx, request.seen_by("target.read"), TARGETS, Asked(filters=by_agent, sort="name", limit=_MOST)
        )
        asked = Asked(filters=by_agent, sort="createdAt", descending=True, limit=12)
        latest = await read_list(tx, request.seen_by("job.read"), JOBS, asked)
        names = await truths.named_certificates(
            tx, request.seen_by("cert.read"), [job.certificate_id for job in latest.data]
        )
    return await render(
        request,
        "agent.html",
        agent=agent,
        mark=mark_of(agent),
        groups=groups,
        group_names=group_names,
        burden=burden,
        places=places.data,
        latest=latest.data,
        names=names,
        marks={job.id: jobs.mark_of(job) for job in latest.data},
        types={job.id: jobs.type_of(job) for job in latest.data},
    )


@get("/agent-groups/{group_id:str}/members", opt=needs("agent.read"))
async def show_members(request: WebRequest, group_id: FromPath[str]) -> Response[str]:
    """Who belongs to a group: those that match its rules, and those enrolled into it."""
    async with request.ctx.database.read() as tx:
        group = await catalogue.get(tx, request.visible, AgentGroup, group_id)
        ids = await agent_groups.members(tx, request.visible, group_id)
        table = await tables.read(request, tx, members_of(group_id, ids), request.visible)
        burdens = await truths.burdens(tx, request.seen_by("cert.read"), [agent.id for agent in table.rows])
    if not group.enabled:
        told = _("It is not in use, so it has none.")
    else:
        told = ngettext("{number} belongs to it", "{number} belong to it", len(ids)).format(number=number(len(ids)))
    return await render(
        request,
        "members.html",
        group=group,
        told=told,
        table=table,
        marks={agent.id: mark_of(agent) for agent in table.rows},
        burdens=burdens,
    )


@get("/enrol", opt=needs("agent.edit"))
async def ask_enrolment(request: WebRequest) -> Response[str]:
    """How a host gets its agent."""
    return await _enrol_page(request)


async def _enrol_page(request: WebRequest, *, name: str = "", token: str = "", fault: str = "") -> Response[str]:
    settings = {
        "CERTCTL_SERVER_URL": f"https://{request.headers.get('host', 'localhost')}",
        "CERTCTL_SERVER_CA_BUNDLE_PATH": "ca.pem",
        "CERTCTL_AGENT_NAME": name,
        "CERTCTL_AGENT_ENROLMENT_TOKEN": token,
    }
    command = " ".join(f"{variable}={shlex.quote(value)}" for variable, value in settings.items()) + " certctl-agent"
    return await render(
        request,
        "enrol.html",
        status=400 if fault else 200,
        name=name,
        token=token,
        fault=fault,
        command=command,
    )


@post("/enrol", opt=needs("agent.edit"))
async def enrol(request: WebRequest) -> Response[str]:
    """Make a one-time token; it is shown on this page alone and good for an hour."""
    fields = await request.checked()
    name = fields.get("agent_name")
    try:
        _token, value = await enrolment.create_token(
            request.ctx, request.actor, agent_name=name, agent_group="", ttl=_TOKEN_LIFE
        )
    except CallerError as error:
        return await _enrol_page(request, name=name, fault=error.message[:1].upper() + error.message[1:])
    return await _enrol_page(request, name=name, token=value.reveal())


@get("/enrol/{name:str}", opt=needs("agent.read"))
async def look_for(request: WebRequest, name: FromPath[str]) -> Response[str]:
    """Whether an agent of this name has come: what the page of its token asks while it waits."""
    async with request.ctx.database.read() as tx:
        found = await catalogue.find(tx, request.visible, AgentRecord, name=name, retired_at=None)
    return await render(request, "arrived.html", name=name, agent=found, mark=mark_of(found) if found else None)


HANDLERS = (show_all, show, show_members, ask_enrolment, enrol, look_for)

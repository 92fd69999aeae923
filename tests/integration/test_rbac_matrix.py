"""Every route, by every built-in role, whole and limited to a team: from the app's own table, so that none is forgotten.

What is asked for is not there (`nothing-there`), so that whoever is let in changes nothing and is told 400 or 404; who
is not let in is told 403 with the permission's name, and who is nobody 401.
"""

from __future__ import annotations

import asyncio
import re

import pytest

from certctl.api.agent_protocol import ROUTES as AGENT_ROUTES
from certctl.api.app import create_rest
from certctl.api.asked import asked_by
from certctl.api.guard import PUBLIC, SIGNED_IN
from certctl.core.permissions import AGENT_PERMISSIONS, PERMISSIONS, ROLES, limited
from certctl.core.rules import BreakglassRules, DoorRules
from certctl.core.scope import Reach
from integration.api_house import open_api

TEAM = "team-a"
PUBLIC_NAME, SIGNED_NAME = asked_by(PUBLIC), asked_by(SIGNED_IN)
BODYLESS = {"GET", "DELETE"}


def rest_routes() -> list[tuple[str, str, str]]:
    found = []
    for route in create_rest(None).routes:
        for method, (handler, _) in getattr(route, "route_handler_map", {}).items():
            if method != "OPTIONS":
                found.append((method, re.sub(r"\{[^}]*\}", "nothing-there", route.path), asked_by(handler.opt)))
    return found


REST = rest_routes()


def test_every_route_is_here_and_asks_for_something():
    assert len(REST) > 90
    for method, path, asked in REST:
        assert asked in PERMISSIONS | {PUBLIC_NAME, SIGNED_NAME}, (method, path)


def expected(role_id: str, reach: Reach, asked: str) -> bool:
    if asked in {PUBLIC_NAME, SIGNED_NAME}:
        return True
    return asked in ROLES[role_id].permissions and limited(asked, reach) is not None


async def answer_of(api, method: str, path: str, key: str) -> tuple[int, str]:
    """Status and text of an answer; of one that goes on and on, what it begins with."""
    body = b"" if method in BODYLESS else b"{}"
    headers = [(b"content-type", b"application/json")] if body else []
    if key:
        headers.append((b"authorization", f"Bearer {key}".encode()))
    path, _, query = path.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "https",
        "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "", "headers": headers,
        "client": ("127.0.0.1", 1), "server": ("certctl.test", 443),
    }  # fmt: skip
    told: dict[str, object] = {"status": 0, "text": ""}
    enough, sent = asyncio.Event(), False

    async def receive():
        nonlocal sent
        if not sent:
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}
        await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message):
        if message["type"] == "http.response.start":
            told["status"] = message["status"]
            if any(value.startswith(b"text/event-stream") for _, value in message["headers"]):
                enough.set()
        else:
            told["text"] = str(told["text"]) + message.get("body", b"").decode(errors="replace")
            if not message.get("more_body", False):
                enough.set()

    app = asyncio.create_task(api.http._transport.app(scope, receive, send))
    waiting = asyncio.create_task(enough.wait())
    await asyncio.wait({app, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if enough.is_set() and told["status"] == 200 and not app.done():
        app.cancel()
    waiting.cancel()
    await asyncio.gather(app, waiting, return_exceptions=True)
    return int(str(told["status"])), str(told["text"])


@pytest.fixture(scope="module")
def rules() -> DoorRules:
    return DoorRules(breakglass=BreakglassRules(enabled=True))


@pytest.mark.parametrize("role_id", sorted(ROLES))
async def test_each_role_opens_what_is_its_own_and_nothing_else(tmp_path, rules, role_id):
    wrong = []
    async with open_api(tmp_path / "data", "", rules) as api:
        await api.made("/api/v1/teams", {"id": TEAM, "name": "a"})
        keys = ((Reach(), await api.key(role_id)), (Reach(teams=(TEAM,)), await api.key(role_id, teams=[TEAM])))
        for reach, key in keys:
            for method, path, asked in REST:
                status, text = await answer_of(api, method, path, key)
                # sign-in judges what is in its body, whoever calls
                refused = status == 403 and f"needs the permission {asked}," in text
                if status >= 500 or refused == expected(role_id, reach, asked):
                    wrong.append((method, path, asked, reach, status))
                if status == 403 and not refused and reach == Reach():
                    wrong.append((method, path, "403 without a reason", reach, status))
    assert wrong == []


async def test_nobody_and_a_stranger_open_the_public_routes_alone(tmp_path, rules):
    async with open_api(tmp_path / "data", "", rules) as api:
        for key in ("", "ctk_" + "x" * 43, "something-else"):
            for method, path, asked in REST:
                status, _ = await answer_of(api, method, path, key)
                assert (status == 401) == (asked != PUBLIC_NAME), (method, path, status)


async def test_an_agents_credential_opens_the_agents_routes_alone(tmp_path, rules):
    async with open_api(tmp_path / "data", "", rules) as api:
        agent = await api.agent()
        other = await api.agent("web-2")
        for method, path, asked in REST:
            if asked not in {PUBLIC_NAME, SIGNED_NAME}:
                status, _ = await answer_of(api, method, path, agent.credential)
                assert status == 403, (method, path)
        for route in AGENT_ROUTES:
            path = route.path.replace("{job_id}", "nothing-there").replace("{certificate_id}", "nothing-there")
            if not route.permission:
                continue
            assert route.permission in AGENT_PERMISSIONS
            mine, _ = await answer_of(api, route.method, path.replace("{agent_id}", agent.id), agent.credential)
            assert mine not in {401, 403}, (path, mine)
            if "{agent_id}" in path:
                foreign, _ = await answer_of(api, route.method, path.replace("{agent_id}", other.id), agent.credential)
                assert foreign == 403, path


@pytest.mark.parametrize("role_id", sorted(ROLES))
async def test_no_role_of_a_person_opens_an_agents_routes(tmp_path, rules, role_id):
    async with open_api(tmp_path / "data", "", rules) as api:
        agent = await api.agent()
        key = await api.key(role_id)
        for route in AGENT_ROUTES:
            if route.permission:
                path = route.path.replace("{agent_id}", agent.id)
                path = path.replace("{job_id}", "nothing-there").replace("{certificate_id}", "nothing-there")
                assert (await answer_of(api, route.method, path, key))[0] == 403, path

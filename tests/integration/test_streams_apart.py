"""Every stream there is, followed from the beginning of the log by teams and tenants: nothing foreign is heard in it.

Read through the whole API as a client reads it. What is foreign happens while one listens, before something of one's
own does: once that is heard, all that came before it has been told or left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from typing import Any

import pytest

from certctl.api.app import create_rest
from certctl.control import teams
from certctl.core.actor import SYSTEM
from certctl.core.scope import Scope
from certctl.doors.feed import write_cursor
from integration.test_two_tenants import ENDLESS, FOREIGN, get_routes, stock, world

__all__ = ["stock", "world"]  # a fixture of this module, too
STREAMS = {"/api/v1/events"}
LONGEST_SECONDS = 60


def test_every_route_that_answers_with_a_stream_is_followed_here():
    found = {
        route.path
        for route in create_rest(None).routes
        for handler, _ in getattr(route, "route_handler_map", {}).values()
        if handler.media_type == "text/event-stream"
    }
    assert found == STREAMS
    assert {path for path, _ in get_routes() if ENDLESS.search(path)} == STREAMS


class Listener:
    """One who follows a stream from its beginning, with a status, headers and the text so far."""

    def __init__(self, api: Any, path: str, key: str, last: str) -> None:
        self.status, self.text = 0, ""
        self._api, self._path, self._key, self._last = api, path, key, last
        self._news = asyncio.Event()

    async def run(self) -> None:
        headers = [(b"authorization", f"Bearer {self._key}".encode()), (b"host", b"certctl.test")]
        headers += [(b"last-event-id", self._last.encode())] if self._last else []
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "https",
            "path": self._path, "raw_path": self._path.encode(), "query_string": b"", "root_path": "",
            "headers": headers, "client": ("127.0.0.1", 1), "server": ("certctl.test", 443),
        }  # fmt: skip
        asked = False

        async def receive() -> dict[str, Any]:
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await asyncio.Event().wait()
            raise AssertionError("unreachable")

        async def send(message: Any) -> None:
            self.status = message.get("status", self.status)
            self.text += message.get("body", b"").decode()
            self._news.set()

        await self._api.http._transport.app(scope, receive, send)

    async def hears(self, word: str) -> None:
        """Returns when a word was told."""
        async with asyncio.timeout(LONGEST_SECONDS):
            while word not in self.text:
                self._news.clear()
                await self._news.wait()

    def subjects(self) -> set[tuple[str, str]]:
        told = [json.loads(line[6:]) for line in self.text.splitlines() if line.startswith("data: ")]
        return {(each["subject_type"], each["subject_id"]) for each in told}


@contextlib.asynccontextmanager
async def listening(api: Any, path: str, key: str, last: str):
    listener = Listener(api, path, key, last)
    task = asyncio.create_task(listener.run())
    try:
        await listener.hears("retry: ")
        assert listener.status == 200
        yield listener
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def happen(api: Any, turn: int) -> None:
    """Something of each kind in the other team and in the other tenant, which others may not hear of."""
    await api.made("/api/v1/teams", {"id": f"team-beta-{turn}", "name": f"beta team {turn}"})
    for path, body in (
        ("/api/v1/certificates/mc-beta", {"environment": f"beta-{turn}"}),
        ("/api/v1/targets/target-beta", {"name": f"beta-site-{turn}"}),
        ("/api/v1/owners/owner-beta", {"name": f"beta owner {turn}"}),
    ):
        answer = await api.call("PUT", path, body)
        assert answer.status_code == 200, answer.text
    gamma = dataclasses.replace(api.house.ctx, scope=Scope.whole("t-gamma"))
    await teams.create(gamma, gamma.scope, SYSTEM, {"id": f"team-gamma-{turn}", "name": f"gamma team {turn}"})


async def of_its_own(api: Any, turn: int) -> tuple[str, str]:
    """Something that happens to team alpha, told by no other event."""
    body = {"id": f"owner-alpha-{turn}", "name": f"alpha owner {turn}", "team_id": "team-alpha"}
    return "owner", (await api.made("/api/v1/owners", body))["id"]


@pytest.mark.parametrize("path", sorted(STREAMS))
async def test_a_team_hears_of_its_own_alone(world, path):
    api, alpha, _, _ = world
    beginning = write_cursor(api.house.ctx, (0, 0))
    turns = [(role, last) for role in ("r-viewer", "r-operator", "r-admin") for last in (beginning, "")]
    for turn, (role, last) in enumerate(turns):
        async with listening(api, path, await api.key(role, teams=alpha["team_id"]), last) as listener:
            await happen(api, turn)
            mine = await of_its_own(api, turn)
            await listener.hears(mine[1])
            told = listener.subjects()
            assert not any(word in listener.text for word in FOREIGN), told
            if last:
                things = ("team", "certificate", "target", "owner")
                assert {(thing, alpha[f"{thing}_id"][0]) for thing in things} <= told
            else:
                assert told == {mine}, "from now on, and of all that happened only its own"


@pytest.mark.parametrize("path", sorted(STREAMS))
async def test_a_whole_administrator_hears_of_no_other_tenant(world, path):
    api, _, _, _ = world
    async with listening(api, path, api.admin, write_cursor(api.house.ctx, (0, 0))) as listener:
        await happen(api, 1)
        await listener.hears((await of_its_own(api, 1))[1])
        assert "gamma" not in listener.text
        assert {("certificate", "mc-alpha"), ("certificate", "mc-beta"), ("team", "team-beta-1")} <= listener.subjects()


@pytest.mark.parametrize("path", sorted(STREAMS))
async def test_a_place_in_another_tenants_log_is_none_here(world, path):
    api, alpha, _, _ = world
    gamma = dataclasses.replace(api.house.ctx, scope=Scope.whole("t-gamma"))
    key = await api.key("r-viewer", teams=alpha["team_id"])
    for last in (write_cursor(gamma, (0, 0)), write_cursor(gamma, (1, 1))):
        answer = await api.call("GET", path, key=key, headers={"Last-Event-ID": last})
        assert answer.status_code == 400
        assert answer.json()["violations"][0]["field"] == "Last-Event-ID"

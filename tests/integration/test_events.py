"""What changes is told once, in the order of commits, to whoever may see it; across reconnects, replicas and deaths."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from certctl import ledger
from certctl.core.actor import SYSTEM
from certctl.core.events import Event, EventType
from certctl.doors import feed as feeds
from certctl.doors.entry import recognise
from certctl.doors.feed import Feed, Follower, read_cursor, write_cursor
from certctl.doors.identity import Knock
from certctl.store import schema
from integration.api_house import hours, open_api
from peers.replicas import replicas

CERTIFICATES = "/api/v1/certificates"
START = (0, 0)


@pytest.fixture
async def api(tmp_path, database_url):
    async with open_api(tmp_path / "data", database_url) as fresh:
        yield fresh


def parse(raw: bytes) -> list[dict[str, str]]:
    """The blocks of an event stream that carry data."""
    blocks = []
    for block in raw.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(":"))
        if "data" in fields:
            blocks.append(fields | json.loads(fields["data"]))
    return blocks


async def follow(api, key: str, position=START, *, count: int | None = None, pauses: int = 2) -> bytes:
    """What a follower hears until it has heard `count` blocks, or nothing more for some looks."""
    left = pauses

    async def again():
        headers = {"authorization": f"Bearer {key}"}
        return await recognise(api.state, Knock(headers=headers, request_id="r", address="127.0.0.1"))

    async def pause(_seconds: float) -> bool:
        nonlocal left
        left -= 1
        return left <= 0 or api.state.draining.is_set()

    heard = b""
    stream = Follower(api.house.ctx, Feed(), position, again, pause).run()
    async for block in stream:
        heard += block
        if count is not None and len(parse(heard)) >= count:
            break
    await stream.aclose()
    return heard


def note(subject_id: str) -> Event:
    return Event(type=EventType.CERTIFICATE_UPDATED, subject_type="certificate", subject_id=subject_id, actor=SYSTEM)


async def test_what_commits_late_is_never_skipped(api):
    ctx = api.house.ctx
    async with ctx.database.read() as tx:
        begin = await ledger.newest(tx, ctx.scope)

    async def heard():
        async with ctx.database.read() as tx:
            return [row.subject_id for row in await ledger.follow(tx, ctx.scope, begin, 100)]

    if ctx.database.dialect == "postgresql":
        async with ctx.database.begin("test") as slow:
            await ledger.append(slow, ctx.scope, ctx.now(), note("slow"))
            await slow.scalar(sa.select(1))  # an event alone waits to be sent; now its transaction is under way
            async with ctx.database.begin("test") as quick:
                await ledger.append(quick, ctx.scope, ctx.now(), note("quick"))
            assert await heard() == [], "the quick one could still be overtaken"
            async with ctx.database.read() as tx:
                assert await ledger.newest(tx, ctx.scope) == begin, "who comes now begins before both"
        assert await heard() == ["slow", "quick"]
    else:
        for name in ("one", "two"):
            async with ctx.database.begin("test") as tx:
                await ledger.append(tx, ctx.scope, ctx.now(), note(name))
        assert await heard() == ["one", "two"]


async def test_whoever_comes_back_has_missed_nothing_and_hears_nothing_twice(api, monkeypatch):
    monkeypatch.setattr(feeds, "_BATCH", 3)
    for number in range(5):
        await api.made(CERTIFICATES, {"common_name": f"n{number}.example"})
    whole = parse(await follow(api, api.admin))
    assert len([block for block in whole if block["event"] == "certificate_created"]) == 5
    told = [(block["type"], block["subject_id"]) for block in whole]
    pieces: list[Any] = []
    position = START
    while True:
        part = parse(await follow(api, api.admin, position, count=2))
        if not part:
            break
        pieces += part
        position = read_cursor(api.house.ctx, part[-1]["id"])
    assert [(block["type"], block["subject_id"]) for block in pieces] == told
    assert set(whole[0]) == {"id", "event", "data", "type", "subject_type", "subject_id", "at"}
    # from now on: nothing old
    async with api.house.database.read() as tx:
        end = await ledger.newest(tx, api.house.ctx.scope)
    assert parse(await follow(api, api.admin, end)) == []
    made = await api.made(CERTIFICATES, {"common_name": "new.example"})
    assert [block["subject_id"] for block in parse(await follow(api, api.admin, end))] == [made["id"]]


async def test_nobody_hears_of_what_they_may_not_see(api):
    for team in ("team-a", "team-b"):
        await api.made("/api/v1/teams", {"id": team, "name": team})
    mine = await api.made(CERTIFICATES, {"id": "mc-mine", "common_name": "mine.example", "team_id": "team-a"})
    await api.made(CERTIFICATES, {"id": "mc-foreign", "common_name": "foreign.example", "team_id": "team-b"})
    await api.made("/api/v1/issuers/iss-local/test", None, status=200)
    heard = await follow(api, await api.key("r-viewer", teams=["team-a"]))
    assert {block["subject_id"] for block in parse(heard) if block["subject_type"] == "certificate"} == {mine["id"]}
    assert {block["subject_id"] for block in parse(heard) if block["subject_type"] == "team"} == {"team-a"}
    assert b"foreign" not in heard and b"team-b" not in heard and b"api_key" not in heard
    # without the permission there is nothing, not even a sign that something happened
    quiet = await follow(api, await api.key("r-auditor"))
    assert parse(quiet) == []
    assert quiet.count(b"id: ") == 1
    # the numbers in a place would count what others do
    places = {write_cursor(api.house.ctx, (7, 9)) for _ in range(3)}
    assert len(places) == 3
    assert {read_cursor(api.house.ctx, place) for place in places} == {(7, 9)}


async def test_the_stream_ends_with_its_key_and_with_the_process(api):
    for ended in ("revoked", "expired"):
        more = {"expires_at": (api.clock.now() + hours(1)).isoformat()} if ended == "expired" else {}
        key = await api.key("r-viewer", **more)
        assert parse(await follow(api, key))
        if ended == "revoked":
            mine = (await api.get("/api/v1/auth/keys"))["keys"]
            newest = max(mine, key=lambda each: each["created_at"] + each["id"])
            assert (await api.call("DELETE", f"/api/v1/auth/keys/{newest['id']}")).status_code == 204
        else:
            api.clock.moment += hours(2)
        await api.made(CERTIFICATES, {"common_name": f"{ended}.example"})
        assert parse(await follow(api, key, pauses=1000)) == [], "nothing is told to a key that is good no more"
    api.state.drain()
    assert parse(await follow(api, api.admin, pauses=1000))


async def test_who_may_not_follow(api):
    for text in ("1", "x" * 500, "é", "AAAA", write_cursor(api.house.ctx, (1, 1))[:-6]):
        answer = await api.call("GET", "/api/v1/events", headers={"Last-Event-ID": text.encode("utf-8")})
        assert answer.status_code == 400, text
        assert answer.json()["violations"][0]["field"] == "Last-Event-ID"
    assert (await api.call("GET", "/api/v1/events", key="")).status_code == 401
    agent = await api.agent()
    assert (await agent.call("GET", "/api/v1/events")).status_code == 403
    feed = api.state.feed
    with contextlib.ExitStack() as seats:
        for _ in range(feeds.MOST_FOLLOWERS):
            seats.enter_context(feed.seat())
        answer = await api.call("GET", "/api/v1/events")
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "30"
    feed.check_room()


async def test_a_restored_dump_hides_nothing_that_happens_now(api):
    ctx = api.house.ctx
    if ctx.database.dialect != "postgresql":
        async with ctx.database.begin("test") as tx:
            assert await ledger.adopt_restored(tx, ctx.scope) == 0
        return
    far = 10**15  # the cluster that the dump was made in had come further than this one
    async with ctx.database.begin("test") as tx:
        await tx.execute(sa.update(schema.events).values(transaction_id=far + schema.events.c.seq))
    async with ctx.database.begin("test") as tx:
        assert await ledger.adopt_restored(tx, ctx.scope) > 0
        assert await ledger.adopt_restored(tx, ctx.scope) == 0
    made = await api.made(CERTIFICATES, {"common_name": "seen.example"})
    async with ctx.database.read() as tx:
        end = await ledger.newest(tx, ctx.scope)
        assert 0 < end[0] < far
        assert await ledger.place(tx, ctx.scope, (far, 3)) == end, "a place of the other cluster: from now on"
        assert await ledger.place(tx, ctx.scope, end) == end
    assert made["id"] in [block["subject_id"] for block in parse(await follow(api, api.admin, (0, 10**9)))]


class Listener(threading.Thread):
    """An HTTP client that follows a replica until the connection ends."""

    def __init__(self, replica: Any, key: str, last_id: str = "") -> None:
        super().__init__(daemon=True)
        self.raw, self.connected, self.status = b"", threading.Event(), 0
        self._replica, self._key, self._last_id = replica, key, last_id

    def run(self) -> None:
        context = ssl.create_default_context(cafile=str(self._replica.directory / "data" / "ca.pem"))
        headers = {"Authorization": f"Bearer {self._key}"} | ({"Last-Event-ID": self._last_id} if self._last_id else {})
        url = f"https://localhost:{self._replica.port}/api/v1/events"
        try:
            with (
                httpx.Client(verify=context, timeout=60, headers=headers, trust_env=False) as client,
                client.stream("GET", url) as answer,
            ):
                self.status = answer.status_code
                self.connected.set()
                for piece in answer.iter_raw():
                    self.raw += piece
        except httpx.HTTPError:
            pass
        finally:
            self.connected.set()

    def heard(self) -> list[dict[str, str]]:
        return parse(self.raw[: self.raw.rfind(b"\n\n") + 2])


def wait(replica: Any, done: Callable[[], Any], what: str) -> None:
    replica.wait(done, what)


def test_two_replicas_one_killed_nothing_lost_nothing_twice(tmp_path, postgres_server):
    with replicas(tmp_path, postgres_server) as town:
        first, second = town.add(), town.add()
        admin = town.key
        made = second.did("POST", "/api/v1/auth/keys", {"name": "listener", "role_ids": ["r-viewer"]}, admin)
        key = made["key_value"]
        ears = Listener(first, key)
        ears.start()
        assert ears.connected.wait(60) and ears.status == 200
        wait(first, lambda: ears.raw, "the stream has begun")
        ids = [
            replica.did("POST", CERTIFICATES, {"common_name": f"n{number}.example"}, admin)["id"]
            for number, replica in enumerate((first, second) * 3)
        ]

        def created(listener: Listener) -> list[str]:
            return [block["subject_id"] for block in listener.heard() if block["event"] == "certificate_created"]

        wait(first, lambda: len(created(ears)) >= 3, "three are told of")
        first.kill()
        ears.join(60)
        assert not ears.is_alive()
        before = ears.heard()
        ids += [second.did("POST", CERTIFICATES, {"common_name": f"m{n}.example"}, admin)["id"] for n in range(3)]
        later = Listener(second, key, before[-1]["id"])
        later.start()
        wait(second, lambda: len(created(ears)) + len(created(later)) >= len(ids), "all are told of")
        assert created(ears) + created(later) == ids, "each once, in the order of their commits"

        second.did("DELETE", f"/api/v1/auth/keys/{made['id']}", key=admin)
        later.join(60)
        assert not later.is_alive(), "a revoked key hears no more"
        last = Listener(second, admin)
        last.start()
        assert last.connected.wait(60) and last.status == 200
        second.stop()
        last.join(60)
        assert not last.is_alive()
        assert second.process is not None and second.process.returncode == 0, "followers hold up no drain"


async def test_one_look_serves_every_follower(api, monkeypatch):
    looks = []
    newest = ledger.newest

    async def counted(tx, scope):
        looks.append(scope)
        return await newest(tx, scope)

    monkeypatch.setattr(ledger, "newest", counted)
    feed = Feed()
    ends = await asyncio.gather(*(feed.end(api.house.ctx) for _ in range(50)))
    assert len(looks) == 1
    assert len(set(ends)) == 1

"""What agents with nothing to do cost: two reads for all polls of a moment, one look for all that wait, signs of life
written together."""

from __future__ import annotations

import asyncio
import contextlib
import re
from datetime import timedelta

import pytest
import sqlalchemy as sa

from certctl.api import lookout
from certctl.control import beats
from certctl.lifecycle import observe
from integration.api_house import open_api

AGENTS = 12


@pytest.fixture
async def api(tmp_path, database_url, monkeypatch):
    monkeypatch.setattr(lookout, "LOOK_SECONDS", 0.02)
    # signs of life are written when a test asks for it, not when a busy machine has been at it for five seconds
    monkeypatch.setattr(beats, "KEPT_SECONDS", 600)
    async with open_api(tmp_path / "data", database_url) as fresh:
        yield fresh
        # a look that is under way when the database closes leaves its connection open
        fresh.state.drain()
        await until(lambda: not [task for task in asyncio.all_tasks() if task.get_name().startswith("agents-")])


@contextlib.contextmanager
def statements(api):
    """Every statement from here on, as it is sent."""
    said: list[str] = []

    def note(_connection, _cursor, statement, *_more):
        said.append(" ".join(statement.split()))

    engine = api.house.database.engine.sync_engine
    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield said
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)


def writes(said):
    """Also those that begin with what they choose: ``WITH due AS (...) UPDATE ...``."""
    return [one for one in said if re.search(r"\b(INSERT|UPDATE|DELETE|BEGIN)\b", one)]


def looks(said):
    return [one for one in said if "DISTINCT" in one and "steps" in one]


def waiting(api):
    """How many polls wait for their wake-up, after their look."""
    return sum(channel.startswith("agent:") for channel in api.state.wakeups._watches)


async def until(ready, seconds=60):
    async with asyncio.timeout(seconds):
        while not ready():
            await asyncio.sleep(0.01)


async def at_rest(api, count):
    """So many agents that have polled before."""
    agents = [await api.agent(f"web-{number}") for number in range(count)]
    for agent in agents:
        assert await agent.work() == []
    return agents


async def test_idle_polls_share_one_look_and_write_nothing(api):
    agents = await at_rest(api, AGENTS)
    with statements(api) as said:
        polls = [asyncio.create_task(agent.work(wait=60)) for agent in agents]
        # every poll has come in and looked once, and all have been looked after many times since
        await until(lambda: waiting(api) == AGENTS and len(looks(said)) >= 10)
    assert writes(said) == []
    others = [one for one in said if one not in looks(said)]
    assert 2 <= len(others) <= 2 * AGENTS, "who calls, and whether there is work: asked together, never twice"
    assert not any(poll.done() for poll in polls)

    # a step whose hint is lost reaches its agent all the same, and nobody else asks
    api.house.database.on_wake = lambda _channels: None
    target = await api.target(agents[7])
    with statements(api) as said:
        await api.made("/api/v1/certificates", {"common_name": "shop.example", "target_ids": [target]})
        items = await asyncio.wait_for(polls[7], 60)
    assert [item["step_kind"] for item in items] == ["prepare"]
    claims = [one for one in writes(said) if "UPDATE steps" in one and "RETURNING" in one]
    assert claims, "it was claimed"
    others = [poll for number, poll in enumerate(polls) if number != 7]
    assert not any(poll.done() for poll in others)
    api.state.drain()
    assert await asyncio.gather(*others) == [[]] * (AGENTS - 1)


async def test_the_lookout_ends_when_nobody_waits_and_outlives_a_database_that_is_away(api, monkeypatch):
    (agent,) = await at_rest(api, 1)
    failing = True
    ask = lookout.flow.agents_with_work

    async def sometimes(ctx):
        if failing:
            raise lookout.CertctlError("the database is away")
        return await ask(ctx)

    monkeypatch.setattr(lookout.flow, "agents_with_work", sometimes)
    poll = asyncio.create_task(agent.work(wait=60))
    watcher = lambda: [task for task in asyncio.all_tasks() if task.get_name() == "agents-lookout"]  # noqa: E731
    await until(watcher)
    api.house.database.on_wake = lambda _channels: None
    target = await api.target(agent)
    await api.made("/api/v1/certificates", {"common_name": "shop.example", "target_ids": [target]})
    assert not poll.done()
    failing = False
    assert [item["step_kind"] for item in await asyncio.wait_for(poll, 60)] == ["prepare"]
    await until(lambda: not watcher())


async def beat(agent, **said):
    body = {"boot_id": agent.boot_id, "hostname": "web-0.test", "os": "linux", "version": "0.1.0", "protocol": 1} | said
    answer = await agent.call("POST", f"/api/v1/agents/{agent.id}/heartbeat", body)
    assert answer.status_code == 200, answer.text


def writers():
    return [task for task in asyncio.all_tasks() if task.get_name() == "agents-beats"]


async def test_signs_of_life_that_say_nothing_new_are_written_together(api, monkeypatch):
    agents = await at_rest(api, AGENTS)
    for number, agent in enumerate(agents):
        await beat(agent, hostname=f"web-{number}.test")

    async def beaten():
        return {one["id"]: one["last_heartbeat_at"] for one in (await api.get("/api/v1/agents"))["data"]}

    before = await beaten()
    api.clock.moment += timedelta(seconds=30)
    with statements(api) as said:
        await asyncio.gather(*(beat(agent, hostname=f"web-{number}.test") for number, agent in enumerate(agents)))
        await asyncio.gather(*(agent.work() for agent in agents))
        assert writes(said) == []
        # a process that ends writes what it has at once
        api.state.drain()
        await until(lambda: not writers())
    assert len([one for one in writes(said) if not one.startswith("BEGIN")]) == 1, "one statement for all of them"
    after = await beaten()
    assert after.keys() == before.keys()
    assert all(after[agent_id] > before[agent_id] for agent_id in before)


async def test_a_kept_sign_is_written_after_a_while(api, monkeypatch):
    (agent,) = await at_rest(api, 1)
    await beat(agent)
    api.state.drain()
    await until(lambda: not writers())
    api.state.draining.clear()
    shown = f"/api/v1/agents/{agent.id}"
    before = (await api.get(shown))["last_heartbeat_at"]
    monkeypatch.setattr(beats, "KEPT_SECONDS", 0.01)
    api.clock.moment += timedelta(seconds=30)
    await beat(agent)
    await until(lambda: not writers())
    assert (await api.get(shown))["last_heartbeat_at"] > before


async def test_signs_that_could_not_be_written_are_written_later(api, monkeypatch):
    """A database that is away makes nobody write one by one, and loses nothing but time."""
    (agent,) = await at_rest(api, 1)
    shown = f"/api/v1/agents/{agent.id}"
    before = (await api.get(shown))["last_heartbeat_at"]
    monkeypatch.setattr(beats, "KEPT_SECONDS", 0.01)
    failures = 0
    note = beats.agents.note_signs

    async def sometimes(*arguments):
        nonlocal failures
        if failures < 3:
            failures += 1
            raise beats.CertctlError("the database is away")
        await note(*arguments)

    monkeypatch.setattr(beats.agents, "note_signs", sometimes)
    api.state.draining.set()
    await until(lambda: not writers())
    api.state.draining.clear()
    failures = 0
    api.clock.moment += timedelta(seconds=30)
    await beat(agent)
    await until(lambda: not writers())
    assert failures == 3
    assert (await api.get(shown))["last_heartbeat_at"] > before
    # at the end of a process it is tried once
    monkeypatch.setattr(beats, "KEPT_SECONDS", 600)
    failures = 0
    api.clock.moment += timedelta(seconds=30)
    await beat(agent)
    api.state.drain()
    await until(lambda: not writers())
    assert failures == 1


async def test_what_is_new_is_written_at_once(api):
    (agent,) = await at_rest(api, 1)
    shown = f"/api/v1/agents/{agent.id}"
    await beat(agent, version="0.2.0")
    assert (await api.get(shown))["version"] == "0.2.0"
    # old enough that a sign kept in memory, and lost, would matter
    api.clock.moment += timedelta(seconds=151)
    before = (await api.get(shown))["last_heartbeat_at"]
    await beat(agent, version="0.2.0")
    assert (await api.get(shown))["last_heartbeat_at"] > before
    # back after a silence: by a heartbeat or by a poll, either is told, once
    for number, sign in enumerate((beat, type(agent).work), start=1):
        api.clock.moment += timedelta(minutes=6)
        await observe.tick(api.house.ctx)
        assert (await api.get(shown))["status"] == "Offline"
        await sign(agent)
        assert (await api.get(shown))["status"] == "Online"
        assert len(await api.events("agent_returned")) == number


async def test_a_lost_sign_is_no_later_one_undone(api):
    """Two processes write what they kept: the later sign stands, whoever writes last."""
    from certctl.store import agents as store

    (agent,) = await at_rest(api, 1)
    ctx, now = api.house.ctx, api.clock.moment
    silent, other = await api.agent("silent"), await api.agent("other")
    async with ctx.database.begin("agent.status") as tx:
        await store.catalogue.change(tx, ctx.scope, store.AgentRecord, silent.id, status="Offline")
    for moment in (now + timedelta(seconds=20), now + timedelta(seconds=10)):
        signs = dict.fromkeys((agent.id, silent.id, "agent-unknown"), moment)
        async with ctx.database.begin("agent.beats") as tx:
            await store.note_signs(tx, ctx.scope, signs | {other.id: now + timedelta(seconds=5)})
    async with ctx.database.read() as tx:
        found = [await store.catalogue.get(tx, ctx.scope, store.AgentRecord, one.id) for one in (agent, other, silent)]
    assert [one.last_heartbeat_at - now for one in found[:2]] == [timedelta(seconds=20), timedelta(seconds=5)]
    # one that reads Offline has to be told of as returned: that is no matter of a batch
    assert found[2].last_heartbeat_at <= now


def wait_for_a_connection(database, seconds):
    if database.lines is not None:
        database.lines.wait_seconds = seconds
    else:
        database.engine.pool._timeout = seconds


async def test_a_server_that_has_too_much_to_do_says_when_to_come_back(api):
    """Every connection to the database is in use: refused within the wait for one, and let in again after."""
    (agent,) = await at_rest(api, 1)
    database = api.house.database
    wait_for_a_connection(database, 0.05)
    path = f"/api/v1/agents/{agent.id}"
    calls = (("GET", f"{path}/work?boot_id=boot-1&wait=60"), ("POST", f"{path}/heartbeat"))
    async with contextlib.AsyncExitStack() as held:
        for _ in range(database.lines.most if database.lines is not None else database.engine.pool.size()):
            await held.enter_async_context(api.house.database.read())
        for method, where in calls:
            refused = await agent.call(method, where)
            assert refused.status_code == 503, refused.text
            assert int(refused.headers["retry-after"]) >= 1
    wait_for_a_connection(database, 30)
    assert await agent.work() == []

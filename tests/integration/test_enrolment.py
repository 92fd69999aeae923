"""Agents enrol once a token; a lost answer is not a lost agent; nobody takes another's place."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from certctl.control import enrolment, retirement
from certctl.control.beats import Beats
from certctl.core.errors import Conflict, Gone, Malformed, NotAllowed, NotAuthenticated
from certctl.core.secret import Secret
from certctl.lifecycle import flow
from certctl.wire.agent import Enrolment, Heartbeat
from lifecycle.world import PERSON, world

SAID = Enrolment(name="web-1", hostname="web-1")


@pytest.fixture
async def ctx(database_url, tmp_path):
    async with world(database_url, tmp_path / "data") as town:
        yield town.ctx


async def token(ctx, *, name: str = "web-1", group: str = "", ttl: timedelta = timedelta(hours=1)) -> Secret:
    return (await enrolment.create_token(ctx, PERSON, agent_name=name, agent_group=group, ttl=ttl))[1]


async def test_a_token_makes_one_agent(ctx):
    secret = await token(ctx)
    agent, credential = await enrolment.enrol(ctx, secret, SAID, "127.0.0.1")
    assert (await enrolment.agent_of(ctx, credential)).id == agent.id
    with pytest.raises(NotAuthenticated):
        await enrolment.enrol(ctx, secret, SAID, "127.0.0.1")


async def test_a_lost_answer_is_asked_for_again_until_the_agent_works(ctx):
    secret = await token(ctx)
    first, lost = await enrolment.enrol(ctx, secret, SAID, "127.0.0.1", "attempt-1")
    with pytest.raises(NotAuthenticated):
        await enrolment.enrol(ctx, secret, SAID, "127.0.0.1", "attempt-2")
    again, credential = await enrolment.enrol(ctx, secret, SAID, "127.0.0.1", "attempt-1")
    assert again.id == first.id
    with pytest.raises(NotAuthenticated):
        await enrolment.agent_of(ctx, lost)
    agent = await enrolment.agent_of(ctx, credential)
    await flow.work_for(ctx, agent, "boot-1", 1)
    with pytest.raises(NotAuthenticated):
        await enrolment.enrol(ctx, secret, SAID, "127.0.0.1", "attempt-1")


async def test_tokens_are_bound_and_end(ctx):
    with pytest.raises(NotAllowed, match="web-2"):
        await enrolment.enrol(ctx, await token(ctx, name="web-2"), SAID, "127.0.0.1")
    secret = await token(ctx, ttl=timedelta(minutes=1))
    ctx.clock.moment += timedelta(minutes=1)
    with pytest.raises(NotAuthenticated):
        await enrolment.enrol(ctx, secret, SAID, "127.0.0.1")
    with pytest.raises(NotAuthenticated):
        await enrolment.enrol(ctx, Secret("cte_guessed"), SAID, "127.0.0.1")
    with pytest.raises(Malformed):
        await token(ctx, name="", group="")
    with pytest.raises(Malformed):
        await token(ctx, ttl=timedelta(days=31))


async def test_a_group_token_takes_any_name_but_no_living_one(ctx):
    await enrolment.enrol(ctx, await token(ctx), SAID, "127.0.0.1")
    with pytest.raises(Conflict):
        await enrolment.enrol(ctx, await token(ctx, name="", group="web"), SAID, "127.0.0.1")
    other = Enrolment(name="web-9", hostname="web-9")
    agent, _ = await enrolment.enrol(ctx, await token(ctx, name="", group="web"), other, "127.0.0.1")
    assert agent.agent_group == "web"


async def test_a_retired_agent_is_gone_and_its_name_is_free(ctx):
    agent, _ = await enrolment.enrol(ctx, await token(ctx), SAID, "127.0.0.1")
    retired, _ = await retirement.retire(ctx, PERSON, agent.id, reason="host rebuilt", force=False)
    with pytest.raises(Gone, match="host rebuilt"):
        await enrolment.heartbeat(ctx, Beats(ctx, asyncio.Event()), retired, Heartbeat())
    assert await flow.work_for(ctx, retired, "boot-1", 1) == []
    again, _ = await enrolment.enrol(ctx, await token(ctx), SAID, "127.0.0.1")
    assert again.id != agent.id


async def test_a_poll_of_an_earlier_boot_gets_nothing(ctx):
    agent, credential = await enrolment.enrol(ctx, await token(ctx), SAID, "127.0.0.1")
    await flow.work_for(ctx, agent, "boot-1", 1)
    first_boot = await enrolment.agent_of(ctx, credential)
    await flow.work_for(ctx, first_boot, "boot-2", 1)
    from certctl.core.ids import new_id
    from certctl.core.status import StepKind
    from certctl.store import jobs

    async with ctx.database.begin("test") as tx:
        await jobs.add_step(tx, ctx.scope, new_id("job"), StepKind.PREPARE, ctx.now(), agent_id=agent.id)
    assert await flow.work_for(ctx, first_boot, "boot-1", 1) == []
    async with ctx.database.read() as tx:
        assert await jobs.has_due(tx, ctx.scope, agent.id, ctx.now()), "the step waits for the boot that lives"


SHARED = Secret("the installation's agent bootstrap token")


async def test_the_shared_token_enrols_many_agents_and_repeats_a_lost_answer(ctx):
    first, lost = await enrolment.enrol_by_shared_token(ctx, SHARED, SAID, "127.0.0.1", "attempt-1")
    again, credential = await enrolment.enrol_by_shared_token(ctx, SHARED, SAID, "127.0.0.1", "attempt-1")
    assert again.id == first.id
    assert (await enrolment.agent_of(ctx, credential)).id == first.id
    with pytest.raises(NotAuthenticated):
        await enrolment.agent_of(ctx, lost)
    other, _ = await enrolment.enrol_by_shared_token(ctx, SHARED, Enrolment(name="web-2", hostname="web-2"), "", "a-2")
    assert other.id != first.id


async def test_the_shared_token_takes_no_living_agent_over(ctx):
    agent, credential = await enrolment.enrol_by_shared_token(ctx, SHARED, SAID, "127.0.0.1", "attempt-1")
    for attempt in ("attempt-2", ""):
        with pytest.raises(Conflict):
            await enrolment.enrol_by_shared_token(ctx, SHARED, SAID, "127.0.0.1", attempt)
    assert (await enrolment.agent_of(ctx, credential)).id == agent.id
    await flow.work_for(ctx, agent, "boot-1", 1)
    with pytest.raises(NotAuthenticated):
        await enrolment.enrol_by_shared_token(ctx, SHARED, SAID, "127.0.0.1", "attempt-1")
    with pytest.raises(NotAuthenticated):
        await enrolment.enrol(ctx, SHARED, SAID, "127.0.0.1", "attempt-1")
    with pytest.raises(NotAllowed):
        said = Enrolment(name="another", hostname="another")
        await enrolment.enrol_by_shared_token(ctx, SHARED, said, "127.0.0.1", "attempt-1")
    await retirement.retire(ctx, PERSON, agent.id, reason="host rebuilt", force=False)
    fresh, _ = await enrolment.enrol_by_shared_token(ctx, SHARED, SAID, "127.0.0.1", "attempt-3")
    assert fresh.id != agent.id

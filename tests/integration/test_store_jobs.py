"""Steps are claimed once, leased, fenced; jobs are written once; on both databases."""

from __future__ import annotations

import asyncio
import inspect
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from certctl.core.errors import Conflict, StaleFence
from certctl.core.ids import new_id
from certctl.core.job import Job
from certctl.core.scope import Scope
from certctl.core.status import JobStatus, JobType, StepKind, StepStatus
from certctl.store import (
    agents,
    audit,
    authority,
    catalogue,
    certificates,
    deployments,
    jobs,
    migrate,
    ticks,
    views,
)
from certctl.store.tx import Database

SCOPE = Scope.whole("t-default")
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
LEASE = timedelta(seconds=30)


@pytest.fixture
async def database(database_url):
    made = Database(database_url)
    await migrate.migrate(made)
    yield made
    await made.close()


def job(key: str) -> Job:
    return Job(
        tenant_id="t-default", id=new_id("job"), type=JobType.ISSUANCE, certificate_id="cert-1", holder_id="", version_id="",
        target_id="", agent_id="", parent_id="", status=JobStatus.PENDING, attempts=0, max_attempts=3, last_error="",
        error_kind="", idempotency_key=key, body={}, requested_by="test", scheduled_at=NOW, started_at=None,
        completed_at=None, verification_status="", verified_at=None, verification_error="", verification_fingerprint="",
        created_at=NOW,
    )  # fmt: skip


async def claim(database: Database, owner: str, now: datetime = NOW, limit: int = 100, **more):
    async with database.begin("test") as tx:
        return await jobs.claim(tx, SCOPE, owner=owner, lease=LEASE, now=now, limit=limit, **more)


async def steps(database: Database, count: int, **more) -> Job:
    async with database.begin("test") as tx:
        made = await jobs.create_job(tx, SCOPE, job(new_id("key")), live_key=None)
        for _ in range(count):
            await jobs.add_step(tx, SCOPE, made.id, StepKind.ISSUE, NOW, **more)
    return made


async def test_no_more_is_claimed_than_asked_for(database):
    """PostgreSQL may run a subquery with LIMIT and SKIP LOCKED once for each row: among many rows that took more."""
    for _ in range(40):
        await steps(database, 5)
    taken: set[str] = set()
    for limit in (1, 5, 20):
        got = {step.id for step in await claim(database, "a", limit=limit)}
        assert len(got) == limit
        assert not got & taken
        taken |= got


async def test_each_step_goes_to_one_worker(database):
    await steps(database, 60)
    taken = await asyncio.gather(*(claim(database, f"w{number}", limit=7) for number in range(12)))
    ids = [step.id for batch in taken for step in batch]
    assert len(ids) == len(set(ids)), "a step was handed out twice"
    taken_later = [step.id for _ in range(12) for step in await claim(database, "late")]
    assert len(ids) + len(taken_later) == 60


async def test_a_step_is_not_due_before_its_time_and_not_for_others(database):
    await steps(database, 1, run_at=NOW + timedelta(minutes=1))
    await steps(database, 1, agent_id="agent-1")
    assert await claim(database, "w") == []
    assert len(await claim(database, "w", now=NOW + timedelta(minutes=1))) == 1
    assert await claim(database, "a", agent_id="agent-2") == []
    assert len(await claim(database, "a", agent_id="agent-1")) == 1


async def test_a_lapsed_lease_passes_on_and_the_old_result_is_refused(database):
    await steps(database, 1)
    (first,) = await claim(database, "slow")
    async with database.begin("test") as tx:
        assert await jobs.release_lapsed(tx, SCOPE, NOW + LEASE - timedelta(seconds=1)) == 0
        # this one is a server's
        assert await jobs.release_lapsed(tx, SCOPE, NOW + LEASE, agents_too=False) == 1
    with pytest.raises(StaleFence):
        async with database.begin("test") as tx:
            await jobs.end_step(tx, SCOPE, first, StepStatus.DONE, NOW)
    (second,) = await claim(database, "quick", now=NOW + LEASE)
    assert second.id == first.id
    assert second.fence > first.fence
    for refused in (jobs.end_step(None, SCOPE, first, StepStatus.DONE, NOW),):
        refused.close()
    with pytest.raises(StaleFence):
        async with database.begin("test") as tx:
            await jobs.held_step(tx, SCOPE, first.id, first.fence)
    async with database.begin("test") as tx:
        await jobs.end_step(tx, SCOPE, second, StepStatus.DONE, NOW)


async def test_only_the_owner_keeps_a_lease(database):
    await steps(database, 1)
    (held,) = await claim(database, "mine")
    later = NOW + timedelta(minutes=5)
    async with database.begin("test") as tx:
        assert await jobs.extend_leases(tx, SCOPE, [(held.id, held.fence)], "theirs", later) == set()
        assert await jobs.extend_leases(tx, SCOPE, [(held.id, held.fence)], "mine", later) == {held.id}
        assert await jobs.release_lapsed(tx, SCOPE, NOW + LEASE) == 0


async def test_of_many_leases_those_that_are_held_are_kept(database):
    """By their fences: one that has passed on, ended or was never there is left out."""
    await steps(database, 4)
    claimed = await claim(database, "mine", limit=4)
    first, second, third, fourth = ((step.id, step.fence) for step in claimed)
    later = NOW + timedelta(minutes=5)
    async with database.begin("test") as tx:
        await jobs.end_step(tx, SCOPE, claimed[3], StepStatus.DONE, NOW)
        asked = [first, (second[0], second[1] + 1), (third[0], third[1] - 1), third, fourth, ("step-none", 1)]
        assert await jobs.extend_leases(tx, SCOPE, asked, "mine", later) == {first[0], third[0]}
    async with database.begin("test") as tx:
        assert await jobs.release_lapsed(tx, SCOPE, NOW + LEASE) == 1, "the one that was not kept"


async def test_a_new_boot_frees_what_the_last_one_held(database):
    await steps(database, 2, agent_id="agent-1")
    await claim(database, "agent:agent-1:boot-1", agent_id="agent-1")
    await steps(database, 1, agent_id="agent-12")
    await claim(database, "agent:agent-12:boot-1", agent_id="agent-12")
    async with database.begin("test") as tx:
        freed = await jobs.release_of_earlier_boots(tx, SCOPE, "agent:agent-1:", "agent:agent-1:boot-2")
    assert freed == 2, "its own two and nobody else's"


async def test_a_job_is_written_once(database):
    first = job("same")

    async def write(wanted: Job) -> Job:
        async with database.begin("test") as tx:
            return await jobs.create_job(tx, SCOPE, wanted, live_key="issue/cert-1/agent-1")

    written = await asyncio.gather(*(write(wanted) for wanted in [first, *(job("same") for _ in range(8))]))
    assert len({one.id for one in written}) == 1
    with pytest.raises(Conflict):
        await write(job("another"))
    async with database.begin("test") as tx:
        await jobs.move_job(tx, SCOPE, written[0].id, JobStatus.CANCELLED, NOW)
    assert (await write(job("another"))).id != written[0].id, "an ended job makes room"


async def test_an_ended_job_stays_ended(database):
    made = await steps(database, 0)
    async with database.begin("test") as tx:
        await jobs.move_job(tx, SCOPE, made.id, JobStatus.RUNNING, NOW)
        await jobs.move_job(tx, SCOPE, made.id, JobStatus.COMPLETED, NOW)
    for status in JobStatus:
        with pytest.raises(Conflict):
            async with database.begin("test") as tx:
                await jobs.move_job(tx, SCOPE, made.id, status, NOW)


async def test_a_tick_runs_once_however_many_replicas(database):
    async def take(owner: str, now: datetime) -> bool:
        async with database.begin("test") as tx:
            return await ticks.take(tx, SCOPE, "renew", owner, timedelta(seconds=10), now) is not None

    for moment in (NOW, NOW + timedelta(seconds=10)):
        assert sum(await asyncio.gather(*(take(f"r{number}", moment) for number in range(8)))) == 1
        assert sum(await asyncio.gather(*(take(f"r{number}", moment) for number in range(8)))) == 0


async def test_a_tick_whose_taker_died_is_taken_again_when_its_lease_has_lapsed(database):
    every = timedelta(hours=1)

    async def take(owner: str, now: datetime) -> int | None:
        async with database.begin("test") as tx:
            return await ticks.take(tx, SCOPE, "publish", owner, every, now, LEASE)

    async def tell(what, fence: int, *more) -> None:
        async with database.begin("test") as tx:
            await what(tx, SCOPE, "publish", fence, *more)

    first = await take("dies", NOW)
    assert await take("other", NOW + LEASE / 2) is None
    await tell(ticks.keep, first, NOW + 2 * LEASE)
    assert await take("other", NOW + LEASE) is None, "it is kept"
    second = await take("other", NOW + 2 * LEASE)
    assert second == first + 1
    await tell(ticks.keep, first, NOW + 9 * LEASE)
    await tell(ticks.end, first)
    assert await take("third", NOW + 2 * LEASE + LEASE / 2) is None, "who lost it changes nothing"
    await tell(ticks.end, second)
    assert await take("third", NOW + 4 * LEASE) is None, "it has run: the next is due an hour later"
    assert await take("third", NOW + 2 * LEASE + every) == second + 1


async def test_events_are_followed_in_commit_order(postgres_server):
    """An event of a transaction that commits late is not skipped by a follower that has seen younger ones."""
    database = Database(postgres_server.new_database())
    try:
        await migrate.migrate(database)

        async def append(tx, name: str) -> None:
            row = {
                "id": new_id("audit"), "type": name, "subject_type": "", "subject_id": "", "actor": "", "actor_type": "",
                "request_id": "", "address": "", "details": {}, "created_at": NOW,
            }  # fmt: skip
            await audit.append_events(tx, SCOPE, [row])

        seen: list[str] = []
        cursor = (0, 0)

        async def follow() -> None:
            nonlocal cursor
            async with database.read() as tx:
                for row in await audit.events_after(tx, SCOPE, cursor, 100):
                    seen.append(row.type)
                    cursor = (row.transaction_id, row.seq)

        async with database.begin("slow") as slow:
            await append(slow, "slow")
            await slow.scalar(sa.select(1))  # an event alone waits to be sent; now its transaction is under way
            async with database.begin("quick") as quick:
                await append(quick, "quick")
            await follow()
            assert seen == [], "what may still be overtaken is not read"
        await follow()
        assert seen == ["slow", "quick"]
    finally:
        await database.close()


async def test_a_wake_up_leaves_only_with_its_commit(database):
    told: list[frozenset[str]] = []
    database.on_wake = told.append
    with pytest.raises(RuntimeError):
        async with database.begin("test") as tx:
            tx.wake("steps")
            raise RuntimeError("rolled back")
    assert told == []
    async with database.begin("test") as tx:
        tx.wake("steps")
        assert told == []
    assert told == [frozenset({"steps"})]


def test_every_store_function_takes_a_scope():
    """Rule 7: no function of the store answers without being told for whom."""
    asked_before_a_scope_is_known = {"by_secret_hash", "is_of_this_cluster"}  # the latter asks of the database itself
    for module in (agents, audit, authority, catalogue, certificates, deployments, jobs, ticks, views):
        for name, function in inspect.getmembers(module, inspect.iscoroutinefunction):
            if name.startswith("_") or function.__module__ != module.__name__ or name in asked_before_a_scope_is_known:
                continue
            parameters = inspect.signature(function).parameters
            assert "scope" in parameters, f"{module.__name__}.{name} takes no scope"
            assert parameters["scope"].default is inspect.Parameter.empty, (
                f"{module.__name__}.{name} has a default scope"
            )

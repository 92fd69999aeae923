"""Counts for overviews: exact, for what the caller may see, right at the borders of days; on both databases."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from certctl.core.ids import new_id
from certctl.core.scope import Reach, Scope
from certctl.core.status import AgentStatus, CertificateStatus, JobStatus, JobType, VersionStatus
from certctl.doors import summaries
from certctl.store import migrate, schema, stats
from certctl.store.tx import Database
from integration.api_house import open_api

TENANT = "t-default"
WHOLE = Scope.whole(TENANT)
NOW = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
MIDNIGHT = datetime(2026, 3, 29, tzinfo=UTC)
TICK = timedelta(microseconds=1)


@pytest.fixture
async def database(database_url):
    made = Database(database_url)
    await migrate.migrate(made)
    if made.dialect == "postgresql":
        # a server far east of Greenwich: its own days begin at another hour
        async with made.engine.begin() as connection:
            name = await connection.scalar(sa.text("SELECT current_database()"))
            await connection.execute(sa.text(f"ALTER DATABASE {name} SET timezone TO 'Pacific/Kiritimati'"))
        await made.engine.dispose()
    yield made
    await made.close()


async def certificate(database, status=CertificateStatus.ACTIVE, expires_at=None, tenant=TENANT, **more) -> str:
    row = {
        "tenant_id": tenant,
        "id": new_id("mc"),
        "sans": [],
        "tags": {},
        "status": status,
        "expires_at": expires_at,
        "created_at": NOW,
        "updated_at": NOW,
    } | more
    row["name"] = row["id"]
    async with database.begin("test") as tx:
        await tx.execute(sa.insert(schema.certificates).values(row))
    return row["id"]


async def job(database, status, certificate_id, completed_at=None, tenant=TENANT) -> None:
    row = {
        "tenant_id": tenant,
        "id": new_id("job"),
        "type": JobType.ISSUANCE,
        "certificate_id": certificate_id,
        "status": status,
        "idempotency_key": new_id("key"),
        "body": {},
        "scheduled_at": NOW,
        "completed_at": completed_at,
        "created_at": NOW,
    }
    async with database.begin("test") as tx:
        await tx.execute(sa.insert(schema.jobs).values(row))


async def version(database, certificate_id, created_at, tenant=TENANT) -> None:
    row = {
        "tenant_id": tenant,
        "id": new_id("cv"),
        "certificate_id": certificate_id,
        "job_id": new_id("job"),
        "status": VersionStatus.SUPERSEDED,
        "serial_number": new_id("s"),
        "fingerprint_sha256": new_id("f"),
        "not_before": created_at,
        "not_after": created_at,
        "leaf_der": b"",
        "csr_der": b"",
        "created_at": created_at,
    }
    async with database.begin("test") as tx:
        await tx.execute(sa.insert(schema.versions).values(row))


async def test_a_day_begins_and_ends_at_midnight_in_utc(database):
    for moment in (MIDNIGHT - TICK, MIDNIGHT, MIDNIGHT + timedelta(days=1) - TICK, MIDNIGHT + timedelta(days=1)):
        mine = await certificate(database, expires_at=moment)
        await version(database, mine, moment)
        await job(database, JobStatus.COMPLETED, mine, moment)
        await job(database, JobStatus.FAILED, mine, moment)
        await job(database, JobStatus.CANCELLED, mine, moment)
    async with database.read() as tx:
        ends = await stats.expirations(tx, WHOLE, NOW, 3)
        made = await stats.issuances(tx, WHOLE, NOW, 2)
        ended = await stats.ended_jobs(tx, WHOLE, NOW, 2)
    assert [(row.day.isoformat(), row.number) for row in ends] == [
        ("2026-03-29", 2),
        ("2026-03-30", 1),
        ("2026-03-31", 0),
    ]
    assert [(row.day.isoformat(), row.number) for row in made] == [("2026-03-28", 1), ("2026-03-29", 2)]
    assert [(row.day.isoformat(), row.completed, row.failed) for row in ended] == [
        ("2026-03-28", 1, 1),
        ("2026-03-29", 2, 2),
    ]


async def test_the_summary_counts_what_is(database):
    soon = NOW + timedelta(days=30)
    await certificate(database, expires_at=NOW)  # ended, whatever its status still says
    await certificate(database, expires_at=NOW + TICK)
    await certificate(database, CertificateStatus.EXPIRING, expires_at=soon)
    await certificate(database, expires_at=soon + TICK)
    await certificate(database, CertificateStatus.PENDING)
    await certificate(database, CertificateStatus.EXPIRED, expires_at=NOW - timedelta(days=3))
    mine = await certificate(database, CertificateStatus.REVOKED, expires_at=NOW + TICK)
    await certificate(database, CertificateStatus.ARCHIVED, expires_at=NOW - TICK)
    for status in (*JobStatus, JobStatus.FAILED):
        await job(database, status, mine)
    async with database.begin("test") as tx:
        for status, retired in ((AgentStatus.ONLINE, None), (AgentStatus.OFFLINE, None), (AgentStatus.OFFLINE, NOW)):
            await tx.execute(
                sa.insert(schema.agents).values(
                    tenant_id=TENANT, id=new_id("agent"), name=new_id("n"), status=status, registered_at=NOW,
                    retired_at=retired, capabilities=[], credential_hash=new_id("h"),
                )
            )  # fmt: skip
        for status in ("dead", "failed"):
            await tx.execute(
                sa.insert(schema.notifications).values(
                    tenant_id=TENANT, id=new_id("ne"), certificate_id=mine, status=status, dedup_key=status,
                    created_at=NOW,
                )
            )  # fmt: skip
    async with database.read() as tx:
        found = await stats.summary(tx, WHOLE, NOW)
    assert found == stats.Summary(
        as_of=NOW, total_certificates=7, expiring_certificates=2, expired_certificates=2, revoked_certificates=1,
        active_agents=1, offline_agents=1, total_agents=2, pending_jobs=1, awaiting_csr_jobs=1,
        awaiting_approval_jobs=1, running_jobs=1, failed_jobs=2, complete_jobs=1, notifications_dead=1,
    )  # fmt: skip


async def test_another_team_and_another_tenant_are_not_counted(database):
    for team, tenant in (("team-a", TENANT), ("team-b", TENANT), ("team-a", "t-other")):
        mine = await certificate(database, expires_at=NOW + TICK, team_id=team, tenant=tenant)
        await job(database, JobStatus.COMPLETED, mine, NOW, tenant)
        await job(database, JobStatus.PENDING, mine, None, tenant)
        await version(database, mine, NOW, tenant)
    for scope, number in ((WHOLE, 2), (Scope(TENANT, (Reach(teams=("team-a",)),)), 1), (Scope(TENANT, ()), 0)):
        async with database.read() as tx:
            found = await stats.summary(tx, scope, NOW)
            assert found.total_certificates == found.expiring_certificates == number
            assert found.pending_jobs == found.complete_jobs == number
            assert sum(row.number for row in await stats.expirations(tx, scope, NOW, 5)) == number
            assert sum(row.number for row in await stats.issuances(tx, scope, NOW, 5)) == number
            assert sum(row.completed for row in await stats.ended_jobs(tx, scope, NOW, 5)) == number


async def test_one_computation_for_many_readers_and_none_older_than_two_seconds(tmp_path, monkeypatch):
    async with open_api(tmp_path / "data") as api:
        computed = []
        count = stats.summary

        async def counted(tx, scope, now):
            computed.append(scope)
            return await count(tx, scope, now)

        monkeypatch.setattr(stats, "summary", counted)
        monkeypatch.setattr(summaries, "PATIENCE_SECONDS", 60)
        answers = await asyncio.gather(*(api.get("/api/v1/stats/summary") for _ in range(20)))
        assert len(computed) == 1
        assert all(answer == answers[0] for answer in answers)
        assert answers[0]["as_of"] == answers[0]["completed_at"]
        first = answers[0]["total_certificates"]
        await api.made("/api/v1/certificates", {"common_name": "one.example"})
        api.clock.moment += timedelta(seconds=0.9)
        assert (await api.get("/api/v1/stats/summary"))["total_certificates"] == first
        api.clock.moment += timedelta(seconds=0.1)
        fresh = await api.get("/api/v1/stats/summary")
        assert fresh["total_certificates"] == first + 1
        assert datetime.fromisoformat(fresh["as_of"]) == api.clock.now()
        api.clock.moment -= timedelta(hours=1)  # a clock that was set back
        assert datetime.fromisoformat((await api.get("/api/v1/stats/summary"))["as_of"]) == api.clock.now()


async def test_in_the_second_second_one_counts_and_the_others_are_shown_what_is_known(tmp_path, monkeypatch):
    async with open_api(tmp_path / "data") as api:
        count, go_on, counting = stats.summary, asyncio.Event(), asyncio.Event()

        async def slowly(tx, scope, now):
            counting.set()
            await go_on.wait()
            return await count(tx, scope, now)

        first = await api.get("/api/v1/stats/summary")
        monkeypatch.setattr(stats, "summary", slowly)
        monkeypatch.setattr(summaries, "PATIENCE_SECONDS", 60)
        api.clock.moment += timedelta(seconds=1.5)
        counts = asyncio.create_task(api.get("/api/v1/stats/summary"))
        await counting.wait()
        assert await api.get("/api/v1/stats/summary") == first
        api.clock.moment += timedelta(seconds=0.5)
        waits = asyncio.create_task(api.get("/api/v1/stats/summary"))
        await asyncio.wait({waits}, timeout=0.2)
        assert not waits.done(), "what is two seconds old is shown to nobody"
        go_on.set()
        assert await waits == await counts
        assert datetime.fromisoformat((await counts)["as_of"]) == api.clock.now() - timedelta(seconds=0.5)


async def test_who_has_a_long_count_made_anew_is_shown_what_is_known_and_the_next_what_was_counted(
    tmp_path, monkeypatch
):
    async with open_api(tmp_path / "data") as api:
        count, go_on, counted = stats.summary, asyncio.Event(), asyncio.Event()

        async def slowly(tx, scope, now):
            await go_on.wait()
            try:
                return await count(tx, scope, now)
            finally:
                counted.set()

        first = await api.get("/api/v1/stats/summary")
        monkeypatch.setattr(stats, "summary", slowly)
        monkeypatch.setattr(summaries, "PATIENCE_SECONDS", 0)
        api.clock.moment += timedelta(seconds=1.5)
        asked_at = api.clock.now()
        assert await api.get("/api/v1/stats/summary") == first
        go_on.set()
        await counted.wait()
        api.clock.moment += timedelta(seconds=0.6)  # what was shown is too old by now
        second = await api.get("/api/v1/stats/summary")
        assert datetime.fromisoformat(second["as_of"]) == asked_at


async def test_scopes_share_no_summary(tmp_path):
    async with open_api(tmp_path / "data") as api:
        await api.made("/api/v1/teams", {"id": "team-a", "name": "A"})
        await api.made("/api/v1/certificates", {"common_name": "one.example", "team_id": "team-a"})
        await api.made("/api/v1/certificates", {"common_name": "two.example"})
        key = await api.key("r-viewer", teams=["team-a"])
        whole = await api.get("/api/v1/stats/summary")
        part = await api.get("/api/v1/stats/summary", key=key)
        assert (whole["total_certificates"], part["total_certificates"]) == (2, 1)


async def test_summary_and_metric_count_the_same(tmp_path):
    """What was put away counts in neither."""
    async with open_api(tmp_path / "data") as api:
        for name in ("one", "two"):
            await api.made("/api/v1/certificates", {"id": f"mc-{name}", "common_name": f"{name}.example"})
        assert (await api.call("DELETE", "/api/v1/certificates/mc-two")).status_code == 204
        summary = await api.get("/api/v1/stats/summary")
        metrics = await api.get("/api/v1/metrics")
        assert summary["total_certificates"] == metrics["gauge"]["certificate_total"] == 1


async def test_days_out_of_range_are_named(tmp_path):
    async with open_api(tmp_path / "data") as api:
        for path in ("expiration-timeline", "job-trends", "issuance-rate"):
            assert len(await api.get(f"/api/v1/stats/{path}")) == 30
            assert len(await api.get(f"/api/v1/stats/{path}?days=365")) == 365
            for days in ("0", "366", "-1", "x", "1e3", "99999999999999999999"):
                answer = await api.call("GET", f"/api/v1/stats/{path}?days={days}")
                assert answer.status_code == 400, answer.text
                assert answer.json()["violations"][0]["field"] == "days"
        (row,) = await api.get("/api/v1/stats/job-trends?days=1")
        assert row["success_rate"] is None
        assert set(row) == {"date", "completed_count", "failed_count", "success_rate"}

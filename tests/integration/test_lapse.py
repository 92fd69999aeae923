"""What waits has an end, on both databases and under a held clock: for people a week, for the agent's key a day; nothing is issued."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from certctl.lifecycle import flow, lapse
from certctl.telemetry import points
from integration.api_house import open_api
from integration.test_approvals import person, waiting

WEEK, DAY = timedelta(hours=168), timedelta(hours=24)


class Died(BaseException):
    """The process is gone."""


@pytest.fixture
async def api(database_url, tmp_path):
    async with open_api(tmp_path / "data", database_url) as fresh:
        yield fresh


async def dies_at(api, monkeypatch, point: str) -> None:
    def hook(name: str) -> None:
        if name == point:
            raise Died

    with monkeypatch.context() as patched:
        patched.setattr(points, "hook", hook)
        with pytest.raises(Died):
            await lapse.tick(api.house.ctx)


async def told(api, kind: str, certificate_id: str) -> list[dict]:
    return [row["details"] for row in await api.events(kind) if row["subject_id"] == certificate_id]


async def test_what_nobody_decides_expires_for_good(api, monkeypatch):
    asks, says = await person(api, "alice"), await person(api, "bob")
    job, approval = await waiting(api, asks)
    api.clock.moment += timedelta(hours=1)
    _, younger = await waiting(api, asks, "mc-2")
    api.clock.moment += WEEK - timedelta(minutes=59)
    # killed before the commit it has done nothing, after it all of it
    await dies_at(api, monkeypatch, "commit.lapse.approval.before")
    assert (await api.get(f"/api/v1/approvals/{approval['id']}"))["state"] == "pending"
    assert await told(api, "job_timeout", "mc-1") == []
    await dies_at(api, monkeypatch, "commit.lapse.approval.after")
    assert await lapse.tick(api.house.ctx) == 0, "it is done, and once"
    ended = await api.get(f"/api/v1/jobs/{job['id']}")
    assert ended["status"] == "Failed"
    assert "CERTCTL_JOB_AWAITING_APPROVAL_TIMEOUT" in ended["last_error"]
    now = await api.get(f"/api/v1/approvals/{approval['id']}")
    assert (now["state"], now["decision_note"]) == ("expired", "nobody decided in time")
    assert [one["approval_id"] for one in await told(api, "approval_expired", "mc-1")] == [approval["id"]]
    assert [one["awaited"] for one in await told(api, "job_timeout", "mc-1")] == ["approval"]
    alerts = (await api.get("/api/v1/notifications?certificate_id=mc-1"))["data"]
    assert [one["type"] for one in alerts].count("RenewalFailure") == 1
    assert 'certctl_job_timed_out_total{awaited="approval"} 1' in await counted(api)
    # terminal: nobody's word brings it back, and nothing goes on by itself
    for path in (f"/api/v1/approvals/{approval['id']}/approve", f"/api/v1/jobs/{job['id']}/approve"):
        assert (await api.call("POST", path, {}, key=says)).status_code == 409
    await flow.drive(api.house.ctx, job["id"], timedelta(seconds=5))
    assert (await api.get("/api/v1/certificates/mc-1"))["status"] not in {"Active", "Expiring"}
    # the younger one waits on, and is decided as ever
    assert (await api.get(f"/api/v1/approvals/{younger['id']}"))["state"] == "pending"
    await api.made(f"/api/v1/approvals/{younger['id']}/approve", {}, 200, key=says)


async def test_a_word_at_the_last_moment_and_the_end_are_one_or_the_other(api):
    asks, says = await person(api, "alice"), await person(api, "bob")
    job, approval = await waiting(api, asks)
    api.clock.moment += WEEK + timedelta(minutes=1)
    said, ended = await asyncio.gather(
        api.call("POST", f"/api/v1/approvals/{approval['id']}/approve", {}, key=says), lapse.tick(api.house.ctx)
    )
    state = (await api.get(f"/api/v1/approvals/{approval['id']}"))["state"]
    status = (await api.get(f"/api/v1/jobs/{job['id']}"))["status"]
    found = (said.status_code, ended, state, status)
    assert found in {(200, 0, "approved", "AwaitingCSR"), (409, 1, "expired", "Failed")}, found


async def test_a_key_that_no_agent_makes_ends_the_job(api, monkeypatch):
    agent = await api.agent()
    target = await api.target(agent)
    body = {"id": "mc-1", "common_name": "mc-1.example", "target_ids": [target]}
    await api.made("/api/v1/certificates", body)
    (job,) = (await api.get("/api/v1/jobs?certificate_id=mc-1"))["data"]
    assert job["status"] == "AwaitingCSR"
    api.clock.moment += DAY - timedelta(minutes=1)
    assert await lapse.tick(api.house.ctx) == 0
    api.clock.moment += timedelta(minutes=2)
    assert len(await agent.work()) == 1
    assert await lapse.tick(api.house.ctx) == 0, "its agent is at it"
    api.clock.moment += timedelta(hours=1)
    await flow.free_lapsed(api.house.ctx)
    await dies_at(api, monkeypatch, "commit.lapse.csr.before")
    assert (await api.get(f"/api/v1/jobs/{job['id']}"))["status"] == "AwaitingCSR"
    await dies_at(api, monkeypatch, "commit.lapse.csr.after")
    ended = await api.get(f"/api/v1/jobs/{job['id']}")
    assert (ended["status"], "CERTCTL_JOB_AWAITING_CSR_TIMEOUT" in ended["last_error"]) == ("Failed", True)
    assert [one["awaited"] for one in await told(api, "job_timeout", "mc-1")] == ["csr"]
    assert 'certctl_job_timed_out_total{awaited="csr"} 1' in await counted(api)
    assert await agent.work() == [], "what came too late is not asked for any more"


async def counted(api) -> str:
    from certctl.store import counters

    async with api.house.database.begin("test") as tx:
        await counters.fold(tx, api.house.ctx.scope)
    return (await api.call("GET", "/api/v1/metrics/prometheus")).text.replace(".0\n", "\n")


async def test_an_edit_that_nobody_decides_is_void(api, monkeypatch):
    asks, says = await person(api, "alice"), await person(api, "bob")
    await api.made("/api/v1/profiles", {"id": "prof-two", "name": "two", "requires_approval": True})
    path = "/api/v1/profiles/prof-two"
    old = (await api.call("PUT", path, {"requires_approval": False}, key=asks)).json()["pending_approval_id"]
    api.clock.moment += timedelta(hours=1)
    young = (await api.call("PUT", path, {"description": "mine"}, key=asks)).json()["pending_approval_id"]
    api.clock.moment += WEEK - timedelta(minutes=59)
    await dies_at(api, monkeypatch, "commit.lapse.edit.before")
    assert (await api.get(f"/api/v1/approvals/{old}"))["state"] == "pending"
    await dies_at(api, monkeypatch, "commit.lapse.edit.after")
    assert await lapse.tick(api.house.ctx) == 0, "it is done, and once"
    ended = await api.get(f"/api/v1/approvals/{old}")
    assert (ended["state"], ended["decision_note"]) == ("expired", "nobody decided in time")
    assert [one["approval_id"] for one in await told(api, "approval_expired", "prof-two")] == [old]
    alerts = (await api.get("/api/v1/notifications?type=ApprovalExpired"))["data"]
    assert len(alerts) == 1
    assert "prof-two" in alerts[0]["message"]
    assert (await api.call("POST", f"/api/v1/approvals/{old}/approve", {}, key=says)).status_code == 409
    await api.made(f"/api/v1/approvals/{young}/approve", {}, 200, key=says)
    now = await api.get(path)
    assert (now["requires_approval"], now["description"]) == (True, "mine")

"""Two people: nothing under a profile that wants approval is issued on one person's word, whichever keys they hold."""

from __future__ import annotations

import asyncio

import pytest

from certctl.core.catalogue import ApiKey
from certctl.lifecycle import renew
from certctl.store import catalogue
from integration.api_house import hours, open_api


@pytest.fixture
async def api(database_url, tmp_path):
    async with open_api(tmp_path / "data", database_url) as fresh:
        yield fresh


async def person(api, name: str, *role_ids: str, **more) -> str:
    """A key that goes back to a human of this name alone."""
    before = {row["id"] for row in (await api.get("/api/v1/auth/keys"))["keys"]}
    value = await api.key(*(role_ids or ("r-operator",)), **more)
    mine = next(row for row in (await api.get("/api/v1/auth/keys"))["keys"] if row["id"] not in before)
    async with api.house.database.begin("test") as tx:
        await catalogue.change(tx, api.house.ctx.scope, ApiKey, mine["id"], created_by=name)
    return value


async def waiting(api, key: str, certificate_id: str = "mc-1", **more) -> tuple[dict, dict]:
    """A certificate under a profile that wants approval, its job and its approval."""
    if (await api.call("GET", "/api/v1/profiles/prof-two")).status_code == 404:
        await api.made("/api/v1/profiles", {"id": "prof-two", "name": "two", "requires_approval": True})
    agent = await api.agent(f"web-{certificate_id}")
    target = await api.target(agent, f"t-{certificate_id}")
    body = {"id": certificate_id, "common_name": f"{certificate_id}.example", "target_ids": [target]}
    await api.made("/api/v1/certificates", body | {"certificate_profile_id": "prof-two"} | more, key=key)
    (job,) = (await api.get(f"/api/v1/jobs?certificate_id={certificate_id}"))["data"]
    assert job["status"] == "AwaitingApproval"
    (approval,) = (await api.get(f"/api/v1/approvals?certificate_id={certificate_id}"))["data"]
    assert (approval["state"], approval["job_id"], approval["kind"]) == ("pending", job["id"], "cert_issuance")
    return job, approval


async def test_another_person_approves_and_it_goes_on(api):
    asks, says = await person(api, "alice"), await person(api, "bob")
    job, approval = await waiting(api, asks)
    assert approval["requested_by"] == job["requested_by"]
    assert approval["metadata"]["names"] == ["dns:mc-1.example"]
    answer = await api.call("POST", f"/api/v1/approvals/{approval['id']}/approve", {"note": "fine"}, key=says)
    assert answer.status_code == 200, answer.text
    assert answer.json()["action"] == "approved"
    assert (await api.get(f"/api/v1/jobs/{job['id']}"))["status"] == "AwaitingCSR"
    now = await api.get(f"/api/v1/approvals/{approval['id']}")
    assert (now["state"], now["decision_note"]) == ("approved", "fine")
    assert now["decided_by"] != now["requested_by"]
    for act in ("approve", "reject"):
        again = await api.call("POST", f"/api/v1/approvals/{approval['id']}/{act}", key=says)
        assert again.status_code == 409
    told = [row for row in await api.events("request_approved") if row["subject_id"] == "mc-1"]
    assert [row["details"]["decision_hash"] for row in told] == [approval["decision_hash"]]
    assert told[0]["actor"] == now["decided_by"]


async def test_nobody_approves_what_they_asked_for(api):
    asks = await person(api, "alice", "r-cli")
    job, approval = await waiting(api, asks)
    second = (await api.made("/api/v1/auth/keys", {"name": "alices-second", "role_ids": ["r-cli"]}, key=asks))[
        "key_value"
    ]
    third = await api.made("/api/v1/auth/keys", {"name": "alices-third", "role_ids": ["r-viewer"]}, key=second)
    assert third["key_value"]
    sibling = await person(api, "alice")
    for key in (asks, second, sibling):
        for path in (f"/api/v1/jobs/{job['id']}/approve", f"/api/v1/approvals/{approval['id']}/approve"):
            answer = await api.call("POST", path, key=key)
            assert answer.status_code == 403, answer.text
            assert "same person" in answer.json()["message"]
        assert (await api.call("POST", f"/api/v1/jobs/{job['id']}/reject", key=key)).status_code == 403
    assert (await api.get(f"/api/v1/approvals/{approval['id']}"))["state"] == "pending"
    assert (await api.get(f"/api/v1/jobs/{job['id']}"))["status"] == "AwaitingApproval"


async def test_keys_of_one_administrator_are_one_person(api):
    one, two = await api.key("r-operator"), await api.key("r-operator")
    job, _ = await waiting(api, one)
    for key in (two, api.admin):
        assert (await api.call("POST", f"/api/v1/jobs/{job['id']}/approve", key=key)).status_code == 403


async def test_rejected_is_cancelled_and_not_asked_again_at_once(api):
    asks, says = await person(api, "alice"), await person(api, "bob")
    job, approval = await waiting(api, asks)
    answer = await api.made(f"/api/v1/jobs/{job['id']}/reject", {"reason": "not ours"}, 200, key=says)
    assert answer["status"] == "job_rejected"
    ended = await api.get(f"/api/v1/jobs/{job['id']}")
    assert (ended["status"], "not ours" in ended["last_error"]) == ("Cancelled", True)
    assert (await api.get(f"/api/v1/approvals/{approval['id']}"))["state"] == "rejected"
    certificate = await api.get("/api/v1/certificates/mc-1")
    assert certificate["status"] == "Failed"
    assert "not ours" in certificate["status_reason"]
    for later, jobs in ((hours(23), 1), (hours(2), 2)):
        api.clock.moment += later
        while await renew.tick(api.house.ctx):
            pass
        assert (await api.get("/api/v1/jobs?certificate_id=mc-1"))["total"] == jobs
    again = (await api.get("/api/v1/jobs?certificate_id=mc-1"))["data"][0]
    assert again["requested_by"] == "certctl", "what certctl asks for by itself waits for a person just so"


async def test_an_approval_covers_what_was_judged(api):
    asks, says = await person(api, "alice"), await person(api, "bob")
    job, approval = await waiting(api, asks)
    answer = await api.call("POST", f"/api/v1/jobs/{job['id']}/approve", {"decision_hash": "0" * 64}, key=says)
    assert answer.status_code == 409
    changed = await api.call("PUT", "/api/v1/profiles/prof-two", {"max_ttl_seconds": 86400})
    assert changed.status_code == 200
    answer = await api.call("POST", f"/api/v1/approvals/{approval['id']}/approve", key=says)
    assert answer.status_code == 409
    assert "was changed" in answer.json()["message"]
    assert (await api.get(f"/api/v1/jobs/{job['id']}"))["status"] == "AwaitingApproval"
    assert (await api.call("POST", f"/api/v1/approvals/{approval['id']}/reject", key=says)).status_code == 200


async def test_what_waits_no_more_reads_expired(api):
    asks, says = await person(api, "alice"), await person(api, "bob")
    job, approval = await waiting(api, asks)
    assert (await api.call("POST", f"/api/v1/jobs/{job['id']}/cancel", key=asks)).status_code == 200
    assert (await api.get(f"/api/v1/approvals/{approval['id']}"))["state"] == "expired"
    assert (await api.get("/api/v1/approvals?state=pending"))["total"] == 0
    assert (await api.get("/api/v1/approvals?state=Expired"))["total"] == 1
    assert (await api.call("POST", f"/api/v1/approvals/{approval['id']}/approve", key=says)).status_code == 409
    assert (await api.call("GET", "/api/v1/approvals?state=perhaps")).status_code == 400


async def test_time_alone_issues_nothing(api):
    asks = await person(api, "alice")
    job, _ = await waiting(api, asks)
    api.clock.moment += hours(24 * 30)
    while await renew.tick(api.house.ctx):
        pass
    assert (await api.get(f"/api/v1/jobs/{job['id']}"))["status"] == "AwaitingApproval"
    assert (await api.get("/api/v1/certificates/mc-1/versions"))["total"] == 0


async def test_a_decision_is_made_once(api):
    asks, says, other = await person(api, "alice"), await person(api, "bob"), await person(api, "carol")
    job, _ = await waiting(api, asks)
    answers = await asyncio.gather(
        api.call("POST", f"/api/v1/jobs/{job['id']}/approve", key=says),
        api.call("POST", f"/api/v1/jobs/{job['id']}/reject", {"reason": "no"}, key=other),
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    state = (await api.get("/api/v1/approvals"))["data"][0]["state"]
    status = (await api.get(f"/api/v1/jobs/{job['id']}"))["status"]
    assert (state, status) in {("approved", "AwaitingCSR"), ("rejected", "Cancelled")}


async def test_permissions_and_scope(api):
    for name in ("red", "blue"):
        await api.made("/api/v1/teams", {"id": name, "name": name})
    asks = await person(api, "alice")
    job, approval = await waiting(api, asks, team_id="red")
    viewer, blue = await person(api, "carol", "r-viewer"), await person(api, "bob", "r-admin", teams=["blue"])
    assert (await api.call("POST", f"/api/v1/jobs/{job['id']}/approve", key=viewer)).status_code == 403
    for method, path in (
        ("POST", f"/api/v1/jobs/{job['id']}/approve"),
        ("POST", f"/api/v1/jobs/{job['id']}/reject"),
        ("GET", f"/api/v1/approvals/{approval['id']}"),
        ("POST", f"/api/v1/approvals/{approval['id']}/approve"),
        ("POST", f"/api/v1/approvals/{approval['id']}/reject"),
    ):
        assert (await api.call(method, path, key=blue)).status_code == 404, path
    assert (await api.get("/api/v1/approvals", key=blue))["total"] == 0
    assert (await api.call("POST", "/api/v1/approvals/ar-none/approve")).status_code == 404
    plain = await api.agent("plain")
    await api.made(
        "/api/v1/certificates", {"id": "mc-p", "common_name": "p.example", "target_ids": [await api.target(plain, "p")]}
    )
    (other,) = (await api.get("/api/v1/jobs?certificate_id=mc-p"))["data"]
    assert (
        await api.call("POST", f"/api/v1/jobs/{other['id']}/approve", key=await person(api, "dora"))
    ).status_code == 409

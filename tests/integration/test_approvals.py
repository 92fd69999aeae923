"""Two people: nothing under a profile that wants approval is issued on one person's word, whichever keys they hold."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa

from certctl.core.acme import AccountStatus, AcmeAccount, ExternalKey
from certctl.core.catalogue import ApiKey
from certctl.lifecycle import renew
from certctl.store import acme, catalogue, schema
from certctl.store import jobs as stored_jobs
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


async def edited(api, says: str, changes: dict) -> None:
    """An edit of the gated profile, asked for by one and approved by another."""
    asked = await api.call("PUT", "/api/v1/profiles/prof-two", changes, key=await editor(api, "eve"))
    assert asked.status_code == 202, asked.text
    edit = asked.json()["pending_approval_id"]
    assert (await api.made(f"/api/v1/approvals/{edit}/approve", {}, 200, key=says))["action"] == "approved"


async def editor(api, name: str) -> str:
    return await person(api, name, "r-admin")


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
    await edited(api, says, {"max_ttl_seconds": 86400})
    answer = await api.call("POST", f"/api/v1/approvals/{approval['id']}/approve", key=says)
    assert answer.status_code == 409
    assert "was changed" in answer.json()["message"]
    assert (await api.get(f"/api/v1/jobs/{job['id']}"))["status"] == "AwaitingApproval"
    assert (await api.call("POST", f"/api/v1/approvals/{approval['id']}/reject", key=says)).status_code == 200


async def test_an_edit_of_the_certificate_voids_what_waits(api):
    asks, says = await person(api, "alice"), await person(api, "bob")
    job, approval = await waiting(api, asks)
    was = await api.get("/api/v1/certificates/mc-1")
    await api.made("/api/v1/teams", {"id": "red", "name": "red"})
    for change, back in (
        ({"sans": ["mc-1.example", "more.example"]}, {"sans": was["sans"]}),
        ({"validity_seconds": 86400 * 2}, {"validity_seconds": was.get("validity_seconds")}),
    ):
        answer = await api.call("PUT", "/api/v1/certificates/mc-1", change, key=asks)
        assert answer.status_code == 200, answer.text
        for path in (f"/api/v1/approvals/{approval['id']}/approve", f"/api/v1/jobs/{job['id']}/approve"):
            answer = await api.call("POST", path, key=says)
            assert answer.status_code == 409, answer.text
            assert "certificate mc-1 was changed" in answer.json()["message"]
        assert (await api.get(f"/api/v1/jobs/{job['id']}"))["status"] == "AwaitingApproval"
        answer = await api.call("PATCH", "/api/v1/certificates/mc-1", back, key=asks)
        assert answer.status_code == 200, answer.text
    # what a decision does not bind to may change, and what reads as it was judged may be approved
    answer = await api.call(
        "PUT", "/api/v1/certificates/mc-1", {"environment": "production", "team_id": "red"}, key=asks
    )
    assert answer.status_code == 200, answer.text
    await api.made(f"/api/v1/approvals/{approval['id']}/approve", {}, 200, key=says)


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


async def of_three(api, **more) -> tuple[dict, dict]:
    """Two of three named people must say yes."""
    people = {"approvals_required": 2, "approvers": ["bob", "carol", "dora"]} | more
    await api.made("/api/v1/profiles", {"id": "prof-two", "name": "two", "requires_approval": True} | people)
    return await waiting(api, await person(api, "alice"))


async def test_two_of_three_must_say_yes(api):
    job, approval = await of_three(api)
    bob, carol, eve = await person(api, "bob"), await person(api, "carol"), await person(api, "eve")
    path = f"/api/v1/approvals/{approval['id']}"
    assert (await api.call("POST", f"{path}/approve", key=eve)).status_code == 403, "the profile does not name eve"
    assert (await api.made(f"{path}/approve", {"note": "once"}, 200, key=bob))["action"] == "pending"
    one = await api.get(path)
    assert (one["state"], one["required"], one["given"]) == ("pending", 2, 1)
    assert [(word["person"], word["note"]) for word in one["approved_by"]] == [("bob", "once")]
    assert (await api.get(f"/api/v1/jobs/{job['id']}"))["status"] == "AwaitingApproval"
    for key in (bob, await person(api, "bob")):
        again = await api.call("POST", f"{path}/approve", key=key)
        assert (again.status_code, "bob has approved this before" in again.text) == (409, True)
    assert (await api.made(f"{path}/approve", {}, 200, key=carol))["action"] == "approved"
    assert (await api.get(f"/api/v1/jobs/{job['id']}"))["status"] == "AwaitingCSR"
    told = [row["details"]["person"] for row in await api.events("approval_given")]
    told += [row["details"]["person"] for row in await api.events("request_approved")]
    assert told == ["bob", "carol"]


async def test_one_no_is_enough_and_final(api):
    job, approval = await of_three(api)
    bob, carol, dora = [await person(api, name) for name in ("bob", "carol", "dora")]
    path = f"/api/v1/approvals/{approval['id']}"
    await api.made(f"{path}/approve", {}, 200, key=bob)
    assert (await api.made(f"{path}/reject", {"note": "no"}, 200, key=carol))["action"] == "rejected"
    assert (await api.get(f"/api/v1/jobs/{job['id']}"))["status"] == "Cancelled"
    assert (await api.call("POST", f"{path}/approve", key=dora)).status_code == 409
    assert (await api.get(path))["state"] == "rejected"


async def test_words_at_once_are_each_counted_once(api):
    job, approval = await of_three(api, approvals_required=3)
    keys = [await person(api, name) for name in ("bob", "bob", "carol", "dora")]
    path = f"/api/v1/approvals/{approval['id']}/approve"
    answers = await asyncio.gather(*(api.call("POST", path, key=key) for key in keys))
    for key, answer in zip(keys, answers, strict=True):
        assert answer.status_code in {200, 409}
        if answer.status_code == 409 and key is not keys[0]:
            await api.call("POST", path, key=key)
    one = await api.get(f"/api/v1/approvals/{approval['id']}")
    assert sorted(word["person"] for word in one["approved_by"]) == ["bob", "carol", "dora"]
    assert (one["state"], one["given"]) == ("approved", 3)
    assert (await api.get(f"/api/v1/jobs/{job['id']}"))["status"] == "AwaitingCSR"


async def test_whoever_was_shown_two_keys_is_not_two_people(api):
    await api.made(
        "/api/v1/profiles", {"id": "prof-two", "name": "two", "requires_approval": True, "approvals_required": 2}
    )
    _, approval = await waiting(api, await person(api, "alice"))
    path = f"/api/v1/approvals/{approval['id']}/approve"
    made = [
        await api.made("/api/v1/auth/keys", {"name": name, "person": name, "role_ids": ["r-operator"]})
        for name in ("frank", "grace")
    ]
    assert (await api.made(path, {}, 200, key=made[0]["key_value"]))["action"] == "pending"
    second = await api.call("POST", path, key=made[1]["key_value"])
    assert (second.status_code, "was shown a key of both" in second.text) == (403, True)


async def test_a_profile_that_wants_two_people_is_not_edited_by_one(api):
    job, approval = await waiting(api, await person(api, "alice"))
    eve, bob = await editor(api, "eve"), await person(api, "bob")
    lifts = {"requires_approval": False, "description": "mine"}
    asked = await api.call("PUT", "/api/v1/profiles/prof-two", lifts, key=eve)
    assert (asked.status_code, asked.json()["status"]) == (202, "pending_approval"), asked.text
    assert (asked.json()["requires_approval"], asked.json()["version"]) == (True, 1)
    merged = await api.call("PATCH", "/api/v1/profiles/prof-two", {"description": "other"}, key=eve)
    assert merged.status_code == 202, merged.text
    edit, other = asked.json()["pending_approval_id"], merged.json()["pending_approval_id"]
    one = await api.get(f"/api/v1/approvals/{edit}")
    assert (one["kind"], one["payload"], one["profile_id"]) == ("profile_edit", lifts, "prof-two")
    assert "job_id" not in one
    for key in (eve, await editor(api, "eve")):
        assert (await api.call("POST", f"/api/v1/approvals/{edit}/approve", key=key)).status_code == 403
    viewer = await person(api, "carol", "r-viewer")
    assert (await api.call("POST", f"/api/v1/approvals/{edit}/approve", key=viewer)).status_code == 403
    assert (await api.made(f"/api/v1/approvals/{edit}/approve", {}, 200, key=bob))["action"] == "approved"
    now = await api.get("/api/v1/profiles/prof-two")
    assert (now["description"], now["version"], "requires_approval" in now) == ("mine", 2, False)
    # whatever was asked of the version before is void
    assert (await api.get(f"/api/v1/approvals/{other}"))["state"] == "expired"
    assert (await api.call("POST", f"/api/v1/approvals/{other}/approve", key=bob)).status_code == 409
    assert (await api.call("POST", f"/api/v1/approvals/{approval['id']}/approve", key=bob)).status_code == 409
    (told,) = [row for row in await api.events("config_updated") if row["subject_id"] == "prof-two"]
    assert told["details"]["before"] == {"description": "", "requires_approval": True}
    assert told["details"]["after"] == {"description": "mine", "requires_approval": False}
    assert (await api.call("PUT", "/api/v1/profiles/prof-two", {"description": ""}, key=eve)).status_code == 200


async def test_an_edit_is_rejected_for_good_and_a_bad_one_is_refused_at_once(api):
    await waiting(api, await person(api, "alice"))
    eve, bob = await editor(api, "eve"), await person(api, "bob")
    asked = await api.call("PUT", "/api/v1/profiles/prof-two", {"max_ttl_seconds": 60}, key=eve)
    edit = asked.json()["pending_approval_id"]
    assert (await api.made(f"/api/v1/approvals/{edit}/reject", {"note": "no"}, 200, key=bob))["action"] == "rejected"
    assert (await api.call("POST", f"/api/v1/approvals/{edit}/approve", key=bob)).status_code == 409
    assert (await api.get("/api/v1/profiles/prof-two"))["version"] == 1
    for bad in (
        {"spiffe_uri_pattern": "re:("},
        {"approvers": ["bob", "bob"]},
        {"approvers": ["a"], "approvals_required": 2},
    ):
        refused = await api.call("PUT", "/api/v1/profiles/prof-two", bad, key=eve)
        assert refused.status_code == 400, bad
    stale = await api.call("PUT", "/api/v1/profiles/prof-two", {"name": "x"}, key=eve, headers={"If-Match": '"9"'})
    assert stale.status_code == 412
    assert (await api.get("/api/v1/approvals?state=pending"))["total"] == 1, "what was refused waits for nobody"


async def test_who_decides_for_one_team_does_not_decide_what_all_keep_to(api):
    await api.made("/api/v1/teams", {"id": "red", "name": "red"})
    await waiting(api, await person(api, "alice"), team_id="red")
    asked = await api.call("PUT", "/api/v1/profiles/prof-two", {"max_ttl_seconds": 60}, key=await editor(api, "eve"))
    path = f"/api/v1/approvals/{asked.json()['pending_approval_id']}"
    red, other = (
        await person(api, "bob", "r-admin", teams=["red"]),
        await person(api, "dora", "r-admin", profiles=["prof-none"]),
    )
    assert (await api.call("POST", f"{path}/approve", key=red)).status_code == 403
    assert (await api.call("POST", f"{path}/approve", key=other)).status_code == 404
    assert (await api.call("GET", path, key=other)).status_code == 404


async def test_bulk_and_forced_renewals_wait_for_people_too(api):
    asks, says = await person(api, "alice"), await person(api, "bob")
    _, approval = await waiting(api, asks)
    await api.made(f"/api/v1/approvals/{approval['id']}/reject", {}, 200, key=says)
    bulk, patient = "/api/v1/certificates/bulk-renew", {"Prefer": "wait=30"}
    batch = await api.made(bulk, {"certificate_ids": ["mc-1"]}, 200, key=asks, headers=patient)
    (first,) = [each["job_id"] for each in batch["enqueued_jobs"]]
    assert (await api.get(f"/api/v1/jobs/{first}"))["status"] == "AwaitingApproval", (
        "asked for and judged in one commit"
    )
    batch = await api.made(bulk, {"certificate_ids": ["mc-1"], "force": True}, 200, key=asks, headers=patient)
    (second,) = [each["job_id"] for each in batch["enqueued_jobs"]]
    found = {row["job_id"]: row for row in (await api.get("/api/v1/approvals"))["data"]}
    assert (found[first]["state"], found[second]["state"]) == ("expired", "pending")
    assert (await api.get(f"/api/v1/jobs/{second}"))["status"] == "AwaitingApproval"
    for key, status in ((asks, 403), (says, 200)):
        answer = await api.call("POST", f"/api/v1/approvals/{found[second]['id']}/approve", key=key)
        assert answer.status_code == status, answer.text


async def test_an_acme_account_is_whoever_made_its_external_key(api):
    asks, says = await person(api, "alice"), await person(api, "bob")
    job, approval = await waiting(api, asks)
    ctx, now = api.house.ctx, api.clock.now()
    keys = {row["name"]: row for row in (await api.get("/api/v1/auth/keys"))["keys"]}
    bobs = next(name for name, row in keys.items() if row["created_by"] == "bob")
    async with api.house.database.begin("test") as tx:
        key = ExternalKey(
            tenant_id=ctx.scope.tenant_id,
            id="eab-1",
            name="eab",
            profile_id="prof-two",
            sealed=b"",
            owner_id="",
            team_id="",
            allowed_names=[],
            reusable=False,
            expires_at=None,
            created_by=bobs,
            created_at=now,
            bound_account_id="acc-1",
            bound_at=now,
            revoked_at=None,
        )
        await acme.insert(tx, ctx.scope, key)
        account = AcmeAccount(
            tenant_id=ctx.scope.tenant_id,
            id="acc-1",
            profile_id="prof-two",
            jwk="{}",
            thumbprint="t",
            status=AccountStatus.VALID,
            contact=[],
            terms_agreed=True,
            external_key_id="eab-1",
            created_at=now,
            updated_at=now,
        )
        await acme.insert(tx, ctx.scope, account)
        for table in (schema.jobs, schema.approvals):
            await tx.execute(sa.update(table).values(requested_by="acme:acc-1"))
    refused = await api.call("POST", f"/api/v1/approvals/{approval['id']}/approve", {}, key=says)
    assert refused.status_code == 403
    assert "is the same person (bob)" in refused.json()["message"]
    # alice has nothing to do with it, now that the account asked
    assert (await api.call("POST", f"/api/v1/approvals/{approval['id']}/approve", {}, key=asks)).status_code == 200
    assert (await api.get(f"/api/v1/jobs/{job['id']}"))["status"] == "AwaitingCSR"


async def test_a_gated_profile_is_not_left_nor_deleted_by_one(api):
    asks, says = await person(api, "alice", "r-admin"), await person(api, "bob")
    job, approval = await waiting(api, asks)
    await api.made("/api/v1/profiles", {"id": "prof-free", "name": "free"})
    named = {"requires_approval": True, "approvals_required": 1}
    await api.made("/api/v1/profiles", {"id": "prof-like", "name": "like"} | named)
    moved = await api.call("PUT", "/api/v1/certificates/mc-1", {"certificate_profile_id": "prof-free"}, key=asks)
    assert moved.status_code == 403, moved.text
    assert "does not move there" in moved.json()["message"]
    deleted = await api.call("DELETE", "/api/v1/profiles/prof-like", key=asks)
    assert deleted.status_code == 409
    assert "requires_approval" in deleted.json()["message"]
    # edited while its job waits: what people decide about is what was asked, and only while it reads so
    edited = await api.call("PUT", "/api/v1/certificates/mc-1", {"sans": ["other.example"]}, key=asks)
    assert edited.status_code == 200, edited.text
    now = await api.get(f"/api/v1/approvals/{approval['id']}")
    assert (now["state"], now["metadata"]["names"]) == ("pending", ["dns:mc-1.example"])
    assert (await api.call("POST", f"/api/v1/approvals/{approval['id']}/approve", key=says)).status_code == 409
    back = await api.call("PUT", "/api/v1/certificates/mc-1", {"sans": ["mc-1.example"]}, key=asks)
    assert back.status_code == 200, back.text
    await api.made(f"/api/v1/approvals/{approval['id']}/approve", {}, 200, key=says)
    async with api.house.database.read() as tx:
        body = (await stored_jobs.jobs_by_id(tx, api.house.ctx.scope, [job["id"]]))[job["id"]].body
    assert body["names"] == ["dns:mc-1.example"]
    like = await api.call("PUT", "/api/v1/certificates/mc-1", {"certificate_profile_id": "prof-like"}, key=asks)
    assert like.status_code == 200, like.text


async def test_one_word_decides_all_that_a_batch_asked_for_and_each_is_judged_by_itself(api):
    people = {"approvals_required": 2, "approvers": ["bob", "carol", "dora"]}
    await api.made("/api/v1/profiles", {"id": "prof-two", "name": "two", "requires_approval": True} | people)
    keys = {name: await person(api, name) for name in ("alice", "bob", "carol", "dora", "eve")}
    ids = [f"mc-{number}" for number in range(3)]
    for each in ids:
        await waiting(api, keys["alice"], each)
    asked = {"certificate_ids": ids, "force": True}
    batch = await api.made("/api/v1/certificates/bulk-renew", asked, 200, key=keys["alice"])
    jobs = {each["certificate_id"]: each["job_id"] for each in batch["enqueued_jobs"]}
    path = f"/api/v1/batches/{batch['batch_id']}"
    async with api.house.database.begin("test") as tx:
        edited_one = sa.update(schema.certificates).where(schema.certificates.c.id == "mc-2")
        await tx.execute(edited_one.values(validity_seconds=7200))

    async def said(name: str, word: str = "approve", **more) -> dict:
        return await api.made(f"{path}/{word}", {"note": "all of it"} | more, 200, key=keys[name])

    async def status() -> list[str]:
        return [(await api.get(f"/api/v1/jobs/{jobs[each]}"))["status"] for each in ids]

    answer = await api.call("POST", f"{path}/approve", {}, key=keys["alice"])
    assert (answer.status_code, "same person" in answer.text) == (403, True), answer.text
    assert (await api.call("POST", "/api/v1/batches/batch-none/approve", {}, key=keys["bob"])).status_code == 404
    stranger = await said("eve")
    assert (stranger["approved"], stranger["given"], stranger["refused"], stranger["is_over"]) == (0, 0, 3, True)
    assert any("eve is none of them" in reason for reason in stranger["reasons"])
    assert await status() == ["AwaitingApproval"] * 3

    first = await said("bob")
    assert (first["approved"], first["given"], first["refused"]) == (0, 2, 1), "one was changed since it was judged"
    again = await said("bob")
    assert (again["approved"], again["given"], again["refused"]) == (0, 0, 1), "one person's yes counts once"
    last = await said("carol")
    assert (last["approved"], last["given"], last["refused"], last["is_over"]) == (2, 0, 1, True)
    assert await status() == ["AwaitingCSR", "AwaitingCSR", "AwaitingApproval"]
    behind = await said("dora", after=last["after"])
    assert (behind["refused"], behind["is_over"]) == (0, True), "it goes on behind what was looked at"
    no = await said("dora", "reject")
    assert (no["rejected"], no["is_over"]) == (1, True)
    assert (await status())[2] == "Cancelled"

    of_people = [(row["subject_id"], row["details"]["person"]) for row in await api.events("request_approved")]
    assert sorted(of_people) == [("mc-0", "carol"), ("mc-1", "carol")]
    assert sorted(row["subject_id"] for row in await api.events("approval_given")) == ["mc-0", "mc-1"]
    async with api.house.database.read() as tx:
        steps = sa.select(schema.steps.c.status, schema.steps.c.agent_id).where(schema.steps.c.kind == "prepare")
        ready = (await tx.execute(steps.where(schema.steps.c.job_id.in_(list(jobs.values()))))).all()
        words = await tx.scalar(sa.select(sa.func.count()).select_from(schema.approval_words))
        rows = await tx.execute(sa.select(schema.approvals).where(schema.approvals.c.job_id == jobs["mc-0"]))
        row = rows.mappings().one()
    assert [(one.status, bool(one.agent_id)) for one in ready] == [("ready", True)] * 2
    assert (words, row["state"], row["given"], row["decision_note"]) == (4, "approved", 2, "all of it")

"""Bulk operations as batches: complete, previewed, resumable, bounded by who asked; on both databases."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from certctl.control import batches as control
from certctl.core.actor import Actor, ActorType
from certctl.core.batch import Selection
from certctl.core.errors import StaleFence
from certctl.core.names import parse_names
from certctl.core.status import BatchAction
from certctl.doors import batches as door
from certctl.lifecycle import settle
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.csr import build_csr, csr_pem
from certctl.pki.keys import generate_private_key
from certctl.store import batches as store
from certctl.store import jobs
from integration.api_house import open_api

BULK = "/api/v1/certificates/bulk-"
LONG = timedelta(seconds=60)
ASYNC = {"Prefer": "respond-async"}
# the batch is waited for, however busy the machine is
PATIENT = {"Prefer": "wait=30"}


@pytest.fixture
async def api(database_url, tmp_path):
    async with open_api(tmp_path / "data", database_url) as fresh:
        yield fresh


def csr(name: str) -> str:
    key = generate_private_key(KeyAlgorithm.ECDSA_P256)
    return csr_pem(build_csr(key, name, parse_names([name])))


async def own(api, certificate_id: str, **more) -> str:
    """An active certificate whose client holds the key."""
    name = f"{certificate_id}.example"
    body = {"id": certificate_id, "common_name": name, "csr_pem": csr(name)} | more
    assert (await api.made("/api/v1/certificates", body))["status"] == "Active"
    return certificate_id


async def bare(api, certificate_id: str, **more) -> str:
    """A certificate that nobody holds a key for yet."""
    await api.made("/api/v1/certificates", {"id": certificate_id, "common_name": f"{certificate_id}.example"} | more)
    return certificate_id


async def hosted(api, agent, certificate_id: str, **more) -> str:
    """A certificate of its own target on the agent's host; its first key is still to be made."""
    target = await api.target(agent, f"t-{certificate_id}")
    body = {"id": certificate_id, "common_name": f"{certificate_id}.example", "target_ids": [target]} | more
    await api.made("/api/v1/certificates", body)
    return certificate_id


async def team(api, name: str) -> str:
    return (await api.made("/api/v1/teams", {"id": name, "name": name}))["id"]


async def owner(api, name: str, team_id: str) -> str:
    body = {"id": name, "name": name, "email": f"{name}@corp.example", "team_id": team_id}
    return (await api.made("/api/v1/owners", body))["id"]


async def items(api, batch_id: str, **more) -> list[dict]:
    return (await api.get(f"/api/v1/batches/{batch_id}/items?per_page=500", **more))["data"]


async def status_of(api, certificate_id: str) -> str:
    return (await api.get(f"/api/v1/certificates/{certificate_id}"))["status"]


async def work(api) -> None:
    while await door.take_turn(api.house.ctx):
        pass


async def test_bulk_revoke_answers_as_the_reference_does(api):
    for name in ("mc-1", "mc-2", "mc-3"):
        await own(api, name, environment="test")
    await own(api, "mc-other", environment="production")
    await api.made("/api/v1/certificates/mc-3/revoke", {}, 200)
    answer = await api.made(f"{BULK}revoke", {"environment": "test", "reason": "keyCompromise"}, 200, headers=PATIENT)
    batch_id = answer.pop("batch_id")
    assert answer == {
        "total_matched": 3, "total_revoked": 2, "total_skipped": 1, "total_failed": 0, "status": "completed"
    }  # fmt: skip
    assert [await status_of(api, f"mc-{number}") for number in (1, 2, 3)] == ["Revoked"] * 3
    assert (await api.get("/api/v1/certificates/mc-1"))["revocation_reason"] == "keyCompromise"
    assert await status_of(api, "mc-other") == "Active"
    rows = await items(api, batch_id)
    assert [row["status"] for row in rows] == ["done", "done", "skipped"]
    assert "revoked already" in rows[2]["reason"]
    (told,) = await api.events("batch_completed")
    assert (told["actor"], told["details"]["done"]) == ("admin", 2)
    assert {row["actor"] for row in await api.events("certificate_revoked")} == {"admin"}


async def test_bulk_renew_tells_its_jobs_and_why_others_were_not(api):
    agent = await api.agent()
    await hosted(api, agent, "mc-a")
    await agent.serve()
    await hosted(api, agent, "mc-busy")
    await own(api, "mc-client")
    await own(api, "mc-gone")
    await api.call("DELETE", "/api/v1/certificates/mc-gone")
    body = {"certificate_ids": ["mc-a", "mc-busy", "mc-client", "mc-gone", "mc-nowhere", "mc-a"]}
    answer = await api.made(f"{BULK}renew", body, 200, headers=PATIENT)
    assert (answer["total_matched"], answer["total_enqueued"]) == (5, 1)
    assert (answer["total_skipped"], answer["total_failed"]) == (3, 1)
    assert answer["errors"] == [{"certificate_id": "mc-nowhere", "error": "no certificate mc-nowhere"}]
    (enqueued,) = answer["enqueued_jobs"]
    assert enqueued["certificate_id"] == "mc-a"
    job = await api.get(f"/api/v1/jobs/{enqueued['job_id']}")
    assert (job["type"], job["certificate_id"], job["requested_by"]) == ("Renewal", "mc-a", "admin")
    why = {row["certificate_id"]: row["reason"] for row in await items(api, answer["batch_id"]) if "reason" in row}
    assert "under way" in why["mc-busy"]
    assert "nobody holds a key" in why["mc-client"]
    assert "archived" in why["mc-gone"]
    forced = await api.made(f"{BULK}renew", {"certificate_ids": ["mc-busy"], "force": True}, 200, headers=PATIENT)
    assert forced["total_enqueued"] == 1


async def test_bulk_reassign(api):
    await team(api, "t-new")
    await owner(api, "o-new", "t-new")
    for name in ("mc-1", "mc-2"):
        await own(api, name, tags={"app": "shop"})
    await own(api, "mc-3", tags={"app": "blog"})
    body = {"certificate_ids": ["mc-1"], "owner_id": "o-new", "team_id": "t-new"}
    answer = await api.made(f"{BULK}reassign", body, 200, headers=PATIENT)
    assert (answer["total_matched"], answer["total_reassigned"], answer["total_skipped"]) == (1, 1, 0)
    answer = await api.made(
        f"{BULK}reassign", {"owner_id": "o-new", "filter": {"tags": {"app": "shop"}}}, 200, headers=PATIENT
    )
    assert (answer["total_matched"], answer["total_reassigned"], answer["total_skipped"]) == (2, 1, 1)
    found = {row["id"]: (row["owner_id"], row["team_id"]) for row in (await api.get("/api/v1/certificates"))["data"]}
    assert found == {"mc-1": ("o-new", "t-new"), "mc-2": ("o-new", ""), "mc-3": ("", "")}
    answer = await api.call("POST", f"{BULK}reassign", {"certificate_ids": ["mc-1"], "owner_id": "o-nobody"})
    assert answer.status_code == 400
    assert answer.json()["violations"][0]["field"] == "owner_id"
    assert (await api.call("POST", f"{BULK}reassign", {"certificate_ids": ["mc-1"]})).status_code == 400
    mistyped = {"owner_id": "o-new", "filter": {"environment": "test", "owner": "me"}}
    answer = await api.call("POST", f"{BULK}reassign", mistyped)
    assert answer.status_code == 400, "a condition that is not understood must not widen the choice"


async def test_a_preview_is_the_outcome_and_changes_nothing(api):
    agent = await api.agent()
    for number in range(3):
        await hosted(api, agent, f"mc-{number}")
    await agent.serve()
    await hosted(api, agent, "mc-busy")
    await own(api, "mc-client")
    wanted = {"certificate_ids": [*(f"mc-{number}" for number in range(3)), "mc-busy", "mc-client", "mc-no"]}
    for action, done in (("renew", "total_enqueued"), ("revoke", "total_revoked")):
        before = await api.get("/api/v1/certificates?sort=name")
        jobs = await api.get("/api/v1/jobs?per_page=500")
        events = len(await api.events("renewal_triggered")) + len(await api.events("certificate_revoked"))
        seen = await api.made(f"{BULK}{action}", wanted | {"dry_run": True}, 200, headers=PATIENT)
        assert await api.get("/api/v1/certificates?sort=name") == before
        assert await api.get("/api/v1/jobs?per_page=500") == jobs
        assert len(await api.events("renewal_triggered")) + len(await api.events("certificate_revoked")) == events
        assert seen["dry_run"]
        assert "enqueued_jobs" not in seen
        assert all("job_ids" not in row for row in seen["items"])
        real = await api.made(f"{BULK}{action}", wanted, 200, headers=PATIENT)
        assert "items" not in real
        totals = ("total_matched", done, "total_skipped", "total_failed")
        assert [seen[name] for name in totals] == [real[name] for name in totals]
        outcome = [
            {name: value for name, value in row.items() if name not in {"job_ids", "ended_at"}}
            for row in await items(api, real["batch_id"])
        ]
        shown = [{name: value for name, value in row.items() if name != "ended_at"} for row in seen["items"]]
        assert shown == outcome


async def test_an_empty_selection_is_never_everything(api):
    await own(api, "mc-1", environment="test")
    for body in (
        {},
        {"certificate_ids": []},
        {"owner_id": ""},
        {"certificate_ids": [], "environment": "test"},
        {"tags": {}},
    ):
        for action in ("renew", "revoke"):
            answer = await api.call("POST", f"{BULK}{action}", body)
            assert answer.status_code == 400, (action, body)
            assert answer.json()["violations"][0]["rule"] == "selection_is_empty"
    assert (await api.get("/api/v1/batches"))["total"] == 0
    nothing = await api.made(f"{BULK}revoke", {"environment": "none"}, 200, headers=PATIENT)
    assert (nothing["total_matched"], nothing["status"]) == (0, "completed")
    est = await api.made(f"{BULK}revoke", {"source": "EST", "environment": "test"}, 200, headers=PATIENT)
    assert est["total_matched"] == 0
    assert await status_of(api, "mc-1") == "Active"


async def test_what_takes_longer_goes_on_behind_the_answer(api):
    for number in range(6):
        await own(api, f"mc-{number}", environment="test")
    answer = await api.call("POST", f"{BULK}revoke", {"environment": "test"}, headers=ASYNC)
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "respond-async"
    body = answer.json()
    assert answer.headers["location"] == f"/api/v1/batches/{body['batch_id']}"
    assert (body["total_matched"], body["total_revoked"], body["status"]) == (6, 0, "running")
    batch = await api.get(f"/api/v1/batches/{body['batch_id']}")
    assert (batch["total"], batch["waiting"], batch["requested_by"]) == (6, 6, "admin")
    waiting = asyncio.create_task(api.get(f"/api/v1/batches/{body['batch_id']}?wait=60"))
    await work(api)
    batch = await asyncio.wait_for(waiting, 40)  # long before its own end
    assert (batch["status"], batch["done"], batch["waiting"]) == ("completed", 6, 0)
    assert (await api.get("/api/v1/batches?status=Completed&action=revoke"))["total"] == 1
    assert (await api.get("/api/v1/batches?status=running"))["data"] == []
    assert (await api.call("GET", "/api/v1/batches?status=nonsense")).status_code == 400
    assert len(await api.events("certificate_revoked")) == 6


async def test_a_cancelled_batch_begins_nothing_more(api):
    for number in range(4):
        await own(api, f"mc-{number}", environment="test")
    batch_id = (await api.made(f"{BULK}revoke", {"environment": "test"}, 202, headers=ASYNC))["batch_id"]
    batch = await control.claim(api.house.ctx)
    left = iter((True, True, True, False, False))  # chunk, first item, second item
    await control.work(api.house.ctx, batch, api.house.ctx.scope, lambda: next(left))
    stopped = await api.made(f"/api/v1/batches/{batch_id}/cancel", None, 200)
    assert (stopped["status"], stopped["done"], stopped["waiting"]) == ("cancelled", 2, 2)
    await work(api)
    assert [row["status"] for row in await items(api, batch_id)] == ["done", "done", "not_run", "not_run"]
    assert (await api.call("POST", f"/api/v1/batches/{batch_id}/cancel")).status_code == 409
    assert sorted([await status_of(api, f"mc-{number}") for number in range(4)]) == ["Active"] * 2 + ["Revoked"] * 2


async def test_waves_rest_halt_by_what_became_of_their_jobs_and_go_on_when_told(api):
    agent, ctx = await api.agent(), api.house.ctx
    for number in range(5):
        await hosted(api, agent, f"mc-{number}", environment="test")
    body = {"environment": "test", "force": True, "wave_size": 2, "wave_pause_seconds": 600, "max_failures": 0}
    path = f"/api/v1/batches/{(await api.made(f'{BULK}renew', body, 202, headers=ASYNC))['batch_id']}"

    async def turned() -> dict:
        await work(api)
        return await api.get(path)

    first = await turned()
    assert (first["status"], first["done"], first["waiting"]) == ("running", 2, 3), "a wave, and then a rest"
    assert first["progress"] == {"Issuance": {"AwaitingCSR": 2}}, "allowed by rule, they are approved as they are asked"
    api.clock.moment += timedelta(seconds=599)
    assert (await turned())["done"] == 2, "the rest is not over"
    (failed, *_), _ = (row["job_ids"] for row in await items(api, path.rsplit("/", 1)[1]) if row["status"] == "done")
    async with ctx.database.begin("test.fail") as tx:
        job = (await jobs.jobs_by_id(tx, ctx.scope, [failed]))[failed]
        await settle.end_job(tx, ctx, job, "the CA refused it", "rejected")
    api.clock.moment += timedelta(seconds=1)
    halted = await turned()
    assert (halted["status"], halted["done"]) == ("halted", 2)
    assert halted["status_reason"] == "more than 0 failed: 0 items, 1 of the jobs they began"
    assert (await api.call("POST", f"{path}/halt")).status_code == 409, "it does not run"

    going = await api.made(f"{path}/resume", {"max_failures": 1}, 200)
    assert (going["status"], going["max_failures"], "ended_at" in going) == ("running", 1, False)
    assert (await turned())["done"] == 4, "behind the last item, one wave"
    assert (await api.made(f"{path}/halt", None, 200))["status_reason"].startswith("halted by ")
    api.clock.moment += timedelta(seconds=600)
    assert (await turned())["done"] == 4, "halted by a person, it waits for one"
    await api.made(f"{path}/resume", {}, 200)
    ended = await turned()
    assert (ended["status"], ended["done"], ended["total"]) == ("completed", 5, 5)
    assert ended["progress"] == {"Issuance": {"AwaitingCSR": 4, "Failed": 1}}, (
        "each certificate has one job of the batch"
    )
    assert (await api.call("POST", f"{path}/resume", {})).status_code == 409
    assert (len(await api.events("batch_halted")), len(await api.events("batch_resumed"))) == (2, 2)


async def test_a_batch_that_passed_on_is_written_by_one_worker_alone(api):
    for number in range(3):
        await own(api, f"mc-{number}", environment="test")
    await api.made(f"{BULK}revoke", {"environment": "test"}, 202, headers=ASYNC)
    ctx = api.house.ctx
    slow = await control.claim(ctx)
    assert await control.claim(ctx) is None, "a leased batch is nobody else's"
    api.clock.moment += ctx.patience.lease
    quick = await control.claim(ctx)
    assert quick.fence > slow.fence
    async with ctx.database.read() as tx:
        (item, *_) = await store.pending_items(tx, ctx.scope, slow, 1)
    with pytest.raises(StaleFence):
        await control._run_item(ctx, slow, item, ctx.scope)
    await control.work(ctx, slow, ctx.scope, lambda: True)
    assert await api.events("certificate_revoked") == [], "nothing was done under the stale fence"
    await control.work(ctx, quick, ctx.scope, lambda: True)
    assert len(await api.events("certificate_revoked")) == 3


async def test_too_many_failures_halt_it(api):
    ids = [f"mc-none-{number}" for number in range(5)]
    await own(api, "mc-real")
    answer = await api.made(
        f"{BULK}revoke", {"certificate_ids": [*ids, "mc-real"], "max_failures": 3}, 200, headers=PATIENT
    )
    assert (answer["status"], answer["total_failed"], answer["total_revoked"]) == ("halted", 5, 0)
    assert await status_of(api, "mc-real") == "Active"
    answer = await api.made(
        f"{BULK}revoke", {"certificate_ids": [*ids, "mc-real"], "max_failures": 5}, 200, headers=PATIENT
    )
    assert (answer["status"], answer["total_revoked"]) == ("completed", 1)


async def test_batches_take_turns(api):
    await own(api, "mc-1", environment="one")
    await own(api, "mc-2", environment="two")
    first = (await api.made(f"{BULK}revoke", {"environment": "one"}, 202, headers=ASYNC))["batch_id"]
    second = (await api.made(f"{BULK}revoke", {"environment": "two"}, 202, headers=ASYNC))["batch_id"]
    ctx = api.house.ctx
    api.clock.moment += timedelta(seconds=1)
    taken = await control.claim(ctx)
    assert taken.id == first
    await control.work(ctx, taken, ctx.scope, lambda: False)
    assert (await control.claim(ctx)).id == second


# -- who asked -------------------------------------------------------------------------------------------------------


async def two_teams(api) -> tuple[str, str]:
    for name in ("red", "blue"):
        await team(api, name)
        await own(api, f"mc-{name}", team_id=name, environment="test")
    red = await api.key("r-admin", teams=["red"])
    blue = await api.key("r-admin", teams=["blue"])
    return red, blue


async def test_a_limited_key_touches_and_learns_nothing_foreign(api):
    red, blue = await two_teams(api)
    chosen = {"certificate_ids": ["mc-red", "mc-blue", "mc-none"]}
    answer = await api.made(f"{BULK}revoke", chosen, 200, key=red)
    assert (answer["total_matched"], answer["total_revoked"], answer["total_failed"]) == (3, 1, 2)
    texts = {row["certificate_id"]: row["error"] for row in answer["errors"]}
    assert texts["mc-blue"].replace("mc-blue", "X") == texts["mc-none"].replace("mc-none", "X")
    assert await status_of(api, "mc-blue") == "Active"
    filtered = await api.made(f"{BULK}revoke", {"environment": "test"}, 200, key=blue)
    assert (filtered["total_matched"], filtered["total_revoked"]) == (1, 1)
    foreign = await api.made(f"{BULK}revoke", {"team_id": "red"}, 200, key=blue)
    assert foreign["total_matched"] == 0
    batch_id = answer["batch_id"]
    for path in (f"/api/v1/batches/{batch_id}", f"/api/v1/batches/{batch_id}/items"):
        assert (await api.call("GET", path, key=blue)).status_code == 404
        assert (await api.call("GET", path, key=red)).status_code == 200
        assert (await api.call("GET", path)).status_code == 200
    assert (await api.call("POST", f"/api/v1/batches/{batch_id}/cancel", key=blue)).status_code == 404
    assert [row["id"] for row in (await api.get("/api/v1/batches", key=red))["data"]] == [batch_id]
    assert (await api.get("/api/v1/batches", key=blue))["total"] == 2
    moved = await api.call("POST", f"{BULK}reassign", {"certificate_ids": ["mc-red"], "owner_id": "nobody"}, key=red)
    assert moved.status_code == 400


async def test_nobody_gives_certificates_to_a_team_beyond_their_limits(api):
    red, _ = await two_teams(api)
    await owner(api, "o-red", "red")
    body = {"certificate_ids": ["mc-red"], "owner_id": "o-red", "team_id": "blue"}
    assert (await api.call("POST", f"{BULK}reassign", body, key=red)).status_code == 400
    assert (await api.get("/api/v1/certificates/mc-red"))["team_id"] == "red"


async def test_a_revoked_key_stops_its_batch(api):
    red, _ = await two_teams(api)
    batch_id = (await api.made(f"{BULK}revoke", {"environment": "test"}, 202, headers=ASYNC, key=red))["batch_id"]
    mine = next(row for row in (await api.get("/api/v1/auth/keys"))["keys"] if row.get("teams") == ["red"])
    assert (await api.call("DELETE", f"/api/v1/auth/keys/{mine['id']}")).status_code == 204
    await work(api)
    batch = await api.get(f"/api/v1/batches/{batch_id}")
    assert (batch["status"], batch["done"], batch["waiting"]) == ("halted", 0, 1)
    assert "was revoked" in batch["status_reason"]
    assert await status_of(api, "mc-red") == "Active"
    assert len(await api.events("batch_halted")) == 1


async def test_a_certificate_that_left_the_scope_is_not_touched(api):
    red, _ = await two_teams(api)
    batch_id = (await api.made(f"{BULK}revoke", {"environment": "test"}, 202, headers=ASYNC, key=red))["batch_id"]
    answer = await api.call("PUT", "/api/v1/certificates/mc-red", {"team_id": "blue"})
    assert answer.status_code == 200, answer.text
    await work(api)
    (row,) = await items(api, batch_id)
    assert (row["status"], row["error_kind"]) == ("failed", "not_found")
    assert await status_of(api, "mc-red") == "Active"


async def test_permissions(api):
    await own(api, "mc-1")
    chosen = {"certificate_ids": ["mc-1"]}
    operator, viewer = await api.key("r-operator"), await api.key("r-viewer")
    assert (await api.call("POST", f"{BULK}revoke", chosen, key=operator)).status_code == 403
    assert (await api.call("POST", f"{BULK}renew", chosen, key=operator)).status_code == 200
    for action in ("revoke", "renew", "reassign"):
        assert (await api.call("POST", f"{BULK}{action}", chosen | {"dry_run": True}, key=viewer)).status_code != 200
    batch_id = (await api.get("/api/v1/batches", key=viewer))["data"][0]["id"]
    assert (await api.call("POST", f"/api/v1/batches/{batch_id}/cancel", key=viewer)).status_code == 403


# -- attackers -------------------------------------------------------------------------------------------------------


async def test_enormous_and_odd_selections(api):
    await own(api, "mc-1", environment="it's", tags={'a".b': "x' OR '1'='1", "env": "%"})
    too_many = [f"m{number}" for number in range(control.MOST_IDS + 1)]
    answer = await api.call("POST", f"{BULK}renew", {"certificate_ids": too_many})
    assert answer.status_code == 413
    assert (await api.call("POST", f"{BULK}renew", {"certificate_ids": ["x" * 200]})).status_code == 400
    assert (await api.call("POST", f"{BULK}renew", {"certificate_ids": ["a\0b"]})).status_code == 400
    assert (await api.call("POST", f"{BULK}renew", {"certificate_ids": [1]})).status_code == 400
    assert (await api.call("POST", f"{BULK}renew", {"owner": "x"})).status_code == 400
    assert (await api.call("POST", f"{BULK}revoke", {"environment": "x", "reason": "because"})).status_code == 400
    assert (await api.call("POST", f"{BULK}renew", {"expires_before": "2026-01-01T00:00:00"})).status_code == 400
    assert (await api.call("POST", f"{BULK}renew", {"environment": "x", "max_failures": -1})).status_code == 400
    assert (await api.get("/api/v1/batches"))["total"] == 0
    for chosen, matched in (
        ({"environment": "it's"}, 1),
        ({"environment": "' OR ''='"}, 0),
        ({"owner_id": "%"}, 0),
        ({"status": "active"}, 1),
        ({"tags": {'a".b': "x' OR '1'='1"}}, 1),
        ({"tags": {"env": "%"}}, 1),
        ({"tags": {"env": "x"}}, 0),
        ({"tags": {"$.env": "%"}}, 0),
        ({"agent_id": "' --"}, 0),
        ({"expires_before": "2020-01-01T00:00:00Z"}, 0),
        ({"expires_before": "2120-01-01T00:00:00Z"}, 1),
        ({"certificate_ids": ["mc-1"], "environment": "other"}, 1),
    ):
        seen = await api.made(f"{BULK}renew", chosen | {"dry_run": True}, 200, headers=PATIENT)
        assert seen["total_matched"] == matched, chosen
    assert seen["total_skipped"] == 1


async def test_revoking_while_a_bulk_renewal_runs(api):
    agent = await api.agent()
    names = [await hosted(api, agent, f"mc-{number}") for number in range(6)]
    await agent.serve()
    renewing = api.call("POST", f"{BULK}renew", {"certificate_ids": names})
    revoking = api.call("POST", f"{BULK}revoke", {"certificate_ids": names[::-1]})
    renewed, revoked = await asyncio.gather(renewing, revoking)
    assert (renewed.status_code, revoked.status_code) == (200, 200)
    assert revoked.json()["total_revoked"] == 6
    await agent.serve()
    for name in names:
        versions = (await api.get(f"/api/v1/certificates/{name}/versions"))["data"]
        # whichever came first, the version that was there is revoked; a later renewal gives a new one
        assert versions[-1]["status"] == "revoked"
        assert await status_of(api, name) in {"Revoked", "Active"}


async def test_a_selection_is_frozen_at_one_moment(api):
    ctx = api.house.ctx
    for number in range(12):
        await bare(api, f"mc-{number:02}", environment="test")
    actor = Actor("admin", ActorType.API_KEY)
    chosen = Selection(environment="test")
    wish = control.Wish(action=BatchAction.RENEW, permission="cert.issue", selection=chosen, wanted={}, key_id="x")
    batch = await control.create(ctx, ctx.scope, actor, wish)
    assert batch.total == 12
    await bare(api, "mc-late", environment="test")
    seen = [row["certificate_id"] for row in await items(api, batch.id)]
    assert seen == sorted(seen) == [f"mc-{number:02}" for number in range(12)]

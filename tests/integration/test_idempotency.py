"""`Idempotency-Key`: sent twice, a request acts once; on both databases, and over a server that dies in between."""

from __future__ import annotations

import asyncio
import ssl
from datetime import timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from certctl.api.v1 import agents, teams
from certctl.core.errors import Temporary
from certctl.doors.idempotency import forget_answers
from certctl.store import schema
from integration.api_house import Api, open_api
from peers.fleet import Fleet, fleet


@pytest.fixture
async def api(database_url, tmp_path):
    async with open_api(tmp_path / "data", database_url) as fresh:
        yield fresh


async def post(api: Api, path: str, body: Any = None, key: str = '"k-1"', caller: str | None = None):
    return await api.call("POST", f"/api/v1/{path}", body, headers={"Idempotency-Key": key}, key=caller)


async def names(api: Api) -> list[str]:
    return [row["name"] for row in (await api.get("/api/v1/teams"))["data"]]


async def test_the_same_request_is_answered_again_and_another_is_refused(api):
    first = await post(api, "teams", {"name": "one"})
    again = await post(api, "teams", {"name": "one"}, "k-1")
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    for path, body in (("teams", {"name": "two"}), ("owners", {"name": "one"}), ("teams?x=1", {"name": "one"})):
        other = await post(api, path, body)
        assert other.status_code in {400, 422}, other.text
    assert (await post(api, "teams", {"name": "two"})).json()["code"] == "idempotency_key_reused"
    assert await names(api) == ["one"]
    assert len(await api.events("config_created")) == 1


async def test_keys_belong_to_their_callers(api):
    other = await api.key("r-admin")
    mine = await post(api, "teams", {"name": "mine"})
    theirs = await post(api, "teams", {"name": "theirs"}, caller=other)
    assert (mine.status_code, theirs.status_code) == (201, 201)
    viewer = await api.key("r-viewer")
    assert (await post(api, "teams", {"name": "mine"}, caller=viewer)).status_code == 403, "judged before replayed"


async def test_many_at_once_act_once(api):
    answers = await asyncio.gather(*(post(api, "teams", {"name": "one"}) for _ in range(8)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    done = [answer for answer in answers if answer.status_code == 201]
    assert done and len({answer.json()["id"] for answer in done}) == 1
    for answer in answers:
        if answer.status_code == 409:
            assert (answer.json()["code"], answer.headers["retry-after"]) == ("still_running", "1")
    assert await names(api) == ["one"]
    assert (await post(api, "teams", {"name": "one"})).json()["id"] == done[0].json()["id"]


async def test_a_refusal_that_changed_nothing_frees_its_key(api):
    assert (await post(api, "teams", {"name": ""})).status_code == 400
    assert (await post(api, "teams", {"name": "good"})).status_code == 201
    for wrong in ('"', '""', "a b", '"ä"', "x" * 256, '"a" "b"'):
        answer = await api.call(
            "POST", "/api/v1/teams", {"name": "z"}, headers={"Idempotency-Key": wrong.encode("utf-8")}
        )
        assert answer.status_code == 400, wrong
    assert await names(api) == ["good"]


async def test_an_answer_with_a_secret_is_kept_sealed(api):
    body = {"name": "robot", "role_ids": ["r-viewer"]}
    first = await post(api, "auth/keys", body)
    again = await post(api, "auth/keys", body)
    value = first.json()["key_value"]
    assert again.json()["key_value"] == value
    async with api.house.database.read() as tx:
        (row,) = (await tx.execute(sa.select(schema.idempotency_keys))).all()
    assert value.encode() not in row.answer
    assert b"robot" not in row.answer


async def test_an_answer_is_forgotten_after_a_day(api):
    await post(api, "teams", {"name": "one"})
    api.clock.moment += timedelta(hours=23)
    assert await forget_answers(api.house.ctx) == 0
    assert (await post(api, "teams", {"name": "one"})).status_code == 201
    api.clock.moment += timedelta(hours=2)
    assert (await post(api, "teams", {"name": "two"})).status_code == 201, "an expired key is free before it is deleted"
    api.clock.moment += timedelta(hours=25)
    assert await forget_answers(api.house.ctx) == 1


async def test_a_request_that_fell_silent_is_taken_over_and_then_writes_nothing(api, monkeypatch):
    real, held, go = agents.enrolment.create_token, asyncio.Event(), asyncio.Event()

    async def slow(*args: Any, **more: Any) -> Any:
        held.set()
        await go.wait()
        return await real(*args, **more)

    monkeypatch.setattr(agents.enrolment, "create_token", slow)
    first = asyncio.create_task(post(api, "agents/enrolment-tokens", {"agent_name": "one"}))
    await held.wait()
    assert (await post(api, "agents/enrolment-tokens", {"agent_name": "one"})).json()["code"] == "still_running"
    api.clock.moment += timedelta(minutes=5)
    monkeypatch.setattr(agents.enrolment, "create_token", real)
    second = await post(api, "agents/enrolment-tokens", {"agent_name": "one"})
    assert second.status_code == 201
    go.set()
    late = await first
    assert (late.status_code, late.json()["code"]) == (409, "stale_fence")
    async with api.house.database.read() as tx:
        rows = (await tx.execute(sa.select(schema.enrolment_tokens.c.id))).scalars().all()
    assert rows == [second.json()["id"]]


async def test_what_was_written_before_a_failure_is_not_written_again(api, monkeypatch):
    real = teams.teams.create

    async def breaks(*args: Any) -> Any:
        await real(*args)
        raise Temporary("the database went away")

    monkeypatch.setattr(teams.teams, "create", breaks)
    assert (await post(api, "teams", {"name": "one"})).status_code == 503
    monkeypatch.setattr(teams.teams, "create", real)
    again = await post(api, "teams", {"name": "one"})
    assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "rebuilt")
    assert again.json()["name"] == "one"
    assert await names(api) == ["one"]


async def test_revoke_twice_with_one_key_is_one_revocation(api):
    made = await api.made("/api/v1/certificates", {"name": "c", "common_name": "c.example"})
    path = f"certificates/{made['id']}/revoke"
    answers = await asyncio.gather(*(post(api, path, {"reason": "superseded"}, "r") for _ in range(4)))
    ended = await post(api, path, {"reason": "superseded"}, "r")
    jobs = (await api.get(f"/api/v1/jobs?type=revocation&certificate_id={made['id']}"))["data"]
    assert len(jobs) == (1 if ended.status_code == 200 else 0)
    assert {answer.status_code for answer in answers} <= {ended.status_code, 409}


@pytest.mark.parametrize("point", ["commit.config.team.before", "commit.config.team.after", "answer.idempotent"])
def test_a_killed_server_leaves_no_key_stuck_and_no_act_done_twice(tmp_path, point):
    with fleet(tmp_path) as house:
        house.start_server(die_at=point)
        house.bootstrap()
        with pytest.raises(httpx.HTTPError):
            post_once(house)
        assert house.server is not None
        house.server.wait(60)
        house.start_server()

        def done() -> bool:
            answer = post_once(house)
            assert answer.status_code in {201, 409}, answer.text
            assert answer.status_code == 201 or answer.json()["code"] == "still_running"
            return answer.status_code == 201

        house.wait(done, "the retry is answered")
        assert [row["name"] for row in house.get("/api/v1/teams")["data"]] == ["one"]
        assert post_once(house).status_code == 201


def post_once(house: Fleet) -> httpx.Response:
    context = ssl.create_default_context(cafile=str(house.ca_path))
    headers = {"Authorization": f"Bearer {house.key}", "Idempotency-Key": '"once"'}
    with httpx.Client(base_url=house.url, verify=context, timeout=20, headers=headers) as client:
        return client.post("/api/v1/teams", json={"name": "one"})

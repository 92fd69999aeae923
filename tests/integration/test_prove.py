"""The server's half of answers by agents: one agent's word counts, for its present run, and nothing is left wanted."""

from __future__ import annotations

import pytest

from certctl.connectors.base.solver import HostWish, Proof
from certctl.core.errors import Misconfigured
from certctl.lifecycle import prove
from integration.api_house import Agent, Api, open_api

WISH = HostWish(type="http-01", port=80)


async def heartbeat(agent: Agent, *capabilities: str) -> None:
    body = {"boot_id": agent.boot_id, "version": "0.1.0", "protocol": 1, "capabilities": list(capabilities)}
    assert (await agent.call("POST", f"/api/v1/agents/{agent.id}/heartbeat", body)).status_code == 200


async def told(agent: Agent) -> dict:
    """The prove step that waits for it."""
    (item,) = [one for one in await agent.work() if one["step_kind"] == "prove"]
    return item


async def report(agent: Agent, item: dict, *proved: str, **more: object) -> int:
    body = {"status": "Completed", "step_id": item["step_id"], "fence": item["fence"], "proved": list(proved)} | more
    return (await agent.call("POST", f"/api/v1/agents/{agent.id}/jobs/{item['id']}/status", body)).status_code


async def asked(api: Api, agent: Agent) -> str:
    target = await api.target(agent)
    await api.made("/api/v1/certificates", {"id": "cert-1", "common_name": "shop.test", "target_ids": [target]})
    (job,) = (await api.get("/api/v1/jobs"))["data"]
    return job["id"]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_what_an_agent_answers_is_a_state_of_its_present_run(kind, tmp_path, request):
    url = "" if kind == "sqlite" else request.getfixturevalue("postgres_server").new_database()
    async with open_api(tmp_path, url) as api:
        ctx = api.house.ctx
        hosts = prove.Hosts(lambda: ctx)
        agent, other = await api.agent(), await api.agent("web-2")
        job_id = await asked(api, agent)
        proof = Proof("shop.test", "token-1", "token-1.thumb", job_id, agent.id)

        with pytest.raises(Misconfigured, match="update it"):
            await hosts.ask(proof, WISH)
        await heartbeat(agent, "prepare", "prove")
        await agent.work()
        for nobody in ("", "agent-none"):
            with pytest.raises(Misconfigured):
                await hosts.ask(Proof("shop.test", "token-1", "token-1.thumb", job_id, nobody), WISH)
        await hosts.ask(proof, WISH)
        await hosts.ask(proof, WISH)
        assert not await hosts.stands(proof)
        item = await told(agent)
        assert [one["token"] for one in item["answers"]] == ["token-1"], "asked twice is told once"

        assert await report(other, item, "token-1") == 403, "another agent's word is worth nothing"
        assert await report(agent, item | {"fence": item["fence"] + 1}, "token-1") == 409
        assert await report(agent, item, "token-1", status="Running") == 400
        assert not await hosts.stands(proof)
        assert await report(agent, item, "token-1", "a token of nobody's") == 200
        assert await hosts.stands(proof)
        assert await report(agent, item, "token-1") == 409
        (event,) = await api.events("challenges_shown")
        assert event["subject_id"] == "cert-1"

        # what a run served is gone with it: the next one is told anew, and until it says so nothing stands
        agent.boot_id = "boot-2"
        await agent.work()
        assert not await hosts.stands(proof)
        assert not await hosts.stands(proof)
        assert await report(agent, await told(agent), "token-1") == 200
        assert await hosts.stands(proof)

        await hosts.drop(proof)
        item = await told(agent)
        assert item["answers"] == []
        assert await report(agent, item) == 200

        # a job that ends otherwise leaves nothing wanted
        await hosts.ask(proof, WISH)
        assert await report(agent, await told(agent), "token-1") == 200
        assert await prove.tick(ctx) == 0
        assert (await api.call("POST", f"/api/v1/jobs/{job_id}/cancel", {})).status_code == 200
        assert await prove.tick(ctx) == 1
        item = await told(agent)
        assert item["answers"] == []
        assert await report(agent, item) == 200
        assert await prove.tick(ctx) == 0

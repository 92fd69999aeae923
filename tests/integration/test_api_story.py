"""The whole story over HTTP: enrol, map, request, CSR, deploy, verify, renew, revoke, export; on both databases."""

from __future__ import annotations

import asyncio

import pytest

from integration.api_house import open_api


@pytest.fixture
async def api(database_url, tmp_path):
    async with open_api(tmp_path / "data", database_url) as fresh:
        yield fresh


async def test_a_certificate_from_request_to_verified_and_beyond(api):
    agent = await api.agent()
    target_id = await api.target(agent)
    made = await api.made(
        "/api/v1/certificates", {"id": "mc-shop", "common_name": "shop.example", "target_ids": [target_id]}
    )
    assert made["status"] == "Pending"
    assert made["target_ids"] == [target_id]
    jobs = (await api.get("/api/v1/jobs?certificate_id=mc-shop"))["data"]
    assert [job["status"] for job in jobs] == ["AwaitingCSR"]

    (item,) = await agent.work()
    answer = await agent.csr(item)
    assert (answer.status_code, answer.json()) == (202, {"status": "csr_signed"})
    assert await agent.serve() == ["deploy", "verify"]

    now = await api.get("/api/v1/certificates/mc-shop")
    assert now["status"] == "Active"
    assert now["last_deployment_at"]
    (place,) = (await api.get("/api/v1/certificates/mc-shop/deployments"))["data"]
    assert place["deployment"]["status"] == "verified"
    assert place["deployment"]["observed_fingerprint"] == agent.serves
    (version,) = (await api.get("/api/v1/certificates/mc-shop/versions"))["data"]
    assert version["fingerprint_sha256"] == agent.serves
    deployment = (await api.get("/api/v1/jobs?type=deployment"))["data"][0]
    seen = await api.get(f"/api/v1/jobs/{deployment['id']}/verification")
    assert (seen["verified"], seen["actual_fingerprint"]) == (True, agent.serves)
    steps = (await api.get(f"/api/v1/jobs/{deployment['id']}"))["steps"]
    assert [step["kind"] for step in steps] == ["deploy", "verify"]

    export = await api.get("/api/v1/certificates/mc-shop/export/pem")
    assert export["full_pem"] == export["cert_pem"] + export["chain_pem"] == version["pem_chain"]
    file = await api.call("GET", "/api/v1/certificates/mc-shop/export/pem?download=true")
    assert file.text == export["full_pem"]
    assert "attachment" in file.headers["content-disposition"]
    assert len(await api.events("certificate_exported")) == 2

    first = agent.serves
    answer = await api.made("/api/v1/certificates/mc-shop/renew", {}, 202)
    assert answer["status"] == "renewal_triggered"
    assert len(answer["job_ids"]) == 1
    assert (await api.call("POST", "/api/v1/certificates/mc-shop/renew")).status_code == 409
    assert await agent.serve() == ["prepare", "deploy", "verify"]
    assert agent.serves != first

    answer = await api.made("/api/v1/certificates/mc-shop/deploy", {"version_id": version["id"]}, 202)
    assert await agent.serve() == ["deploy", "verify"]
    assert agent.serves == first, "a rollback puts the named version back"

    answer = await api.made("/api/v1/certificates/mc-shop/revoke", {"reason": "keyCompromise"}, 200)
    assert answer["status"] == "revoked"
    assert (await api.get("/api/v1/certificates/mc-shop"))["revocation_reason"] == "keyCompromise"
    assert (await api.get(f"/api/v1/jobs/{answer['job_id']}"))["status"] == "Completed"
    assert (await api.call("GET", "/api/v1/certificates/mc-shop/export/pem")).status_code == 404
    counts = await api.get("/api/v1/stats/certificates-by-status")
    assert counts == [{"status": "Revoked", "count": 1}]

    assert (await api.call("DELETE", "/api/v1/certificates/mc-shop")).status_code == 204
    assert (await api.get("/api/v1/certificates/mc-shop"))["status"] == "Archived"


async def test_a_long_poll_is_answered_when_work_comes(api):
    agent = await api.agent()
    target_id = await api.target(agent)
    poll = asyncio.create_task(agent.work(wait=60))
    await asyncio.sleep(0.3)
    assert not poll.done()
    await api.made("/api/v1/certificates", {"common_name": "a.example", "target_ids": [target_id]})
    (item,) = await asyncio.wait_for(poll, 40)  # long before the poll's own end, whatever else the machine does
    assert item["common_name"] == "a.example"


async def test_a_drained_server_ends_its_polls(api):
    agent = await api.agent()
    poll = asyncio.create_task(agent.work(wait=60))
    await asyncio.sleep(0.2)
    api.state.drain()
    assert await asyncio.wait_for(poll, 40) == []
    assert (await api.call("GET", "/ready", key="")).status_code == 503


async def test_a_poll_that_comes_to_a_server_which_is_ending_is_not_kept(api):
    agent = await api.agent()
    api.state.drain()
    assert await asyncio.wait_for(agent.work(wait=60), 40) == []


async def test_a_job_is_waited_for(api):
    agent = await api.agent()
    target_id = await api.target(agent)
    await api.made("/api/v1/certificates", {"id": "mc-a", "common_name": "a.example", "target_ids": [target_id]})
    job = (await api.get("/api/v1/jobs"))["data"][0]
    waiting = asyncio.create_task(api.get(f"/api/v1/jobs/{job['id']}?wait=60"))
    await asyncio.sleep(0.2)
    (item,) = await agent.work()
    await agent.csr(item)
    moved = await asyncio.wait_for(waiting, 40)
    assert moved != job
    ended = await asyncio.wait_for(api.get(f"/api/v1/jobs/{job['id']}?wait=60"), 40)
    assert ended["status"] == "Completed"


async def test_a_client_keeps_its_own_key(api):
    from certctl.core.names import parse_names
    from certctl.pki.algorithms import KeyAlgorithm
    from certctl.pki.csr import build_csr, csr_pem
    from certctl.pki.keys import generate_private_key

    key = generate_private_key(KeyAlgorithm.ECDSA_P256)
    pem = csr_pem(build_csr(key, "me.example", parse_names(["me.example"])))
    body = {"id": "mc-me", "common_name": "me.example", "csr_pem": pem}
    assert (await api.made("/api/v1/certificates", body))["status"] == "Active"
    other = generate_private_key(KeyAlgorithm.ECDSA_P256)
    pem = csr_pem(build_csr(other, "me.example", parse_names(["me.example"])))
    answer = await api.made("/api/v1/certificates/mc-me/csr", {"csr_pem": pem}, 202)
    assert (await api.get(f"/api/v1/jobs/{answer['job_id']}"))["status"] == "Completed"
    assert (await api.get("/api/v1/certificates/mc-me/versions"))["total"] == 2

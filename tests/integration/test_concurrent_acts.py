"""Acts that meet: a certificate is revoked while it is renewed, by many callers at once; on both databases."""

from __future__ import annotations

import asyncio

import pytest

from integration.api_house import open_api


@pytest.fixture
async def api(database_url, tmp_path):
    async with open_api(tmp_path / "data", database_url) as fresh:
        yield fresh


async def test_revoke_while_renewing(api):
    agent = await api.agent()
    target_id = await api.target(agent)
    made = await api.made("/api/v1/certificates", {"name": "c", "common_name": "c.example", "target_ids": [target_id]})
    await agent.serve()
    path = f"/api/v1/certificates/{made['id']}"
    (first,) = (await api.get(f"{path}/versions"))["data"]
    answers = await asyncio.gather(
        *(api.call("POST", f"{path}/renew", {"force": True}) for _ in range(3)),
        *(api.call("POST", f"{path}/revoke", {"reason": "keyCompromise"}) for _ in range(3)),
    )
    assert {answer.status_code for answer in answers[:3]} <= {202, 409}, [answer.text for answer in answers]
    assert {answer.status_code for answer in answers[3:]} <= {200, 409}, [answer.text for answer in answers]
    assert 200 in {answer.status_code for answer in answers[3:]}
    await agent.serve()
    versions = (await api.get(f"{path}/versions"))["data"]
    by_id = {version["id"]: version["status"] for version in versions}
    assert by_id[first["id"]] == "revoked", "what was there when it was revoked stays revoked"
    now = await api.get(path)
    trusted = [version for version in versions if version["status"] == "current"]
    assert (now["status"] == "Revoked") == (not trusted), (now["status"], by_id)
    jobs = (await api.get(f"/api/v1/jobs?certificate_id={made['id']}&type=issuance,renewal"))["data"]
    assert len([job for job in jobs if job["status"] == "Completed"]) == len(versions), (
        "a version for each job that ended well"
    )
    for job in jobs:
        if job["status"] == "Cancelled":
            steps = (await api.get(f"/api/v1/jobs/{job['id']}"))["steps"]
            assert {step["status"] for step in steps} <= {"done", "cancelled"}, "a cancelled job leaves no step to take"

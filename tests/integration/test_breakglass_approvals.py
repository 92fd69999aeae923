"""Break-glass is no second person: nobody gets past two people with a password that they set for an invented name."""

from __future__ import annotations

from datetime import timedelta

import pytest

from certctl.core.rules import BreakglassRules, DoorRules
from integration.api_house import open_api
from integration.test_approvals import person, waiting
from integration.test_sessions import GLASS, PASSWORD, Browser, cheap_passwords

__all__ = ["cheap_passwords"]  # a fixture of this module, too


@pytest.fixture
async def api(database_url, tmp_path):
    async with open_api(tmp_path / "data", database_url, DoorRules(breakglass=BreakglassRules(enabled=True))) as fresh:
        yield fresh


async def signed_in(api, actor_id: str) -> Browser:
    browser = Browser(api)
    body = {"actor_id": actor_id, "password": PASSWORD}
    answer = await browser.call("POST", "/auth/breakglass/login", body)
    assert answer.status_code == 204, answer.text
    return browser


async def test_who_set_the_password_is_the_same_hand(api):
    """Their own request under the invented name, a request of the invented name under their own."""
    await api.made(GLASS, {"actor_id": "oncall", "password": PASSWORD})
    oncall = await signed_in(api, "oncall")
    job, approval = await waiting(api, api.admin)
    for path in (f"/api/v1/jobs/{job['id']}/approve", f"/api/v1/approvals/{approval['id']}/approve"):
        answer = await oncall.call("POST", path)
        assert answer.status_code == 403, answer.text
        assert "break-glass" in answer.json()["message"]
    assert (await api.get(f"/api/v1/approvals/{approval['id']}"))["state"] == "pending"
    body = {"id": "mc-2", "common_name": "mc-2.example", "certificate_profile_id": "prof-two"}
    body |= {"target_ids": [await api.target(await api.agent("web-2"), "t-2")]}
    assert (await oncall.call("POST", "/api/v1/certificates", body)).status_code == 201
    (job,) = (await api.get("/api/v1/jobs?certificate_id=mc-2"))["data"]
    assert (job["status"], job["requested_by"]) == ("AwaitingApproval", "oncall")
    assert (await api.call("POST", f"/api/v1/jobs/{job['id']}/approve")).status_code == 403
    # somebody who has nothing to do with either is a second person for both
    bob = await person(api, "bob")
    for path in (f"/api/v1/jobs/{job['id']}/approve", f"/api/v1/approvals/{approval['id']}/approve"):
        assert (await api.call("POST", path, key=bob)).status_code == 200


async def test_a_password_handed_on_under_the_invented_name_stays_their_own(api):
    """Set by oneself, then again under that name, for another name, or taken away and given anew."""
    await api.made(GLASS, {"actor_id": "oncall", "password": PASSWORD})
    oncall = await signed_in(api, "oncall")
    for name in ("oncall", "second"):
        again = await oncall.call("POST", GLASS, {"actor_id": name, "password": PASSWORD})
        assert again.status_code == 201, again.text
        oncall = await signed_in(api, "oncall")
    second = await signed_in(api, "second")
    assert (await second.call("DELETE", f"{GLASS}/oncall")).status_code == 204
    assert (await second.call("POST", GLASS, {"actor_id": "oncall", "password": PASSWORD})).status_code == 201
    made = await second.call("POST", "/api/v1/auth/keys", {"name": "of-second", "role_ids": ["r-operator"]})
    assert made.status_code == 201, made.text
    job, approval = await waiting(api, api.admin)
    for browser in (await signed_in(api, "oncall"), second):
        answer = await browser.call("POST", f"/api/v1/approvals/{approval['id']}/approve")
        assert answer.status_code == 403, answer.text
    by_key = await api.call("POST", f"/api/v1/jobs/{job['id']}/approve", key=made.json()["key_value"])
    assert by_key.status_code == 403, by_key.text
    assert (await api.get(f"/api/v1/jobs/{job['id']}"))["status"] == "AwaitingApproval"


async def test_a_password_for_the_name_of_anothers_key_makes_nobody_that_person(api):
    await api.made("/api/v1/auth/keys", {"name": "bobs", "role_ids": ["r-operator"], "person": "bob"})
    await api.made(GLASS, {"actor_id": "bobs", "password": PASSWORD})
    thief = await signed_in(api, "bobs")
    rotated = await thief.call("POST", "/api/v1/auth/keys/bobs/rotate", {})
    assert rotated.status_code == 200, rotated.text
    job, _ = await waiting(api, api.admin)
    assert (await thief.call("POST", f"/api/v1/jobs/{job['id']}/approve")).status_code == 403
    stolen = rotated.json()["key_value"]
    assert (await api.call("POST", f"/api/v1/jobs/{job['id']}/approve", key=stolen)).status_code == 403


async def test_a_password_set_later_makes_nothing_of_what_was_asked_before(api):
    asks = await person(api, "alice")
    job, _ = await waiting(api, asks)
    api.clock.moment += timedelta(seconds=1)
    name = job["requested_by"]
    await api.made(GLASS, {"actor_id": name, "password": PASSWORD})
    assert (await api.call("POST", f"/api/v1/jobs/{job['id']}/approve")).status_code == 200

"""Whose a key is, and who knows its value: two people with keys alone. Conditions on roles and keys; old batches go."""

from __future__ import annotations

from datetime import timedelta

import pytest

from certctl.control import batches
from integration.api_house import Api, open_api
from integration.test_approvals import waiting


@pytest.fixture
async def api(database_url, tmp_path):
    async with open_api(tmp_path / "data", database_url) as fresh:
        yield fresh


async def key_of(api: Api, person: str, **more) -> str:
    body = {"name": f"key-of-{person}", "role_ids": ["r-operator"], "person": person} | more
    return (await api.made("/api/v1/auth/keys", body))["key_value"]


async def rotated(api: Api, person: str, value: str, overlap: int = 0, **more) -> str:
    path = f"/api/v1/auth/keys/key-of-{person}/rotate"
    return (await api.made(path, {"overlap_seconds": overlap}, 200, key=value, **more))["key_value"]


async def rotator(api: Api) -> str:
    """A role that may rotate its own key beside an operator's rights."""
    role = (await api.made("/api/v1/auth/roles", {"name": "holder"}))["id"]
    answer = await api.call("POST", f"/api/v1/auth/roles/{role}/permissions", {"permission": "auth.key.rotate"})
    assert answer.status_code == 204
    return role


async def decide(api: Api, job: dict, key: str) -> int:
    return (await api.call("POST", f"/api/v1/jobs/{job['id']}/approve", {"note": "fine"}, key=key)).status_code


async def test_two_named_people_decide_once_each_alone_knows_their_key(api):
    roles = {"role_ids": ["r-operator", await rotator(api)]}
    bob, carol = await key_of(api, "bob", **roles), await key_of(api, "carol", **roles)
    shown = await api.get("/api/v1/auth/keys/key-of-bob")
    assert (shown["person"], shown["created_by"]) == ("bob", "admin")
    job, _ = await waiting(api, bob)
    # the administrator was shown both values: it may have asked as bob, and could say yes as carol
    assert await decide(api, job, carol) == 403
    assert await decide(api, job, api.admin) == 403
    carol = await rotated(api, "carol", carol)
    # who asked with a key that another knew stays in doubt, however it is rotated afterwards
    assert await decide(api, job, api.admin) == 403
    assert await decide(api, job, bob) == 403
    bob = await rotated(api, "bob", bob)
    assert (await api.get("/api/v1/auth/keys/key-of-bob"))["shown_to"] == "key-of-bob"
    assert await decide(api, job, bob) == 403
    assert await decide(api, job, carol) == 200
    second, _ = await waiting(api, bob, "mc-2")
    assert await decide(api, second, bob) == 403
    assert await decide(api, second, api.admin) == 200


async def test_an_administrators_own_request_is_decided_by_a_key_that_it_does_not_know(api):
    roles = {"role_ids": ["r-operator", await rotator(api)]}
    bob = await key_of(api, "bob", **roles)
    job, _ = await waiting(api, api.admin)
    assert await decide(api, job, bob) == 403
    # while the old value is good too, its maker still knows one
    bob = await rotated(api, "bob", bob, overlap=600)
    assert await decide(api, job, bob) == 403
    api.clock.moment += timedelta(seconds=601)
    assert await decide(api, job, bob) == 200
    # rotated by another, it is known to another
    second, _ = await waiting(api, api.admin, "mc-2")
    bob = await rotated(api, "bob", api.admin)
    assert (await api.get("/api/v1/auth/keys/key-of-bob"))["shown_to"] == "admin"
    assert await decide(api, second, bob) == 403


async def test_whose_a_key_is_says_an_administrator_alone(api):
    maker = (await api.made("/api/v1/auth/roles", {"name": "maker"}))["id"]
    for permission in ("auth.key.create", "cert.read"):
        await api.call("POST", f"/api/v1/auth/roles/{maker}/permissions", {"permission": permission})
    key = await api.key(maker)
    body = {"name": "key-of-eve", "role_ids": [maker], "person": "eve"}
    assert (await api.call("POST", "/api/v1/auth/keys", body, key=key)).status_code == 403
    assert (await api.call("POST", "/api/v1/auth/keys", body | {"person": ""}, key=key)).status_code == 201
    limited = await api.key("r-admin", teams=["team-x"])
    body["name"] = "key-of-eve-2"
    assert (await api.call("POST", "/api/v1/auth/keys", body, key=limited)).status_code == 403
    agent = await api.agent()
    body = {"name": "key-of-agent", "role_ids": ["r-agent"], "agent_id": agent.id, "person": "eve"}
    assert (await api.call("POST", "/api/v1/auth/keys", body)).status_code == 400


async def test_a_key_made_with_a_persons_key_is_theirs(api):
    roles = ["r-admin"]
    bob = await key_of(api, "bob", role_ids=roles)
    bob = await rotated(api, "bob", bob)
    child = (await api.made("/api/v1/auth/keys", {"name": "bobs-other", "role_ids": roles}, key=bob))["key_value"]
    job, _ = await waiting(api, bob)
    assert await decide(api, job, child) == 403
    assert await decide(api, job, api.admin) == 200


async def test_a_role_that_was_changed_meanwhile_is_not_overwritten(api):
    role = (await api.made("/api/v1/auth/roles", {"name": "readers"}))["id"]
    path = f"/api/v1/auth/roles/{role}"
    tag = (await api.call("GET", path)).headers["etag"]
    assert tag.startswith('"1-')
    # what it holds is part of what was read
    answer = await api.call("POST", f"{path}/permissions", {"permission": "cert.read"})
    assert answer.status_code == 204
    old = {"If-Match": tag}
    for method, to, body in (
        ("PUT", path, {"description": "x"}),
        ("PATCH", path, {"description": "x"}),
        ("DELETE", path, None),
        ("DELETE", f"{path}/permissions/cert.read", None),
    ):
        assert (await api.call(method, to, body, headers=old)).status_code == 412, (method, to)
    tag = (await api.call("GET", path)).headers["etag"]
    changed = await api.call("PUT", path, {"description": "they read"}, headers={"If-Match": tag})
    assert (changed.status_code, changed.json()["row_version"]) == (200, 3)
    assert (await api.call("DELETE", f"{path}/permissions/cert.read", headers={"If-Match": '"3"'})).status_code == 204
    assert (await api.call("DELETE", path, headers={"If-Match": '"4"'})).status_code == 204
    # built-in ones never change, whatever was read of them
    tag = (await api.call("GET", "/api/v1/auth/roles/r-viewer")).headers["etag"]
    answer = await api.call("PUT", "/api/v1/auth/roles/r-viewer", {"description": "x"}, headers={"If-Match": tag})
    assert answer.status_code == 409


async def test_a_key_that_was_rotated_meanwhile_is_not_revoked(api):
    await api.key("r-viewer")
    row = next(row for row in (await api.get("/api/v1/auth/keys"))["keys"] if row["role_ids"] == ["r-viewer"])
    path = f"/api/v1/auth/keys/{row['id']}"
    tag = (await api.call("GET", path)).headers["etag"]
    assert (await api.get(path)) == row
    await api.made(f"{path}/rotate", {}, 200)
    assert (await api.call("DELETE", path, headers={"If-Match": tag})).status_code == 412
    assert (await api.call("GET", path)).json().get("revoked_at") is None
    tag = (await api.call("GET", path)).headers["etag"]
    assert (await api.call("DELETE", path, headers={"If-Match": tag})).status_code == 204
    assert (await api.call("GET", "/api/v1/auth/keys/nowhere")).status_code == 404


async def test_old_batches_go_with_their_items_and_running_ones_stay(api):
    for number in range(3):
        await api.made("/api/v1/certificates", {"id": f"mc-{number}", "common_name": f"{number}.example"})
    body = {"certificate_ids": ["mc-0", "mc-1", "mc-2"]}
    bulk = "/api/v1/certificates/bulk-reassign"
    owner = (await api.made("/api/v1/owners", {"name": "o"}))["id"]
    old = (await api.made(bulk, body | {"owner_id": owner}, 200, headers={"Prefer": "wait=30"}))["batch_id"]
    running = await api.call("POST", bulk, body | {"owner_id": owner}, headers={"Prefer": "respond-async"})
    assert running.status_code == 202, running.text
    running = running.json()["batch_id"]
    api.clock.moment += timedelta(days=89)
    young = (await api.made(bulk, body | {"owner_id": owner}, 200, headers={"Prefer": "wait=30"}))["batch_id"]
    assert await batches.purge(api.house.ctx, timedelta(days=90)) == 0
    api.clock.moment += timedelta(days=2)
    assert await batches.purge(api.house.ctx, timedelta(days=90)) == 4
    assert (await api.call("GET", f"/api/v1/batches/{old}")).status_code == 404
    for kept in (running, young):
        assert (await api.get(f"/api/v1/batches/{kept}/items"))["total"] == 3
    assert await batches.purge(api.house.ctx, timedelta(days=90)) == 0

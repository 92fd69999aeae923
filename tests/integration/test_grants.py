"""Roles, grants and keys through the API, on both databases: scopes hold, nobody gains, the last admin stays."""

from __future__ import annotations

import asyncio

import pytest

from certctl.core.secret import Secret
from certctl.doors.state import AppState
from certctl.store.wake import Wakeups
from integration.api_house import TOKEN, Api, create_api, hours, open_api

ROLES = "/api/v1/auth/roles"
KEYS = "/api/v1/auth/keys"


@pytest.fixture
async def api(tmp_path, database_url):
    async with open_api(tmp_path / "data", database_url) as fresh:
        yield fresh


async def status(api: Api, method: str, path: str, body=None, **more) -> int:
    return (await api.call(method, path, body, **more)).status_code


async def named_key(api: Api, name: str, *role_ids: str, **more) -> tuple[str, str]:
    made = await api.made(KEYS, {"name": name, "role_ids": list(role_ids)} | more)
    return made["id"], made["key_value"]


async def two_teams(api: Api) -> tuple[str, str]:
    web = (await api.made("/api/v1/teams", {"name": "web"}))["id"]
    mail = (await api.made("/api/v1/teams", {"name": "mail"}))["id"]
    for team, name in ((web, "web"), (mail, "mail")):
        await api.made("/api/v1/certificates", {"id": f"mc-{name}", "common_name": f"{name}.example", "team_id": team})
    return web, mail


async def test_a_role_of_ones_own_is_made_given_and_taken(api):
    role = await api.made(ROLES, {"name": "reader", "description": "reads certificates"})
    assert role["id"].startswith("r-")
    assert not role["built_in"]
    for permission in ("cert.read", "job.read"):
        assert await status(api, "POST", f"{ROLES}/{role['id']}/permissions", {"permission": permission}) == 204
    held = await api.get(f"{ROLES}/{role['id']}")
    assert [row["permission_id"] for row in held["permissions"]] == ["p-cert-read", "p-job-read"]
    _, key = await named_key(api, "reader-key", role["id"])
    assert await status(api, "GET", "/api/v1/certificates", key=key) == 200
    assert await status(api, "GET", "/api/v1/teams", key=key) == 403
    assert await status(api, "DELETE", f"{ROLES}/{role['id']}") == 409
    merge = {"headers": {"Content-Type": "application/merge-patch+json"}}
    patched = await api.call("PATCH", f"{ROLES}/{role['id']}", {"description": "new"}, **merge)
    assert (patched.status_code, patched.json()["description"], patched.json()["name"]) == (200, "new", "reader")
    assert await status(api, "PATCH", f"{ROLES}/r-viewer", {"description": "x"}, **merge) == 409
    # what the role loses, its holder loses with the answer
    assert await status(api, "DELETE", f"{ROLES}/{role['id']}/permissions/cert.read") == 204
    assert await status(api, "GET", "/api/v1/certificates", key=key) == 403
    assert await status(api, "DELETE", f"{ROLES}/{role['id']}/permissions/cert.read") == 404
    assert await status(api, "DELETE", f"{KEYS}/reader-key/roles/{role['id']}") == 204
    assert await status(api, "DELETE", f"{ROLES}/{role['id']}") == 204
    assert await status(api, "GET", f"{ROLES}/{role['id']}") == 404
    assert await status(api, "GET", "/api/v1/jobs", key=key) == 403


async def test_built_in_roles_never_change(api):
    listed = (await api.get(ROLES))["roles"]
    assert {row["id"] for row in listed if row["built_in"]} == {
        "r-admin", "r-operator", "r-cli", "r-mcp", "r-viewer", "r-agent", "r-auditor",
    }  # fmt: skip
    before = await api.get(f"{ROLES}/r-viewer")
    assert await status(api, "PUT", f"{ROLES}/r-viewer", {"name": "x"}) == 409
    assert await status(api, "DELETE", f"{ROLES}/r-viewer") == 409
    assert await status(api, "POST", f"{ROLES}/r-viewer/permissions", {"permission": "cert.issue"}) == 409
    assert await status(api, "DELETE", f"{ROLES}/r-viewer/permissions/cert.read") == 409
    assert await status(api, "POST", ROLES, {"name": "Viewer"}) == 409
    assert await api.get(f"{ROLES}/r-viewer") == before


async def test_grants_are_a_union_of_limits(api):
    web, mail = await two_teams(api)
    other = await api.made("/api/v1/teams", {"name": "dns"})
    await api.made("/api/v1/certificates", {"id": "mc-dns", "common_name": "dns.example", "team_id": other["id"]})
    _, key = await named_key(api, "limited", "r-operator", teams=[web])
    grant = {"role_id": "r-viewer", "scope_type": "team", "scope_id": mail}
    assert await status(api, "POST", f"{KEYS}/limited/roles", grant) == 204
    assert await status(api, "POST", f"{KEYS}/limited/roles", grant) == 204  # twice is once
    seen = await api.get("/api/v1/certificates", key=key)
    assert {row["id"] for row in seen["data"]} == {"mc-web", "mc-mail"}
    assert seen["total"] == 2
    # read there, not write: the permission that the route asks for decides how far one reaches
    assert await status(api, "PUT", "/api/v1/certificates/mc-mail", {"environment": "x"}, key=key) == 404
    assert await status(api, "PUT", "/api/v1/certificates/mc-web", {"environment": "x"}, key=key) == 200
    assert await status(api, "PUT", "/api/v1/certificates/mc-web", {"team_id": mail}, key=key) == 403
    assert await status(api, "GET", "/api/v1/certificates/mc-dns", key=key) == 404
    me = await api.get("/api/v1/auth/me", key=key)
    reached = {
        (row["scope_type"], row["scope_id"]) for row in me["effective_permissions"] if row["permission"] == "cert.read"
    }
    assert reached == {("team", web), ("team", mail)}
    assert await status(api, "DELETE", f"{KEYS}/limited/roles/r-viewer?scope_type=team&scope_id={web}") == 404
    assert await status(api, "DELETE", f"{KEYS}/limited/roles/r-viewer?scope_type=team&scope_id={mail}") == 204
    assert await status(api, "GET", "/api/v1/certificates/mc-mail", key=key) == 404


async def test_a_grant_that_expires(api):
    _, key = await named_key(api, "brief", "r-auditor")
    ends = (api.clock.now() + hours(1)).isoformat()
    assert await status(api, "POST", f"{KEYS}/brief/roles", {"role_id": "r-viewer", "expires_at": ends}) == 204
    assert await status(api, "GET", "/api/v1/certificates", key=key) == 200
    api.clock.moment += hours(1)
    assert await status(api, "GET", "/api/v1/certificates", key=key) == 403
    assert await status(api, "POST", f"{KEYS}/brief/roles", {"role_id": "r-viewer", "expires_at": ends}) == 400


async def test_nobody_gives_what_they_lack(api):
    web, mail = await two_teams(api)
    _, team_admin = await named_key(api, "web-admin", "r-admin", teams=[web])
    made = await api.made(KEYS, {"name": "web-reader", "role_ids": ["r-viewer"], "teams": [web]}, key=team_admin)
    for body in (
        {"role_id": "r-viewer"},
        {"role_id": "r-viewer", "scope_type": "team", "scope_id": mail},
        {"role_id": "r-viewer", "scope_type": "team", "scope_id": "team-that-is-not-there"},
        {"role_id": "r-viewer", "scope_type": "issuer", "scope_id": "iss-local"},
    ):
        assert await status(api, "POST", f"{KEYS}/web-reader/roles", body, key=team_admin) == 403, body
    mine = {"role_id": "r-operator", "scope_type": "team", "scope_id": web}
    assert await status(api, "POST", f"{KEYS}/web-reader/roles", mine, key=team_admin) == 204
    # keys of others are not there for a limited administrator: no grant, no rotation, no revocation, no listing
    assert await status(api, "POST", f"{KEYS}/admin/roles", mine, key=team_admin) == 404
    assert await status(api, "POST", f"{KEYS}/admin/rotate", {}, key=team_admin) == 404
    assert await status(api, "DELETE", f"{KEYS}/admin", key=team_admin) == 404
    listed = (await api.get(KEYS, key=team_admin))["keys"]
    assert {row["name"] for row in listed} == {"web-admin", "web-reader"}
    assert await status(api, "GET", ROLES, key=team_admin) == 403
    assert await status(api, "DELETE", f"{KEYS}/{made['id']}", key=team_admin) == 204


async def test_a_role_editor_cannot_lift_itself(api):
    role = (await api.made(ROLES, {"name": "editors"}))["id"]
    for permission in ("auth.role.edit", "auth.role.list", "auth.role.create", "cert.read"):
        assert await status(api, "POST", f"{ROLES}/{role}/permissions", {"permission": permission}) == 204
    _, key = await named_key(api, "editor", role)
    assert await status(api, "POST", f"{ROLES}/{role}/permissions", {"permission": "auth.key.create"}, key=key) == 403
    assert await status(api, "POST", f"{ROLES}/{role}/permissions", {"permission": "cert.read"}, key=key) == 204
    assert await status(api, "POST", f"{KEYS}/editor/roles", {"role_id": "r-admin"}, key=key) == 403
    assert await status(api, "GET", KEYS, key=key) == 403


async def test_rotating_a_stronger_key_would_be_a_theft(api):
    _, cli = await named_key(api, "cli", "r-cli")
    assert await status(api, "POST", f"{KEYS}/admin/rotate", {}, key=cli) == 403
    own = await api.call("POST", f"{KEYS}/cli/rotate", {}, key=cli)
    assert own.status_code == 200
    assert await status(api, "GET", "/api/v1/jobs", key=cli) == 401
    assert await status(api, "GET", "/api/v1/jobs", key=own.json()["key_value"]) == 200


async def test_a_key_that_ends_gives_nothing_that_lasts(api):
    ends = (api.clock.now() + hours(1)).isoformat()
    _, key = await named_key(api, "brief-admin", "r-admin", expires_at=ends)
    wish = {"name": "longer", "role_ids": ["r-viewer"]}
    assert await status(api, "POST", KEYS, wish, key=key) == 403
    assert await status(api, "POST", KEYS, wish | {"expires_at": ends}, key=key) == 201
    later = {"expires_at": (api.clock.now() + hours(2)).isoformat()}
    assert await status(api, "POST", f"{KEYS}/brief-admin/rotate", later, key=key) == 403


async def test_rotation_with_an_overlap(api):
    key_id, old = await named_key(api, "rotated", "r-viewer")
    answer = await api.call("POST", f"{KEYS}/{key_id}/rotate", {"overlap_seconds": 600})
    fresh = answer.json()["key_value"]
    assert fresh != old
    for value in (old, fresh):
        assert await status(api, "GET", "/api/v1/jobs", key=value) == 200
    # a second rotation leaves one old value, not two
    newest = (await api.call("POST", f"{KEYS}/{key_id}/rotate", {"overlap_seconds": 600})).json()["key_value"]
    assert [await status(api, "GET", "/api/v1/jobs", key=value) for value in (old, fresh, newest)] == [401, 200, 200]
    api.clock.moment += hours(1)
    assert [await status(api, "GET", "/api/v1/jobs", key=value) for value in (fresh, newest)] == [401, 200]
    assert await status(api, "POST", f"{KEYS}/{key_id}/rotate", {"overlap_seconds": 10**7}) == 400
    assert await status(api, "DELETE", f"{KEYS}/{key_id}") == 204
    assert [await status(api, "GET", "/api/v1/jobs", key=value) for value in (fresh, newest)] == [401, 401]
    assert await status(api, "POST", f"{KEYS}/{key_id}/rotate", {}) == 409
    told = str(await api.events("key_rotated"))
    assert old not in told
    assert newest not in told


async def test_the_last_lasting_administrator_stays(api):
    ends = (api.clock.now() + hours(1)).isoformat()
    await named_key(api, "brief-admin", "r-admin", expires_at=ends)
    await named_key(api, "web-admin", "r-admin", teams=["team-x"])
    for method, path, body in (
        ("DELETE", f"{KEYS}/admin", None),
        ("DELETE", f"{KEYS}/admin/roles/r-admin", None),
        ("POST", f"{KEYS}/admin/rotate", {"expires_at": ends}),
    ):
        assert await status(api, method, path, body) == 409, path
    assert await status(api, "GET", KEYS) == 200
    await named_key(api, "second", "r-auditor")
    assert await status(api, "POST", f"{KEYS}/second/roles", {"role_id": "r-admin"}) == 204
    assert await status(api, "DELETE", f"{KEYS}/admin/roles/r-admin") == 204
    assert await status(api, "GET", KEYS) == 403


async def test_two_who_remove_each_other_at_once_leave_one(api):
    _, second = await named_key(api, "second", "r-admin")
    answers = await asyncio.gather(
        api.call("DELETE", f"{KEYS}/second"), api.call("DELETE", f"{KEYS}/admin", key=second)
    )
    assert sorted(answer.status_code for answer in answers) in ([204, 409], [204, 401])
    alive = [await status(api, "GET", KEYS, key=key) for key in (api.admin, second)]
    assert sorted(alive) == [200, 401]


async def test_the_demo_actor_is_reserved(api):
    path = f"{KEYS}/actor-demo-anon/roles"
    assert await status(api, "POST", path, {"role_id": "r-viewer"}) == 409
    assert await status(api, "DELETE", f"{path}/r-viewer") == 409
    assert await status(api, "POST", KEYS, {"name": "actor-demo-anon", "role_ids": ["r-viewer"]}) == 409
    assert (await api.made("/api/v1/auth/demo-residual/cleanup", None, status=200))["removed"] == 0


async def test_grants_that_cannot_be(api):
    await named_key(api, "some", "r-viewer")
    for body in (
        {"role_id": "r-none"},
        {"role_id": "r-viewer", "scope_type": "owner", "scope_id": "x"},
        {"role_id": "r-viewer", "scope_type": "team", "scope_id": "nowhere"},
        {"role_id": "r-viewer", "scope_type": "global", "scope_id": "x"},
        {"role_id": "r-viewer", "expires_at": "2020-01-01T00:00:00Z"},
        {"role_id": "r-viewer", "expires_at": "2030-01-01T00:00:00"},
        {"role_id": 7},
        {},
    ):
        assert await status(api, "POST", f"{KEYS}/some/roles", body) == 400, body
    assert await status(api, "POST", f"{KEYS}/nobody/roles", {"role_id": "r-viewer"}) == 404


async def test_permissions_that_cannot_be_in_a_role(api):
    role = (await api.made(ROLES, {"name": "odd"}))["id"]
    for body in (
        {"permission": "cert.everything"},
        {"permission": "audit.read", "scope_type": "team", "scope_id": "x"},
        {"permission": "cert.read", "scope_type": "team", "scope_id": "nowhere"},
    ):
        assert await status(api, "POST", f"{ROLES}/{role}/permissions", body) == 400, body
    catalogue = (await api.get("/api/v1/auth/permissions"))["permissions"]
    assert len(catalogue) == 82
    assert {
        "id": "p-cert-read",
        "name": "cert.read",
        "namespace": "cert",
        "limited_by": ["issuer", "profile", "team"],
    } in catalogue


async def test_what_a_replica_changes_the_other_obeys(api):
    """The second replica hears nothing at all here: what bounds it is the age of what it remembers."""
    state = AppState(api.house.ctx, Wakeups(), 100_000, Secret(TOKEN), "0.1.0", api.clock.now())
    import httpx

    transport = httpx.ASGITransport(create_api(state), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="https://replica-b.test") as replica:
        _, key = await named_key(api, "roaming", "r-viewer")
        headers = {"Authorization": f"Bearer {key}"}
        assert (await replica.get("/api/v1/jobs", headers=headers)).status_code == 200
        assert await status(api, "DELETE", f"{KEYS}/roaming/roles/r-viewer") == 204
        assert await status(api, "GET", "/api/v1/jobs", key=key) == 403  # here at once
        await asyncio.sleep(1.0)
        assert (await replica.get("/api/v1/jobs", headers=headers)).status_code == 403
        assert await status(api, "DELETE", f"{KEYS}/roaming") == 204
        await asyncio.sleep(1.0)
        assert (await replica.get("/api/v1/jobs", headers=headers)).status_code == 401

"""Lists that come in one piece unless pages are asked for: roles, permissions, an issuer's CAs, a certificate's places."""

from __future__ import annotations

from typing import Any

import pytest

from certctl.core.permissions import PERMISSIONS, ROLES
from integration.api_house import Api, open_api

ROLES_AT = "/api/v1/auth/roles"
PERMISSIONS_AT = "/api/v1/auth/permissions"
CAS_AT = "/api/v1/issuers/iss-local/intermediates"


@pytest.fixture
async def api(database_url, tmp_path):
    async with open_api(tmp_path / "data", database_url) as fresh:
        yield fresh


async def walk(api: Api, path: str, word: str, query: str = "") -> list[dict[str, Any]]:
    """Every row, two by two."""
    rows: list[dict[str, Any]] = []
    cursor = ""
    for _ in range(200):
        page = await api.get(f"{path}?page_size=2&{query}&cursor={cursor}")
        rows += page[word]
        cursor = page.get("next_cursor", "")
        if not cursor:
            return rows
    raise AssertionError("the list never ends")


async def names(api: Api, path: str, word: str, query: str) -> list[str]:
    return [row["name"] for row in (await api.get(f"{path}?{query}"))[word]]


async def test_roles(api):
    for name in ("zoo", "auditors"):
        await api.made(ROLES_AT, {"name": name, "description": f"of {name}"})
    whole = await api.get(ROLES_AT)
    shown = [row["name"] for row in whole["roles"]]
    assert shown == [*(role.name for role in ROLES.values()), "auditors", "zoo"]
    assert (whole["total"], whole.get("next_cursor")) == (len(shown), None)
    assert {row["tenant_id"] for row in whole["roles"]} == {"t-default"}
    assert [row["built_in"] for row in whole["roles"]] == [True] * len(ROLES) + [False] * 2
    for sort in ("place", "-place", "name", "-name", "createdAt", "-createdAt"):
        every = await names(api, ROLES_AT, "roles", f"sort={sort}")
        assert [row["name"] for row in await walk(api, ROLES_AT, "roles", f"sort={sort}")] == every
        assert sorted(every) == sorted(shown)
    assert await names(api, ROLES_AT, "roles", "built_in=false&sort=-name") == ["zoo", "auditors"]
    assert await names(api, ROLES_AT, "roles", "built_in=false&q=AUD") == ["auditors"]
    assert (await api.get(f"{ROLES_AT}?fields=id&q=r-viewer"))["roles"] == [{"id": "r-viewer"}]
    one = next(row for row in whole["roles"] if row["name"] == "zoo")
    assert (await api.get(f"{ROLES_AT}/{one['id']}"))["role"] == one, "the list tells what the role itself does"


async def test_permissions(api):
    whole = await api.get(PERMISSIONS_AT)
    assert [row["name"] for row in whole["permissions"]] == sorted(PERMISSIONS)
    assert whole["total"] == len(PERMISSIONS)
    assert [row["name"] for row in await walk(api, PERMISSIONS_AT, "permissions", "sort=-name")] == sorted(
        PERMISSIONS, reverse=True
    )
    found = await names(api, PERMISSIONS_AT, "permissions", "namespace=cert")
    assert found == sorted(name for name in PERMISSIONS if name.startswith("cert."))
    assert await names(api, PERMISSIONS_AT, "permissions", "q=cert.rev") == ["cert.revoke"]
    (one,) = (await api.get(f"{PERMISSIONS_AT}?q=cert.issue"))["permissions"]
    assert (one["namespace"], one["limited_by"]) == ("cert", ["issuer", "profile", "team"])


async def test_the_generations_of_an_issuer(api):
    whole = await api.get(CAS_AT)
    assert {row["kind"] for row in whole["data"]} == {"root", "intermediate"}
    assert whole["total"] == len(whole["data"])
    (root,) = (await api.get(f"{CAS_AT}?kind=root"))["data"]
    made = {"name": "second", "parent_ca_id": root["id"], "ttl_days": 90}
    answer = await api.call("POST", CAS_AT, made | {"subject": {"common_name": "Second CA"}})
    assert answer.status_code == 201, answer.text
    every = (await api.get(CAS_AT))["data"]
    assert [row["id"] for row in await walk(api, CAS_AT, "data")] == [row["id"] for row in every]
    assert await names(api, CAS_AT, "data", "q=SEC") == ["second"]
    assert {row["state"] for row in (await api.get(f"{CAS_AT}?state=active&kind=intermediate"))["data"]} == {"active"}
    assert [
        row["id"]
        for row in (await api.get(f"{CAS_AT}?expires_before={root['not_before']}".replace("+", "%2B")))["data"]
    ] == []
    assert (await api.call("GET", "/api/v1/issuers/iss-none/intermediates")).status_code == 404


async def test_where_a_certificate_is(api):
    agent = await api.agent()
    targets = [await api.target(agent, f"site-{number}") for number in range(3)]
    body = {"id": "mc-1", "common_name": "one.example", "target_ids": targets[:2]}
    await api.made("/api/v1/certificates", body)
    await api.made("/api/v1/certificates", {"id": "mc-2", "common_name": "two.example", "target_ids": targets[2:]})
    while await agent.serve():
        pass
    path = "/api/v1/certificates/mc-1/deployments"
    whole = await api.get(path)
    assert [row["id"] for row in whole["data"]] == sorted(targets[:2])
    assert whole["total"] == 2
    assert {row["deployment"]["status"] for row in whole["data"]} <= {"applied", "verified"}
    assert [row["id"] for row in await walk(api, path, "data", "sort=-name")] == [targets[1], targets[0]]
    assert await names(api, path, "data", "q=site-1") == ["site-1"]
    assert await names(api, path, "data", f"agent_id={agent.id}&sort=name") == ["site-0", "site-1"]
    assert await names(api, path, "data", "enabled=false") == []
    first = await api.get(f"{path}?page=1&per_page=1")
    assert (first["total"], len(first["data"]), bool(first["next_cursor"])) == (2, 1, True)
    other = "/api/v1/certificates/mc-2/deployments"
    assert (await api.get(other))["total"] == 1
    assert (await api.call("GET", "/api/v1/certificates/mc-none/deployments")).status_code == 404


async def test_what_is_wrong_is_told(api):
    for path, query in (
        (ROLES_AT, "colour=red"),
        (ROLES_AT, "sort=colour"),
        (PERMISSIONS_AT, "page=0"),
        (CAS_AT, "expires_before=yesterday"),
        (CAS_AT, "cursor=nonsense"),
    ):
        assert (await api.call("GET", f"{path}?{query}")).status_code == 400, (path, query)
    cursor = (await api.get(f"{ROLES_AT}?page_size=2"))["next_cursor"]
    assert (await api.call("GET", f"{PERMISSIONS_AT}?cursor={cursor}")).status_code == 400

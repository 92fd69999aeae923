"""Agent groups match for real, and agents leave with what hangs on them; on both databases."""

from __future__ import annotations

import pytest

from integration.api_house import hours, open_api

GROUPS = "/api/v1/agent-groups"


@pytest.fixture
async def api(tmp_path, database_url):
    async with open_api(tmp_path / "data", database_url) as fresh:
        yield fresh


async def enrol(api, name, *, group="", **said):
    wanted = {"agent_group": group} if group else {"agent_name": name}
    token = await api.made("/api/v1/agents/enrolment-tokens", wanted)
    body = {"name": name, "hostname": f"{name}.test", "os": "linux", "version": "2.1.0"} | said
    return (await api.made("/api/v1/agents", body, key=token["token"]))["id"]


async def names(api, group_id):
    page = await api.get(f"{GROUPS}/{group_id}/members")
    assert page["total"] == len(page["data"])
    return [agent["name"] for agent in page["data"]]


async def test_members_are_whoever_matches_now(api):
    await enrol(api, "web-1", ip_address="10.1.0.1", architecture="amd64")
    await enrol(api, "web-2", ip_address="2001:db8::2", architecture="arm64", version="2.2.0-rc1")
    await enrol(api, "win-1", os="Windows", ip_address="10.1.0.9")
    made = await api.made(GROUPS, {"id": "ag-v4", "name": "v4", "match_ip_cidr": "10.1.0.0/16", "match_os": "linux"})
    assert set(made) == {
        "id", "name", "description", "match_os", "match_architecture", "match_ip_cidr", "match_version", "enabled",
        "created_at", "updated_at", "row_version",
    }  # fmt: skip
    assert made["enabled"] is True
    await api.made(GROUPS, {"id": "ag-v6", "name": "v6", "match_ip_cidr": "2001:db8::/32"})
    await api.made(GROUPS, {"id": "ag-new", "name": "new", "match_version": ">2.1, <3"})
    await api.made(GROUPS, {"id": "ag-none", "name": "nobody asked"})
    assert await names(api, "ag-v4") == ["web-1"]
    assert await names(api, "ag-v6") == await names(api, "ag-new") == ["web-2"]
    assert await names(api, "ag-none") == []
    shown = {agent["name"]: agent.get("groups", []) for agent in (await api.get("/api/v1/agents"))["data"]}
    assert shown == {"web-1": ["ag-v4"], "web-2": ["ag-new", "ag-v6"], "win-1": []}

    answer = await api.call("PUT", f"{GROUPS}/ag-v4", {"match_os": ""})
    assert answer.status_code == 200, answer.text
    assert answer.json()["match_ip_cidr"] == "10.1.0.0/16"
    page = await api.get(f"{GROUPS}/ag-v4/members?per_page=1&page=2")
    assert (page["total"], [agent["name"] for agent in page["data"]]) == (2, ["win-1"])
    assert (await api.call("PUT", f"{GROUPS}/ag-v4", {"enabled": False})).status_code == 200
    assert await names(api, "ag-v4") == []
    assert (await api.call("DELETE", f"{GROUPS}/ag-v4")).status_code == 204
    assert (await api.call("GET", f"{GROUPS}/ag-v4/members")).status_code == 404
    assert [group["id"] for group in (await api.get(GROUPS))["data"]] == ["ag-new", "ag-none", "ag-v6"]


async def test_agents_enrolled_into_a_group_keep_it(api):
    await api.made(GROUPS, {"id": "ag-edge", "name": "edge"})
    agent_id = await enrol(api, "web-1", group="edge")
    assert await names(api, "ag-edge") == ["web-1"]
    answer = await api.call("DELETE", f"{GROUPS}/ag-edge")
    assert answer.status_code == 409
    assert answer.json()["counts"] == {"agents": 1, "enrolment_tokens": 0}
    assert answer.json()["error"] == answer.json()["code"] == "blocked_by_dependencies"
    assert (await api.call("PUT", f"{GROUPS}/ag-edge", {"name": "rim"})).status_code == 200
    assert await names(api, "ag-edge") == ["web-1"]
    assert (await api.get(f"/api/v1/agents/{agent_id}"))["groups"] == ["ag-edge"]
    # a name that frees up means somebody else now
    await api.made(GROUPS, {"id": "ag-other", "name": "edge"})
    assert await names(api, "ag-other") == []
    assert (await api.call("POST", f"/api/v1/agents/{agent_id}/retire", {})).status_code == 200
    await api.made("/api/v1/agents/enrolment-tokens", {"agent_group": "ag-edge", "expires_in_seconds": 60})
    answer = await api.call("DELETE", f"{GROUPS}/ag-edge")
    assert answer.json()["counts"] == {"agents": 0, "enrolment_tokens": 1}
    api.clock.moment += hours(1)
    assert (await api.call("DELETE", f"{GROUPS}/ag-edge")).status_code == 204


async def test_groups_that_cannot_be(api):
    await api.made(GROUPS, {"id": "ag-1", "name": "one"})
    before = await api.get(GROUPS)
    for body, status, field in (
        ({"name": "x", "match_ip_cidr": "10.0.0.1/8", "match_version": "latest"}, 400, "match_ip_cidr"),
        ({"name": ""}, 400, "name"),
        ({"id": "../x", "name": "x"}, 400, "id"),
        ({"name": "ag-1"}, 400, "name"),
        ({"id": "one", "name": "two"}, 400, "id"),
        ({"name": "x", "match_os": 5}, 400, "match_os"),
        ({"name": "x", "members": []}, 400, "members"),
        ({"name": "one"}, 409, None),
        ({"id": "ag-1", "name": "x"}, 409, None),
    ):
        answer = await api.call("POST", GROUPS, body)
        assert answer.status_code == status, answer.text
        if field:
            assert answer.json()["violations"][0]["field"] == field
    answer = await api.call("PUT", f"{GROUPS}/ag-1", {"match_version": "=>1"})
    assert answer.status_code == 400
    assert (await api.call("PUT", f"{GROUPS}/ag-2", {"name": "x"})).status_code == 404
    assert (await api.call("DELETE", f"{GROUPS}/ag-2")).status_code == 404
    assert await api.get(GROUPS) == before
    viewer = await api.key("r-viewer")
    assert (await api.call("GET", GROUPS, key=viewer)).status_code == 200
    assert (await api.call("POST", GROUPS, {"name": "x"}, key=viewer)).status_code == 403


async def test_an_agent_is_retired_with_what_hangs_on_it(api):
    agent = await api.agent()
    path = f"/api/v1/agents/{agent.id}/retire"
    target_id = await api.target(agent)
    certificate = await api.made("/api/v1/certificates", {"common_name": "a.example", "target_ids": [target_id]})
    counts = {"active_targets": 1, "active_certificates": 1, "pending_jobs": 1}
    for answer in (await api.call("POST", path, {}), await api.call("DELETE", f"/api/v1/agents/{agent.id}")):
        assert answer.status_code == 409
        assert answer.json()["error"] == "blocked_by_dependencies"
        assert answer.json()["counts"] == counts
    answer = await api.call("POST", path, {"force": True})
    assert answer.status_code == 400
    assert answer.json()["violations"][0]["field"] == "reason"
    viewer = await api.key("r-viewer")
    assert (await api.call("POST", path, {"force": True, "reason": "x"}, key=viewer)).status_code == 403
    assert (await agent.call("POST", f"/api/v1/agents/{agent.id}/heartbeat", {})).status_code == 200

    answer = await api.call("POST", path, {"force": True, "reason": "host gone"})
    assert answer.status_code == 200, answer.text
    assert answer.json() | {"retired_at": None} == {
        "retired_at": None, "already_retired": False, "cascade": True, "counts": counts,
    }  # fmt: skip
    (job,) = (await api.get("/api/v1/jobs"))["data"]
    assert job["status"] == "Cancelled", "nobody is left to do it"
    assert "host gone" in job["last_error"]
    assert (await api.get(f"/api/v1/targets/{target_id}"))["retired_reason"] == "host gone"
    shown = await api.get(f"/api/v1/certificates/{certificate['id']}")
    assert shown["status"] != "RenewalInProgress"
    assert (await agent.call("POST", f"/api/v1/agents/{agent.id}/heartbeat", {})).status_code == 410
    assert (await api.call("POST", path, {"force": True, "reason": "again"})).status_code == 204
    assert (await api.get(f"/api/v1/agents/{agent.id}"))["retired_reason"] == "host gone"
    assert (await api.call("POST", "/api/v1/agents/nobody/retire", {})).status_code == 404


async def test_what_is_in_use_says_what_uses_it(api):
    await api.made("/api/v1/teams", {"id": "team-a", "name": "A"})
    await api.made("/api/v1/owners", {"id": "o-1", "name": "One", "team_id": "team-a"})
    body = {"common_name": "a.example", "team_id": "team-a", "owner_id": "o-1"}
    await api.made("/api/v1/certificates", body)
    for path, counts in (
        ("teams/team-a", {"owners": 1, "certificates": 1}),
        ("owners/o-1", {"certificates": 1}),
        ("profiles/prof-default", {"certificates": 1, "renewal_policies": 0}),
        ("renewal-policies/rp-default", {"certificates": 1}),
        ("issuers/iss-local", {"certificates": 1, "versions": 0}),
    ):
        answer = await api.call("DELETE", f"/api/v1/{path}")
        assert answer.status_code == 409, answer.text
        assert answer.json()["counts"] == counts, path

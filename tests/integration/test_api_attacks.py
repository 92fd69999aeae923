"""Each route under attack: clear errors, nothing changed. On SQLite; the store's own tests cover both databases."""

from __future__ import annotations

import json

import httpx
import pytest

from certctl.doors.edge import Edge
from integration.api_house import LIMIT, NGINX, TOKEN, hours, open_api

PROBLEM = "application/problem+json"


@pytest.fixture
async def api(tmp_path):
    async with open_api(tmp_path / "data") as fresh:
        yield fresh


def is_problem(answer: httpx.Response, status: int) -> dict:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == PROBLEM
    body = answer.json()
    assert body["status"] == status
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["message"] == body["detail"]
    assert {"type", "title", "code", "error"} <= set(body)
    return body


# -- who may call ---------------------------------------------------------------------------------------------------


async def test_no_key_wrong_key_wrong_scheme(api):
    assert is_problem(await api.call("GET", "/api/v1/certificates", key=""), 401)
    answer = await api.call("GET", "/api/v1/certificates", key="ctk_guessed")
    is_problem(answer, 401)
    assert answer.headers["www-authenticate"] == 'Bearer realm="certctl"'
    answer = await api.call("GET", "/api/v1/certificates", key="", headers={"Authorization": f"Basic {api.admin}"})
    is_problem(answer, 401)
    denied = await api.events("call_denied")
    assert len(denied) == 3
    assert {row["actor_type"] for row in denied} == {"Anonymous"}
    assert "ctk_guessed" not in str(denied)


async def test_unknown_callers_do_not_fill_the_log(api):
    for _ in range(30):
        is_problem(await api.call("GET", "/api/v1/jobs", key="nobody"), 401)
    assert len(await api.events("call_denied")) == 10


async def test_an_expired_and_a_revoked_key(api):
    ends = (api.clock.now() + hours(1)).isoformat()
    key = await api.key("r-viewer", expires_at=ends)
    assert (await api.call("GET", "/api/v1/jobs", key=key)).status_code == 200
    api.clock.moment += hours(2)
    assert "expired" in is_problem(await api.call("GET", "/api/v1/jobs", key=key), 401)["message"]
    key = await api.key("r-viewer")
    mine = (await api.get("/api/v1/auth/keys"))["keys"][-1]
    assert (await api.call("DELETE", f"/api/v1/auth/keys/{mine['id']}")).status_code == 204
    assert "revoked" in is_problem(await api.call("GET", "/api/v1/jobs", key=key), 401)["message"]


async def test_a_viewer_reads_and_changes_nothing(api):
    key = await api.key("r-viewer")
    assert (await api.call("GET", "/api/v1/certificates", key=key)).status_code == 200
    for method, path, body in (
        ("POST", "/api/v1/certificates", {"common_name": "a.example"}),
        ("DELETE", "/api/v1/certificates/x", None),
        ("POST", "/api/v1/certificates/x/revoke", {}),
        ("POST", "/api/v1/targets", {}),
        ("POST", "/api/v1/agents/enrolment-tokens", {"agent_name": "x"}),
        ("DELETE", "/api/v1/agents/x", None),
        ("POST", "/api/v1/auth/keys", {"name": "mine", "role_ids": ["r-admin"]}),
        ("GET", "/api/v1/auth/keys", None),
        ("PUT", "/api/v1/issuers/iss-local", {"enabled": False}),
        ("DELETE", "/api/v1/profiles/prof-default", None),
    ):
        body = is_problem(await api.call(method, path, body, key=key), 403)
        assert "permission" in body["message"]
    assert (await api.get("/api/v1/certificates"))["total"] == 0
    assert len(await api.events("call_denied")) == 10


async def test_nobody_gives_more_than_they_have(api):
    key = await api.key("r-cli")
    wish = {"name": "stronger", "role_ids": ["r-admin"]}
    is_problem(await api.call("POST", "/api/v1/auth/keys", wish, key=key), 403)
    team = (await api.made("/api/v1/teams", {"name": "web"}))["id"]
    limited = await api.key("r-cli", teams=[team])
    wish = {"name": "wider", "role_ids": ["r-viewer"]}
    is_problem(await api.call("POST", "/api/v1/auth/keys", wish, key=limited), 403)
    assert (await api.made("/api/v1/auth/keys", wish | {"teams": [team]}, key=limited))["key_value"]


async def test_a_scoped_key_sees_its_own_and_creates_within(api):
    team = (await api.made("/api/v1/teams", {"name": "web"}))["id"]
    other = (await api.made("/api/v1/teams", {"name": "mail"}))["id"]
    await api.made("/api/v1/certificates", {"id": "mc-mail", "common_name": "mail.example", "team_id": other})
    key = await api.key("r-operator", teams=[team])
    is_problem(await api.call("GET", "/api/v1/certificates/mc-mail", key=key), 404)
    assert (await api.get("/api/v1/certificates", key=key))["total"] == 0
    beyond = {"common_name": "x.example", "team_id": other}
    is_problem(await api.call("POST", "/api/v1/certificates", beyond, key=key), 403)
    is_problem(await api.call("POST", "/api/v1/certificates/mc-mail/revoke", {}, key=key), 404)


async def test_the_last_key_that_makes_keys_stays(api):
    admin = (await api.get("/api/v1/auth/keys"))["keys"][0]
    is_problem(await api.call("DELETE", f"/api/v1/auth/keys/{admin['id']}"), 409)
    assert (await api.call("GET", "/api/v1/auth/me")).status_code == 200


async def test_bootstrap_is_once_and_its_token_is_judged(api):
    body = {"token": TOKEN, "actor_name": "again"}
    # the first answer was lost with a dying server: asked again while its key was never used, there is a fresh value
    lost, api.admin = api.admin, (await api.made("/api/v1/auth/bootstrap", body, key=""))["key_value"]
    assert (await api.call("GET", "/api/v1/auth/me", key=lost)).status_code == 401
    assert (await api.call("GET", "/api/v1/auth/me")).status_code == 200
    assert await api.get("/api/v1/auth/bootstrap", key="") == {"available": False}
    is_problem(await api.call("POST", "/api/v1/auth/bootstrap", body, key=""), 410)


async def test_a_wrong_bootstrap_token_changes_nothing(tmp_path):
    from certctl.control import keys
    from certctl.core.errors import NotAuthenticated
    from certctl.core.secret import Secret

    async with open_api(tmp_path / "data") as api:
        # a second house on an empty tenant would be the real thing; the function is what decides
        import dataclasses

        from certctl.core.scope import Scope

        ctx = dataclasses.replace(api.house.ctx, scope=Scope.whole("t-other"))
        with pytest.raises(NotAuthenticated):
            await keys.bootstrap(ctx, Secret(TOKEN), Secret("wrong"), "admin")
        assert await keys.bootstrap_is_open(ctx, Secret(TOKEN))
        assert not await keys.bootstrap_is_open(ctx, None)


# -- agents ---------------------------------------------------------------------------------------------------------


async def test_an_agent_speaks_for_itself_alone(api):
    mine, other = await api.agent("web-1"), await api.agent("web-2")
    target_id = await api.target(other)
    await api.made("/api/v1/certificates", {"id": "mc-a", "common_name": "a.example", "target_ids": [target_id]})
    is_problem(await mine.call("GET", f"/api/v1/agents/{other.id}/work"), 403)
    is_problem(await mine.call("POST", f"/api/v1/agents/{other.id}/heartbeat", {}), 403)
    (item,) = await other.work()
    stolen = {"csr_pem": "", "job_id": item["id"], "step_id": item["step_id"], "fence": item["fence"]}
    is_problem(await mine.call("POST", f"/api/v1/agents/{other.id}/csr", stolen), 403)
    answer = await mine.csr(item)
    is_problem(answer, 403)
    report = {"status": "Failed", "error": "x", "step_id": item["step_id"], "fence": item["fence"]}
    is_problem(await mine.call("POST", f"/api/v1/agents/{mine.id}/jobs/{item['id']}/status", report), 403)
    report = {"target_id": target_id, "expected_fingerprint": "0", "step_id": item["step_id"], "fence": item["fence"]}
    is_problem(await mine.call("POST", f"/api/v1/jobs/{item['id']}/verify", report), 403)
    is_problem(await mine.call("GET", f"/api/v1/agents/{mine.id}/certificates/mc-a"), 404)
    assert (await other.csr(item)).status_code == 202


async def test_an_agent_is_no_operator_and_an_operator_no_agent(api):
    agent = await api.agent()
    certificates = "/api/v1/certificates"
    for path in ("/api/v1/agents", "/api/v1/jobs", "/api/v1/auth/keys", "/api/v1/targets", certificates):
        is_problem(await agent.call("GET", path), 403)
    is_problem(await agent.call("POST", "/api/v1/certificates", {"common_name": "x.example"}), 403)
    is_problem(await api.call("GET", f"/api/v1/agents/{agent.id}/work"), 403)


async def test_a_stale_fence_a_retired_agent_a_wrong_protocol(api):
    agent = await api.agent()
    target_id = await api.target(agent)
    await api.made("/api/v1/certificates", {"common_name": "a.example", "target_ids": [target_id]})
    (item,) = await agent.work()
    is_problem(await agent.csr(item | {"fence": item["fence"] + 1}), 409)
    answer = await agent.call("GET", f"/api/v1/agents/{agent.id}/work", headers={"Certctl-Agent-Protocol": "2"})
    assert "protocol" in is_problem(answer, 400)["message"]
    is_problem(await agent.call("GET", f"/api/v1/agents/{agent.id}/work?wait=-1"), 400)
    is_problem(await agent.call("GET", f"/api/v1/agents/{agent.id}/work?wait=nan"), 400)
    is_problem(await agent.call("DELETE", f"/api/v1/agents/{agent.id}/work"), 405)
    is_problem(await api.call("DELETE", f"/api/v1/agents/{agent.id}"), 409)
    answer = await api.call("DELETE", f"/api/v1/agents/{agent.id}?force=true&reason=host+gone")
    assert answer.status_code == 200, answer.text
    assert answer.json()["cascade"] is True
    is_problem(await agent.call("GET", f"/api/v1/agents/{agent.id}/work"), 410)
    is_problem(await agent.call("POST", f"/api/v1/agents/{agent.id}/heartbeat", {}), 410)
    assert (await api.call("DELETE", f"/api/v1/agents/{agent.id}")).status_code == 204
    assert [row["id"] for row in (await api.get("/api/v1/agents/retired"))["data"]] == [agent.id]
    assert (await api.get("/api/v1/agents"))["data"] == []


async def test_a_token_lets_one_agent_in_once(api):
    token = (await api.made("/api/v1/agents/enrolment-tokens", {"agent_name": "web-1"}))["token"]
    said = {"name": "web-2", "hostname": "h"}
    is_problem(await api.call("POST", "/api/v1/agents", said, key=token), 403)
    said = {"name": "web-1", "hostname": "h"}
    assert (await api.call("POST", "/api/v1/agents", said, key=token)).status_code == 201
    is_problem(await api.call("POST", "/api/v1/agents", said, key=token), 401)
    # an operator's key registers an agent of the reference product, and gets no credential for it
    is_problem(await api.call("POST", "/api/v1/agents", said, key=api.admin), 409)
    is_problem(await api.call("POST", "/api/v1/agents", said, key=await api.key("r-viewer")), 403)
    assert "credential" not in await api.made("/api/v1/agents", {"name": "web-3", "hostname": "h"})
    is_problem(await api.call("POST", "/api/v1/agents/enrolment-tokens", {}), 400)


async def test_only_what_was_seen_is_verified(api):
    agent = await api.agent()
    target_id = await api.target(agent)
    await api.made("/api/v1/certificates", {"id": "mc-a", "common_name": "a.example", "target_ids": [target_id]})
    (item,) = await agent.work()
    await agent.csr(item)
    (item,) = await agent.work()
    await agent.deploy(item)
    (item,) = await agent.work()
    agent.serves = "00" * 32
    answer = await agent.verify(item)
    assert (answer.status_code, answer.json()["verified"]) == (200, False), "verified: true is nobody's word"
    (place,) = (await api.get("/api/v1/certificates/mc-a/deployments"))["data"]
    assert place["deployment"]["status"] != "verified"


# -- bodies, paths, queries -----------------------------------------------------------------------------------------


async def test_a_body_that_is_too_large(api):
    big = json.dumps({"common_name": "a" * LIMIT}).encode()
    headers = {"Authorization": f"Bearer {api.admin}", "Content-Type": "application/json"}
    is_problem(await api.http.post("/api/v1/certificates", content=big, headers=headers), 413)

    async def unannounced():
        for start in range(0, len(big), 10_000):
            yield big[start : start + 10_000]

    is_problem(await api.http.post("/api/v1/certificates", content=unannounced(), headers=headers), 413)
    agent = await api.agent()
    path = f"/api/v1/agents/{agent.id}/csr"
    own = headers | {"Authorization": f"Bearer {agent.credential}"}
    is_problem(await api.http.post(path, content=unannounced(), headers=own), 413)
    assert (await api.get("/api/v1/certificates"))["total"] == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "JSON"),
        (b"", "body"),
        (b"[]", "object"),
        (b'"text"', "object"),
        (b"\xff\xfe", "JSON"),
        (b'{"common_name": "a\\u0000b"}', "NUL"),
        (b'{"commonname": "a.example"}', "did you mean common_name?"),
        (b'{"common_name": 7}', "common_name"),
        (b'{"common_name": "a.example", "sans": "b.example"}', "sans"),
        (b'{"common_name": "a.example", "validity_seconds": "3600"}', "validity_seconds"),
        (b'{"common_name": "a.example", "validity_seconds": 99999999999}', "validity_seconds"),
        (b'{"common_name": "a.example", "validity_seconds": -1}', "validity_seconds"),
        (b'{"common_name": "a.example", "id": "../x"}', "id"),
        (b'{"common_name": "not a name"}', "DNS name"),
        (b'{"common_name": "a.example", "issuer_id": "iss-none"}', "iss-none"),
        (b'{"common_name": "a.example", "target_ids": ["t-none"]}', "t-none"),
        (b'{"sans": ["a.example"]}', "common_name"),
        (b"[" * 50_000, "JSON"),
    ],
)
async def test_bodies_that_say_nothing_good(api, content, message):
    headers = {"Authorization": f"Bearer {api.admin}", "Content-Type": "application/json; charset=utf-8"}
    body = is_problem(await api.http.post("/api/v1/certificates", content=content, headers=headers), 400)
    assert message in body["message"]
    assert (await api.get("/api/v1/certificates"))["total"] == 0


async def test_every_fault_is_told_at_once_and_read_only_fields_are_ignored(api):
    body = {"common_name": "a.example", "issuer_id": "i", "owner_id": "o", "target_ids": ["t"]}
    told = is_problem(await api.call("POST", "/api/v1/certificates", body), 400)
    assert {each["field"] for each in told["violations"]} == {"issuer_id", "owner_id", "target_ids[0]"}
    made = await api.made("/api/v1/certificates", {"common_name": "a.example", "status": "Active", "expires_at": None})
    assert made["status"] == "Pending"
    again = {name: made[name] for name in made} | {"environment": "production"}
    answer = await api.call("PUT", f"/api/v1/certificates/{made['id']}", again)
    assert (answer.status_code, answer.json()["environment"]) == (200, "production"), answer.text
    is_problem(await api.call("PUT", f"/api/v1/certificates/{made['id']}", {"id": "other"}), 400)
    is_problem(await api.call("POST", "/api/v1/certificates", {"id": made["id"], "common_name": "b.example"}), 409)


async def test_what_the_profile_forbids_is_told_and_recorded(api):
    body = {"common_name": "a.example", "validity_seconds": 10 * 365 * 86400}
    told = is_problem(await api.call("POST", "/api/v1/certificates", body), 422)
    assert told["violations"]
    (denied,) = await api.events("call_denied")
    assert (denied["actor"], denied["details"]["status"]) == ("admin", 422)


async def test_media_types(api):
    headers = {"Authorization": f"Bearer {api.admin}", "Content-Type": "text/xml"}
    answer = await api.http.post("/api/v1/certificates", content=b"<x/>", headers=headers)
    is_problem(answer, 415)


@pytest.mark.parametrize(
    "query",
    ["page=0", "page=-1", "page=99999999999999999999", "per_page=501", "per_page=0", "per_page=many", "page=1.5"],
)
async def test_pages_that_are_none(api, query):
    body = is_problem(await api.call("GET", f"/api/v1/certificates?{query}"), 400)
    assert body["violations"][0]["field"] == query.partition("=")[0]


async def test_queries_that_are_none(api):
    for path in (
        "/api/v1/certificates?sort=secret",
        "/api/v1/certificates?expires_before=soon",
        "/api/v1/certificates?expires_before=2026-01-01T00:00:00",
        "/api/v1/jobs/x?wait=61",
        "/api/v1/certificates/x/export/pem?download=perhaps",
        "/api/v1/certificates?q=%00",
    ):
        is_problem(await api.call("GET", path), 400)
    assert (await api.get("/api/v1/certificates?page=10000000&per_page=500"))["data"] == []
    assert (await api.get("/api/v1/certificates?q=%25&sort=-notAfter&expires_before=2030-01-01T00:00:00Z"))[
        "total"
    ] == 0


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/", "/api/v1/certificates/..%2Fx", "/api/v1/certificates/x/y/z"])
async def test_paths_that_lead_nowhere(api, path):
    is_problem(await api.call("GET", path), 404)


async def test_wrong_methods(api):
    answer = await api.call("PATCH", "/api/v1/certificates")
    is_problem(answer, 405)
    assert "GET" in answer.headers["allow"]
    is_problem(await api.call("GET", "/api/v1/certificates/%00"), 400)


async def test_a_bug_shows_nothing_and_is_answered(api):
    async def broken(scope, receive, send):
        raise RuntimeError("the password is hunter2")

    transport = httpx.ASGITransport(Edge(broken, api.state))
    async with httpx.AsyncClient(transport=transport, base_url="https://x.test") as http:
        answer = await http.get("/")
    assert is_problem(answer, 500)["code"] == "internal"
    assert "hunter2" not in answer.text


async def test_every_answer_has_its_headers_and_a_request_id_of_ours(api):
    answer = await api.call("GET", "/health", key="", headers={"X-Request-ID": "mine"})
    assert answer.headers["x-request-id"] != "mine"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "max-age" in answer.headers["strict-transport-security"]
    assert answer.json() == {"status": "healthy"}
    assert (await api.get("/ready", key="")) == {"status": "ready", "db": "connected"}
    assert (await api.get("/api/v1/version", key=""))["version"] == "0.1.0"


# -- what is configured ---------------------------------------------------------------------------------------------


async def test_targets_are_judged_at_once_and_retired_when_used(api):
    agent = await api.agent()
    good = {"name": "site", "type": "NGINX", "agent_id": agent.id, "config": NGINX}
    for change, field in (
        ({"type": "Toaster"}, "type"),
        ({"agent_id": "agent-none"}, "agent_id"),
        ({"agent_id": ""}, "agent_id"),
        ({"config": NGINX | {"cert_pth": "/x"}}, "config.cert_pth"),
        ({"config": NGINX | {"cert_path": 7}}, "config"),
        ({"name": ""}, "name"),
    ):
        body = is_problem(await api.call("POST", "/api/v1/targets", good | change), 400)
        assert body["violations"][0]["field"] == field
    made = await api.made("/api/v1/targets", good)
    is_problem(await api.call("POST", "/api/v1/targets", good), 409)
    assert (await api.made(f"/api/v1/targets/{made['id']}/test", None, 200))["status"] == "success"
    is_problem(await api.call("PUT", f"/api/v1/targets/{made['id']}", {"type": "Apache"}), 400)
    is_problem(await api.call("PUT", f"/api/v1/targets/{made['id']}", {"config": {"x": 1}}), 400)
    assert (await api.get(f"/api/v1/targets/{made['id']}"))["config"] == NGINX
    await api.made("/api/v1/certificates", {"common_name": "a.example", "target_ids": [made["id"]]})
    assert (await api.call("DELETE", f"/api/v1/targets/{made['id']}")).status_code == 204
    assert (await api.get(f"/api/v1/targets/{made['id']}"))["retired_at"]
    is_problem(await api.call("PUT", f"/api/v1/targets/{made['id']}", {"enabled": True}), 409)
    unused = await api.made("/api/v1/targets", good | {"name": "unused"})
    assert (await api.call("DELETE", f"/api/v1/targets/{unused['id']}")).status_code == 204
    is_problem(await api.call("GET", f"/api/v1/targets/{unused['id']}"), 404)


async def test_profiles_policies_owners_teams_issuers(api):
    for change, field in (
        ({"allowed_ekus": ["everything"]}, "allowed_ekus[0]"),
        ({"allowed_key_algorithms": [{"algorithm": "RSA", "min_size": 1024}]}, "allowed_key_algorithms[0].min_size"),
        ({"allowed_key_algorithms": [{"algorithm": "DSA"}]}, "allowed_key_algorithms[0].algorithm"),
        ({"allow_short_lived": True, "max_ttl_seconds": 7200}, "max_ttl_seconds"),
    ):
        body = is_problem(await api.call("POST", "/api/v1/profiles", {"name": "p"} | change), 400)
        assert body["violations"][0]["field"] == field
    await api.made("/api/v1/profiles", {"id": "prof-web", "name": "web", "max_ttl_seconds": 86400})
    answer = await api.call("PUT", "/api/v1/profiles/prof-web", {"must_staple": True})
    assert (answer.json()["version"], answer.json()["max_ttl_seconds"]) == (2, 86400)

    is_problem(await api.call("POST", "/api/v1/renewal-policies", {"name": "r", "renewal_window_days": 400}), 400)
    policy = await api.made("/api/v1/renewal-policies", {"name": "r"})
    assert policy["renewal_window_days"] == 30
    answer = await api.call("PUT", f"/api/v1/renewal-policies/{policy['id']}", {"renewal_window_fraction": 0.5})
    assert (answer.json()["renewal_window_fraction"], answer.json()["renewal_window_days"]) == (0.5, None)

    team = await api.made("/api/v1/teams", {"name": "web"})
    is_problem(await api.call("POST", "/api/v1/owners", {"name": "o", "team_id": "t-none"}), 400)
    is_problem(await api.call("POST", "/api/v1/owners", {"name": "o", "email": "nobody"}), 400)
    owner = await api.made("/api/v1/owners", {"name": "o", "email": "o@example.com", "team_id": team["id"]})
    is_problem(await api.call("DELETE", f"/api/v1/teams/{team['id']}"), 409)
    wanted = {"id": "mc-a", "common_name": "a.example", "owner_id": owner["id"], "certificate_profile_id": "prof-web"}
    await api.made("/api/v1/certificates", wanted | {"renewal_policy_id": policy["id"]})
    for path in (f"owners/{owner['id']}", "profiles/prof-web", f"renewal-policies/{policy['id']}", "issuers/iss-local"):
        is_problem(await api.call("DELETE", f"/api/v1/{path}"), 409)
    assert (await api.made("/api/v1/issuers/iss-local/test", None, 200))["status"] == "connection_successful"
    is_problem(await api.call("POST", "/api/v1/issuers", {"name": "x", "type": "local"}), 400)
    is_problem(await api.call("POST", "/api/v1/issuers", {"name": "x", "type": "Toaster"}), 400)
    names = [row["type"] for row in await api.events("config_created")]
    assert len(names) >= 4


async def test_the_inventory_is_paged_and_counted(api):
    for number in range(7):
        await api.made("/api/v1/teams", {"name": f"team-{number}"})
    page = await api.get("/api/v1/teams?page=2&per_page=3")
    assert ([row["name"] for row in page["data"]], page["total"]) == (["team-3", "team-4", "team-5"], 7)
    assert (page["page"], page["per_page"]) == (2, 3)


async def test_the_document_is_served_and_holds_nothing_of_this_installation(api):
    from certctl.api.app import openapi_document

    document = await api.get("/api/v1/openapi.json", key="")
    assert document == openapi_document()
    assert document["openapi"].startswith("3.1")
    assert "/api/v1/agents/{agent_id}/work" in document["paths"]


async def test_the_page_to_read_names_no_other_host_and_runs_nothing(api):
    answer = await api.call("GET", "/api/v1/docs", key="")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "script" not in policy
    for word in ("<script", "javascript:", " style=", " onclick", "src=", "//"):
        assert word not in answer.text.partition("<pre>")[0], word
    style = await api.call("GET", "/api/v1/docs/style.css", key="")
    assert style.status_code == 200 and style.headers["content-type"].startswith("text/css")
    assert "url(" not in style.text and "@import" not in style.text

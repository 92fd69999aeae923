"""A client of the reference product, unmodified: the requests that its command line sends, byte for byte, and what it
reads from the answers. Its agent's calls are played in test_reference_agent.
"""

from __future__ import annotations

import json

import pytest

from integration.api_house import open_api

# what Go's HTTP client and the reference's command line put on every request
HEADERS = {
    "Accept-Encoding": "gzip",
    "User-Agent": "Go-http-client/1.1",
    "Content-Type": "application/json",
    "X-Actor": "somebody-else",
}
ZERO = "0001-01-01T00:00:00Z"  # Go's time.Time that was never set


@pytest.fixture
async def api(database_url, tmp_path):
    async with open_api(tmp_path / "data", database_url) as fresh:
        yield fresh


@pytest.fixture
def send(api):
    async def call(method, path, body=None, *, status=200, key=None):
        headers = HEADERS | {"Authorization": f"Bearer {key or api.admin}"}
        content = None if body is None else json.dumps(body, separators=(",", ":")) + "\n"
        answer = await api.http.request(method, path, headers=headers, content=content)
        assert answer.status_code == status, f"{answer.status_code} {answer.text}"
        assert "X-Actor" not in answer.headers
        return answer.json() if answer.content else None

    return call


async def furnish(send):
    """Names that the reference's import demands."""
    await send("POST", "/api/v1/teams", {"id": "t-platform", "name": "Platform", "description": ""}, status=201)
    owner = {"id": "o-alice", "name": "Alice", "email": "alice@example.com", "team_id": "t-platform"}
    await send("POST", "/api/v1/owners", owner, status=201)
    policy = {
        "id": "rp-mine",
        "name": "Mine",
        "renewal_window_days": 30,
        "auto_renew": True,
        "max_retries": 3,
        "retry_interval_seconds": 3600,
        "alert_thresholds_days": [30, 14, 7, 0],
    }
    await send("POST", "/api/v1/renewal-policies", policy, status=201)


def whole(**given):
    """A certificate as Go marshals it: every field, nothing omitted, lists that were never made as null."""
    return {
        "id": "",
        "name": "",
        "common_name": "",
        "sans": None,
        "environment": "",
        "owner_id": "o-alice",
        "team_id": "t-platform",
        "issuer_id": "iss-local",
        "target_ids": None,
        "renewal_policy_id": "rp-mine",
        "status": "",
        "expires_at": ZERO,
        "tags": None,
        "created_at": ZERO,
        "updated_at": ZERO,
    } | given


async def test_status_and_version(send):
    assert (await send("GET", "/health"))["status"]
    summary = await send("GET", "/api/v1/stats/summary")
    assert {"total_certificates", "expiring_certificates", "active_agents", "pending_jobs"} <= set(summary)
    assert (await send("GET", "/api/v1/version"))["version"]
    assert (await send("GET", "/api/v1/auth/info"))["auth_type"] == "api-key"


async def test_certs_list_get_and_import(send):
    await furnish(send)
    # certs list: --status left out is sent as nothing at all; import sends whole records
    empty = await send("GET", "/api/v1/certificates?page=1&per_page=50")
    assert {"data", "total", "page", "per_page"} <= set(empty)
    body = whole(name="shop", common_name="shop.example.com", sans=["shop.example.com"], environment="imported")
    made = await send("POST", "/api/v1/certificates", body, status=201)
    assert made["status"] in {"Pending", "Active"} and made["expires_at"] != ZERO
    listed = await send("GET", "/api/v1/certificates?status=pending&page=1&per_page=50")
    row = next(each for each in listed["data"] if each["id"] == made["id"])
    assert {"id", "common_name", "status", "expires_at", "issuer_id"} <= set(row)
    one = await send("GET", f"/api/v1/certificates/{made['id']}")
    assert {"id", "name", "common_name", "status", "issuer_id", "owner_id", "expires_at", "sans"} <= set(one)
    # PUT sends back what it read, read-only fields and all
    changed = await send("PUT", f"/api/v1/certificates/{made['id']}", one | {"environment": "production"})
    assert changed["environment"] == "production"


async def issued(api, send, name="held"):
    agent = await api.agent(f"host-{name}")
    target_id = await api.target(agent, name)
    body = whole(id=f"mc-{name}", name=name, common_name=f"{name}.example", target_ids=[target_id])
    await send("POST", "/api/v1/certificates", body, status=201)
    await agent.serve()
    return agent


async def test_certs_renew_in_every_way_it_is_asked(api, send):
    await furnish(send)
    await issued(api, send)
    for path, body in (
        ("/api/v1/certificates/mc-held/renew", None),
        ("/api/v1/certificates/mc-held/renew", {"force": True}),
        ("/api/v1/certificates/mc-held/renew?force=true", {}),
    ):
        assert (await send("POST", path, body, status=202))["status"] == "renewal_triggered"
    refused = await send("POST", "/api/v1/certificates/mc-held/renew", {"force": False}, status=409)
    assert refused["error"] == "Conflict" and refused["message"] and refused["request_id"]


async def test_certs_revoke_takes_both_spellings(api, send):
    await furnish(send)
    for name, reason in (("camel", "keyCompromise"), ("snake", "key_compromise"), ("long", "cessation_of_operation")):
        await issued(api, send, name)
        answer = await send("POST", f"/api/v1/certificates/mc-{name}/revoke", {"reason": reason})
        assert answer["status"] == "revoked"
        now = await send("GET", f"/api/v1/certificates/mc-{name}")
        assert now["status"] == "Revoked" and now["revoked_at"]


async def test_certs_bulk_revoke(api, send):
    await furnish(send)
    await issued(api, send)
    body = {"reason": "unspecified", "certificate_ids": ["mc-held"]}
    answer = await send("POST", "/api/v1/certificates/bulk-revoke", body)
    assert (answer["total_matched"], answer["total_revoked"], answer["total_skipped"], answer["total_failed"]) == (
        1, 1, 0, 0,
    )  # fmt: skip
    again = await send("POST", "/api/v1/certificates/bulk-revoke", {"reason": "superseded", "owner_id": "o-alice"})
    assert again["total_failed"] == 0


async def test_agents_list_get_and_retire(api, send):
    await furnish(send)
    agent = await issued(api, send)
    listed = await send("GET", "/api/v1/agents?page=1&per_page=50")
    assert {"id", "hostname", "status", "os", "architecture", "ip_address"} <= set(listed["data"][0])
    one = await send("GET", f"/api/v1/agents/{agent.id}")
    assert {"version", "last_heartbeat_at"} <= set(one)
    blocked = await send("DELETE", f"/api/v1/agents/{agent.id}", status=409)
    assert blocked["message"]
    gone = await send("DELETE", f"/api/v1/agents/{agent.id}?force=true&reason=decommissioned")
    assert {"retired_at", "already_retired", "cascade", "counts"} <= set(gone)
    assert gone["counts"]["active_targets"] == 1
    await send("DELETE", f"/api/v1/agents/{agent.id}?force=true&reason=decommissioned", status=204)
    retired = await send("GET", "/api/v1/agents/retired?page=1&per_page=50")
    assert retired["data"][0]["retired_reason"] == "decommissioned"


async def test_jobs_list_get_and_cancel(api, send):
    await furnish(send)
    await issued(api, send)
    await send("POST", "/api/v1/certificates/mc-held/renew", {"force": False}, status=202)
    listed = await send("GET", "/api/v1/jobs?status=AwaitingCSR&type=Renewal&page=1&per_page=50")
    (job,) = listed["data"]
    assert {"id", "type", "certificate_id", "status", "attempts"} <= set(job)
    assert (await send("GET", f"/api/v1/jobs/{job['id']}"))["id"] == job["id"]
    assert (await send("POST", f"/api/v1/jobs/{job['id']}/cancel"))["status"] == "job_cancelled"


async def test_auth_me_permissions_and_keys(api, send):
    me = await send("GET", "/api/v1/auth/me")
    assert {"actor_id", "actor_type", "tenant_id", "admin", "roles", "effective_permissions"} <= set(me)
    keys = (await send("GET", "/api/v1/auth/keys"))["keys"]
    assert {"actor_id", "actor_type", "tenant_id", "role_ids"} <= set(keys[0])


async def test_a_body_is_read_whatever_the_charset_says(api, send):
    """The reference ignores a body unless its type is exactly application/json; it is read here."""
    await furnish(send)
    await issued(api, send)
    headers = {"Authorization": f"Bearer {api.admin}", "Content-Type": "application/json; charset=utf-8"}
    for attempt in range(2):
        answer = await api.http.post("/api/v1/certificates/mc-held/renew", headers=headers, content=b'{"force":true}')
        assert answer.status_code == 202, (attempt, answer.text)


async def test_refusals_have_the_fields_its_client_prints(api, send):
    for method, path, status, phrase in (
        ("GET", "/api/v1/certificates/mc-none", 404, "Not Found"),
        ("POST", "/api/v1/certificates", 400, "Bad Request"),
    ):
        refused = await send(method, path, None if method == "GET" else {}, status=status)
        assert refused["error"] == phrase and refused["message"] and refused["request_id"]
    missing = await api.http.get("/api/v1/certificates")
    assert missing.status_code == 401 and missing.headers["www-authenticate"] == 'Bearer realm="certctl"'

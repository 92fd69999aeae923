"""Each change of what is configured is in the audit log as it was before and is after, and no secret is."""

from __future__ import annotations

import json

import pytest

from integration.api_house import NGINX, open_api


@pytest.fixture
async def api(database_url, tmp_path):
    async with open_api(tmp_path / "data", database_url) as fresh:
        yield fresh


MADE = (
    ("teams", "team", {"name": "red"}, {"description": "of the test"}),
    ("owners", "owner", {"name": "olga", "email": "o@x.example"}, {"email": "olga@x.example"}),
    ("profiles", "profile", {"name": "short"}, {"max_ttl_seconds": 86400, "allowed_ekus": ["clientAuth"]}),
    ("renewal-policies", "renewal_policy", {"name": "late"}, {"max_retries": 7}),
    ("agent-groups", "agent_group", {"name": "linux", "match_os": "linux"}, {"match_os": "*"}),
    (
        "policies",
        "policy",
        {"name": "life", "type": "CertificateLifetime", "config": {"max_days": 9}},
        {"config": {"max_days": 8}},
    ),
)


async def test_before_and_after_of_everything_configured(api):
    for path, subject, body, change in MADE:
        made = await api.made(f"/api/v1/{path}", body)
        where = f"/api/v1/{path}/{made['id']}"
        changed = await api.call("PUT", where, change)
        assert changed.status_code == 200, changed.text
        assert (await api.call("DELETE", where)).status_code == 204, path
        told = {}
        for kind in ("config_created", "config_updated", "config_deleted"):
            (event,) = [row for row in await api.events(kind) if row["subject_id"] == made["id"]]
            assert (event["subject_type"], event["actor"]) == (subject, "admin")
            told[kind] = event["details"]
        assert "before" not in told["config_created"]
        assert told["config_created"]["after"]["name"] == body["name"]
        edit = told["config_updated"]
        assert {name: edit["after"][name] for name in change} == change, path
        assert {name: edit["before"][name] for name in change} == {
            name: made.get(name) or type(change[name])() for name in change
        }
        assert "after" not in told["config_deleted"]
        assert {name: told["config_deleted"]["before"].get(name, type(change[name])()) for name in change} == change


async def test_keys_roles_and_certificates_too_and_no_secret(api):
    role = await api.made("/api/v1/auth/roles", {"name": "lookers", "description": "of the test"})
    key = await api.made("/api/v1/auth/keys", {"name": "one", "role_ids": [role["id"]], "teams": []})
    agent = await api.agent()
    target = await api.target(agent)
    body = {"id": "mc-1", "common_name": "a.example", "target_ids": [target], "environment": "test"}
    await api.made("/api/v1/certificates", body)
    assert (await api.call("PUT", "/api/v1/certificates/mc-1", {"environment": "live"})).status_code == 200
    changed = await api.call(
        "PUT", f"/api/v1/targets/{target}", {"config": NGINX | {"cert_path": "/etc/nginx/tls/b.crt"}}
    )
    assert changed.status_code == 200, changed.text
    (edit,) = [row for row in await api.events("certificate_updated") if row["subject_id"] == "mc-1"]
    assert (edit["details"]["before"], edit["details"]["after"]) == ({"environment": "test"}, {"environment": "live"})
    (edit,) = [row for row in await api.events("config_updated") if row["subject_id"] == target]
    assert edit["details"]["before"]["config"] == NGINX
    assert edit["details"]["after"]["config"]["cert_path"] == "/etc/nginx/tls/b.crt"
    assert (await api.call("PUT", "/api/v1/issuers/iss-local", {"enabled": False})).status_code == 200
    (edit,) = [row for row in await api.events("config_updated") if row["subject_id"] == "iss-local"]
    assert (edit["details"]["before"], edit["details"]["after"]) == ({"enabled": True}, {"enabled": False})
    (made,) = [row for row in await api.events("config_created") if row["subject_id"] == key["id"]]
    assert made["details"]["after"]["key_hash"] == "[redacted]"
    assert made["details"]["after"]["role_ids"] == [role["id"]]
    answer = await api.call("GET", "/api/v1/audit/export?from=2000-01-01T00:00:00Z&to=2100-01-01T00:00:00Z")
    listed = json.dumps((await api.get("/api/v1/audit?per_page=200"))["data"])
    for secret in (key["key_value"], api.admin, agent.credential):
        assert secret not in listed
        assert secret not in answer.text

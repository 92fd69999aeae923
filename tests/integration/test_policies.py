"""Rules of the organisation's own decide what is issued, and say who breaks them; on both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest

from certctl.core.actor import SYSTEM
from certctl.core.scope import Scope
from certctl.lifecycle import compliance, flow, renew
from integration.api_house import hours, open_api

POLICIES = "/api/v1/policies"
CERTIFICATES = "/api/v1/certificates"


@pytest.fixture
async def api(tmp_path, database_url):
    async with open_api(tmp_path / "data", database_url) as fresh:
        yield fresh


async def rule(api, rule_id, kind, config, severity="Error", **more):
    return await api.made(
        POLICIES, {"id": rule_id, "name": rule_id, "type": kind, "config": config, "severity": severity} | more
    )


async def served(api, agent):
    """The agent and the server take turns until nothing is left to do, however slow the machine is."""
    done = []
    while True:
        found = await agent.serve()
        live = [job for job in (await api.get("/api/v1/jobs"))["data"] if job["status"] in {"Pending", "Running"}]
        for job in live:
            await flow.drive(api.house.ctx, job["id"], timedelta(seconds=30))
        if not found:
            return done
        done += found


async def scan(api):
    looked = 0
    while found := await compliance.tick(api.house.ctx):
        looked += found
    return looked


async def violations(api, rule_id, **query):
    asked = "&".join(f"{name}={value}" for name, value in query.items())
    page = await api.get(f"{POLICIES}/{rule_id}/violations?{asked}")
    assert page["total"] >= len(page["data"])
    return page["data"]


async def test_error_and_critical_block_and_every_violation_is_told(api):
    await rule(api, "pr-env", "AllowedEnvironments", {"allowed": ["production"]}, "Error")
    await rule(api, "pr-life", "certificatelifetime", {"max_days": 30}, "Critical")
    await rule(api, "pr-owner", "RequiredMetadata", {"required_keys": ["owner"]}, "Warning")
    await rule(api, "pr-off", "AllowedDomains", {"allowed_domains": ["other.example"]}, "Critical", enabled=False)
    answer = await api.call("POST", CERTIFICATES, {"common_name": "a.example", "validity_seconds": 40 * 86400})
    assert answer.status_code == 422
    assert [each["rule"] for each in answer.json()["violations"]] == ["environment_is_not_allowed", "life_is_too_long"]
    assert [each["field"] for each in answer.json()["violations"]] == ["environment", "validity_seconds"]
    assert (await api.get(CERTIFICATES))["data"] == []

    agent = await api.agent()
    body = {"common_name": "a.example", "environment": "production", "validity_seconds": 86400}
    made = await api.made(CERTIFICATES, body | {"target_ids": [await api.target(agent)]})
    assert await served(api, agent) == ["prepare", "deploy", "verify"]
    (warned,) = await violations(api, "pr-owner")
    assert set(warned) == {"id", "certificate_id", "rule_id", "message", "severity", "created_at"}
    assert (warned["certificate_id"], warned["rule_id"], warned["severity"]) == (made["id"], "pr-owner", "Warning")
    assert await violations(api, "pr-env") == []
    assert len(await api.events("policy_violation")) == 1

    await api.made("/api/v1/owners", {"id": "o-1", "name": "One"})
    answer = await api.call("PUT", f"{CERTIFICATES}/{made['id']}", {"owner_id": "o-1"})
    assert answer.status_code == 200, answer.text
    assert await violations(api, "pr-owner") == []
    (cured,) = await violations(api, "pr-owner", resolved="true")
    assert cured["resolved_at"]
    assert len(await api.events("policy_violation_resolved")) == 1
    # what is said of it may change, and is held against the rules at once; another name passes the door
    answer = await api.call("PUT", f"{CERTIFICATES}/{made['id']}", {"environment": "playground"})
    assert answer.status_code == 200, answer.text
    assert [row["severity"] for row in await violations(api, "pr-env")] == ["Error"]
    answer = await api.call("PUT", f"{CERTIFICATES}/{made['id']}", {"sans": ["a.example", "b.example"]})
    assert answer.status_code == 422


async def test_renewal_goes_through_the_same_door(api):
    agent = await api.agent()
    body = {"common_name": "a.example", "validity_seconds": 86400, "target_ids": [await api.target(agent)]}
    made = await api.made(CERTIFICATES, body)
    await served(api, agent)
    await rule(api, "pr-env", "AllowedEnvironments", {"allowed": ["production"]})
    answer = await api.call("POST", f"{CERTIFICATES}/{made['id']}/renew", {})
    assert answer.status_code == 422, answer.text
    assert answer.json()["violations"][0]["rule"] == "environment_is_not_allowed"
    # and when the rule comes between the request and its approval, approve is what refuses
    await api.call("PUT", f"{POLICIES}/pr-env", {"enabled": False})
    ctx = api.house.ctx
    (job,) = await renew.trigger(ctx, ctx.scope, SYSTEM, made["id"])
    await api.call("PUT", f"{POLICIES}/pr-env", {"enabled": True})
    await flow.drive(ctx, job.id, timedelta(seconds=30))
    shown = await api.get(f"/api/v1/jobs/{job.id}")
    assert shown["status"] == "Failed"
    assert "environment" in shown["last_error"]
    (denied,) = await api.events("request_denied")
    assert denied["details"]["violations"][0]["rule"] == "environment_is_not_allowed"
    assert [row["certificate_id"] for row in await violations(api, "pr-env")] == [made["id"]]


async def test_a_changed_rule_is_held_against_the_inventory_in_batches(api, monkeypatch):
    monkeypatch.setattr(compliance, "BATCH", 3)
    ids = [(await api.made(CERTIFICATES, {"common_name": f"n{number}.example"}))["id"] for number in range(7)]
    await rule(api, "pr-dom", "AllowedDomains", {"allowed_domains": ["n1.example", "n2.example"]}, "Critical")
    assert (await api.get(f"{POLICIES}/pr-dom"))["is_evaluated"] is False
    assert await compliance.tick(api.house.ctx) == 3, "one batch a transaction"
    assert await scan(api) >= 4
    assert (await api.get(f"{POLICIES}/pr-dom"))["is_evaluated"] is True
    broken = {row["certificate_id"] for row in await violations(api, "pr-dom")}
    assert len(broken) == 5 and broken < set(ids)
    assert await scan(api) == 0, "nothing is due"
    (page,) = [await api.get(f"{POLICIES}/pr-dom/violations?per_page=2&page=3")]
    assert (page["total"], len(page["data"])) == (5, 1)

    # edited in the middle of a scan: begun anew, and what is cured is resolved
    await api.call("PUT", f"{POLICIES}/pr-dom", {"config": {"allowed_domains": ["n1.example"]}})
    await compliance.tick(api.house.ctx)
    await api.call("PUT", f"{POLICIES}/pr-dom", {"config": {"allowed_domains": ["re:n[0-9]\\.example"]}})
    await scan(api)
    assert await violations(api, "pr-dom") == []
    assert len(await violations(api, "pr-dom", resolved="true")) >= 5
    # a rule that is switched off accuses nobody
    await api.call("PUT", f"{POLICIES}/pr-dom", {"config": {"allowed_domains": ["n1.example"]}})
    await scan(api)
    assert len(await violations(api, "pr-dom")) == 6
    assert (await api.call("DELETE", f"{CERTIFICATES}/{ids[0]}")).is_success
    await api.call("PUT", f"{POLICIES}/pr-dom", {"enabled": False})
    await scan(api)
    assert await violations(api, "pr-dom") == []
    assert (await api.call("DELETE", f"{POLICIES}/pr-dom")).status_code == 204
    assert (await api.call("GET", f"{POLICIES}/pr-dom/violations")).status_code == 404


async def test_time_makes_violations_too(api):
    agent = await api.agent()
    body = {"common_name": "a.example", "target_ids": [await api.target(agent)], "renewal_policy_id": "rp-standard"}
    await api.made(CERTIFICATES, body)
    await served(api, agent)
    await rule(api, "pr-lead", "RenewalLeadTime", {"lead_time_days": 14}, "Warning")
    await scan(api)
    assert await violations(api, "pr-lead") == []
    api.clock.moment += hours(24 * 80)
    assert await scan(api), "once a day"
    (row,) = await violations(api, "pr-lead")
    assert "not renewed" in row["message"]


async def test_a_dry_run_tells_and_writes_nothing(api, monkeypatch):
    monkeypatch.setattr(compliance, "BATCH", 2)
    await api.made("/api/v1/teams", {"id": "team-a", "name": "A"})
    await api.made(CERTIFICATES, {"common_name": "mine.example", "team_id": "team-a"})
    for number in range(4):
        await api.made(CERTIFICATES, {"common_name": f"n{number}.example"})
    asked = {"type": "AllowedDomains", "config": {"allowed_domains": ["n1.example"]}, "limit": 2}
    found = await api.made(f"{POLICIES}/dry-run", asked, status=200)
    assert (found["looked_at"], found["violations"], len(found["offenders"])) == (5, 4, 2)
    assert found["complete"] is True
    assert set(found["offenders"][0]) == {"certificate_id", "name", "message"}
    assert (await api.get(POLICIES))["data"] == []
    # a rule is everybody's: whoever is limited to a team neither writes nor tries one, and reads their own violations alone
    key = await api.key("r-operator", teams=["team-a"])
    assert (await api.call("POST", f"{POLICIES}/dry-run", asked, key=key)).status_code == 403
    await rule(api, "pr-dom", asked["type"], asked["config"], "Warning")
    assert (await api.made(f"{POLICIES}/pr-dom/evaluate", {}, status=200))["violations"] == 4
    assert await violations(api, "pr-dom") == []
    await scan(api)
    assert len(await violations(api, "pr-dom")) == 4
    page = await api.get(f"{POLICIES}/pr-dom/violations", key=key)
    assert (page["total"], len(page["data"])) == (1, 1)
    # a trial whose time is up says so and goes on where it stood
    from certctl.control import policies

    monkeypatch.setattr(policies, "_TRIAL_SECONDS", 0.0)
    part = await api.made(f"{POLICIES}/pr-dom/evaluate", {}, status=200)
    assert (part["complete"], part["looked_at"]) == (False, 2)
    rest = await api.made(f"{POLICIES}/pr-dom/evaluate", {"after": part["after"]}, status=200)
    assert rest["looked_at"] == 2


async def test_rules_that_cannot_be(api):
    good = {"name": "x", "type": "CertificateLifetime", "config": {"max_days": 9}}
    made = await api.made(POLICIES, good | {"id": "pr-1"})
    assert set(made) - {"is_evaluated"} == {
        "id", "name", "type", "config", "enabled", "severity", "created_at", "updated_at", "row_version",
    }  # fmt: skip
    assert (made["severity"], made["enabled"]) == ("Warning", True)
    before = await api.get(POLICIES)
    for change, status, field in (
        ({"name": "y", "type": "KeyStrength"}, 400, "type"),
        ({"name": "y", "severity": "Fatal"}, 400, "severity"),
        ({"name": "y", "config": {"max_days": 9, "maxdays": 1}}, 400, "config.maxdays"),
        ({"name": "y", "config": {}}, 400, "config.max_days"),
        ({"name": "y", "config": {"max_days": True}}, 400, "config.max_days"),
        ({"name": "y", "config": []}, 400, "config"),
        ({"name": "y", "type": "AllowedIssuers", "config": {"allowed_issuer_ids": ["iss-local", "iss-x"]}}, 400, "config.allowed_issuer_ids[1]"),
        ({"name": "y", "colour": 1}, 400, "colour"),
        ({}, 409, None),
        ({"id": "pr-1", "name": "y"}, 409, None),
    ):  # fmt: skip
        answer = await api.call("POST", POLICIES, good | change)
        assert answer.status_code == status, answer.text
        if field:
            assert answer.json()["violations"][0]["field"] == field
    assert (await api.call("PUT", f"{POLICIES}/pr-1", {"type": "AllowedIssuers"})).status_code == 400
    assert (await api.call("POST", f"{POLICIES}/dry-run", {"type": "Nothing"})).status_code == 400
    assert (await api.call("PUT", f"{POLICIES}/pr-2", {"name": "z"})).status_code == 404
    assert (await api.call("POST", f"{POLICIES}/pr-2/evaluate", {})).status_code == 404
    assert await api.get(POLICIES) == before
    viewer = await api.key("r-viewer")
    for method, path in (("POST", POLICIES), ("DELETE", f"{POLICIES}/pr-1"), ("POST", f"{POLICIES}/dry-run")):
        assert (await api.call(method, path, {}, key=viewer)).status_code == 403


async def test_another_tenants_rules_judge_nobody_here(api):
    from certctl.store import policies

    await rule(api, "pr-env", "AllowedEnvironments", {"allowed": ["production"]})
    async with api.house.database.read() as tx:
        assert await policies.in_force(tx, Scope.whole("t-other")) == []
        assert await policies.due(tx, Scope.whole("t-other"), api.clock.now()) is None

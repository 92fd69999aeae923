"""The fleet's figures are true: counted by SQL, never falling, the same on every replica; on both databases."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from unittest import mock

import pytest
from prometheus_client.parser import text_string_to_metric_families

from certctl.bootstrap import open_house
from certctl.connectors.issuers.local import LocalIssuer
from certctl.connectors.receivers.syslog import Syslog
from certctl.core.errors import Rejected
from certctl.lifecycle import observe, renew
from certctl.store import counters
from certctl.telemetry import metrics
from certctl.telemetry.metrics import Kind, Place
from certctl.telemetry.tally import Tally
from certctl.worker.counting import Counting
from certctl.worker.schedule import standard_ticks
from integration.api_house import open_api


@pytest.fixture
async def api(database_url, tmp_path):
    async with open_api(tmp_path / "data", database_url) as fresh:
        yield fresh


async def scrape(api, **more):
    answer = await api.call("GET", "/api/v1/metrics/prometheus", **more)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def issue(api, agent, target_id, certificate_id="mc-shop"):
    body = {"id": certificate_id, "common_name": f"{certificate_id}.example", "target_ids": [target_id]}
    await api.made("/api/v1/certificates", body)
    return await agent.serve()


async def test_what_happened_is_what_is_counted(api):
    before = await scrape(api)
    assert before["certctl_certificate_total", ()] == 0
    assert before["certctl_job_failed_total", ()] == 0, "a rate needs a first value to rise from"
    local = (("error_class", "other"), ("issuer_type", "local"))
    assert before["certctl_issuance_failures_total", local] == 0

    agent = await api.agent()
    target_id = await api.target(agent)
    await issue(api, agent, target_id)
    after = await scrape(api)
    success = (("issuer_type", "local"), ("outcome", "success"))
    assert after["certctl_certificate_total", ()] == after["certctl_certificate_active", ()] == 1
    assert after["certctl_agent_total", ()] == 1
    assert after["certctl_job_completed_total", ()] == 2, "one issuance, one deployment"
    assert after["certctl_issuance_total", success] == 1
    assert after["certctl_issuance_duration_seconds_count", (("issuer_type", "local"),)] == 1
    bucket = (("issuer_type", "local"), ("le", "+Inf"))
    assert after["certctl_issuance_duration_seconds_bucket", bucket] == 1
    assert after["certctl_deploy_attempts_total", (("result", "success"), ("target_type", "NGINX"))] == 1
    assert after["certctl_certificate_next_expiry_timestamp_seconds", (("issuer_id", "iss-local"),)] > 0
    assert after["certctl_certificate_expires_before_renewal", ()] == 0

    shown = await api.get("/api/v1/metrics")
    assert shown["gauge"]["certificate_active"] == 1
    assert shown["counter"] == {"job_completed_total": 2, "job_failed_total": 0, "notifications_dead_total": 0}


async def test_a_failed_attempt_is_no_failed_job_and_a_look_at_the_wrong_certificate_counts(api):
    agent = await api.agent()
    target_id = await api.target(agent)
    await api.made("/api/v1/certificates", {"id": "mc-1", "common_name": "one.example", "target_ids": [target_id]})
    (item,) = await agent.work()
    await agent.csr(item)
    (item,) = await agent.work()
    said = {"status": "Failed", "error": "nginx -t says no", "error_kind": "temporary"}
    said |= {"step_id": item["step_id"], "fence": item["fence"]}
    await api.made(f"/api/v1/agents/{agent.id}/jobs/{item['id']}/status", said, 200, key=agent.credential)
    failed = (("result", "failure"), ("target_type", "NGINX"))
    seen = await scrape(api)
    assert (seen["certctl_deploy_attempts_total", failed], seen["certctl_job_failed_total", ()]) == (1, 0)

    api.clock.moment += timedelta(hours=1)
    (item,) = await agent.work()
    await agent.deploy(item)
    agent.serves = "00" * 32
    (item,) = await agent.work()
    assert (await agent.verify(item)).status_code == 200
    seen = await scrape(api)
    assert seen["certctl_deploy_post_verify_failures_total", (("target_type", "NGINX"),)] == 1


async def test_soon_and_online_are_counted_to_the_second(api):
    agent = await api.agent()
    target_id = await api.target(agent)
    await issue(api, agent, target_id)
    await agent.call("POST", f"/api/v1/agents/{agent.id}/heartbeat", {"boot_id": agent.boot_id})
    expires = (await api.get("/api/v1/certificates/mc-shop"))["expires_at"]
    end, beaten = datetime.fromisoformat(expires), api.clock.moment
    for moment, online in ((beaten + timedelta(minutes=5), 1), (beaten + timedelta(minutes=5, seconds=1), 0)):
        api.clock.moment = moment
        assert (await scrape(api))["certctl_agent_online", ()] == online
    wanted = (
        (end - timedelta(days=30, seconds=1), 0, 0),
        (end - timedelta(days=30), 1, 0),
        (end - timedelta(seconds=1), 1, 0),
        (end, 0, 1),
    )
    for moment, soon, expired in wanted:
        api.clock.moment = moment
        seen = await scrape(api)
        assert (seen["certctl_certificate_expiring_soon", ()], seen["certctl_certificate_expired", ()]) == (
            soon,
            expired,
        ), moment
    await api.call("DELETE", f"/api/v1/agents/{agent.id}?force=true&reason=test")
    seen = await scrape(api)
    assert seen["certctl_agent_total", ()] == seen["certctl_agent_online", ()] == 0, "retired agents are in neither"


async def test_counters_survive_restarts_and_are_the_same_on_a_second_replica(api, database_url):
    agent = await api.agent()
    await issue(api, agent, await api.target(agent))
    fold = next(tick for tick in standard_ticks(**_periods()) if tick.name == "count")
    assert await fold.run(api.house.ctx) > 0
    assert await fold.run(api.house.ctx) == 0
    seen = await scrape(api)
    assert seen["certctl_job_completed_total", ()] == 2
    await issue(api, agent, await api.target(agent, "second"), "mc-two")
    if not database_url.startswith("sqlite"):
        async with open_house(api.house.settings) as other, other.database.read() as tx:
            totals = await counters.totals(tx, other.ctx.scope)
            assert totals["certctl_job_completed_total"]["{}"] == 4, "folded and not yet folded, told as one"
    assert (await scrape(api))["certctl_job_completed_total", ()] == 4


def _periods():
    return {"renewal": timedelta(hours=1), "agent_health": timedelta(hours=1), "crl": timedelta(hours=1)}


async def test_nothing_is_counted_twice_or_lost_while_it_is_folded(api):
    """Writers, folders and a reader side by side: what is read never falls, and ends at what was written."""
    ctx, seen = api.house.ctx, []
    fold = next(tick for tick in standard_ticks(**_periods()) if tick.name == "count")
    writing = True

    async def write():
        for _ in range(40):
            async with ctx.database.begin("count.write") as tx:
                tx.count(ctx.scope.tenant_id, metrics.NOTIFICATION_DEAD)

    async def fold_on():
        while writing:
            await fold.run(ctx)
            await asyncio.sleep(0)

    async def read():
        while writing:
            async with ctx.database.read() as tx:
                totals = await counters.totals(tx, ctx.scope)
            seen.append(totals.get("certctl_notification_dead_total", {}).get("{}", 0))

    others = [asyncio.create_task(fold_on()), asyncio.create_task(fold_on()), asyncio.create_task(read())]
    await asyncio.gather(*(write() for _ in range(5)))
    writing = False
    await asyncio.gather(*others)
    assert seen == sorted(seen)
    assert (await scrape(api))["certctl_notification_dead_total", ()] == 200


async def test_a_rolled_back_transaction_counts_nothing(api):
    ctx = api.house.ctx
    with pytest.raises(RuntimeError):
        async with ctx.database.begin("count.write") as tx:
            tx.count(ctx.scope.tenant_id, metrics.NOTIFICATION_DEAD)
            raise RuntimeError
    assert (await scrape(api))["certctl_notification_dead_total", ()] == 0


async def test_what_one_process_counted_in_memory_is_written_at_its_end(api):
    tally = Tally()
    counting = Counting(api.house.ctx, tally)
    running = asyncio.create_task(counting.run())
    for _ in range(3):
        tally.count(metrics.OCSP, label="request_post")
    counting.stop()
    await running
    assert (await scrape(api))["certctl_ocsp_counter_total", (("label", "request_post"),)] == 3


async def test_metrics_need_their_permission_and_the_whole_fleet(api):
    for role, status in (("r-viewer", 200), ("r-auditor", 403), ("r-agent", 403)):
        answer = await api.call("GET", "/api/v1/metrics/prometheus", key=await api.key(role))
        assert answer.status_code == status, role
    team = (await api.made("/api/v1/teams", {"name": "web"}))["id"]
    limited = await api.key("r-viewer", teams=[team])
    for path in ("/api/v1/metrics", "/api/v1/metrics/prometheus"):
        assert (await api.call("GET", path, key=limited)).status_code == 403, "no foreign count"
        assert (await api.call("GET", path, key="")).status_code == 401


async def test_what_the_texts_of_the_alerts_point_at_says_what_failed(api):
    """`/issuers` says how many failed there and when, `/jobs?status=failed` which and why, for what one may see."""
    assert (await api.get("/api/v1/issuers/iss-local")).get("recent_failures", 0) == 0
    team = (await api.made("/api/v1/teams", {"name": "web"}))["id"]
    agent = await api.agent()
    target_id = await api.target(agent)
    with mock.patch.object(LocalIssuer, "submit", side_effect=Rejected("the CA says no")):
        body = {"id": "mc-1", "common_name": "one.example", "target_ids": [target_id]}
        await api.made("/api/v1/certificates", body)
        await agent.csr((await agent.work())[0])
    (failed,) = (await api.get("/api/v1/jobs?status=failed"))["data"]
    assert failed["certificate_id"] == "mc-1"
    assert "the CA says no" in failed["last_error"]
    (issuer,) = (await api.get("/api/v1/issuers"))["data"]
    assert issuer["recent_failures"] == 1
    assert datetime.fromisoformat(issuer["last_failure_at"]) == api.clock.moment
    assert await api.get("/api/v1/issuers/iss-local") == issuer
    (found,) = (await api.get("/api/v1/issuers?fields=id,recent_failures"))["data"]
    assert found == {"id": "iss-local", "recent_failures": 1}
    limited = await api.key("r-viewer", teams=[team])
    (theirs,) = (await api.get("/api/v1/issuers", key=limited))["data"]
    assert theirs.get("recent_failures", 0) == 0, "no foreign count"
    seen = await scrape(api)
    assert seen["certctl_job_failed_total", ()] == 1
    api.clock.moment += timedelta(hours=25)
    assert (await api.get("/api/v1/issuers/iss-local")).get("recent_failures", 0) == 0

    second = await api.target(agent, "second")
    body = {"id": "mc-2", "common_name": "two.example", "target_ids": [second], "renewal_policy_id": "rp-manual"}
    await api.made("/api/v1/certificates", body)
    await agent.serve()
    end = datetime.fromisoformat((await api.get("/api/v1/certificates/mc-2"))["expires_at"])
    api.clock.moment = end - timedelta(days=1)
    assert (await scrape(api))["certctl_certificate_expiring_soon", ()] == 1
    while await renew.tick(api.house.ctx):
        pass
    expiring = (await api.get("/api/v1/certificates?status=expiring"))["data"]
    assert [each["id"] for each in expiring] == ["mc-2"]


async def test_every_declared_fleet_metric_is_told(api):
    """Documented is emitted: after one certificate's life nothing of the declaration is missing from the page."""
    agent = await api.agent()
    target_id = await api.target(agent)
    await issue(api, agent, target_id)
    await api.call("POST", "/api/v1/certificates/mc-shop/renew")
    await api.made("/api/v1/health-checks", {"endpoint": "169.254.169.254:443"})
    await observe.look(api.house.ctx)
    api.clock.moment += timedelta(seconds=5)
    object.__setattr__(api.state, "audit_receivers", (Syslog("127.0.0.1", 1, "ca.example"),))
    names = {name for name, _ in await scrape(api)}
    told = {name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for name in names}
    declared = {each.name for each in metrics.METRICS if each.place is Place.FLEET}
    # CRLs and ticks are there once a worker has run, alerts once something ends; this API has none
    absent = {metrics.CRL_NEXT_UPDATE.name, metrics.TICK_LAG.name, metrics.EXPIRY_ALERTS.name}
    assert declared - told == absent
    assert all(each.buckets for each in metrics.METRICS if each.kind is Kind.HISTOGRAM)

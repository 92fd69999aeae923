"""Whoever has to know hears of a certificate that ends: at each threshold, whatever its renewal does, until it is renewed."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import timedelta

import pytest

from certctl.control import digest
from certctl.core.errors import Temporary
from certctl.lifecycle import notify, renew
from certctl.worker.schedule import Schedule, Tick
from integration.api_house import open_api
from integration.test_notifications import ALLOW, CHANNELS, deliver, listed, trusting, webhook
from peers import receivers

CERTIFICATES = "/api/v1/certificates"
DAY = timedelta(days=1)


@pytest.fixture
async def api(tmp_path, database_url):
    async with open_api(tmp_path / "data", database_url, **ALLOW) as fresh:
        yield fresh


async def served(api, agent) -> None:
    from certctl.lifecycle import flow

    while True:
        found = await agent.serve()
        live = [job for job in (await api.get("/api/v1/jobs"))["data"] if job["status"] in {"Pending", "Running"}]
        for job in live:
            await flow.drive(api.house.ctx, job["id"], timedelta(seconds=30))
        if not found:
            return


async def look(api) -> None:
    while await renew.tick(api.house.ctx):
        pass
    await deliver(api)


async def certificate(api, policy: str = "rp-manual", days: int = 60):
    agent = await api.agent()
    body = {
        "id": "mc-1",
        "name": "shop",
        "common_name": "shop.example",
        "validity_seconds": days * 86400,
        "renewal_policy_id": policy,
        "target_ids": [await api.target(agent)],
    }
    await api.made(CERTIFICATES, body)
    await served(api, agent)
    return agent


async def alerts(api):
    rows = await listed(api, certificate_id="mc-1", type="ExpirationWarning", per_page=100)
    return [(row["severity"], row["status"]) for row in rows if not row.get("action")]


async def test_each_threshold_is_told_once_and_renewal_resolves_it(api, monkeypatch):
    incidents: dict[str, str] = {}
    async with (
        receivers.receiver(receivers.anything, tls=False) as hook,
        receivers.receiver(receivers.pagerduty(incidents)) as pager,
    ):
        trusting(monkeypatch, pager)
        await webhook(api, hook.url)
        config = {"routing_key": "k" * 32, "url": f"{pager.url}/v2/enqueue"}
        await api.made(CHANNELS, {"name": "pager", "type": "PagerDuty", "config": config, "min_severity": "warning"})
        agent = await certificate(api)
        await look(api)
        assert await alerts(api) == []
        begun = api.clock.moment
        told = {}
        for day in (1, 29, 30, 31, 45, 46, 52, 53, 59, 60):
            before = len(hook.got)
            api.clock.moment = begun + day * DAY + timedelta(minutes=1)
            await look(api)
            told[day] = len(hook.got) - before
        # 60 days of life: 30 days before the end, 14, 7, and the end itself
        assert {day: number for day, number in told.items() if number} == {30: 1, 46: 1, 53: 1, 60: 1}
        said = [got.json for got in hook.got]
        assert [each["severity"] for each in said] == ["informational", "warning", "warning", "critical"]
        assert "in 29 days" in said[0]["subject"] and "has expired" in said[3]["subject"]
        assert len({each["incident"] for each in said}) == 1
        # one incident, however often it was told
        assert list(incidents.values()) == ["triggered"]
        answer = await api.call("POST", f"{CERTIFICATES}/mc-1/renew", {})
        assert answer.status_code == 202, answer.text
        await served(api, agent)
        await look(api)
        assert list(incidents.values()) == ["resolved"]
        over = [got.json for got in hook.got if got.json["action"] == "resolve"]
        assert [each["incident"] for each in over] == [said[0]["incident"]]
        # the next life is another version: everything is told anew
        before = len(hook.got)
        api.clock.moment += timedelta(days=31)
        await look(api)
        assert [got.json["severity"] for got in hook.got[before:]] == ["informational"]
        assert hook.got[-1].json["incident"] != said[0]["incident"]


async def test_it_is_told_though_renewal_fails_and_only_the_nearest_threshold(api):
    async with receivers.receiver(receivers.anything, tls=False) as hook:
        await webhook(api, hook.url)
        await api.made(
            "/api/v1/renewal-policies",
            {
                "id": "rp-own",
                "name": "own",
                "alert_thresholds_days": [21, 10, 3],
                "alert_severity_map": {"21": "critical"},
                "renewal_window_days": 30,
            },
        )
        await certificate(api, "rp-own")

        async def down(_record):
            raise Temporary("the CA does not answer")

        ctx = dataclasses.replace(api.house.ctx, open_issuer=down)
        # nobody looked for long: of the thresholds that were crossed only the nearest is told
        api.clock.moment += timedelta(days=51)
        while await renew.tick(ctx):
            pass
        await deliver(api, ctx)
        rows = await listed(api, certificate_id="mc-1", type="ExpirationWarning")
        assert [row["severity"] for row in rows] == ["warning"]
        assert (await api.get(f"{CERTIFICATES}/mc-1"))["status"] == "RenewalInProgress"
        api.clock.moment += timedelta(days=6)
        while await renew.tick(ctx):
            pass
        await deliver(api, ctx)
        assert len([got for got in hook.got if got.json["notification_type"] == "ExpirationWarning"]) == 2
        counted = await api.call("GET", "/api/v1/metrics/prometheus")
        assert 'certctl_expiry_alerts_total{channel="Webhook",result="success",threshold="3"} 1' in counted.text


async def test_an_agent_that_is_back_is_told_to_those_that_heard_it_fell_silent(api):
    from certctl.lifecycle import observe

    async with receivers.receiver(receivers.anything, tls=False) as hook:
        await webhook(api, hook.url)
        agent = await api.agent()
        await agent.work()
        api.clock.moment += timedelta(hours=1)
        assert await observe.tick(api.house.ctx) == 1
        await deliver(api)
        await agent.work()
        await deliver(api)
        assert [(got.json["notification_type"], got.json["action"]) for got in hook.got] == [
            ("AgentOffline", "trigger"),
            ("AgentOffline", "resolve"),
        ]


async def test_the_digest_is_one_a_day_of_three_replicas(tmp_path, database_url):
    async with receivers.mailbox(tls="none") as box:
        environment = ALLOW | {"CERTCTL_DIGEST_RECIPIENTS": "boss@corp.example,ops@corp.example"}
        async with open_api(tmp_path / "data", database_url, **environment) as api:
            await api.made(CHANNELS, {"name": "mail", "type": "Email", "config": box.config()})
            await api.made(CERTIFICATES, {"common_name": "a.example", "name": "<b>&evil"})
            replicas = [dataclasses.replace(api.house.ctx, owner=f"server:{name}") for name in "abc"]
            for day in range(3):
                api.clock.moment += timedelta(days=1, minutes=1)
                await one_day(replicas, DAY)
                await deliver(api)
                assert len(box.letters) == day + 1
            assert box.envelopes[0] == ("certctl@corp.example", ("boss@corp.example", "ops@corp.example"))
            letter = box.letters[0]
            assert letter["Subject"].startswith("certctl: 0 expired")
            assert "Certificates: 1" in letter.get_body(("plain",)).get_content()
            # a tick that died after its commit is taken again: nothing is sent twice
            assert await digest.send_due(replicas[1], DAY) == 0
            page = await api.call("GET", "/api/v1/digest/preview", key=await api.key("r-viewer"))
            assert page.status_code == 200
            assert page.headers["content-type"].startswith("text/html")
            assert "<b>" not in page.text
            answer = await api.call("POST", "/api/v1/digest/send", key=await api.key("r-viewer"))
            assert answer.status_code == 403
            assert (await api.made("/api/v1/digest/send", None, 200)) == {"status": "sent"}
            assert len(box.letters) == 4
            box.mood = "451 later"
            assert (await api.made("/api/v1/digest/send", None, 200)) == {"status": "queued"}


async def one_day(replicas, every: timedelta) -> None:
    """Three schedules at once, as three processes have them, until each has looked a few times."""
    looks = dict.fromkeys(range(len(replicas)), 0)
    enough = asyncio.Event()

    def looked(number: int):
        def count() -> None:
            looks[number] += 1
            if min(looks.values()) >= 2:
                enough.set()

        return count

    def tick() -> Tick:
        async def run(ctx) -> int:
            return await digest.send_due(ctx, every)

        return Tick("digest", every, run)

    schedules = [Schedule(ctx, [tick()], looked(number)) for number, ctx in enumerate(replicas)]
    async with asyncio.TaskGroup() as group:
        for schedule in schedules:
            group.create_task(schedule.run())
        async with asyncio.timeout(60):
            await enough.wait()
        for schedule in schedules:
            schedule.stop()


async def test_a_digest_without_mail_is_refused_in_words(api):
    answer = await api.call("POST", "/api/v1/digest/send")
    assert answer.status_code == 409, answer.text
    assert "no channel of type Email" in answer.text
    assert await digest.send_due(api.house.ctx, DAY) == 1
    while await notify.tick(api.house.ctx):
        pass
    (row,) = await listed(api)
    assert (row["status"], row["last_error"]) == ("skipped", "no channel of type Email is configured")

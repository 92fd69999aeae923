"""The outbox reaches its channels: once, in spite of deaths and silence; secrets stay where they are; on both databases."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
import logging
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from certctl.core.events import Notice
from certctl.ledger import notify as tell
from certctl.lifecycle import notify
from certctl.policy.telling import GIVEN_UP_AFTER
from certctl.store import outbox, schema
from certctl.telemetry import points
from certctl.telemetry.logging import configure_logging
from integration.api_house import open_api
from peers import receivers

CHANNELS = "/api/v1/notification-channels"
NOTIFICATIONS = "/api/v1/notifications"
ALLOW = {"CERTCTL_NOTIFICATION_ALLOW": "127.0.0.1"}
SECRET = "s3cret-that-nobody-sees"


@pytest.fixture
async def api(tmp_path, database_url):
    async with open_api(tmp_path / "data", database_url, **ALLOW) as fresh:
        yield fresh


async def webhook(api, url: str, name: str = "hook", **more):
    config = {"url": f"{url}/in?token={SECRET}", "secret": SECRET} | more.pop("config", {})
    return await api.made(CHANNELS, {"name": name, "type": "webhook", "config": config} | more)


async def say(api, key: str, **more) -> None:
    ctx = api.house.ctx
    told = {"type": "RenewalFailure", "certificate_id": "", "severity": "warning", "message": f"about {key}"} | more
    async with ctx.database.begin("test") as tx:
        await tell(tx, ctx.scope, ctx.now(), Notice(dedup_key=key, **told))


async def deliver(api, ctx=None) -> int:
    taken = 0
    while found := await notify.tick(ctx or api.house.ctx):
        taken += found
    return taken


async def listed(api, **query):
    asked = "&".join(f"{name}={value}" for name, value in query.items())
    return (await api.get(f"{NOTIFICATIONS}?sort=createdAt&{asked}"))["data"]


async def test_without_a_channel_it_reads_skipped_and_says_why(api):
    await say(api, "k-1")
    (row,) = await listed(api)
    assert row["status"] == "pending"
    await deliver(api)
    (row,) = await listed(api)
    assert (row["status"], row["last_error"], row["channel"]) == ("skipped", "no channel is configured", "")
    assert "sent_at" not in row
    async with receivers.receiver(receivers.anything, tls=False) as other:
        await webhook(api, other.url)
        answer = await api.call("POST", f"{NOTIFICATIONS}/{row['id']}/requeue")
        assert answer.json() == {"status": "requeued"}
        await deliver(api)
        assert [got.json["event_id"] for got in other.got] == [row["id"]]


async def test_each_channel_gets_each_notice_once(api):
    async with receivers.receiver(receivers.anything, tls=False) as other, receivers.mailbox(tls="none") as box:
        await webhook(api, other.url)
        await api.made(CHANNELS, {"name": "mail", "type": "Email", "config": box.config()})
        for _ in range(2):
            await say(api, "k-1")
            await say(api, "k-2")
            await deliver(api)
        assert sorted(got.json["body"].partition("\n")[0] for got in other.got) == ["about k-1", "about k-2"]
        assert sorted(letter["Subject"] for letter in box.letters) == ["[warning] about k-1", "[warning] about k-2"]
        rows = await listed(api, status="sent")
        assert sorted(row["channel"] for row in rows) == ["Email", "Email", "Webhook", "Webhook"]
        assert {row["recipient"] for row in rows} == {"ops@corp.example", ""}
        assert await listed(api, channel="Email", status="skipped,dead") == []


async def test_the_matrix_of_the_policy_and_the_owner_decide_who_is_told(api):
    async with receivers.receiver(receivers.anything, tls=False) as other, receivers.mailbox(tls="none") as box:
        await webhook(api, other.url)
        await api.made(CHANNELS, {"name": "mail", "type": "Email", "config": box.config(recipients=[])})
        await api.made(CHANNELS, {"name": "off", "type": "Email", "config": box.config(), "enabled": False})
        await api.made(
            "/api/v1/renewal-policies",
            {
                "id": "rp-matrix",
                "name": "matrix",
                "alert_channels": {"informational": [], "warning": ["Email", "PagerDuty"], "critical": ["Webhook"]},
            },
        )
        await api.made("/api/v1/owners", {"id": "o-1", "name": "One", "email": "one@corp.example"})
        body = {"id": "mc-1", "common_name": "a.example", "renewal_policy_id": "rp-matrix", "owner_id": "o-1"}
        await api.made("/api/v1/certificates", body)
        for severity in ("informational", "warning", "critical"):
            await say(api, severity, severity=severity, certificate_id="mc-1")
        await deliver(api)
        rows = await listed(api, certificate_id="mc-1")
        told = {(row["severity"], row["channel"]): (row["status"], row.get("last_error", "")) for row in rows}
        assert told == {
            ("informational", ""): ("skipped", "the renewal policy tells nobody of what is informational"),
            ("warning", "Email"): ("sent", ""),
            ("warning", "PagerDuty"): ("skipped", "no channel of type PagerDuty is configured"),
            ("critical", "Webhook"): ("sent", ""),
        }
        assert box.envelopes == [("certctl@corp.example", ("one@corp.example",))]
        # nobody owns this one: the mail channel names nobody else
        await say(api, "unowned", severity="critical")
        await deliver(api)
        (row,) = await listed(api, channel="Email", status="skipped")
        assert row["last_error"] == "mail names no recipients, and there is no owner's address"


async def test_whoever_is_paged_is_paged_for_what_is_critical_and_it_is_resolved(api, monkeypatch):
    incidents: dict[str, str] = {}
    async with receivers.receiver(receivers.pagerduty(incidents)) as other:
        trusting(monkeypatch, other)
        config = {"routing_key": "k" * 32, "url": f"{other.url}/v2/enqueue"}
        made = await api.made(CHANNELS, {"name": "pager", "type": "PagerDuty", "config": config})
        assert made["min_severity"] == "critical"
        await say(api, "w", severity="warning", incident="i-w")
        await say(api, "c", severity="critical", incident="i-c")
        await deliver(api)
        assert incidents == {"i-c": "triggered"}
        await say(api, "c-over", incident="i-c", resolves=True)
        await say(api, "w-over", incident="i-w", resolves=True)
        await deliver(api)
        assert incidents == {"i-c": "resolved"}
        rows = await listed(api)
        assert [(row["message"], row["status"], row.get("last_error", "")) for row in rows if row.get("action")] == [
            ("about c-over", "sent", ""),
            ("about w-over", "skipped", "nobody was told of it"),
        ]


async def test_what_is_over_before_it_was_sent_is_not_sent(api):
    async with receivers.receiver(receivers.anything, tls=False) as other:
        await webhook(api, other.url)
        await say(api, "k", incident="i")
        await say(api, "k-over", incident="i", resolves=True)
        await deliver(api)
        assert other.got == [] or [got.json["action"] for got in other.got] == ["trigger", "resolve"]
        other.got.clear()
        # it has waited for a server that is away: it was not reached, and is told nothing of the end but that it came
        other.mood = (503, {}, b"")
        await say(api, "m", incident="j")
        await deliver(api)
        await say(api, "m-over", incident="j", resolves=True)
        other.mood = None
        other.got.clear()
        await deliver(api)
        assert [got.json["action"] for got in other.got] == ["resolve"]
        (row,) = [row for row in await listed(api) if row["message"] == "about m"]
        assert (row["status"], row["last_error"]) == ("skipped", "it was over before it was sent")
        api.clock.moment += timedelta(days=1)
        other.got.clear()
        await deliver(api)
        assert other.got == []


def trusting(monkeypatch, other) -> None:
    """The system's roots, as far as this process sees them, are those of a receiver."""
    from certctl.connectors import http

    monkeypatch.setattr(http, "tls_context", lambda _file=None: other.context)


async def test_a_mail_server_is_down_for_a_day_and_back(api):
    async with receivers.mailbox(tls="none") as box:
        await api.made(CHANNELS, {"name": "mail", "type": "Email", "config": box.config()})
    # nobody listens there any more
    for number in range(30):
        await say(api, f"k-{number}")
    for _ in range(24 * 2):
        await deliver(api)
        api.clock.moment += timedelta(minutes=30)
    rows = await listed(api, per_page=100)
    assert len(rows) == 30
    assert {row["status"] for row in rows} <= {"pending", "failed"}
    assert 15 <= max(row["retry_count"] for row in rows) <= 40, "about once an hour, not once a look"
    assert all("cannot connect" in row["last_error"] for row in rows)
    async with receivers.mailbox(port=box.port, tls="none") as back:
        api.clock.moment += timedelta(hours=1, minutes=1)
        await deliver(api)
        assert sorted(letter["Subject"] for letter in back.letters) == sorted(
            f"[warning] about k-{number}" for number in range(30)
        )
        await deliver(api)
        assert len(back.letters) == 30
    assert {row["status"] for row in await listed(api, per_page=100)} == {"sent"}


async def test_what_cannot_be_sent_is_given_up_in_the_end_and_can_be_asked_for_again(api):
    async with receivers.receiver(receivers.anything, tls=False) as other:
        await webhook(api, other.url)
        other.mood = (400, {}, b"no")
        await say(api, "refused")
        for count in range(1, 5):
            await deliver(api)
            (row,) = await listed(api)
            assert (row["status"], row["retry_count"]) == ("failed", count)
            assert row["next_retry_at"] > api.clock.now().isoformat()[:19]
            api.clock.moment += timedelta(hours=1)
        await deliver(api)
        (row,) = await listed(api)
        assert (row["status"], row["retry_count"], row["error"]) == ("dead", 5, "POST the webhook answered 400")
        assert len(other.got) == 5
        (event,) = await api.events("notification_dead")
        assert event["subject_id"] == row["id"]
        assert (await api.get("/api/v1/stats/summary"))["notifications_dead"] == 1
        # what stays unreachable is given up after days, not after tries
        other.mood = (503, {}, b"")
        await say(api, "unreachable")
        await deliver(api)
        api.clock.moment += GIVEN_UP_AFTER
        await deliver(api)
        assert [each["status"] for each in await listed(api)] == ["dead", "dead"]
        other.mood = None
        answer = await api.call("POST", f"{NOTIFICATIONS}/{row['id']}/requeue")
        assert answer.status_code == 200, answer.text
        await deliver(api)
        assert (await api.get(f"{NOTIFICATIONS}/{row['id']}"))["status"] == "sent"
        answer = await api.call("POST", f"{NOTIFICATIONS}/{row['id']}/requeue")
        assert answer.status_code == 409, answer.text
        assert (await api.events("notification_requeued"))[0]["details"]["was"] == "dead"


async def test_read_is_said_of_what_was_sent_and_hides_nothing_else(api):
    async with receivers.receiver(receivers.anything, tls=False) as other:
        await webhook(api, other.url)
        await say(api, "good")
        await deliver(api)
        other.mood = (503, {}, b"")
        await say(api, "waits")
        await deliver(api)
        for row in await listed(api):
            answer = await api.call("POST", f"{NOTIFICATIONS}/{row['id']}/read", key=await api.key("r-viewer"))
            assert answer.json() == {"status": "marked_as_read"}
        assert [row["status"] for row in await listed(api)] == ["read", "failed"]
        assert all(row["read_at"] for row in await listed(api))
        sent = (await listed(api, status="read"))[0]
        assert sent["sent_at"]
        other.mood = None
        api.clock.moment += timedelta(hours=1)
        await deliver(api)
        assert len([got for got in other.got if "waits" in got.json["body"]]) == 2


class Killed(BaseException):
    """This process is no more."""


# where it dies, and whether what it was sending is sent again
DEATHS = {
    "commit.notify.claim.before": False,
    "commit.notify.claim.after": False,
    "commit.notify.route.before": False,
    "commit.notify.route.after": False,
    "notify.sent": True,
    "commit.notify.settle.before": True,
    "commit.notify.settle.after": False,
}


async def test_a_death_loses_nothing_and_doubles_only_what_was_sent_and_not_written_down(api, monkeypatch):
    async with receivers.receiver(receivers.anything, tls=False) as other:
        await webhook(api, other.url)
        for point, sent_twice in DEATHS.items():
            other.got.clear()
            for number in range(3):
                await say(api, f"{point}-{number}")

            def die(name: str, point: str = point) -> None:
                if name == point:
                    raise Killed

            monkeypatch.setattr(points, "hook", die)
            with pytest.raises(Killed):
                await deliver(api, dataclasses.replace(api.house.ctx, owner="server:dead"))
            monkeypatch.setattr(points, "hook", None)
            heir = dataclasses.replace(api.house.ctx, owner="server:heir")
            api.clock.moment += heir.patience.lease - timedelta(seconds=1)
            await deliver(api, heir)
            api.clock.moment += timedelta(seconds=2)
            await deliver(api, heir)
            ids = [got.headers["x-certctl-notification-id"] for got in other.got]
            assert len(set(ids)) == 3, point
            assert len(ids) == (6 if sent_twice else 3), point
        rows = await listed(api, per_page=100)
        assert len(rows) == 3 * len(DEATHS)
        assert {row["status"] for row in rows} == {"sent"}


async def test_many_workers_send_each_once(api):
    async with receivers.receiver(receivers.anything, tls=False) as other:
        await webhook(api, other.url)
        for number in range(60):
            await say(api, f"k-{number}")
        workers = [dataclasses.replace(api.house.ctx, owner=f"server:{name}") for name in "abcd"]
        await asyncio.gather(*(deliver(api, worker) for worker in workers))
        await deliver(api)
        assert len(other.got) == len({got.headers["x-certctl-notification-id"] for got in other.got}) == 60


async def test_a_result_under_a_lapsed_lease_is_refused(api):
    """A worker that was away for long finds its rows in other hands: it writes nothing over what they found."""
    ctx = api.house.ctx
    async with receivers.receiver(receivers.anything, tls=False) as other:
        await webhook(api, other.url)
        await say(api, "k")
        await notify.tick(ctx)  # routed
        async with ctx.database.begin("test") as tx:
            (row,) = await outbox.claim(tx, ctx.scope, "slow", ctx.now(), ctx.now() + ctx.patience.lease, 10)
        api.clock.moment += ctx.patience.lease
        await deliver(api)
        async with ctx.database.begin("test") as tx:
            assert not await outbox.settle(tx, ctx.scope, row.id, "slow", status="failed", last_error="late")
        (shown,) = await listed(api)
        assert shown["status"] == "sent"


async def test_a_channel_is_configured_tried_and_its_secrets_are_never_told(api, tmp_path, monkeypatch, database_url):
    log = io.StringIO()
    with_our_log(log, monkeypatch)
    told: list[str] = []
    async with receivers.receiver(receivers.anything, tls=False) as other:
        made = await webhook(api, other.url)
        assert made["secrets"] == ["secret", "url"]
        assert made["config"] == {}
        assert made["address"] == other.url
        told.append(json.dumps(made))
        path = f"{CHANNELS}/{made['id']}"
        answer = await api.call("POST", f"{path}/test")
        assert answer.status_code == 200, answer.text
        assert other.got[0].path.endswith(SECRET)
        assert other.got[0].json["notification_type"] == "Test"
        other.mood = (500, {}, SECRET.encode())
        answer = await api.call("POST", f"{path}/test")
        assert answer.status_code in {502, 503}, answer.text
        told.append(answer.text)
        assert (await api.get(path))["test_status"] == "failed"
        await say(api, "k")
        await deliver(api)
        other.mood = None
        # a secret stays unless another is given; at another address it has to be given anew
        answer = await api.call("PUT", path, {"config": {"ca_pem": ""}})
        assert answer.status_code in {400, 422}, answer.text
        answer = await api.call("PUT", path, {"config": {"url": "http://127.0.0.1:1/thief"}})
        assert answer.status_code in {400, 422}, answer.text
        assert "given for" in answer.text
        told.append(answer.text)
        answer = await api.call("PUT", path, {"name": "renamed", "min_severity": "critical"})
        assert answer.status_code == 200, answer.text
        assert answer.json()["secrets"] == ["secret", "url"]
        answer = await api.call("PUT", path, {"config": {"url": f"{other.url}/x", "secret": "another"}})
        assert answer.status_code == 200, answer.text
        answer = await api.call("PUT", path, {"config": {"secret": None, "url": f"{other.url}/x"}})
        assert answer.json()["secrets"] == ["url"]
        await webhook(api, other.url, name="second")
        routes = (CHANNELS, NOTIFICATIONS, "/api/v1/audit?per_page=500")
        told += [(await api.call("GET", route)).text for route in routes]
    everything = "\n".join(told) + log.getvalue() + await dump(api)
    assert "notification_not_sent" in log.getvalue()
    assert SECRET not in everything
    if database_url.startswith("sqlite"):
        for file in Path(tmp_path).rglob("*"):
            if file.is_file():
                assert SECRET.encode() not in file.read_bytes(), file


def with_our_log(stream, monkeypatch) -> None:
    """Log as a server does, everything, into `stream`, until the test is over."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", logging.DEBUG)
    for name in ("httpx", "httpcore", "asyncio"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.NOTSET)
    configure_logging(level="debug", stream=stream)


async def dump(api) -> str:
    """Every row of every table, as text."""
    async with api.house.database.read() as tx:
        rows = [str((await tx.execute(sa.select(table))).all()) for table in schema.metadata.sorted_tables]
    return "\n".join(rows)


WRONG = [
    {"type": "Pigeon", "config": {}},
    {"type": "Webhook", "config": {}},
    {"type": "Webhook", "config": {"url": f"ftp://{SECRET}/"}},
    {"type": "Email", "config": {"host": "h", "from_address": "a@b.example\r\nBcc: c@d.example"}},
    {"type": "Slack", "config": {"webhook_url": [SECRET]}},
    {"type": "Slack", "config": {"webhook_url": "https://s.example/x", "more": SECRET}},
    {"type": "PagerDuty", "config": {"routing_key": "k"}, "min_severity": "loud"},
]


async def test_the_inside_is_not_reached_from_a_channel(tmp_path):
    async with (
        open_api(tmp_path / "data") as api,
        receivers.receiver(receivers.anything, tls=False) as other,
    ):
        # what cannot work is refused, and not repeated
        for body in WRONG:
            answer = await api.call("POST", CHANNELS, {"name": "x", **body})
            assert answer.status_code in {400, 422}, answer.text
            assert SECRET not in answer.text
        assert (await api.get(CHANNELS))["data"] == []
        made = await webhook(api, other.url)
        answer = await api.call("POST", f"{CHANNELS}/{made['id']}/test")
        assert answer.status_code == 502, answer.text
        assert "CERTCTL_NOTIFICATION_ALLOW" in answer.text
        await say(api, "k")
        await deliver(api)
        (row,) = await listed(api)
        assert row["status"] == "failed" and "loopback" in row["last_error"]
        assert other.got == []
        for inside in ("10.0.0.1", "169.254.169.254", "[::1]", "[fd00::1]", "0.0.0.0"):
            made = await webhook(api, f"http://{inside}", name=inside)
            answer = await api.call("POST", f"{CHANNELS}/{made['id']}/test")
            assert answer.status_code == 502, (inside, answer.text)
            assert "is not dialled" in answer.text


async def test_who_may_only_read_changes_nothing(api):
    viewer = await api.key("r-viewer")
    async with receivers.receiver(receivers.anything, tls=False) as other:
        made = await webhook(api, other.url)
        await say(api, "k")
        (row,) = await listed(api)
        for method, path in (
            ("POST", CHANNELS),
            ("PUT", f"{CHANNELS}/{made['id']}"),
            ("DELETE", f"{CHANNELS}/{made['id']}"),
            ("POST", f"{CHANNELS}/{made['id']}/test"),
            ("POST", f"{NOTIFICATIONS}/{row['id']}/requeue"),
        ):
            answer = await api.call(method, path, {} if method != "DELETE" else None, key=viewer)
            assert answer.status_code == 403, (method, path, answer.text)
        assert (await api.get(f"{CHANNELS}/kinds", key=viewer))["kinds"][0]["type"] == "Email"
        assert other.got == []


async def test_a_channel_that_goes_takes_its_mail_along(api):
    async with receivers.receiver(receivers.anything, tls=False) as other:
        made = await webhook(api, other.url)
        await say(api, "k")
        await notify.tick(api.house.ctx)  # routed, not sent
        answer = await api.call("DELETE", f"{CHANNELS}/{made['id']}")
        assert answer.status_code == 204
        await deliver(api)
        (row,) = await listed(api)
        assert (row["status"], row["last_error"]) == ("skipped", "its channel was deleted")
        assert other.got == []


async def test_channels_of_the_environment_follow_it(tmp_path, database_url):
    async with receivers.mailbox(tls="none") as box, receivers.receiver(receivers.anything, tls=False) as other:
        environment = {
            "CERTCTL_SMTP_HOST": box.host,
            "CERTCTL_SMTP_PORT": str(box.port),
            "CERTCTL_SMTP_FROM_ADDRESS": "certctl@corp.example",
            "CERTCTL_SMTP_USE_TLS": "false",
            "CERTCTL_SMTP_RECIPIENTS": "ops@corp.example",
            "CERTCTL_WEBHOOK_URL": f"{other.url}/{SECRET}",
            "CERTCTL_WEBHOOK_SECRET": SECRET,
        }
        async with open_api(tmp_path / "data", database_url, **environment) as api:
            found = (await api.get(CHANNELS))["data"]
            assert [(each["id"], each["source"]) for each in found] == [
                ("ch-env-email", "env"),
                ("ch-env-webhook", "env"),
            ]
            # whoever sets the environment may name a host inside: no allow-list is asked for
            await say(api, "k")
            await deliver(api)
            assert len(box.letters) == len(other.got) == 1
            for method, body in (("PUT", {"name": "mine"}), ("DELETE", None)):
                answer = await api.call(method, f"{CHANNELS}/ch-env-email", body)
                assert answer.status_code == 409, answer.text
            assert SECRET not in await dump(api)
            url = api.house.settings.database_url
        del environment["CERTCTL_WEBHOOK_URL"], environment["CERTCTL_WEBHOOK_SECRET"]
        async with reopened(tmp_path / "data", url, environment) as house, house.database.read() as tx:
            assert [each.id for each in await outbox.channels(tx, house.ctx.scope)] == ["ch-env-email"]


def reopened(data_dir, url, environment):
    from certctl import settings as settings_module
    from certctl.bootstrap import open_house

    told = {"CERTCTL_DATA_DIR": str(data_dir), "CERTCTL_DATABASE_URL": url} | environment
    if not url.startswith("sqlite"):
        told["CERTCTL_CONFIG_ENCRYPTION_KEY"] = "a-key-of-the-test-that-is-long-enough"
    return open_house(settings_module.load(told))

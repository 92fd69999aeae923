"""Endpoints are looked at: what is wrong is told by name, by thresholds, once, until it is over; on both databases."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
from datetime import timedelta
from pathlib import Path
from unittest import mock

import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from certctl.connectors.dial import DialPolicy
from certctl.lifecycle import observe
from certctl.pki.pem import read_certificates
from certctl.store import schema
from integration.api_house import open_api
from integration.test_notifications import ALLOW, deliver, listed, webhook
from peers import receivers
from peers.servers import PEERS
from peers.tls_sites import DAY, context_of, make, scripted, site

CHECKS = "/api/v1/health-checks"
# the server of these tests stands where its targets do, whatever the database
LOOPBACK = DialPolicy(purpose="verify.probe", allow_private=True, allow_loopback=True)


@contextlib.asynccontextmanager
async def opened(data: Path, database_url: str):
    async with open_api(data, database_url, **ALLOW) as api:
        patient = dataclasses.replace(api.house.ctx.watching, timeout=timedelta(seconds=60))
        object.__setattr__(api.house.ctx, "probe_policy", LOOPBACK)
        object.__setattr__(api.house.ctx, "watching", patient)
        with mock.patch.object(observe, "_GATHER_SECONDS", 0.02):
            yield api


@pytest.fixture
async def api(tmp_path, database_url):
    async with opened(tmp_path / "data", database_url) as fresh:
        yield fresh


def hurried(api, **more):
    """A replica of its own, with no patience."""
    ctx = api.house.ctx
    watching = dataclasses.replace(ctx.watching, timeout=timedelta(seconds=0.5), **more)
    return dataclasses.replace(ctx, watching=watching, owner="server:another")


async def watch(api, endpoint: str, **more):
    return await api.made(CHECKS, {"endpoint": endpoint, "server_name": "shop.example"} | more)


async def look(api, ctx=None) -> None:
    while await observe.look(ctx or api.house.ctx):
        pass


async def again(api, ctx=None) -> None:
    """The next look at everything."""
    api.clock.moment += timedelta(minutes=6)
    await look(api, ctx)


async def read(api, check):
    return await api.get(f"{CHECKS}/{check['id']}")


async def told(api):
    rows = await listed(api, type="EndpointHealth", per_page=200)
    return [(row.get("action", ""), row["severity"], row["message"]) for row in rows]


async def test_what_is_wrong_is_told_by_name(api):
    root = make("Root", is_ca=True, start=api.clock.moment - 40 * DAY, validity=80 * DAY)
    middle = make("Middle", root, is_ca=True, start=api.clock.moment - 40 * DAY, validity=80 * DAY)
    leaf = make("shop.example", middle)
    old = make("shop.example", middle, start=api.clock.moment - 20 * DAY, validity=10 * DAY)
    stranger = make("shop.example", make("Elsewhere", is_ca=True))
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        good = await enter(site(leaf.context(middle)))
        sites = {
            "expired": await enter(site(old.context(middle))),
            "wrong_name": await enter(site(make("other.example", middle).context(middle))),
            "untrusted_chain": await enter(site(stranger.context(stranger.above))),
            "wrong_certificate": await enter(site(make("shop.example", middle).context(middle))),
        }
        plain = await enter(scripted(b"220 mail.example ESMTP\r\n"))
        lonely = await enter(site(leaf.context()))
        closed = await enter(site(leaf.context()))
        await closed.stop()
        given = {"ca_pem": root.pem}
        checks = {kind: await watch(api, each.endpoint, **given) for kind, each in sites.items()}
        await api.call(
            "PUT", f"{CHECKS}/{checks['wrong_certificate']['id']}", {"expected_fingerprint": "AB:" * 31 + "AB"}
        )
        checks["unreachable"] = await watch(api, closed.endpoint, **given)
        checks["no_tls"] = await watch(api, plain, **given)
        checks["refused"] = await watch(api, "169.254.169.254:443", **given)
        right = await watch(api, good.endpoint, expected_fingerprint=leaf.fingerprint, **given)
        incomplete = await watch(api, lonely.endpoint, **given)
        by_default = await watch(api, good.endpoint)
        await look(api)
        for kind, check in checks.items():
            found = await read(api, check)
            assert found["failure_kind"] == kind, found
            assert found["status"] == ("cert_mismatch" if kind == "wrong_certificate" else "unknown")
            assert found["consecutive_failures"] == (kind != "refused")
        found = await read(api, right)
        assert (found["status"], found["failure_kind"], found["trusted_by"]) == ("healthy", "", "given")
        assert found["observed_fingerprint"] == leaf.fingerprint
        assert found["tls_version"].startswith("TLSv1")
        assert "Middle" in found["cert_issuer"]
        assert found["cert_expiry"] == leaf.certificate.not_valid_after_utc.isoformat().replace("+00:00", "Z")
        found = await read(api, incomplete)
        assert found["failure_kind"] == "untrusted_chain"
        assert "neither sent nor known" in found["failure_reason"]
        # neither our CA's, nor the machine's, nor anybody's who gave this certificate
        assert (await read(api, by_default))["failure_kind"] == "untrusted_chain"
        assert (await api.get(f"{CHECKS}?failure_kind=expired"))["total"] == 1
        counts = await api.get(f"{CHECKS}/summary")
        assert counts == {
            "healthy": 1, "degraded": 0, "down": 0, "cert_mismatch": 1, "unknown": 8, "disabled": 0, "total": 10,
        }  # fmt: skip


async def test_silence_and_tarpits_end_in_time_and_hold_up_nobody(api):
    leaf = make("shop.example")
    async with (
        scripted() as silent,
        scripted(*[b"\x16"] * 600, pause=1) as tarpit,
        scripted(b"220-", *[b"x"] * 600, pause=1) as slow_mail,
        site(leaf.context()) as good,
    ):
        slow = [await watch(api, silent), await watch(api, tarpit), await watch(api, slow_mail, protocol="smtp")]
        right = await watch(api, good.endpoint, ca_pem=leaf.pem)
        await look(api, hurried(api, most_at_once=4))
        for check in slow:
            assert (await read(api, check))["failure_kind"] == "timed_out"
        assert (await read(api, right))["last_checked_at"]
        # a fault of ours says nothing about the endpoint, and has a word of its own
        broken = mock.AsyncMock(side_effect=RuntimeError("a bug"))
        with mock.patch.object(observe, "probe_tls", broken):
            await again(api)
        seen = await read(api, right)
        assert (seen["status"], seen["failure_kind"]) == ("unknown", "look_failed")
        assert "certctl's own look broke down" in seen["failure_reason"]
        assert await told(api) == [], "nobody is paged for it"


async def test_thresholds_acknowledgement_and_recovery(api):
    leaf = make("shop.example")
    async with receivers.receiver(receivers.anything, tls=False) as hook, site(leaf.context()) as good:
        await webhook(api, hook.url)
        check = await watch(api, good.endpoint, ca_pem=leaf.pem, degraded_threshold=2, down_threshold=4)
        path = f"{CHECKS}/{check['id']}"
        await look(api)
        assert (await read(api, check))["status"] == "healthy"
        assert (await api.call("POST", f"{path}/acknowledge")).status_code == 409
        await good.stop()
        seen = []
        for _ in range(5):
            await again(api)
            seen.append((await read(api, check))["status"])
        assert seen == ["healthy", "degraded", "degraded", "down", "down"]
        await deliver(api)
        assert [(action, severity) for action, severity, _ in await told(api)] == [("", "warning"), ("", "critical")]
        # acknowledged by who calls, until the state changes
        assert (await api.call("POST", f"{path}/acknowledge", {"actor": "somebody else"})).status_code == 204
        found = await read(api, check)
        assert (found["acknowledged"], found["acknowledged_by"]) == (True, "admin")
        (event,) = await api.events("health_check_acknowledged")
        assert (event["actor"], event["details"]["said"]) == ("admin", "somebody else")
        await again(api)
        assert (await read(api, check))["acknowledged"] is True
        await good.start()
        await again(api)
        found = await read(api, check)
        assert (found["status"], found["acknowledged"], found["consecutive_failures"]) == ("healthy", False, 0)
        await deliver(api)
        assert [got.json["action"] for got in hook.got] == ["trigger", "trigger", "resolve"], [
            got.json for got in hook.got
        ]
        assert len({got.json["incident"] for got in hook.got}) == 1
        moved = [(each["details"]["from"], each["details"]["to"]) for each in await api.events("health_status_changed")]
        assert moved == [("unknown", "healthy"), ("healthy", "degraded"), ("degraded", "down"), ("down", "healthy")]
        # a second outage is another incident
        await good.stop()
        await again(api)
        await again(api)
        await deliver(api)
        assert len({got.json["incident"] for got in hook.got}) == 2
        # switched off, it is over, and nothing is told as seen that nobody looks at
        assert (await api.call("PUT", path, {"enabled": False})).status_code == 200
        await deliver(api)
        assert [got.json["action"] for got in hook.got][3:] == ["trigger", "resolve"]
        await again(api)
        found = await read(api, check)
        assert (found["status"], found["enabled"], "next_check_at" in found) == ("unknown", False, False)
        assert (await api.get(f"{CHECKS}/summary"))["disabled"] == 1
        # the history: one entry for a run of looks that found the same, newest first
        rows = await api.get(f"{path}/history?limit=50")
        assert [(row["status"], row["looks"]) for row in rows][-3:] == [("degraded", 2), ("healthy", 1), ("healthy", 1)]
        assert {row["failure_kind"] for row in rows} == {"", "unreachable"}
        assert (await api.get(f"{path}/history?limit=1")) == rows[:1]
        api.clock.moment += timedelta(days=31)
        assert await observe.purge(api.house.ctx) == len(rows)
        assert await api.get(f"{path}/history") == []


async def test_an_hour_of_the_same_is_one_entry(api):
    leaf = make("shop.example", validity=90 * DAY)
    async with site(leaf.context()) as good:
        check = await watch(api, good.endpoint, ca_pem=leaf.pem)
        await look(api)
        for _ in range(12):
            await again(api)
        rows = await api.get(f"{CHECKS}/{check['id']}/history")
        assert [row["looks"] for row in rows] == [3, 10]
        assert rows[1]["last_checked_at"] > rows[1]["checked_at"]


async def issue(api, agent, good):
    """Let the agent work to the end, what it deploys being served by `good`; the fingerprints that it deployed."""
    placed = []
    while items := await agent.work():
        for item in items:
            if item["step_kind"] == "deploy":
                placed.append(await place(agent, item, good))
            answer = await {"prepare": agent.csr, "deploy": agent.deploy, "verify": agent.verify}[item["step_kind"]](
                item
            )
            assert answer.is_success, answer.text
    return placed


async def place(agent, item, good):
    leaf = x509.load_der_x509_certificate(read_certificates(item["certificate_pem"])[0])
    (key,) = [each for each in agent.keys.values() if each.public_key() == leaf.public_key()]
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    before, good.context = good.context, context_of(item["certificate_pem"] + item["chain_pem"], pem)
    return before


async def test_a_deployment_has_its_check_which_follows_renewals_and_ends_with_it(api):
    agent = await api.agent()
    async with (
        site(make("nobody.example").context()) as good,
        receivers.receiver(receivers.anything, tls=False) as hook,
    ):
        await webhook(api, hook.url)
        config = {"cert_path": "/tls/a.crt", "key_path": "/tls/a.key", "endpoint": good.endpoint}
        body = {"id": "t-1", "name": "site", "type": "nginx", "agent_id": agent.id, "config": config}
        await api.made("/api/v1/targets", body)
        body = {"id": "mc-1", "name": "shop", "common_name": "shop.example", "target_ids": ["t-1"]}
        await api.made("/api/v1/certificates", body)
        await issue(api, agent, good)
        (check,) = (await api.get(CHECKS))["data"]
        assert (check["source"], check["target_id"], check["certificate_id"]) == ("deployment", "t-1", "mc-1")
        assert (check["server_name"], check["status"]) == ("shop.example", "unknown")
        # not all are looked at at once: each begins somewhere in its interval
        assert api.clock.now().isoformat()[:19] < check["next_check_at"][:19]
        await again(api)
        found = await read(api, check)
        assert (found["status"], found["trusted_by"]) == ("healthy", "certctl"), found
        first = found["expected_fingerprint"]
        assert first == found["observed_fingerprint"]
        # a renewal: between the server's reload and the proof both are right, then the new one alone
        await api.made("/api/v1/certificates/mc-1/renew", {"force": True}, 202)
        (item,) = await agent.work()
        assert (await agent.csr(item)).is_success
        (item,) = await agent.work()
        old = await place(agent, item, good)
        await again(api)
        assert (await read(api, check))["status"] == "healthy"
        assert (await agent.deploy(item)).is_success
        await again(api)
        assert (await read(api, check))["status"] == "healthy"
        await issue(api, agent, good)
        moved = await read(api, check)
        assert moved["expected_fingerprint"] != first
        await again(api)
        assert (await read(api, check))["status"] == "healthy"
        # whoever puts the old one back is seen
        new, good.context = good.context, old
        await again(api)
        assert (await read(api, check))["failure_kind"] == "wrong_certificate"
        await deliver(api)
        ours = [got.json for got in hook.got if got.json["notification_type"] == "EndpointHealth"]
        assert [(each["severity"], each["action"]) for each in ours] == [("critical", "trigger")]
        # how it is looked at is edited, what the deployment says is not
        answer = await api.call("PUT", f"{CHECKS}/{check['id']}", {"endpoint": "198.51.100.1:443"})
        assert (answer.status_code, "follow" in answer.json()["detail"]) == (409, True)
        answer = await api.call("PUT", f"{CHECKS}/{check['id']}", {"down_threshold": 9, "endpoint": good.endpoint})
        assert answer.status_code == 200
        # one of a certificate follows all that is current of it, made by whom you like
        free = await api.made(
            CHECKS, {"endpoint": good.endpoint, "server_name": "shop.example", "certificate_id": "mc-1"}
        )
        await again(api)
        assert (await read(api, free))["failure_kind"] == "wrong_certificate"
        good.context = new
        await again(api)
        assert {(await read(api, each))["status"] for each in (free, check)} == {"healthy"}
        # no longer mapped, no longer looked at
        await api.call("PUT", "/api/v1/certificates/mc-1", {"target_ids": []})
        assert [each["id"] for each in (await api.get(CHECKS))["data"]] == [free["id"]]
        assert (await api.call("GET", f"{CHECKS}/{check['id']}/history")).status_code == 404
        kinds = [event["type"] for event in await changes(api, check["id"])]
        assert kinds == ["config_created", "config_updated", "config_updated", "config_deleted"]


async def changes(api, check_id):
    found = [
        each
        for kind in ("config_created", "config_updated", "config_deleted")
        for each in await api.events(kind)
        if each["subject_id"] == check_id
    ]
    return sorted(found, key=lambda each: each["seq"])


async def test_a_deleted_target_and_an_archived_certificate_end_their_checks(api):
    agent = await api.agent()
    async with site(make("nobody.example").context()) as one, site(make("nobody.example").context()) as two:
        for word, good in (("one", one), ("two", two)):
            config = {
                "cert_path": "/tls/a.crt",
                "key_path": "/tls/a.key",
                "endpoint": good.endpoint,
                "sni": "a.example",
            }
            body = {"id": f"t-{word}", "name": word, "type": "nginx", "agent_id": agent.id, "config": config}
            await api.made("/api/v1/targets", body)
            body = {"id": f"mc-{word}", "common_name": f"{word}.example", "target_ids": [f"t-{word}"]}
            await api.made("/api/v1/certificates", body)
            await issue(api, agent, good)
        assert (await api.get(CHECKS))["total"] == 2
        await again(api)
        # what is asked for is what the target says, and that is no name of the certificate's
        assert {each["failure_kind"] for each in (await api.get(CHECKS))["data"]} == {"wrong_name"}
        assert (await api.call("DELETE", "/api/v1/certificates/mc-one")).status_code == 204
        assert (await api.get(CHECKS))["total"] == 1
        assert (await api.call("DELETE", "/api/v1/targets/t-two")).status_code == 204
        assert (await api.get(CHECKS))["total"] == 0


async def test_each_look_is_one_replicas_and_a_late_one_is_refused(api):
    """A replica that lost its lease in the middle of looking: the look happens again, and the alert does not."""
    leaf = make("shop.example")
    async with site(make("other.example").context()) as bad, site(leaf.context()) as good:
        checks = [await watch(api, bad.endpoint, ca_pem=leaf.pem, expected_fingerprint="ab" * 32)]
        checks += [await watch(api, good.endpoint, ca_pem=leaf.pem) for _ in range(3)]
        bad.hold = good.hold = asyncio.Event()
        first = asyncio.create_task(observe.look(api.house.ctx))
        async with asyncio.timeout(60):
            while bad.seen + good.seen < 4:
                await asyncio.sleep(0.01)
        other = dataclasses.replace(api.house.ctx, owner="server:another")
        assert await observe.look(other) == 0  # all of them are held
        api.clock.moment += timedelta(minutes=2)  # the lease has lapsed
        bad.hold, held = None, bad.hold
        good.hold = None
        assert await observe.look(other) == 4
        held.set()
        await first
        assert (await read(api, checks[0]))["status"] == "cert_mismatch"
        for check in checks:
            (row,) = await api.get(f"{CHECKS}/{check['id']}/history")
            assert row["looks"] == 1
        assert len(await told(api)) == 1
        # one that is stopped leaves its looks to whoever comes: nothing is lost, nothing is done twice
        bad.hold = asyncio.Event()
        api.clock.moment += timedelta(minutes=6)
        seen = bad.seen
        stopped = asyncio.create_task(observe.look(api.house.ctx))
        async with asyncio.timeout(60):
            while bad.seen == seen:
                await asyncio.sleep(0.01)
        stopped.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await stopped
        bad.hold.set()
        bad.hold = None
        api.clock.moment += timedelta(minutes=2)
        await look(api, other)
        assert len(await told(api)) == 1


async def test_many_due_at_once_are_looked_at_a_few_at_a_time_and_never_together_again(api, monkeypatch):
    leaf = make("shop.example")
    busy = most = 0
    real = observe.probe_tls

    async def counted(*args, **more):
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        try:
            return await real(*args, **more)
        finally:
            busy -= 1

    monkeypatch.setattr(observe, "probe_tls", counted)
    async with site(leaf.context()) as good:
        for _ in range(30):
            await watch(api, good.endpoint, ca_pem=leaf.pem)
        few = dataclasses.replace(api.house.ctx.watching, most_at_once=5)
        await look(api, dataclasses.replace(api.house.ctx, watching=few))
        rows = (await api.get(f"{CHECKS}?per_page=100"))["data"]
        assert {row["status"] for row in rows} == {"healthy"}
        assert (good.seen, most) == (30, 5)
        assert len({row["next_check_at"] for row in rows}) > 20


async def test_what_makes_no_sense_is_refused_by_field(api):
    check = await watch(api, "shop.example:443")
    for field, body in (
        ("endpoint", {"endpoint": "shop.example"}),
        ("endpoint", {"endpoint": "shop.example:0"}),
        ("endpoint", {"endpoint": "https://shop.example:443"}),
        ("endpoint", {"endpoint": "user@shop.example:443"}),
        ("endpoint", {"endpoint": "shop.example\r\nX: y:443"}),
        ("server_name", {"server_name": "a b"}),
        ("protocol", {"protocol": "ftp"}),
        ("ca_pem", {"ca_pem": "none"}),
        ("expected_fingerprint", {"expected_fingerprint": "12"}),
        ("certificate_id", {"certificate_id": "mc-none"}),
        ("check_interval_seconds", {"check_interval_seconds": 1}),
        ("degraded_threshold", {"degraded_threshold": 9}),
        ("degraded_threshold", {"degraded_threshold": 0}),
    ):
        for method, path in (("POST", CHECKS), ("PUT", f"{CHECKS}/{check['id']}")):
            answer = await api.call(method, path, {"endpoint": "b.example:443"} | body)
            assert answer.status_code == 400, (body, answer.text)
            assert [each["field"] for each in answer.json()["violations"]] == [field], answer.text
    assert (await api.call("POST", CHECKS, {"server_name": "a.example"})).status_code == 400
    for limit in (0, 1001):
        assert (await api.call("GET", f"{CHECKS}/{check['id']}/history?limit={limit}")).status_code == 400
    found = await api.made(CHECKS, {"endpoint": "[2001:DB8::0:1]:8443", "expected_fingerprint": "AA:" * 31 + "AA"})
    assert (found["endpoint"], found["expected_fingerprint"]) == ("[2001:db8::1]:8443", "aa" * 32)
    answer = await api.call("PATCH", f"{CHECKS}/{found['id']}", {"expected_fingerprint": None, "enabled": False})
    assert (answer.json()["expected_fingerprint"], answer.json()["enabled"]) == ("", False)
    answer = await api.call("PUT", f"{CHECKS}/{found['id']}", {"down_threshold": 7}, headers={"If-Match": '"0"'})
    assert answer.status_code == 412
    assert (await api.call("DELETE", f"{CHECKS}/{found['id']}")).status_code == 204
    assert (await api.call("DELETE", f"{CHECKS}/{found['id']}")).status_code == 404


async def test_who_may_do_what(api):
    viewer, operator = await api.key("r-viewer"), await api.key("r-operator")
    check = await watch(api, "shop.example:443")
    path = f"{CHECKS}/{check['id']}"
    for key, method, where, status in (
        (viewer, "GET", path, 200),
        (viewer, "POST", CHECKS, 403),
        (viewer, "PUT", path, 403),
        (viewer, "POST", f"{path}/acknowledge", 403),
        (viewer, "DELETE", path, 403),
        (operator, "POST", f"{path}/acknowledge", 409),
    ):
        answer = await api.call(method, where, {} if method in {"POST", "PUT"} else None, key=key)
        assert answer.status_code == status, (method, where, answer.text)
    # a team sees the checks of its own certificates, and makes none of nobody's
    await api.made("/api/v1/teams", {"id": "team-a", "name": "a"})
    await api.made("/api/v1/certificates", {"id": "mc-a", "common_name": "a.example", "team_id": "team-a"})
    mine = await watch(api, "a.example:443", certificate_id="mc-a")
    key = (await api.made("/api/v1/auth/keys", {"name": "of-a", "role_ids": ["r-operator"], "teams": ["team-a"]}))[
        "key_value"
    ]
    assert [each["id"] for each in (await api.get(CHECKS, key=key))["data"]] == [mine["id"]]
    assert (await api.get(f"{CHECKS}/summary", key=key))["total"] == 1
    for where in (path, f"{path}/history"):
        assert (await api.call("GET", where, key=key)).status_code == 404
    assert (await api.call("POST", f"{path}/acknowledge", {}, key=key)).status_code == 404
    assert (await api.call("POST", CHECKS, {"endpoint": "x.example:1"}, key=key)).status_code == 403
    assert (await api.call("PUT", f"{CHECKS}/{mine['id']}", {"down_threshold": 6}, key=key)).status_code == 200
    answer = await api.call("PATCH", f"{CHECKS}/{mine['id']}", {"certificate_id": None}, key=key)
    assert answer.status_code == 403


@pytest.mark.real
@pytest.mark.parametrize("name", ["NGINX", "Postfix", "Dovecot"])
async def test_real_servers_are_looked_at(tmp_path, name):
    kind = PEERS[name]
    if kind.needs_root and os.geteuid() != 0:
        pytest.skip(f"{name} starts only as root")
    peer = kind()
    try:
        await asyncio.to_thread(peer.start)
        protocol = {"Postfix": "smtp", "Dovecot": "imap"}.get(name, "tls")
        async with opened(tmp_path / "data", "") as api:
            text = peer.cert_path.read_text()
            given = {"ca_pem": text[text.index("-----BEGIN CERT") :], "protocol": protocol}
            check = await watch(api, f"127.0.0.1:{peer.port}", expected_fingerprint=peer.served(), **given)
            await look(api)
            found = await read(api, check)
            assert (found["status"], found["failure_reason"]) == ("healthy", ""), found
            await asyncio.to_thread(peer.stop)
            await again(api)
            assert (await read(api, check))["failure_kind"] == "unreachable"
    finally:
        peer.close()


async def test_figures_of_looks(api):
    await watch(api, "169.254.169.254:443")
    await api.made(CHECKS, {"endpoint": "b.example:443", "enabled": False})
    text = (await api.call("GET", "/api/v1/metrics/prometheus")).text
    assert 'certctl_health_check{status="unknown"} 1' in text
    assert 'certctl_health_check{status="disabled"} 1' in text
    api.clock.moment += timedelta(seconds=90)
    text = (await api.call("GET", "/api/v1/metrics/prometheus")).text
    assert "certctl_health_check_overdue_seconds 90" in text
    await look(api)
    async with api.house.database.read() as tx:
        rows = await tx.execute(sa.select(schema.counter_deltas.c.name, schema.counter_deltas.c.labels))
        assert any(row.name == "certctl_health_check_looks_total" and "refused" in row.labels for row in rows)

"""What is asked of a CA: within its limits, not over and over in vain, lost asks counted, its account's key changed.

Judged at a real pebble: what it signed, what it was asked, which key it knows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from certctl.connectors import http
from certctl.connectors.issuers.acme.client import AcmeClient
from certctl.control import ca_accounts, ca_asks
from certctl.core import ca_limits
from certctl.core.ca_limits import CaLimits, Limit, Per, limits_of
from certctl.core.errors import CertctlError, Temporary
from certctl.lifecycle import flow
from certctl.telemetry import points
from integration.api_house import Agent
from peers.bind import ZONE, Bind, bind
from peers.pebble import Pebble, pebble
from protocol.ca_house import CaHouse, by_dns, certctl, open_ca_house

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("pebble"), pytest.mark.timeout(300)]
ISSUED, ORDERED = "Issued certificate serial", "orders in the db"


@pytest.fixture(scope="module")
def names() -> Iterator[Bind]:
    with bind() as made:
        yield made


@pytest.fixture(scope="module")
def ca(names) -> Iterator[Pebble]:
    with pebble(names.resolver) as made:
        yield made


class DiedError(BaseException):
    """The process is gone: nothing that comes behind is done."""


@contextlib.contextmanager
def death(at: str) -> Iterator[None]:
    def hook(name: str) -> None:
        if name == at:
            points.hook = None
            raise DiedError(name)

    points.hook = hook
    try:
        yield
    finally:
        points.hook = None


async def account(house: CaHouse) -> dict[str, Any]:
    return await house.api.get("/api/v1/issuers/iss-acme/account")


async def metric(house: CaHouse, name: str) -> float:
    text = (await house.api.call("GET", "/api/v1/metrics/prometheus")).text
    found = [line.split()[-1] for line in text.splitlines() if line.startswith(name) and not line.startswith("#")]
    return sum(float(value) for value in found)


class Refused:
    """A certificate for a name that the CA never issues for, its key with an agent: it can be asked for again."""

    def __init__(self, house: CaHouse, agent: Agent) -> None:
        self.house = house
        self.agent = agent
        self.jobs = 0

    async def end(self) -> dict[str, Any]:
        """The next job, once it has ended."""
        self.jobs += 1

        async def over() -> Any:
            await self.agent.serve()
            mine = [job for job in await self.house.jobs() if job["certificate_id"] == "cert-no"]
            return mine[0] if len(mine) == self.jobs and mine[0]["status"] == "Failed" else None

        return await self.house.run(over, "it was refused again")

    async def again(self) -> dict[str, Any]:
        await self.house.api.made("/api/v1/certificates/cert-no/renew", {}, 202)
        return await self.end()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_a_budget_is_kept_a_lost_ask_is_counted_and_futile_ones_are_paused(
    kind, tmp_path, names, ca, monkeypatch, capsys, request
):
    url = "" if kind == "sqlite" else request.getfixturevalue("postgres_server").new_database()
    known = CaLimits(
        source="https://ca.test/limits", as_of="2026-01-01", limits=(Limit(Per.ACCOUNT, 2, timedelta(hours=3)),)
    )
    monkeypatch.setitem(ca_limits.BY_HOST, "127.0.0.1", known)
    issued, ordered = ca.count(ISSUED), ca.count(ORDERED)
    async with open_ca_house(tmp_path, url) as house:
        await house.issuer(ca.config(**by_dns(names)))
        await house.api.made("/api/v1/issuers/iss-acme/test", {}, 200)

        # the process dies between the CA's answer and the note of it, at a CA that lists no orders
        async def none(_: AcmeClient) -> None:
            return None

        monkeypatch.setattr(AcmeClient, "orders", none)
        await house.ask("cert-lost", f"{kind}-lost.{ZONE}")
        with death("commit.ca_order.claim.before"), pytest.raises(DiedError):
            await house.issued("cert-lost")
        house.api.clock.moment += house.api.house.ctx.patience.lease * 2
        assert await flow.free_lapsed(house.api.house.ctx) >= 1
        await house.issued("cert-lost")
        assert (ca.count(ORDERED) - ordered, ca.count(ISSUED) - issued) == (2, 1), "ordered again, signed once"
        told = await account(house)
        (lost,) = told["lost_orders"]
        assert lost["certificate_id"] == "cert-lost"
        assert await metric(house, "certctl_ca_orders_lost_total") == 1
        assert len(await house.api.events("order_lost")) == 1

        # both asks count, also the lost one: the third waits until there is room, and nothing is asked meanwhile
        assert told["limits"] == [
            {"limit": "2 new orders of an account in 3 hours", "number": 2, "window_seconds": 10_800, "used": 2}
        ]
        assert told["limits_source"] == known.source
        began = house.api.clock.now()
        await house.ask("cert-third", f"{kind}-third.{ZONE}")

        async def waits() -> Any:
            return next((job for job in await house.jobs() if "2 new orders" in (job.get("last_error") or "")), None)

        assert (await house.run(waits, "the budget is told"))["status"] == "Running"
        assert ca.count(ORDERED) - ordered == 2
        house.api.clock.moment = began + timedelta(hours=4)
        await house.issued("cert-third")
        monkeypatch.setitem(ca_limits.BY_HOST, "127.0.0.1", ca_limits.UNKNOWN)

        # a name that the CA never issues for: after five refusals running nothing is asked until somebody says so
        agent = await house.api.agent()
        body = {"id": "cert-no", "common_name": f"blocked.{ZONE}", "issuer_id": "iss-acme"}
        await house.api.made("/api/v1/certificates", body | {"target_ids": [await house.api.target(agent)]})
        refused = Refused(house, agent)
        assert "rejectedIdentifier" in (await refused.end())["last_error"]
        for _ in range(ca_asks.PAUSED_AFTER - 1):
            assert "rejectedIdentifier" in (await refused.again())["last_error"]
        asked = len(await house.rows("ca_asks"))
        job = await refused.again()
        assert "certctl issuers resume iss-acme" in job["last_error"], job
        assert "rejectedIdentifier" in job["last_error"], "with the CA's reason"
        assert len(await house.rows("ca_asks")) == asked, "nothing was asked"
        (pause,) = (await account(house))["pauses"]
        assert (pause["certificate_id"], pause["failures"]) == ("cert-no", ca_asks.PAUSED_AFTER)
        assert await metric(house, "certctl_ca_pauses") == 1

        viewer = await house.api.key("r-viewer")
        assert (await house.api.call("POST", "/api/v1/issuers/iss-acme/resume", {}, key=viewer)).status_code == 403
        told = await certctl(house, monkeypatch, capsys, "account", "iss-acme")
        assert "cert-no" in told and "rejectedIdentifier" in told
        assert "1 resumed and asked for again" in await certctl(house, monkeypatch, capsys, "resume", "iss-acme")
        assert "Nothing was paused" in await certctl(house, monkeypatch, capsys, "resume", "iss-acme")
        assert "issuers resume" not in (await refused.end())["last_error"], "the CA is asked again, at once"
        assert len(await house.rows("ca_asks")) == asked + 1
        assert (await account(house))["pauses"] == []
        assert [len(await house.api.events(f"orders_{word}")) for word in ("paused", "resumed")] == [1, 1]

        # what came to its end long ago is forgotten, and nothing that is open
        house.api.clock.moment += timedelta(days=61)
        assert await ca_asks.sweep(house.api.house.ctx) > 0
        assert await house.rows("ca_orders") == []
        assert await house.rows("ca_asks") == []


async def test_a_key_change_that_breaks_off_anywhere_leaves_an_account_that_works(tmp_path, names, ca, monkeypatch):
    """Before and behind each commit, and with the request or the answer lost: the CA says which key it is."""
    async with open_ca_house(tmp_path) as house:
        await house.issuer(ca.config(**by_dns(names)))
        await house.api.made("/api/v1/issuers/iss-acme/test", {}, 200)
        url, ctx = (await account(house))["account_url"], house.api.house.ctx

        async def roll() -> str:
            return await ca_accounts.roll_key(ctx, ctx.scope, "iss-acme")

        async def key() -> bytes:
            ((sealed,),) = await house.rows("ca_accounts", "sealed")
            return bytes(sealed)

        async def knows_us() -> None:
            said = await house.api.made("/api/v1/issuers/iss-acme/test", {}, 200)
            assert url in said["message"]
            assert not (await account(house))["key_change_open"]

        places = [f"commit.ca_account.{word}.{end}" for word in ("next_key", "key") for end in ("before", "after")]
        for at in places:
            with death(at), pytest.raises(DiedError):
                await roll()
            await knows_us()
        real = http.fetch
        for lost in ("there", "back"):
            before = await key()

            async def broken(session: Any, method: str, where: str, lost: str = lost, **more: Any) -> Any:
                if "rollover" not in where:
                    return await real(session, method, where, **more)
                if lost == "back":
                    answer = await real(session, method, where, **more)
                    if not answer.is_success:
                        return answer
                raise Temporary("the line is cut")

            monkeypatch.setattr(http, "fetch", broken)
            with pytest.raises(CertctlError):
                await roll()
            assert (await account(house))["key_change_open"], "shown until it is brought to its end"
            monkeypatch.setattr(http, "fetch", real)
            await knows_us()
            assert (await key() != before) == (lost == "back"), "the key is the one that the CA knows"
        before = await key()
        answer = await house.api.made("/api/v1/issuers/iss-acme/account/roll-key", {}, 200)
        assert "another key" in answer["message"]
        assert await key() != before
        await knows_us()
        local = await house.api.call("POST", "/api/v1/issuers/iss-local/account/roll-key", {})
        assert local.status_code >= 400
        await house.ask("cert-1", f"after.{ZONE}")
        await house.issued("cert-1")


def test_what_public_cas_publish_has_a_source_and_a_date():
    for host, known in ca_limits.BY_HOST.items():
        assert known.source.startswith("https://"), host
        assert len(known.as_of) == 10, host
        assert limits_of(f"https://{host}/directory") is known
    assert limits_of("https://ca.corp.example/dir") is limits_of("not an address [") is ca_limits.UNKNOWN

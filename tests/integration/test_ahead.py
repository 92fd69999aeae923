"""Renewals a day to come, and the planned renewal of one certificate: by policy, or when its CA suggests."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
import sqlalchemy as sa

from certctl.control.ahead import Ahead, Day, look_ahead
from certctl.core.catalogue import RenewalPolicy
from certctl.store import asked, catalogue, certificates, schema
from certctl.store.asked import SuggestionRecord
from certctl.web.ahead import draw
from certctl.web.rows import gather, planned
from integration.api_house import open_api
from integration.test_web import Visitor, issued

DAYS = 91


@pytest.fixture
async def api(tmp_path, database_url):
    async with open_api(tmp_path / "data", database_url) as fresh:
        yield fresh


async def ahead(api, scope=None):
    ctx = api.house.ctx
    async with ctx.database.read() as tx:
        return await look_ahead(tx, scope or ctx.scope, ctx.now(), DAYS)


async def test_what_renews_by_itself_is_foreseen_by_policy_or_by_its_cas_wish(api):
    agent = await api.agent()
    wanted = {"common_name": "shop.example.com", "target_ids": [await api.target(agent)]}
    shop = (await api.made("/api/v1/certificates", wanted))["id"]
    await agent.serve()
    await issued(api, "its-key-is-elsewhere.example.com")
    now = api.house.ctx.now()
    found = await ahead(api)
    assert [each.day for each in found.days] == [now.date() + timedelta(days=at) for at in range(DAYS)]
    busy = [at for at, each in enumerate(found.days) if each.number]
    assert len(busy) == 1, "one renews by itself once in so many days; whoever holds its own key comes by itself"
    assert 59 <= busy[0] <= 64, "when a third of 90 days is left, spread over a tenth of that"
    assert found.most_done == 0

    # its CA would like it to be renewed in ten days: that is what lists, pages and the chart go by
    ctx = api.house.ctx
    start = now + timedelta(days=10)
    versions = schema.versions.c
    async with ctx.database.begin("test") as tx:
        version_id = await tx.scalar(sa.select(versions.id).where(versions.certificate_id == shop))
        await tx.execute(sa.update(schema.versions).where(versions.id == version_id).values(ca_certificate_id=""))
        said = SuggestionRecord(
            tenant_id=ctx.scope.tenant_id, version_id=version_id, window_start=start,
            window_end=start + timedelta(hours=6), explanation_url="", error="",
            ask_again_at=now + timedelta(hours=6), updated_at=now,
        )  # fmt: skip
        await asked.keep_suggestion(tx, ctx.scope, said)
    found = await ahead(api)
    busy = [at for at, each in enumerate(found.days) if each.number]
    assert abs(busy[0] - 10) <= 2
    assert sum(each.number for each in found.days) == 2, "and once more, sixty days later"
    async with ctx.database.read() as tx:
        certificate = await certificates.certificate(tx, ctx.scope, shop)
        policy = await catalogue.get(tx, ctx.scope, RenewalPolicy, certificate.renewal_policy_id)
        (facts,) = await gather(tx, ctx.scope, [certificate], now)
    renews = planned(facts, policy)
    assert renews is not None
    assert start <= renews <= start + timedelta(hours=6)
    visitor = Visitor(api)
    await visitor.sign_in(api.admin)
    overview = await visitor.get("/")
    assert "Renewals per day to come" in overview.text
    assert overview.text.count("<title>") == 1 + DAYS
    await visitor.http.aclose()


def test_a_chart_says_what_it_shows_and_nothing_of_nothing():
    first = date(2026, 11, 26)
    days = [Day(first + timedelta(days=at), at % 7) for at in range(28)]
    chart = draw(Ahead(days, 12))
    assert chart is not None
    assert chart.top == 12
    assert chart.done == chart.top_at, "the most ever done is higher than any day to come"
    assert [week.number for week in chart.weeks] == [21] * 4
    assert all(week.most == 6 for week in chart.weeks)
    assert chart.bars[0].height == "0.00%"
    assert chart.bars[0].today
    assert not chart.bars[1].today
    assert draw(Ahead([Day(first, 0)], 3)) is None

"""The forecast of a real inventory, by the API and the terminal: counted to the certificate, and only what one may see."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from certctl.cli import forecast as terminal
from certctl.client.models.stats import (
    ForecastCollisions,
    ForecastLimit,
    ForecastMonth,
    ForecastQueue,
    RenewalForecast,
)
from certctl.core.names import parse_names
from certctl.lifecycle import flow
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.csr import build_csr, csr_pem
from certctl.pki.keys import generate_private_key
from integration.api_house import open_api
from integration.test_web import Visitor

DAY = 86400


@pytest.fixture
async def api(tmp_path, database_url):
    async with open_api(tmp_path / "data", database_url) as fresh:
        yield fresh


async def issue(api, name, days, **more):
    pem = csr_pem(build_csr(generate_private_key(KeyAlgorithm.ECDSA_P256), name, parse_names([name])))
    body = {"common_name": name, "csr_pem": pem, "validity_seconds": days * DAY, **more}
    made = await api.made("/api/v1/certificates", body)
    for job in (await api.get(f"/api/v1/jobs?certificate_id={made['id']}"))["data"]:
        await flow.drive(api.house.ctx, job["id"], timedelta(seconds=30))
    return made["id"]


async def test_what_stands_is_renewed_in_thought(api):
    await api.made("/api/v1/teams", {"id": "t-web", "name": "Web"})
    await issue(api, "a.example", 90)
    await issue(api, "b.example", 90, team_id="t-web")
    gone = await issue(api, "gone.example", 90)
    assert (await api.call("POST", f"/api/v1/certificates/{gone}/revoke", {})).is_success

    own = await api.get("/api/v1/stats/renewal-forecast")
    assert own["certificates"] == 2, "what is revoked is not renewed"
    assert own["limited_issuers"] == [], "the built-in CA is nobody's public trust"
    assert own["limits"][-1] == {"date": "2029-03-15", "days": 47}
    assert own["collisions"] == []
    now = api.house.ctx.now()
    assert own["months"][0]["date"] == now.date().replace(day=1).isoformat()
    assert own["months"][-1]["date"] == "2030-12-01"
    years = (datetime(2031, 1, 1, tzinfo=UTC) - now).days / 365
    total = sum(one["renewals"] for one in own["months"])
    assert total == pytest.approx(2 * years * 365 / 60, rel=0.3), "each is renewed when a third of 90 days is left"

    bound = await api.get("/api/v1/stats/renewal-forecast?limited=iss-local&orders=1&per_hours=24")
    assert bound["limited_issuers"] == ["iss-local"]
    assert sum(one["renewals"] for one in bound["months"]) > total
    (clash,) = bound["collisions"]
    assert clash["unspread"]["most_waiting"] == 1, "two that come at once are over a budget of one"
    assert clash["unspread"]["longest_wait_hours"] == 24
    assert clash["unspread"]["hours_over"] > clash["spread"]["hours_over"]

    everyone = await api.get("/api/v1/stats/renewal-forecast?limited=*")
    assert everyone["months"] == bound["months"]

    until = (now + timedelta(days=20)).date()
    near = await api.get(f"/api/v1/stats/renewal-forecast?until={until}")
    assert sum(one["renewals"] for one in near["months"]) == 0

    key = await api.key("r-viewer", teams=["t-web"])
    seen = await api.get("/api/v1/stats/renewal-forecast", key=key)
    assert seen["certificates"] == 1, "another team's fleet is nobody's business"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_the_page_shows_the_same_and_judges_what_is_asked(api):
    visitor = Visitor(api)
    await visitor.sign_in(api.admin)
    assert "Nothing to foresee yet" in (await visitor.get("/forecast")).text
    await issue(api, "a.example", 90)
    own = (await visitor.get("/forecast")).text
    assert "None of these comes from a CA of public trust" in own
    bound = (await visitor.get("/forecast?bound=*&orders=1&per_hours=24")).text
    assert "From 15 Mar on: at most 47 days" in bound
    assert "Nobody waits." in bound
    wrong = (await visitor.get("/forecast?orders=many&per_hours=0")).text
    assert wrong.count('aria-invalid="true"') == 2
    assert 'value="many"' in wrong
    await visitor.http.aclose()


@pytest.mark.parametrize(
    "query",
    ["until=2001-01-01", "until=2999-01-01", "until=soon", "orders=5", "per_hours=5", "orders=-1", "per_hours=9999999"],
)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_what_cannot_be_asked_is_told(api, query):
    answer = await api.call("GET", f"/api/v1/stats/renewal-forecast?{query}")
    assert answer.status_code == 400, answer.text
    assert answer.json()["detail"]


def test_the_terminal_shows_steps_bars_and_budgets():
    began = datetime(2026, 11, 26, 12, tzinfo=UTC)

    def month(at: str, renewals: int) -> ForecastMonth:
        day = datetime.fromisoformat(at).date()
        return ForecastMonth(
            date=day, renewals=renewals, busiest_hour_renewals=3, busiest_hour_at=began, busiest_hour_unspread=1200
        )

    clash = ForecastCollisions(
        issuer_id="iss-le",
        spread=ForecastQueue(hours_over=0, first_at=None, most_waiting=0, longest_wait_hours=0),
        unspread=ForecastQueue(hours_over=12, first_at=began, most_waiting=1500, longest_wait_hours=40),
    )
    found = RenewalForecast(
        as_of=began,
        certificates=12_345,
        limited_issuers=["iss-le"],
        limits=[ForecastLimit(date=date(2027, 3, 15), days=100)],
        months=[month("2027-02-01", 500), month("2027-03-01", 1000)],
        collisions=[clash],
    )
    assert terminal.lines(found) == [
        "12,345 certificates stand; the limits of public trust bind iss-le.",
        "",
        "month       renewals  busiest hour   unspread",
        "2027-02          500             3      1,200  " + "█" * 15,
        "-- 2027-03-15: at most 100 days --",
        "2027-03        1,000             3      1,200  " + "█" * 30,
        "",
        "Expected counts. Unspread: the busiest hour, if all that are alike came at once.",
        "iss-le, within the budget:",
        "  as certctl spreads them   nobody waits",
        "  all at once               up to 1,500 wait, 40 h at most; first on 2026-11-26",
    ]

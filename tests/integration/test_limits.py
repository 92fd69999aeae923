"""Rate limits: strangers by address, callers by themselves, replicas together; proxies and foreign origins."""

from __future__ import annotations

import asyncio
import ipaddress
from datetime import timedelta

import httpx
import pytest

from certctl.api.app import create_api
from certctl.core.errors import RateLimited
from certctl.core.rules import DoorRules, LimitRules, Rate
from certctl.core.scope import Scope
from certctl.doors.limits import Limiter
from certctl.doors.state import AppState
from certctl.store import rates
from certctl.store.wake import Wakeups
from integration.api_house import Api, open_api

TIGHT = LimitRules(enabled=True, address=Rate(per_second=1, burst=5), caller=Rate(per_second=2, burst=40))
STRANGER = {"Authorization": "Bearer nobody-knows-this"}


@pytest.fixture
async def api(tmp_path):
    async with open_api(tmp_path / "data", "", DoorRules(limits=TIGHT)) as fresh:
        fresh.clock.moment += timedelta(minutes=1)  # what bootstrap took is back
        yield fresh


async def codes(api: Api, number: int, path: str = "/api/v1/jobs", **headers: str) -> list[int]:
    return [(await api.http.get(path, headers=headers)).status_code for _ in range(number)]


async def test_strangers_are_counted_by_address_and_told_when_to_come_back(api):
    assert await codes(api, 7, **STRANGER) == [401] * 5 + [429] * 2
    answer = await api.http.get("/api/v1/jobs", headers=STRANGER)
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["code"] == "rate_limited"
    assert answer.headers["content-type"] == "application/problem+json"
    api.clock.moment += timedelta(seconds=2)
    assert await codes(api, 3, **STRANGER) == [401, 401, 429]


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Basic x"}, {"Authorization": "Bearer ctk_x"}, {"Cookie": "a=b"}]
)
async def test_whatever_a_stranger_sends_is_counted(api, headers):
    assert await codes(api, 6, **headers) == [401] * 5 + [429]


async def test_whoever_is_known_does_not_share_the_limit_of_an_address(api):
    for _ in range(30):
        assert (await api.call("GET", "/api/v1/jobs")).status_code == 200
        api.state.callers.forget()  # looked up anew each time: counted, and given back
    assert await codes(api, 6, **STRANGER) == [401] * 5 + [429]
    # a flood from the same address keeps out strangers, not who is known already
    assert (await api.call("GET", "/api/v1/jobs")).status_code == 429
    api.clock.moment += timedelta(seconds=1)
    assert (await api.call("GET", "/api/v1/jobs")).status_code == 200
    assert await codes(api, 2, **STRANGER) == [401, 429]
    assert (await api.call("GET", "/api/v1/jobs")).status_code == 200


async def test_each_caller_has_a_limit_of_their_own(api):
    one, other = await api.key("r-viewer"), await api.key("r-viewer")
    told = [(await api.call("GET", "/api/v1/jobs", key=one)).status_code for _ in range(42)]
    assert told == [200] * 40 + [429] * 2
    assert (await api.call("GET", "/api/v1/jobs", key=other)).status_code == 200
    api.clock.moment += timedelta(seconds=1)
    assert [(await api.call("GET", "/api/v1/jobs", key=one)).status_code for _ in range(3)] == [200, 200, 429]


async def test_probes_are_never_refused_and_other_public_routes_are_counted(api):
    assert set(await codes(api, 20, "/health")) == {200}
    assert set(await codes(api, 20, "/ready")) == {200}
    assert await codes(api, 6, "/api/v1/version") == [200] * 5 + [429]
    answer = await api.call("POST", "/auth/login", {"api_key": "x"}, key="")
    assert answer.status_code == 429


async def test_enrolment_with_guessed_tokens_is_counted(api):
    body = {"name": "x", "hostname": "x"}
    told = [(await api.call("POST", "/api/v1/agents", body, key="cte_guess")).status_code for _ in range(7)]
    assert told == [401] * 5 + [429] * 2


async def test_a_header_of_somebody_nobody_trusts_moves_no_limit(api):
    told = [
        (await api.http.get("/api/v1/jobs", headers=STRANGER | {"X-Forwarded-For": f"203.0.113.{number}"})).status_code
        for number in range(7)
    ]
    assert told == [401] * 5 + [429] * 2
    assert {row["address"] for row in await api.events("call_denied")} == {"127.0.0.1"}


async def test_behind_a_trusted_proxy_each_client_counts_for_itself(tmp_path):
    rules = DoorRules(limits=TIGHT, trusted_proxies=(ipaddress.ip_network("127.0.0.0/8"),))
    async with open_api(tmp_path / "data", "", rules) as api:
        for client in ("203.0.113.1", "2001:db8::1"):
            assert await codes(api, 6, **STRANGER, **{"X-Forwarded-For": client}) == [401] * 5 + [429]
        # what the client writes itself stands left of it
        spoofed = {"X-Forwarded-For": "198.51.100.1, 203.0.113.1"}
        assert await codes(api, 1, **STRANGER, **spoofed) == [429]
        assert await codes(api, 1, **STRANGER, **{"X-Forwarded-For": "2001:db8::2"}) == [429]  # the same /64
        assert {row["address"] for row in await api.events("call_denied")} == {"203.0.113.1", "2001:db8::1"}


async def test_a_bucket_gives_each_token_once(tmp_path, database_url):
    async with open_api(tmp_path / "data", database_url) as api:
        scope, rate, now = Scope.whole("t-default"), Rate(per_second=2, burst=10), api.clock.now()

        async def take(wanted: int, moment=now) -> tuple[int, float]:
            async with api.house.database.begin("test") as tx:
                return await rates.take(tx, scope, "test", rate, wanted, moment)

        taken = [number for number, _ in await asyncio.gather(*(take(3) for _ in range(8)))]
        assert sum(taken) == 10
        assert await take(1) == (0, 0.5)
        assert (await take(5, now + timedelta(seconds=1)))[0] == 2
        assert (await take(5, now))[0] == 0  # a replica whose clock is behind gets nothing twice
        assert (await take(50, now + timedelta(hours=1)))[0] == 10
        async with api.house.database.begin("test") as tx:
            assert await rates.sweep(tx, scope, now + timedelta(minutes=1)) == 0
            assert await rates.sweep(tx, scope, now + timedelta(hours=2)) == 1


async def test_replicas_count_together(tmp_path, postgres_server):
    rate = Rate(per_second=10, burst=100)
    async with open_api(tmp_path / "data", postgres_server.new_database()) as api:
        replicas = [Limiter(api.house.ctx, shared=True) for _ in range(3)]

        async def hammer(limiter: Limiter) -> int:
            through = 0
            for _ in range(200):
                try:
                    await limiter.take("caller", "one", rate)
                except RateLimited as refused:
                    assert refused.retry_after >= timedelta(seconds=1)
                else:
                    through += 1
            return through

        # the clock stands still: 100 for all together, and a tenth of it for each by itself
        assert sum(await asyncio.gather(*(hammer(limiter) for limiter in replicas))) == 130
        api.clock.moment += timedelta(seconds=2)
        assert sum(await asyncio.gather(*(hammer(limiter) for limiter in replicas))) == 26


async def test_foreign_pages_are_refused_unless_listed(tmp_path):
    rules = DoorRules(cors_origins=("https://ui.example",))
    async with open_api(tmp_path / "data", "", rules) as api:
        asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        good = await api.http.options("/api/v1/certificates", headers=asks | {"Origin": "https://ui.example"})
        assert good.status_code == 204
        assert good.headers["access-control-allow-origin"] == "https://ui.example"
        assert "X-CSRF-Token" in good.headers["access-control-allow-headers"]
        read = await api.call("GET", "/api/v1/jobs", headers={"Origin": "https://ui.example"})
        assert read.headers["access-control-allow-origin"] == "https://ui.example"
        refused = await api.call("GET", "/api/v1/jobs", key="x", headers={"Origin": "https://ui.example"})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "https://ui.example")
        for origin in ("https://evil.example", "null", "https://ui.example.evil"):
            for answer in (
                await api.http.options("/api/v1/certificates", headers=asks | {"Origin": origin}),
                await api.call("GET", "/api/v1/jobs", headers={"Origin": origin}),
            ):
                assert "access-control-allow-origin" not in answer.headers
                assert "Origin" in answer.headers["vary"]


async def test_two_replicas_share_what_a_key_may_still_ask(tmp_path, postgres_server):
    limits = LimitRules(
        enabled=True, address=Rate(per_second=1, burst=100), caller=Rate(per_second=1, burst=50), shared=True
    )
    async with open_api(tmp_path / "data", postgres_server.new_database(), DoorRules(limits=limits)) as api:
        key = await api.key("r-viewer")
        second = AppState(
            api.house.ctx, Wakeups(), 100_000, None, "0.1.0", api.clock.now(), rules=DoorRules(limits=limits)
        )
        transport = httpx.ASGITransport(create_api(second), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="https://second.test") as other:
            headers = {"Authorization": f"Bearer {key}"}
            told = []
            for number in range(120):
                http = api.http if number % 2 else other
                told.append((await http.get("/api/v1/auth/me", headers=headers)).status_code)
        assert told.count(200) == 60  # 50 together, 5 each by themselves
        assert set(told) == {200, 429}

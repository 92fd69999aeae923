"""Our ACME issuer when things go wrong: lost requests and answers, deaths, a CA that forgets, one that refuses.

Judged each time: one certificate an intent at the CA, the same order gone on with, and a job that says what to do next.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import timedelta
from typing import Any
from unittest import mock

import httpx
import pytest

from certctl.connectors import http
from certctl.connectors.issuers.acme import AcmeIssuer
from certctl.connectors.solvers.rfc2136 import Rfc2136Solver
from certctl.control import ca_proofs
from certctl.core.errors import Temporary
from certctl.lifecycle import flow
from certctl.telemetry import points
from peers.bind import ZONE, Bind, bind
from peers.pebble import Pebble, pebble
from protocol.ca_house import CaHouse, by_dns, left_at, open_ca_house

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("pebble"), pytest.mark.timeout(600)]
ISSUED = "Issued certificate serial"
PLACES = 8
CURRENT: ContextVar[str] = ContextVar("asking_for", default="")


@pytest.fixture(scope="module")
def names() -> Iterator[Bind]:
    with bind() as made:
        yield made


@pytest.fixture(scope="module")
def ca(names) -> Iterator[Pebble]:
    with pebble(names.resolver) as made:
        yield made


class Line:
    """What lies between us and the CA: breaks once for each name, at the n-th request, on its way there or back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.plans: dict[str, tuple[int, str]] = {}
        self.passed: Counter[str] = Counter()
        self.broken: set[str] = set()
        self.answers: dict[str, httpx.Response] = {}
        self._fetch = http.fetch
        monkeypatch.setattr(http, "fetch", self.fetch)
        for verb in ("submit", "collect"):
            monkeypatch.setattr(AcmeIssuer, verb, _knowing(getattr(AcmeIssuer, verb)))

    async def fetch(self, session: Any, method: str, url: str, **more: Any) -> httpx.Response:
        name = CURRENT.get()
        if method != "POST" or name not in self.plans:
            return await self._fetch(session, method, url, **more)
        self.passed[name] += 1
        nth, where = self.plans[name]
        if self.passed[name] != nth:
            return await self._fetch(session, method, url, **more)
        self.broken.add(name)
        if where == "refused":
            answer = self.answers[name]
            answer.request = httpx.Request(method, url)
            return answer
        if where == "back":
            await self._fetch(session, method, url, **more)
        raise Temporary("the line is cut")


def _knowing(verb: Any) -> Any:
    async def known(self: AcmeIssuer, *given: Any) -> Any:
        CURRENT.set(given[-1].common_name)
        return await verb(self, *given)

    return known


async def test_whatever_is_lost_on_the_way_there_is_one_certificate(tmp_path, names, ca, monkeypatch):
    """Each of the first eight requests of an order, on its way there and back, all at once."""
    before = ca.count(ISSUED)
    async with open_ca_house(tmp_path) as house:
        await house.issuer(ca.config(**by_dns(names)))
        await house.api.made("/api/v1/issuers/iss-acme/test", {}, 200)
        line = Line(monkeypatch)
        for number in range(1, PLACES + 1):
            for where in ("there", "back"):
                line.plans[f"{where}{number}.{ZONE}"] = (number, where)
        for name in line.plans:
            await house.ask(f"cert-{name.partition('.')[0]}", name)
        for name in line.plans:
            await house.issued(f"cert-{name.partition('.')[0]}")
        assert line.broken == set(line.plans)
        assert ca.count(ISSUED) - before == len(line.plans), "one certificate an intent"
        rows = await house.rows("ca_orders", "order_id")
        assert len({row[0] for row in rows}) == len(rows) == len(line.plans)


async def test_a_rate_limit_is_waited_out(tmp_path, names, ca, monkeypatch):
    async with open_ca_house(tmp_path) as house:
        await house.issuer(ca.config(**by_dns(names)))
        await house.api.made("/api/v1/issuers/iss-acme/test", {}, 200)
        line = Line(monkeypatch)
        name = f"many.{ZONE}"
        line.plans[name] = (1, "refused")
        told = {"type": "urn:ietf:params:acme:error:rateLimited", "detail": "300 orders in three hours"}
        line.answers[name] = httpx.Response(429, json=told, headers={"Retry-After": "3600"})
        began = house.api.clock.now()
        await house.ask("cert-1", name)

        async def waits() -> Any:
            (job,) = await house.jobs()
            return job if job.get("last_error") else None

        job = await house.run(waits, "the refusal is told")
        assert "rateLimited (300 orders in three hours)" in job["last_error"]
        assert job["status"] == "Running"
        assert await flow.claim(house.api.house.ctx, 20) == [], "nothing is tried before its time"
        house.api.clock.moment = began + timedelta(hours=2)
        await house.issued("cert-1")


class DiedError(BaseException):
    """The process is gone: nothing that comes behind is done."""


@contextlib.contextmanager
def death(at: str, nth: int) -> Iterator[list[str]]:
    """Dies when a point is passed for the n-th time."""
    passed: list[str] = []

    def hook(name: str) -> None:
        if name == at:
            passed.append(name)
            if len(passed) == nth:
                raise DiedError(name)

    points.hook = hook
    try:
        yield passed
    finally:
        points.hook = None


async def lived(house: CaHouse, certificate_id: str) -> bool:
    """Run until it is issued; False when the process died on the way."""
    try:
        await house.issued(certificate_id)
    except DiedError:
        return False
    return True


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_a_process_that_dies_goes_on_with_the_same_order(kind, tmp_path, names, ca, request):
    """Before and behind the claim of the order, and before each answer is kept: placed, proven, finalized."""
    url = "" if kind == "sqlite" else request.getfixturevalue("postgres_server").new_database()
    issued, ordered = ca.count(ISSUED), ca.count("orders in the db")
    async with open_ca_house(tmp_path, url) as house:
        await house.issuer(ca.config(**by_dns(names)))
        await house.api.made("/api/v1/issuers/iss-acme/test", {}, 200)
        places = [("commit.ca_order.claim.before", 1), ("commit.ca_order.claim.after", 1)]
        places += [("commit.issue.answer.before", nth) for nth in (1, 2, 3)]
        for number, (at, nth) in enumerate(places):
            certificate_id = f"cert-{number}"
            await house.ask(certificate_id, f"died{number}.{ZONE}")
            with death(at, nth):
                assert not await lived(house, certificate_id), (at, nth)
            house.api.clock.moment += house.api.house.ctx.patience.lease * 2
            assert await flow.free_lapsed(house.api.house.ctx) >= 1
            assert await lived(house, certificate_id)
            versions = await house.api.get(f"/api/v1/certificates/{certificate_id}/versions")
            assert versions["total"] == 1
        assert ca.count(ISSUED) - issued == len(places)
        # the order whose claim was lost was found in the CA's list: none was placed twice
        assert ca.count("orders in the db") - ordered == len(places)


# where the CA is killed and started anew, empty, and whether the very request still comes to its certificate
KILLED_AT = {
    "acme.ordered": True,
    "acme.presented": True,
    "acme.answered": True,
    "acme.finalizing": False,
    "acme.finalized": False,
    "acme.fetched": True,
}


@contextlib.contextmanager
def forgets(ca: Pebble, at: str) -> Iterator[None]:
    """It loses its memory the first time that a point is passed."""

    def hook(name: str) -> None:
        if name == at:
            points.hook = None
            ca.kill()
            ca.start()

    points.hook = hook
    try:
        yield
        assert points.hook is None, f"{at} was passed"
    finally:
        points.hook = None


async def test_a_ca_killed_at_each_step_and_started_empty(tmp_path, names, monkeypatch):
    """Nothing finalized: a new order within the request. Finalize sent: lost, counted, shown, and never sent again."""
    finalized, fetch = [], http.fetch

    async def noted(session: Any, method: str, url: str, **more: Any) -> httpx.Response:
        if "finalize" in url:
            finalized.append(url)
        return await fetch(session, method, url, **more)

    monkeypatch.setattr(http, "fetch", noted)
    with pebble(names.resolver) as ca:
        async with open_ca_house(tmp_path) as house:
            await house.issuer(ca.config(**by_dns(names)))
            await house.api.made("/api/v1/issuers/iss-acme/test", {}, 200)
            lost = 0
            for number, (at, comes_through) in enumerate(KILLED_AT.items()):
                finalized.clear()
                with forgets(ca, at):
                    await house.ask(f"cert-{number}", f"step{number}.{ZONE}")
                    job = await house.ended(f"cert-{number}")
                assert len(set(finalized)) == 1, (at, "one order is finalized for an intent")
                versions = await house.api.get(f"/api/v1/certificates/cert-{number}/versions")
                if not comes_through:
                    lost += 1
                    assert job["status"] == "Failed", (at, job)
                    assert "counted as lost" in job["last_error"], at
                    if lost == 1:
                        await house.ask(f"cert-{number}-again", f"step{number}.{ZONE}", name=f"again {number}")
                        await house.issued(f"cert-{number}-again")
                else:
                    assert job["status"] == "Completed", (at, job)
                assert versions["total"] == int(comes_through), at
                told = (await house.api.get("/api/v1/issuers/iss-acme/account"))["lost_orders"]
                assert [one["certificate_id"] for one in told] == [f"cert-{each}" for each in (4, 3)[2 - lost :]], at
            assert len(await house.api.events("order_lost")) == lost
            for number in range(len(KILLED_AT)):
                assert left_at(names, f"_acme-challenge.step{number}.{ZONE}") == [], (
                    "also of orders that were forgotten"
                )
            assert await house.rows("ca_proofs") == []
            assert len(await house.rows("ca_accounts")) == 1, "the same key registered again"


async def test_what_stands_in_a_zone_for_a_job_that_was_called_off_is_taken_away(tmp_path, names, ca):
    async with open_ca_house(tmp_path) as house:
        ctx, place = house.api.house.ctx, f"_acme-challenge.left.{ZONE}"
        # it is put, and never seen where it is looked for
        await house.issuer(ca.config(**by_dns(names, propagation_servers=["127.0.0.1:1"])))
        await house.ask("cert-1", f"left.{ZONE}", f"*.left.{ZONE}")

        async def put() -> bool:
            return len(left_at(names, place)) == 2

        await house.run(put, "both records are put")
        (job,) = await house.jobs()
        assert await ca_proofs.sweep(ctx) == 0, "it is still going on"
        cancelled = await house.api.call("POST", f"/api/v1/jobs/{job['id']}/cancel", {})
        assert cancelled.is_success, cancelled.text
        # a zone that takes no update keeps them, and they are not forgotten
        with mock.patch.object(Rfc2136Solver, "cleanup", side_effect=Temporary("the zone is shut")):
            assert await ca_proofs.sweep(ctx) == 0
        assert (len(left_at(names, place)), len(await house.rows("ca_proofs"))) == (2, 2)
        assert await ca_proofs.sweep(ctx) == 1
        assert (left_at(names, place), await house.rows("ca_proofs")) == ([], [])


async def test_each_refusal_says_what_to_do_next(tmp_path, names, ca):
    cases = {
        "blocked": (by_dns(names), f"blocked.{ZONE}", "rejectedIdentifier", "ask another issuer"),
        "wild": ({}, f"*.wild.{ZONE}", "dns-01", "a wildcard needs dns-01"),
        "unknown": ({}, "nowhere.invalid", "connection", "could not connect to the name"),
        "foreign": (by_dns(names), "shop.elsewhere.test", "answered REFUSED", "see the key's rights"),
        "stranger": (by_dns(names, tsig_secret="c29tZWJvZHkgZWxzZQ=="), f"key.{ZONE}", "TSIG key", "tsig_secret"),
        "terms": ({"terms_of_service_agreed": False}, f"terms.{ZONE}", "terms of service", "terms_of_service_agreed"),
    }
    async with open_ca_house(tmp_path) as house:
        for word, (more, name, *_) in cases.items():
            await house.issuer(ca.config(**more), f"iss-{word}")
            await house.ask(f"cert-{word}", name)
        for word, (_, _, said, advice) in cases.items():
            job = await house.ended(f"cert-{word}")
            assert job["status"] == "Failed", job
            assert said in job["last_error"], job
            assert advice in job["last_error"], job


async def test_no_answer_leads_to_the_inside(tmp_path, names, ca):
    """Without leave for its network the CA is not dialled, and the refusal says which setting gives it."""
    from integration.api_house import open_api

    async with open_api(tmp_path) as api:
        house = CaHouse(api)
        await house.issuer(ca.config(**by_dns(names)))
        answer = await api.call("POST", "/api/v1/issuers/iss-acme/test", {})
        assert answer.status_code >= 400
        assert "CERTCTL_ISSUERS_ALLOWED_NETWORKS" in answer.text


async def test_secrets_of_an_issuer_are_kept_and_never_shown(tmp_path, names, ca):
    async with open_ca_house(tmp_path) as house:
        api = house.api
        config = ca.config(**by_dns(names))
        await house.issuer(config)
        shown = (await api.get("/api/v1/issuers/iss-acme"))["config"]
        assert shown["tsig_secret"] == "[redacted]"
        answer = await api.call("PUT", "/api/v1/issuers/iss-acme", {"config": shown | {"email": "new@acme.test"}})
        assert answer.status_code == 200, answer.text
        await house.ask("cert-1", f"kept.{ZONE}")
        await house.issued("cert-1")
        body = {"id": "iss-other", "name": "other", "type": "ACME", "config": shown}
        answer = await api.call("POST", "/api/v1/issuers", body)
        assert answer.status_code == 400, "what was never given cannot be kept"
        assert "tsig_secret" in answer.text
        for table in ("issuers", "events", "jobs", "ca_accounts"):
            assert names.secret not in str(await house.rows(table if table != "events" else "audit_events"))

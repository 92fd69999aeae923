"""Lists: pages, cursors, filters, search, fields and totals, on both databases, through the API."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from certctl.core.certificate import Certificate
from certctl.core.status import CertificateStatus
from certctl.doors import totals
from certctl.store import certificates, lists
from integration.api_house import Api, open_api

CERTIFICATES = "/api/v1/certificates"


@pytest.fixture
async def api(database_url, tmp_path):
    async with open_api(tmp_path / "data", database_url) as fresh:
        yield fresh


def certificate(api: Api, number: int, **more: Any) -> Certificate:
    now = api.clock.now()
    blank: dict[str, Any] = {
        field.name: "" for field in msgspec.structs.fields(Certificate) if field.type in {str, "str"}
    }
    blank |= dict.fromkeys(
        (
            "validity_seconds",
            "expires_at",
            "last_renewal_at",
            "last_deployment_at",
            "revoked_at",
            "next_check_at",
            "last_failure_at",
        )
    )
    values = blank | {
        "tenant_id": "t-default",
        "id": f"cert-{number:04}",
        "name": f"n{number:04}",
        "common_name": f"host{number:04}.a.example",
        "sans": [f"host{number:04}.a.example", f"alt{number:04}.b.example"],
        "issuer_id": "iss-local",
        "status": CertificateStatus.ACTIVE,
        "tags": {},
        "failures": 0,
        "row_version": 1,
        "created_at": now + timedelta(seconds=number // 3),
        "updated_at": now,
    }
    return Certificate(**values | more)


async def seed(api: Api, *rows: Certificate) -> None:
    async with api.house.database.begin("seed") as tx:
        for row in rows:
            await certificates.insert_certificate(tx, api.house.ctx.scope, row, [])


async def walk(api: Api, query: str, **more: Any) -> list[dict[str, Any]]:
    """Every row of a list, page by page, by cursor."""
    rows: list[dict[str, Any]] = []
    cursor = ""
    for _ in range(1000):
        page = await api.get(f"/api/v1/certificates?{query}&cursor={cursor}", **more)
        rows += page["data"]
        cursor = page.get("next_cursor", "")
        if not cursor:
            return rows
    raise AssertionError("the list never ends")


async def test_every_order_is_walked_whole_while_rows_come_in(api):
    now = api.clock.now()
    moments = [None, now, now + timedelta(days=1)]
    await seed(api, *(certificate(api, n, expires_at=moments[n % 3], environment="xy"[n % 2]) for n in range(30)))
    before = {row["id"] for row in await walk(api, "page_size=500")}
    assert len(before) == 30
    for sort in ("createdAt", "expires_at", "name", "commonName", "status", "environment", "notAfter", "updatedAt"):
        for sign in ("", "-"):
            whole = (await api.get(f"/api/v1/certificates?sort={sign}{sort}&per_page=500"))["data"]
            first = await api.get(f"/api/v1/certificates?sort={sign}{sort}&page_size=7&fields=id")
            assert (first["total"], first["page_size"]) == (len(whole), 7)
            assert "page" not in first
            # what comes in meanwhile is neither a gap nor a double of what was there
            await seed(api, certificate(api, 1000 + len(whole), environment="x", expires_at=now))
            rows = first["data"]
            cursor = first["next_cursor"]
            while cursor:
                page = await api.get(f"/api/v1/certificates?sort={sign}{sort}&page_size=7&fields=id&cursor={cursor}")
                assert page["total"] == len(whole)
                rows += page["data"]
                cursor = page.get("next_cursor", "")
            ids = [row["id"] for row in rows]
            assert len(ids) == len(set(ids))
            assert [each for each in ids if each in before] == [row["id"] for row in whole if row["id"] in before]
            values = [row.get("expires_at") for row in whole]
            if sort == "expires_at" and not sign:
                assert values[-10:] == [None] * 10, "no moment is the greatest"


async def test_a_page_by_number_goes_on_by_cursor(api):
    await seed(api, *(certificate(api, n) for n in range(12)))
    page = await api.get("/api/v1/certificates?page=2&per_page=5")
    assert (page["page"], page["per_page"], page["total"]) == (2, 5, 12)
    after = await api.get(f"/api/v1/certificates?page_size=5&cursor={page['next_cursor']}")
    assert [row["id"] for row in after["data"]] == ["cert-0010", "cert-0011"]
    assert "next_cursor" not in after


async def test_cursors_of_another_kind_are_refused(api):
    await seed(api, *(certificate(api, n) for n in range(4)))
    cursor = (await api.get("/api/v1/certificates?page_size=2"))["next_cursor"]
    wrong = [
        f"/api/v1/certificates?cursor={cursor}&status=Active",
        f"/api/v1/certificates?cursor={cursor}&sort=name",
        f"/api/v1/certificates?cursor={cursor}&sort=-createdAt",
        f"/api/v1/certificates?cursor={cursor}&q=host",
        f"/api/v1/jobs?cursor={cursor}",
        f"/api/v1/certificates?cursor={cursor[:-2]}",
        f"/api/v1/certificates?cursor={'A' if cursor[0] != 'A' else 'B'}{cursor[1:]}",
        "/api/v1/certificates?cursor=%F0%9F%98%80",
        "/api/v1/certificates?cursor=" + "A" * 5000,
        f"/api/v1/certificates?cursor={cursor}&page=2",
    ]
    for path in wrong:
        answer = await api.call("GET", path)
        assert answer.status_code == 400, (path, answer.text)
    assert (await api.get(f"/api/v1/certificates?cursor={cursor}&page_size=1"))["data"][0]["id"] == "cert-0002"


async def test_filters_are_typed_and_statuses_match_in_any_case(api):
    now = api.clock.now()
    await seed(
        api,
        certificate(api, 1, status=CertificateStatus.EXPIRING, expires_at=now + timedelta(days=3), owner_id="o-1"),
        certificate(api, 2, expires_at=now + timedelta(days=90), owner_id="o-2", environment="prod, eu"),
        certificate(api, 3, status=CertificateStatus.REVOKED, owner_id="o-3"),
    )

    async def ids(query: str) -> list[str]:
        return [row["id"][-1] for row in (await api.get(f"/api/v1/certificates?{query}"))["data"]]

    soon = (now + timedelta(days=30)).isoformat()
    assert await ids("status=expiring") == ["1"]
    assert await ids("status=EXPIRING,revoked") == ["1", "3"]
    assert await ids("status=expiring&status=active") == ["1", "2"]
    assert await ids("owner_id=o-1,o-3") == ["1", "3"]
    assert await ids("environment=prod, eu") == ["2"]
    assert await ids(f"expires_before={soon}") == ["1"], "a plus that was not escaped"
    assert await ids(f"expires_after={soon.replace('+', '%2B')}") == ["2"]
    assert await ids("status=&owner_id=") == ["1", "2", "3"]
    assert await ids("sort_desc=true&sort=name") == ["3", "2", "1"]


async def test_whatever_is_wrong_is_told_at_once_and_nothing_is_ignored(api):
    answer = await api.call(
        "GET",
        "/api/v1/certificates?status=gone&sort=secret&page=x&expires_before=soon&fields=id,pem&per_page=9&per_page=8",
    )
    assert answer.status_code == 400
    assert {each["field"] for each in answer.json()["violations"]} == {
        "status", "sort", "page", "expires_before", "fields", "per_page",
    }  # fmt: skip
    for path, meant in (
        ("certificates?statsu=Active", "status"),
        ("jobs?certificate=x", "certificate_id"),
        ("teams?fileds=id", "fields"),
        ("certificates/x?fields=id", ""),
        ("targets?agentid=x", "agent_id"),
    ):
        answer = await api.call("GET", f"/api/v1/{path}")
        assert answer.status_code == 400, answer.text
        (violation,) = answer.json()["violations"]
        assert violation["rule"] == "unknown_parameter"
        assert meant in violation["message"]
    for method, path in (("POST", "certificates/x/renew?froce=true"), ("DELETE", "agents/x?forse=true")):
        assert (await api.call(method, f"/api/v1/{path}")).status_code == 400
    for query in ("q=%ff", "status=%00", "&".join(f"owner_id=o{n}" for n in range(300)), "q=" + "x" * 600):
        assert (await api.call("GET", f"/api/v1/certificates?{query}")).status_code == 400


async def test_search_finds_names_by_beginning_and_domain(api):
    await seed(
        api,
        certificate(
            api, 1, name="shop", common_name="shop.example.com", sans=["shop.example.com", "*.shop.example.com"]
        ),
        certificate(api, 2, name="mail", common_name="mail.example.com", sans=["mail.example.com"]),
        certificate(api, 3, name="other", common_name="notexample.com", sans=["10.0.0.1"]),
        certificate(api, 4, name="100%_sure", common_name="xn--bcher-kva.example", sans=["xn--bcher-kva.example"]),
    )

    async def ids(q: str) -> str:
        page = await api.get("/api/v1/certificates", params={"q": q, "sort": "name"})
        assert page["total"] == len(page["data"])
        return "".join(sorted(row["id"][-1] for row in page["data"]))

    assert await ids("shop.example.com") == "1"
    assert await ids("SHOP") == "1"
    assert await ids("example.com") == "12"
    assert await ids(".example.com") == "12"
    assert await ids("com") == ""
    assert await ids("*.shop") == "1"
    assert await ids("10.0.0") == "3"
    assert await ids("100%") == "4"
    assert await ids("%") == await ids("_") == ""
    assert await ids("bücher.example") == "4"
    assert await ids("otherwise") == ""
    assert await ids("'; DROP TABLE certificate_names; --") == ""
    async with api.house.database.begin("rename") as tx:
        await certificates.change_certificate(tx, api.house.ctx.scope, "cert-0002", api.clock.now(), name="post")
    assert (await ids("post"), await ids("mail.example.com")) == ("2", "2")


async def test_search_finds_serial_numbers_and_fingerprints(api):
    body = {"name": "own", "common_name": "own.example", "csr_pem": make_csr()}
    made = await api.made("/api/v1/certificates", body)
    (version,) = (await api.get(f"/api/v1/certificates/{made['id']}/versions"))["data"]
    serial, fingerprint = version["serial_number"], version["fingerprint_sha256"]
    even = serial if len(serial) % 2 == 0 else f"0{serial}"
    spaced = ":".join(even[i : i + 2] for i in range(0, len(even), 2)).upper()
    for q in (serial, spaced, fingerprint.upper(), fingerprint[:20]):
        assert [row["id"] for row in (await api.get("/api/v1/certificates", params={"q": q}))["data"]] == [
            made["id"]
        ], q
    jobs = await api.get("/api/v1/jobs", params={"q": "own.example", "type": "issuance"})
    assert [row["certificate_id"] for row in jobs["data"]] == [made["id"]]
    found = await api.get(f"/api/v1/certificates/{made['id']}/versions", params={"q": spaced})
    assert [row["id"] for row in found["data"]] == [version["id"]]


async def test_fields_and_totals(api, monkeypatch):
    await seed(api, *(certificate(api, n) for n in range(8)))
    page = await api.get("/api/v1/certificates?fields=name,id&per_page=1")
    assert page["data"] == [{"name": "n0000", "id": "cert-0000"}]
    monkeypatch.setattr(lists, "MOST_COUNTED", 5)
    narrowed = await api.get("/api/v1/certificates?q=host&page_size=3")
    assert (narrowed["total"], narrowed["total_is_estimate"]) == (5, True)
    assert len(await walk(api, "q=host&page_size=3")) == 8
    exact = await api.get("/api/v1/certificates?q=host0001")
    assert exact["total"] == 1
    assert "total_is_estimate" not in exact
    assert (await api.get("/api/v1/certificates"))["total"] == 8


async def test_the_total_of_a_long_list_is_at_most_two_seconds_old_and_says_so(api, monkeypatch):
    await api.made("/api/v1/teams", {"id": "team-a", "name": "a"})
    team = await api.key("r-viewer", teams=["team-a"])
    await seed(api, *(certificate(api, n, team_id="team-a" if n < 6 else "") for n in range(8)))
    short = await api.get(f"{CERTIFICATES}?per_page=2")
    assert "total_as_of" not in short, "what is short is counted each time"
    monkeypatch.setattr(totals, "KEPT_FROM", 5)
    counted, count = [], lists._count

    async def counting(tx, scope, listing, asked):
        counted.append(asked)
        return await count(tx, scope, listing, asked)

    monkeypatch.setattr(lists, "_count", counting)
    first, *others = await asyncio.gather(*(api.get(f"{CERTIFICATES}?per_page=2") for _ in range(9)))
    assert (first["total"], datetime.fromisoformat(first["total_as_of"])) == (8, api.clock.now())
    assert (all(each == first for each in others), len(counted)) == (True, 1)
    await seed(api, certificate(api, 8, environment="new"))
    api.clock.moment += timedelta(seconds=1.9)
    # of another page, order or length it is the same question; of another filter, search or reach it is not
    known = await api.get(f"{CERTIFICATES}?page=2&per_page=3&sort=-name")
    assert (known["total"], known["total_as_of"]) == (8, first["total_as_of"])
    assert known["data"][0]["id"] == "cert-0005", "rows are never remembered"
    assert (await api.get(f"{CERTIFICATES}?per_page=2&q=host"))["total"] == 9
    assert (await api.get(f"{CERTIFICATES}?per_page=2&status=active"))["total"] == 9
    assert (await api.get(f"{CERTIFICATES}?per_page=2", key=team))["total"] == 6
    few = await api.get(f"{CERTIFICATES}?per_page=1&environment=new")
    assert (few["total"], "total_as_of" in few) == (1, False)
    api.clock.moment += timedelta(seconds=0.1)
    assert (await api.get(f"{CERTIFICATES}?per_page=2"))["total"] == 9
    api.clock.moment -= timedelta(hours=1)  # a clock that was set back
    fresh = await api.get(f"{CERTIFICATES}?per_page=2")
    assert datetime.fromisoformat(fresh["total_as_of"]) == api.clock.now()


async def test_every_list_of_the_api_pages_both_ways(api):
    for name in (
        "jobs",
        "issuers",
        "targets",
        "agents",
        "agents/retired",
        "profiles",
        "renewal-policies",
        "owners",
        "agent-groups",
        "teams",
    ):
        page = await api.get(f"/api/v1/{name}?page=1&per_page=5")
        assert (page["page"], page["per_page"]) == (1, 5)
        first = await api.get(f"/api/v1/{name}?page_size=1")
        assert first["total"] == page["total"]
        walked, cursor = first["data"], first.get("next_cursor", "")
        while cursor:
            more = await api.get(f"/api/v1/{name}?page_size=1&cursor={cursor}")
            walked, cursor = walked + more["data"], more.get("next_cursor", "")
        assert walked == page["data"]


def make_csr() -> str:
    from certctl.core.names import parse_names
    from certctl.pki.algorithms import KeyAlgorithm
    from certctl.pki.csr import build_csr, csr_pem
    from certctl.pki.keys import generate_private_key

    key = generate_private_key(KeyAlgorithm.ECDSA_P256)
    return csr_pem(build_csr(key, "own.example", parse_names(["own.example"]), False))

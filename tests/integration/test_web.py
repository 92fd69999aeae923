"""The dashboard's doors under attack, without a browser; `test_every_page.py` walks its pages."""

from __future__ import annotations

import asyncio
import re

import httpx
import pytest

from certctl.api.app import create_api
from certctl.core.names import parse_names
from certctl.core.rules import BreakglassRules, DoorRules
from certctl.core.status import CertificateStatus
from certctl.doors import counted
from certctl.doors.cookies import CSRF_COOKIE, SESSION_COOKIE
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.csr import build_csr, csr_pem
from certctl.pki.keys import generate_private_key
from certctl.web import overview
from certctl.web.app import create_web, page_list, with_web
from certctl.web.guard import PERMISSION
from certctl.wire.jws import decode
from integration.api_house import Api, hours, open_api
from integration.test_approvals import person

OURS = {"Sec-Fetch-Site": "same-origin"}


class Visitor:
    """A browser, as far as cookies, forms and redirects go."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(
                with_web(create_api(api.state), create_web(api.state)), raise_app_exceptions=False
            ),
            base_url="https://certctl.test",
            headers={"Accept": "text/html"},
        )

    async def get(self, path: str, **more) -> httpx.Response:
        return await self.http.get(path, **more)

    async def send(self, path: str, fields: dict[str, str], *, csrf: str | None = None, **more) -> httpx.Response:
        token = self.http.cookies.get(CSRF_COOKIE, "") if csrf is None else csrf
        headers = OURS | more.pop("headers", {})
        return await self.http.post(path, data={"csrf": token} | fields, headers=headers, **more)

    async def sign_in(self, key: str, then: str = "/") -> httpx.Response:
        return await self.send("/login", {"api_key": key, "by": "key", "then": then})

    async def once(self, path: str) -> str:
        """The token of the first form of a page."""
        return re.search(r'name="once" value="([0-9a-f]+)"', (await self.get(path)).text)[1]


@pytest.fixture
async def api(tmp_path):
    rules = DoorRules(breakglass=BreakglassRules(enabled=True))
    async with open_api(tmp_path / "data", "", rules) as fresh:
        yield fresh


@pytest.fixture
async def visitor(api):
    found = Visitor(api)
    assert (await found.sign_in(api.admin)).status_code == 303
    yield found
    await found.http.aclose()


def csr(name: str) -> str:
    return csr_pem(build_csr(generate_private_key(KeyAlgorithm.ECDSA_P256), name, parse_names([name]), False))


async def issued(api: Api, common_name: str, **more) -> str:
    return (await api.made("/api/v1/certificates", {"common_name": common_name, "csr_pem": csr(common_name)} | more))[
        "id"
    ]


async def test_no_page_opens_to_strangers_and_each_leads_back_where_they_were(api):
    stranger = Visitor(api)
    for handler in page_list():
        for path in handler.paths:
            for method in handler.http_methods - {"HEAD", "OPTIONS"}:
                asked = re.sub(r"\{[^}]+\}", "x", path)
                answer = await stranger.http.request(
                    method, asked, headers=OURS, data={"a": "b"} if method == "POST" else None
                )
                if handler.opt[PERMISSION] == "public":
                    continue
                if method == "GET":
                    assert answer.status_code == 303, asked
                    assert answer.headers["location"].startswith("/login?then=/"), asked
                else:
                    assert answer.status_code == 401, asked
    for away in ("//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/login"):
        answer = await stranger.sign_in(api.admin, then=away)
        assert answer.headers["location"] == "/", away
    assert (await stranger.sign_in(api.admin, then="/certificates?q=a")).headers["location"] == "/certificates?q=a"
    for cookie in answer.headers.get_list("set-cookie"):
        assert "Secure" in cookie
        assert ("HttpOnly" in cookie) == cookie.startswith(SESSION_COOKIE)
    await stranger.http.aclose()


async def test_a_form_of_another_site_does_nothing(api, visitor):
    certificate = await issued(api, "held.example.com")
    path, once = f"/certificates/{certificate}/archive", "a" * 32
    said = {"once": once, "typed": "held.example.com"}
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Sec-Fetch-Site": ""}):
        assert (await visitor.send(path, said, headers=headers)).status_code == 403
    for headers in ({}, {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": "http://certctl.test"}):
        token = visitor.http.cookies.get(CSRF_COOKIE)
        answer = await visitor.http.post(path, data={"csrf": token} | said, headers=headers)
        assert answer.status_code == 403, headers
    for csrf in ("", "x" * 43, visitor.http.cookies.get(SESSION_COOKIE)):
        assert (await visitor.send(path, said, csrf=csrf)).status_code == 403
    bare = await visitor.http.post(path, json=said, headers=OURS)
    assert bare.status_code == 415
    foreign = await Visitor(api).send(
        "/login", {"api_key": api.admin, "by": "key"}, headers={"Sec-Fetch-Site": "none "}
    )
    assert foreign.status_code == 403
    assert (await api.get(f"/api/v1/certificates/{certificate}"))["status"] == "Active"
    assert (await visitor.send(path, said)).status_code == 303
    assert (await api.get(f"/api/v1/certificates/{certificate}"))["status"] == "Archived"


async def test_a_form_that_is_sent_twice_acts_once(api, visitor):
    agent = await api.agent()
    body = {"common_name": "shop.example.com", "target_ids": [await api.target(agent)]}
    shop = (await api.made("/api/v1/certificates", body))["id"]
    await agent.serve()
    once = await visitor.once(f"/certificates/{shop}")
    answers = [await visitor.send(f"/certificates/{shop}/renew", {"once": once}) for _ in range(3)]
    assert {answer.headers["location"] for answer in answers} == {f"/certificates/{shop}?done=renewal"}
    assert len(await api.events("renewal_triggered")) == 1
    again = await visitor.send(f"/certificates/{shop}/renew", {"once": await visitor.once(f"/certificates/{shop}")})
    assert again.status_code == 409
    assert "already under way" in again.text
    for bad in ("", "short", "x" * 65, "../" * 8):
        assert (await visitor.send(f"/certificates/{shop}/deploy", {"once": bad})).status_code == 400


async def test_what_cannot_be_undone_wants_the_typed_name(api, visitor):
    certificate = await issued(api, "held.example.com")
    path = f"/certificates/{certificate}/revoke"
    said = {"once": "b" * 32, "reason": "superseded", "typed": "held.example.com"}
    for change in ({"typed": ""}, {"typed": "held.example.org"}, {"reason": ""}, {"typed": "HELD.example.com"}):
        answer = await visitor.send(path, said | change)
        assert answer.status_code == 400, change
    assert (await visitor.send(path, said | {"reason": "boredom"})).status_code == 400
    assert (await api.get(f"/api/v1/certificates/{certificate}"))["status"] == "Active"
    assert (await visitor.send(path, said)).headers["location"] == f"/certificates/{certificate}?done=revoked"
    shown = await api.get(f"/api/v1/certificates/{certificate}")
    assert (shown["status"], shown["revocation_reason"]) == (CertificateStatus.REVOKED, "superseded")


async def test_permissions_and_their_reach_decide_what_is_shown_and_done(api):
    mine = (await api.made("/api/v1/teams", {"name": "mine"}))["id"]
    theirs = (await api.made("/api/v1/teams", {"name": "theirs"}))["id"]
    own = await issued(api, "own.example.com", team_id=mine)
    other = await issued(api, "other.example.com", team_id=theirs)
    viewer, auditor = Visitor(api), Visitor(api)
    await viewer.sign_in(await api.key("r-viewer", teams=[mine]))
    await auditor.sign_in(await api.key("r-auditor"))
    listed = (await viewer.get("/certificates")).text
    assert "own." in listed
    assert "other." not in listed
    assert "/request" not in listed
    for path in (f"/certificates/{other}", f"/certificates/{other}?version=x", "/certificates/nothing"):
        assert (await viewer.get(path)).status_code == 404, path
    assert "other." not in (await viewer.get("/find?q=other")).text
    assert "other." not in (await viewer.get("/")).text
    page = (await viewer.get(f"/certificates/{own}")).text
    assert "/revoke" not in page
    assert "/archive" not in page
    for path in ("/request", f"/certificates/{own}/revoke", f"/certificates/{own}/archive"):
        refused = await viewer.get(path)
        assert refused.status_code == 403, path
        assert "You may not do this" in refused.text
        assert (await viewer.send(path, {"once": "c" * 32, "typed": "own.example.com"})).status_code == 403
    assert (await auditor.get("/certificates")).status_code == 403
    home = await auditor.get("/")
    assert home.status_code == 200
    assert "/certificates" not in home.text
    assert (await api.get(f"/api/v1/certificates/{own}"))["status"] == "Active"


async def test_a_session_that_ended_keeps_what_was_filled_in(api, visitor):
    once = await visitor.once("/request")
    api.clock.moment += hours(2)
    asked = {"once": once, "common_name": "late.example.com", "sans": "www.late.example.com"}
    kept = await visitor.send("/request", asked)
    assert kept.status_code == 401
    assert "late.example.com" in kept.text
    fields = dict(re.findall(r'name="(kept[^"]*)" value="([^"]*)"', kept.text))
    assert fields["kept_for"] == "/request"
    resumed = await visitor.send("/login", {"api_key": api.admin, "by": "key"} | fields)
    assert resumed.status_code == 200
    csrf = re.search(r'name="csrf" value="([^"]+)"', resumed.text)[1]
    again = re.search(r'name="once" value="([0-9a-f]+)"', resumed.text)[1]
    done = await visitor.send("/request", asked | {"once": again}, csrf=csrf)
    assert done.status_code == 303, done.text
    assert "done=requested" in done.headers["location"]
    api.clock.moment += hours(2)
    gone = await visitor.get("/certificates?q=x")
    assert gone.headers["location"] == "/login?then=/certificates%3Fq%3Dx&over=1"
    part = await visitor.get("/certificates", headers={"HX-Request": "true"})
    assert part.status_code == 401


async def test_wrong_credentials_read_the_same_and_are_counted(api):
    stranger = Visitor(api)
    body = {"actor_id": "olga", "password": "correct horse battery staple"}
    await api.made("/api/v1/auth/breakglass/credentials", body)
    answers = [
        await stranger.send("/login", {"actor_id": name, "password": "wrong", "by": "password"})
        for name in ("olga", "nobody")
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert {"actor or password is wrong" in answer.text.lower() for answer in answers} == {True}
    assert (await stranger.send("/login", body | {"by": "password"})).status_code == 303
    assert (await stranger.get("/certificates")).status_code == 200
    again = Visitor(api)
    for _ in range(6):
        last = await again.send("/login", {"actor_id": "olga", "password": "a wrong one", "by": "password"})
    assert last.status_code == 429
    assert "a wrong one" not in last.text
    by_key = await again.send("/login", {"api_key": "ctk_nothing", "by": "key"})
    assert by_key.status_code == 401
    assert "ctk_nothing" not in by_key.text


async def test_pages_never_stand_in_the_way_of_other_doors(api, visitor):
    for path in ("/api/v1/nothing", "/auth/nothing", "/acme/x", "/.well-known/nothing", "/health/x"):
        answer = await visitor.get(path)
        assert answer.status_code == 404, path
        assert answer.headers["content-type"] == "application/problem+json", path
    assert (await visitor.get("/health")).headers["content-type"].startswith("application/json")
    nowhere = await visitor.get("/nowhere")
    assert nowhere.status_code == 404
    assert nowhere.headers["content-type"].startswith("text/html")
    asked = await visitor.get("/nowhere", headers={"Accept": "application/json"})
    assert asked.headers["content-type"] == "application/problem+json"
    assert (await visitor.get("/static/0000/certctl.css")).status_code == 404
    assert (await visitor.get("/static/%2e%2e/app.py")).status_code == 404


async def test_a_wrong_filter_is_told_and_pages_go_by_cursor(api, visitor):
    for number in range(5):
        await issued(api, f"n{number}.example.com")
    seen: list[str] = []
    path = "/certificates?page_size=2&amp;q=example.com"
    for _ in range(3):
        page = (await visitor.get(path.replace("&amp;", "&"))).text
        seen += re.findall(r"n\d\.<wbr>example", page)
        found = re.search(r'href="([^"]+)" rel="next"', page)
        path = found[1] if found else ""
    assert len(seen) == len(set(seen)) == 5
    assert not path
    for query in ("colour=red", "status=Purple", "sort=length", "expires_before=tomorrow", "cursor=abc"):
        answer = await visitor.get(f"/certificates?{query}")
        assert answer.status_code == 400, query
        assert "This cannot be understood" in answer.text


async def test_a_second_person_decides_and_says_why_not(api):
    profile = await api.made(
        "/api/v1/profiles", {"name": "asked", "allowed_key_algorithms": [], "requires_approval": True}
    )
    asker, other = Visitor(api), Visitor(api)
    operator = await api.key("r-operator")
    await asker.sign_in(api.admin)
    body = {"csr_pem": csr("two.example.com"), "certificate_profile_id": profile["id"]}
    await api.made("/api/v1/certificates", {"common_name": "two.example.com"} | body)
    body = {"csr_pem": csr("not.example.com"), "certificate_profile_id": profile["id"]}
    await api.made("/api/v1/certificates", {"common_name": "not.example.com"} | body)
    first, second = [row["id"] for row in (await api.get("/api/v1/approvals"))["data"]][::-1]
    mine = (await asker.get(f"/approvals/{first}")).text
    assert "another person has to decide" in mine
    assert "/approve" not in mine
    refused = await asker.send(f"/approvals/{first}/approve", {"once": "d" * 32})
    assert refused.status_code == 403
    # a key of the asker's own making is the asker
    await other.sign_in(operator)
    assert (await other.send(f"/approvals/{first}/approve", {"once": "e" * 32})).status_code == 403
    # whoever set a break-glass password is behind it, too: a second person has a key of their own
    await api.made("/api/v1/auth/breakglass/credentials", {"actor_id": "olga", "password": "correct horse battery"})
    glass, olga = Visitor(api), Visitor(api)
    await glass.send("/login", {"actor_id": "olga", "password": "correct horse battery", "by": "password"})
    assert "another person has to decide" in (await glass.get(f"/approvals/{first}")).text
    await olga.sign_in(await person(api, "otto"))
    page = (await olga.get(f"/approvals/{first}")).text
    assert "two.<wbr>example.<wbr>com" in page
    assert "You may be the second" in page
    decision = re.search(r'name="decision_hash" value="([^"]+)"', page)[1]
    other_hash = {"once": "f" * 32, "decision_hash": "0" * len(decision)}
    assert (await olga.send(f"/approvals/{first}/approve", other_hash)).status_code == 409
    said = {"once": "1" * 32, "decision_hash": decision}
    assert (await olga.send(f"/approvals/{first}/approve", said)).status_code == 303
    silent = await olga.send(f"/approvals/{second}/reject", {"once": "2" * 32})
    assert silent.status_code == 400
    assert "Say why" in silent.text
    rejected = await olga.send(f"/approvals/{second}/reject", {"once": "3" * 32, "note": "not this name"})
    assert rejected.status_code == 303
    assert "not this name" in (await olga.get("/approvals?state=rejected")).text
    states = {row["id"]: row["state"] for row in (await api.get("/api/v1/approvals"))["data"]}
    assert states == {first: "approved", second: "rejected"}


async def test_many_are_previewed_then_done_and_nothing_else(api, visitor):
    ids = [await issued(api, f"many{number}.example.com") for number in range(3)]
    await visitor.send(
        f"/certificates/{ids[2]}/revoke", {"once": "4" * 32, "reason": "superseded", "typed": "many2.example.com"}
    )
    chosen = {"action": "revoke", "id": ids, "once": "5" * 32}
    asked = await visitor.send("/bulk", chosen)
    assert asked.status_code == 200
    assert "3 are chosen" in asked.text
    assert (await visitor.send("/bulk/preview", chosen)).status_code == 400, "a reason is needed"
    previewed = await visitor.send("/bulk/preview", chosen | {"reason": "keyCompromise"})
    path = previewed.headers["location"]
    page = (await visitor.get(path)).text
    assert page.count("Would be done") >= 3
    assert "Nothing was done yet" in page
    assert (await api.get(f"/api/v1/certificates/{ids[0]}"))["status"] == "Active"
    begun = await visitor.send(f"{path}/begin", {"once": "6" * 32})
    assert begun.status_code == 303
    done = await api.get(f"/api/v1{begun.headers['location'].partition('?')[0]}")
    assert (done["total"], done["done"], done.get("dry_run", False)) == (2, 2, False)
    assert (await api.get(f"/api/v1/certificates/{ids[0]}"))["revocation_reason"] == "keyCompromise"
    assert (await api.get(f"/api/v1/certificates/{ids[2]}"))["revocation_reason"] == "superseded"
    waves = {"wave_size": "2", "wave_pause_seconds": "600", "max_failures": "5"}
    renewal = {"action": "renew", "id": ids, "once": "1" * 32}
    assert "So many at a time" in (await visitor.send("/bulk", renewal)).text
    for odd in ({"wave_size": "two"}, {"max_failures": "-1"}, {"wave_pause_seconds": "9" * 30}):
        assert (await visitor.send("/bulk/preview", renewal | waves | odd)).status_code == 400, odd
    previewed = await visitor.send("/bulk/preview", renewal | waves)
    tried = await api.get(f"/api/v1{previewed.headers['location']}")
    assert (tried["wave_size"], tried["wave_pause_seconds"], tried["dry_run"]) == (2, 600, True)
    assert "2 at a time, 600 s of rest between" in (await visitor.get(previewed.headers["location"])).text
    target = await api.target(await api.agent(), "t-waves")
    hosted = {"id": "mc-waves", "common_name": "waves.example", "target_ids": [target]}
    await api.made("/api/v1/certificates", hosted)
    (job,) = (await api.get("/api/v1/jobs?certificate_id=mc-waves"))["data"]
    await api.made(f"/api/v1/jobs/{job['id']}/cancel", {}, 200)
    previewed = await visitor.send("/bulk/preview", renewal | waves | {"id": ["mc-waves"], "once": "2" * 32})
    begun = await visitor.send(f"{previewed.headers['location']}/begin", {"once": "3" * 32})
    going = await api.get(f"/api/v1{begun.headers['location'].partition('?')[0]}")
    assert (going["wave_size"], going["wave_pause_seconds"], going["max_failures"]) == (2, 600, 5)
    assert (going["done"], going.get("dry_run", False)) == (1, False)
    # what was done cannot be begun again, and an empty choice is never all
    assert (
        await visitor.send(f"{begun.headers['location'].partition('?')[0]}/begin", {"once": "7" * 32})
    ).status_code == 400
    assert "Nothing is chosen" in (await visitor.send("/bulk", {"action": "renew", "once": "8" * 32})).text
    assert (await visitor.send("/bulk/preview", {"action": "renew", "once": "9" * 32})).status_code == 400
    assert (await visitor.send("/bulk", {"action": "delete", "id": ids[0]})).status_code == 400
    viewer = Visitor(api)
    await viewer.sign_in(await api.key("r-viewer"))
    assert "bulk" not in (await viewer.get("/certificates")).text.partition("<main")[2].partition("</main")[0]
    for path in ("/bulk", "/bulk/preview"):
        assert (await viewer.send(path, chosen | {"reason": "superseded", "once": "0" * 32})).status_code == 403


async def test_an_enrolment_token_is_shown_once_and_one_ends_only_ones_own_sessions(api, visitor):
    shown = await visitor.send("/enrol", {"agent_name": "web-9'; rm -rf /", "once": "a" * 32})
    assert shown.status_code in {200, 400}
    shown = await visitor.send("/enrol", {"agent_name": "web-9", "once": "b" * 32})
    token = re.search(r"CERTCTL_AGENT_ENROLMENT_TOKEN=(cte_[A-Za-z0-9_-]+)", shown.text)[1]
    assert shown.headers["cache-control"] == "no-store"
    said = {"name": "web-9", "hostname": "web-9.test", "os": "linux", "version": "0.1.0"}
    assert "Not heard of yet" in (await visitor.get("/enrol/web-9")).text
    await api.made("/api/v1/agents", said, key=token)
    assert "web-9" in (await visitor.get("/enrol/web-9")).text
    assert token not in (await visitor.get("/enrol")).text
    other = Visitor(api)
    await other.sign_in(await api.key("r-viewer"))
    (theirs,) = (await api.get("/api/v1/auth/sessions?actor_id=key-r-viewer-1"))["sessions"]
    assert (await visitor.send(f"/settings/sessions/{theirs['id']}/end", {"once": "c" * 32})).status_code == 404
    assert (await other.get("/settings")).status_code == 200
    again = Visitor(api)
    await again.sign_in(api.admin)
    assert (await visitor.send("/settings/sessions/end-others", {"once": "d" * 32})).status_code == 303
    assert (await again.get("/settings")).status_code == 303
    assert (await visitor.get("/settings")).status_code == 200


async def test_forms_of_what_is_set_up_keep_to_permissions_versions_and_what_they_do_not_know(api, visitor):
    agent = await api.agent()
    target = await api.target(agent)
    team = await api.made("/api/v1/teams", {"name": "one"})
    path = f"/teams/{team['id']}"
    said = {"name": "two", "description": "new"}
    for version in ("", "x", "-1", "9" * 12, "\u0661"):
        answer = await visitor.send(path, said | {"row_version": version, "once": await visitor.once(path)})
        assert answer.status_code in {400, 412}, version
    stale = await visitor.send(path, said | {"row_version": "7", "once": await visitor.once(path)})
    assert stale.status_code == 412
    assert "Somebody changed it" in stale.text
    assert (await api.get(f"/api/v1/teams/{team['id']}"))["name"] == "one"
    form = {"row_version": str(team["row_version"]), "once": await visitor.once(path)}
    assert (await visitor.send(path, said | form)).headers["location"] == f"{path}?done=saved"
    # sent again by another click it is done once, sent anew it is of yesterday
    assert (await visitor.send(path, said | form)).headers["location"] == f"{path}?done=saved"
    assert (await visitor.send(path, said | form | {"once": "a" * 32})).status_code == 412
    before = await api.get(f"/api/v1/targets/{target}")
    page = (await visitor.get(f"/targets/{target}")).text
    fields = dict(re.findall(r'name="([a-z_.]+)" value="([^"]*)"', page))
    same = fields | {"enabled": "yes", "agent_id": before["agent_id"], "config.starttls": ""}
    answer = await visitor.send(f"/targets/{target}", same)
    assert answer.headers["location"] == f"/targets/{target}?done=same"
    assert await api.get(f"/api/v1/targets/{target}") == before
    for bad in ({"type": "Nothing"}, {"type": "../x"}, {}):
        assert (await visitor.send("/targets/new", {"name": "x", "once": "b" * 32} | bad)).status_code == 400
    viewer = Visitor(api)
    await viewer.sign_in(await api.key("r-viewer"))
    shown = await viewer.get(f"/targets/{target}")
    assert " disabled" in shown.text
    assert ">Save<" not in shown.text
    for where in (path, "/teams/new", f"{path}/delete", f"/targets/{target}/test", "/policies/try"):
        refused = await viewer.send(where, said | {"once": "c" * 32})
        assert refused.status_code == 403, where


async def test_the_first_overview_of_a_large_inventory_does_not_wait_for_its_counts(api, visitor, monkeypatch):
    await issued(api, "held.example.com")
    real, entered, gate = overview._breaks, asyncio.Event(), asyncio.Event()

    async def slowly(*given):
        entered.set()
        await gate.wait()
        return await real(*given)

    monkeypatch.setattr(counted, "PATIENCE_SECONDS", 0)
    monkeypatch.setattr(overview, "_breaks", slowly)
    asked = asyncio.create_task(visitor.get("/"))
    await entered.wait()
    gate.set()
    first = await asked
    assert first.status_code == 200
    assert "Counting what is issued" in first.text
    assert "data-quick" in first.text
    second = await visitor.get("/")
    assert "Counting what is issued" not in second.text
    assert "Four truths of 1 certificate" in second.text


async def test_an_edit_of_a_profile_that_wants_two_people_waits_for_the_second(api, visitor):
    profile = await api.made("/api/v1/profiles", {"name": "asked", "requires_approval": True})
    path = f"/profiles/{profile['id']}"
    # all as it stands but for one tick
    said = {"name": "asked", "enabled": "yes", "allowed_ekus": "serverAuth", "approvals_required": "1"}
    said |= {"allowed_key_algorithms.0.algorithm": "ECDSA", "allowed_key_algorithms.0.min_size": "256"}
    said |= {"allowed_key_algorithms.1.algorithm": "RSA", "allowed_key_algorithms.1.min_size": "2048"}
    said |= {"row_version": str(profile["row_version"]), "once": await visitor.once(path)}
    answer = await visitor.send(path, said)
    assert answer.headers["location"] == f"{path}?done=waits", re.findall(r"class=.err.*?</p>", answer.text)
    assert "It waits for another person" in (await visitor.get(answer.headers["location"])).text
    assert (await api.get(f"/api/v1/profiles/{profile['id']}"))["requires_approval"]
    (waits,) = (await api.get("/api/v1/approvals?state=pending"))["data"]
    assert waits["kind"] == "profile_edit"


async def test_an_acme_key_is_made_its_secret_shown_once_and_revoked(api, visitor):
    new = "/external-keys/new"
    assert "prof-default" in (await visitor.get(new)).text
    wrong = await visitor.send(new, {"name": "web", "profile_id": "prof-default", "allowed_names": "a b", "days": "30"})
    assert wrong.status_code == 400
    assert 'class="err' in wrong.text or "err" in wrong.text
    said = {"name": "web team", "profile_id": "prof-default", "allowed_names": "corp.example\n10.0.0.0/8", "days": "30"}
    made = await visitor.send(new, said)
    assert (made.status_code, made.headers["cache-control"]) == (200, "no-store"), made.text
    secret = re.search(r'id="cmd-key">([^<]+)<', made.text)[1]
    assert len(decode(secret, "secret")) == 32
    (key,) = (await api.get("/api/v1/acme/external-account-keys"))["data"]
    assert (key["name"], key["allowed_names"], key["reusable"]) == ("web team", ["corp.example", "10.0.0.0/8"], False)
    assert key["id"] in made.text
    assert "/acme/profile/prof-default/directory" in made.text
    for path in ("/external-keys", f"/external-keys/{key['id']}/delete", "/audit"):
        assert secret not in (await visitor.get(path)).text
    assert "web team" in (await visitor.get("/external-keys?q=web")).text
    away = f"/external-keys/{key['id']}/delete"
    said = {"once": await visitor.once(away), "typed": "another"}
    assert (await visitor.send(away, said)).status_code == 400
    answer = await visitor.send(away, said | {"typed": "web team"})
    assert answer.headers["location"] == "/external-keys?done=external-key-revoked"
    assert (await api.get("/api/v1/acme/external-account-keys"))["data"][0]["revoked_at"]
    assert (await visitor.get("/external-keys/nothing/delete")).status_code == 404


async def test_who_may_not_give_a_profile_makes_no_acme_key_for_it_in_the_pages_either(api):
    await api.made("/api/v1/profiles", {"id": "prof-b", "name": "b"})
    limited = Visitor(api)
    await limited.sign_in(await api.key("r-cli", profiles=["prof-b"]))
    said = {"name": "web", "profile_id": "prof-default", "allowed_names": "", "days": ""}
    answer = await limited.send("/external-keys/new", said)
    assert answer.status_code in {400, 403}, answer.text
    assert (await api.get("/api/v1/acme/external-account-keys"))["data"] == []
    await limited.http.aclose()


async def test_a_page_weighs_less_than_it_may_and_asks_no_other_host(api, visitor):
    agent = await api.agent()
    target = await api.target(agent)
    shop = (await api.made("/api/v1/certificates", {"common_name": "shop.example.com", "target_ids": [target]}))["id"]
    await agent.serve()
    for number in range(60):
        await api.made("/api/v1/teams", {"name": f"team {number:02}"})
    for path in ("/", "/certificates", f"/certificates/{shop}", f"/targets/{target}", "/teams", "/audit", "/keys/new"):
        page = await visitor.get(path)
        assert re.findall(r'(?:src|href)="(?:https?:)?//[^"]*"', page.text) == [], path
        weight = 0
        for asset in sorted(set(re.findall(r'(?:src|href)="(/static/[^"#]+)', page.text))):
            sent = await visitor.http.send(
                visitor.http.build_request("GET", asset, headers={"Accept-Encoding": "gzip"}), stream=True
            )
            weight += len(b"".join([chunk async for chunk in sent.aiter_raw()]))
        # a page itself goes out as it is, its files compressed
        assert len(page.content) + weight < 150_000, (path, weight, len(page.content))

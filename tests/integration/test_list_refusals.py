"""Every list of the route table, filled and asked wrongly: clear refusals, nothing shown, on both databases.

The lists come from the routes themselves: a new one is tested by being there.
"""

from __future__ import annotations

from urllib.parse import quote

import pytest

from certctl import ledger
from certctl.api.app import create_rest
from certctl.api.lists import listing_of
from certctl.client.models.page import Paged
from certctl.core.events import Notice
from certctl.core.rules import BreakglassRules, DoorRules
from certctl.store.lists import FilterKind, Listing
from integration.api_house import NGINX, Api, open_api
from integration.test_approvals import person, waiting

PAGED = set(Paged.__struct_fields__)
# spellings that a database, a pattern or a reader may choke on; none of them names anything
TRICKS = (
    "%",
    "_",
    "\\",
    "'; DROP TABLE api_keys; --",
    "\u202egnp.exe",
    "a\u0301" * 50,
    "\u200b",
    "\U0010ffff",
    "\x00",
    "a\x00b",
    "\n\r",
    "İstanbul",
    "ß" * 200,
)


def lists_of_the_table() -> dict[str, Listing]:
    found = {}
    for route in create_rest(None).routes:
        for method, (handler, _) in getattr(route, "route_handler_map", {}).items():
            listing = listing_of(handler)
            if method == "GET" and listing is not None:
                found[route.path.replace(":str", "")] = listing
    return found


@pytest.fixture
async def api(database_url, tmp_path):
    rules = DoorRules(breakglass=BreakglassRules(enabled=True))
    async with open_api(tmp_path / "data", database_url, rules) as fresh:
        yield fresh


async def fill(api: Api) -> dict[str, str]:
    """Two rows of what can be had twice; the ids for the paths."""
    for word in ("one", "two"):
        team = await api.made("/api/v1/teams", {"name": f"team {word}"})
        await api.made("/api/v1/owners", {"name": f"owner {word}", "team_id": team["id"]})
        await api.made("/api/v1/profiles", {"name": f"profile {word}"})
        await api.made("/api/v1/acme/external-account-keys", {"name": f"eab {word}", "profile_id": "prof-default"})
        await api.made("/api/v1/renewal-policies", {"name": f"policy {word}"})
        group = await api.made("/api/v1/agent-groups", {"name": f"group {word}", "match_os": "linux"})
        agent = await api.agent(f"host-{word}")
        body = {"name": f"site {word}", "type": "nginx", "agent_id": agent.id, "config": NGINX}
        target = await api.made("/api/v1/targets", body)
        body = {"id": f"mc-{word}", "common_name": f"{word}.example", "target_ids": [target["id"]]}
        await api.made("/api/v1/certificates", body)
        await agent.serve()
        body = {
            "name": f"rule {word}",
            "type": "RequiredMetadata",
            "severity": "Warning",
            "config": {"required_keys": ["cost"]},
        }
        rule = await api.made("/api/v1/policies", body)
        channel = {"name": f"channel {word}", "type": "Webhook", "config": {"url": "https://hook.example/in"}}
        await api.made("/api/v1/notification-channels", channel)
        await api.made("/api/v1/health-checks", {"endpoint": f"{word}.example:443"})
        notice = Notice(type="Test", certificate_id="", severity="warning", message=word, dedup_key=word)
        async with api.house.database.begin("test") as tx:
            await ledger.notify(tx, api.house.ctx.scope, api.clock.now(), notice)
        await api.made("/api/v1/auth/breakglass/credentials", {"actor_id": f"u-{word}", "password": "x" * 20})
        answer = await api.call("POST", "/auth/login", {"api_key": api.admin}, key="")
        assert answer.status_code == 200
        api.http.cookies.clear()
        await api.call("POST", f"/api/v1/certificates/mc-{word}/renew", {"force": True})
        await agent.serve()
    body = {"certificate_ids": ["mc-one", "mc-two"]}
    for _ in range(2):
        batch = await api.made("/api/v1/certificates/bulk-renew", body, 200, headers={"Prefer": "wait=30"})
    await waiting(api, await person(api, "alice"))
    return {
        "certificate_id": "mc-one",
        "group_id": group["id"],
        "issuer_id": "iss-local",
        "policy_id": rule["id"],
        "batch_id": batch["batch_id"],
    }


def rows(body: dict) -> list:
    (word,) = set(body) - PAGED
    return body[word]


async def test_every_list_pages_both_ways_and_refuses_what_it_does_not_know(api):
    ids = await fill(api)
    cursors = {}
    lists = {path.format_map(ids): listing for path, listing in lists_of_the_table().items()}
    filled = set()
    for path, listing in lists.items():
        whole = await api.get(f"{path}?per_page=500")
        one = await api.get(f"{path}?page_size=1")
        assert one["total"] == whole["total"] == len(rows(whole)), path
        walked, cursor = rows(one), one.get("next_cursor", "")
        cursors[path] = cursor
        while cursor:
            more = await api.get(f"{path}?page_size=1&cursor={cursor}")
            walked, cursor = walked + rows(more), more.get("next_cursor", "")
        assert walked == rows(whole), path
        if len(walked) > 1:
            filled.add(path)
        for sort in listing.sorts:
            for sign in ("", "-"):
                ordered = rows(await api.get(f"{path}?sort={sign}{sort}&per_page=500"))
                assert len(ordered) == len(walked), (path, sort)
        await refusals(api, path, listing)
        await tricks(api, path, listing, len(walked))
    # what holds one row at most here: nobody was retired, no identity provider names anybody, one rule was asked for
    bare = {path for path in lists if path not in filled}
    assert bare <= {"/api/v1/agents/retired", "/api/v1/auth/users", "/api/v1/approvals", "/api/v1/issuers"} | {
        path for path in lists if path.endswith(("/violations", "/deployments"))
    }, bare
    await foreign(api, cursors)


async def refused(api: Api, path: str, query: str, *rules: str) -> None:
    answer = await api.call("GET", f"{path}?{query}")
    assert answer.status_code == 400, (path, query, answer.text)
    told = answer.json()
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert {each["rule"] for each in told["violations"]} == set(rules), (path, query, told)


async def refusals(api: Api, path: str, listing: Listing) -> None:
    await refused(api, path, "colour=red", "unknown_parameter")
    await refused(api, path, "Q=x&sort=colour", "unknown_parameter")
    await refused(api, path, "sort=colour", "unknown_sort")
    await refused(api, path, "sort=name;drop", "unknown_sort")
    await refused(api, path, "fields=colour", "unknown_field")
    await refused(api, path, "fields=key_hash,token_hash,password_hash", "unknown_field")
    await refused(api, path, "per_page=501", "per_page_out_of_range")
    await refused(api, path, "page_size=0", "page_size_out_of_range")
    await refused(api, path, f"page={'9' * 18}", "page_out_of_range")
    await refused(api, path, f"page={'9' * 400}", "wrong_value")
    await refused(api, path, "page=1e3&per_page=ten", "wrong_value")
    await refused(api, path, "page=%D9%A3", "wrong_value")
    await refused(api, path, "page=1&cursor=", "two_ways_of_paging")
    await refused(api, path, "cursor=abc", "cursor_is_unknown")
    await refused(api, path, "sort=a&sort=b", "given_twice", "unknown_sort")
    await refused(api, path, f"q={'x' * 513}", "too_long")
    for name, each in listing.filters.items():
        if each.kind is FilterKind.WORD:
            await refused(api, path, f"{name}=colour", "unknown_word")
        if each.kind is FilterKind.FLAG:
            await refused(api, path, f"{name}=maybe", "wrong_value")
        if each.kind is FilterKind.MOMENT:
            await refused(api, path, f"{name}=yesterday", "wrong_value")
            await refused(api, path, f"{name}=2026-01-01T00:00:00", "time_without_zone")


async def tricks(api: Api, path: str, listing: Listing, many: int) -> None:
    texts = [name for name, each in listing.filters.items() if each.kind is FilterKind.TEXT]
    for number, trick in enumerate(TRICKS):
        # each text filter in its turn: all of them read and bind alike
        for name in ("q", *texts[number % len(texts) :][:1]) if texts else ("q",):
            answer = await api.call("GET", f"{path}?{name}={quote(trick)}")
            assert answer.status_code in {200, 400}, (path, name, trick, answer.text)
            if answer.status_code == 200 and trick.strip():
                assert len(rows(answer.json())) < max(many, 1), (path, name, trick)
    for broken in ("q=%FF", "q=%ED%A0%80", "%00=1"):
        assert (await api.call("GET", f"{path}?{broken}")).status_code == 400, (path, broken)


async def foreign(api: Api, cursors: dict[str, str]) -> None:
    """A cursor of one list continues no other, and of a list of one thing not that of another."""
    given = {path: cursor for path, cursor in cursors.items() if cursor}
    assert len(given) > 10
    for number, path in enumerate(cursors):
        others = [(other, cursor) for other, cursor in given.items() if other != path]
        for _, cursor in [others[(number + turn) % len(others)] for turn in range(3)]:
            await refused(api, path, f"cursor={cursor}", "cursor_of_another_list")

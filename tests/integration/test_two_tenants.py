"""Two teams and a second tenant, walked over every GET route there is: no foreign id, name, total, page or search hit.

Whatever belongs to the other team is called `beta`, whatever belongs to the other tenant `gamma`; neither word may be in
an answer, unless the caller wrote it there.
"""

from __future__ import annotations

import dataclasses
import re
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from certctl import ledger
from certctl.api.app import create_rest
from certctl.api.asked import asked_by
from certctl.api.guard import PUBLIC
from certctl.control import channels, health_checks, keys, owners, profiles, targets, teams
from certctl.control.access import Giver
from certctl.control.installation import ensure_installation
from certctl.core.actor import SYSTEM
from certctl.core.events import Notice
from certctl.core.permissions import PERMISSIONS
from certctl.core.scope import Scope
from certctl.core.target import AgentRecord
from certctl.lifecycle import request as request_stage
from certctl.store import catalogue, schema
from integration.api_house import NGINX, open_api

FOREIGN = ("beta", "gamma")
HOOK = {"url": "https://hook.example/in"}
# routes that show the API's own description, and those whose answer has no end
SKIPPED = re.compile(r"/api/v1/(openapi|docs)")
ENDLESS = re.compile(r"/events|/stream")


def get_routes() -> list[tuple[str, str]]:
    return [
        (route.path.replace(":str", ""), asked_by(handler.opt))
        for route in create_rest(None).routes
        for method, (handler, _) in getattr(route, "route_handler_map", {}).items()
        if method == "GET" and not SKIPPED.match(route.path)
    ]


async def stock(api, word: str, agent) -> dict[str, list[str]]:
    """Everything one team has."""
    team = await api.made("/api/v1/teams", {"id": f"team-{word}", "name": f"{word} team"})
    owner = await api.made("/api/v1/owners", {"id": f"owner-{word}", "name": f"{word} owner", "team_id": team["id"]})
    body = {"id": f"target-{word}", "name": f"{word}-site", "type": "nginx", "agent_id": agent.id, "config": NGINX}
    target = await api.made("/api/v1/targets", body)
    body = {
        "id": f"mc-{word}",
        "name": f"{word}-cert",
        "common_name": f"{word}.example",
        "team_id": team["id"],
        "owner_id": owner["id"],
        "target_ids": [target["id"]],
        "tags": {"of": word},
    }
    certificate = await api.made("/api/v1/certificates", body)
    while await agent.serve():
        pass
    jobs = (await api.get(f"/api/v1/jobs?certificate_id={certificate['id']}"))["data"]
    await api.key("r-viewer", teams=[team["id"]])
    channel = {"id": f"channel-{word}", "name": f"{word} channel", "type": "Webhook", "config": HOOK}
    await api.made("/api/v1/notification-channels", channel)
    body = {"id": f"hc-{word}", "endpoint": f"{word}.example:443", "certificate_id": certificate["id"]}
    check = await api.made("/api/v1/health-checks", body)
    await told(api.house.ctx, certificate["id"], word)
    notices = (await api.get(f"/api/v1/notifications?certificate_id={certificate['id']}"))["data"]
    key = f"key-of-{word}"
    await api.made("/api/v1/auth/keys", {"name": key, "role_ids": ["r-viewer"], "teams": [team["id"]]})
    return {
        "certificate_id": [certificate["id"]],
        "team_id": [team["id"]],
        "owner_id": [owner["id"]],
        "target_id": [target["id"]],
        "agent_id": [agent.id],
        "job_id": [job["id"] for job in jobs],
        "key_id": [key],
        "channel_id": [channel["id"]],
        "health_check_id": [check["id"]],
        "notification_id": [notice["id"] for notice in notices],
        "event_id": [(await api.get(f"/api/v1/audit?resource_id={certificate['id']}"))["data"][0]["id"]],
    }


async def told(ctx, certificate_id: str, word: str) -> None:
    """Something in the outbox about a certificate."""
    notice = Notice(
        type="Test", certificate_id=certificate_id, severity="warning", message=f"of {word}", dedup_key=f"of-{word}"
    )
    async with ctx.database.begin("test") as tx:
        await ledger.notify(tx, ctx.scope, ctx.now(), notice)


async def second_tenant(api) -> dict[str, list[str]]:
    """Another tenant in the same tables, with everything that control and lifecycle can make there."""
    ctx = dataclasses.replace(api.house.ctx, scope=Scope.whole("t-gamma"))
    await ensure_installation(ctx, "gamma CA")
    whole = ctx.scope
    team = await teams.create(ctx, whole, SYSTEM, {"id": "team-gamma", "name": "gamma team"})
    owner = await owners.create(ctx, whole, SYSTEM, {"id": "owner-gamma", "name": "gamma owner", "team_id": team.id})
    profile = await profiles.create(ctx, whole, SYSTEM, {"id": "prof-gamma", "name": "gamma profile"})
    async with api.house.database.read() as tx:
        mine = await catalogue.find(tx, api.house.ctx.scope, AgentRecord)
    import msgspec

    agent = msgspec.structs.replace(
        mine, tenant_id="t-gamma", id="agent-gamma", name="gamma-host", hostname="gamma.test", credential_hash="gamma"
    )
    async with api.house.database.begin("test") as tx:
        await catalogue.insert(tx, whole, agent)
    wanted = {"id": "target-gamma", "name": "gamma-site", "type": "nginx", "agent_id": agent.id, "config": NGINX}
    target = await targets.create(ctx, whole, SYSTEM, wanted)
    wish = request_stage.NewCertificate(
        id="mc-gamma", common_name="gamma.example", team_id=team.id, owner_id=owner.id, target_ids=[target.id]
    )
    certificate, jobs = await request_stage.create(ctx, whole, SYSTEM, wish)
    giver = Giver(actor=SYSTEM, permissions=dict.fromkeys(PERMISSIONS, whole))
    key, _ = await keys.create(ctx, giver, keys.KeyWish(name="key-gamma", role_ids=("r-viewer",)))
    wanted = {"id": "channel-gamma", "name": "gamma channel", "type": "Webhook", "config": HOOK}
    channel = await channels.create(ctx, whole, SYSTEM, wanted)
    wanted = {"id": "hc-gamma", "endpoint": "gamma.example:443", "certificate_id": certificate.id}
    check = await health_checks.create(ctx, whole, SYSTEM, wanted)
    await told(ctx, certificate.id, "gamma")
    async with api.house.database.read() as tx:
        told_of_gamma = await ledger.follow(tx, whole, (0, 0), 5)
        mine = schema.notifications.c.tenant_id == "t-gamma"
        notification_id = await tx.scalar(sa.select(schema.notifications.c.id).where(mine))
    return {
        "certificate_id": [certificate.id],
        "team_id": [team.id],
        "owner_id": [owner.id],
        "profile_id": [profile.id],
        "target_id": [target.id],
        "agent_id": [agent.id],
        "job_id": [job.id for job in jobs],
        "key_id": [key.id],
        "channel_id": [channel.id],
        "health_check_id": [check.id],
        "notification_id": [notification_id],
        "event_id": [told.id for told in told_of_gamma],
    }


@pytest.fixture
async def world(tmp_path, database_url):
    async with open_api(tmp_path / "data", database_url) as api:
        alpha = await stock(api, "alpha", await api.agent("alpha-host"))
        beta = await stock(api, "beta", await api.agent("beta-host"))
        gamma = await second_tenant(api)
        for name in ("beta", "gamma"):
            assert name  # the words that are looked for
        yield api, alpha, beta, gamma


def clean(text: str, *written: str) -> str:
    for each in written:
        text = text.replace(each, "")
    return text


async def look(api, path: str, key: str):
    """One answer; None for one without an end, which is tested where it is made."""
    return None if ENDLESS.search(path) else await api.call("GET", path, key=key)


async def walk(
    api, key: str, own: dict[str, list[str]], others: list[dict[str, list[str]]], words: tuple[str, ...]
) -> int:
    """Every GET route with one's own ids and with foreign ones; returns how many answered with something."""
    answered = 0
    foreign = {name: [each for other in others for each in other.get(name, [])] for other in others for name in other}
    for path, asked in get_routes():
        if asked == asked_by(PUBLIC):
            continue
        names = re.findall(r"\{([^}]*)\}", path)
        for name in names:
            assert name in own or name in SHARED, f"say in this test what {name} of {path} is"
        for ids in choices(names, own):
            answer = await look(api, filled(path, names, ids), key)
            if answer is not None:
                assert answer.status_code < 500, answer.text
                assert not any(word in answer.text for word in words), (path, answer.text[:2000])
                answered += answer.status_code == 200
        if not names:
            for query in (*(f"q={word}" for word in words), "per_page=500", "per_page=1&page=2", "sort=name"):
                answer = await look(api, f"{path}?{query}", key)
                if answer is not None:
                    text = clean(answer.text, *(query.partition("=")[2:]))
                    assert not any(word in text for word in words), (path, query, answer.text[:2000])
                    await follow(api, path, answer, key, words)
        for ids in choices(names, foreign) if names else ():
            if any(name in SHARED and name not in foreign for name in names):
                continue
            answer = await look(api, filled(path, names, ids), key)
            assert answer is not None, path
            assert answer.status_code in {403, 404}, (path, ids, answer.status_code, answer.text[:500])
            text = clean(answer.text, *ids)
            assert not any(word in text for word in words), (path, answer.text)
    return answered


# ids that every tenant has of its own under the same name, or that mean nothing but themselves
SHARED = {
    "issuer_id": ["iss-local"],
    "profile_id": ["prof-default"],
    "policy_id": ["rp-default"],
    "role_id": ["r-viewer"],
    "group_id": ["ag-nowhere"],
    "permission": ["cert.read"],
    "session_id": ["ses-nowhere"],
    "user_id": ["u-nowhere"],
    "actor_id": ["nobody"],
    "violation_id": ["nowhere"],
    "batch_id": ["nowhere"],
    "ca_id": ["nowhere"],
    "version_id": ["nowhere"],
    "approval_id": ["nowhere"],
}


def choices(names: list[str], known: dict[str, list[str]]) -> list[tuple[str, ...]]:
    """Ids for these names: the first of each but one, all of that one."""
    if not names:
        return [()]
    lists = [known.get(name) or SHARED.get(name, []) for name in names]
    if not all(lists):
        return []
    return [tuple(each if place == 0 else lists[place][0] for place in range(len(names))) for each in lists[0]]


def filled(path: str, names: list[str], ids: tuple[str, ...]) -> str:
    for name, each in zip(names, ids, strict=True):
        path = path.replace(f"{{{name}}}", quote(each, safe=""))
    return path


async def follow(api, path: str, answer, key: str, words: tuple[str, ...]) -> None:
    """Every page behind a cursor, and totals that count no more than can be seen."""
    body = answer.json() if answer.headers.get("content-type", "").startswith("application/json") else None
    if not isinstance(body, dict) or not isinstance(body.get("data"), list):
        return
    seen = len((await look(api, f"{path}?per_page=500", key)).json()["data"])
    assert body.get("total", seen) <= max(seen, len(body["data"])), (path, body["total"], seen)
    cursor, turns = body.get("next_cursor") or "", 0
    while cursor and turns < 20:
        page = await look(api, f"{path}?per_page=1&cursor={quote(cursor, safe='')}", key)
        assert page.status_code == 200, page.text
        assert not any(word in page.text for word in words), (path, page.text)
        cursor, turns = page.json().get("next_cursor") or "", turns + 1


async def test_nothing_of_another_team_or_tenant_is_seen(world):
    api, alpha, beta, gamma = world
    for role in ("r-viewer", "r-operator", "r-admin"):
        key = await api.key(role, teams=alpha["team_id"])
        assert await walk(api, key, alpha, [beta, gamma], FOREIGN) > 10


async def test_a_whole_administrator_sees_both_teams_and_no_other_tenant(world):
    api, alpha, beta, gamma = world
    both = {name: [*alpha[name], *beta[name]] for name in alpha}
    assert await walk(api, api.admin, both, [gamma], ("gamma",)) > 20
    assert "beta" in (await api.call("GET", "/api/v1/certificates")).text


async def test_nothing_of_another_team_is_changed(world):
    """Every route that changes something, at foreign ids, by an administrator of one team: 403 or 404, nothing moved."""
    api, alpha, beta, gamma = world
    key = await api.key("r-admin", teams=alpha["team_id"])
    before = await snapshot(api)
    for route in create_rest(None).routes:
        for method, (handler, _) in getattr(route, "route_handler_map", {}).items():
            names = re.findall(r"\{([^}:]*)", route.path)
            if method in {"GET", "OPTIONS"} or not names or asked_by(handler.opt) == asked_by(PUBLIC):
                continue
            path = route.path.replace(":str", "")
            for ids in [*choices(names, beta), *choices(names, gamma)]:
                body = None if method == "DELETE" else CHANGES.get(handler.handler_name, {})
                answer = await api.call(method, filled(path, names, ids), body, key=key)
                assert answer.status_code in {400, 403, 404, 409, 415, 422}, (method, path, answer.text)
                if names[0] in beta:
                    assert answer.status_code != 409, (method, path, answer.text)
                text = clean(answer.text, *ids)
                assert not any(word in text for word in FOREIGN), (method, path, answer.text)
    assert await snapshot(api) == before


# bodies that would do something, where an empty one would be refused before anything is looked up
CHANGES = {
    "update_certificate": {"environment": "stolen"},
    "submit_csr": {"csr_pem": "x"},
    "update_target": {"name": "stolen"},
    "update_team": {"name": "stolen"},
    "update_owner": {"name": "stolen"},
    "update_profile": {"description": "stolen"},
    "update_issuer": {"name": "stolen"},
    "assign_role": {"role_id": "r-viewer", "scope_type": "team", "scope_id": "team-alpha"},
}


async def snapshot(api) -> dict[str, str]:
    paths = ("certificates", "jobs", "targets", "teams", "owners", "profiles", "issuers", "agents", "renewal-policies")
    told = {}
    for path in paths:
        rows = (await api.get(f"/api/v1/{path}?per_page=500"))["data"]
        told[path] = str(
            sorted(str({name: value for name, value in row.items() if not name.endswith("_at")}) for row in rows)
        )
    return told


async def test_creating_into_a_foreign_team_is_refused_alike_whether_it_is_there_or_not(world):
    api, alpha, _, _ = world
    key = await api.key("r-admin", teams=alpha["team_id"])
    told = set()
    for team in ("team-beta", "team-gamma", "team-nowhere", ""):
        for path, body in (
            ("certificates", {"common_name": "x.example", "team_id": team}),
            ("owners", {"name": "x", "team_id": team}),
        ):
            answer = await api.call("POST", f"/api/v1/{path}", body, key=key)
            assert answer.status_code == 403, (path, team)
            told.add(answer.json()["message"])
    assert len(told) == 1
    for path, body in (
        ("teams", {"name": "x"}),
        ("profiles", {"name": "x"}),
        ("issuers", {"name": "x", "type": "acme"}),
    ):
        assert (await api.call("POST", f"/api/v1/{path}", body, key=key)).status_code == 403
    # a foreign owner and a foreign target read like ones that are not there
    mine = {"common_name": "x.example", "team_id": "team-alpha"}
    for field, foreign, nowhere in (
        ("owner_id", "owner-beta", "owner-none"),
        ("target_ids", ["target-beta"], ["target-none"]),
    ):
        answers = []
        for value in (foreign, nowhere):
            answer = await api.call("POST", "/api/v1/certificates", mine | {field: value}, key=key)
            assert answer.status_code == 400, answer.text
            answers.append(clean(answer.json()["message"], "owner-beta", "owner-none", "target-beta", "target-none"))
        assert answers[0] == answers[1]

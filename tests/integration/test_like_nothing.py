"""What is out of a caller's sight is like what is not there: the same answer by the same SQL statements, route by route.

Statements are counted, never time: the clock of a busy machine says nothing, and an equal way takes an equal time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Iterator
from unittest import mock

import pytest
import sqlalchemy as sa

from certctl.api import guard
from certctl.api.app import create_rest
from certctl.api.asked import asked_by
from certctl.api.guard import PUBLIC
from integration.api_house import Api, open_api
from integration.test_approvals import person, waiting
from integration.test_two_tenants import CHANGES, SHARED, filled, second_tenant, stock

NOWHERE = "01a217f2-0000-7000-8000-000000000000"
# catalogues that are the same for everybody: there is no foreign one
OF_EVERYBODY = {"role_id", "permission", "policy_id", "group_id", "issuer_id", "ca_id", "actor_id"}


class Statements:
    """What was sent to the database since the caller was known."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def note(self, _connection, _cursor, statement, _parameters, _context, _many) -> None:
        task = asyncio.current_task()
        if task is None or task.get_name() != "agents-beats":
            # signs of life that were kept (control.beats) are written when their time has come: no request asks for it
            self.sent.append(statement)


@contextlib.contextmanager
def watched(api: Api) -> Iterator[Statements]:
    """Who calls is looked up, or remembered, before the route runs: that much is not compared."""
    statements, judged = Statements(), guard.check_csrf

    def known(*args):
        statements.sent.clear()
        return judged(*args)

    engine = api.house.database.engine.sync_engine
    sa.event.listen(engine, "before_cursor_execute", statements.note)
    try:
        with mock.patch.object(guard, "check_csrf", known):
            yield statements
    finally:
        sa.event.remove(engine, "before_cursor_execute", statements.note)


def routes_by_id():
    for route in create_rest(None).routes:
        for method, (handler, _) in getattr(route, "route_handler_map", {}).items():
            names = re.findall(r"\{([^}:]*)", route.path)
            if names and method != "OPTIONS" and asked_by(handler.opt) != asked_by(PUBLIC):
                yield route.path.replace(":str", ""), method, handler.handler_name, names


async def more(api: Api, word: str, known: dict[str, list[str]]) -> None:
    """Versions, a batch, an approval and a session of one team."""
    (certificate,) = known["certificate_id"]
    found = await api.get(f"/api/v1/certificates/{certificate}/versions")
    known["version_id"] = [row["id"] for row in found["data"]]
    key = await api.key("r-operator", teams=known["team_id"])
    body = {"certificate_ids": [certificate], "dry_run": True}
    known["batch_id"] = [
        (await api.made("/api/v1/certificates/bulk-renew", body, 200, key=key, headers={"Prefer": "wait=30"}))[
            "batch_id"
        ]
    ]
    asks = await person(api, f"human-{word}", "r-operator", teams=known["team_id"])
    wanted = {"team_id": known["team_id"][0], "owner_id": known["owner_id"][0]}
    _, approval = await waiting(api, asks, f"mc-waits-{word}", **wanted)
    known["approval_id"] = [approval["id"]]
    answer = await api.call("POST", "/auth/login", {"api_key": key}, key="")
    known["session_id"] = [answer.json()["session_id"]]
    api.http.cookies.clear()


@pytest.fixture
async def world(tmp_path, database_url):
    async with open_api(tmp_path / "data", database_url) as api:
        alpha = await stock(api, "alpha", await api.agent("alpha-host"))
        beta = await stock(api, "beta", await api.agent("beta-host"))
        gamma = await second_tenant(api)
        for word, known in (("alpha", alpha), ("beta", beta)):
            await more(api, word, known)
        yield api, alpha, beta, gamma


async def told(api: Api, statements: Statements, key: str, method: str, path: str, said: dict, ids: tuple[str, ...]):
    headers, content = {}, None
    if method not in {"DELETE", "GET"}:
        content = json.dumps(said).encode()
        headers["Content-Type"] = "application/merge-patch+json" if method == "PATCH" else "application/json"
    answer = await api.call(method, path, key=key, headers=headers, content=content)
    sent, text = list(statements.sent), answer.text
    for each in ids:
        text = text.replace(each, "ID")
    return answer.status_code, re.sub(r'"request_id":"[^"]*"', "", text), sent


async def out_of_sight_is_like_not_there(world) -> None:
    api, alpha, beta, gamma = world
    own = alpha | {name: ids for name, ids in SHARED.items() if name not in alpha}
    compared = 0
    for role, reach in (("r-admin", {"teams": alpha["team_id"]}), ("r-operator", {"teams": alpha["team_id"]})):
        key = await api.key(role, **reach)
        await api.get("/api/v1/auth/me", key=key)
        with watched(api) as statements:
            for path, method, name, names in routes_by_id():
                for place, missing in enumerate(names):
                    if missing in OF_EVERYBODY:
                        continue
                    # the things before it are one's own, so that this one is what is missed
                    first = [own[each][0] for each in names[:place]]
                    rest = [NOWHERE for _ in names[place + 1 :]]
                    expected = None
                    said = CHANGES.get(name.replace("patch_", "update_"), {})
                    for thing in (NOWHERE, *beta.get(missing, ()), *gamma.get(missing, ())):
                        ids = (*first, thing, *rest)
                        got = await told(api, statements, key, method, filled(path, names, ids), said, ids)
                        if expected is None:
                            expected = got
                        assert got == expected, (role, method, path, thing)
                        compared += 1
    assert compared > 250


# what names another thing in a body or a query: (method, path, body with ID, what ID is)
NAMED = (
    ("POST", "/api/v1/certificates/mc-alpha/deploy", {"version_id": "ID"}, "version_id"),
    ("POST", "/api/v1/certificates/mc-alpha/deploy", {"target_id": "ID"}, "target_id"),
    ("POST", "/api/v1/certificates/mc-alpha/revoke", {"version_id": "ID", "reason": "superseded"}, "version_id"),
    ("GET", "/api/v1/certificates/mc-alpha/export/pem?version_id=ID", {}, "version_id"),
    ("POST", "/api/v1/certificates/mc-alpha/export/pkcs12", {"version_id": "ID", "password": "x" * 12}, "version_id"),
    ("PUT", "/api/v1/certificates/mc-alpha", {"owner_id": "ID"}, "owner_id"),
    ("PUT", "/api/v1/certificates/mc-alpha", {"target_ids": ["ID"]}, "target_id"),
    ("PUT", "/api/v1/owners/owner-alpha", {"team_id": "ID"}, "team_id"),
    (
        "POST",
        "/api/v1/certificates",
        {"common_name": "n.example", "team_id": "team-alpha", "owner_id": "ID"},
        "owner_id",
    ),
    (
        "POST",
        "/api/v1/certificates",
        {"common_name": "n.example", "team_id": "team-alpha", "target_ids": ["ID"]},
        "target_id",
    ),
    ("POST", "/api/v1/certificates", {"common_name": "n.example", "team_id": "ID"}, "team_id"),
    ("POST", "/api/v1/certificates/bulk-renew", {"certificate_ids": ["ID"], "dry_run": True}, "certificate_id"),
    ("POST", "/api/v1/certificates/bulk-renew", {"owner_id": "ID", "dry_run": True}, "owner_id"),
    ("GET", "/api/v1/jobs?certificate_id=ID", {}, "certificate_id"),
    ("GET", "/api/v1/certificates?target_id=ID", {}, "target_id"),
    ("GET", "/api/v1/approvals?certificate_id=ID", {}, "certificate_id"),
    ("GET", "/api/v1/batches?q=ID", {}, "batch_id"),
)


async def what_a_body_names_out_of_sight_is_like_not_there(world) -> None:
    api, alpha, beta, gamma = world
    key = await api.key("r-admin", teams=alpha["team_id"])
    await api.get("/api/v1/auth/me", key=key)
    with watched(api) as statements:
        for method, path, body, kind in NAMED:
            expected = None
            for thing in (NOWHERE, *beta.get(kind, ())[:1], *gamma.get(kind, ())[:1]):
                said = json.loads(json.dumps(body).replace("ID", thing))
                status, text, sent = await told(api, statements, key, method, path.replace("ID", thing), said, (thing,))
                # ids and moments of what was written for the asking
                got = (status, re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d{4}-\d\d-\d\dT[0-9:.]+", "", text), sent)
                expected = expected or got
                assert got == expected, (method, path, body, thing)


async def what_is_in_use_is_counted_as_far_as_one_sees(world) -> None:
    """A refusal to delete tells that somebody uses a thing, and of nobody out of sight how many."""
    api, alpha, _, _ = world
    await api.made("/api/v1/profiles", {"id": "prof-common", "name": "common"})
    for number, team in enumerate(("team-alpha", "team-beta", "team-beta")):
        body = {"common_name": f"u{number}.example", "team_id": team, "certificate_profile_id": "prof-common"}
        await api.made("/api/v1/certificates", body)
    everything = await api.call("DELETE", "/api/v1/profiles/prof-common")
    assert everything.status_code == 409
    assert everything.json()["counts"] == {"certificates": 3, "renewal_policies": 0}
    assert everything.json()["message"] == "profile prof-common is still named by 3 certificates"
    # may delete any profile, and read the certificates of one team
    await api.made("/api/v1/auth/roles", {"name": "profiler"})
    role = next(row["id"] for row in (await api.get("/api/v1/auth/roles"))["roles"] if row["name"] == "profiler")
    for permission, limit in (("profile.delete", {}), ("cert.read", {"scope_type": "team", "scope_id": "team-alpha"})):
        answer = await api.call("POST", f"/api/v1/auth/roles/{role}/permissions", {"permission": permission} | limit)
        assert answer.status_code == 204, answer.text
    key = await api.key(role)
    for owner in ("team-beta", "team-alpha"):
        answer = await api.call("DELETE", "/api/v1/profiles/prof-common", key=key)
        assert answer.status_code == 409
        assert answer.json()["counts"] == {"certificates": 1, "renewal_policies": 0}
        assert answer.json()["message"].endswith("named by 1 certificates and others that you may not see")
        # one more or fewer out of sight changes no word
        body = {"common_name": f"again-{owner}.example", "team_id": "team-beta"}
        await api.made("/api/v1/certificates", body | {"certificate_profile_id": "prof-common"})


async def an_agent_in_use_is_counted_as_far_as_one_sees(world) -> None:
    api, _, beta, _ = world
    await api.made("/api/v1/auth/roles", {"name": "retirer"})
    role = next(row["id"] for row in (await api.get("/api/v1/auth/roles"))["roles"] if row["name"] == "retirer")
    for permission, limit in (("agent.retire", {}), ("cert.read", {"scope_type": "team", "scope_id": "team-alpha"})):
        answer = await api.call("POST", f"/api/v1/auth/roles/{role}/permissions", {"permission": permission} | limit)
        assert answer.status_code == 204, answer.text
    (agent,) = beta["agent_id"]
    answer = await api.call("DELETE", f"/api/v1/agents/{agent}", key=await api.key(role))
    assert answer.status_code == 409, answer.text
    assert set(answer.json()["counts"].values()) == {0}
    assert "still has others that you may not see" in answer.json()["message"]


async def test_out_of_sight_is_like_nothing(world):
    """One world for all of it: it is dear to make."""
    await out_of_sight_is_like_not_there(world)
    await what_a_body_names_out_of_sight_is_like_not_there(world)
    await what_is_in_use_is_counted_as_far_as_one_sees(world)
    await an_agent_in_use_is_counted_as_far_as_one_sees(world)

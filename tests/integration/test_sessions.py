"""Browser sessions and the break-glass door under attack, on both databases."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from argon2 import PasswordHasher

from certctl.control import breakglass
from certctl.core.people import User
from certctl.core.rules import BreakglassRules, DoorRules, SessionRules
from certctl.doors.cookies import CSRF_COOKIE, SESSION_COOKIE
from certctl.store import schema
from integration.api_house import Api, hours, open_api

SESSIONS = "/api/v1/auth/sessions"
KEYS = "/api/v1/auth/keys"
GLASS = "/api/v1/auth/breakglass/credentials"
PASSWORD = "correct horse battery staple"


class Browser:
    """Cookies as a browser keeps them."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.cookies: dict[str, str] = {}

    async def call(self, method: str, path: str, body=None, *, csrf: str | None = None, **more):
        headers = dict(more.pop("headers", {}))
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        token = self.cookies.get(CSRF_COOKIE, "") if csrf is None else csrf
        if token:
            headers["X-CSRF-Token"] = token
        self.api.http.cookies.clear()
        answer = await self.api.call(method, path, body, key="", headers=headers, **more)
        for line in answer.headers.get_list("set-cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            value = value.strip('"')
            assert "Secure" in line
            assert "Path=/" in line
            assert "Domain" not in line
            assert ("HttpOnly" in line) == (name == SESSION_COOKIE)
            if value:
                self.cookies[name] = value
            else:
                self.cookies.pop(name, None)
        return answer

    async def login(self, key: str) -> dict:
        answer = await self.call("POST", "/auth/login", {"api_key": key})
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(autouse=True)
def cheap_passwords(monkeypatch):
    """What a hash costs is tested once; the rest is about what happens around it."""
    cheap = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    monkeypatch.setattr(breakglass, "_HASHER", cheap)
    monkeypatch.setattr(breakglass, "_NOBODY", cheap.hash("nobody has this"))


@pytest.fixture
async def api(tmp_path, database_url):
    rules = DoorRules(breakglass=BreakglassRules(enabled=True))
    async with open_api(tmp_path / "data", database_url, rules) as fresh:
        yield fresh


async def test_a_session_from_its_beginning_to_its_end(api):
    browser = Browser(api)
    said = await browser.login(api.admin)
    token = browser.cookies[SESSION_COOKIE]
    assert token not in str(said)
    assert (await browser.call("GET", "/api/v1/auth/me")).json()["actor_id"] == "admin"
    made = await browser.call("POST", "/api/v1/teams", {"name": "web"})
    assert made.status_code == 201
    listed = (await browser.call("GET", SESSIONS)).json()["sessions"]
    assert [(row["id"], row["current"], row["method"]) for row in listed] == [(said["session_id"], True, "api_key")]
    assert (await browser.call("POST", "/auth/logout")).status_code == 204
    assert browser.cookies == {}
    browser.cookies = {SESSION_COOKIE: token}
    assert (await browser.call("GET", "/api/v1/auth/me")).status_code == 401
    assert (await browser.call("POST", "/auth/logout")).status_code == 204
    async with api.house.database.read() as tx:
        stored = (await tx.execute(schema.sessions.select())).mappings().one()
    assert token not in str(dict(stored))
    assert len(await api.events("session_begun")) == len(await api.events("session_ended")) == 1


async def test_a_change_needs_the_sessions_own_csrf_token(api):
    browser, other = Browser(api), Browser(api)
    await browser.login(api.admin)
    await other.login(api.admin)
    for csrf in ("", "x" * 43, other.cookies[CSRF_COOKIE], browser.cookies[SESSION_COOKIE]):
        for method, path in (
            ("POST", "/api/v1/teams"),
            ("DELETE", SESSIONS),
            ("PUT", "/api/v1/teams/x"),
            ("POST", "/auth/logout"),
        ):
            answer = await browser.call(method, path, {"name": "x"} if method != "DELETE" else None, csrf=csrf)
            assert answer.status_code == 403, (method, path)
            assert "X-CSRF-Token" in answer.json()["message"]
    assert (await browser.call("GET", "/api/v1/teams", csrf="")).json()["total"] == 0
    assert (await browser.call("POST", "/api/v1/teams", {"name": "web"})).status_code == 201
    spent = browser.cookies[CSRF_COOKIE]
    await browser.login(api.admin)
    assert (await browser.call("POST", "/api/v1/teams", {"name": "more"}, csrf=spent)).status_code == 403
    assert {row["actor"] for row in await api.events("call_denied")} == {"admin"}


async def test_a_fixed_session_is_never_taken_up(api):
    victim, attacker = Browser(api), Browser(api)
    await attacker.login(await api.key("r-viewer"))
    planted = attacker.cookies[SESSION_COOKIE]
    victim.cookies = {SESSION_COOKIE: planted}
    await victim.login(api.admin)
    assert victim.cookies[SESSION_COOKIE] != planted
    # what was planted has ended, and is nobody's administrator
    assert (await attacker.call("GET", "/api/v1/auth/me")).status_code == 401
    invented = Browser(api)
    invented.cookies = {SESSION_COOKIE: "A" * 43}
    await invented.login(api.admin)
    assert invented.cookies[SESSION_COOKIE] != "A" * 43


async def test_a_login_cannot_be_sent_by_a_foreign_page(api):
    body = f'{{"api_key": "{api.admin}"}}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        headers = {"Content-Type": kind} if kind else {}
        answer = await api.http.post("/auth/login", content=body, headers=headers)
        assert answer.status_code == 415, kind
        assert "set-cookie" not in answer.headers


async def test_sessions_end_with_time(api):
    browser = Browser(api)
    await browser.login(api.admin)
    for _ in range(9):
        api.clock.moment += timedelta(minutes=50)
        assert (await browser.call("GET", "/api/v1/auth/me")).status_code == 200
    api.clock.moment += timedelta(minutes=31)  # 8 h 1 min, never idle for long
    answer = await browser.call("GET", "/api/v1/auth/me")
    assert (answer.status_code, "lasted its time" in answer.json()["message"]) == (401, True)
    await browser.login(api.admin)
    api.clock.moment += timedelta(minutes=61)
    answer = await browser.call("GET", "/api/v1/auth/me")
    assert (answer.status_code, "idle" in answer.json()["message"]) == (401, True)


async def test_a_session_ends_with_its_key(api):
    made = await api.made(KEYS, {"name": "some", "role_ids": ["r-viewer"]})
    browser = Browser(api)
    await browser.login(made["key_value"])
    assert (await browser.call("GET", "/api/v1/jobs")).status_code == 200
    assert (await api.call("DELETE", f"{KEYS}/some/roles/r-viewer")).status_code == 204
    assert (await browser.call("GET", "/api/v1/jobs")).status_code == 403
    assert (await api.call("DELETE", f"{KEYS}/some")).status_code == 204
    assert (await browser.call("GET", "/api/v1/auth/me")).status_code == 401
    assert (await browser.call("POST", "/auth/login", {"api_key": made["key_value"]})).status_code == 401


async def test_everybody_sees_and_ends_their_own_and_nobody_elses(api):
    key = await api.key("r-viewer")
    mine, again, admins = Browser(api), Browser(api), Browser(api)
    first = (await mine.login(key))["session_id"]
    second = (await again.login(key))["session_id"]
    foreign = (await admins.login(api.admin))["session_id"]
    listed = (await mine.call("GET", SESSIONS)).json()["sessions"]
    assert {row["id"] for row in listed} == {first, second}
    assert (await mine.call("GET", f"{SESSIONS}?actor_id=admin")).status_code == 403
    assert (await mine.call("DELETE", f"{SESSIONS}/{foreign}")).status_code == 404
    assert (await mine.call("DELETE", f"{SESSIONS}/ses-nowhere")).status_code == 404
    everybody = (await admins.call("GET", f"{SESSIONS}?actor_id=*")).json()["sessions"]
    assert {row["id"] for row in everybody} == {first, second, foreign}
    assert (await mine.call("DELETE", f"{SESSIONS}?except=all")).status_code == 400
    assert (await mine.call("DELETE", f"{SESSIONS}?except=current")).json() == {"revoked_count": 1}
    assert (await again.call("GET", SESSIONS)).status_code == 401
    assert (await admins.call("DELETE", f"{SESSIONS}/{first}")).status_code == 204
    assert (await mine.call("GET", SESSIONS)).status_code == 401
    assert (await admins.call("GET", SESSIONS)).status_code == 200


async def test_an_agents_credential_begins_no_session(api):
    agent = await api.agent()
    assert (await api.call("POST", "/auth/login", {"api_key": agent.credential}, key="")).status_code == 403
    made = await api.made(KEYS, {"name": "bound", "role_ids": ["r-agent"], "agent_id": agent.id})
    assert (await api.call("POST", "/auth/login", {"api_key": made["key_value"]}, key="")).status_code == 403


async def test_cookies_that_are_none(api):
    browser = Browser(api)
    await browser.login(api.admin)
    good = browser.cookies[SESSION_COOKIE]
    for value in (
        "",
        "x",
        good[:-1],
        good + "A",
        good + ";" + SESSION_COOKIE + "=" + "B" * 43,
        "\xe4" * 43,
        "'; DROP TABLE",
    ):
        answer = await api.http.get(
            "/api/v1/auth/me", headers={"Cookie": f"{SESSION_COOKIE}={value}".encode("latin-1")}
        )
        assert answer.status_code == 401, value
    # an Authorization header wins, and a bad one is not mended by a cookie
    answer = await browser.call("GET", "/api/v1/auth/me", headers={"Authorization": "Bearer ctk_wrong"})
    assert answer.status_code == 401


async def test_a_session_may_be_bound_to_where_it_began(tmp_path):
    rules = DoorRules(sessions=SessionRules(bind_user_agent=True, bind_ip=True))
    async with open_api(tmp_path / "data", "", rules) as api:
        browser = Browser(api)
        await browser.login(api.admin)
        assert (await browser.call("GET", "/api/v1/auth/me")).status_code == 200
        elsewhere = await browser.call("GET", "/api/v1/auth/me", headers={"User-Agent": "another"})
        assert elsewhere.status_code == 401
        assert (await browser.call("GET", "/api/v1/auth/me")).status_code == 200


async def test_without_being_switched_on_there_is_no_breakglass(tmp_path):
    async with open_api(tmp_path / "data") as api:
        body = {"actor_id": "root", "password": PASSWORD}
        for method, path in (
            ("POST", "/auth/breakglass/login"),
            ("POST", GLASS),
            ("GET", GLASS),
            ("POST", f"{GLASS}/root/unlock"),
            ("DELETE", f"{GLASS}/root"),
        ):
            for key in (api.admin, ""):
                answer = await api.call(method, path, body if method == "POST" else None, key=key)
                assert answer.status_code == 404, path
                assert answer.json()["message"] == f"there is nothing at {path}"


async def test_breakglass_from_setting_to_removing(api):
    for short in ("short", "x" * 257):
        assert (await api.call("POST", GLASS, {"actor_id": "root", "password": short})).status_code == 400
    made = await api.made(GLASS, {"actor_id": "root", "password": PASSWORD})
    assert made["actor_id"] == "root"
    browser = Browser(api)
    login = {"actor_id": "root", "password": PASSWORD}
    assert (await browser.call("POST", "/auth/breakglass/login", login)).status_code == 204
    me = (await browser.call("GET", "/api/v1/auth/me")).json()
    assert (me["actor_id"], me["actor_type"], me["admin"]) == ("root", "User", True)
    assert (await browser.call("POST", "/api/v1/teams", {"name": "web"})).status_code == 201
    batch = await browser.call("POST", "/api/v1/certificates/bulk-renew", {"team_id": "t-web"})
    assert (batch.status_code, "API key" in batch.text) == (403, True), "nothing would vouch for it while it runs"
    # a new password ends what was begun with the old one
    assert (await api.call("POST", GLASS, login | {"password": PASSWORD + "!"})).status_code == 201
    assert (await browser.call("GET", "/api/v1/auth/me")).status_code == 401
    assert (await browser.call("POST", "/auth/breakglass/login", login)).status_code == 401
    assert (
        await browser.call("POST", "/auth/breakglass/login", login | {"password": PASSWORD + "!"})
    ).status_code == 204
    assert (await api.call("DELETE", f"{GLASS}/root")).status_code == 204
    assert (await browser.call("GET", "/api/v1/auth/me")).status_code == 401
    assert (await api.call("DELETE", f"{GLASS}/root")).status_code == 404
    assert PASSWORD not in str([await api.events(kind) for kind in ("config_updated", "session_begun", "call_denied")])


async def test_only_an_administrator_without_limits_sets_a_breakglass_password(api):
    body = {"actor_id": "root", "password": PASSWORD}
    limited = await api.key("r-admin", teams=["team-x"])
    operator = await api.key("r-operator")
    for key in (limited, operator):
        assert (await api.call("POST", GLASS, body, key=key)).status_code == 403
        assert (await api.call("GET", GLASS, key=key)).status_code == 403
    assert (await api.call("POST", GLASS, body | {"actor_id": "actor-demo-anon"})).status_code == 409
    assert (await api.get(GLASS))["credentials"] == []


async def test_breakglass_locks_whoever_guesses_and_tells_nothing(api):
    await api.made(GLASS, {"actor_id": "root", "password": PASSWORD})

    async def attempt(password: str, actor_id: str = "root", address: str = "") -> tuple[int, str]:
        api.clock.moment += timedelta(seconds=13)  # below the limit by address
        body = {"actor_id": actor_id, "password": password}
        answer = await api.call("POST", "/auth/breakglass/login", body, key="")
        return answer.status_code, answer.json()["message"] if answer.content else ""

    unknown = await attempt("wrong password 1", "nobody")
    wrong = [await attempt(f"wrong password {number}") for number in range(5)]
    assert set(wrong) == {unknown}
    assert unknown[0] == 401
    assert await attempt(PASSWORD) == unknown  # locked, and reads the same
    row = (await api.get(GLASS))["credentials"][0]
    assert row["failure_count"] == 5
    assert row["locked_until"]
    assert (await api.call("POST", f"{GLASS}/root/unlock")).status_code == 204
    assert (await attempt(PASSWORD))[0] == 204
    for number in range(5):
        await attempt(f"wrong password {number}")
    api.clock.moment += hours(0.25)
    assert (await attempt(PASSWORD))[0] == 204
    assert [row["details"]["locked"] for row in await api.events("breakglass_refused")] == [False] * 4 + [True] + [
        False
    ] * 4 + [True]


async def test_a_password_is_kept_as_argon2id(tmp_path, monkeypatch):
    monkeypatch.undo()
    async with open_api(tmp_path / "data", "", DoorRules(breakglass=BreakglassRules(enabled=True))) as api:
        await api.made(GLASS, {"actor_id": "root", "password": PASSWORD})
        async with api.house.database.read() as tx:
            kept = (await tx.execute(schema.breakglass_credentials.select())).mappings().one()["password_hash"]
        assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
        assert breakglass._NOBODY.startswith(kept[:31])  # an unknown actor costs the same
        for actor_id, password, status in (
            ("root", PASSWORD, 204),
            ("root", PASSWORD + "x", 401),
            ("nobody", PASSWORD, 401),
        ):
            answer = await api.call(
                "POST", "/auth/breakglass/login", {"actor_id": actor_id, "password": password}, key=""
            )
            assert answer.status_code == status


async def test_many_guesses_at_once_are_no_more_than_the_threshold(api):
    from certctl.core.actor import Actor, ActorType
    from certctl.core.errors import NotAuthenticated
    from certctl.core.secret import Secret

    await api.made(GLASS, {"actor_id": "root", "password": PASSWORD})
    judged = []
    verify = breakglass._verify

    async def counted(password_hash, password):
        if password_hash != breakglass._NOBODY:
            judged.append(password)
        return await verify(password_hash, password)

    breakglass._verify = counted
    try:
        actor = Actor(id="root", type=ActorType.USER)
        guesses = [
            breakglass.check_password(api.house.ctx, BreakglassRules(enabled=True), actor, Secret(f"guess number {n}"))
            for n in range(12)
        ]
        told = await asyncio.gather(*guesses, return_exceptions=True)
    finally:
        breakglass._verify = verify
    assert all(isinstance(each, NotAuthenticated) for each in told)
    assert len(judged) == 5


async def test_guesses_from_one_address_are_counted(api):
    await api.made(GLASS, {"actor_id": "root", "password": PASSWORD})
    codes = [
        (
            await api.call("POST", "/auth/breakglass/login", {"actor_id": f"n{number}", "password": "x" * 20}, key="")
        ).status_code
        for number in range(7)
    ]
    assert codes == [401] * 5 + [429] * 2


async def test_users_are_deactivated_and_come_back(api):
    ctx, now = api.house.ctx, api.clock.now()
    person = User(
        tenant_id=ctx.scope.tenant_id, id="u-ann", email="ann@example.test", display_name="Ann", oidc_subject="s1",
        oidc_provider_id="op-1", last_login_at=None, created_at=now, updated_at=now, deactivated_at=None,
    )  # fmt: skip
    async with ctx.database.begin("test") as tx:
        await tx.execute(
            schema.users.insert().values({name: getattr(person, name) for name in person.__struct_fields__})
        )
    await api.made(GLASS, {"actor_id": "u-ann", "password": PASSWORD})
    browser = Browser(api)
    login = {"actor_id": "u-ann", "password": PASSWORD}
    assert (await browser.call("POST", "/auth/breakglass/login", login)).status_code == 204
    assert (await browser.call("DELETE", "/api/v1/auth/users/u-ann")).status_code == 409  # oneself
    assert [row["id"] for row in (await api.get("/api/v1/auth/users"))["users"]] == ["u-ann"]
    assert (await api.get("/api/v1/auth/users?oidc_provider_id=other"))["users"] == []
    assert (await api.call("DELETE", "/api/v1/auth/users/u-ann")).status_code == 204
    assert (await api.call("DELETE", "/api/v1/auth/users/u-ann")).status_code == 204
    assert (await browser.call("GET", "/api/v1/auth/me")).status_code == 401
    assert (await browser.call("POST", "/auth/breakglass/login", login)).status_code == 401
    assert (await api.call("POST", "/api/v1/auth/users/u-ann/reactivate")).status_code == 204
    assert (await browser.call("POST", "/auth/breakglass/login", login)).status_code == 204
    assert (await api.call("DELETE", "/api/v1/auth/users/u-bob")).status_code == 404


async def test_the_settings_in_force_are_told_without_secrets(api):
    told = (await api.get("/api/v1/auth/runtime-config"))["runtime_config"]
    assert told["CERTCTL_BREAKGLASS_ENABLED"] == "true"
    assert len(told) >= 12
    assert not any(word in name for name in told for word in ("TOKEN", "SECRET", "KEY", "PASSWORD"))
    assert (await api.call("GET", "/api/v1/auth/runtime-config", key=await api.key("r-cli"))).status_code == 403


async def test_what_is_over_is_swept(api):
    from certctl.control import sessions

    browser = Browser(api)
    await browser.login(api.admin)
    assert await sessions.sweep(api.house.ctx) == 0
    api.clock.moment += hours(36)
    assert await sessions.sweep(api.house.ctx) == 1

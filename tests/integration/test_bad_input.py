"""What the issue names as bad input, on both databases: clear errors, nothing changed. Queries of lists: test_list_refusals."""

from __future__ import annotations

import ipaddress
from datetime import timedelta

import pytest

from certctl.core.rules import DoorRules
from integration.api_house import Api, open_api
from integration.test_sessions import SESSIONS, Browser

PROXIES = (ipaddress.ip_network("127.0.0.0/8"),)
# names that look like others, hide a part, break a line or a column
TRICKS = (
    "\x00",
    "a\x00b",
    "a\u202eb",
    "a\u200bb",
    "a\u2066b",
    "a\ufeffb",
    "\n",
    "a\rb",
    "\u2028",
    "\ud800",
    "\x1b[31m",
    " ",
)
CREATED = {
    "teams": ("name", "description"),
    "owners": ("name", "email"),
    "profiles": ("name", "description"),
    "renewal-policies": ("name",),
    "agent-groups": ("name", "description", "match_os", "match_version"),
    "policies": ("name", "type"),
    "issuers": ("name", "type"),
    "targets": ("name", "type"),
    "certificates": ("name", "common_name", "environment"),
    "auth/keys": ("name", "person"),
    "auth/roles": ("name", "description"),
}
SOUND = {
    "policies": {"name": "p", "type": "RequiredMetadata", "severity": "Warning", "config": {"required_keys": ["a"]}},
    "certificates": {"name": "c", "common_name": "c.example"},
    "auth/keys": {"name": "a-key", "role_ids": ["r-viewer"]},
}


@pytest.fixture
async def api(database_url, tmp_path):
    rules = DoorRules(trusted_proxies=PROXIES)
    async with open_api(tmp_path / "data", database_url, rules) as fresh:
        yield fresh


async def count(api: Api, kind: str) -> int:
    body = await api.get(f"/api/v1/{kind}")
    return body["total"] if "total" in body else len(body["roles"])


async def test_tricks_in_names_and_texts_are_refused_or_kept_as_they_are(api):
    for kind, fields in CREATED.items():
        sound = SOUND.get(kind, {"name": "sound"})
        for field in fields:
            for trick in TRICKS:
                before = await count(api, kind)
                raw = json_with(sound | {field: trick})
                headers = {"Content-Type": "application/json"}
                answer = await api.call("POST", f"/api/v1/{kind}", content=raw, headers=headers)
                assert answer.status_code in {201, 400, 422}, (kind, field, trick, answer.text)
                made = answer.status_code == 201
                assert await count(api, kind) == before + made, (kind, field, trick)
                if field == "name" and trick != " ":
                    assert not made, (kind, field, trick)
                if made and field == "common_name":
                    # UTS #46 maps what cannot be seen to nothing: what is kept is what is read
                    assert answer.json()["common_name"].isascii(), (kind, trick)
                if made:
                    sound = sound | {"name": f"{sound['name']}x"}


def json_with(body: dict) -> bytes:
    """JSON with its escapes: a lone surrogate can only be written so."""
    import json

    return json.dumps(body).encode()


async def test_expired_revoked_and_rotated_keys_do_nothing(api):
    ends = (api.clock.now() + timedelta(hours=1)).isoformat()
    expired, revoked, rotated = (
        await api.key("r-admin", expires_at=ends),
        await api.key("r-admin"),
        await api.key("r-admin"),
    )
    rows = {row["name"]: row for row in (await api.get("/api/v1/auth/keys"))["keys"]}
    names = sorted(name for name in rows if name.startswith("key-r-admin"))
    assert (await api.call("DELETE", f"/api/v1/auth/keys/{names[1]}")).status_code == 204
    await api.made(f"/api/v1/auth/keys/{names[2]}/rotate", {}, 200)
    api.clock.moment += timedelta(hours=2)
    for key in (expired, revoked, rotated, "ctk_nobody", api.admin[:-1], api.admin + "x"):
        for method, path, body in (("GET", "/api/v1/teams", None), ("POST", "/api/v1/teams", {"name": "stolen"})):
            answer = await api.call(method, path, body, key=key)
            assert answer.status_code == 401, (key[:6], answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
            assert key not in answer.text
    assert await count(api, "teams") == 0


async def test_a_csrf_token_of_an_ended_session_opens_nothing(api):
    browser = Browser(api)
    await browser.login(api.admin)
    kept = dict(browser.cookies)
    assert (await browser.call("DELETE", SESSIONS)).status_code == 200
    for cookies in (kept, {**kept, "__Host-certctl_session": "x" * 43}):
        browser.cookies = dict(cookies)
        answer = await browser.call("POST", "/api/v1/teams", {"name": "replayed"})
        assert answer.status_code in {401, 403}, answer.text
    assert await count(api, "teams") == 0


async def test_an_address_that_a_client_writes_is_not_believed(api):
    for told, believed in (
        ("198.51.100.7, 203.0.113.1", "203.0.113.1"),
        ("203.0.113.1, 127.0.0.9", "203.0.113.1"),
        ("not an address, 203.0.113.2", "203.0.113.2"),
        ("2001:db8::7, 2001:db8::1", "2001:db8::1"),
    ):
        await api.call("GET", "/api/v1/jobs", key="nobody", headers={"X-Forwarded-For": told})
        addresses = [row["address"] for row in await api.events("call_denied")]
        assert addresses[-1] == believed, (told, addresses)
    # what is no address at all says nothing, and breaks nothing
    for told in ("", ",", "x" * 5000, "::ffff:999.1.1.1", "203.0.113.1:99999"):
        answer = await api.call("GET", "/api/v1/jobs", key="nobody", headers={"X-Forwarded-For": told})
        assert answer.status_code == 401, told

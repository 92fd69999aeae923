"""Every kind of secret that an installation holds or is given, searched for in everything it says: answers to those who may read all,
the server's log at its loudest, every audit row, a sealed export, and a real dump of the database.
"""

from __future__ import annotations

import base64
import io
import json
import re
import sqlite3
import subprocess
from urllib.parse import quote, unquote

import pytest
from cryptography.hazmat.primitives import serialization

from certctl.core.rules import BreakglassRules, DoorRules
from certctl.store import schema
from integration.api_house import TOKEN, open_api
from integration.test_notifications import with_our_log
from integration.test_sessions import GLASS, PASSWORD, Browser, cheap_passwords
from peers.postgres import _binary

__all__ = ["cheap_passwords"]  # a fixture of this module, too

PLANTED = "a-word-that-is-no-secret"
GIVEN = "s3cret-{}-of-the-test-0123456789"
HMAC = base64.urlsafe_b64encode(b"the-mac-key-of-another-ca-0123456").decode().rstrip("=")


def forms(value: str) -> set[str]:
    """As it may stand in text, in JSON, in a URL, in base64, and as PostgreSQL and SQLite write bytes."""
    raw = value.encode()
    return {
        *(value, quote(value, safe=""), json.dumps(value)[1:-1], raw.hex(), raw.hex().upper()),
        *(base64.b64encode(raw).decode().rstrip("="), base64.urlsafe_b64encode(raw).decode().rstrip("=")),
    }


async def give_secrets(api) -> dict[str, str]:
    """Hand over or have made one of each; by what it is."""
    has = {"the administrator's key": api.admin, "the bootstrap token": TOKEN}
    once = {"Idempotency-Key": "once-for-the-key-of-the-test"}
    made = await api.made("/api/v1/auth/keys", {"name": "second", "role_ids": ["r-viewer"]}, headers=once)
    has["a key whose answer is kept"] = made["key_value"]
    rotated = await api.made(f"/api/v1/auth/keys/{made['id']}/rotate", {"overlap_seconds": 60}, 200)
    has["its fresh value"] = rotated["key_value"]
    enrolment = await api.made("/api/v1/agents/enrolment-tokens", {"agent_name": "web-2"})
    has["an enrolment token"] = enrolment["token"]
    agent = await api.agent()
    has["an agent's credential"] = agent.credential
    target = await api.target(agent)
    await api.made("/api/v1/certificates", {"id": "mc-1", "common_name": "shop.example", "target_ids": [target]})
    await agent.serve()
    for made_of, key in agent.keys.items():
        has[f"the key that an agent made for {made_of}"] = hex_of(key)
    config = {"url": f"https://hook.example/{GIVEN.format('url')}", "secret": GIVEN.format("signing")}
    hook = await api.made("/api/v1/notification-channels", {"name": PLANTED, "type": "Webhook", "config": config})
    mail = {"host": "mail.example", "from_address": "a@b.example", "recipients": ["c@d.example"], "username": "u"}
    mail |= {"password": GIVEN.format("mail")}
    await api.made("/api/v1/notification-channels", {"name": "mail", "type": "Email", "config": mail})
    changed = {"config": {"secret": GIVEN.format("changed"), "url": config["url"]}}
    answer = await api.call("PUT", f"/api/v1/notification-channels/{hook['id']}", changed)
    assert answer.status_code == 200, answer.text
    acme = {"directory_url": "https://127.0.0.1:1/dir", "eab_kid": "kid", "eab_hmac": HMAC}
    await api.made("/api/v1/issuers", {"id": "iss-acme", "name": "acme", "type": "ACME", "config": acme})
    await api.call("POST", "/api/v1/issuers/iss-acme/test")
    external = {"name": "ext", "profile_id": "prof-default"}
    has["a key for accounts elsewhere"] = (await api.made("/api/v1/acme/external-account-keys", external))["hmac_key"]
    await api.made(GLASS, {"actor_id": "oncall", "password": PASSWORD})
    browser = Browser(api)
    signed_in = await browser.call("POST", "/auth/breakglass/login", {"actor_id": "oncall", "password": PASSWORD})
    assert signed_in.status_code == 204, signed_in.text
    has |= {"a break-glass password": PASSWORD} | {f"cookie {name}": value for name, value in browser.cookies.items()}
    for word in ("url", "signing", "mail", "changed"):
        has[f"a channel's {word}"] = GIVEN.format(word)
    has["the mac key at another CA"] = HMAC
    # and what is refused is not repeated either
    wrong = GIVEN.format("refused")
    has["what was refused"] = wrong
    config = {"webhook_url": f"ftp://{wrong}/", "more": wrong}
    assert (
        await api.call("POST", "/api/v1/notification-channels", {"name": "x", "type": "Slack", "config": config})
    ).is_error
    assert (await api.call("GET", "/api/v1/certificates", key=f"ctk_{wrong}")).status_code == 401
    body = {"actor_id": "oncall", "password": wrong}
    assert (await Browser(api).call("POST", "/auth/breakglass/login", body)).status_code == 401
    keybox = api.house.ctx.keybox
    for name, (_, key) in keybox._open.items():
        has[f"the CA's key {name}"] = hex_of(key)
    assert sum(name.startswith("the CA's key") for name in has) >= 1
    return has


def hex_of(key) -> str:
    """The private number or seed, as hex: how a dump writes bytes."""
    if hasattr(key, "private_numbers"):
        numbers = key.private_numbers()
        number = getattr(numbers, "private_value", None) or numbers.d
        return f"{number:x}"
    raw = serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
    return key.private_bytes(*raw).hex()


async def answers(api) -> str:
    """All that an administrator may read: every GET that needs no name, and each thing that a list names."""
    document = await api.get("/api/v1/openapi.json")
    paths = [path for path, verbs in document["paths"].items() if "get" in verbs and "/events/stream" not in path]
    told = []
    for path in paths:
        if "{" in path or path.endswith(("/stream", "/events", "/openapi.json")):
            continue
        answer = await api.call("GET", path, params={"per_page": "200"} if "audit/" not in path else {})
        if answer.status_code == 400:
            answer = await api.call("GET", path)
        told.append(answer.text)
        found = answer.json() if answer.headers["content-type"].startswith("application/json") else []
        rows = found.get("data", []) if isinstance(found, dict) and path != "/api/v1/audit" else []
        one = next((each for each in paths if re.fullmatch(re.escape(path) + r"/\{[^/]*\}", each)), None)
        ids = [row["id"] for row in rows if isinstance(row, dict) and "id" in row] if one else []
        told += [(await api.call("GET", f"{path}/{each}")).text for each in ids]
    assert len(told) > 60
    return "\n".join(told)


def dumped(api, url: str) -> str:
    """What a backup holds: `pg_dump`, or `.dump` of sqlite3."""
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as database:
            return "\n".join(database.iterdump())
    ran = subprocess.run([_binary("pg_dump"), url], capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.usefixtures("cheap_passwords")
async def test_no_secret_is_in_what_it_says_or_keeps(tmp_path, database_url, monkeypatch):
    log = io.StringIO()
    rules = DoorRules(breakglass=BreakglassRules(enabled=True))
    async with open_api(tmp_path / "data", database_url, rules) as api:
        with_our_log(log, monkeypatch)
        has = await give_secrets(api)
        if not database_url.startswith("sqlite"):
            has["the configuration key"] = "a-key-of-the-test-that-is-long-enough"
        told = await answers(api)
        export = (await api.call("GET", "/api/v1/audit/export", params={"seal": "true"})).text
        rows = "\n".join(json.dumps(event, default=str) for event in await all_events(api))
        everything = {"an answer": told, "the export": export, "an audit row": rows, "the log": log.getvalue()}
        everything["the dump"] = dumped(api, database_url)
    for where in ("an answer", "the export", "an audit row", "the dump"):
        assert PLANTED in everything[where], f"{where} is searched where things stand"
    assert "/api/v1/notification-channels" in everything["the log"]
    assert all(table.name in everything["the dump"] for table in schema.metadata.sorted_tables)
    everything["the log, unquoted"] = unquote(everything["the log"])
    for what, value in has.items():
        assert len(value) >= 12, what
        for where, held in everything.items():
            assert not any(form in held for form in forms(value)), f"{what} stands in {where}"
            if re.fullmatch(r"[0-9a-f]{40,}", value):
                assert value.lower() not in held.lower(), f"{what} stands in {where}"


async def all_events(api) -> list[dict]:
    from certctl.store import audit

    async with api.house.database.read() as tx:
        found = await audit.events_after(tx, api.house.ctx.scope, (0, 0), 10_000)
    return [{name: getattr(row, name) for name in row.__struct_fields__} for row in found]

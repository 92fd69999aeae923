"""Who makes external account keys, sees them, and ends them; what is in the log; what is sealed."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certctl.core.acme import ExternalKey
from certctl.wire.jws import decode, encode
from integration.test_approvals import person
from protocol.acme_house import csr_for, open_acme, problem

PATH = "/api/v1/acme/external-account-keys"


@pytest.fixture
async def house(tmp_path, database_url):
    async with open_acme(tmp_path / "data", database_url) as opened:
        yield opened


async def test_nobody_gives_more_than_they_may_issue_themselves(house):
    api = house.api
    for team in ("team-a", "team-b"):
        await api.made("/api/v1/teams", {"id": team, "name": team})
    await api.made("/api/v1/profiles", {"id": "prof-b", "name": "b"})
    mine = await api.key("r-cli", teams=["team-a"], profiles=["prof-default"])
    wish = {"name": "web", "profile_id": "prof-default", "team_id": "team-a"}
    made = await api.made(PATH, wish, key=mine)
    for change in ({"team_id": "team-b"}, {"team_id": ""}, {"profile_id": "prof-b"}, {"team_id": "nothing"}):
        answer = await api.call("POST", PATH, wish | {"name": "more"} | change, key=mine)
        assert answer.status_code == 403, change
    other = await api.made(PATH, {"name": "other", "profile_id": "prof-default", "team_id": "team-b"})
    assert [row["id"] for row in (await api.get(PATH, key=mine))["data"]] == [made["id"]]
    assert (await api.call("DELETE", f"{PATH}/{other['id']}", key=await api.key("r-viewer"))).status_code == 403
    viewer = await api.key("r-viewer")
    assert (await api.call("GET", PATH, key=viewer)).status_code == 403
    for role in ("r-operator", "r-mcp", "r-agent", "r-auditor"):
        assert (await api.call("POST", PATH, wish | {"name": role}, key=await api.key(role))).status_code == 403


async def test_a_secret_is_shown_once_sealed_and_in_no_log(house):
    api = house.api
    made = await api.made(PATH, {"name": "web", "profile_id": "prof-default"})
    secret = decode(made["hmac_key"], "key")
    assert len(secret) == 32
    async with api.house.database.read() as tx:
        from certctl.store import acme

        (kept,) = [await acme.get(tx, api.house.ctx.scope, ExternalKey, made["id"])]
    assert secret not in kept.sealed
    assert "hmac_key" not in str(await api.get(PATH))
    for kind in ("config_created", "acme_account_created"):
        assert made["hmac_key"] not in str(await api.events(kind))
    (event,) = [row for row in await api.events("config_created") if row["subject_type"] == "acme_external_key"]
    assert (event["subject_id"], event["actor"]) == (made["id"], "admin")


async def test_wishes_that_cannot_be(tmp_path):
    async with open_acme(tmp_path / "data") as house:
        for change in (
            {"name": ""}, {"profile_id": "nothing"}, {"owner_id": "nothing"}, {"team_id": "nothing"}, {"allowed_names": ["a b"]},
            {"allowed_names": ["*.a.example"]}, {"allowed_names": [""]}, {"expires_at": "2001-01-01T00:00:00Z"}, {"surprise": 1},
            {"allowed_names": [f"h{number}.example" for number in range(101)]},
        ):  # fmt: skip
            answer = await house.api.call("POST", PATH, {"name": "web", "profile_id": "prof-default"} | change)
            assert answer.status_code == 400, (change, answer.text)


async def test_owner_and_team_of_the_key_are_those_of_its_certificates(house):
    api = house.api
    await api.made("/api/v1/teams", {"id": "team-a", "name": "a"})
    owner = await api.made("/api/v1/owners", {"id": "o-a", "name": "anna", "team_id": "team-a"})
    client = await house.known(owner_id=owner["id"], team_id="team-a")
    await client.issued("a.example")
    (found,) = (await api.get("/api/v1/certificates?q=a.example"))["data"]
    assert (found["owner_id"], found["team_id"]) == (owner["id"], "team-a")
    kinds = ("acme_account_created", "acme_order_created", "acme_order_processing", "acme_order_finalized")
    account = client.kid.rpartition("/")[2]
    for kind in kinds:
        (event,) = await api.events(kind)
        assert (event["actor"], event["actor_type"]) == (f"acme:{account}", "ACMEAccount"), kind


async def test_a_request_that_people_must_approve_waits_for_them(house):
    api = house.api
    change = {"requires_approval": True, "allow_short_lived": False}
    assert (await api.call("PUT", "/api/v1/profiles/prof-default", change)).status_code == 200
    client = await house.known()
    made = await client.order("a.example")
    waiting = await client.post(made.json()["finalize"], {"csr": csr_for(["a.example"])})
    assert (waiting.status_code, waiting.json()["status"]) == (200, "processing")
    assert int(waiting.headers["retry-after"]) > 0
    (approval,) = (await api.get("/api/v1/approvals"))["data"]
    assert approval["requested_by"].startswith("acme:acme-acc-")
    # whoever made the key that the account was bound with is who asks
    own = await api.call("POST", f"/api/v1/approvals/{approval['id']}/approve", {})
    assert own.status_code == 403, own.text
    says = await person(api, "bob")
    rejected = await api.call("POST", f"/api/v1/approvals/{approval['id']}/reject", {"note": "no"}, key=says)
    assert rejected.status_code == 200, rejected.text
    ended = (await client.post(made.headers["location"])).json()
    assert (ended["status"], ended["error"]["type"].rpartition(":")[2]) == ("invalid", "unauthorized")
    assert problem(await client.post(made.json()["finalize"], {"csr": csr_for(["a.example"])})) == "orderNotReady"


async def test_the_profile_says_who_issues_and_what_it_forbids_is_refused_at_the_order(house):
    api = house.api
    missing = await api.call("POST", "/api/v1/profiles", {"name": "x", "acme_issuer_id": "nothing"})
    assert missing.status_code == 400
    body = {"id": "prof-c", "name": "c", "acme_auth_mode": "trust_authenticated", "acme_issuer_id": "iss-local"}
    await api.made("/api/v1/profiles", body | {"required_san_patterns": ["*.corp.example"]})
    client = house.client(base="https://certctl.test/acme/profile/prof-c")
    assert (await client.register(await house.eab(profile_id="prof-c"))).status_code == 201
    assert problem(await client.order("a.other.example")) == "rejectedIdentifier"
    await client.issued("a.corp.example")
    (found,) = (await api.get("/api/v1/certificates?q=a.corp.example"))["data"]
    assert (found["issuer_id"], found["certificate_profile_id"]) == ("iss-local", "prof-c")
    wrong = house.client(base="https://certctl.test/acme/profile/prof-c")
    assert problem(await wrong.register(await house.eab())) == "unauthorized", "a key is for its profile"


async def test_a_directory_offers_several_profiles_and_each_keeps_its_own_rules(house):
    api = house.api
    await api.made("/api/v1/profiles", {"id": "prof-short", "name": "short", "max_ttl_seconds": 86400})
    await api.made("/api/v1/profiles", {"id": "prof-inner", "name": "i", "required_san_patterns": ["*.in.example"]})
    await api.made("/api/v1/profiles", {"id": "prof-apart", "name": "apart"})
    for wrong in (["nothing"], ["prof-default"], ["prof-short", "prof-short"]):
        answer = await api.call("PUT", "/api/v1/profiles/prof-default", {"acme_profiles": wrong})
        assert answer.status_code == 400, wrong
    offered = {"acme_profiles": ["prof-short", "prof-inner"], "description": "as ever", "allow_short_lived": False}
    assert (await api.call("PUT", "/api/v1/profiles/prof-default", offered)).status_code == 200
    told = (await house.http.get("https://certctl.test/acme/profile/prof-default/directory")).json()["meta"]["profiles"]
    assert told == {"prof-default": "as ever", "prof-short": "short", "prof-inner": "i"}
    client = await house.known()
    order, pem = await client.issued("a.example", profile="prof-short")
    leaf = x509.load_pem_x509_certificate(pem.encode())
    assert order["profile"] == "prof-short"
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc <= timedelta(days=1, hours=1)
    (found,) = (await api.get("/api/v1/certificates?q=a.example"))["data"]
    assert found["certificate_profile_id"] == "prof-short"
    # the same names of the directory's own profile are another certificate
    _, longer = await client.issued("a.example")
    leaf = x509.load_pem_x509_certificate(longer.encode())
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc > timedelta(days=2)
    assert len((await api.get("/api/v1/certificates?q=a.example"))["data"]) == 2
    assert problem(await client.order("a.example", profile="prof-inner")) == "rejectedIdentifier"
    for unknown in ("prof-apart", "nothing", "", "x" * 1000):
        assert problem(await client.order("a.example", profile=unknown)) == "invalidProfile", unknown
    # what is no longer offered is not issued, though it was ordered
    made = (await client.order("b.example", profile="prof-short")).json()
    fewer = {"acme_profiles": ["prof-inner"], "allow_short_lived": False}
    assert (await api.call("PUT", "/api/v1/profiles/prof-default", fewer)).status_code == 200
    assert problem(await client.post(made["finalize"], {"csr": csr_for(["b.example"])})) == "invalidProfile"
    # it can still be revoked where it was ordered
    der = encode(x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER))
    assert (await client.post("revoke-cert", {"certificate": der})).status_code == 200


async def test_nobody_gives_a_directory_whose_offers_they_may_not_issue(house):
    api = house.api
    await api.made("/api/v1/profiles", {"id": "prof-b", "name": "b"})
    mine = await api.key("r-cli", profiles=["prof-default"])
    wish = {"name": "web", "profile_id": "prof-default"}
    await api.made(PATH, wish, key=mine)
    offered = {"acme_profiles": ["prof-b"], "allow_short_lived": False}
    assert (await api.call("PUT", "/api/v1/profiles/prof-default", offered)).status_code == 200
    assert (await api.call("POST", PATH, wish | {"name": "more"}, key=mine)).status_code == 403
    await api.made(PATH, wish | {"name": "whole"})


async def test_what_lapses_is_swept(house):
    from datetime import timedelta

    from certctl.protocols.acme.sweeping import sweep

    client = await house.known()
    made = await client.order("a.example")
    ctx = house.api.house.ctx
    house.api.clock.moment += timedelta(hours=25)
    assert await sweep(ctx) >= 3, "nonces and the order"
    assert await sweep(ctx) == 0
    client.nonce = ""
    ended = (await client.post(made.headers["location"])).json()
    assert (ended["status"], ended["error"]["detail"]) == ("invalid", "the order has expired")

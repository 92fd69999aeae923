"""What attackers and broken clients send: the right problem type, nothing changed, never a 500."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certctl.core.acme import AcmeAccount
from certctl.core.errors import CertctlError
from certctl.core.rules import DoorRules, LimitRules, Rate
from certctl.store import acme as store
from certctl.wire import acme as wire
from certctl.wire import jws
from certctl.wire.acme import CertificateId
from certctl.wire.jws import encode
from protocol.acme_house import BASE, csr_for, jwk_of, new_key, open_acme, problem, sign


@pytest.fixture
async def house(tmp_path):
    async with open_acme(tmp_path / "data") as opened:
        yield opened


async def counts(house) -> dict[str, int]:
    """Rows of every ACME table but spent nonces, and of certificates and jobs."""
    import sqlalchemy as sa

    from certctl.store import schema

    tables = (
        schema.acme_accounts,
        schema.acme_orders,
        schema.acme_authorizations,
        schema.acme_challenges,
        schema.certificates,
        schema.jobs,
    )
    async with house.api.house.database.read() as tx:
        return {table.name: await tx.scalar(sa.select(sa.func.count()).select_from(table)) for table in tables}


async def test_bad_messages_of_every_sort(house):
    client = await house.known()
    url, payload = f"{BASE}/new-order", json.dumps({"identifiers": [{"type": "dns", "value": "a.example"}]}).encode()
    before = await counts(house)

    async def signed(header=None, signing=None, **more):
        made = await client.header(url, **more)
        return sign(signing or client.key, made | (header or {}), payload)

    def broken(message, **changed):
        return {name: value for name, value in (message | changed).items() if value is not None}

    good = await signed()
    tried = [
        (b"", "malformed"), (b"{", "malformed"), (b"[]", "malformed"), (b"\xff\xfe", "malformed"),
        (b"[" * 60_000, "malformed"), (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "malformed"),
        (broken(good, payload=None), "malformed"), (broken(good, header={"kid": client.kid}), "malformed"),
        (broken(good, signatures=[]), "malformed"), (broken(good, protected="!!"), "malformed"),
        (broken(good, protected=encode(b"[]")), "malformed"), (broken(good, protected=encode(b"{}")), "malformed"),
        (broken(good, signature=good["signature"] + "="), "malformed"), (broken(good, signature=""), "unauthorized"),
        (broken(good, signature=encode(bytes(64))), "unauthorized"),
        (broken(good, payload=encode(b'{"identifiers":[{"type":"dns","value":"b.example"}]}')), "unauthorized"),
        (await signed(crit=["b64"], b64=False), "malformed"),
        (await signed(jwk=jwk_of(client.key)), "malformed"), (await signed(kid=None), "malformed"),
        (await signed(kid=client.kid + "x"), "accountDoesNotExist"), (await signed(kid="https://evil.example/acct/1"), "accountDoesNotExist"),
        (await signed(kid=["a"]), "accountDoesNotExist"),
        (await signed(url=None), "malformed"), (await signed(url=f"{BASE}/new-account"), "unauthorized"),
        (await signed(url=url.replace("https", "http")), "unauthorized"), (await signed(url="https://evil.example/acme/new-order"), "unauthorized"),
        (await signed(signing=new_key()), "unauthorized"),
        (await signed(nonce=None), "badNonce"), (await signed(nonce="x"), "malformed"), (await signed(nonce=7), "malformed"),
        (await signed(nonce="AAAA=="), "malformed"), (await signed(nonce="AAAA"), "badNonce"),
        (await signed(nonce=encode(os.urandom(36))), "badNonce"),
    ]  # fmt: skip
    for message, kind in tried:
        answer = await client.send(url, message)
        assert problem(answer) == kind, (message, answer.text)
        assert answer.headers["replay-nonce"]
    for algorithm in ("none", "HS256", "PS256", "ES256K", "", "RS1"):
        header = (await client.header(url)) | {"alg": algorithm}
        protected = encode(json.dumps(header).encode())
        answer = await client.send(url, {"protected": protected, "payload": encode(payload), "signature": ""})
        assert problem(answer) == "badSignatureAlgorithm"
        assert "ES256" in answer.json()["algorithms"]
    assert await counts(house) == before
    assert (await client.send(url, good)).status_code == 201, "none of them spent the nonce of the good one"
    replayed = await client.send(url, good)
    assert problem(replayed) == "badNonce"
    assert (await counts(house))["acme_orders"] == before["acme_orders"] + 1


async def test_an_algorithm_that_does_not_fit_the_key(house):
    client, url = house.client(), f"{BASE}/new-account"
    for key, algorithm in ((new_key(), "RS256"), (new_key(), "ES384"), (new_key(), "EdDSA")):
        client.key = key
        header = await client.header(url, by_key=True) | {"alg": algorithm}
        protected = encode(json.dumps(header).encode())
        answer = await client.send(url, {"protected": protected, "payload": "", "signature": encode(bytes(64))})
        assert (answer.status_code, problem(answer)) == (400, "badPublicKey")
    known = await house.known()
    for algorithm in ("RS256", "ES384", "EdDSA"):
        header = await known.header(known.kid) | {"alg": algorithm}
        protected = encode(json.dumps(header).encode())
        answer = await known.send(known.kid, {"protected": protected, "payload": "", "signature": encode(bytes(64))})
        assert (answer.status_code, problem(answer)) == (401, "unauthorized")


async def test_keys_that_are_no_keys(house):
    client, url = house.client(), f"{BASE}/new-account"
    good = jwk_of(client.key)
    weak = jwk_of(rsa.generate_private_key(public_exponent=65537, key_size=1024))
    for jwk in (
        {}, {"kty": "oct", "k": "AAAA"}, good | {"d": good["x"]}, good | {"x": good["y"]}, good | {"crv": "P-384"},
        good | {"x": encode(bytes(31))}, weak, {"kty": "RSA", "n": encode(b"\x01" * 2000), "e": "AQAB"},
        {"kty": "OKP", "crv": "X25519", "x": encode(bytes(32))}, jwk_of(ec.generate_private_key(ec.SECP256K1())) if False else {"kty": "EC"},
    ):  # fmt: skip
        message = sign(client.key, await client.header(url, by_key=True) | {"jwk": jwk}, b"{}")
        answer = await client.send(url, message)
        assert problem(answer) == "badPublicKey", (jwk, answer.text)
    for jwk in ("text", 7, [1]):
        message = sign(client.key, await client.header(url, by_key=True) | {"jwk": jwk}, b"{}")
        assert problem(await client.send(url, message)) == "malformed"


async def test_doors_and_forms(house):
    client = await house.known()
    for path in ("new-account", "new-order", "order/x", "account/x", "key-change", "revoke-cert"):
        answer = await house.http.get(f"{BASE}/{path}")
        assert (answer.status_code, problem(answer), answer.headers["allow"]) == (405, "malformed", "POST")
    url = f"{BASE}/new-order"
    for content_type in ("application/json", "", "text/plain"):
        answer = await client.send(url, {}, content_type=content_type)
        assert (answer.status_code, problem(answer)) == (415, "malformed")
    for size in (70_000, 200_000):
        answer = await client.send(url, b"x" * size)
        assert (answer.status_code, problem(answer)) == (413, "malformed")
    for path in ("/acme", "/acme/", "/acme/directory", "/acme/profile", "/acme/profile/"):
        assert (await house.http.get(f"https://certctl.test{path}")).status_code in {400, 403, 404}
    unknown = await house.http.get("https://certctl.test/acme/profile/nothing/directory")
    assert (unknown.status_code, problem(unknown)) == (404, "malformed")
    foreign = await house.http.get(f"{BASE}/directory", headers={"host": "evil.example"})
    assert (foreign.status_code, problem(foreign)) == (421, "malformed")
    for text in ("a", "a.b", "..", "AAAA.", ".AAAA", "AAAA.AAAA=", "AAAA.gA", "x" * 300):
        answer = await house.http.get(f"{BASE}/renewal-info/{text}")
        assert answer.status_code in {400, 404}, text
        assert problem(answer) == "malformed"


async def test_what_was_signed_for_another_host_is_not_taken_here(house):
    """A malicious ACME server passes on what its client signed for it, with a nonce of ours and its own Host."""
    client, url = await house.known(), "https://evil.example/acme/profile/prof-default/new-order"
    message = sign(
        client.key,
        await client.header(
            url, kid=f"https://evil.example/acme/profile/prof-default/account/{client.kid.rpartition('/')[2]}"
        ),
        b"{}",
    )
    content = json.dumps(message).encode()
    answer = await house.http.post(
        f"{BASE}/new-order", content=content, headers={"content-type": "application/jose+json", "host": "evil.example"}
    )
    assert answer.status_code == 421
    assert problem(await client.send(f"{BASE}/new-order", message)) == "unauthorized"


async def test_nothing_of_an_address_gets_into_a_header(house):
    for profile in ("%0d%0aset-cookie:%20a=b", "a%22b", "a%3Eb", "%00", "a%0ab", "x" * 300, "%C3%A9"):
        answer = await house.http.get(f"https://certctl.test/acme/profile/{profile}/directory")
        assert answer.status_code in {400, 404}, profile
        assert "set-cookie" not in answer.headers
        assert "link" not in answer.headers
    for host in ("evil@certctl.test", "certctl.test:80x", "certctl.test/a", "certctl.test#", "[certctl.test]", ""):
        answer = await house.http.get(f"{BASE}/directory", headers={"host": host})
        assert (answer.status_code, problem(answer)) == (421, "malformed"), host


async def test_an_account_that_nobody_vouched_for_orders_nothing_once_somebody_must(house):
    modes = ({"acme_auth_mode": mode, "allow_short_lived": False} for mode in ("challenge", "trust_authenticated"))
    assert (await house.api.call("PUT", "/api/v1/profiles/prof-default", next(modes))).status_code == 200
    client = house.client()
    assert (await client.register()).status_code == 201
    order = await client.order("a.example")
    assert order.json()["status"] == "pending"
    assert (await house.api.call("PUT", "/api/v1/profiles/prof-default", next(modes))).status_code == 200
    refused = await client.order("b.example")
    assert (refused.status_code, problem(refused)) == (403, "externalAccountRequired")
    assert problem(await client.post(order.json()["finalize"], {"csr": csr_for(["a.example"])})) == "orderNotReady"


async def test_what_was_trusted_is_not_issued_once_proof_is_wanted(house):
    client = await house.known()
    made = await client.order("a.example")
    assert made.json()["status"] == "ready"
    change = {"acme_auth_mode": "challenge", "allow_short_lived": False}
    assert (await house.api.call("PUT", "/api/v1/profiles/prof-default", change)).status_code == 200
    refused = await client.post(made.json()["finalize"], {"csr": csr_for(["a.example"])})
    assert (refused.status_code, problem(refused)) == (403, "unauthorized")
    assert (await client.post(made.headers["location"])).json()["status"] == "invalid"
    assert (await counts(house))["managed_certificates"] == 0


async def test_accounts_do_not_reach_into_one_another(house):
    await house.api.made("/api/v1/profiles", {"id": "prof-b", "name": "b", "acme_auth_mode": "trust_authenticated"})
    one, two = await house.known(), await house.known()
    made = await one.order("a.example")
    order = made.json()
    for url, payload in (
        (made.headers["location"], None), (order["authorizations"][0], None), (order["authorizations"][0], {"status": "deactivated"}),
        (order["finalize"], {"csr": csr_for(["a.example"])}),
    ):  # fmt: skip
        answer = await two.post(url, payload)
        assert (answer.status_code, problem(answer)) == (404, "malformed")
    for url in (one.kid, f"{one.kid}/orders"):
        assert problem(await two.post(url)) == "unauthorized"
    assert problem(await two.post(one.kid, {"status": "deactivated"})) == "unauthorized"
    # what is of one profile is not there in another's directory, whoever asks, either way
    _, pem = await one.issued("c.example")
    leaf = x509.load_pem_x509_certificate(pem.encode())
    der = encode(leaf.public_bytes(serialization.Encoding.DER))
    aki = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    name = str(CertificateId(aki, leaf.serial_number))
    other = BASE.replace("prof-default", "prof-b")
    there = house.client(base=other)
    assert (await there.register(await house.eab(profile_id="prof-b"))).status_code == 201
    elsewhere = (await there.order("b.example")).headers["location"]
    for url in (made.headers["location"], order["authorizations"][0], order["finalize"]):
        assert (await there.post(url.replace(BASE, other), {"csr": csr_for(["a.example"])})).status_code in {400, 404}
        assert (await there.post(url.replace(BASE, other))).status_code in {400, 404}
        # and with its own account at the other's addresses it is nobody
        assert problem(await there.post(url)) == "accountDoesNotExist"
    assert problem(await one.post(elsewhere)) == "accountDoesNotExist"
    assert (await one.post(elsewhere.replace(other, BASE))).status_code == 404
    assert (await there.post("revoke-cert", {"certificate": der})).status_code == 404
    assert (await house.http.get(f"{other}/renewal-info/{name}")).status_code == 404
    assert problem(await there.order("c.example", replaces=name)) == "malformed"
    one.base, one.kid = other, one.kid.replace(BASE, other)
    assert problem(await one.order("a.example")) == "accountDoesNotExist"


async def test_bindings_are_judged(house):
    kid, secret = await house.eab()
    bad = house.client()
    assert problem(await bad.register()) == "externalAccountRequired"
    for binding, kind in (
        (bad.binding(kid, bytes(32)), "unauthorized"), (bad.binding("eab-nothing", secret), "unauthorized"),
        (bad.binding(kid, secret, f"{BASE}/new-order"), "malformed"), (bad.binding(kid, secret, nonce="x"), "malformed"),
        (house.client().binding(kid, secret), "malformed"), (bad.binding(kid, secret, alg="HS256", kid=7), "unauthorized"),
        (sign(bad.key, {"alg": "ES256", "kid": kid, "url": f"{BASE}/new-account"}, b"{}"), "badSignatureAlgorithm"),
        ({}, "malformed"), ({"protected": "x"}, "malformed"),
    ):  # fmt: skip
        answer = await bad.post("new-account", {"externalAccountBinding": binding}, by_key=True)
        assert problem(answer) == kind, (binding, answer.text)
    assert (await counts(house))["acme_accounts"] == 0
    first = house.client()
    assert (await first.register((kid, secret))).status_code == 201
    assert (await first.register((kid, secret))).status_code == 200, "the same key again is the same account"
    assert problem(await house.client().register((kid, secret))) == "unauthorized", "one key, one account"
    again = await house.eab(reusable=True)
    for _ in range(2):
        assert (await house.client().register(again)).status_code == 201
    await house.api.call("DELETE", f"/api/v1/acme/external-account-keys/{kid}")
    assert problem(await first.order("a.example")) == "unauthorized", "who vouched for it does no longer"
    gone = await house.eab(expires_at=(house.api.clock.now().replace(year=2099)).isoformat())
    house.api.clock.moment = house.api.clock.moment.replace(year=2100)
    assert problem(await house.client().register(gone)) == "unauthorized"


async def test_orders_are_judged_before_anything_is_proven(house):
    client = await house.known(allowed_names=["corp.example", "=only.example", "10.1.0.0/16"])
    for names, kind in (
        (["other.example"], "rejectedIdentifier"), (["notcorp.example"], "rejectedIdentifier"), (["sub.only.example"], "rejectedIdentifier"),
        (["10.2.0.1"], "rejectedIdentifier"), (["a..corp.example"], "rejectedIdentifier"), (["*.*.corp.example"], "rejectedIdentifier"),
        (["bücher.corp.example"], "rejectedIdentifier"), ([" a.corp.example"], "rejectedIdentifier"), ([], "malformed"),
        ([f"h{n}.corp.example" for n in range(101)], "malformed"),
    ):  # fmt: skip
        answer = await client.order(*names)
        assert problem(answer) == kind, (names, answer.text)
    both = await client.order("a.corp.example", "b.example", "c.example")
    assert [each["identifier"]["value"] for each in both.json()["subproblems"]] == ["b.example", "c.example"]
    for payload, kind in (
        ({"identifiers": [{"type": "email", "value": "a@b.example"}]}, "unsupportedIdentifier"), ({"identifiers": "a"}, "malformed"),
        ({"identifiers": [{"type": "dns"}]}, "malformed"), ({}, "malformed"), ([], "malformed"), ("text", "malformed"),
    ):  # fmt: skip
        assert problem(await client.post("new-order", payload)) == kind, payload
    assert problem(await client.order("a.corp.example", profile="other")) == "invalidProfile"
    assert problem(await client.order("a.corp.example", notAfter="2099-01-01T00:00:00Z")) == "malformed"
    assert problem(await client.order("a.corp.example", notBefore="soon")) == "malformed"
    assert (await counts(house))["acme_orders"] == 0
    assert (
        await client.order("corp.example", "*.corp.example", "only.example", "10.1.2.3", profile="prof-default")
    ).status_code == 201


async def test_a_csr_names_exactly_what_was_ordered(house):
    client = await house.known()
    order = (await client.order("a.example", "b.example")).json()
    before = await counts(house)
    for csr in (
        csr_for(["a.example"]), csr_for(["a.example", "b.example", "c.example"]), csr_for(["a.example", "b.example", "ip:10.0.0.1"]),
        csr_for(["a.example", "b.example", "email:x@a.example"]), csr_for(["a.example", "b.example", "uri:spiffe://a/b"]),
        csr_for(["b.example"]), csr_for(["a.example", "b.example"], client.key), encode(b"no CSR"), "", "!!",
        csr_for(["a.example", "b.example"], rsa.generate_private_key(public_exponent=65537, key_size=1024)),
    ):  # fmt: skip
        answer = await client.post(order["finalize"], {"csr": csr})
        assert problem(answer) == "badCSR", answer.text
    assert problem(await client.post(order["finalize"], {})) == "malformed"
    assert await counts(house) == before
    done = await client.post(order["finalize"], {"csr": csr_for(["b.example", "a.example"])})
    assert done.json()["status"] == "valid"
    again = await client.post(order["finalize"], {"csr": csr_for(["b.example", "a.example"])})
    assert (again.status_code, problem(again)) == (403, "orderNotReady")


async def test_limits_say_when_to_come_back(tmp_path):
    async with open_acme(tmp_path / "data", orders_per_hour=3, concurrent_orders=2, key_changes_per_hour=1) as house:
        client = await house.known()
        for _ in range(2):
            assert (await client.order("a.example")).status_code == 201
        full = await client.order("a.example")
        assert (full.status_code, problem(full)) == (429, "rateLimited")
        assert int(full.headers["retry-after"]) > 0
        order = (await client.post((await client.post(f"{client.kid}/orders")).json()["orders"][0])).json()
        assert (await client.post(order["finalize"], {"csr": csr_for(["a.example"])})).json()["status"] == "valid"
        assert (await client.order("a.example")).status_code == 201
        many = await client.order("a.example")
        assert (problem(many), int(many.headers["retry-after"]) <= 3600) == ("rateLimited", True)
        for expected in (200, 429):
            fresh, url = new_key(), f"{BASE}/key-change"
            inner = json.dumps({"account": client.kid, "oldKey": jwk_of(client.key)}).encode()
            answer = await client.post(url, sign(fresh, {"alg": "ES256", "jwk": jwk_of(fresh), "url": url}, inner))
            assert answer.status_code == expected
            client.key = fresh if expected == 200 else client.key


async def test_strangers_of_one_address_and_each_account_are_held_to_a_rate(tmp_path):
    # the house's clock stands still: nothing is given back by time
    limits = LimitRules(enabled=True, address=Rate(per_second=1, burst=9), caller=Rate(per_second=1, burst=6))
    async with open_acme(tmp_path / "data", doors=DoorRules(limits=limits)) as house:
        client = await house.known()
        answers = [await client.post(client.kid) for _ in range(7)]
        assert [answer.status_code for answer in answers] == [200] * 6 + [429]
        assert problem(answers[-1]) == "rateLimited"
        assert int(answers[-1].headers["retry-after"]) > 0
        assert answers[-1].headers["replay-nonce"]
        asked = [await house.http.get(f"{BASE}/renewal-info/AAAA.AQ") for _ in range(10)]
        assert asked[0].status_code == 404, "what an account asked was not counted against its neighbours"
        assert (asked[-1].status_code, problem(asked[-1])) == (429, "rateLimited")
        assert int(asked[-1].headers["retry-after"]) > 0
        # whoever signs with a key that nobody knows is a stranger too
        stranger = await house.client().post("new-account", {}, by_key=True, nonce="none")
        assert (stranger.status_code, problem(stranger)) == (429, "rateLimited")


async def test_strangers_who_use_up_an_address_shut_no_account_out(tmp_path):
    """Whoever signs nothing, whoever signs with a key of their own, whoever forges an account's name: none of them costs
    the accounts behind their address anything. The house's clock stands still: nothing is given back by time.
    """
    limits = LimitRules(enabled=True, address=Rate(per_second=1, burst=8), caller=Rate(per_second=1, burst=40))
    async with open_acme(tmp_path / "data", doors=DoorRules(limits=limits)) as house:
        known, quiet = await house.known(), await house.known()
        assert (await house.http.get(f"{BASE}/directory")).status_code == 200
        assert (await known.post(known.kid)).status_code == 200

        async def refused(ask):
            answers = [await ask() for _ in range(12)]
            assert (answers[-1].status_code, problem(answers[-1])) == (429, "rateLimited")
            assert answers[0].status_code != 429 or ask is anonymous, answers[0].text
            return answers

        async def anonymous():
            return await house.client().post("new-account", {}, by_key=True, nonce="none")

        await refused(anonymous)
        assert (await house.http.get(f"{BASE}/renewal-info/AAAA.AQ")).status_code == 429
        # what a client needs before it can sign is answered without a look-up
        assert (await house.http.get(f"{BASE}/directory")).json()["newOrder"] == f"{BASE}/new-order"
        assert (await house.http.get("https://certctl.test/acme/profile/nothing/directory")).status_code == 429
        assert (await house.http.head(f"{BASE}/new-nonce")).headers["replay-nonce"]
        assert (await quiet.post(quiet.kid)).status_code == 200, "one that was not seen from here before"
        assert (await known.issued("a.example"))[0]["status"] == "valid"

        async def forged():
            # a nonce of ours, the account's own name, another key
            return await dataclasses.replace(known, nonce="").post("new-order", {}, signing=new_key())

        assert {answer.status_code for answer in await refused(forged)} == {401, 429}
        assert (await known.issued("b.example"))[0]["status"] == "valid", "its own signature is its ticket"
        assert (await quiet.order("c.example")).status_code == 201
        # its own rate is its own: it ends, and that of its neighbour does not
        while (answer := await known.post(known.kid)).status_code == 200:
            continue
        assert problem(answer) == "rateLimited"
        assert (await quiet.post(quiet.kid)).status_code == 200
        # a key that was changed elsewhere opens nothing here, however lately it did
        async with house.api.house.database.begin("test") as tx:
            fresh = jws.jwk_of(new_key())
            account = quiet.kid.rpartition("/")[2]
            scope = house.api.house.ctx.scope
            await store.change(tx, scope, AcmeAccount, account, jwk=fresh.canonical, thumbprint=fresh.thumbprint)
        assert (await quiet.post(quiet.kid)).status_code == 401


async def test_pages_of_other_origins_speak_acme_only_where_that_was_said(tmp_path):
    asks = {"origin": "https://ui.example", "access-control-request-method": "POST"}
    async with open_acme(tmp_path / "data", doors=DoorRules(cors_origins=("https://ui.example",))) as house:
        # the origins of the API are not those of ACME
        answer = await house.http.get(f"{BASE}/directory", headers={"origin": "https://ui.example"})
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert (await house.http.options(f"{BASE}/new-order", headers=asks)).status_code == 405


async def test_a_browser_anywhere_may_be_a_client_where_that_was_said(tmp_path):
    """RFC 8555 6.1."""
    asks = {
        "origin": "https://any.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type",
    }
    async with open_acme(tmp_path / "data", cors_origins=("*",)) as house:
        client = await house.known()
        order = await client.order("a.example")
        told = [
            await house.http.get(f"{BASE}/directory", headers={"origin": "https://any.example"}),
            await house.http.head(f"{BASE}/new-nonce"),
            order,
            await client.post("new-order", {}),
            await house.http.options(f"{BASE}/new-order", headers=asks),
        ]
        for answer in told:
            assert answer.headers["access-control-allow-origin"] == "*"
            assert "access-control-allow-credentials" not in answer.headers
            read = answer.headers["access-control-expose-headers"]
            assert {"Location", "Replay-Nonce", "Link", "Retry-After"} <= set(read.split(", "))
        assert [answer.status_code for answer in told] == [200, 200, 201, 400, 204]
        assert told[-1].headers["access-control-allow-headers"] == "Content-Type"
        assert "POST" in told[-1].headers["access-control-allow-methods"]
        # the API beside it is as shut as ever
        api = await house.api.call("GET", "/api/v1/certificates", headers={"origin": "https://any.example"})
        assert "access-control-allow-origin" not in api.headers


async def test_what_is_switched_off_is_not_there(tmp_path):
    async with open_acme(tmp_path / "data", enabled=False) as house:
        answer = await house.http.get(f"{BASE}/directory")
        assert (answer.status_code, problem(answer)) == (404, "malformed")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)
KINDS = (
    wire.NewAccount,
    wire.AccountUpdate,
    wire.NewOrder,
    wire.StatusChange,
    wire.Finalize,
    wire.Revocation,
    wire.KeyChange,
)


@given(data=st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_break_the_parsers(data):
    for parser in (jws.read_jws, *(lambda raw, kind=kind: wire.read(raw, kind) for kind in KINDS)):
        with contextlib.suppress(CertctlError):
            parser(data)


@given(value=JSON, name=st.sampled_from(["n", "e", "x", "y", "crv", "kty"]))
def test_no_jwk_breaks_its_parser(value, name):
    for good in (
        jwk_of(new_key()),
        {"kty": "RSA", "n": encode(b"\x01" * 256), "e": "AQAB"},
        {"kty": "OKP", "crv": "Ed25519", "x": encode(bytes(32))},
    ):
        with contextlib.suppress(CertctlError):
            jws.read_jwk(good | {name: value})


@given(text=st.text(max_size=60))
def test_no_text_breaks_a_certificate_id(text):
    try:
        found = wire.read_certificate_id(text)
    except CertctlError:
        return
    assert str(found) == text


@given(serial=st.integers(min_value=1, max_value=(1 << 159)), key=st.binary(min_size=1, max_size=40))
def test_a_certificate_id_is_read_as_it_was_written(serial, key):
    text = str(wire.CertificateId(key, serial))
    assert wire.read_certificate_id(text) == wire.CertificateId(key, serial)


async def test_signed_payloads_of_any_form_meet_no_bug(house):
    """Whatever an account signs for whichever address: told in ACME's words, and never a 500."""
    client = await house.known()
    order = (await client.order("a.example")).json()
    proof = (await client.post(order["authorizations"][0])).json()
    urls = [
        "new-account", "new-order", "key-change", "revoke-cert", client.kid, f"{client.kid}/orders", order["finalize"],
        order["authorizations"][0], proof["challenges"][0]["url"], "cert/nothing", "order/nothing",
    ]  # fmt: skip
    fields = st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(("identifiers", "contact", "csr", "certificate", "reason", "account", "oldKey", "payload", "protected", "signature", "externalAccountBinding", "replaces", "profile", "notBefore", "onlyReturnExisting"), JSON),
    )  # fmt: skip
    examples = []

    @settings(max_examples=60, database=None, suppress_health_check=list(HealthCheck))
    @given(url=st.sampled_from(urls), payload=fields | JSON)
    def draw(url, payload):
        examples.append((url, payload))

    draw()
    for url, payload in examples:
        answer = await client.post(url, payload, by_key=url == "new-account")
        assert answer.status_code < 500, (url, payload, answer.text)
        if not answer.is_success:
            problem(answer)

"""The ACME server's core (RFC 8555), request by request, on both databases."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from datetime import datetime, timedelta
from unittest import mock

import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from certctl.connectors.base.issuer import Pending
from certctl.connectors.issuers.local import LocalIssuer
from certctl.lifecycle import flow
from certctl.protocols.acme import finalizing
from certctl.protocols.acme.sweeping import sweep
from certctl.store import schema
from certctl.wire.acme import CertificateId
from certctl.wire.jws import encode
from protocol.acme_house import BASE, csr_for, jwk_of, new_key, open_acme, problem, sign

INDEX = f'<{BASE}/directory>;rel="index"'


@pytest.fixture
async def house(tmp_path, database_url):
    async with open_acme(tmp_path / "data", database_url) as opened:
        yield opened


async def test_one_life_from_binding_to_revocation(house):
    client = await house.known(allowed_names=["corp.example"])
    made = await client.order("shop.corp.example", "*.shop.corp.example")
    assert (made.status_code, made.json()["status"]) == (201, "ready")
    order = made.json()
    assert [each["value"] for each in order["identifiers"]] == ["shop.corp.example", "*.shop.corp.example"]
    proof = (await client.post(order["authorizations"][1])).json()
    assert proof["status"] == "valid"
    assert (proof["wildcard"], proof["identifier"]["value"]) == (True, "shop.corp.example")
    key = new_key()
    names = ["shop.corp.example", "*.shop.corp.example"]
    done = await client.post(order["finalize"], {"csr": csr_for(names, key)})
    assert done.json()["status"] == "valid", done.text
    chain = await client.post(done.json()["certificate"], accept="application/pem-certificate-chain")
    assert chain.headers["content-type"] == "application/pem-certificate-chain"
    leaf, *above = x509.load_pem_x509_certificates(chain.content)
    san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert sorted(san.get_values_for_type(x509.DNSName)) == sorted(names)
    assert leaf.public_key() == key.public_key()
    leaf.verify_directly_issued_by(above[0])
    # in the inventory, asked for by the account
    shown = (await house.api.get("/api/v1/certificates?q=shop.corp.example"))["data"][0]
    assert (shown["source"], shown["status"]) == ("ACME", "Active")
    jobs = (await house.api.get(f"/api/v1/jobs?certificate_id={shown['id']}"))["data"]
    account = client.kid.rpartition("/")[2]
    async with house.api.house.database.read() as tx:
        from certctl.store import views

        assert (await views.job(tx, house.api.house.ctx.scope, jobs[0]["id"])).requested_by == f"acme:{account}"
    der = encode(leaf.public_bytes(Encoding.DER))
    assert (await client.post("revoke-cert", {"certificate": der, "reason": 1})).status_code == 200
    again = await client.post("revoke-cert", {"certificate": der})
    assert (again.status_code, problem(again)) == (400, "alreadyRevoked")
    assert (await house.api.get(f"/api/v1/certificates/{shown['id']}"))["status"] == "Revoked"


async def test_every_answer_carries_what_it_should(house):
    directory = await house.http.get(f"{BASE}/directory")
    assert directory.json()["meta"]["externalAccountRequired"] is True
    assert directory.json()["meta"]["profiles"] == {
        "prof-default": directory.json()["meta"]["profiles"]["prof-default"]
    }
    assert "link" not in directory.headers
    for method, status in (("HEAD", 200), ("GET", 204)):
        answer = await house.http.request(method, f"{BASE}/new-nonce")
        assert (answer.status_code, answer.headers["cache-control"]) == (status, "no-store")
        assert len(answer.headers["replay-nonce"]) > 22
        assert answer.headers["link"] == INDEX
    client = await house.known()
    order = await client.order("a.example")
    assert order.headers["location"].startswith(f"{BASE}/order/acme-ord-")
    proof = await client.post(order.json()["authorizations"][0])
    way = await client.post(proof.json()["challenges"][0]["url"])
    assert f'<{order.json()["authorizations"][0]}>;rel="up"' in way.headers["link"]
    for answer in (order, proof, way, await client.post("new-order", {}), await client.post("order/nothing")):
        assert answer.headers["replay-nonce"]
        assert INDEX in answer.headers["link"]


async def test_what_is_asked_and_refused_is_counted(house):
    client = await house.known()
    _, pem = await client.issued("a.example")
    await client.post("new-account", {}, by_key=True)
    await house.client().post("new-account", {}, by_key=True)
    await client.order("a.example", profile="nothing")
    await client.post("new-order", {})
    await client.post(f"{client.kid}", {"contact": ["tel:1"]})
    await client.post("challenge/nothing", {})
    for path in ("directory", "renewal-info/nothing", "nothing"):
        await house.http.get(f"{BASE}/{path}")
    await client.post("order/nothing/finalize", {})
    await client.post("cert/nothing")
    await client.post("authz/nothing")
    await client.post("key-change", {})
    der = encode(x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER))
    for _ in range(2):
        await client.post("revoke-cert", {"certificate": der})
    counted = {metric.name: int(amount) for metric, labels, amount in house.tally.take()}
    counted = {name.removeprefix("certctl_acme_").removesuffix("_total"): n for name, n in counted.items()}
    assert counted.pop("new_nonce") == 2
    assert counted == {
        "new_account": 3, "new_account_failures": 1, "new_account_idempotent": 1,
        "new_order": 3, "new_order_failures": 2, "new_order_rejected": 1, "update_account": 1, "update_account_failures": 1,
        "challenge_respond": 1, "challenge_respond_failures": 1, "directory": 1,
        "renewal_info": 1, "renewal_info_failures": 1, "finalize_order": 2, "finalize_order_failures": 1, "cert_download": 2,
        "cert_download_failures": 1, "authz_read": 1, "key_change": 1, "key_change_failures": 1, "revoke_cert": 2,
        "revoke_cert_failures": 1,
    }  # fmt: skip
    await client.post(client.kid, {"status": "deactivated"})
    house.api.clock.moment += timedelta(hours=25)
    await sweep(house.api.house.ctx)
    page = (await house.api.call("GET", "/api/v1/metrics/prometheus")).text
    for name, amount in (("deactivate_account", 1), ("gc_runs", 1), ("gc_run_failures", 0)):
        assert f"certctl_acme_{name}_total {amount}" in page, name
    assert "certctl_acme_gc_nonces_reaped_total 0" not in page


@pytest.mark.parametrize(
    "key",
    [
        new_key(), ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP521R1()),
        rsa.generate_private_key(public_exponent=65537, key_size=2048), ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["P-256", "P-384", "P-521", "RSA", "Ed25519"],
)  # fmt: skip
async def test_every_kind_of_key_registers_and_is_found_again(tmp_path, key):
    async with open_acme(tmp_path / "data") as house:
        client = house.client(key=key)
        made = await client.register(await house.eab(), contact=["mailto:ops@example.com"])
        assert (made.status_code, made.json()["contact"]) == (201, ["mailto:ops@example.com"])
        again = await client.post("new-account", {"onlyReturnExisting": True}, by_key=True)
        assert (again.status_code, again.headers["location"]) == (200, client.kid)


async def test_an_account_is_changed_its_key_rolled_and_given_up(house):
    client = await house.known()
    changed = await client.post(client.kid, {"contact": ["mailto:new@example.com"], "orders": "ignored"})
    assert changed.json()["contact"] == ["mailto:new@example.com"]
    assert problem(await client.post(client.kid, {"contact": ["tel:+1"]})) == "unsupportedContact"
    assert (
        problem(await client.post(client.kid, {"contact": ["mailto:a@b.example?cc=c@d.example"]})) == "invalidContact"
    )
    order = (await client.order("a.example")).headers["location"]
    listed = await client.post((await client.post(client.kid)).json()["orders"])
    assert listed.json()["orders"] == [order]

    fresh, url = new_key(), f"{BASE}/key-change"
    inner = {"account": client.kid, "oldKey": jwk_of(client.key)}

    def rolled(**more):
        header = {"alg": "ES256", "jwk": jwk_of(fresh), "url": url} | more
        return sign(fresh, header, __import__("json").dumps(inner).encode())

    assert problem(await client.post(url, rolled(url=BASE))) == "malformed"
    assert problem(await client.post(url, rolled(nonce="x"))) == "malformed"
    assert (await client.post(url, rolled())).status_code == 200
    assert problem(await client.post(client.kid)) == "unauthorized", "the old key opens nothing any more"
    client.key = fresh
    assert (await client.post(client.kid)).status_code == 200
    # RFC 8555 7.3.5: what was under way goes on
    pending = await client.post(order)
    assert pending.json()["status"] == "ready"
    done = await client.post(pending.json()["finalize"], {"csr": csr_for(["a.example"])})
    assert done.json()["status"] == "valid"
    other = await house.known()
    inner = {"account": other.kid, "oldKey": jwk_of(other.key)}
    taken = await other.post(url, rolled())
    assert (taken.status_code, taken.headers["location"]) == (409, client.kid)

    gone = await client.post(client.kid, {"status": "deactivated"})
    assert gone.json()["status"] == "deactivated"
    refused = await client.post(order)
    assert (refused.status_code, problem(refused)) == (401, "unauthorized")
    assert (await client.post("new-account", {}, by_key=True)).status_code == 401


async def test_renewal_is_a_version_of_the_same_certificate_and_replaces_once(house):
    client = await house.known()
    first, pem = await client.issued("a.example", "b.example")
    leaf = x509.load_pem_x509_certificate(pem.encode())
    aki = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    serial = leaf.serial_number.to_bytes(leaf.serial_number.bit_length() // 8 + 1, "big")
    name = f"{encode(aki)}.{encode(serial)}"
    told = await house.http.get(f"{BASE}/renewal-info/{name}")
    assert (told.status_code, told.headers["retry-after"]) == (200, "21600")
    window = told.json()["suggestedWindow"]
    start, end = (datetime.fromisoformat(window[name]) for name in ("start", "end"))
    assert leaf.not_valid_before_utc < start < end < leaf.not_valid_after_utc
    second, _ = await client.issued("b.example", "a.example", replaces=name)
    assert second["replaces"] == name
    again = await client.order("a.example", replaces=name)
    assert (again.status_code, problem(again)) == (409, "alreadyReplaced")
    assert problem(await client.order("c.example", replaces=name)) == "malformed"
    found = (await house.api.get("/api/v1/certificates?q=a.example"))["data"]
    assert len(found) == 1
    assert (await house.api.get(f"/api/v1/certificates/{found[0]['id']}/versions"))["total"] == 2
    der = encode(leaf.public_bytes(Encoding.DER))
    assert (await client.post("revoke-cert", {"certificate": der, "reason": 4})).status_code == 200
    moved = (await house.http.get(f"{BASE}/renewal-info/{name}")).json()["suggestedWindow"]
    assert datetime.fromisoformat(moved["end"]) <= house.api.clock.now(), "its window lies behind it: renew at once"
    assert first["certificate"] != second["certificate"]


async def test_what_clients_say_beyond_the_rules_is_ignored_and_not_shown(house):
    client = house.client()
    said = {"status": "deactivated", "orders": "https://evil.example", "onlyReturnExisting": False, "surprise": [1]}
    made = await client.register(await house.eab(), **said)
    assert made.status_code == 201
    bound = made.json().pop("externalAccountBinding")
    assert bound == client.bound, "RFC 8555 7.3.4: as it was sent, where it was verified"
    shown = {"status": "valid", "contact": [], "orders": f"{client.kid}/orders", "termsOfServiceAgreed": True}
    assert made.json() == shown | {"externalAccountBinding": bound}
    changes = {"status": "revoked", "orders": "https://evil.example", "termsOfServiceAgreed": False, "surprise": {}}
    for change in (changes, {"status": "valid"}, {"status": "expired"}, {}):
        answer = await client.post(client.kid, change)
        assert (answer.status_code, answer.json()) == (200, shown), change
    absent = await house.client().post("new-account", {"onlyReturnExisting": True}, by_key=True)
    assert (absent.status_code, problem(absent)) == (400, "accountDoesNotExist")


async def test_terms_of_service_are_agreed_to_first(tmp_path):
    terms = "https://certctl.test/terms"
    async with open_acme(tmp_path / "data", terms_of_service=terms) as house:
        assert (await house.http.get(f"{BASE}/directory")).json()["meta"]["termsOfService"] == terms
        refused = await house.client().register(await house.eab(), termsOfServiceAgreed=False)
        assert problem(refused) == "userActionRequired"
        assert f'<{terms}>;rel="terms-of-service"' in refused.headers["link"]
        assert refused.json()["instance"] == terms
        assert (await house.client().register(await house.eab())).status_code == 201


async def test_what_is_not_offered_is_not_in_the_directory_and_not_there(house):
    told = (await house.http.get(f"{BASE}/directory")).json()
    assert set(told) == {"newNonce", "newAccount", "newOrder", "revokeCert", "keyChange", "renewalInfo", "meta"}
    client = await house.known()
    identifier = {"identifier": {"type": "dns", "value": "a.example"}}
    for path in ("new-authz", "newAuthz"):
        answer = await client.post(path, identifier)
        assert (answer.status_code, problem(answer)) == (404, "malformed")


async def test_directory_and_nonces_are_read_by_post_as_get_too(house):
    """RFC 8555 6.3."""
    client = await house.known()
    told = await client.post("directory")
    assert (told.status_code, told.json()) == (200, (await house.http.get(f"{BASE}/directory")).json())
    fresh = await client.post("new-nonce")
    assert (fresh.status_code, fresh.content, fresh.headers["cache-control"]) == (204, b"", "no-store")
    for answer in (told, fresh):
        assert answer.headers["replay-nonce"]
    for path in ("directory", "new-nonce"):
        assert problem(await client.post(path, {})) == "malformed"
        assert problem(await client.post(path, signing=new_key())) == "unauthorized"
    refused = await house.http.post(f"{BASE}/renewal-info/AAAA.AQ")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


async def test_an_order_stays_what_it_was_and_says_how_long_it_is_good(house):
    """RFC 8555 7.1.3, 7.1.4, 7.3.1, 8, 9.1."""
    client, now = await house.known(), house.api.clock.now()
    made = (await client.order("a.example", "b.example")).json()
    assert datetime.fromisoformat(made["expires"]) > now
    for url in made["authorizations"]:
        proof = (await client.post(url)).json()
        assert (proof["status"], "wildcard" in proof) == ("valid", False)
        assert datetime.fromisoformat(proof["expires"]) > now
        (way,) = proof["challenges"]
        assert datetime.fromisoformat(way["validated"]) <= now
    done = (await client.post(made["finalize"], {"csr": csr_for(["b.example", "a.example"])})).json()
    assert done["status"] == "valid"
    changed = {name for name in done if name not in made or done[name] != made[name]}
    assert changed == {"status", "certificate"}
    chain = (await client.post(done["certificate"])).text
    block = "-----BEGIN CERTIFICATE-----\n(?:[A-Za-z0-9+/=]{1,64}\n)+-----END CERTIFICATE-----\n"
    assert re.fullmatch(f"(?:{block})+", chain), "PEM and nothing else"
    again = await client.post("new-account", {"contact": ["mailto:other@example.com"]}, by_key=True)
    assert (again.status_code, again.json()["contact"]) == (200, []), "as it was before"


async def test_what_failed_to_replace_a_certificate_leaves_it_to_another_order(house):
    client = await house.known()
    _, pem = await client.issued("a.example")
    name = certificate_id(x509.load_pem_x509_certificate(pem.encode()))
    first = await client.order("a.example", replaces=name)
    assert problem(await client.order("a.example", replaces=name)) == "alreadyReplaced"
    await client.post(first.json()["authorizations"][0], {"status": "deactivated"})
    assert (await client.post(first.headers["location"])).json()["status"] == "invalid"
    second = await client.order("a.example", replaces=name)
    assert (second.status_code, second.json()["replaces"]) == (201, name)
    assert (await client.post(second.headers["location"])).json()["replaces"] == name


async def test_tokens_cannot_be_guessed(house):
    client, tokens = await house.known(), set()
    for name in "abcdef":
        proof = (await client.post((await client.order(f"{name}.example")).json()["authorizations"][0])).json()
        tokens |= {way["token"] for way in proof["challenges"]}
    assert len(tokens) == 6
    # RFC 8555 8.3: base64url, at least 128 bits
    assert all(re.fullmatch("[A-Za-z0-9_-]{22,}", token) for token in tokens)


async def test_whoever_controls_every_name_of_a_certificate_may_revoke_it(house):
    client, other = await house.known(), await house.known()
    _, pem = await client.issued("a.example", "*.b.example")
    der = encode(x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER))
    for names in (["a.example"], ["a.example", "b.example"]):
        assert (await other.order(*names)).status_code == 201
        refused = await other.post("revoke-cert", {"certificate": der})
        assert (refused.status_code, problem(refused)) == (403, "unauthorized"), names
    assert (await other.order("*.b.example")).status_code == 201
    assert (await other.post("revoke-cert", {"certificate": der})).status_code == 200


async def test_when_a_ca_is_revoked_all_that_it_signed_comes_back_soon_and_not_at_once(tmp_path):
    said = "https://status.example/why"
    async with open_acme(tmp_path / "data", ari_explanation_url=said) as house:
        client = await house.known()
        leaves = [
            x509.load_pem_x509_certificate((await client.issued(f"{name}.example"))[1].encode()) for name in "abc"
        ]
        addresses = [f"{BASE}/renewal-info/{certificate_id(leaf)}" for leaf in leaves]
        before = [(await house.http.get(each)).json() for each in addresses]
        assert all("explanationURL" not in each for each in before)
        (found,) = (await house.api.get("/api/v1/certificates?q=a.example"))["data"]
        (version,) = (await house.api.get(f"/api/v1/certificates/{found['id']}/versions"))["data"]
        body = {"name": "Second", "subject": {"common_name": "Second CA"}}
        await house.api.made("/api/v1/issuers/iss-local/intermediates", body)
        told = {"reason": "cACompromise", "confirm": True}
        ca_id, now = version["ca_certificate_id"], house.api.clock.now()
        assert (await house.api.call("POST", f"/api/v1/intermediates/{ca_id}/revoke", told)).is_success
        after = [(await house.http.get(each)).json() for each in addresses]
        assert {each["explanationURL"] for each in after} == {said}
        windows = [
            [datetime.fromisoformat(each["suggestedWindow"][word]) for word in ("start", "end")] for each in after
        ]
        # times are told in whole seconds
        assert all(now - timedelta(seconds=1) <= start < end <= now + timedelta(hours=2) for start, end in windows)
        assert len({start for start, _ in windows}) == len(leaves), "each has a place of its own"
        # what replaces one is by the CA that issues now, and renewed when its time comes
        _, pem = await client.issued("a.example", replaces=certificate_id(leaves[0]))
        fresh = x509.load_pem_x509_certificate(pem.encode())
        assert fresh.issuer != leaves[0].issuer
        shown = (await house.http.get(f"{BASE}/renewal-info/{certificate_id(fresh)}")).json()
        assert datetime.fromisoformat(shown["suggestedWindow"]["start"]) > now + timedelta(days=1)
        assert "explanationURL" not in shown


async def test_what_an_operator_wishes_replaced_comes_back_soon_and_not_at_once_until_it_is(tmp_path):
    async with open_acme(tmp_path / "data") as house:
        client, api = await house.known(), house.api
        leaves = [
            x509.load_pem_x509_certificate((await client.issued(f"{name}.example"))[1].encode()) for name in "abc"
        ]
        addresses = [f"{BASE}/renewal-info/{certificate_id(leaf)}" for leaf in leaves]
        plain = [(await house.http.get(each)).json() for each in addresses]
        *chosen, left = [(await api.get(f"/api/v1/certificates?q={name}.example"))["data"][0]["id"] for name in "abc"]
        now, wish = api.clock.now(), {"certificate_ids": chosen}

        seen = await api.call("POST", "/api/v1/certificates/bulk-renew", wish | {"dry_run": True})
        assert [item["reason"] for item in seen.json()["items"]] == ["its holder is asked to replace it"] * 2
        assert [(await house.http.get(each)).json() for each in addresses] == plain, "a dry run asks nobody"

        told = (await api.call("POST", "/api/v1/certificates/bulk-renew", wish)).json()
        assert (told["total_enqueued"], told["total_skipped"], told.get("enqueued_jobs", [])) == (2, 0, [])
        after = [(await house.http.get(each)).json()["suggestedWindow"] for each in addresses]
        assert after[2] == plain[2]["suggestedWindow"], "nobody wished that one replaced"
        windows = [[datetime.fromisoformat(each[word]) for word in ("start", "end")] for each in after[:2]]
        assert all(now - timedelta(seconds=1) <= start < end <= now + timedelta(hours=2) for start, end in windows)
        assert windows[0][0] != windows[1][0], "each has a place of its own"
        for each in chosen:
            assert (
                "its holder is asked to replace it" in (await api.get(f"/api/v1/certificates/{each}"))["status_reason"]
            )
            (version,) = (await api.get(f"/api/v1/certificates/{each}/versions"))["data"]
            assert datetime.fromisoformat(version["replacement_wished_at"]) == now
        (version,) = (await api.get(f"/api/v1/certificates/{left}/versions"))["data"]
        assert "replacement_wished_at" not in version
        assert len(await api.events("replacement_wished")) == 2

        # asked for once more, it is wished since then and its window does not move away
        await api.call("POST", "/api/v1/certificates/bulk-renew", wish)
        assert (await house.http.get(addresses[0])).json()["suggestedWindow"] == after[0]
        # the wish ends with the version that it was about
        _, pem = await client.issued("a.example", replaces=certificate_id(leaves[0]))
        fresh = x509.load_pem_x509_certificate(pem.encode())
        shown = (await house.http.get(f"{BASE}/renewal-info/{certificate_id(fresh)}")).json()
        assert datetime.fromisoformat(shown["suggestedWindow"]["start"]) > now + timedelta(days=1)
        found = (await api.get("/api/v1/certificates?q=a.example"))["data"]
        assert [each.get("status_reason", "") for each in found] == [""], (
            "it is one certificate, and nobody is asked any more"
        )
        assert (await house.http.get(addresses[0])).json() == plain[0]


def certificate_id(leaf: x509.Certificate) -> str:
    aki = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    return str(CertificateId(aki, leaf.serial_number))


async def test_a_slow_ca_behind_a_profile_makes_an_order_processing_and_then_valid(house):
    client = await house.known()
    order = await client.order("slow.example")
    signs, asked = LocalIssuer.submit, []

    async def submit(issuer, wanted):
        asked.append(wanted.order_id)
        return Pending(reference="later", retry_after=timedelta(minutes=10))

    async def collect(issuer, reference, wanted):
        asked.append(reference)
        return await signs(issuer, wanted)

    with mock.patch.object(LocalIssuer, "submit", submit), mock.patch.object(LocalIssuer, "collect", collect):
        waiting = await client.post(order.json()["finalize"], {"csr": csr_for(["slow.example"])})
        assert (waiting.status_code, waiting.json()["status"]) == (200, "processing")
        assert int(waiting.headers["retry-after"]) > 0
        ctx = house.api.house.ctx
        (found,) = (await house.api.get("/api/v1/certificates?q=slow.example"))["data"]
        (job,) = (await house.api.get(f"/api/v1/jobs?certificate_id={found['id']}"))["data"]
        await flow.drive(ctx, job["id"])
        again = await client.post(order.headers["location"])
        assert (again.json()["status"], len(asked)) == ("processing", 1), "it is not asked before its time"
        assert int(again.headers["retry-after"]) > 0
        house.api.clock.moment += timedelta(minutes=11)
        client.nonce = ""
        await flow.drive(ctx, job["id"])
    done = (await client.post(order.headers["location"])).json()
    assert (done["status"], asked[1:]) == ("valid", ["later"])
    chain = await client.post(done["certificate"])
    assert x509.load_pem_x509_certificate(chain.content).not_valid_after_utc > house.api.clock.now()


async def test_finalize_answers_when_its_time_is_up_and_the_ca_is_not_cut_off(house):
    client = await house.known()
    order = await client.order("slow.example")
    signs, go_on, asked = LocalIssuer.submit, asyncio.Event(), []

    async def submit(issuer, wanted):
        asked.append(wanted.order_id)
        await go_on.wait()
        return await signs(issuer, wanted)

    with mock.patch.object(LocalIssuer, "submit", submit):
        with mock.patch.object(finalizing, "BUDGET", timedelta(milliseconds=300)):
            waiting = await client.post(order.json()["finalize"], {"csr": csr_for(["slow.example"])})
        assert (waiting.status_code, waiting.json()["status"]) == (200, "processing")
        assert int(waiting.headers["retry-after"]) > 0
        again = await client.post(order.json()["finalize"], {"csr": csr_for(["slow.example"])})
        assert problem(again) == "orderNotReady"
        go_on.set()
        ctx = house.api.house.ctx
        (found,) = (await house.api.get("/api/v1/certificates?q=slow.example"))["data"]
        (job,) = (await house.api.get(f"/api/v1/jobs?certificate_id={found['id']}"))["data"]
        async with asyncio.timeout(60):
            while (await client.post(order.headers["location"])).json()["status"] != "valid":
                await flow.drive(ctx, job["id"])
                await asyncio.sleep(0.02)
    assert len(asked) == 1
    assert (await house.api.get(f"/api/v1/certificates/{found['id']}/versions"))["total"] == 1


async def test_a_ca_that_takes_longer_than_a_lease_is_asked_by_nobody_else(house):
    client, ctx = await house.known(), house.api.house.ctx
    order = await client.order("slow.example")
    signs, go_on, asked, driving = LocalIssuer.submit, asyncio.Event(), [], flow.driving
    brief = replace(ctx, patience=replace(ctx.patience, lease=timedelta(milliseconds=900)))

    async def submit(issuer, wanted):
        asked.append(wanted.order_id)
        await go_on.wait()
        return await signs(issuer, wanted)

    async def leased_until():
        async with house.api.house.database.read() as tx:
            return await tx.scalar(sa.select(schema.steps.c.lease_until).where(schema.steps.c.kind == "issue"))

    with (
        mock.patch.object(LocalIssuer, "submit", submit),
        mock.patch.object(flow, "driving", lambda _: driving(brief)),
    ):
        finalized = asyncio.create_task(client.post(order.json()["finalize"], {"csr": csr_for(["slow.example"])}))
        async with asyncio.timeout(60):
            while not asked:
                await asyncio.sleep(0.01)
            for _ in range(3):
                until = await leased_until()
                house.api.clock.moment = until - timedelta(milliseconds=1)
                while await leased_until() <= until:
                    await asyncio.sleep(0.01)
                # the lease that it had is over now, and nobody may take it for that
                house.api.clock.moment = until + timedelta(milliseconds=1)
                assert await flow.free_lapsed(ctx) == 0
                assert await flow.claim(replace(ctx, owner="another"), 20) == []
        go_on.set()
        assert (await finalized).json()["status"] == "valid"
    assert len(asked) == 1


async def test_a_certificate_s_own_key_revokes_it_and_no_other_does(house):
    client, stranger = await house.known(), await house.known()
    key = new_key()
    _, pem = await client.issued("a.example", key=key)
    der = encode(x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER))
    assert problem(await stranger.post("revoke-cert", {"certificate": der})) == "unauthorized"
    assert problem(await house.client().post("revoke-cert", {"certificate": der})) == "unauthorized"
    owner = house.client(key=key)
    assert problem(await owner.post("revoke-cert", {"certificate": der, "reason": 6})) == "badRevocationReason"
    assert problem(await owner.post("revoke-cert", {"certificate": encode(b"no certificate")})) == "malformed"
    assert (await owner.post("revoke-cert", {"certificate": der, "reason": 1})).status_code == 200


async def test_the_alternate_chain_ends_in_the_root(house):
    client = await house.known()
    order, pem = await client.issued("a.example")
    chain = await client.post(order["certificate"])
    assert f'<{order["certificate"]}/1>;rel="alternate"' in chain.headers["link"]
    longer = await client.post(f"{order['certificate']}/1")
    default, whole = x509.load_pem_x509_certificates(pem.encode()), x509.load_pem_x509_certificates(longer.content)
    assert whole[: len(default)] == default
    assert whole[-1].issuer == whole[-1].subject
    assert f'<{order["certificate"]}>;rel="alternate"' in longer.headers["link"]
    der = await client.post(order["certificate"], accept="application/pkix-cert")
    assert x509.load_der_x509_certificate(der.content) == default[0]
    assert 'rel="up"' in der.headers["link"]
    assert (await client.post(order["certificate"], accept="text/plain")).status_code == 406
    stranger = await house.known()
    assert (await stranger.post(order["certificate"])).status_code == 404
    assert (await stranger.post(order["url"])).status_code == 404
    assert (await stranger.post(order["authorizations"][0])).status_code == 404
    assert (await client.post(f"{order['certificate']}/2")).status_code == 404

"""Our ACME client's requests beside those that certbot's library makes of the same inputs: same headers, same payloads."""

from __future__ import annotations

import json
from typing import Any

import httpx
import josepy
import pytest
from acme import jws as oracle_jws
from acme import messages
from cryptography import x509
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certctl.connectors import http
from certctl.connectors.dial import DialPolicy
from certctl.connectors.issuers.acme.client import AcmeClient
from certctl.core.names import parse_names
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.csr import build_csr
from certctl.pki.keys import generate_private_key
from certctl.wire import jws
from made_ca import make_ca

BASE = "https://ca.test/acme/"
DIRECTORY = {
    **{word: BASE + word for word in ("newNonce", "newAccount", "newOrder", "revokeCert", "keyChange")},
    "meta": {"termsOfService": "https://ca.test/terms"},
}
NAMED = {"type": "dns", "value": "shop.example"}
NAMES = ("shop.example", "*.shop.example")
KEYS = {
    josepy.ES256: generate_private_key(KeyAlgorithm.ECDSA_P256),
    josepy.ES384: generate_private_key(KeyAlgorithm.ECDSA_P384),
    josepy.RS256: generate_private_key(KeyAlgorithm.RSA_2048),
}
CSR = build_csr(KEYS[josepy.ES256], NAMES[0], parse_names(list(NAMES)))
NONCES = st.binary(min_size=8, max_size=40).map(josepy.b64encode).map(bytes.decode)
WORDS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=20)
quick = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Ca:
    """Answers each request with what lets the conversation go on, and keeps what was asked."""

    def __init__(self, nonce: str) -> None:
        self.nonce = nonce
        self.asked: list[tuple[str, bytes]] = []

    async def fetch(self, _session: Any, method: str, url: str, **more: Any) -> httpx.Response:
        headers = {"Replay-Nonce": self.nonce, "Location": BASE + "acct/1"}
        if method == "POST":
            self.asked.append((url, more["content"]))
        body = (
            DIRECTORY
            if url == BASE
            else {"status": "valid", "finalize": BASE + "f", "authorizations": [BASE + "a"], "identifiers": [NAMED]}
        )
        return httpx.Response(200, json=body, headers=headers, request=httpx.Request(method, url))


def parts(message: dict[str, Any] | bytes) -> tuple[dict[str, Any], Any]:
    told = json.loads(message) if isinstance(message, bytes) else message
    assert set(told) == {"protected", "payload", "signature"}
    payload = josepy.b64decode(told["payload"])
    return json.loads(josepy.b64decode(told["protected"])), json.loads(payload) if payload else b""


def same(ca: Ca, alg: josepy.JWASignature, payload: Any, kid: str | None) -> None:
    """What was asked last is what the library would have signed, and its signature is one that it accepts."""
    url, ours = ca.asked[-1]
    key = oracle_key(alg)
    content = b"" if payload is None else payload.json_dumps().encode()
    theirs = oracle_jws.JWS.sign(content, key, alg, josepy.b64decode(ca.nonce), url, kid).json_dumps()
    # the library writes one signature as the general serialization has it; ACME wants the flattened one
    assert parts(ours) == parts(json.loads(theirs))
    assert oracle_jws.JWS.from_json(json.loads(ours)).verify(key.public_key())


def oracle_key(alg: josepy.JWASignature) -> josepy.JWK:
    key = KEYS[alg]
    return (
        josepy.JWKRSA(key=josepy.ComparableRSAKey(key))
        if alg is josepy.RS256
        else josepy.JWKEC(key=josepy.ComparableECKey(key))
    )


def client_of(ca: Ca, alg: josepy.JWASignature, monkeypatch: pytest.MonkeyPatch, kid: str = "") -> AcmeClient:
    monkeypatch.setattr(http, "fetch", ca.fetch)
    return AcmeClient(None, BASE, KEYS[alg], kid)


def test_every_request_says_who_asks():
    """RFC 8555 6.1."""
    made = http.client(DialPolicy("issuers"))
    assert made.headers["user-agent"] == "certctl"


@pytest.mark.parametrize("alg", list(KEYS), ids=str)
async def test_each_request_is_the_one_that_the_library_makes(alg, monkeypatch):
    ca, kid = Ca("bm9uY2Utb2YtYS1jYQ"), BASE + "acct/1"
    client = client_of(ca, alg, monkeypatch)
    secret = b"s" * 32
    bound = messages.ExternalAccountBinding.from_data(
        oracle_key(alg).public_key(), "kid-1", josepy.b64encode(secret).decode(), messages.Directory(DIRECTORY)
    )
    account = {"termsOfServiceAgreed": True, "contact": ["mailto:ops@ca.test"]}
    wanted = messages.NewRegistration.from_data(email="ops@ca.test", terms_of_service_agreed=True)
    await client.register(account)
    same(ca, alg, wanted, None)
    await client.register(account, ("kid-1", secret))
    _, told = parts(ca.asked[-1][1])
    ours, theirs = parts(told["externalAccountBinding"]), parts(bound)
    assert ours == theirs
    await client.register({"onlyReturnExisting": True})
    same(ca, alg, messages.NewRegistration(only_return_existing=True), None)

    identifiers = [messages.Identifier(typ=messages.IDENTIFIER_FQDN, value=name) for name in NAMES]
    plain = [{"type": "dns", "value": name} for name in NAMES]
    await client.new_order({"identifiers": plain})
    same(ca, alg, messages.NewOrder(identifiers=identifiers), kid)
    await client.new_order({"identifiers": plain, "profile": "shortlived"})
    same(ca, alg, messages.NewOrder(identifiers=identifiers, profile="shortlived"), kid)
    await client.order(BASE + "order/1")
    same(ca, alg, None, kid)
    await client.finalize(BASE + "f", CSR)
    same(ca, alg, messages.CertificateRequest(csr=x509.load_der_x509_csr(CSR)), kid)
    leaf_der = (await make_ca()).root.certificate_der
    await client.revoke(leaf_der, 4)
    same(ca, alg, messages.Revocation(certificate=x509.load_der_x509_certificate(leaf_der), reason=4), kid)


@quick
@given(nonce=NONCES, path=WORDS, account=WORDS, names=st.lists(WORDS, min_size=1, max_size=5))
async def test_whatever_is_ordered_wherever_is_signed_the_same(monkeypatch, nonce, path, account, names):
    ca, kid = Ca(nonce), f"{BASE}acct/{account}"
    client = client_of(ca, josepy.ES256, monkeypatch, kid)
    values = [f"{name}.example" for name in names]
    order = messages.NewOrder(
        identifiers=[messages.Identifier(typ=messages.IDENTIFIER_FQDN, value=each) for each in values]
    )
    await client.post(f"{BASE}{path}", {"identifiers": [{"type": "dns", "value": each} for each in values]}, "ordering")
    same(ca, josepy.ES256, order, kid)
    await client.post(f"{BASE}{path}", None, "looking")
    same(ca, josepy.ES256, None, kid)


def test_a_key_authorization_is_the_librarys():
    key = KEYS[josepy.ES256]
    thumbprint = jws.encode(oracle_key(josepy.ES256).public_key().thumbprint())
    assert jws.jwk_of(key).thumbprint == thumbprint

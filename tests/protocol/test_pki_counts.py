"""What the OCSP responder counts of itself, by the words of the reference product."""

from __future__ import annotations

import base64

import httpx

from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.certs import read_certificate
from certctl.protocols.pki import PkiApp
from certctl.telemetry import metrics
from certctl.telemetry.tally import Tally
from certctl.wire import ocsp
from certctl.wire.ocsp import CertId
from protocol.pki_server import GOOD_SERIALS, UNKNOWN_SERIAL, make_facts


async def test_each_word_is_counted_where_it_is_true():
    facts = await make_facts(KeyAlgorithm.ECDSA_P256)
    issuer = read_certificate(facts.ca.issuing.certificate_der)
    hashes = ocsp.issuer_hashes(ocsp.SHA256_OID, issuer.subject_der, issuer.spki_der)

    def asking(*serials: int, nonce: bytes | None = None) -> bytes:
        ids = tuple(CertId(ocsp.SHA256_OID, hashes.name_hash, hashes.key_hash, serial) for serial in serials)
        return ocsp.write_request(ids, nonce)

    good, unheard, seen = GOOD_SERIALS[0], UNKNOWN_SERIAL, set()
    tally = Tally()
    transport = httpx.ASGITransport(PkiApp(facts, tally=tally))
    async with httpx.AsyncClient(transport=transport, base_url="http://pki.test") as http:

        def counted() -> dict[str, int]:
            found = {labels["label"]: int(number) for _, labels, number in tally.take()}
            seen.update(found)
            return found

        async def post(body: bytes, ca: str = "iss-local") -> dict[str, int]:
            headers = {"content-type": ocsp.REQUEST_TYPE}
            await http.post(f"/.well-known/pki/ocsp/{ca}", content=body, headers=headers)
            return counted()

        assert await post(asking(good)) == {"request_post": 1, "request_success": 1}
        assert await post(asking(good, unheard, unheard + 1)) == {
            "request_post": 1,
            "request_success": 1,
            "cert_not_found": 2,
        }
        assert await post(asking(good, nonce=b"x" * 32)) == {"request_post": 1, "request_success": 1, "nonce_echoed": 1}
        wrong = {"request_post": 1, "request_invalid": 1}
        assert await post(asking(good, nonce=b"")) == wrong | {"nonce_malformed": 1}
        assert await post(asking(good, nonce=b"x" * 129)) == wrong | {"nonce_malformed": 1}
        assert await post(b"noise") == wrong
        assert await post(asking(good), ca="nobody") == {"request_post": 1, "issuer_not_found": 1}
        await http.get(f"/.well-known/pki/ocsp/iss-local/{base64.b64encode(asking(good)).decode()}")
        assert counted() == {"request_get": 1, "request_success": 1}
    assert seen == set(metrics.OCSP_LABELS) - {"signing_failed"}

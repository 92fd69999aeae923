"""Kept OCSP answers on real databases: given again, and gone with a revocation, whoever commits it and however long that takes."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import httpx
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp

from certctl.core.actor import SYSTEM
from certctl.core.names import parse_names
from certctl.lifecycle import flow, publish, revoke
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.certs import load_certificate
from certctl.pki.csr import build_csr, csr_pem
from certctl.pki.keys import generate_private_key
from certctl.pki.pem import read_certificates
from certctl.protocols.pki import PkiApp
from certctl.protocols.pki.answers import KeptAnswers, RevocationWatch
from certctl.protocols.pki.facts import LifecycleFacts
from certctl.store.tx import Database
from integration.api_house import open_api

HEADERS = {"content-type": "application/ocsp-request"}


class Counted(LifecycleFacts):
    """Which answers had to be made."""

    made = 0

    async def ocsp(self, ca_or_issuer_id, request_der):
        self.made += 1
        return await super().ocsp(ca_or_issuer_id, request_der)


class Responder:
    def __init__(self, api):
        self.ctx = api.house.ctx
        self.facts = Counted(self.ctx)
        self.watch = RevocationWatch(self.ctx, api.house.wakeups)
        self.transport = httpx.ASGITransport(
            PkiApp(self.facts, clock=self.ctx.clock, answers=KeptAnswers(self.watch)), raise_app_exceptions=False
        )

    async def asked(self, ca_id, request_der):
        async with httpx.AsyncClient(transport=self.transport, base_url="http://pki.test") as http:
            answer = await http.post(f"/.well-known/pki/ocsp/{ca_id}", content=request_der, headers=HEADERS)
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
        return ocsp.load_der_ocsp_response(answer.content).certificate_status


@pytest.fixture
async def api(tmp_path, database_url):
    async with open_api(tmp_path / "data", database_url) as fresh:
        yield fresh


async def issue(api, name):
    """A certificate for a client's key; returns its id, its CA generation and an OCSP request for it."""
    pem = csr_pem(build_csr(generate_private_key(KeyAlgorithm.ECDSA_P256), name, parse_names([name])))
    made = await api.made("/api/v1/certificates", {"common_name": name, "csr_pem": pem, "validity_seconds": 86400})
    for job in (await api.get(f"/api/v1/jobs?certificate_id={made['id']}"))["data"]:
        await flow.drive(api.house.ctx, job["id"], timedelta(seconds=30))
    (version,) = (await api.get(f"/api/v1/certificates/{made['id']}/versions"))["data"]
    ca = await publish.find_ca(api.house.ctx, version["ca_certificate_id"])
    leaf = load_certificate(read_certificates(version["pem_chain"])[0])
    asked = ocsp.OCSPRequestBuilder().add_certificate(leaf, load_certificate(ca.certificate_der), hashes.SHA256())
    return made["id"], ca.id, asked.build().public_bytes(serialization.Encoding.DER)


GOOD, REVOKED = ocsp.OCSPCertStatus.GOOD, ocsp.OCSPCertStatus.REVOKED


async def test_what_this_process_revokes_shows_in_the_very_next_answer(api):
    certificate_id, ca_id, request = await issue(api, "a.example")
    responder = Responder(api)
    await responder.watch.look()
    assert [await responder.asked(ca_id, request) for _ in range(3)] == [GOOD] * 3
    assert responder.facts.made == 1
    assert (await api.call("POST", f"/api/v1/certificates/{certificate_id}/revoke", {})).is_success
    assert await responder.asked(ca_id, request) is REVOKED
    await responder.watch.look()
    before = responder.facts.made
    assert [await responder.asked(ca_id, request) for _ in range(3)] == [REVOKED] * 3
    assert responder.facts.made == before + 1, "a revoked one is kept as well"


async def test_what_another_process_revokes_shows_after_the_next_look(api, tmp_path, database_url):
    certificate_id, ca_id, request = await issue(api, "a.example")
    _, _, of_other = await issue(api, "b.example")
    responder = Responder(api)
    await responder.watch.look()
    for one in (request, of_other):
        assert await responder.asked(ca_id, one) is GOOD
    elsewhere = Database(database_url or f"sqlite:///{tmp_path}/data/certctl.db")
    try:
        ctx = dataclasses.replace(api.house.ctx, database=elsewhere)
        await revoke.trigger(ctx, ctx.scope, SYSTEM, certificate_id, reason="keyCompromise")
    finally:
        await elsewhere.close()
    await responder.watch.look()
    before = responder.facts.made
    assert await responder.asked(ca_id, request) is REVOKED
    assert await responder.asked(ca_id, of_other) is GOOD
    assert responder.facts.made == before + 1, "the other's answer stays"


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_revocation_that_commits_late_is_not_missed(api, database_url):
    """On SQLite there is one writer: the next one begins when it has ended."""
    certificate_id, ca_id, request = await issue(api, "a.example")
    responder = Responder(api)
    elsewhere = Database(database_url)
    try:
        ctx = dataclasses.replace(api.house.ctx, database=elsewhere)
        async with elsewhere.begin("revoke") as tx:
            await revoke.trigger_in(tx, ctx, ctx.scope, SYSTEM, certificate_id, reason="superseded")
            await api.made("/api/v1/teams", {"id": "t-1", "name": "later, and committed before"})
            await responder.watch.look()
            assert await responder.asked(ca_id, request) is GOOD
            await responder.watch.look()
    finally:
        await elsewhere.close()
    assert await responder.asked(ca_id, request) is GOOD, "its old answer, until the look"
    await responder.watch.look()
    assert await responder.asked(ca_id, request) is REVOKED


async def test_what_was_never_issued_is_looked_up_each_time(api):
    _, ca_id, request = await issue(api, "a.example")
    responder = Responder(api)
    await responder.watch.look()
    unheard = bytearray(request)
    unheard[-1] ^= 0x55  # the serial number stands last
    for _ in range(2):
        assert await responder.asked(ca_id, bytes(unheard)) is ocsp.OCSPCertStatus.UNKNOWN
    assert responder.facts.made == 2


async def test_a_revoked_ca_is_no_kept_good_one_either(api):
    ctx = api.house.ctx
    _, ca_id, _ = await issue(api, "a.example")
    body = {"name": "Second", "subject": {"common_name": "Second CA"}}
    await api.made("/api/v1/issuers/iss-local/intermediates", body)
    ca = await publish.find_ca(ctx, ca_id)
    root = await publish.find_ca(ctx, ca.parent_id)
    asked = ocsp.OCSPRequestBuilder().add_certificate(
        load_certificate(ca.certificate_der), load_certificate(root.certificate_der), hashes.SHA256()
    )
    request = asked.build().public_bytes(serialization.Encoding.DER)
    responder = Responder(api)
    await responder.watch.look()
    assert [await responder.asked(root.id, request) for _ in range(2)] == [GOOD] * 2
    assert responder.facts.made == 1
    told = {"reason": "cACompromise", "confirm": True}
    assert (await api.call("POST", f"/api/v1/intermediates/{ca_id}/revoke", told)).is_success
    assert await responder.asked(root.id, request) is REVOKED
    await responder.watch.look()
    assert await responder.asked(root.id, request) is REVOKED

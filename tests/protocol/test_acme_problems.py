"""Every type of problem that the ACME server may tell (RFC 8555 6.7, RFC 9773 7.4, the profiles extension), each brought about
once: its status, its subproblems, and that none of the list was forgotten.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Awaitable, Callable
from typing import Any
from unittest import mock

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certctl.protocols.acme import exchange, offers
from certctl.wire.jws import encode
from certctl.wire.problem import PREFIX, ProblemType
from peers.bind import ZONE, Bind, bind
from peers.responders import Web
from protocol.acme_house import AcmeHouse, Client, csr_for, jwk_of, new_key, problem, sign
from protocol.test_acme_core import certificate_id
from protocol.test_acme_validation import challenge, decided, validating

TRUSTED = "https://certctl.test/acme/profile/prof-trust"
# RFC 8555 6.7, in its order
_OF_RFC_8555 = """
    accountDoesNotExist alreadyRevoked badCSR badNonce badPublicKey badRevocationReason badSignatureAlgorithm caa compound
    connection dns externalAccountRequired incorrectResponse invalidContact malformed orderNotReady rateLimited
    rejectedIdentifier serverInternal tls unauthorized unsupportedContact unsupportedIdentifier userActionRequired
"""
KNOWN = {*_OF_RFC_8555.split(), "alreadyReplaced", "invalidProfile"}


@dataclasses.dataclass
class World:
    """Two profiles of one server: `proves` has to show control of its names there, `vouched` is believed."""

    house: AcmeHouse
    proves: Client
    vouched: Client
    names: Bind
    web: Web

    async def leaf(self, name: str) -> tuple[x509.Certificate, str]:
        _, pem = await self.vouched.issued(name)
        made = x509.load_pem_x509_certificate(pem.encode())
        return made, encode(made.public_bytes(Encoding.DER))


@contextlib.asynccontextmanager
async def world(tmp_path, names: Bind, web: Web):
    rules: dict[str, Any] = {
        "terms_of_service": "https://certctl.test/terms",
        "caa_identities": ("ca.example",),
        "key_changes_per_hour": 1,
        "http_port": web.port,
        "tls_port": web.port,
    }
    async with validating(tmp_path, names, **rules) as (house, proves):
        body = {"id": "prof-trust", "name": "trust", "acme_auth_mode": "trust_authenticated"}
        await house.api.made("/api/v1/profiles", body)
        vouched = house.client(base=TRUSTED)
        eab = await house.eab(profile_id="prof-trust", allowed_names=["corp.example"])
        assert (await vouched.register(eab)).status_code == 201
        yield World(house, proves, vouched, names, web)


async def account_does_not_exist(w: World) -> httpx.Response:
    return await w.house.client().post("new-account", {"onlyReturnExisting": True}, by_key=True)


async def already_replaced(w: World) -> httpx.Response:
    leaf, _ = await w.leaf("replaced.corp.example")
    await w.vouched.issued("replaced.corp.example", replaces=certificate_id(leaf))
    return await w.vouched.order("replaced.corp.example", replaces=certificate_id(leaf))


async def already_revoked(w: World) -> httpx.Response:
    _, der = await w.leaf("revoked.corp.example")
    assert (await w.vouched.post("revoke-cert", {"certificate": der})).status_code == 200
    return await w.vouched.post("revoke-cert", {"certificate": der})


async def bad_csr(w: World) -> httpx.Response:
    order = (await w.vouched.order("a.corp.example")).json()
    return await w.vouched.post(order["finalize"], {"csr": csr_for(["b.corp.example"])})


async def bad_nonce(w: World) -> httpx.Response:
    nonce = await w.vouched.fresh()
    assert (await w.vouched.post(w.vouched.kid, nonce=nonce)).status_code == 200
    return await w.vouched.post(w.vouched.kid, nonce=nonce)


async def bad_public_key(w: World) -> httpx.Response:
    return await w.house.client().post("new-account", {}, by_key=True, jwk={"kty": "oct", "k": "AAAA"})


async def bad_revocation_reason(w: World) -> httpx.Response:
    _, der = await w.leaf("reason.corp.example")
    return await w.vouched.post("revoke-cert", {"certificate": der, "reason": 6})


async def bad_signature_algorithm(w: World) -> httpx.Response:
    header = await w.vouched.header(w.vouched.kid) | {"alg": "HS256"}
    answer = await w.vouched.send(w.vouched.kid, sign(b"k" * 32, header, b""))
    assert "ES256" in answer.json()["algorithms"]
    return answer


async def compound(w: World) -> httpx.Response:
    identifiers = [{"type": "email", "value": "a@corp.example"}, {"type": "dns", "value": "a..corp.example"}]
    answer = await w.vouched.post("new-order", {"identifiers": identifiers})
    told = {each["type"].removeprefix(PREFIX) for each in answer.json()["subproblems"]}
    assert told == {"unsupportedIdentifier", "rejectedIdentifier"}
    return answer


async def external_account_required(w: World) -> httpx.Response:
    return await w.house.client(base=TRUSTED).register()


async def invalid_contact(w: World) -> httpx.Response:
    return await w.vouched.post(w.vouched.kid, {"contact": ["mailto:a@b.example,c@d.example"]})


async def invalid_profile(w: World) -> httpx.Response:
    return await w.vouched.order("a.corp.example", profile="nothing")


async def malformed(w: World) -> httpx.Response:
    return await w.vouched.post("new-order", {"identifiers": []})


async def order_not_ready(w: World) -> httpx.Response:
    order = (await w.proves.order(f"early.web.{ZONE}")).json()
    return await w.proves.post(order["finalize"], {"csr": csr_for([f"early.web.{ZONE}"])})


async def rate_limited(w: World) -> httpx.Response:
    for _ in range(2):
        fresh, url = new_key(), f"{TRUSTED}/key-change"
        inner = json.dumps({"account": w.vouched.kid, "oldKey": jwk_of(w.vouched.key)}).encode()
        answer = await w.vouched.post(url, sign(fresh, {"alg": "ES256", "jwk": jwk_of(fresh), "url": url}, inner))
        w.vouched.key = fresh if answer.is_success else w.vouched.key
    assert int(answer.headers["retry-after"]) > 0
    return answer


async def rejected_identifier(w: World) -> httpx.Response:
    answer = await w.vouched.order("a.corp.example", "b.example", "c.example")
    assert [each["identifier"]["value"] for each in answer.json()["subproblems"]] == ["b.example", "c.example"]
    return answer


async def server_internal(w: World) -> httpx.Response:
    with (
        mock.patch.object(offers, "chosen", side_effect=RuntimeError("a secret of the inside")),
        mock.patch.object(exchange, "log") as log,
    ):
        answer = await w.vouched.order("a.corp.example")
    assert "secret" not in answer.text
    assert "secret" in str(log.error.call_args.kwargs["exc_info"])
    return answer


async def unauthorized(w: World) -> httpx.Response:
    return await w.vouched.post(w.vouched.kid.rpartition("/")[0] + "/other/orders")


async def unsupported_contact(w: World) -> httpx.Response:
    return await w.vouched.post(w.vouched.kid, {"contact": ["tel:+1"]})


async def unsupported_identifier(w: World) -> httpx.Response:
    return await w.vouched.post("new-order", {"identifiers": [{"type": "email", "value": "a@corp.example"}]})


async def user_action_required(w: World) -> httpx.Response:
    answer = await w.house.client().register(termsOfServiceAgreed=False)
    assert answer.json()["instance"] == "https://certctl.test/terms"
    assert '<https://certctl.test/terms>;rel="terms-of-service"' in answer.headers["link"]
    return answer


# what a challenge ends with: which name, which challenge, and what its holder has done
async def caa(w: World, content: str, path: str) -> None:
    w.names.set(f"caa.web.{ZONE}.", "CAA", '0 issue "other.example"')
    w.names.set(f"caa.web.{ZONE}.", "A", "127.0.0.1")
    w.web.pages[path] = content.encode()


async def incorrect_response(w: World, content: str, path: str) -> None:
    w.web.pages[path] = b"something else"


async def nothing(w: World, content: str, path: str) -> None:
    """The port speaks no TLS, there is no TXT record, and where the name leads nobody may go."""


Play = Callable[[World], Awaitable[httpx.Response]]
T = ProblemType
PLAYS: dict[ProblemType, tuple[int, Play]] = {
    T.ACCOUNT_DOES_NOT_EXIST: (400, account_does_not_exist),
    T.ALREADY_REPLACED: (409, already_replaced),
    T.ALREADY_REVOKED: (400, already_revoked),
    T.BAD_CSR: (400, bad_csr),
    T.BAD_NONCE: (400, bad_nonce),
    T.BAD_PUBLIC_KEY: (400, bad_public_key),
    T.BAD_REVOCATION_REASON: (400, bad_revocation_reason),
    T.BAD_SIGNATURE_ALGORITHM: (400, bad_signature_algorithm),
    T.COMPOUND: (400, compound),
    T.EXTERNAL_ACCOUNT_REQUIRED: (403, external_account_required),
    T.INVALID_CONTACT: (400, invalid_contact),
    T.INVALID_PROFILE: (400, invalid_profile),
    T.MALFORMED: (400, malformed),
    T.ORDER_NOT_READY: (403, order_not_ready),
    T.RATE_LIMITED: (429, rate_limited),
    T.REJECTED_IDENTIFIER: (400, rejected_identifier),
    T.SERVER_INTERNAL: (500, server_internal),
    T.UNAUTHORIZED: (403, unauthorized),
    T.UNSUPPORTED_CONTACT: (400, unsupported_contact),
    T.UNSUPPORTED_IDENTIFIER: (400, unsupported_identifier),
    T.USER_ACTION_REQUIRED: (403, user_action_required),
}
Done = Callable[[World, str, str], Awaitable[None]]
VALIDATIONS: dict[ProblemType, tuple[int, str, str, Done]] = {
    T.CAA: (403, "caa.web", "http-01", caa),
    T.CONNECTION: (400, "inside", "http-01", nothing),
    T.DNS: (400, "no-record.web", "dns-01", nothing),
    T.INCORRECT_RESPONSE: (403, "other.web", "http-01", incorrect_response),
    T.TLS: (400, "plain.web", "tls-alpn-01", nothing),
}


@pytest.fixture(scope="module")
def names():
    with bind() as server:
        server.set(f"inside.{ZONE}.", "A", "10.20.30.40")
        yield server


def test_no_type_of_problem_is_without_a_play():
    assert {str(kind) for kind in ProblemType} == KNOWN
    assert PLAYS.keys() | VALIDATIONS.keys() == set(ProblemType)
    assert not PLAYS.keys() & VALIDATIONS.keys()


def sound(told: dict[str, Any], kind: ProblemType, status: int) -> None:
    """What holds of every problem document (RFC 8555 6.7, 6.7.1)."""
    assert (told["type"], told["status"]) == (PREFIX + kind, status), told
    assert told["detail"]
    assert "identifier" not in told, "it stands in subproblems alone"
    for each in told.get("subproblems", []):
        assert ProblemType(each["type"].removeprefix(PREFIX)) and each["detail"]
        assert "identifier" not in each or each["identifier"].keys() == {"type", "value"}


async def test_every_type_of_problem_is_told_with_its_status_and_subproblems(tmp_path, names):
    with Web() as web:
        async with world(tmp_path, names, web) as w:
            for kind, (status, play) in PLAYS.items():
                answer = await play(w)
                assert (kind, answer.status_code, problem(answer)) == (kind, status, str(kind)), answer.text
                sound(answer.json(), kind, status)
                assert answer.headers["replay-nonce"] and 'rel="index"' in answer.headers["link"]
            for kind, (status, host, way, act) in VALIDATIONS.items():
                await fails(w, kind, status, f"{host}.{ZONE}", way, act)


async def fails(w: World, kind: ProblemType, status: int, name: str, way: str, act: Done) -> None:
    order, url, chosen, content = await challenge(w.proves, name, way)
    await act(w, content, f"/.well-known/acme-challenge/{chosen['token']}")
    assert (await w.proves.post(chosen["url"], {"unknown": "is ignored"})).status_code == 200
    found = await decided(w.house, w.proves, url)
    (shown,) = found["challenges"]
    assert (found["status"], shown["status"], shown["type"]) == ("invalid", "invalid", way)
    sound(shown["error"], kind, status)
    ended = (await w.proves.post(order["finalize"].removesuffix("/finalize"))).json()
    assert ended["status"] == "invalid"
    sound(ended["error"], kind, status)
    (part,) = ended["error"]["subproblems"]
    assert (part["type"], part["identifier"]) == (PREFIX + kind, {"type": "dns", "value": name})

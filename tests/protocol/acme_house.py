"""An ACME server in this process, and a client that signs by hand: whatever it is told to sign, right or wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from certctl.core.acme import AcmeRules
from certctl.core.names import parse_names
from certctl.core.rules import DoorRules
from certctl.pki.csr import build_csr
from certctl.protocols import acme
from certctl.protocols.acme import AcmeApp, finalizing
from certctl.telemetry.tally import Tally
from certctl.wire.jws import encode
from integration.api_house import Api, open_api

BASE = "https://certctl.test/acme/profile/prof-default"
JOSE = "application/jose+json"
PROBLEM = "urn:ietf:params:acme:error:"


def jwk_of(key: Any) -> dict[str, str]:
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        n, e = public.public_numbers().n, public.public_numbers().e
        return {
            "kty": "RSA",
            "n": encode(n.to_bytes((n.bit_length() + 7) // 8, "big")),
            "e": encode(e.to_bytes(3, "big")),
        }
    if isinstance(public, ed25519.Ed25519PublicKey):
        return {"kty": "OKP", "crv": "Ed25519", "x": encode(public.public_bytes(Encoding.Raw, PublicFormat.Raw))}
    octets = (public.curve.key_size + 7) // 8
    numbers = public.public_numbers()
    name = {256: "P-256", 384: "P-384", 521: "P-521"}[public.curve.key_size]
    return {
        "kty": "EC",
        "crv": name,
        "x": encode(numbers.x.to_bytes(octets, "big")),
        "y": encode(numbers.y.to_bytes(octets, "big")),
    }


def algorithm_of(key: Any) -> str:
    if isinstance(key, rsa.RSAPrivateKey):
        return "RS256"
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "EdDSA"
    return {256: "ES256", 384: "ES384", 521: "ES512"}[key.curve.key_size]


def signature_of(key: Any, data: bytes, algorithm: str) -> bytes:
    digest = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}.get(
        algorithm[2:], hashes.SHA256()
    )
    if isinstance(key, bytes):
        mac = hmac.HMAC(key, digest)
        mac.update(data)
        return mac.finalize()
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), digest)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(digest)))
    octets = (key.curve.key_size + 7) // 8
    return r.to_bytes(octets, "big") + s.to_bytes(octets, "big")


def sign(key: Any, header: dict[str, Any], payload: bytes) -> dict[str, str]:
    """A flattened JWS; `alg` in the header is obeyed when the key can."""
    protected = encode(json.dumps(header).encode())
    data = f"{protected}.{encode(payload)}".encode()
    return {
        "protected": protected,
        "payload": encode(payload),
        "signature": encode(signature_of(key, data, header["alg"])),
    }


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def csr_for(names: list[str], key: Any = None) -> str:
    return encode(build_csr(key or new_key(), names[0], parse_names(names)))


@dataclasses.dataclass
class Client:
    """One account's key and what it knows."""

    http: httpx.AsyncClient
    key: Any = dataclasses.field(default_factory=new_key)
    kid: str = ""
    base: str = BASE
    nonce: str = ""
    bound: dict[str, str] = dataclasses.field(default_factory=dict)

    async def fresh(self) -> str:
        if self.nonce:
            nonce, self.nonce = self.nonce, ""
            return nonce
        return (await self.http.head(f"{self.base}/new-nonce")).headers["replay-nonce"]

    async def header(self, url: str, /, *, by_key: bool = False, **more: Any) -> dict[str, Any]:
        named = {"jwk": jwk_of(self.key)} if by_key or not self.kid else {"kid": self.kid}
        header = {"alg": algorithm_of(self.key), "nonce": "", "url": url, **named} | more
        if header["nonce"] == "":
            header["nonce"] = await self.fresh()
        return {name: value for name, value in header.items() if value is not None}

    async def post(
        self, url: str, payload: Any = None, *, by_key: bool = False, accept: str = "", **more: Any
    ) -> httpx.Response:
        url = url if url.startswith("https:") else f"{self.base}/{url}"
        octets = b"" if payload is None else payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        message = sign(more.pop("signing", self.key), await self.header(url, by_key=by_key, **more), octets)
        return await self.send(url, message, accept=accept)

    async def send(self, url: str, message: Any, *, accept: str = "", content_type: str = JOSE) -> httpx.Response:
        content = message if isinstance(message, bytes) else json.dumps(message).encode()
        headers = {"content-type": content_type} | ({"accept": accept} if accept else {})
        answer = await self.http.post(url, content=content, headers=headers)
        self.nonce = answer.headers.get("replay-nonce", "")
        return answer

    def binding(self, kid: str, secret: bytes, url: str = "", /, **more: Any) -> dict[str, str]:
        header = {"alg": "HS256", "kid": kid, "url": url or f"{self.base}/new-account"} | more
        return sign(secret, header, json.dumps(jwk_of(self.key)).encode())

    async def register(self, eab: tuple[str, bytes] | None = None, **more: Any) -> httpx.Response:
        payload = {"termsOfServiceAgreed": True} | more
        if eab is not None:
            payload["externalAccountBinding"] = self.bound = self.binding(*eab)
        answer = await self.post("new-account", payload, by_key=True)
        if answer.is_success:
            self.kid = answer.headers["location"]
        return answer

    async def order(self, *names: str, **more: Any) -> httpx.Response:
        identifiers = [{"type": "ip" if name[0].isdigit() or ":" in name else "dns", "value": name} for name in names]
        return await self.post("new-order", {"identifiers": identifiers} | more)

    async def issued(self, *names: str, key: Any = None, **more: Any) -> tuple[dict[str, Any], str]:
        """The valid order and the chain (PEM)."""
        made = await self.order(*names, **more)
        assert made.status_code == 201, made.text
        done = await self.post(made.json()["finalize"], {"csr": csr_for(list(names), key)})
        assert done.status_code == 200, done.text
        assert done.json()["status"] == "valid", done.text
        chain = await self.post(done.json()["certificate"])
        assert chain.status_code == 200, chain.text
        return done.json() | {"url": made.headers["location"]}, chain.text


@dataclasses.dataclass
class AcmeHouse:
    """The API beside an ACME server over the same house."""

    api: Api
    http: httpx.AsyncClient
    rules: AcmeRules
    tally: Tally

    async def eab(self, **more: Any) -> tuple[str, bytes]:
        """Key id and secret of a fresh external account key."""
        from certctl.wire.jws import decode

        name = f"eab-{len((await self.api.get('/api/v1/acme/external-account-keys'))['data'])}"
        made = await self.api.made(
            "/api/v1/acme/external-account-keys", {"name": name, "profile_id": "prof-default"} | more
        )
        return made["id"], decode(made["hmac_key"], "key")

    def client(self, **more: Any) -> Client:
        return Client(self.http, **more)

    async def known(self, **more: Any) -> Client:
        """A client with an account that somebody vouched for."""
        client = self.client()
        answer = await client.register(await self.eab(**more))
        assert answer.status_code == 201, answer.text
        return client


@contextlib.asynccontextmanager
async def open_acme(
    data_dir: Path, url: str = "", doors: DoorRules | None = None, **rules: Any
) -> AsyncIterator[AcmeHouse]:
    """An ACME server on a real, migrated database. How long a finalize drives its job is no subject here."""
    chosen = AcmeRules(**({"enabled": True, "host_names": ("certctl.test",), "concurrent_orders": 0} | rules))
    async with open_api(data_dir, url, doors) as api:
        tally = Tally()
        app = acme.behind_its_edge(AcmeApp(api.state, chosen, tally), api.state, chosen)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="https://certctl.test") as http:
            with mock.patch.object(finalizing, "BUDGET", timedelta(minutes=1)):
                yield AcmeHouse(api, http, chosen, tally)


def problem(answer: httpx.Response) -> str:
    """The problem type of a refusal, without its prefix."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    told = answer.json()
    assert told["type"].startswith(PROBLEM), told
    assert told["status"] == answer.status_code, told
    return told["type"].removeprefix(PROBLEM)

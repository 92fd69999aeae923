"""The public PKI app over a CA in memory, served by a real uvicorn on a free loopback port, and the OpenSSL CLI beside it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from certctl.authority.crl import RevokedEntry, make_crl
from certctl.authority.hierarchy import make_ocsp_responder
from certctl.authority.ocsp import Responder, SerialStatus, answer
from certctl.authority.signer import IssuingCA
from certctl.authority.tbs import certificate_of, join, write_tbs
from certctl.pki.algorithms import KeyAlgorithm
from certctl.protocols.pki import CrlDocument, OcspDocument, PkiApp, etag_of
from made_ca import MadeCA, make_ca

# An octet of zeros in front in DER, the high bit set, the longest, the shortest, zeros behind.
GOOD_SERIALS = (0x80 << 64, 0xFF, 0x00AB, (1 << 159) - 2, 0x01000000)
REVOKED_SERIAL = (0xF1 << 144) + 0x80
UNKNOWN_SERIAL = 0xDEAD


@dataclass
class Facts:
    """PkiFacts as the composition root would give them, from memory."""

    ca: MadeCA
    responder: Responder
    issued: dict[int, SerialStatus] = field(default_factory=dict)
    fault: Exception | None = None
    number: int = 1
    parts: list[tuple[str, int, bool]] = field(default_factory=list)

    def _break(self) -> None:
        if self.fault is not None:
            raise self.fault

    def _ca(self, name: str) -> IssuingCA | None:
        return {"ca-root": self.ca.root, "ca-int": self.ca.issuing, "iss-local": self.ca.issuing}.get(name)

    async def statuses(self, serials: list[int]) -> Mapping[int, SerialStatus]:
        return {serial: self.issued[serial] for serial in serials if serial in self.issued}

    async def crl(self, ca_or_issuer_id: str) -> CrlDocument | None:
        self._break()
        if (ca := self._ca(ca_or_issuer_id)) is None:
            return None
        now = datetime.now(UTC).replace(microsecond=0)
        entries = [
            RevokedEntry(serial, status.revoked_at, status.reason)
            for serial, status in self.issued.items()
            if status.revoked_at is not None and ca is self.ca.issuing
        ]
        crl_der = await make_crl(ca, entries, self.number, now, now + timedelta(days=1), self.ca.signer)
        return CrlDocument(crl_der, now, now + timedelta(days=1), self.number, etag_of(crl_der))

    async def crl_part(self, ca_or_issuer_id: str, shard: int, *, is_delta: bool) -> CrlDocument | None:
        self.parts.append((ca_or_issuer_id, shard, is_delta))
        return await self.crl(ca_or_issuer_id) if shard < 5 else None

    async def ocsp(self, ca_or_issuer_id: str, request_der: bytes) -> OcspDocument | None:
        self._break()
        if self._ca(ca_or_issuer_id) is not self.ca.issuing:
            return None
        now = datetime.now(UTC)
        response_der = await answer(
            request_der, self.responder, self.statuses, self.ca.signer, now, timedelta(minutes=30)
        )
        return OcspDocument(response_der, now + timedelta(minutes=30))

    async def ca_certificate(self, ca_or_issuer_id: str) -> bytes | None:
        self._break()
        ca = self._ca(ca_or_issuer_id)
        return ca.certificate_der if ca else None


async def make_facts(algorithm: KeyAlgorithm, *, is_delegated: bool = True) -> Facts:
    now = datetime.now(UTC)
    ca = await make_ca(algorithm, now)
    responder = Responder(ca.issuing, ca.issuing.certificate_der, ca.issuing.key_ref, algorithm)
    if is_delegated:
        key = await ca.key(KeyAlgorithm.ECDSA_P256, "k-ocsp")
        der = await make_ocsp_responder(ca.issuing, key, ca.signer, now, timedelta(days=30))
        responder = Responder(ca.issuing, der, "k-ocsp", KeyAlgorithm.ECDSA_P256)
    facts = Facts(ca, responder)
    for serial in GOOD_SERIALS:
        facts.issued[serial] = SerialStatus.good()
    facts.issued[REVOKED_SERIAL] = SerialStatus.revoked(now - timedelta(hours=3), "keyCompromise")
    return facts


async def make_leaf(facts: Facts, serial_number: int) -> bytes:
    """A leaf (DER) with the very serial number wanted."""
    ca = facts.ca.issuing
    now = datetime.now(UTC).replace(microsecond=0)
    builder = (
        x509.CertificateBuilder()
        .serial_number(serial_number)
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "leaf.example")]))
        .issuer_name(certificate_of(ca).subject)
        .public_key(ec.generate_private_key(ec.SECP256R1()).public_key())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
    )
    tbs_der = write_tbs(builder, ca.signature_algorithm)
    signature = await facts.ca.signer.sign(ca.key_ref, ca.signature_algorithm, tbs_der)
    return join(tbs_der, ca.signature_algorithm, signature, certificate_of(ca))


def pem(certificate_der: bytes) -> bytes:
    return x509.load_der_x509_certificate(certificate_der).public_bytes(serialization.Encoding.PEM)


async def write_files(facts: Facts, folder: Path) -> dict[int, Path]:
    """root.pem, int.pem, bundle.pem and a leaf for every serial number; returns the leaves' paths."""
    root, intermediate = pem(facts.ca.root.certificate_der), pem(facts.ca.issuing.certificate_der)
    (folder / "root.pem").write_bytes(root)
    (folder / "int.pem").write_bytes(intermediate)
    (folder / "bundle.pem").write_bytes(intermediate + root)
    leaves = {}
    for serial in (*GOOD_SERIALS, REVOKED_SERIAL, UNKNOWN_SERIAL):
        leaves[serial] = folder / f"leaf-{serial:x}.pem"
        leaves[serial].write_bytes(pem(await make_leaf(facts, serial)))
    return leaves


@asynccontextmanager
async def serve(facts: Facts) -> AsyncIterator[str]:
    """Serve; yields the base address up to the kind (`http://127.0.0.1:port/.well-known/pki`)."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(PkiApp(facts), log_config=None, lifespan="on", timeout_graceful_shutdown=5)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            while not server.started:
                await asyncio.sleep(0.01)
                assert not task.done()
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/.well-known/pki"
        finally:
            server.should_exit = True
            await asyncio.wait_for(task, 60)


async def openssl(*arguments: str | Path) -> tuple[int, str]:
    """Run the OpenSSL CLI; its exit code, and what it said on both streams."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    process = await asyncio.create_subprocess_exec(
        "openssl",
        *map(str, arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), 60)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return process.returncode or 0, said.decode()

"""`make bench BENCH=ocsp`: OCSP answers a second over plain HTTP, kept and signed live; how soon a revocation shows.

Real server processes, a real database; the clients run on the same cores. The limits of the same run stand beside: a
path of the same listener that asks nothing of anybody, and raw signatures (openssl speed). While certificates are
revoked under load every answer is judged: `good` only until the revocation was answered a second ago. Usage:
bench/run.py ocsp [--certificates N] [--seconds S] [--only DATABASE] [--keep]
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import httpx
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp
from kit import arguments, load, milliseconds, tell

from peers.fleet import Fleet, fleet
from peers.postgres import postgres
from peers.replicas import csr_for

CLIENTS = 32
NONCE = x509.OCSPNonce(b"0123456789abcdef")


class _Client(asyncio.Protocol):
    """One kept connection that asks again when it is answered, as little of Python a request as there can be."""

    def __init__(
        self, requests: Sequence[bytes], first: int, until: float, took: list[float], done: Callable[[], None]
    ) -> None:
        self._requests, self._next, self._until, self._took, self._done = requests, first, until, took, done
        self._buffer = b""
        self.failed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._ask()

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        self._transport.write(self._requests[self._next % len(self._requests)])
        self._next += 1

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = re.search(rb"content-length: (\d+)", head)
        if length is None or len(body) < int(length[1]):
            return
        self._buffer = b""
        now = time.perf_counter()
        self._took.append(now - self._asked)
        self.failed += not head.startswith(b"HTTP/1.1 2") and not head.startswith(b"HTTP/1.1 404")
        if now < self._until:
            self._ask()
        else:
            self._transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        self._done()


def storm(port: int, requests: Sequence[bytes], seconds: float) -> dict[str, Any]:
    """Answers a second and their times, of 32 clients that ask as fast as they are answered."""

    async def run() -> tuple[list[float], int, float]:
        loop, took, left = asyncio.get_running_loop(), [], CLIENTS
        ended = asyncio.Event()

        def done() -> None:
            nonlocal left
            left -= 1
            if not left:
                ended.set()

        began = time.perf_counter()
        clients = []
        for number in range(CLIENTS):
            first = number * len(requests) // CLIENTS
            made = await loop.create_connection(
                lambda first=first: _Client(requests, first, began + seconds, took, done), "127.0.0.1", port
            )
            clients.append(made[1])
        await ended.wait()
        return took, sum(one.failed for one in clients), time.perf_counter() - began

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        took, failed, whole = runner.run(run())
    if failed:
        raise RuntimeError(f"{failed} answers were no success")
    return {"per_second": round(len(took) / whole), **milliseconds(took)}


def post(ca_id: str, body: bytes) -> bytes:
    """An OCSP request as bytes of HTTP/1.1."""
    head = f"POST /.well-known/pki/ocsp/{ca_id} HTTP/1.1\r\nhost: pki\r\ncontent-type: application/ocsp-request\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


class Issued:
    """Certificates of the built-in CA and an OCSP request for each, without and with a nonce."""

    def __init__(self, town: Fleet, count: int) -> None:
        self.town = town
        self.ids = [f"c-{number}" for number in range(count)]
        with ThreadPoolExecutor(4) as pool:
            versions = list(pool.map(self._issue, self.ids))
        self.ca_id = versions[0]["ca_certificate_id"]
        certificate = town.call("GET", f"/.well-known/pki/certs/{self.ca_id}").content
        self.issuer = x509.load_der_x509_certificate(certificate)
        leaves = [x509.load_pem_x509_certificate(one["pem_chain"].encode()) for one in versions]
        self.plain = [self._request(leaf) for leaf in leaves]
        self.with_nonce = [self._request(leaf, NONCE) for leaf in leaves]

    def _issue(self, name: str) -> dict[str, Any]:
        body = {"id": name, "common_name": f"{name}.example", "csr_pem": csr_for(f"{name}.example")}
        self.town.post("/api/v1/certificates", body)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if found := self.town.get(f"/api/v1/certificates/{name}/versions")["data"]:
                return dict(found[0])
            time.sleep(0.05)
        raise RuntimeError(f"{name} was not issued")

    def _request(self, leaf: x509.Certificate, nonce: x509.OCSPNonce | None = None) -> bytes:
        asked = ocsp.OCSPRequestBuilder().add_certificate(leaf, self.issuer, hashes.SHA256())
        if nonce is not None:
            asked = asked.add_extension(nonce, critical=False)
        return asked.build().public_bytes(serialization.Encoding.DER)


def revoke_under_load(issued: Issued, count: int) -> dict[str, Any]:
    """Revoke `count` certificates while each is asked about all the time; how long `good` was still said of them."""
    town = issued.town
    answered_at: dict[str, float] = {}
    late: list[float] = []
    stop = threading.Event()

    def watch(share: int) -> None:
        chosen = list(range(share, count, 2))
        while not stop.is_set():
            # a connection of its own each round: each process of the server gets its share of them
            with httpx.Client(timeout=20) as client:
                for number in chosen:
                    asked_at, revoked_at = time.monotonic(), answered_at.get(issued.ids[number])
                    url = f"http://127.0.0.1:{town.pki_port}/.well-known/pki/ocsp/{issued.ca_id}"
                    headers = {"content-type": "application/ocsp-request"}
                    told = ocsp.load_der_ocsp_response(
                        client.post(url, content=issued.plain[number], headers=headers).content
                    )
                    if revoked_at is not None and told.certificate_status is ocsp.OCSPCertStatus.GOOD:
                        late.append(asked_at - revoked_at)

    watchers = [threading.Thread(target=watch, args=(share,)) for share in range(2)]
    for one in watchers:
        one.start()
    began = time.monotonic()
    for name in issued.ids[:count]:
        town.post(f"/api/v1/certificates/{name}/revoke", {"reason": "superseded"})
        answered_at[name] = time.monotonic()
    took = time.monotonic() - began
    time.sleep(2)
    stop.set()
    for one in watchers:
        one.join(60)
    if late and max(late) > 1.0:
        raise RuntimeError(f"good was said {max(late):.2f} s after a revocation")
    return {
        "revoked": count,
        "revocations_per_second": round(count / took, 1),
        "good_after_its_revocation": len(late),
        "longest_after_seconds": round(max(late, default=0.0), 3),
    }


def measure(directory: Path, url: str | None, count: int, seconds: float) -> dict[str, Any]:
    """All figures on one database."""
    processes = os.cpu_count() or 1 if url else 1
    more = {"CERTCTL_SERVER_PROCESSES": str(processes)} if url else {}
    quiet = {"CERTCTL_RATE_LIMIT_ENABLED": "false", "CERTCTL_LOG_LEVEL": "warn"}
    with fleet(directory, url, **quiet, **more) as town:
        town.start_server()
        town.bootstrap()
        issued = Issued(town, count)
        kept = [post(issued.ca_id, one) for one in issued.plain]
        live = [post(issued.ca_id, one) for one in issued.with_nonce]
        nothing = [b"GET /nothing HTTP/1.1\r\nhost: pki\r\n\r\n"]
        storm(town.pki_port, kept, 1.0)
        return {
            "server_processes": processes,
            "load_before": load(),
            "limit_path_that_asks_nothing": storm(town.pki_port, nothing, seconds),
            "kept": storm(town.pki_port, kept, seconds),
            "signed_live": storm(town.pki_port, live, seconds),
            "revoked_under_load": revoke_under_load(issued, min(count, 100)),
        }


def signatures_per_second() -> int:
    """What one core signs (openssl speed, ECDSA P-256)."""
    told = subprocess.run(
        ["openssl", "speed", "-seconds", "2", "ecdsap256"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    found = re.search(r"ecdsa \(nistp256\)\s+\S+s\s+\S+s\s+([\d.]+)", told)
    return round(float(found[1])) if found else 0


def main(given: list[str] | None = None) -> int:
    """Measure, judge, print, keep."""
    parser = arguments(__doc__)
    parser.add_argument("--certificates", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=8.0)
    asked = parser.parse_args(given)
    figures: dict[str, Any] = {"limit_openssl_signatures_per_second": signatures_per_second()}
    for kind in [asked.only] if asked.only else ["sqlite", "postgresql"]:
        with tempfile.TemporaryDirectory(prefix="certctl-ocsp-") as folder:
            if kind == "sqlite":
                figures[kind] = measure(Path(folder) / "f", None, asked.certificates, asked.seconds)
            else:
                with postgres() as server:
                    figures[kind] = measure(
                        Path(folder) / "f", server.new_database(), asked.certificates, asked.seconds
                    )
    tell("ocsp", figures, keep=asked.keep)
    return 0

"""`make bench BENCH=imports`: certificates from elsewhere taken into the inventory a second, stored and audited, beside
what one core reads of them and what the database takes by itself.

Judged before it is measured: every certificate is there once, with its event; brought again, none is new.
Usage: bench/run.py imports [--certificates N] [--clients N] [--only sqlite|postgresql] [--keep]
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kit import arguments, load, milliseconds, tell

from certctl.pki.bundle import read_pem
from peers.fleet import Fleet, fleet
from peers.postgres import postgres

_A_CALL = 500
_PATH = "/api/v1/certificates/import"


def certificates(count: int) -> list[str]:
    """PEM texts, each signed by one CA that is not ours, with two names and a serial number of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Elsewhere CA")])
    begin = datetime.now(UTC) - timedelta(days=1)
    found = []
    for number in range(count):
        name = f"n{number}.imports.example"
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(1000 + number)
            .not_valid_before(begin)
            .not_valid_after(begin + timedelta(days=200))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName(name), x509.DNSName(f"www.{name}")]), critical=False
            )
        )
        found.append(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode())
    return found


async def bring(town: Fleet, pems: list[str], clients: int) -> dict[str, Any]:
    """All of them, 500 a call, by so many clients at once."""
    calls = iter([pems[start : start + _A_CALL] for start in range(0, len(pems), _A_CALL)])
    context = ssl.create_default_context(cafile=str(town.ca_path))
    took: list[float] = []
    became = {"imported": 0, "known": 0, "failed": 0}

    async def client() -> None:
        headers = {"Authorization": f"Bearer {town.key}"}
        async with httpx.AsyncClient(base_url=town.url, verify=context, headers=headers, timeout=300) as session:
            for some in calls:
                started = time.perf_counter()
                reply = await session.post(_PATH, json={"certificates": [{"pem": one} for one in some]})
                took.append(time.perf_counter() - started)
                reply.raise_for_status()
                for status in became:
                    became[status] += reply.json()[f"total_{status}"]

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    seconds = time.perf_counter() - started
    return {
        "seconds": round(seconds, 2),
        "per_second": round(len(pems) / seconds),
        "call_of_500": milliseconds(took),
    } | became


def reading(pems: list[str]) -> int:
    """How many one core reads a second, nothing else done."""
    started = time.process_time()
    for one in pems:
        read_pem(one)
    return round(len(pems) / (time.process_time() - started))


def known(town: Fleet) -> int:
    """How many certificates there are: once what was counted before is too old to be shown."""
    time.sleep(2.5)
    return int(town.get("/api/v1/stats/summary")["total_certificates"])


def measure(directory: Path, url: str | None, pems: list[str], clients: int) -> dict[str, Any]:
    """Brought once, and once more."""
    directory.mkdir()
    more = {"CERTCTL_SERVER_PROCESSES": "2"} if url else {}
    with fleet(directory, url, CERTCTL_LOG_LEVEL="warn", CERTCTL_RATE_LIMIT_ENABLED="false", **more) as town:
        town.furnish()
        before = known(town)
        first = asyncio.run(bring(town, pems, clients))
        again = asyncio.run(bring(town, pems, clients))
        if first["imported"] != len(pems) or again["known"] != len(pems):
            raise RuntimeError(f"not each was imported once: {first}, {again}")
        if known(town) - before != len(pems):
            raise RuntimeError("the inventory does not hold each once")
        return {"processes": 2 if url else 1, "clients": clients, "new": first, "known": again}


def main(given: list[str] | None = None) -> int:
    """Measure, print, keep."""
    parser = arguments(__doc__)
    parser.add_argument("--certificates", type=int, default=20_000)
    parser.add_argument("--clients", type=int, default=4)
    asked = parser.parse_args(given)
    before, pems = load(), certificates(asked.certificates)
    figures: dict[str, Any] = {"load_before": before, "certificates": asked.certificates}
    figures["limit"] = {"read_per_second_and_core": reading(pems[:5000])}
    with tempfile.TemporaryDirectory(prefix="certctl-imports-") as folder:
        if asked.only != "postgresql":
            figures["sqlite"] = measure(Path(folder) / "sqlite", None, pems, asked.clients)
        if asked.only != "sqlite":
            with postgres() as server:
                figures["postgresql"] = measure(Path(folder) / "pg", server.new_database(), pems, asked.clients)
    tell("imports", figures, keep=asked.keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())

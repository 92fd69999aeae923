"""`make bench BENCH=imports`: certificates from elsewhere taken into the inventory a second, stored and audited, beside
what one core reads of them and what the database takes by itself.

Judged before it is measured: every certificate is there once, with its event; brought again, none is new. Clients write
bodies made before over connections that they keep, so that what is measured is the server and its database; both share
the machine with them. CPU is told by who used it, for a rate depends on who else is at work.
Usage: bench/run.py imports [--certificates N] [--clients N] [--only sqlite|postgresql] [--keep]
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kit import arguments, load, milliseconds, post, tell
from ladder import cpu_seconds, tree

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


def bodies_of(pems: list[str]) -> list[bytes]:
    """What is sent, 500 a call."""
    return [
        json.dumps({"certificates": [{"pem": one} for one in pems[start : start + _A_CALL]]}).encode()
        for start in range(0, len(pems), _A_CALL)
    ]


async def bring(town: Fleet, bodies: list[bytes], clients: int) -> tuple[dict[str, int], list[float], float]:
    """All of them, by so many clients at once: what became of them, how long each call took, and all together."""
    calls = iter(bodies)
    context = ssl.create_default_context(cafile=str(town.ca_path))
    took: list[float] = []
    became = {"imported": 0, "known": 0, "failed": 0}

    async def client() -> None:
        reader, writer = await asyncio.open_connection("localhost", town.api_port, ssl=context, limit=2**22)
        for some in calls:
            began = time.perf_counter()
            status, told = await post(reader, writer, _PATH, town.key, some)
            took.append(time.perf_counter() - began)
            if status != 200:
                raise RuntimeError(f"{status}: {told[:500]!r}")
            said = json.loads(told)
            for word in became:
                became[word] += said[f"total_{word}"]
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return became, took, time.perf_counter() - began


def brought(town: Fleet, bodies: list[bytes], count: int, clients: int, database: int | None) -> dict[str, Any]:
    """`bring`, and what it cost: `database` is PostgreSQL's process."""
    assert town.server is not None

    def used() -> list[float]:
        parts = [tree(town.server.pid), tree(database) if database else []]
        return [*(cpu_seconds(pids) for pids in parts), time.process_time()]

    before = used()
    became, took, seconds = uvloop.run(bring(town, bodies, clients))
    each = [round((now - then) / count * 1e6) for then, now in zip(before, used(), strict=True)]
    return {
        "seconds": round(seconds, 2),
        "per_second": round(count / seconds),
        "cpu_us_each": dict(zip(("server", "database", "clients"), each, strict=True)),
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


def measure(
    directory: Path, url: str | None, pems: list[str], clients: int, database: int | None = None
) -> dict[str, Any]:
    """Brought once, and once more."""
    bodies = bodies_of(pems)
    directory.mkdir()
    more = {"CERTCTL_SERVER_PROCESSES": "2"} if url else {}
    with fleet(directory, url, CERTCTL_LOG_LEVEL="warn", CERTCTL_RATE_LIMIT_ENABLED="false", **more) as town:
        town.furnish()
        before = known(town)
        first = brought(town, bodies, len(pems), clients, database)
        again = brought(town, bodies, len(pems), clients, database)
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
                figures["postgresql"] = measure(
                    Path(folder) / "pg", server.new_database(), pems, asked.clients, server.process.pid
                )
    tell("imports", figures, keep=asked.keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())

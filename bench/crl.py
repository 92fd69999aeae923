"""`make bench BENCH=crl`: what a CRL of 10^3 to 10^6 entries costs, and what one revocation more costs then.

Revocations are seeded straight into the tables. Each size has a process of its own (memory is the most that it ever
had): it encodes what was seeded, makes the full CRL three times, revokes one more and encodes that ten times, and gives
the CRL as a server does, first from the database and then from memory. The limit beside it: the same bytes joined,
hashed and signed. What was made is read by `openssl crl`.
Usage: bench/run.py crl [--only DATABASE] [--sizes ...] [--keep]
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import uvloop
from kit import arguments, load, tell

from certctl import settings
from certctl.bootstrap import House, open_house
from certctl.lifecycle import publish
from certctl.lifecycle.crl_parts import Parts, encode_revoked, issuing_ca
from certctl.pki.algorithms import SIGNATURE_OF, KeyAlgorithm
from certctl.protocols.pki.facts import LifecycleFacts
from certctl.store import authority
from certctl.store.tx import Database
from peers.postgres import postgres

SIZES = (1_000, 10_000, 100_000, 1_000_000)

# so many numbers, a random serial number, and a moment so many days from now
_WORDS = {
    "postgresql": (
        "generate_series({first}, {last}) n",
        "'4' || md5('{salt}' || n)",
        "now() + (n % 90 + 1) * interval '1 day'",
        "now()",
    ),
    "sqlite": (
        "(WITH RECURSIVE e(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM e WHERE n < {last}) SELECT n FROM e)",
        "'4' || lower(hex(randomblob(16)))",
        "strftime('%Y-%m-%d %H:%M:%f000', 'now', '+' || (n % 90 + 1) || ' days')",
        "strftime('%Y-%m-%d %H:%M:%f000', 'now')",
    ),
}
_VERSIONS = """
INSERT INTO certificate_versions (tenant_id, id, certificate_id, holder_id, job_id, issuer_id, ca_certificate_id,
    status, serial_number, not_before, not_after, fingerprint_sha256, leaf_der, csr_der, created_at)
  SELECT 't-default', 'mcv-' || n, 'mc-' || n, 'client', 'job-seed-' || n, 'iss-local', '{ca}', '{status}', {serial},
    {now}, {later}, 'seed-' || n, '', '', {now} FROM {numbers}
"""
_REVOCATIONS = """
INSERT INTO certificate_revocations (tenant_id, id, certificate_id, version_id, issuer_id, ca_certificate_id,
    serial_number, reason, revoked_by, revoked_at, issuer_notified)
  SELECT tenant_id, 'rev-' || id, certificate_id, id, issuer_id, ca_certificate_id, serial_number, 'keyCompromise',
    'seed', {now}, {true} FROM certificate_versions WHERE status = 'revoked' AND id LIKE 'mcv-%' {of_them}
"""
_CERTIFICATES = """
INSERT INTO managed_certificates (tenant_id, id, name, common_name, sans, environment, issuer_id, renewal_policy_id,
    certificate_profile_id, status, tags, source, created_at, updated_at)
  SELECT 't-default', 'mc-' || n, 'mc-' || n, 'c' || n || '.example', '[]', '{environment}', 'iss-local', 'rp-default',
    'prof-default', 'Active', '{{}}', 'API', {now}, {now} FROM {numbers}
"""


async def ca_of(house: House) -> str:
    """The generation that signs."""
    async with house.database.read() as tx:
        (ca,) = await authority.signing_cas(tx, house.ctx.scope)
    return ca.id


async def seed(database: Database, ca_id: str, first: int, count: int, environment: str = "") -> None:
    """So many revocations, numbered from `first`; or certificates to be revoked, in an environment."""
    numbers, serial, later, now = _WORDS[database.dialect]
    last = first + count - 1
    words = {
        "ca": ca_id,
        "numbers": numbers.format(first=first, last=last),
        "serial": serial.format(salt=f"{first}/"),
        "later": later,
        "now": now,
        "status": "current" if environment else "revoked",
        "true": "true" if database.dialect == "postgresql" else "1",
        "environment": environment,
        "of_them": "AND id NOT IN (SELECT version_id FROM certificate_revocations)",
    }
    # which takes as long as it takes
    async with database.migrating() as connection:
        await connection.exec_driver_sql(_VERSIONS.format(**words))
        await connection.exec_driver_sql((_CERTIFICATES if environment else _REVOCATIONS).format(**words))
        for table in ("certificate_versions", "certificate_revocations", "managed_certificates"):
            await connection.exec_driver_sql(f"ANALYZE {table}")


async def _timed(act: Callable[[], Awaitable[Any]]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = await act()
    return time.perf_counter() - started, result


async def _measure(data_dir: str, url: str, size: int) -> dict[str, Any]:
    environ = {"CERTCTL_DATA_DIR": data_dir} | ({"CERTCTL_DATABASE_URL": url} if url else {})
    if url:
        environ["CERTCTL_CONFIG_ENCRYPTION_KEY"] = "a-key-of-the-bench-that-is-long-enough"
    async with open_house(settings.load(environ)) as house:
        ctx, ca_id = house.ctx, await ca_of(house)
        await seed(house.database, ca_id, 0, size)
        before = _memory()
        encoding, _ = await _timed(lambda: encode_revoked(ctx, ca_id, Parts()))
        making, cpu = [], time.process_time()
        for _ in range(3):
            took, _ = await _timed(lambda: publish.make_next_crl(ctx, ca_id))
            del _  # as a server does, which has sent it to the database and keeps none
            making.append(took)
        cpu = (time.process_time() - cpu) / 3
        most = _memory(most=True)
        one: list[float] = []
        for number in range(10):
            await _one_more(house, ca_id, size + number)
            took, _ = await _timed(lambda: encode_revoked(ctx, ca_id, Parts()))
            one.append(took)
        made = await publish.make_next_crl(ctx, ca_id)
        if made is None:
            raise RuntimeError("another process took the number")
        facts = LifecycleFacts(ctx)
        first, given = await _timed(lambda: facts.crl(ca_id))
        again = [(await _timed(lambda: facts.crl(ca_id)))[0] for _ in range(20)]
        if given is None or given.der != made.crl_der:
            raise RuntimeError("another CRL is given than was made")
        _judge(made.crl_der, size + 10, data_dir)
        return {
            "entries": size,
            "crl_mb": round(len(made.crl_der) / 1e6, 2),
            "encode_all_seconds": round(encoding, 3),
            "make_full_seconds": [round(took, 3) for took in making],
            "make_full_cpu_seconds": round(cpu, 3),
            "joined_hashed_signed_seconds": round(await _limit(house, made.crl_der, ca_id), 3),
            "memory_mb_before": before,
            "memory_mb_most": most,
            "one_more_ms_median": round(statistics.median(one) * 1000, 2),
            "given_first_ms": round(first * 1000, 2),
            "given_again_ms_median": round(statistics.median(again) * 1000, 2),
        }


async def _one_more(house: House, ca_id: str, number: int) -> None:
    _, serial, later, now = _WORDS[house.database.dialect]
    numbers = f"(SELECT {number} AS n) AS one"
    words = {"ca": ca_id, "numbers": numbers, "serial": serial.format(salt="one/"), "later": later, "now": now}
    more = {"status": "revoked", "true": "true" if house.database.dialect == "postgresql" else "1"}
    async with house.database.engine.begin() as connection:
        await connection.exec_driver_sql(_VERSIONS.format(**words, **more))
        await connection.exec_driver_sql(_REVOCATIONS.format(**words, **more, of_them=f"AND id = 'mcv-{number}'"))


async def _limit(house: House, der: bytes, ca_id: str) -> float:
    """The same bytes in pieces of a chunk, joined, hashed and signed: no CRL is written in less."""
    pieces = [der[at : at + 40_000] for at in range(0, len(der), 40_000)]
    ca = await issuing_ca(house.ctx, ca_id)
    started = time.perf_counter()
    await house.ctx.signer.sign(ca.key_ref, SIGNATURE_OF[KeyAlgorithm(ca.key_algorithm)], b"".join(pieces))
    return time.perf_counter() - started


def _judge(der: bytes, count: int, folder: str) -> None:
    """OpenSSL reads it, and so many entries."""
    path = Path(folder) / "judged.crl"
    path.write_bytes(der)
    told = subprocess.run(
        ["openssl", "crl", "-inform", "DER", "-in", str(path), "-noout", "-text"], capture_output=True, check=True
    )
    if told.stdout.count(b"Serial Number:") != count:
        raise RuntimeError("OpenSSL reads another number of entries")


def _memory(*, most: bool = False) -> float:
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"{'VmHWM' if most else 'VmRSS'}:\s+(\d+) kB", status)
    return round(int(found[1]) / 1024, 1) if found else 0.0


def _child(folder: str, url: str, size: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", folder, url, str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(given: list[str] | None = None) -> int:
    """Measure, print, keep."""
    parser = arguments(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    asked = parser.parse_args(given)
    figures: dict[str, Any] = {"load_before": load()}
    with tempfile.TemporaryDirectory(prefix="certctl-crl-") as folder:
        for size in asked.sizes:
            if asked.only != "sqlite":
                with postgres() as server:
                    figures.setdefault("postgresql", []).append(
                        _child(f"{folder}/pg-{size}", server.new_database(), size)
                    )
            if asked.only != "postgresql":
                figures.setdefault("sqlite", []).append(_child(f"{folder}/sqlite-{size}", "", size))
    tell("crl", figures, keep=asked.keep)
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        sys.stdout.write(json.dumps(uvloop.run(_measure(sys.argv[2], sys.argv[3], int(sys.argv[4])))) + "\n")
    else:
        sys.exit(main())

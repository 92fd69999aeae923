"""`make bench BENCH='seed --certificates 1000000 --into DIR'`: an inventory of any size in a PostgreSQL that is kept.

A real server makes the installation, its CA with two issuing generations, teams, owners and profiles; then rows are
written as the lifecycle would have written them, by COPY. Each leaf has its own names, serial number and signature by
the built-in CA's key, over the TBS that `authority.sign` drafts for a leaf of such names; all share one subject key.
What is not written: orders, ended steps and the audit log. The same number of certificates and seed give the same
names, serial numbers, states and places; times count from the hour in which it was made, and for a week from then on
nothing falls due by itself. Usage: bench/run.py seed [--certificates N] [--into DIR] [--seed N] [--keep]
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import asyncpg
import kept
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from kit import arguments, load, tell

from certctl.authority.keybox import associated_data
from certctl.authority.sign import LeafTemplate, draft_leaf
from certctl.authority.signer import IssuingCA, PkiAddresses
from certctl.control.installation import open_sealer
from certctl.core.clock import SystemClock
from certctl.core.ids import DEFAULT_TENANT
from certctl.core.names import parse_names
from certctl.core.scope import Scope
from certctl.core.secret import Secret
from certctl.pki.algorithms import KeyAlgorithm, SignatureAlgorithm
from certctl.pki.certs import load_certificate
from certctl.pki.csr import build_csr
from certctl.pki.der import assemble_certificate
from certctl.pki.keys import generate_private_key, load_private_key, spki_der
from certctl.pki.pem import chain_pem
from certctl.store import authority, names
from certctl.store.tx import Database
from peers.fleet import fleet

CONFIG_KEY = "a key for tests only, of enough length"
QUIET = {
    "CERTCTL_RATE_LIMIT_ENABLED": "false",
    "CERTCTL_STEP_LEASE": "30s",
    "CERTCTL_LOG_LEVEL": "warn",
    # the agents of a seed are rows: none of them will ever call
    "CERTCTL_AGENT_SILENCE": "8760h",
    "CERTCTL_SCHEDULER_RENEWAL_CHECK_INTERVAL": "30s",
}
TEAMS, OWNERS, PROFILES, ZONES = 20, 50, 5, 97
MOST_AGENTS = 50_000
LIFE = timedelta(days=90)
# (state, share in thousandths); what is left is Active
STATES = (("Expiring", 30), ("Expired", 10), ("Revoked", 10), ("Failed", 5), ("Archived", 5))
CHUNK = 20_000
_TABLES = (
    "managed_certificates", "certificate_names", "certificate_target_mappings", "certificate_versions", "jobs",
    "deployments", "certificate_revocations",
)  # fmt: skip


def certificate_id(number: int) -> str:
    """As long as those that the product makes."""
    return f"cert-01930000-0000-7000-8000-{number:012x}"


def host(number: int) -> str:
    """The common name of a certificate."""
    return f"host{number:07}.zone{number % ZONES:02}.example.com"


def state_of(number: int) -> str:
    """The state of a certificate: mixed, and the same for one number always."""
    place = number * 7919 % 1000
    for state, share in STATES:
        if place < share:
            return state
        place -= share
    return "Active"


class Leaves:
    """Signs leaves with the keys of the built-in CA's generations, from one drafted TBS each."""

    def __init__(self, cas: list[IssuingCA], keys: list[Any], seed: int) -> None:
        self._key = generate_private_key(KeyAlgorithm.ECDSA_P256)
        self._cas, self._keys, self._seed = cas, keys, seed
        self.chains = [chain_pem(ca.chain_der) for ca in cas]
        self.csr_der = build_csr(self._key, host(0), parse_names([host(0), f"www.{host(0)}"]))
        self._spki = spki_der(self._key)
        self.spki_sha256 = hashlib.sha256(self._spki).hexdigest()
        self._drafts = [self._draft(ca) for ca in cas]

    def _draft(self, ca: IssuingCA) -> tuple[bytes, bytes, bytes, bytes]:
        """A TBS and what of it is another's in each leaf: serial number (20 octets), notBefore, notAfter."""
        wanted = parse_names([host(0), f"www.{host(0)}"])
        while True:
            template = LeafTemplate(
                common_name=host(0),
                names=wanted,
                spki_der=self._spki,
                validity=LIFE,
                ekus=("serverAuth",),
                must_staple=False,
                now=datetime.now(UTC),
            )
            draft = draft_leaf(ca, template, PkiAddresses("http://pki.example.com"))
            serial = draft.serial_number.to_bytes(20, "big")
            times = [f"{each:%y%m%d%H%M%SZ}".encode() for each in (draft.not_before, draft.not_after)]
            parts = [serial, *times]
            if serial[0] and all(draft.tbs_der.count(part) == 1 for part in parts):
                return (draft.tbs_der, *parts)

    def sign(self, number: int, not_before: datetime, not_after: datetime) -> tuple[int, str, bytes]:
        """The generation's place, the serial number and the certificate (DER) of one leaf."""
        which = number % len(self._cas)
        tbs, serial, begins, ends = self._drafts[which]
        mine = bytearray(hashlib.sha256(f"{self._seed}/{number}".encode()).digest()[:20])
        mine[0] = mine[0] & 0x3F | 0x40
        tbs = tbs.replace(host(0).encode(), host(number).encode()).replace(serial, bytes(mine))
        tbs = tbs.replace(begins, f"{not_before:%y%m%d%H%M%SZ}".encode())
        tbs = tbs.replace(ends, f"{not_after:%y%m%d%H%M%SZ}".encode())
        algorithm = self._cas[which].signature_algorithm
        digest = hashes.SHA384() if algorithm is SignatureAlgorithm.ECDSA_SHA384 else hashes.SHA256()
        signature = self._keys[which].sign(tbs, ec.ECDSA(digest, deterministic_signing=True))
        return which, mine.hex(), assemble_certificate(tbs, algorithm, signature)

    def check(self, der: bytes, which: int, number: int, serial: str) -> None:
        """What was written is what a relying party takes: signature, names, serial number."""
        leaf = load_certificate(der)
        leaf.verify_directly_issued_by(load_certificate(self._cas[which].certificate_der))
        told = leaf.subject.rfc4514_string(), f"{leaf.serial_number:x}"
        if told != (f"CN={host(number)}", serial):
            raise RuntimeError(f"leaf {number} reads {told}")

    def ca_id(self, which: int) -> str:
        """The generation that signed."""
        return self._cas[which].ca_certificate_id


Rows = dict[str, list[tuple[Any, ...]]]
_COLUMNS = {
    "managed_certificates": (
        "tenant_id", "id", "name", "common_name", "sans", "environment", "owner_id", "team_id", "issuer_id",
        "renewal_policy_id", "certificate_profile_id", "status", "status_reason", "expires_at", "tags",
        "last_renewal_at", "last_deployment_at", "revoked_at", "revocation_reason", "next_check_at", "failures",
        "last_failure_at", "source", "created_at", "updated_at",
    ),
    "certificate_names": ("tenant_id", "certificate_id", "kind", "value", "reversed"),
    "certificate_target_mappings": ("tenant_id", "certificate_id", "target_id"),
    "certificate_versions": (
        "tenant_id", "id", "certificate_id", "holder_id", "job_id", "issuer_id", "ca_certificate_id", "status",
        "serial_number", "not_before", "not_after", "fingerprint_sha256", "spki_sha256", "key_algorithm", "key_size",
        "leaf_der", "chain_pem", "csr_der", "created_at",
    ),
    "jobs": (
        "tenant_id", "id", "type", "certificate_id", "holder_id", "version_id", "target_id", "agent_id", "status",
        "attempts", "idempotency_key", "body", "requested_by", "scheduled_at", "started_at", "completed_at",
        "created_at",
    ),
    "deployments": (
        "tenant_id", "id", "certificate_id", "version_id", "target_id", "agent_id", "job_id", "status", "receipt",
        "observed_fingerprint", "applied_at", "verified_at", "created_at", "updated_at",
    ),
    "certificate_revocations": (
        "tenant_id", "id", "certificate_id", "version_id", "issuer_id", "ca_certificate_id", "serial_number", "reason",
        "revoked_by", "revoked_at", "issuer_notified",
    ),
}  # fmt: skip


class Town:
    """Writes certificates with all that belongs to them, as rows in the order of `_COLUMNS`."""

    def __init__(self, leaves: Leaves, count: int, now: datetime, seed: int) -> None:
        self._leaves, self._count, self._now = leaves, count, now
        self.agents = min(MOST_AGENTS, max(20, count // 20))
        self._lot = random.Random(seed)
        self._body = json.dumps({"common_name": host(0), "names": [f"dns:{host(0)}"], "validity_seconds": 7_776_000})

    def chunk(self, numbers: range) -> Rows:
        """The rows of some certificates."""
        rows: Rows = {name: [] for name in _COLUMNS}
        for number in numbers:
            self._one(number, rows)
        return rows

    def _ends(self, number: int, state: str) -> datetime:
        spread = timedelta(seconds=number * 104_729 % 4_000_000)  # up to 46 days
        if state == "Expired":
            return self._now - timedelta(hours=1) - spread
        if state in {"Expiring", "Failed"}:
            return self._now + timedelta(days=8) + spread / 3
        return self._now + timedelta(days=40) + spread

    def _one(self, number: int, rows: Rows) -> None:
        tenant, own, state = DEFAULT_TENANT, certificate_id(number), state_of(number)
        ends = self._ends(number, state)
        born = ends - LIFE
        version, job = own.replace("cert", "ver", 1), own.replace("cert", "job", 1)
        # three of ten keys are with a client; the others on a host, proven there
        place = number * 31 % self.agents if number % 10 >= 3 else None
        agent = "" if place is None else agent_id(place)
        holder = agent or "client"
        which, serial, der = self._leaves.sign(number, born, ends)
        fingerprint = hashlib.sha256(der).hexdigest()
        if number % 997 == 0:
            self._leaves.check(der, which, number, serial)
        name, common = f"site-{number:07}", host(number)
        sans = [common, f"www.{common}"]
        revoked = ends - timedelta(days=30) if state == "Revoked" else None
        rows["managed_certificates"].append((
            tenant, own, name, common, json.dumps(sans), ("production", "staging", "test")[number % 3],
            f"owner-{number % OWNERS:02}", f"team-{number % TEAMS:02}", "iss-local", "rp-default",
            f"prof-{number % PROFILES}", state, "the last renewal failed" if state == "Failed" else "", ends,
            json.dumps({"cost": str(number % 10)}), born, born if agent else None, revoked,
            "keyCompromise" if revoked else "", self._next_check(state, ends), 1 if state == "Failed" else 0,
            self._now if state == "Failed" else None, "", born, born,
        ))  # fmt: skip
        for row in (
            *names.own_rows(tenant, own, name, common, sans),
            *names.version_rows(tenant, own, serial, fingerprint),
        ):
            rows["certificate_names"].append(tuple(row.values()))
        rows["certificate_versions"].append((
            tenant, version, own, holder, job, "iss-local", self._leaves.ca_id(which),
            "revoked" if revoked else "current", serial, born, ends, fingerprint, self._leaves.spki_sha256,
            "ECDSA-P256", 256, der, self._leaves.chains[which], self._leaves.csr_der, born,
        ))  # fmt: skip
        rows["jobs"].append((
            tenant, job, "Issuance", own, holder, version, "", agent, "Completed", 1, f"seed/{own}", self._body,
            "seed", born, born, born + timedelta(seconds=1), born,
        ))  # fmt: skip
        if revoked:
            rows["certificate_revocations"].append((
                tenant, own.replace("cert", "rev", 1), own, version, "iss-local", self._leaves.ca_id(which), serial,
                "keyCompromise", "seed", revoked, True,
            ))  # fmt: skip
        if place is not None:
            self._deployed(number, place, born, fingerprint, rows)

    def _deployed(self, number: int, place: int, born: datetime, fingerprint: str, rows: Rows) -> None:
        tenant, own = DEFAULT_TENANT, certificate_id(number)
        version, target, agent = own.replace("cert", "ver", 1), target_id(place), agent_id(place)
        job, done = own.replace("cert", "job-d", 1), born + timedelta(seconds=5)
        rows["certificate_target_mappings"].append((tenant, own, target))
        rows["jobs"].append((
            tenant, job, "Deployment", own, agent, version, target, agent, "Completed", 1, f"seed/{own}/deploy", "{}",
            "seed", born, born, done, born,
        ))  # fmt: skip
        rows["deployments"].append((
            tenant, own.replace("cert", "dep", 1), own, version, target, agent, job, "verified", "{}", fingerprint,
            done, done, born, done,
        ))  # fmt: skip

    def _next_check(self, state: str, ends: datetime) -> datetime | None:
        if state in {"Revoked", "Archived"}:
            return None
        later = self._now + timedelta(days=7, hours=1)
        return max(later, ends - timedelta(days=30)) if state == "Active" else later


def agent_id(place: int) -> str:
    """One host's agent."""
    return f"agent-{place:06}"


def target_id(place: int) -> str:
    """What its certificates are deployed to."""
    return f"tgt-{place:06}"


def _hosts(count: int, now: datetime) -> Iterator[tuple[str, tuple[str, ...], list[tuple[Any, ...]]]]:
    tenant = DEFAULT_TENANT
    columns = ("tenant_id", "id", "name", "hostname", "status", "last_heartbeat_at", "registered_at", "os", "version",
               "capabilities", "credential_hash")  # fmt: skip
    yield "agents", columns, [
        (tenant, agent_id(each), f"web-{each:06}", f"web-{each:06}.example.com", "Online", now, now, "linux", "1.0",
         "[]", hashlib.sha256(f"seed/{each}".encode()).hexdigest())
        for each in range(count)
    ]  # fmt: skip
    columns = ("tenant_id", "id", "name", "type", "agent_id", "config", "enabled", "created_at", "updated_at")
    config = {"cert_path": "/etc/tls/site.crt", "key_path": "/etc/tls/site.key", "endpoint": "web.example.com:443"}
    yield (
        "deployment_targets",
        columns,
        [
            (tenant, target_id(each), f"nginx-{each:06}", "NGINX", agent_id(each), json.dumps(config), True, now, now)
            for each in range(count)
        ],
    )


async def _write(url: str, town: Town, count: int, now: datetime) -> dict[str, float]:
    took = {"sign_and_copy_seconds": 0.0, "index_seconds": 0.0, "vacuum_seconds": 0.0}
    connection = await asyncpg.connect(url.replace("postgres://", "postgresql://", 1), timeout=60)
    try:
        began = time.perf_counter()
        for table, columns, rows in _hosts(town.agents, now):
            await connection.copy_records_to_table(table, records=rows, columns=columns)
        dropped = await _drop_indexes(connection)
        for first in range(0, count, CHUNK):
            rows = town.chunk(range(first, min(first + CHUNK, count)))
            for table, many in rows.items():
                await connection.copy_records_to_table(table, records=many, columns=_COLUMNS[table], timeout=600)
            sys.stderr.write(f"\r{min(first + CHUNK, count)} of {count} in {time.perf_counter() - began:.0f} s")
        took["sign_and_copy_seconds"] = round(time.perf_counter() - began, 1)
        began = time.perf_counter()
        for definition in dropped:
            await connection.execute(definition, timeout=1800)
        took["index_seconds"] = round(time.perf_counter() - began, 1)
        began = time.perf_counter()
        await connection.execute("VACUUM (FREEZE, ANALYZE)", timeout=1800)
        took["vacuum_seconds"] = round(time.perf_counter() - began, 1)
        await connection.execute("CHECKPOINT", timeout=1800)
        return took
    finally:
        await connection.close()


async def _drop_indexes(connection: Any) -> list[str]:
    """Take away what no constraint needs; returns how each is made again."""
    found = await connection.fetch(
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename = ANY($1) AND indexname "
        "NOT IN (SELECT conname FROM pg_constraint)",
        list(_TABLES),
    )
    for row in found:
        await connection.execute(f'DROP INDEX "{row["indexname"]}"')
    return [row["indexdef"] for row in found]


async def _leaves_of(url: str, seed: int) -> Leaves:
    database, scope = Database(url), Scope.whole(DEFAULT_TENANT)
    try:
        sealer = await open_sealer(database, scope, Secret(CONFIG_KEY), SystemClock())

        async with database.read() as tx:
            generations = await authority.ca_certificates_of(tx, scope, "iss-local")
            issuing = [each for each in generations if each.issues_leaves]
            cas = [await authority.issuing_ca(tx, scope, each.id, generations) for each in issuing]
            sealed = [(await authority.load_key(tx, scope, ca.key_ref)).sealed for ca in cas]
        keys = [
            load_private_key(sealer.unseal(each, associated_data(ca.key_ref)))
            for each, ca in zip(sealed, cas, strict=True)
        ]
        return Leaves(cas, keys, seed)
    finally:
        await database.close()


def _furnish(directory: Path, url: str) -> str:
    """What operators would have made; returns an administrator's key."""
    with fleet(directory, url, **QUIET) as town:
        town.start_server()
        town.bootstrap()
        town.post(
            "/api/v1/issuers/iss-local/intermediates", {"name": "second", "subject": {"common_name": "Second CA"}}
        )
        for number in range(TEAMS):
            town.post("/api/v1/teams", {"id": f"team-{number:02}", "name": f"Team {number:02}"})
        for number in range(OWNERS):
            body = {"id": f"owner-{number:02}", "name": f"Owner {number:02}", "email": f"owner{number}@example.com"}
            town.post("/api/v1/owners", body | {"team_id": f"team-{number % TEAMS:02}"})
        for number in range(PROFILES):
            town.post("/api/v1/profiles", {"id": f"prof-{number}", "name": f"Profile {number}"})
        return town.key


def make(directory: Path, count: int, seed: int) -> dict[str, Any]:
    """Fill `directory`; returns what that took, and how large it is."""
    before, began = load(), time.perf_counter()
    kept.create(directory)
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    with kept.started(directory) as server:
        server.sql(f"CREATE DATABASE {kept.DATABASE}")
        url = kept.url_of(server)
        key = _furnish(directory, url)
        leaves = asyncio.run(_leaves_of(url, seed))
        town = Town(leaves, count, now, seed)
        took = asyncio.run(_write(url, town, count, now))
        sizes = server.sql(
            "SELECT json_object_agg(relname, pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND "
            f"relnamespace = 'public'::regnamespace AND relname IN ({', '.join(repr(each) for each in _TABLES)})",
            kept.DATABASE,
        )
        whole = int(server.sql(f"SELECT pg_database_size('{kept.DATABASE}')"))
    facts = {"certificates": count, "agents": town.agents, "seed": seed, "now": now.isoformat(), "api_key": key}
    kept.remember(directory, facts)
    seconds = round(time.perf_counter() - began, 1)
    return {
        "certificates": count,
        "agents": town.agents,
        "seed": seed,
        "load_before": before,
        "seconds": seconds,
        **took,
        "certificates_per_second": round(count / seconds),
        "database_mib": round(whole / 2**20, 1),
        "bytes_per_certificate": round(whole / count),
        "tables_mib": {name: round(size / 2**20, 1) for name, size in sorted(json.loads(sizes).items())},
    }


def usual(count: int) -> Path:
    """Where a seed lies unless told otherwise."""
    return Path(tempfile.gettempdir()) / f"certctl-seed-{count}"


def main(given: list[str] | None = None) -> int:
    """Make, print, keep."""
    parser = arguments(__doc__)
    parser.add_argument("--certificates", type=int, default=100_000)
    parser.add_argument(
        "--into", type=Path, help="a directory that is not there yet; else one of its own for each size"
    )
    parser.add_argument("--seed", type=int, default=20261126)
    asked = parser.parse_args(given)
    directory = asked.into or usual(asked.certificates)
    figures = make(directory.resolve(), asked.certificates, asked.seed)
    tell("seed", {"database": "postgresql"} | figures, keep=asked.keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())

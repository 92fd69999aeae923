"""A large inventory, written quickly: rows as the lifecycle would have written them, from few keys and real DER."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from certctl.store import names, schema
from certctl.store.tx import Database

TENANT = "t-default"
NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
STATUSES = ("Active",) * 16 + ("Expiring", "Expired", "Revoked", "Failed")
BATCH = 2000


def host(number: int) -> str:
    """The common name of a certificate of the inventory."""
    return f"host{number:06}.zone{number % 97}.example.com"


def certificate_rows(count: int) -> Iterator[dict[str, Any]]:
    """Rows of `managed_certificates`, in order of birth."""
    for number in range(count):
        yield {
            "tenant_id": TENANT,
            "id": f"cert-{number:08}",
            "name": f"site-{number:06}",
            "common_name": host(number),
            "sans": [host(number), f"www.{host(number)}"],
            "environment": ("production", "staging", "test")[number % 3],
            "owner_id": f"owner-{number % 50}",
            "team_id": f"team-{number % 20}",
            "issuer_id": "iss-local",
            "renewal_policy_id": "rp-default",
            "certificate_profile_id": f"prof-{number % 5}",
            "status": STATUSES[number % 20],
            "expires_at": NOW + timedelta(hours=number % 2160) if number % 50 else None,
            "tags": {"cost": str(number % 10)},
            "created_at": NOW - timedelta(seconds=count - number),
            "updated_at": NOW - timedelta(seconds=number % 86400),
        }


async def fill(database: Database, count: int) -> None:
    """Write `count` certificates, each with one current version, one ended job and all it is found by."""
    signed = Signed()
    waiting: list[dict[str, Any]] = []
    for row in certificate_rows(count):
        waiting.append(row)
        if len(waiting) == BATCH:
            await _write(database, signed, waiting)
            waiting = []
    await _write(database, signed, waiting)
    async with database.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(sa.text("VACUUM ANALYZE" if database.dialect == "postgresql" else "ANALYZE"))


async def _write(database: Database, signed: Signed, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    versions = await asyncio.to_thread(lambda: [signed.version(row) for row in rows])
    found = [
        name
        for row, version in zip(rows, versions, strict=True)
        for name in (
            *names.own_rows(TENANT, row["id"], row["name"], row["common_name"], row["sans"]),
            *names.version_rows(TENANT, row["id"], version["serial_number"], version["fingerprint_sha256"]),
        )
    ]
    async with database.begin("inventory") as tx:
        await tx.execute(sa.insert(schema.certificates), rows)
        await tx.execute(sa.insert(schema.versions), versions)
        await tx.execute(sa.insert(schema.jobs), [_job(row) for row in rows])
        await tx.execute(sa.insert(schema.certificate_names), found)


def _job(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "tenant_id": TENANT,
        "id": row["id"].replace("cert", "job"),
        "type": "Issuance",
        "certificate_id": row["id"],
        "status": "Completed",
        "idempotency_key": row["id"],
        "body": {"common_name": row["common_name"], "csr_pem": "x" * 500},
        "agent_id": f"agent-{int(row['id'][5:]) % 100}",
        "scheduled_at": row["created_at"],
        "created_at": row["created_at"],
        "completed_at": row["created_at"],
    }


class Signed:
    """Leaf certificates of one key, signed by one other: real DER, each with its own names and serial number."""

    def __init__(self) -> None:
        self._ca, self._leaf = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        self._issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Bench CA")])

    def version(self, row: dict[str, Any]) -> dict[str, Any]:
        serial = int.from_bytes(hashlib.sha256(row["id"].encode()).digest()[:16], "big") >> 1
        starts, ends = NOW - timedelta(days=1), NOW + timedelta(days=89)
        built = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, row["common_name"])]))
            .issuer_name(self._issuer)
            .public_key(self._leaf.public_key())
            .serial_number(serial)
            .not_valid_before(starts)
            .not_valid_after(ends)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in row["sans"]]), False)
            .sign(self._ca, hashes.SHA256())
        )
        der = built.public_bytes(serialization.Encoding.DER)
        return {
            "tenant_id": TENANT,
            "id": row["id"].replace("cert", "ver"),
            "certificate_id": row["id"],
            "holder_id": "client",
            "job_id": row["id"].replace("cert", "job"),
            "issuer_id": "iss-local",
            "ca_certificate_id": "ca-bench",
            "status": "current",
            "serial_number": f"{serial:x}",
            "not_before": starts,
            "not_after": ends,
            "fingerprint_sha256": hashlib.sha256(der).hexdigest(),
            "key_algorithm": "ECDSA-P256",
            "key_size": 256,
            "leaf_der": der,
            "csr_der": b"",
            "created_at": row["created_at"],
        }

"""The built-in CA's rows: sealed keys, CA generations, OCSP responders, CRLs, and the facts of revocation they
speak from.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from certctl.authority.signer import IssuingCA, SealedKey
from certctl.core.catalogue import CaCertificate, CaIntent
from certctl.core.certificate import RevocationRecord
from certctl.core.errors import Conflict, NotFound
from certctl.core.scope import Scope
from certctl.core.status import OrderStatus, VersionStatus
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.seal import key_id_of
from certctl.store import sealed
from certctl.store.certificates import in_scope
from certctl.store.schema import (
    ca_certificates,
    ca_intents,
    ca_keys,
    certificates,
    crls,
    installation,
    jobs,
    ocsp_responders,
    orders,
    revocations,
    versions,
)
from certctl.store.tx import Tx
from certctl.store.wake import REVOKED_CHANNEL


class ResponderRecord(Struct, frozen=True, kw_only=True):
    """A delegated OCSP responder of one CA generation (RFC 6960 4.2.2.2)."""

    tenant_id: str
    id: str
    ca_certificate_id: str
    key_ref: str
    key_algorithm: str
    certificate_der: bytes
    not_before: datetime
    not_after: datetime
    created_at: datetime


class CrlRecord(Struct, frozen=True, kw_only=True):
    """One published CRL; `number` grows by one within a CA generation.

    `revoked_count` are the revocations that it knows, those among them that have long ended and stand on it no more.
    """

    tenant_id: str
    id: str
    ca_certificate_id: str
    number: int
    this_update: datetime
    next_update: datetime
    revoked_count: int
    crl_der: bytes
    created_at: datetime


class RevokedSerial(Struct, frozen=True, kw_only=True):
    """What CRL and OCSP say of one revoked serial."""

    serial_number: str
    reason: str
    revoked_at: datetime


class SerialFact(Struct, frozen=True, kw_only=True):
    """A serial number that a CA has issued; `revoked_at` is None, `reason` too, while it is good."""

    serial_number: str
    revoked_at: datetime | None
    reason: str | None


async def get_fact(tx: Tx, scope: Scope, name: str) -> bytes | None:
    """A fact of this installation (the KDF's salt, whether bootstrap was used)."""
    found: bytes | None = await tx.scalar(
        sa.select(installation.c.value).where(installation.c.tenant_id == scope.tenant_id, installation.c.name == name)
    )
    return found


async def put_fact_once(tx: Tx, scope: Scope, name: str, value: bytes, now: datetime) -> bool:
    """Write a fact if it is not there; False when it was."""
    inserted = await tx.execute(
        tx.insert(installation)
        .values(tenant_id=scope.tenant_id, name=name, value=value, created_at=now)
        .on_conflict_do_nothing()
    )
    return inserted.rowcount == 1


async def insert_key(tx: Tx, scope: Scope, key: SealedKey, now: datetime) -> None:
    """Write a sealed key. Raises Misconfigured when the config key was rotated since this process derived its own:
    nobody could open it.
    """
    await sealed.require_key(tx, scope, key_id_of(key.sealed))
    await tx.execute(
        sa.insert(ca_keys).values(
            tenant_id=scope.tenant_id,
            id=key.key_ref,
            algorithm=key.algorithm,
            spki_der=key.spki_der,
            sealed=key.sealed,
            created_at=now,
        )
    )


async def load_key(tx: Tx, scope: Scope, key_ref: str) -> SealedKey:
    """A sealed key; NotFound otherwise."""
    row = (
        await tx.execute(sa.select(ca_keys).where(ca_keys.c.tenant_id == scope.tenant_id, ca_keys.c.id == key_ref))
    ).first()
    if row is None:
        raise NotFound(f"no key {key_ref}")
    return SealedKey(row.id, KeyAlgorithm(row.algorithm), row.spki_der, row.sealed)


async def insert_ca_certificate(tx: Tx, scope: Scope, record: CaCertificate) -> bool:
    """Write a CA generation; False when another process wrote this generation first."""
    row = {name: getattr(record, name) for name in record.__struct_fields__}
    del scope
    inserted = await tx.execute(tx.insert(ca_certificates).values(row).on_conflict_do_nothing())
    return inserted.rowcount == 1


async def ca_certificate(tx: Tx, scope: Scope, ca_certificate_id: str) -> CaCertificate | None:
    """One CA certificate by id."""
    return await tx.one(
        CaCertificate,
        sa.select(ca_certificates).where(
            ca_certificates.c.tenant_id == scope.tenant_id, ca_certificates.c.id == ca_certificate_id
        ),
    )


async def lineage(
    tx: Tx, scope: Scope, ca_certificate_id: str, known: Sequence[CaCertificate] = ()
) -> list[CaCertificate]:
    """A CA generation and all above it, up to the root; NotFound when it is not there."""
    read = {each.id: each for each in known}
    found: list[CaCertificate] = []
    wanted = ca_certificate_id
    while wanted:
        one = read.get(wanted) or await ca_certificate(tx, scope, wanted)
        if one is None:
            break
        found.append(one)
        wanted = one.parent_id
    if not found:
        raise NotFound(f"no CA {ca_certificate_id}")
    return found


async def ca_certificates_of(tx: Tx, scope: Scope, issuer_id: str) -> list[CaCertificate]:
    """All generations of an issuer, newest first."""
    return await tx.all(
        CaCertificate,
        sa.select(ca_certificates)
        .where(ca_certificates.c.tenant_id == scope.tenant_id, ca_certificates.c.issuer_id == issuer_id)
        .order_by(ca_certificates.c.generation.desc()),
    )


async def insert_intent(tx: Tx, scope: Scope, intent: CaIntent) -> None:
    """Store what is going to be signed; Conflict when the name or the next generation was taken."""
    row = {name: getattr(intent, name) for name in intent.__struct_fields__} | {"tenant_id": scope.tenant_id}
    inserted = await tx.execute(tx.insert(ca_intents).values(row).on_conflict_do_nothing())
    if inserted.rowcount != 1:
        raise Conflict(f"a CA named {intent.name} is there already, or another one is being made this moment")


async def open_intents(tx: Tx, scope: Scope) -> list[CaIntent]:
    """Intents whose certificate is not recorded yet, the eldest first."""
    c = ca_intents.c
    return await tx.all(
        CaIntent,
        sa.select(ca_intents)
        .where(c.tenant_id == scope.tenant_id, c.answered_at.is_(None))
        .order_by(c.created_at, c.id),
    )


async def answer_intent(tx: Tx, scope: Scope, intent_id: str, now: datetime) -> bool:
    """Its certificate is recorded in this transaction; False when another process has done it."""
    c = ca_intents.c
    answered = await tx.execute(
        sa.update(ca_intents)
        .where(c.tenant_id == scope.tenant_id, c.id == intent_id, c.answered_at.is_(None))
        .values(answered_at=now)
    )
    return answered.rowcount == 1


async def next_generation(tx: Tx, scope: Scope, issuer_id: str) -> int:
    """The number after every intermediate that is there or intended."""
    there = sa.select(sa.func.max(ca_certificates.c.generation)).where(
        ca_certificates.c.tenant_id == scope.tenant_id,
        ca_certificates.c.issuer_id == issuer_id,
        ca_certificates.c.kind == "intermediate",
    )
    intended = sa.select(sa.func.max(ca_intents.c.generation)).where(
        ca_intents.c.tenant_id == scope.tenant_id, ca_intents.c.issuer_id == issuer_id
    )
    return 1 + max(await tx.scalar(there) or 0, await tx.scalar(intended) or 0)


async def move_ca(tx: Tx, scope: Scope, ca_certificate_id: str, before: str, after: str, now: datetime) -> bool:
    """Guarded change of a CA generation's state; False when it was not `before`."""
    c = ca_certificates.c
    moved = await tx.execute(
        sa.update(ca_certificates)
        .where(c.tenant_id == scope.tenant_id, c.id == ca_certificate_id, c.state == before)
        .values(state=after, updated_at=now)
    )
    return moved.rowcount == 1


class CaDependencies(Struct, frozen=True, kw_only=True):
    """What needs a CA generation: CAs below it, certificates it signed that are still good, orders under way."""

    active_children: int
    valid_certificates: int
    open_orders: int


async def ca_dependencies(tx: Tx, scope: Scope, ca_certificate_id: str, now: datetime) -> CaDependencies:
    """Count what needs a CA generation, as far as a scope sees the certificates."""
    seen_versions: list[sa.ColumnElement[bool]] = []
    seen_orders: list[sa.ColumnElement[bool]] = []
    if not scope.is_whole:
        visible = sa.select(certificates.c.id).where(in_scope(scope))
        of_them = sa.select(jobs.c.id).where(jobs.c.tenant_id == scope.tenant_id, jobs.c.certificate_id.in_(visible))
        seen_versions, seen_orders = [versions.c.certificate_id.in_(visible)], [orders.c.job_id.in_(of_them)]
    children = sa.select(sa.func.count()).where(
        ca_certificates.c.tenant_id == scope.tenant_id,
        ca_certificates.c.parent_id == ca_certificate_id,
        ca_certificates.c.state != "retired",
    )
    good = sa.select(sa.func.count()).where(
        versions.c.tenant_id == scope.tenant_id,
        versions.c.ca_certificate_id == ca_certificate_id,
        versions.c.status != VersionStatus.REVOKED,
        versions.c.not_after > now,
        *seen_versions,
    )
    under_way = sa.select(sa.func.count()).where(
        orders.c.tenant_id == scope.tenant_id,
        *seen_orders,
        orders.c.ca_certificate_id == ca_certificate_id,
        orders.c.status.in_((OrderStatus.INTENDED, OrderStatus.PENDING, OrderStatus.ANSWERED)),
    )
    return CaDependencies(
        active_children=int(await tx.scalar(children)),
        valid_certificates=int(await tx.scalar(good)),
        open_orders=int(await tx.scalar(under_way)),
    )


async def insert_responder(tx: Tx, scope: Scope, record: ResponderRecord) -> None:
    """Write a responder certificate."""
    del scope
    await tx.execute(
        sa.insert(ocsp_responders).values({name: getattr(record, name) for name in record.__struct_fields__})
    )


async def latest_responder(tx: Tx, scope: Scope, ca_certificate_id: str) -> ResponderRecord | None:
    """The responder of a CA generation that ends last."""
    return await tx.one(
        ResponderRecord,
        sa.select(ocsp_responders)
        .where(ocsp_responders.c.tenant_id == scope.tenant_id, ocsp_responders.c.ca_certificate_id == ca_certificate_id)
        .order_by(ocsp_responders.c.not_after.desc())
        .limit(1),
    )


async def latest_crl(tx: Tx, scope: Scope, ca_certificate_id: str) -> CrlRecord | None:
    """The newest CRL of a CA generation."""
    return await tx.one(
        CrlRecord,
        sa.select(crls)
        .where(crls.c.tenant_id == scope.tenant_id, crls.c.ca_certificate_id == ca_certificate_id)
        .order_by(crls.c.number.desc())
        .limit(1),
    )


async def forget_crls(tx: Tx, scope: Scope, ca_certificate_id: str, number: int) -> None:
    """Remove the CRLs of a CA generation below `number`, but for the one before it."""
    mine = sa.and_(crls.c.tenant_id == scope.tenant_id, crls.c.ca_certificate_id == ca_certificate_id)
    older = crls.alias()
    same = sa.and_(older.c.tenant_id == scope.tenant_id, older.c.ca_certificate_id == ca_certificate_id)
    before = sa.select(sa.func.max(older.c.number)).where(same, older.c.number < number).scalar_subquery()
    await tx.execute(sa.delete(crls).where(mine, crls.c.number < before))


async def insert_crl(tx: Tx, scope: Scope, record: CrlRecord) -> bool:
    """Write a CRL; False when its number was taken by another process."""
    row = {name: getattr(record, name) for name in record.__struct_fields__}
    del scope
    inserted = await tx.execute(tx.insert(crls).values(row).on_conflict_do_nothing())
    return inserted.rowcount == 1


async def revoke_ca(tx: Tx, scope: Scope, record: RevocationRecord) -> bool:
    """Write the fact that a CA certificate is revoked by the one above it; False when it was revoked before. The caller
    writes the event `ca_revoked` in the same transaction, by which those hear of it who keep answers.
    """
    tx.wake(REVOKED_CHANNEL)
    row = {name: getattr(record, name) for name in record.__struct_fields__} | {"tenant_id": scope.tenant_id}
    inserted = await tx.execute(tx.insert(revocations).values(row).on_conflict_do_nothing())
    return inserted.rowcount == 1


async def ca_revocations(tx: Tx, scope: Scope, issuer_id: str) -> dict[str, RevokedSerial]:
    """Which CA generations of an issuer are revoked, by id."""
    c = ca_certificates.c
    rows = await tx.execute(
        sa.select(c.id, revocations.c.serial_number, revocations.c.reason, revocations.c.revoked_at)
        .select_from(ca_certificates)
        .join(
            revocations,
            sa.and_(
                revocations.c.tenant_id == c.tenant_id,
                revocations.c.ca_certificate_id == c.parent_id,
                revocations.c.serial_number == c.serial_number,
            ),
        )
        .where(c.tenant_id == scope.tenant_id, c.issuer_id == issuer_id)
    )
    return {
        row.id: RevokedSerial(serial_number=row.serial_number, reason=row.reason, revoked_at=row.revoked_at)
        for row in rows
    }


async def serial_facts(tx: Tx, scope: Scope, issuer_id: str, ca_id: str, serials: Sequence[str]) -> list[SerialFact]:
    """What is known of `serials` that a CA generation of an issuer has issued, to leaves or to CAs below it."""

    def known(issued: sa.Table, signed_by: sa.Column[str]) -> sa.Select[Any]:
        revoked = sa.and_(
            revocations.c.tenant_id == scope.tenant_id,
            revocations.c.issuer_id == issuer_id,
            revocations.c.ca_certificate_id == ca_id,
            revocations.c.serial_number == issued.c.serial_number,
        )
        return (
            sa.select(issued.c.serial_number, revocations.c.revoked_at, revocations.c.reason)
            .select_from(issued.outerjoin(revocations, revoked))
            .where(
                issued.c.tenant_id == scope.tenant_id,
                issued.c.issuer_id == issuer_id,
                signed_by == ca_id,
                issued.c.serial_number.in_(tuple(serials)),
            )
        )

    leaves = known(versions, versions.c.ca_certificate_id)
    below = known(ca_certificates, ca_certificates.c.parent_id)
    return await tx.all(SerialFact, sa.union_all(leaves, below))


async def signing_cas(tx: Tx, scope: Scope, *, roots: bool = False) -> list[CaCertificate]:
    """Every intermediate that is not retired, with `roots` those too: each needs a CRL and a responder of its own."""
    kinds = ("intermediate", "root") if roots else ("intermediate",)
    return await tx.all(
        CaCertificate,
        sa.select(ca_certificates)
        .where(
            ca_certificates.c.tenant_id == scope.tenant_id,
            ca_certificates.c.kind.in_(kinds),
            ca_certificates.c.state != "retired",
        )
        .order_by(ca_certificates.c.id),
    )


async def issuing_ca(tx: Tx, scope: Scope, ca_certificate_id: str, known: Sequence[CaCertificate] = ()) -> IssuingCA:
    """A CA generation with the chain above it up to, not including, the root; NotFound otherwise.

    `known` are generations that were just read: they are not read again.
    """
    record, *above = await lineage(tx, scope, ca_certificate_id, known)
    chain = [each.certificate_der for each in above if each.kind != "root"]
    return IssuingCA(
        ca_certificate_id=record.id,
        certificate_der=record.certificate_der,
        chain_der=tuple(chain),
        key_ref=record.key_ref,
        key_algorithm=KeyAlgorithm(record.key_algorithm),
    )

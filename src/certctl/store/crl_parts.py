"""Parts of a CA's CRL: one shard of it (RFC 5280 5.2.5), and what has changed since a full one (5.2.4)."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from msgspec import Struct

from certctl.core.scope import Scope
from certctl.store.crl import Unlisted, waiting
from certctl.store.schema import crl_chunks, crl_numbers, crl_parts, crl_shards, crls, revocations, versions
from certctl.store.tx import Tx


class Part(Struct, frozen=True, kw_only=True):
    """Which part: shard 0 is the whole of a CA generation, of which only the delta is a part."""

    ca_certificate_id: str
    shard: int
    is_delta: bool


class PartHead(Struct, frozen=True, kw_only=True):
    """The newest one of a part without its bytes; `base_number` and `base_at` only of a delta."""

    id: str
    number: int
    base_number: int
    base_at: datetime | None
    this_update: datetime
    next_update: datetime
    revoked_count: int
    created_at: datetime


class PartRecord(Struct, frozen=True, kw_only=True):
    """One published part."""

    tenant_id: str
    id: str
    ca_certificate_id: str
    shard: int
    is_delta: bool
    number: int
    base_number: int
    base_at: datetime | None
    this_update: datetime
    next_update: datetime
    revoked_count: int
    crl_der: bytes
    created_at: datetime


class PartState(Struct, frozen=True, kw_only=True):
    """Whether the newest one of a part tells all that is revoked in it, and how many its shard tells."""

    head: PartHead | None
    is_behind: bool
    listed_total: int


class Base(Struct, frozen=True, kw_only=True):
    """A full CRL that a delta may go on from."""

    number: int
    this_update: datetime
    next_update: datetime


async def state(tx: Tx, scope: Scope, part: Part) -> PartState:
    """At a cost that does not grow with the number of revocations."""
    p = crl_parts.c
    head = await tx.one(
        PartHead,
        sa.select(*(getattr(p, name) for name in PartHead.__struct_fields__))
        .where(_of(scope, part))
        .order_by(p.number.desc())
        .limit(1),
    )
    listed, total = await _listed(tx, scope, part)
    waits = await tx.scalar(
        sa.select(
            sa.exists(sa.select(sa.literal(1)).select_from(revocations).where(waiting(scope, part.ca_certificate_id)))
        )
    )
    return PartState(head=head, is_behind=bool(waits) or listed > (head.number if head else 0), listed_total=total)


async def _listed(tx: Tx, scope: Scope, part: Part) -> tuple[int, int]:
    n, s = crl_numbers.c, crl_shards.c
    if part.shard:
        of_it = sa.select(s.listed_number, s.listed_total).where(
            s.tenant_id == scope.tenant_id, s.ca_certificate_id == part.ca_certificate_id, s.shard == part.shard
        )
    else:
        of_it = sa.select(n.listed_number, n.listed_total).where(
            n.tenant_id == scope.tenant_id, n.ca_certificate_id == part.ca_certificate_id
        )
    row = (await tx.execute(of_it)).first()
    return (row.listed_number, row.listed_total) if row is not None else (0, 0)


def _of(scope: Scope, part: Part) -> sa.ColumnElement[bool]:
    p = crl_parts.c
    return sa.and_(
        p.tenant_id == scope.tenant_id,
        p.ca_certificate_id == part.ca_certificate_id,
        p.shard == part.shard,
        p.is_delta.is_(part.is_delta),
    )


async def note_shards(tx: Tx, scope: Scope, ca_certificate_id: str, number: int, sizes: dict[int, int]) -> None:
    """So many revocations of each shard are told from this number on."""
    s = crl_shards.c
    for shard, size in sorted(sizes.items()):
        row = {"tenant_id": scope.tenant_id, "ca_certificate_id": ca_certificate_id, "shard": shard}
        await tx.execute(
            tx.insert(crl_shards)
            .values(row | {"listed_number": number, "listed_total": size})
            .on_conflict_do_update(
                index_elements=[s.tenant_id, s.ca_certificate_id, s.shard],
                set_={"listed_number": number, "listed_total": s.listed_total + size},
            )
        )


async def bases(tx: Tx, scope: Scope, part: Part, now: datetime) -> list[Base]:
    """The full CRLs of a delta's scope that are kept and have not ended, the eldest first."""
    p, c = crl_parts.c, crls.c
    if part.shard:
        full = Part(ca_certificate_id=part.ca_certificate_id, shard=part.shard, is_delta=False)
        kept = sa.select(p.number, p.this_update, p.next_update).where(_of(scope, full), p.next_update > now)
        return await tx.all(Base, kept.order_by(p.number))
    whole = sa.select(c.number, c.this_update, c.next_update).where(
        c.tenant_id == scope.tenant_id, c.ca_certificate_id == part.ca_certificate_id, c.next_update > now
    )
    return await tx.all(Base, whole.order_by(c.number))


async def listed_since(tx: Tx, scope: Scope, part: Part, base_number: int, limit: int | None) -> list[Unlisted]:
    """What a full CRL of `base_number` does not tell, or may not."""
    r = revocations.c
    its_version = sa.and_(versions.c.tenant_id == r.tenant_id, versions.c.id == r.version_id)
    found = (
        sa.select(r.id, r.serial_number, r.reason, r.revoked_at, versions.c.not_after)
        .select_from(revocations.outerjoin(versions, its_version))
        .where(
            r.tenant_id == scope.tenant_id,
            r.ca_certificate_id == part.ca_certificate_id,
            r.listed_number > base_number,
        )
    )
    if part.shard:
        found = found.where(r.crl_shard == part.shard)
    rows = await tx.execute(found.limit(limit))
    return [Unlisted(**row) for row in rows.mappings()]


async def ended_between(tx: Tx, scope: Scope, part: Part, after: datetime, until: datetime) -> list[bytes]:
    """The entries, in chunks, that a full CRL of the one moment tells and one of the other no more."""
    k = crl_chunks.c
    found = sa.select(k.entries_der).where(
        k.tenant_id == scope.tenant_id,
        k.ca_certificate_id == part.ca_certificate_id,
        k.ends_on > after,
        k.ends_on <= until,
    )
    if part.shard:
        found = found.where(k.shard == part.shard)
    return list((await tx.execute(found)).scalars())


async def insert(tx: Tx, scope: Scope, record: PartRecord) -> bool:
    """Write a part and forget those before the one before it; False when its number is taken."""
    part = Part(ca_certificate_id=record.ca_certificate_id, shard=record.shard, is_delta=record.is_delta)
    row = {name: getattr(record, name) for name in record.__struct_fields__}
    inserted = await tx.execute(tx.insert(crl_parts).values(row).on_conflict_do_nothing())
    if inserted.rowcount != 1:
        return False
    older = crl_parts.alias()
    before = sa.select(sa.func.max(older.c.number)).where(
        older.c.tenant_id == scope.tenant_id,
        older.c.ca_certificate_id == part.ca_certificate_id,
        older.c.shard == part.shard,
        older.c.is_delta.is_(part.is_delta),
        older.c.number < record.number,
    )
    await tx.execute(sa.delete(crl_parts).where(_of(scope, part), crl_parts.c.number < before.scalar_subquery()))
    return True


class PartLine(Struct, frozen=True, kw_only=True):
    """The newest of one shard or delta, as a list shows it."""

    shard: int
    is_delta: bool
    number: int
    base_number: int
    this_update: datetime
    next_update: datetime
    revoked_count: int


async def newest(tx: Tx, scope: Scope, ca_certificate_id: str) -> list[PartLine]:
    """The newest of each part of a CA generation that was ever asked for, by shard, full before delta."""
    p = crl_parts.c
    mine = sa.and_(p.tenant_id == scope.tenant_id, p.ca_certificate_id == ca_certificate_id)
    last = sa.select(p.shard, p.is_delta, sa.func.max(p.number).label("number")).where(mine)
    ends = last.group_by(p.shard, p.is_delta).subquery()
    is_last = sa.and_(p.shard == ends.c.shard, p.is_delta == ends.c.is_delta, p.number == ends.c.number)
    return await tx.all(
        PartLine,
        sa.select(*(getattr(p, name) for name in PartLine.__struct_fields__))
        .select_from(crl_parts.join(ends, is_last))
        .where(mine)
        .order_by(p.shard, p.is_delta),
    )


async def der(tx: Tx, scope: Scope, part: Part, number: int) -> bytes | None:
    """The bytes of one part, None when a newer one has taken its place."""
    found: bytes | None = await tx.scalar(
        sa.select(crl_parts.c.crl_der).where(_of(scope, part), crl_parts.c.number == number)
    )
    return found

"""What CRLs are made of: revocations that none tells yet, encoded entries in chunks, and each CA's numbers.

A revocation is encoded once, in the transaction that gives it the number of the first CRL that tells it. That
transaction holds the row of its CA in `crl_numbers`: whoever takes a number later sees all that was listed before.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from msgspec import Struct, structs

from certctl.core.ids import new_id
from certctl.core.scope import Scope
from certctl.store.schema import ca_certificates, crl_chunks, crl_numbers, crls, revocations, versions
from certctl.store.tx import Tx

# 40 kB: what one more revocation writes anew at most
CHUNK_SIZE = 1_000
_PAGE = 100  # chunks, 4 MB
# as the partial index says it: a parameter in its place would not be known to be that
_NOBODY = sa.literal_column("''", sa.String)


class Unlisted(Struct, frozen=True, kw_only=True):
    """A revocation that no CRL tells yet; `not_after` is None for a CA's own certificate, which is no version."""

    id: str
    serial_number: str
    reason: str
    revoked_at: datetime
    not_after: datetime | None
    leaf_der: bytes | None = None


class Numbers(Struct, frozen=True, kw_only=True):
    """Of one CA generation: the last number taken, the one that tells all that is listed, and how many those are."""

    number: int
    listed_number: int
    listed_total: int

    def with_more(self, listed: int) -> Numbers:
        """After so many more were listed under this very number."""
        return structs.replace(self, listed_number=self.number, listed_total=self.listed_total + listed)


class Chunk(Struct, frozen=True):
    """So many encoded entries, joined."""

    size: int
    entries_der: bytes


class Batch(Struct, frozen=True, kw_only=True):
    """Encoded entries that go together: `ends_on` is no earlier than the end of any of their certificates."""

    shard: int
    ends_on: datetime
    entries_der: Sequence[bytes]


class CrlHead(Struct, frozen=True, kw_only=True):
    """The newest CRL of a CA generation without its bytes."""

    ca_certificate_id: str
    number: int
    this_update: datetime
    next_update: datetime
    revoked_count: int
    created_at: datetime


async def take_number(tx: Tx, scope: Scope, ca_certificate_id: str) -> Numbers:
    """The next number of a CA generation, its row locked until the commit: nothing is listed under it by others."""
    n = crl_numbers.c
    await tx.execute(
        tx.insert(crl_numbers)
        .values(tenant_id=scope.tenant_id, ca_certificate_id=ca_certificate_id, number=0)
        .on_conflict_do_nothing()
    )
    # the release before numbers its CRLs by the newest one alone
    newest = (
        sa.select(sa.func.coalesce(sa.func.max(crls.c.number), 0))
        .where(crls.c.tenant_id == scope.tenant_id, crls.c.ca_certificate_id == ca_certificate_id)
        .scalar_subquery()
    )
    taken = await tx.one(
        Numbers,
        sa.update(crl_numbers)
        .where(n.tenant_id == scope.tenant_id, n.ca_certificate_id == ca_certificate_id)
        .values(number=1 + sa.case((n.number > newest, n.number), else_=newest))
        .returning(n.number, n.listed_number, n.listed_total),
    )
    if taken is None:
        raise RuntimeError(f"CRL numbers of {ca_certificate_id} are gone within their transaction")
    return taken


async def unlisted(tx: Tx, scope: Scope, ca_certificate_id: str, limit: int, *, with_leaf: bool) -> list[Unlisted]:
    """Revocations of a CA generation that no CRL tells yet, in no order."""
    r = revocations.c
    its_version = sa.and_(versions.c.tenant_id == r.tenant_id, versions.c.id == r.version_id)
    c = versions.c
    leaf: sa.ColumnElement[Any] = c.leaf_der if with_leaf else sa.null()
    rows = await tx.execute(
        sa.select(r.id, r.serial_number, r.reason, r.revoked_at, c.not_after, leaf.label("leaf_der"))
        .select_from(revocations.outerjoin(versions, its_version))
        .where(waiting(scope, ca_certificate_id))
        .limit(limit)
    )
    return [
        Unlisted(
            id=row.id,
            serial_number=row.serial_number,
            reason=row.reason,
            revoked_at=row.revoked_at,
            not_after=row.not_after,
            leaf_der=row.leaf_der,
        )
        for row in rows
    ]


def waiting(scope: Scope, ca_certificate_id: str) -> sa.ColumnElement[bool]:
    """The revocations of a CA generation that no CRL tells yet."""
    r = revocations.c
    return sa.and_(
        r.tenant_id == scope.tenant_id,
        r.ca_certificate_id == ca_certificate_id,
        r.listed_number.is_(None),
        r.ca_certificate_id != _NOBODY,
    )


async def mark_listed(
    tx: Tx, scope: Scope, taken: Numbers, ca_certificate_id: str, of_shard: Mapping[int, Sequence[str]]
) -> None:
    """CRLs from this number on tell these revocations, by shard: in the transaction that took it and writes them."""
    r, n = revocations.c, crl_numbers.c
    for shard, ids in of_shard.items():
        await tx.execute(
            sa.update(revocations)
            .where(r.tenant_id == scope.tenant_id, r.id.in_(tuple(ids)))
            .values(listed_number=taken.number, crl_shard=shard)
        )
    await tx.execute(
        sa.update(crl_numbers)
        .where(n.tenant_id == scope.tenant_id, n.ca_certificate_id == ca_certificate_id)
        .values(listed_number=taken.number, listed_total=n.listed_total + sum(map(len, of_shard.values())))
    )


async def write_chunks(tx: Tx, scope: Scope, ca_certificate_id: str, given: Sequence[Batch]) -> None:
    """Put encoded entries into the chunks that are not full yet, and into new ones: three statements at most."""
    k = crl_chunks.c
    open_ones = await tx.execute(
        sa.select(k.id, k.shard, k.ends_on, k.size, k.entries_der).where(
            k.tenant_id == scope.tenant_id,
            k.ca_certificate_id == ca_certificate_id,
            k.size < CHUNK_SIZE,
            k.shard.in_(tuple({batch.shard for batch in given})),
            k.ends_on.in_(tuple({batch.ends_on for batch in given})),
        )
    )
    found = {(row.shard, row.ends_on): row for row in open_ones}
    longer: list[dict[str, Any]] = []
    new: list[dict[str, Any]] = []
    for batch in given:
        entries = list(batch.entries_der)
        last = found.get((batch.shard, batch.ends_on))
        if last is not None:
            more = entries[: CHUNK_SIZE - last.size]
            entries = entries[len(more) :]
            joined = b"".join((last.entries_der, *more))
            longer.append({"chunk_id": last.id, "now_size": last.size + len(more), "now_entries": joined})
        for at in range(0, len(entries), CHUNK_SIZE):
            part = entries[at : at + CHUNK_SIZE]
            new.append(
                {
                    "tenant_id": scope.tenant_id,
                    "id": new_id("crlc"),
                    "ca_certificate_id": ca_certificate_id,
                    "shard": batch.shard,
                    "ends_on": batch.ends_on,
                    "size": len(part),
                    "entries_der": b"".join(part),
                }
            )
    if longer:
        await tx.execute(
            sa.update(crl_chunks)
            .where(k.tenant_id == scope.tenant_id, k.id == sa.bindparam("chunk_id"))
            .values(size=sa.bindparam("now_size"), entries_der=sa.bindparam("now_entries")),
            longer,
        )
    if new:
        await tx.execute(sa.insert(crl_chunks), new)


async def chunks(
    tx: Tx, scope: Scope, ca_certificate_id: str, ended_after: datetime, shard: int = 0
) -> AsyncIterator[Chunk]:
    """All chunks of a CA generation, or of one of its shards, but for those that had ended by `ended_after`.

    A chunk only grows until it is forgotten: reading in pages leaves nothing out that was there.
    """
    k, after = crl_chunks.c, ""
    while True:
        page = (
            await tx.execute(
                sa.select(k.id, k.size, k.entries_der)
                .where(
                    k.tenant_id == scope.tenant_id,
                    k.ca_certificate_id == ca_certificate_id,
                    k.id > after,
                    k.ends_on > ended_after,
                    k.shard == shard if shard else sa.true(),
                )
                .order_by(k.id)
                .limit(_PAGE)
            )
        ).all()
        for row in page:
            yield Chunk(row.size, row.entries_der)
        if len(page) < _PAGE:
            return
        after = page[-1].id


async def forget_chunks(tx: Tx, scope: Scope, ca_certificate_id: str, ended_by: datetime) -> None:
    """Delete the chunks of which every certificate had ended by `ended_by`."""
    k = crl_chunks.c
    await tx.execute(
        sa.delete(crl_chunks).where(
            k.tenant_id == scope.tenant_id, k.ca_certificate_id == ca_certificate_id, k.ends_on <= ended_by
        )
    )


class State(Struct, frozen=True, kw_only=True):
    """Whether the newest CRL of a CA generation, if there is one, tells all that is revoked."""

    head: CrlHead | None
    is_behind: bool
    listed_total: int


async def state(tx: Tx, scope: Scope, ca_certificate_id: str) -> State:
    """Asked in one statement, at a cost that does not grow with the number of revocations."""
    c, n = crls.c, crl_numbers.c
    mine = sa.and_(c.tenant_id == scope.tenant_id, c.ca_certificate_id == ca_certificate_id)
    waits = sa.exists(sa.select(sa.literal(1)).select_from(revocations).where(waiting(scope, ca_certificate_id)))
    newest = sa.select(*(getattr(c, name) for name in CrlHead.__struct_fields__)).where(mine)
    newest_one = newest.order_by(c.number.desc()).limit(1).subquery()
    one = sa.select(sa.literal(1).label("one")).subquery()
    listed = sa.and_(n.tenant_id == scope.tenant_id, n.ca_certificate_id == ca_certificate_id)
    row = (
        await tx.execute(
            sa.select(
                *newest_one.c, waits.label("waits"), n.listed_number.label("listed"), n.listed_total.label("total")
            ).select_from(one.outerjoin(newest_one, sa.true()).outerjoin(crl_numbers, listed))
        )
    ).one()
    head = None
    if row.number is not None:
        head = CrlHead(**{name: getattr(row, name) for name in CrlHead.__struct_fields__})
    told = head.number if head else 0
    return State(head=head, is_behind=bool(row.waits) or (row.listed or 0) > told, listed_total=row.total or 0)


async def pending(tx: Tx, scope: Scope, ca_certificate_id: str) -> int:
    """How many revocations wait to be encoded."""
    found = sa.select(sa.func.count()).select_from(revocations).where(waiting(scope, ca_certificate_id))
    return int(await tx.scalar(found))


async def crl_der(tx: Tx, scope: Scope, ca_certificate_id: str, number: int) -> bytes | None:
    """The bytes of one CRL, None when a newer one has taken its place."""
    c = crls.c
    found: bytes | None = await tx.scalar(
        sa.select(c.crl_der).where(
            c.tenant_id == scope.tenant_id, c.ca_certificate_id == ca_certificate_id, c.number == number
        )
    )
    return found


async def behind(tx: Tx, scope: Scope) -> list[str]:
    """The CA generations of ours whose newest CRL does not tell all that is revoked, also after whoever encoded it died
    before the CRL was written. Asked of each CA apart, which costs the same however many are revoked.
    """
    a, r, n, c = ca_certificates.c, revocations.c, crl_numbers.c, crls.c
    newest = (
        sa.select(sa.func.coalesce(sa.func.max(c.number), 0))
        .where(c.tenant_id == scope.tenant_id, c.ca_certificate_id == a.id)
        .correlate(ca_certificates)
        .scalar_subquery()
    )
    encoded = sa.select(sa.literal(1)).where(
        n.tenant_id == scope.tenant_id, n.ca_certificate_id == a.id, n.listed_number > newest
    )
    waits = sa.select(sa.literal(1)).where(
        r.tenant_id == scope.tenant_id,
        r.ca_certificate_id == a.id,
        r.listed_number.is_(None),
        r.ca_certificate_id != _NOBODY,
    )
    ours = sa.select(a.id).where(
        a.tenant_id == scope.tenant_id,
        sa.or_(
            sa.exists(waits.correlate(ca_certificates)),
            sa.exists(encoded.correlate(ca_certificates)),
        ),
    )
    return [found for (found,) in await tx.execute(ours.order_by(a.id))]

"""What CRLs are made of, and their parts: shards by distribution point and deltas (RFC 5280 5.2.4 to 5.2.6, ADR 36).

A revocation is encoded once, in the shard that its certificate names. The full CRL is `publish`'s; a part is made when
somebody asks for it and the last one tells too little, the longer it is the less often. Must never make a delta that,
with a full CRL from its base on, tells less than the full one of its number.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from msgspec import Struct, structs

from certctl.authority.crl import CrlForm, CrlTimes, RevokedEntry, encode_entry, encode_removals, sign_crl
from certctl.authority.signer import IssuingCA
from certctl.connectors.base.issuer import PartsCrls
from certctl.core.catalogue import IssuerRecord
from certctl.core.errors import Temporary
from certctl.core.events import Event, EventType
from certctl.core.ids import new_id
from certctl.ledger import append
from certctl.lifecycle.context import Context
from certctl.pki.certs import read_certificate
from certctl.pki.fingerprints import serial_int
from certctl.policy.revocation import crl_pause, parse_reason
from certctl.store import authority, catalogue, crl, crl_parts
from certctl.store.crl import Numbers, Unlisted
from certctl.store.crl_parts import Base, Part, PartHead, PartRecord
from certctl.telemetry import points

# what is encoded in one transaction: some tenths of a second, for which others wait who revoke under SQLite
_LISTED_AT_ONCE = 4_000
_NEVER = datetime(9999, 12, 31, tzinfo=UTC)
# a delta of more saves nobody anything: it begins anew from the newest full CRL
_MOST_IN_DELTA = 100_000
# a client asks for a delta so many times while its full CRL is good
_DELTAS_A_FULL = 4
_ATTEMPTS = 20


class Parts(Struct, frozen=True):
    """Into how many shards the certificates of a CA are told apart from now on, and whether there are deltas."""

    shards: int = 1
    deltas: bool = False


async def parts_of(ctx: Context, ca_certificate_id: str) -> Parts:
    """As the issuer of a CA generation is configured."""
    async with ctx.database.read() as tx:
        ca = await authority.ca_certificate(tx, ctx.scope, ca_certificate_id)
        record = None if ca is None else await catalogue.find(tx, ctx.scope, IssuerRecord, id=ca.issuer_id)
    if record is None:
        return Parts()
    issuer = await ctx.open_issuer(record)
    return Parts(issuer.crl_shards, issuer.crl_deltas) if isinstance(issuer, PartsCrls) else Parts()


async def issuing_ca(ctx: Context, ca_certificate_id: str) -> IssuingCA:
    """A CA generation as the authority works with it: certificate, chain above it, key name."""
    async with ctx.database.read() as tx:
        return await authority.issuing_ca(tx, ctx.scope, ca_certificate_id)


async def encode_revoked(ctx: Context, ca_certificate_id: str, parts: Parts) -> Numbers:
    """Encode all that is revoked and told by no CRL; a CRL of the number that is given back tells it, and one of a
    greater one.
    """
    while True:
        async with ctx.database.begin("publish.list") as tx:
            taken = await crl.take_number(tx, ctx.scope, ca_certificate_id)
            waiting = await crl.unlisted(tx, ctx.scope, ca_certificate_id, _LISTED_AT_ONCE, with_leaf=parts.shards > 1)
            if waiting:
                of_shard: dict[int, list[str]] = {}
                batches: dict[tuple[int, datetime], list[bytes]] = {}
                for one in waiting:
                    shard = _shard_of(ctx, ca_certificate_id, one)
                    of_shard.setdefault(shard, []).append(one.id)
                    batches.setdefault((shard, _ends_on(one)), []).append(_encoded(one))
                given = [crl.Batch(shard=key[0], ends_on=key[1], entries_der=batches[key]) for key in batches]
                await crl.write_chunks(tx, ctx.scope, ca_certificate_id, given)
                await crl.mark_listed(tx, ctx.scope, taken, ca_certificate_id, of_shard)
                sizes = {shard: len(ids) for shard, ids in of_shard.items() if shard}
                await crl_parts.note_shards(tx, ctx.scope, ca_certificate_id, taken.number, sizes)
        if len(waiting) < _LISTED_AT_ONCE:
            return taken.with_more(len(waiting))


def _encoded(one: Unlisted) -> bytes:
    return encode_entry(RevokedEntry(serial_int(one.serial_number), one.revoked_at, parse_reason(one.reason)))


def _ends_on(one: Unlisted) -> datetime:
    """The day after which it need be told no more; a CA's own certificate is no version: it stays."""
    if one.not_after is None:
        return _NEVER
    return one.not_after.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def _shard_of(ctx: Context, ca_certificate_id: str, one: Unlisted) -> int:
    """As the certificate itself says, however many shards there are by now; 0 for one that names the full CRL."""
    if not one.leaf_der:
        return 0
    address = re.escape(ctx.addresses.crl(ca_certificate_id).removeprefix(ctx.addresses.base_url))
    for url in read_certificate(one.leaf_der).crl_urls:
        found = re.search(rf"{address}/(\d{{1,4}})$", url)
        if found is not None:
            return int(found[1])
    return 0


async def part_to_give(ctx: Context, part: Part) -> PartHead | None:
    """The part that a relying party is given now; None: it has to be made first, by `make_part`."""
    async with ctx.database.read() as tx:
        found = await crl_parts.state(tx, ctx.scope, part)
    head = found.head
    if head is None or head.next_update - ctx.now() <= (head.next_update - head.this_update) / 4:
        return None
    length = head.revoked_count if part.is_delta else found.listed_total
    stands = ctx.now() < head.created_at + crl_pause(length, ctx.patience.crl_pause)
    return head if stands or not found.is_behind else None


async def make_part(ctx: Context, part: Part, parts: Parts) -> PartRecord:
    """A part that tells all that was committed before it was asked for. Raises Temporary."""
    for _ in range(_ATTEMPTS):
        made = await (_make_delta(ctx, part, parts) if part.is_delta else _make_shard(ctx, part, parts))
        if made is not None:
            return made
    raise Temporary("other processes keep publishing this CRL; ask again")


async def _make_shard(ctx: Context, part: Part, parts: Parts) -> PartRecord | None:
    taken = await encode_revoked(ctx, part.ca_certificate_id, parts)
    now, validity = ctx.now().replace(microsecond=0), ctx.patience.crl_validity
    async with ctx.database.read() as tx:
        chunks = [
            one async for one in crl.chunks(tx, ctx.scope, part.ca_certificate_id, now - validity, shard=part.shard)
        ]
    size, entries_der = sum(one.size for one in chunks), [one.entries_der for one in chunks]
    chunks.clear()
    record = _record(ctx, part, taken, now, validity, size)
    return await _publish(ctx, record, entries_der, parts)


async def _make_delta(ctx: Context, part: Part, parts: Parts) -> PartRecord | None:
    taken = await encode_revoked(ctx, part.ca_certificate_id, parts)
    now, validity = ctx.now().replace(microsecond=0), ctx.patience.crl_validity
    async with ctx.database.read() as tx:
        last = (await crl_parts.state(tx, ctx.scope, part)).head
        bases = await crl_parts.bases(tx, ctx.scope, part, now)
        if last is not None and last.base_at is not None and last.base_at + validity > now:
            # whoever has a full CRL since then goes on with this one too
            bases.insert(
                0, Base(number=last.base_number, this_update=last.base_at, next_update=last.base_at + validity)
            )
        if not bases:
            raise Temporary("the full CRL that this delta begins from is not made yet; ask for that first")
        base = bases[0]
        since = await crl_parts.listed_since(tx, ctx.scope, part, base.number, _MOST_IN_DELTA + 1)
        if len(since) > _MOST_IN_DELTA and len(bases) > 1:
            base = bases[-1]
            since = await crl_parts.listed_since(tx, ctx.scope, part, base.number, None)
        ended = await crl_parts.ended_between(tx, ctx.scope, part, base.this_update - validity, now - validity)
    told = {serial_int(one.serial_number) for one in since}
    entries_der = [_encoded(one) for one in since]
    for chunk in ended:
        entries_der += encode_removals(chunk, told)
    record = _record(ctx, part, taken, now, validity / _DELTAS_A_FULL, len(entries_der), base)
    return await _publish(ctx, record, entries_der, parts)


def _record(
    ctx: Context, part: Part, taken: Numbers, now: datetime, validity: timedelta, size: int, base: Base | None = None
) -> PartRecord:
    return PartRecord(
        tenant_id=ctx.scope.tenant_id,
        id=new_id("crlp"),
        ca_certificate_id=part.ca_certificate_id,
        shard=part.shard,
        is_delta=part.is_delta,
        number=taken.number,
        base_number=base.number if base is not None else 0,
        base_at=base.this_update if base is not None else None,
        this_update=now,
        next_update=(now + validity).replace(microsecond=0),
        revoked_count=size,
        crl_der=b"",
        created_at=ctx.now(),
    )


async def _publish(ctx: Context, record: PartRecord, entries_der: list[bytes], parts: Parts) -> PartRecord | None:
    """Sign and store; None when another process took the number."""
    ca_id, shard = record.ca_certificate_id, record.shard
    form = CrlForm(
        point_url=ctx.addresses.crl(ca_id, shard) if shard else "",
        base_number=record.base_number if record.is_delta else None,
        delta_url=ctx.addresses.delta_crl(ca_id, shard) if parts.deltas and not record.is_delta else "",
    )
    times = CrlTimes(record.number, record.this_update, record.next_update)
    points.reach("publish.part.signing")
    der = await sign_crl(await issuing_ca(ctx, ca_id), entries_der, record.revoked_count, times, ctx.signer, form)
    record = structs.replace(record, crl_der=der)
    async with ctx.database.begin("publish.part") as tx:
        if not await crl_parts.insert(tx, ctx.scope, record):
            return None
        event = Event(
            type=EventType.CRL_PUBLISHED,
            subject_type="ca_certificate",
            subject_id=ca_id,
            actor=ctx.actor,
            details={
                "number": record.number,
                "revoked": record.revoked_count,
                "shard": shard,
                "base_number": record.base_number if record.is_delta else None,
            },
        )
        await append(tx, ctx.scope, ctx.now(), event)
    return record

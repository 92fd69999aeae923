"""Batches and their items: chosen by one statement, leased and fenced like steps, counted in the transaction of each
result.

A selection of any size never passes through this process: the database writes the items itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.dialects.postgresql import JSONB

from certctl.core.batch import Batch, BatchItem, Selection
from certctl.core.errors import Conflict, NotFound, StaleFence
from certctl.core.scope import Scope
from certctl.core.status import BatchStatus, ItemStatus
from certctl.store import arrays, schema
from certctl.store.certificates import in_scope
from certctl.store.schema import batch_items, batches, certificates
from certctl.store.tx import Tx

CHANNEL = "batches"
_ROWS_A_STATEMENT = 500


def batch_channel(batch_id: str) -> str:
    """The wake-up channel of whoever waits for one batch to end."""
    return f"batch:{batch_id}"


async def insert(tx: Tx, scope: Scope, batch: Batch) -> None:
    """Write a batch; its items follow in the same transaction."""
    del scope
    await tx.execute(sa.insert(batches).values({name: getattr(batch, name) for name in batch.__struct_fields__}))


async def freeze(tx: Tx, visible: Scope, batch: Batch, selection: Selection) -> int:
    """Write the items of a selection, within `visible`; returns how many. Ids that are not there become failed items.

    Nothing is read into this process: what is chosen is chosen at one moment, by one statement.
    """
    if selection.certificate_ids:
        await _insert_named(tx, batch, selection)
        await _judge_named(tx, visible, batch, selection)
    else:
        chosen = (
            sa.select(certificates.c.id).where(in_scope(visible), *_narrow(tx, selection)).order_by(None).subquery()
        )
        rows = sa.select(
            sa.literal(batch.tenant_id),
            sa.literal(batch.id),
            sa.func.row_number().over(order_by=chosen.c.id),
            chosen.c.id,
            sa.literal(str(ItemStatus.PENDING)),
            sa.literal([], type_=batch_items.c.job_ids.type),
        )
        columns = ["tenant_id", "batch_id", "seq", "certificate_id", "status", "job_ids"]
        await tx.execute(sa.insert(batch_items).from_select(columns, rows))
    counts = await _count_items(tx, batch)
    totals = {"total": sum(counts.values()), "skipped": counts.get("skipped", 0), "failed": counts.get("failed", 0)}
    await tx.execute(sa.update(batches).where(_is(batch)).values(totals))
    return totals["total"]


async def _insert_named(tx: Tx, batch: Batch, selection: Selection) -> None:
    ids = list(dict.fromkeys(selection.certificate_ids))
    rows = [
        {
            "tenant_id": batch.tenant_id,
            "batch_id": batch.id,
            "seq": number,
            "certificate_id": certificate_id,
            "status": ItemStatus.PENDING,
            "job_ids": [],
        }
        for number, certificate_id in enumerate(ids, 1)
    ]
    for start in range(0, len(rows), _ROWS_A_STATEMENT):
        await tx.execute(sa.insert(batch_items), rows[start : start + _ROWS_A_STATEMENT])


async def _judge_named(tx: Tx, visible: Scope, batch: Batch, selection: Selection) -> None:
    """Ids that nobody of this scope knows fail at once, exactly as ids that exist nowhere do."""
    mine = sa.and_(batch_items.c.tenant_id == batch.tenant_id, batch_items.c.batch_id == batch.id)
    seen = sa.select(certificates.c.id).where(in_scope(visible))
    missed = {
        "status": ItemStatus.FAILED,
        "error_kind": NotFound.code,
        "reason": sa.literal("no certificate ") + batch_items.c.certificate_id,
        "ended_at": batch.created_at,
    }
    await tx.execute(sa.update(batch_items).where(mine, batch_items.c.certificate_id.not_in(seen)).values(missed))
    conditions = _narrow(tx, selection)
    if conditions:
        kept = sa.select(certificates.c.id).where(in_scope(visible), *conditions)
        left = {
            "status": ItemStatus.SKIPPED,
            "error_kind": "not_selected",
            "reason": "the other conditions of the selection do not hold for it",
            "ended_at": batch.created_at,
        }
        pending = batch_items.c.status == ItemStatus.PENDING
        await tx.execute(
            sa.update(batch_items).where(mine, pending, batch_items.c.certificate_id.not_in(kept)).values(left)
        )


def _narrow(tx: Tx, selection: Selection) -> list[sa.ColumnElement[bool]]:
    c = certificates.c
    plain = {
        c.environment: selection.environment,
        c.owner_id: selection.owner_id,
        c.team_id: selection.team_id,
        c.issuer_id: selection.issuer_id,
        c.certificate_profile_id: selection.profile_id,
    }
    conditions: list[sa.ColumnElement[bool]] = [column == value for column, value in plain.items() if value]
    folded = {c.status: selection.status, c.source: selection.source}
    conditions.extend(sa.func.lower(column) == value.lower() for column, value in folded.items() if value)
    if selection.expires_before is not None:
        conditions.append(c.expires_at < selection.expires_before)
    if selection.agent_id:
        mapping, targets = schema.certificate_targets, schema.targets
        mapped = (
            sa.select(mapping.c.certificate_id)
            .join(targets, sa.and_(targets.c.tenant_id == mapping.c.tenant_id, targets.c.id == mapping.c.target_id))
            .where(targets.c.agent_id == selection.agent_id, mapping.c.tenant_id == c.tenant_id)
        )
        conditions.append(c.id.in_(mapped))
    conditions.extend(_has_tag(tx, name, value) for name, value in selection.tags.items())
    return conditions


def _has_tag(tx: Tx, name: str, value: str) -> sa.ColumnElement[bool]:
    """Name and value are bound, never part of a path: a tag may be called anything."""
    if tx.dialect == "postgresql":
        return sa.cast(certificates.c.tags, JSONB).contains({name: value})
    each = sa.func.json_each(certificates.c.tags).table_valued("key", "value", name="tag")
    return sa.exists(sa.select(sa.literal(1)).select_from(each).where(each.c.key == name, each.c.value == value))


async def _count_items(tx: Tx, batch: Batch) -> dict[str, int]:
    rows = await tx.execute(
        sa.select(batch_items.c.status, sa.func.count().label("number"))
        .where(batch_items.c.tenant_id == batch.tenant_id, batch_items.c.batch_id == batch.id)
        .group_by(batch_items.c.status)
    )
    return {row.status: row.number for row in rows}


async def claim(
    tx: Tx, scope: Scope, *, owner: str, lease: timedelta, now: datetime, batch_id: str | None = None
) -> Batch | None:
    """Lease the running batch that has waited longest for its turn (or one by id); None when there is none."""
    due = sa.select(batches.c.id).where(_free(scope, now))
    if batch_id is not None:
        due = due.where(batches.c.id == batch_id)
    due = due.order_by(batches.c.run_at, batches.c.id).limit(1).with_for_update(skip_locked=True)
    leased = (
        sa.update(batches)
        # `=`, not IN: PostgreSQL may run the subquery of an IN once a row, and then it leases more than one
        .where(batches.c.tenant_id == scope.tenant_id, batches.c.id == due.scalar_subquery(), _free(scope, now))
        .values(lease_owner=owner, lease_until=now + lease, fence=batches.c.fence + 1)
        .returning(*batches.c)
    )
    return await tx.one(Batch, leased)


async def has_due(tx: Tx, scope: Scope, now: datetime) -> bool:
    """Whether a running batch waits for a worker: a look that locks nothing."""
    return await tx.scalar(sa.select(batches.c.id).where(_free(scope, now)).limit(1)) is not None


def _free(scope: Scope, now: datetime) -> sa.ColumnElement[bool]:
    return sa.and_(
        batches.c.tenant_id == scope.tenant_id,
        batches.c.status == BatchStatus.RUNNING,
        sa.or_(batches.c.lease_until.is_(None), batches.c.lease_until <= now),
        batches.c.run_at <= now,
    )


async def release(tx: Tx, scope: Scope, batch: Batch, run_at: datetime) -> None:
    """Give a leased batch back, to have its next turn from `run_at` on; nothing happens under a stale fence."""
    del scope
    await tx.execute(sa.update(batches).where(_held(batch)).values(lease_owner="", lease_until=None, run_at=run_at))
    tx.wake(CHANNEL)


async def release_of_earlier_boots(tx: Tx, scope: Scope, owner_prefix: str, owner: str) -> int:
    """Give back what earlier runs of the only server process still hold; returns how many."""
    released = await tx.execute(
        sa.update(batches)
        .where(
            batches.c.tenant_id == scope.tenant_id,
            batches.c.status == BatchStatus.RUNNING,
            batches.c.lease_owner.startswith(owner_prefix, autoescape=True),
            batches.c.lease_owner != owner,
        )
        .values(lease_owner="", lease_until=None)
    )
    return released.rowcount


async def hold(tx: Tx, scope: Scope, batch: Batch, until: datetime) -> None:
    """Push the lease's end and lock the batch for this transaction; StaleFence when it has passed on or ended."""
    del scope
    held = await tx.execute(sa.update(batches).where(_held(batch)).values(lease_until=until))
    if held.rowcount != 1:
        raise StaleFence("this batch has passed to another worker, or has ended; its result is not taken")


async def pending_items(tx: Tx, scope: Scope, batch: Batch, limit: int) -> list[BatchItem]:
    """The next items that nobody has come to."""
    del scope
    return await tx.all(
        BatchItem,
        sa.select(batch_items)
        .where(
            batch_items.c.tenant_id == batch.tenant_id,
            batch_items.c.batch_id == batch.id,
            batch_items.c.status == ItemStatus.PENDING,
        )
        .order_by(batch_items.c.seq)
        .limit(limit),
    )


class Ended(Struct, frozen=True):
    """What became of an item."""

    item: BatchItem
    status: ItemStatus
    reason: str = ""
    error_kind: str = ""
    job_ids: list[str] = []


async def end_items(tx: Tx, scope: Scope, ended: Sequence[Ended], now: datetime) -> None:
    """Write what became of items of one batch, each once, and count them; the caller holds the batch. StaleFence when
    one of them is written.
    """
    first, i = ended[0].item, batch_items.c
    mine = {
        i.tenant_id.name: scope.tenant_id,
        i.batch_id.name: first.batch_id,
        i.status.name: ItemStatus.PENDING,
    }
    rows = [
        {
            "item_seq": one.item.seq,
            "status": one.status,
            "reason": one.reason,
            "error_kind": one.error_kind,
            "job_ids": one.job_ids,
        }
        for one in ended
    ]
    match = {"item_seq": i.seq.name}
    if await arrays.update(tx, batch_items, rows, match=match, alike={"ended_at": now}, where=mine) != len(ended):
        raise StaleFence("some of these items have their results already")
    counted = Counter(str(one.status) for one in ended)
    totals = {name: batches.c[name] + number for name, number in counted.items()}
    await tx.execute(
        sa.update(batches)
        .where(batches.c.tenant_id == scope.tenant_id, batches.c.id == first.batch_id)
        .values(totals | {"updated_at": now})
    )


async def end(
    tx: Tx,
    scope: Scope,
    batch_id: str,
    status: BatchStatus,
    now: datetime,
    *,
    reason: str = "",
    fence: int | None = None,
) -> None:
    """Guarded end of a running batch (of this fence, when given); Conflict when it has ended."""
    where = [
        batches.c.tenant_id == scope.tenant_id,
        batches.c.id == batch_id,
        batches.c.status == BatchStatus.RUNNING,
    ]
    if fence is not None:
        where.append(batches.c.fence == fence)
    changes = {"status": status, "status_reason": reason, "ended_at": now, "updated_at": now}
    ended = await tx.execute(
        sa.update(batches).where(*where).values(changes | {"lease_owner": "", "lease_until": None})
    )
    if ended.rowcount != 1:
        raise Conflict(f"batch {batch_id} has ended, or has passed to another worker")
    tx.wake(batch_channel(batch_id))


async def resume(tx: Tx, scope: Scope, batch_id: str, max_failures: int | None, now: datetime) -> None:
    """A halted batch runs again, until more than `max_failures` have failed; Conflict when it is not halted."""
    mine = (batches.c.tenant_id == scope.tenant_id, batches.c.id == batch_id, batches.c.status == BatchStatus.HALTED)
    running = {"status": BatchStatus.RUNNING, "status_reason": "", "ended_at": None, "run_at": now, "updated_at": now}
    resumed = await tx.execute(sa.update(batches).where(*mine).values(running | {"max_failures": max_failures}))
    if resumed.rowcount != 1:
        raise Conflict(f"batch {batch_id} is not halted: there is nothing to resume")
    tx.wake(CHANNEL)


async def wave_ended_at(tx: Tx, scope: Scope, batch: Batch, wave: int) -> datetime | None:
    """When the last item of a wave got its result."""
    i, first = batch_items.c, wave * batch.wave_size
    mine = (i.tenant_id == scope.tenant_id, i.batch_id == batch.id, i.seq > first, i.seq <= first + batch.wave_size)
    found: datetime | None = await tx.scalar(sa.select(sa.func.max(i.ended_at)).where(*mine))
    return found


async def progress(tx: Tx, scope: Scope, batch_id: str) -> dict[str, dict[str, int]]:
    """How far the jobs have come that a batch has begun, and those that these began: type -> status -> how many."""
    made, next_ones = schema.jobs.alias("made"), schema.jobs.alias("next_ones")
    of_it = sa.and_(made.c.tenant_id == scope.tenant_id, made.c.parent_id == batch_id)
    beneath = sa.and_(next_ones.c.tenant_id == made.c.tenant_id, next_ones.c.parent_id == made.c.id)
    looks = (
        sa.select(made.c.type, made.c.status, sa.func.count().label("number"))
        .where(of_it)
        .group_by(made.c.type, made.c.status),
        sa.select(next_ones.c.type, next_ones.c.status, sa.func.count().label("number"))
        .select_from(made.join(next_ones, beneath))
        .where(of_it)
        .group_by(next_ones.c.type, next_ones.c.status),
    )
    found: dict[str, dict[str, int]] = {}
    for look in looks:
        for row in await tx.execute(look):
            found.setdefault(row.type, {})[row.status] = row.number
    return found


async def batch(tx: Tx, scope: Scope, batch_id: str, *, key: str = "", requested_by: str = "") -> Batch:
    """One batch that this scope may look at; NotFound otherwise."""
    found = await tx.one(Batch, sa.select(batches).where(shown_to(scope, key, requested_by), batches.c.id == batch_id))
    if found is None:
        raise NotFound(f"no batch {batch_id}")
    return found


async def items(tx: Tx, scope: Scope, batch_id: str, after: int, limit: int) -> list[BatchItem]:
    """A batch's items behind one, in order; the caller has seen to it that the batch may be looked at."""
    where = (batch_items.c.tenant_id == scope.tenant_id, batch_items.c.batch_id == batch_id, batch_items.c.seq > after)
    return await tx.all(BatchItem, sa.select(batch_items).where(*where).order_by(batch_items.c.seq).limit(limit))


async def purge(tx: Tx, scope: Scope, before: datetime, limit: int) -> int:
    """Delete the items, at most `limit`, of batches that ended before that moment, and the batches that have none left;
    how many rows.
    """
    c, i = batches.c, batch_items.c
    over = sa.and_(
        c.tenant_id == scope.tenant_id,
        c.created_at < before,  # the index that there is
        c.status != BatchStatus.RUNNING,
        c.ended_at < before,
    )
    old = sa.select(i.batch_id, i.seq).where(
        i.tenant_id == scope.tenant_id, i.batch_id.in_(sa.select(c.id).where(over))
    )
    pair = sa.tuple_(i.batch_id, i.seq)
    gone = await tx.execute(sa.delete(batch_items).where(i.tenant_id == scope.tenant_id, pair.in_(old.limit(limit))))
    left = sa.select(sa.literal(1)).where(i.tenant_id == c.tenant_id, i.batch_id == c.id).exists()
    ended = await tx.execute(sa.delete(batches).where(over, ~left))
    return int(gone.rowcount) + int(ended.rowcount)


def shown_to(scope: Scope, key: str, requested_by: str) -> sa.ColumnElement[bool]:
    """Who sees a batch: everybody without limits, whoever has just its limits, and who asked for it."""
    in_tenant = batches.c.tenant_id == scope.tenant_id
    if scope == Scope.whole(scope.tenant_id):
        return in_tenant
    return sa.and_(in_tenant, sa.or_(batches.c.scope_key == key, batches.c.requested_by == requested_by))


def _is(batch: Batch) -> sa.ColumnElement[bool]:
    return sa.and_(batches.c.tenant_id == batch.tenant_id, batches.c.id == batch.id)


def _held(batch: Batch) -> sa.ColumnElement[bool]:
    return sa.and_(_is(batch), batches.c.fence == batch.fence, batches.c.status == BatchStatus.RUNNING)

"""Retention of the audit log, on both databases: what is old goes block by block, and every proof of what was and is holds on.

Dropped is only what is sealed, verified and pushed; dying half way leaves a part there or gone; who calls a deletion pruning is found.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
import sqlalchemy as sa

from certctl.client.sealed import NotIntact, verify_export
from certctl.control import approvals, audit, audit_pruning, breakglass
from certctl.core.actor import SYSTEM, Actor, ActorType
from certctl.core.errors import TrustError
from certctl.core.events import Event, EventType
from certctl.ledger import append
from certctl.pki import merkle
from certctl.pki.checkpoint import open_checkpoint
from certctl.store import audit_receivers, audit_tree
from certctl.store.schema import audit_blocks, audit_leaves, events
from certctl.store.schema import audit_tree as trees
from certctl.telemetry import points
from integration.api_house import open_api
from integration.test_audit_seal import export, happen, verified

MONTH = timedelta(days=30)


class Died(BaseException):
    """The process is gone."""


@pytest.fixture
async def api(tmp_path, database_url):
    async with open_api(tmp_path / "data", database_url) as made:
        yield made


async def aged(api, old: int = 600, young: int = 300) -> None:
    """So many events of forty days ago, and of now; all of it verified."""
    await happen(api, old)
    await audit.seal_all(api.house.ctx)
    api.clock.moment += timedelta(days=40)
    await happen(api, young, "young")
    assert (await verified(api))["intact"] is True


async def prune(api, receivers=(), **more) -> audit_pruning.Pruned:
    return await audit_pruning.prune(api.house.ctx, MONTH, receivers, **more)


async def count(api, table: sa.Table) -> int:
    async with api.house.database.read() as tx:
        return int(await tx.scalar(sa.select(sa.func.count()).select_from(table)))


async def test_what_is_kept_is_proved_and_what_was_is_told(api):
    await happen(api, 120)
    await audit.seal_all(api.house.ctx)
    early = await api.get("/api/v1/audit/seal")
    await happen(api, 480)
    taken = await export(api)
    middle = await api.get("/api/v1/audit/seal")
    api.clock.moment += timedelta(days=40)
    await happen(api, 300, "young")
    assert (await prune(api)).waits == "the next events are not verified yet, or too few"
    assert (await verified(api))["intact"] is True
    before = (await count(api, events), await count(api, audit_leaves))
    tried = await prune(api, dry_run=True)
    assert (tried.start, tried.end) == (0, 512)
    assert (await count(api, events), await count(api, audit_leaves)) == before
    done = await prune(api)
    assert (done.start, done.end) == (0, 512)
    assert "are not all older than 30 days" in done.waits
    assert (await count(api, events), await count(api, audit_leaves)) == (before[0] - 512 + 1, before[1] - 512)
    assert (await prune(api)).end == 512
    (told,) = [row["details"] for row in await api.events("audit_pruned")]
    assert (told["start"], told["end"], told["kept"]) == (0, 512, "30 days, 0:00:00")
    # the server's own verification, whole and of what is new
    found = await verified(api)
    assert (found["intact"], found["pruned"]) == (True, 512)
    await happen(api, 10, "newer")
    await audit.seal_all(api.house.ctx)
    await audit.verify_due(api.house.ctx, timedelta(days=365))
    stands = await api.get("/api/v1/audit/seal")
    assert (stands["pruned_size"], stands["broken_at"]) == (512, None)
    assert stands["verified_size"] == stands["size"]
    key = stands["verifier_key"]
    # an export of then holds, and its head leads to today's
    assert verify_export(taken, key, [early["checkpoint"], middle["checkpoint"]]).end == middle["size"]
    today = open_checkpoint(stands["checkpoint"], key)
    for first in (1, 100, early["size"], 511, 512, 513, middle["size"]):
        proof = await api.get(f"/api/v1/audit/consistency?first={first}&second={today.size}")
        hashes = [bytes.fromhex(one) for one in proof["proof"]]
        root = bytes.fromhex(proof["first_root"])
        assert merkle.proves_consistency(first, today.size, root, today.root, hashes), first
    assert bytes.fromhex(proof["first_root"]) == open_checkpoint(middle["checkpoint"], key).root
    # what is kept is exported and proved, against heads of before the pruning too
    lines = await export(api)
    kept = verify_export(lines, key, [middle["checkpoint"], stands["checkpoint"]])
    assert (kept.start, len(lines)) == (512, kept.end - 512 + 1)
    with pytest.raises(NotIntact, match=f"certctl audit consistency {early['size']}"):
        verify_export(lines, key, [early["checkpoint"]])
    young = (await api.get("/api/v1/audit?resource_id=young-3"))["data"][0]["id"]
    path = await api.get(f"/api/v1/audit/{young}/proof")
    head = open_checkpoint(path["checkpoint"], key)
    steps = [bytes.fromhex(one) for one in path["path"]]
    leaf = bytes.fromhex(path["leaf_hash"])
    assert merkle.proves_inclusion(leaf, path["leaf_index"], head.size, steps, head.root)


async def test_it_dies_at_any_moment_and_goes_on(api, monkeypatch):
    await aged(api)
    monkeypatch.setattr(audit_pruning, "_PART", 256)
    for point, times, left in (("before", 1, 0), ("after", 1, 256), ("before", 1, 256), ("after", 1, 512)):
        reached = []

        def hook(name: str, wanted=f"commit.audit.prune.{point}", reached=reached, times=times) -> None:
            if name == wanted:
                reached.append(name)
                if len(reached) == times:
                    raise Died

        with monkeypatch.context() as patched:
            patched.setattr(points, "hook", hook)
            with pytest.raises(Died):
                await prune(api)
        assert (await api.get("/api/v1/audit/seal"))["pruned_size"] == left
        found = await verified(api)
        assert (found["intact"], found["pruned"]) == (True, left)
    assert (await prune(api)).end == 512
    assert [row["details"]["end"] for row in await api.events("audit_pruned")] == [256, 512]


async def change_a_hash(tx):
    packed = (await tx.execute(sa.select(audit_blocks.c.hashes).where(audit_blocks.c.position == 1))).scalar()
    changed = sa.update(audit_blocks).where(audit_blocks.c.position == 1)
    await tx.execute(changed.values(hashes=b"x" + bytes(packed)[1:]))


async def drop_a_block(tx):
    await tx.execute(sa.delete(audit_blocks).where(audit_blocks.c.position == 1))


async def edit_what_is_kept(tx):
    await tx.execute(sa.update(events).where(events.c.subject_id == "young-1").values(actor="x"))


async def delete_and_call_it_pruned(tx):
    leaves = sa.select(audit_leaves.c.seq, audit_leaves.c.hash).where(audit_leaves.c.leaf_index < 768)
    rows = (await tx.execute(leaves.order_by(audit_leaves.c.leaf_index))).all()
    assert len(rows) == 256
    block = {"tenant_id": "t-default", "position": 2, "hashes": b"".join(bytes(row.hash) for row in rows)}
    await tx.execute(sa.insert(audit_blocks), [block])
    await tx.execute(sa.delete(events).where(events.c.seq.in_([row.seq for row in rows])))
    await tx.execute(sa.delete(audit_leaves).where(audit_leaves.c.leaf_index < 768))
    await tx.execute(sa.update(trees).values(pruned_size=768))


async def bring_one_back(tx):
    row = dict((await tx.execute(sa.select(events).where(events.c.subject_id == "young-1"))).mappings().one())
    await tx.execute(sa.insert(events).values(row | {"seq": 7, "id": "audit-back", "transaction_id": 0}))


TABLES = (events, audit_leaves, audit_blocks, trees)


async def test_what_is_done_to_the_log_after_a_pruning_is_found(api):
    await aged(api)
    assert (await prune(api)).end == 512
    await audit.seal_all(api.house.ctx)
    async with api.house.database.engine.connect() as connection:
        kept = [[dict(row) for row in (await connection.execute(sa.select(each))).mappings()] for each in TABLES]
    for tamper, where in (
        (change_a_hash, {511}),
        (drop_a_block, {0, 256}),
        (edit_what_is_kept, set(range(600, 700))),
        (delete_and_call_it_pruned, {767}),
        (bring_one_back, set(range(900, 1000))),
    ):
        async with api.house.database.engine.begin() as connection:
            await tamper(connection)
        found = await verified(api)
        assert (found["intact"], found["broken_at"] in where) == (False, True), (tamper.__name__, found)
        assert (await prune(api)).waits == "the seal is broken: what might be evidence stays"
        async with api.house.database.engine.begin() as connection:
            for table, rows in zip(TABLES, kept, strict=True):
                await connection.execute(sa.delete(table))
                await connection.execute(sa.insert(table), rows)
        assert (await verified(api))["intact"] is True, f"after {tamper.__name__}"


async def test_only_what_holds_and_is_with_every_receiver_goes(api):
    ctx = api.house.ctx
    await aged(api)
    assert (await prune(api, ["syslog"])).waits == "the receiver syslog does not have all of it yet"
    async with api.house.database.begin("test") as tx:
        await audit_receivers.begin(tx, ctx.scope, "syslog", ctx.now())
        cursor = await audit_receivers.read(tx, ctx.scope, "syslog")
        at = [each.event for each in await audit_tree.leaves(tx, ctx.scope, 0, 512)]
        await audit_receivers.advance(tx, ctx.scope, cursor, (at[-2].transaction_id, at[-2].seq), 0, 511, ctx.now())
    assert (await prune(api, ["syslog"])).end == 0, "one event is not there yet"
    async with api.house.database.begin("test") as tx:
        cursor = await audit_receivers.read(tx, ctx.scope, "syslog")
        await audit_receivers.advance(tx, ctx.scope, cursor, (at[-1].transaction_id, at[-1].seq), 0, 1, ctx.now())
        await tx.execute(sa.update(events).where(events.c.seq == at[100].seq).values(actor="somebody-else"))
    with pytest.raises(TrustError, match=r"entry 100 of the audit log"):
        await prune(api, ["syslog"])
    assert await count(api, audit_blocks) == 0
    async with api.house.database.begin("test") as tx:
        await tx.execute(sa.update(events).where(events.c.seq == at[100].seq).values(actor=at[100].actor))
    # verified meanwhile, it never reads broken
    looked, done = await asyncio.gather(audit.verify_all(ctx), prune(api, ["syslog"]))
    assert (looked.broken, done.end) == (None, 512)


async def test_who_set_a_break_glass_password_is_known_for_ever(api):
    ctx = api.house.ctx
    mallory = Actor("mallory", ActorType.USER, "req-1", "192.0.2.1")
    told = Event(
        type=EventType.CONFIG_UPDATED,
        subject_type=breakglass.SUBJECT,
        subject_id="bob",
        actor=mallory,
        details={"fields": [breakglass.PASSWORD]},
    )
    async with api.house.database.begin("test") as tx:
        await append(tx, ctx.scope, ctx.now(), told)
    asked_at = ctx.now()
    await aged(api, 300, 10)
    async with api.house.database.read() as tx:
        known = await approvals.holder(tx, ctx, "bob", asked_at)
    assert "mallory" in known.known_to
    assert (await prune(api)).end == 256
    assert await api.events("config_updated") == []
    async with api.house.database.read() as tx:
        assert await approvals.holder(tx, ctx, "bob", asked_at) == known
        assert "mallory" not in (await approvals.holder(tx, ctx, "bob", asked_at - timedelta(seconds=1))).known_to
    assert SYSTEM.id not in known.known_to

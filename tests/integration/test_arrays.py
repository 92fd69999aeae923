"""Rows written as arrays are the rows that were given; what only writes is one statement and one commit, or nothing."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from certctl import ledger
from certctl.core.actor import SYSTEM
from certctl.core.events import Event, EventType, Notice
from certctl.core.scope import Scope
from certctl.core.status import CertificateStatus, JobStatus, JobType, VersionStatus
from certctl.store import arrays, audit, migrate, schema, statistics
from certctl.store.schema.columns import UtcTime
from certctl.store.tx import Database
from certctl.telemetry import metrics

SCOPE = Scope.whole("t-default")
NOW = datetime(2026, 11, 27, 3, 0, 0, 123456, tzinfo=UTC)
TEXTS = ["", "plain", "{a,b}", 'a "quoted" \\ back', "NULL", "ü€𝄞\n\t$1", "'; --"]
# what a table's own rules allow there
ALLOWED = {
    "managed_certificates": {"status": str(CertificateStatus.ACTIVE)},
    "certificate_versions": {"status": str(VersionStatus.CURRENT)},
    "notification_events": {"status": "pending"},
    "certificate_names": {"kind": "san"},
    "jobs": {"status": str(JobStatus.COMPLETED), "type": str(JobType.REVOCATION)},
}
TABLES = [
    schema.certificates,
    schema.versions,
    schema.jobs,
    schema.notifications,
    schema.revocations,
    schema.certificate_names,
]


@pytest.fixture
async def database(database_url):
    made = Database(database_url)
    await migrate.migrate(made)
    yield made
    await made.close()


def value(column: sa.Column, number: int, texts: itertools.cycle):
    if column.nullable and number % 2:
        return None
    if isinstance(column.type, sa.JSON):
        return [{"a": [1, None, next(texts)], "{b}": {}}, [], [next(texts)], {}][number % 4]
    if isinstance(column.type, UtcTime):
        return NOW
    if isinstance(column.type, sa.LargeBinary):
        return bytes([0, 255, number])
    if isinstance(column.type, sa.Boolean):
        return number % 2 == 0
    if isinstance(column.type, sa.Float):
        return number + 0.5
    if isinstance(column.type, sa.Integer):
        return number
    return f"{column.name}-{number}" if column.primary_key or column.unique else f"{number}{next(texts)}"


async def test_each_row_is_there_as_it_was_given(database):
    texts = itertools.cycle(TEXTS)
    given = {
        table: [
            {column.name: value(column, number, texts) for column in table.c} | ALLOWED.get(table.name, {})
            for number in range(8)
        ]
        for table in TABLES
    }
    async with database.begin("test") as tx:
        for part in (slice(5), slice(5, None), slice(0)):
            for table, rows in given.items():
                await arrays.insert(tx, table, rows[part])
    async with database.read() as tx:
        for table, rows in given.items():
            found = [dict(row) for row in (await tx.execute(sa.select(table))).mappings()]
            assert sorted(found, key=repr) == sorted(rows, key=repr), table.name
    await refuses(database)


async def refuses(database):
    """What is too long or twice is refused, not cut; then nothing of it is there."""
    async with database.begin("test") as tx:
        await tx.execute(sa.delete(schema.certificate_names))
    row = {"tenant_id": "t-default", "certificate_id": "c", "kind": "san", "value": "a", "reversed": "a"}
    async with database.begin("test") as tx:
        await arrays.insert(tx, schema.certificate_names, [row])
    for once in (True, False):
        try:
            async with database.begin("test") as tx:
                await arrays.insert(tx, schema.certificate_names, [row, row | {"value": "b"}], once=once)
        except sa.exc.IntegrityError:
            assert not once
        else:
            assert once
    if database.dialect == "postgresql":  # SQLite has no longest
        with pytest.raises(sa.exc.DBAPIError):
            async with database.begin("test") as tx:
                await arrays.insert(tx, schema.certificate_names, [row | {"certificate_id": "c" * 141}])
    with pytest.raises((ValueError, sa.exc.StatementError), match="naive"):
        async with database.begin("test") as tx:
            naive = [{column.name: None for column in schema.jobs.c} | {"created_at": NOW.replace(tzinfo=None)}]
            await arrays.insert(tx, schema.jobs, naive)
    async with database.read() as tx:
        assert await tx.scalar(sa.select(sa.func.count()).select_from(schema.certificate_names)) == 2


async def test_rows_are_changed_each_in_its_own_way_and_only_those_that_are_as_expected(database):
    texts, table = itertools.cycle(TEXTS), schema.jobs
    given = [{column.name: value(column, number, texts) for column in table.c} | ALLOWED["jobs"] for number in range(6)]
    for number, row in enumerate(given):
        row |= {"tenant_id": "t-default", "id": f"job-{number}", "idempotency_key": f"key-{number}", "attempts": 4}
    given[4]["status"] = str(JobStatus.FAILED)
    async with database.begin("test") as tx:
        assert await arrays.insert_once(tx, table, given[:4]) == {f"job-{number}" for number in range(4)}
        assert await arrays.insert_once(tx, table, given[2:]) == {"job-4", "job-5"}, "those that stand already stay"
        assert await arrays.insert_once(tx, table, []) == set()

    async def changed(rows, **more) -> int:
        async with database.begin("test") as tx:
            return await arrays.update(
                tx,
                table,
                rows,
                match={"row_id": "id", "expected": "attempts"},
                alike={"completed_at": NOW, "last_error": "'; --"},
                where={"tenant_id": "t-default"},
                grows=("max_attempts",),
                **more,
            )

    bodies = {f"job-{number}": {"a": [next(texts), None], "n": number} for number in range(6)}
    wanted = [{"row_id": name, "expected": 4, "body": body} for name, body in bodies.items()]
    wanted[1]["expected"] = 3
    assert await changed(wanted, only="status IN ('Completed')") == 4, (
        "neither one in another status nor one that moved"
    )
    assert await changed([]) == 0
    async with database.read() as tx:
        found = {row["id"]: dict(row) for row in (await tx.execute(sa.select(table))).mappings()}
    for number, before in enumerate(given):
        after = {"completed_at": NOW, "last_error": "'; --", "body": bodies[before["id"]]}
        after["max_attempts"] = before["max_attempts"] + 1
        assert found[before["id"]] == (before if number in (1, 4) else before | after), number


def told(name: str) -> Event:
    return Event(type=EventType.CALL_DENIED, subject_type="call", subject_id=name, actor=SYSTEM, details={"it": name})


def notice(name: str) -> Notice:
    return Notice(type="Revocation", certificate_id=name, severity="critical", message=name, dedup_key=name)


async def test_all_that_a_transaction_only_writes_goes_in_one_statement(database):
    said: list[str] = []
    sa.event.listen(database.engine.sync_engine, "before_cursor_execute", lambda *given: said.append(given[2]))
    names = [f"e{number}" for number in range(20)]

    async def write(asks: bool) -> None:
        async with database.begin("test") as tx:
            for name in names:
                await ledger.append(tx, SCOPE, NOW, told(name))
            await ledger.notify_all(tx, SCOPE, NOW, [notice("a"), notice("b")])
            if asks:
                assert await tx.scalar(sa.select(sa.func.count()).select_from(schema.notifications)) == 2, (
                    "it sees them"
                )
            await ledger.append(tx, SCOPE, NOW, told("last"))
            await ledger.notify_all(tx, SCOPE, NOW, [notice("a"), notice("c")])
            tx.count(SCOPE.tenant_id, metrics.AUDIT_VERIFY_TOTAL)
            if asks:
                raise LookupError

    with pytest.raises(LookupError):
        await write(asks=True)
    said.clear()
    await write(asks=False)
    assert len(said) == (1 if database.dialect == "postgresql" else len(said)), said
    async with database.read() as tx:
        log = await audit.events_after(tx, SCOPE, (0, 0), 100)
        assert [row.subject_id for row in log] == [*names, "last"], "in the order in which it was told, and once"
        assert len({row.transaction_id for row in log}) == 1
        keys = set((await tx.execute(sa.select(schema.notifications.c.dedup_key))).scalars())
        assert keys == {"a", "b", "c"}
        assert await tx.scalar(sa.text("SELECT count(*) FROM counter_deltas")) == 1


async def test_a_table_that_was_filled_is_looked_at_before_autovacuum_comes(database):
    one = {"tenant_id": "t-default", "kind": "san", "value": "some.name.example", "reversed": "elpmaxe.eman.emos"}
    rows = [one | {"certificate_id": f"cert-{number}"} for number in range(6_000)]
    async with database.begin("test") as tx:
        await arrays.insert(tx, schema.certificate_names, rows)
    believed = sa.text("SELECT reltuples FROM pg_class WHERE relname = 'certificate_names'")
    async with asyncio.timeout(60):
        while True:
            looked_at = await statistics.keep_up(database, SCOPE)
            if database.dialect == "sqlite":
                assert looked_at == []
                return
            assert set(looked_at) <= {"certificate_names"}
            async with database.read() as tx:
                if await tx.scalar(believed) == len(rows):
                    break
    assert await statistics.keep_up(database, SCOPE) == [], "until it has grown several times over"

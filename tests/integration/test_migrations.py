"""The tables are exactly what the code says they are, made by Alembic alone, on both databases."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from certctl.core.errors import Misconfigured, Temporary
from certctl.store import migrate
from certctl.store.migrations.floor import raise_floor
from certctl.store.postgres import Connector
from certctl.store.schema import metadata
from certctl.store.tx import Database


async def test_migrated_tables_are_the_declared_ones(database_url):
    database = Database(database_url)
    try:
        assert await migrate.current(database) is None
        assert await migrate.migrate(database) == migrate.head()

        def differences(connection):
            return compare_metadata(MigrationContext.configure(connection), metadata)

        async with database.engine.connect() as connection:
            assert await connection.run_sync(differences) == []
    finally:
        await database.close()


async def test_many_replicas_migrate_one_empty_database_at_once(postgres_server):
    url = postgres_server.new_database()
    databases = [Database(url, max_connections=2) for _ in range(4)]
    try:
        heads = await asyncio.gather(*(migrate.migrate(database) for database in databases))
        assert set(heads) == {migrate.head()}
    finally:
        for database in databases:
            await database.close()


async def test_a_long_migration_is_waited_for_and_not_cut_short(postgres_server, monkeypatch):
    monkeypatch.setattr(migrate, "_LOCK_TIMEOUT", "100ms")
    monkeypatch.setattr(Connector.connect, "__defaults__", (2.0,))
    database = Database(postgres_server.new_database())
    try:
        async with database.migrating() as other:
            await other.execute(sa.select(sa.func.pg_advisory_xact_lock(migrate._ADVISORY_LOCK)))
            waiting = asyncio.create_task(migrate.migrate(database))
            await other.execute(sa.text("SELECT pg_sleep(3)"))
            assert not waiting.done()
        assert await waiting == migrate.head()
        with pytest.raises(Temporary):
            async with database.begin("test") as tx:
                await tx.execute(sa.text("SELECT pg_sleep(30)"))
    finally:
        await database.close()


async def test_a_large_index_is_built_beforehand_while_somebody_writes(postgres_server):
    database = Database(postgres_server.new_database())
    before = [number for number in sorted(migrate.known()) if migrate._online_after(number)][-1]
    wanted = migrate._online_after(before)

    async def valid() -> dict[str, bool]:
        async with database.read() as tx:
            rows = await tx.rows(
                "SELECT c.relname, i.indisvalid FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid "
                "WHERE c.relname = ANY($1)",
                [each.name for each in wanted],
            )
        return {row[0]: row[1] for row in rows}

    try:
        await migrate.migrate(database)
        async with database.migrating() as connection:
            await connection.run_sync(lambda sync: command.downgrade(migrate._config(sync), before))
        assert await valid() == {}
        async with database.begin("test") as tx:
            await tx.execute(sa.text("DELETE FROM managed_certificates"))  # holds the table as every writer does
            # the migration itself would wait for it, and give up: what is built beforehand is waited with, not blocked
            building = asyncio.create_task(migrate.migrate(database))
            async with asyncio.timeout(60):
                while await valid() != {wanted[0].name: False}:
                    await asyncio.sleep(0.02)
            async with database.begin("other") as other:
                await other.execute(sa.text("SET LOCAL lock_timeout = '5s'"))
                await other.execute(sa.text("DELETE FROM managed_certificates"))
            building.cancel()
            with pytest.raises(asyncio.CancelledError):
                await building
        # what was interrupted is made anew, and the migration finds it
        assert await migrate.migrate(database) == migrate.head()
        assert await valid() == {each.name: True for each in wanted}
    finally:
        await database.close()


async def test_a_database_that_a_newer_release_has_added_to_is_served(database_url):
    database = Database(database_url)
    try:
        await migrate.migrate(database)
        async with database.engine.begin() as connection:
            await connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        assert await migrate.migrate(database) == "9999", "it is not ours to change"
        assert await migrate.standing(database) == migrate.Standing("9999")
    finally:
        await database.close()


async def test_a_database_that_has_left_this_release_behind_is_refused(database_url):
    database = Database(database_url)
    try:
        await migrate.migrate(database)
        async with database.engine.begin() as connection:
            await connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
            await connection.run_sync(raise_floor, migrate.head())
        assert await migrate.migrate(database) == "9999", "the floor is one that this release knows"
        async with database.engine.begin() as connection:
            await connection.run_sync(raise_floor, "9998")
        with pytest.raises(Misconfigured, match="newer certctl"):
            await migrate.migrate(database)
    finally:
        await database.close()


async def test_every_table_puts_the_tenant_first():
    for table in metadata.tables.values():
        assert "tenant_id" in table.c, table.name
        for constraint in table.constraints:
            if isinstance(constraint, sa.UniqueConstraint):
                assert constraint.columns[0].name == "tenant_id", (table.name, constraint.name)

"""Every migration with rows in the tables: down and up again, and killed in the middle; on both databases nothing is lost."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from certctl.store import migrate, schema
from certctl.store.tx import Database
from integration.test_migrate_only import environ, run
from peers.inventory import fill

PEER = Path(__file__).resolve().parents[1] / "peers" / "dies_migrating.py"
pytestmark = pytest.mark.timeout(600)
MANY = 200
LADDER = sorted(migrate.known(), reverse=True)


class Held:
    """A database with a life in it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.database = Database(url)

    async def move(self, revision: str) -> None:
        """Up or down to a revision, by Alembic itself."""

        def go(connection: sa.Connection) -> None:
            config = migrate._config(connection)
            known = MigrationContext.configure(connection).get_current_revision()
            (command.downgrade if known and known > revision else command.upgrade)(config, revision)

        async with self.database.migrating() as connection:
            await connection.run_sync(go)

    async def contents(self) -> dict[str, dict[str, tuple[int, str]]]:
        """Of every table and column: how many values, and one hash over all of them in the order of the key."""

        def look(connection: sa.Connection) -> dict[str, dict[str, tuple[int, str]]]:
            found: dict[str, dict[str, tuple[int, str]]] = {}
            # as it is now, whatever revision that is: not as the code declares it
            tables = sa.MetaData()
            tables.reflect(connection)
            for table in tables.sorted_tables:
                if table.name != "alembic_version":
                    found[table.name] = columns_of(connection, table)
            return found

        async with self.database.engine.connect() as connection:
            return await connection.run_sync(look)

    async def found_by(self) -> set[tuple[Any, ...]]:
        """What certificates are found by, whichever of their names it is."""
        async with self.database.engine.connect() as connection:
            found = await connection.exec_driver_sql("SELECT certificate_id, value, reversed FROM certificate_names")
            return {tuple(row) for row in found}

    async def differences(self) -> list[Any]:
        def look(connection: sa.Connection) -> list[Any]:
            return compare_metadata(MigrationContext.configure(connection), schema.metadata)

        async with self.database.engine.connect() as connection:
            return await connection.run_sync(look)


def columns_of(connection: sa.Connection, table: sa.Table) -> dict[str, tuple[int, str]]:
    rows = connection.execute(sa.select(table).order_by(*table.primary_key.columns)).mappings().all()
    return {
        column.name: (len(rows), hashlib.sha256(repr([row[column.name] for row in rows]).encode()).hexdigest())
        for column in table.columns
    }


@pytest.fixture
async def held(database_url):
    made = Held(database_url)
    try:
        await migrate.migrate(made.database)
        await fill(made.database, MANY)
        yield made
    finally:
        await made.database.close()


def kept(before: dict, after: dict) -> dict:
    """What both have: a table or column that a revision takes down is empty when it comes again."""
    return {
        name: {column: told for column, told in columns.items() if column in before[name]}
        for name, columns in after.items()
        if name in before
    }


async def test_down_step_by_step_and_up_again_loses_only_what_was_taken_down(held):
    top, names = await held.contents(), await held.found_by()
    assert top["managed_certificates"]["id"][0] == MANY
    base = top
    for revision in LADDER[1:]:
        await held.move(revision)
        now = await held.contents()
        assert now == kept(now, base), f"to {revision}: what stays is untouched"
        base = now
    assert await migrate.current(held.database) == LADDER[-1]
    assert base["managed_certificates"]["id"] == top["managed_certificates"]["id"]
    assert base["certificate_versions"]["leaf_der"] == top["certificate_versions"]["leaf_der"]

    await migrate.migrate(held.database)
    assert await held.differences() == []
    again = await held.contents()
    assert kept(base, again) == base, "and comes up again as it was"
    assert await held.found_by() == names, "what revision 7 makes is made from what is there"


@pytest.mark.parametrize("after", [2, 30])
async def test_killed_in_the_middle_of_a_migration_with_data_it_goes_on_from_there(held, tmp_path, after):
    await held.move("0006")
    before = await held.contents()
    await held.database.close()
    url = held.url
    env = environ(tmp_path / "data", url if url.startswith("postgres") else "")
    if not url.startswith("postgres"):
        env["CERTCTL_DATABASE_URL"] = url
    killed = subprocess.run(
        [sys.executable, str(PEER)], env=env | {"DIE_AFTER": str(after)}, capture_output=True, timeout=300, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    held.database = Database(url)
    assert await migrate.current(held.database) == "0006"
    assert await held.contents() == before, "one transaction: all of it or nothing"
    await held.database.close()
    again = run(env, "--migrate-only")
    assert again.returncode == 0, again.stderr
    held.database = Database(url)
    assert await held.differences() == []
    now = await held.contents()
    seeded = {"installation", "issuers", "certificate_profiles", "renewal_policies"}
    for name in before.keys() - seeded:
        assert {column: now[name][column] for column in before[name]} == before[name], name


async def test_killed_in_the_middle_of_the_very_first_migration(tmp_path, database_url):
    env = environ(tmp_path / "data", database_url)
    for after in (3, 60):
        killed = subprocess.run(
            [sys.executable, str(PEER)],
            env=env | {"DIE_AFTER": str(after)},
            capture_output=True,
            timeout=300,
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert run(env, "--migrate-only").returncode == 0
    held = Held(database_url)
    try:
        assert await held.differences() == []
    finally:
        await held.database.close()

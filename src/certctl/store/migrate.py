"""Tables only by Alembic, from revision 1: run at boot, safely with several replicas starting at once.

PostgreSQL: one migrates under an advisory lock, the rest wait; `lock_timeout` keeps a migration from blocking the
fleet.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from certctl.core.errors import Misconfigured
from certctl.store.tx import Database, database_errors
from certctl.telemetry import points

_ADVISORY_LOCK = 0x63657274  # "cert"


def _config(connection: sa.Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def head() -> str:
    """The newest revision this release knows."""
    revision = ScriptDirectory.from_config(_config(None)).get_current_head()
    if revision is None:
        raise Misconfigured("no migration is packaged")
    return revision


async def current(database: Database) -> str | None:
    """The revision the database is at, or None when it is empty."""
    with database_errors():
        async with database.engine.connect() as connection:
            return await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())


async def migrate(database: Database) -> str:
    """Bring the database to the newest revision; returns it. Refuses a database from a newer release."""
    known = {script.revision for script in ScriptDirectory.from_config(_config(None)).walk_revisions()}
    present = await current(database)
    if present is not None and present not in known:
        raise Misconfigured(
            f"the database is at revision {present}, which this release does not know: it was written by a newer "
            "certctl; start that release, or restore a backup from before the upgrade"
        )
    if present == head():
        return present
    with database_errors():
        async with database.engine.begin() as connection:
            if database.dialect == "postgresql":
                await connection.execute(sa.text("SET LOCAL lock_timeout = '15s'"))
                await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
            await connection.run_sync(lambda sync: command.upgrade(_config(sync), "head"))
            points.reach("commit.migrate.before")
    points.reach("commit.migrate.after")
    return head()

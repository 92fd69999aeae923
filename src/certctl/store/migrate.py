"""Tables only by Alembic, from revision 1: run at boot, safely with several replicas starting at once.

PostgreSQL: one migrates under an advisory lock, the rest wait; `lock_timeout` keeps a migration from blocking the
fleet, and indexes of large tables are built beforehand (`store.online`). A release serves on its own schema and on
every later one, since revisions only add, until one that takes something away raises the floor: the oldest revision
whose release may still work there (ADR 8).
"""

from __future__ import annotations

import functools
import io
import re
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from msgspec import Struct

from certctl.core.errors import Misconfigured
from certctl.store import online
from certctl.store.migrations.floor import FLOOR_ROW, raise_floor
from certctl.store.online import OnlineIndex
from certctl.store.schema import installation
from certctl.store.statements import Statement
from certctl.store.tx import Database, database_errors
from certctl.telemetry import points

_ADVISORY_LOCK = 0x63657274  # "cert"
_LOCK_TIMEOUT = "15s"
_VERSIONS = "alembic_version"


def _config(connection: sa.Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


@functools.cache
def head() -> str:
    """The newest revision this release knows."""
    revision = ScriptDirectory.from_config(_config(None)).get_current_head()
    if revision is None:
        raise Misconfigured("no migration is packaged")
    return revision


async def current(database: Database) -> str | None:
    """The revision the database is at, or None when it is empty."""
    return (await standing(database)).revision


class Standing(Struct, frozen=True):
    """Where a database stands. `floor`: the oldest revision whose release may work here; empty when any may."""

    revision: str | None
    floor: str = ""


# asked at every look at readiness: by a connection of the pool, whether or not the tables are there
_TABLES = {
    "postgresql": f"SELECT to_regclass('{_VERSIONS}') IS NOT NULL, to_regclass('{installation.name}') IS NOT NULL",
    "sqlite": "SELECT "
    + ", ".join(
        f"EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '{name}')"
        for name in (_VERSIONS, installation.name)
    ),
}
_REVISION = Statement(sa.select(sa.column("version_num")).select_from(sa.table(_VERSIONS)))
_FLOOR = Statement(sa.select(installation.c.value).where(*FLOOR_ROW))


async def standing(database: Database) -> Standing:
    """The database's revision and floor."""
    async with database.read() as tx:
        ((is_versioned, is_installed),) = await tx.rows(_TABLES[tx.dialect])
        revision = await tx.scalar(_REVISION) if is_versioned else None
        floor = await tx.scalar(_FLOOR) if revision is not None and is_installed else None
    return Standing(revision, floor.decode() if floor else "")


def _standing(connection: sa.Connection) -> Standing:
    """`standing` by the connection that migrates."""
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is None or not sa.inspect(connection).has_table(installation.name):
        return Standing(revision)
    found = connection.scalar(_FLOOR.clause)
    return Standing(revision, found.decode() if found else "")


@functools.cache
def known() -> frozenset[str]:
    """Every revision this release knows."""
    return frozenset(script.revision for script in ScriptDirectory.from_config(_config(None)).walk_revisions())


def refuse_newer(found: Standing, revisions: frozenset[str]) -> None:
    """Raises Misconfigured when a release that knows these revisions may not work on the database any more."""
    if found.revision is None or found.revision in revisions:
        return
    if found.revision < max(revisions):
        raise Misconfigured(f"the database is at revision {found.revision}, which no release of certctl has written")
    if found.floor and found.floor not in revisions:
        raise Misconfigured(
            f"the database is at revision {found.revision}, which needs a release that knows {found.floor}: it "
            "was written by a newer certctl; start that release, or restore a backup from before the upgrade"
        )


async def require(database: Database) -> str:
    """The database's revision, which has to be this release's or one it may work on; Misconfigured otherwise."""
    found = await standing(database)
    refuse_newer(found, known())
    if found.revision is None or found.revision < head():
        raise Misconfigured(
            f"the database is at revision {found.revision or 'none'}, older than {head()} of this release, and "
            "CERTCTL_MIGRATIONS_VIA_HOOK leaves migrating to somebody else: run certctl-server --migrate-only first"
        )
    return found.revision


class Revision(Struct, frozen=True):
    """One migration in its own words: what it brings, whether it takes away what an older release needs, and what its
    way back loses.
    """

    revision: str
    brings: str
    takes_away: bool
    way_back: str


def revisions() -> list[Revision]:
    """Every revision of this release, the oldest first. One that takes something away raises the floor (ADR 8)."""
    found = [
        Revision(
            script.revision,
            re.sub(r"^Revision \d+: ", "", _said(script.module.__doc__)),
            hasattr(script.module, raise_floor.__name__),
            _said(script.module.downgrade.__doc__),
        )
        for script in ScriptDirectory.from_config(_config(None)).walk_revisions()
    ]
    return sorted(found, key=lambda each: each.revision)


def _said(doc: str | None) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((doc or "").strip().partition("\n\n")[0].split())


def downgrade_sql(to: str) -> str:
    """The SQL, for PostgreSQL, that takes a database from this release's revision back to `to` (`base`: to nothing)."""
    if to != "base" and to not in known():
        raise Misconfigured(f"there is no revision {to}; this release has {', '.join(sorted(known()))} and base")
    text = io.StringIO()
    config = _config(None)
    config.output_buffer = text
    command.downgrade(config, f"{head()}:{to}", sql=True)
    return text.getvalue()


def _online_after(revision: str) -> list[OnlineIndex]:
    """The large indexes that the revisions after this one ask for, in their order."""
    scripts = list(ScriptDirectory.from_config(_config(None)).iterate_revisions("head", revision))
    return [OnlineIndex(*each) for script in reversed(scripts) for each in getattr(script.module, "ONLINE", ())]


async def migrate(database: Database) -> str:
    """Bring the database to this release's newest revision, unless a newer release has brought it further; returns
    where it stands. Refuses one that has left this release behind.
    """
    found, revisions = await standing(database), known()
    refuse_newer(found, revisions)
    if found.revision is not None and (found.revision == head() or found.revision not in revisions):
        return found.revision
    if database.connector is not None and found.revision is not None:
        with database_errors():
            await online.build(database.connector, _online_after(found.revision))
    with database_errors():
        async with database.migrating() as connection:
            if database.dialect == "postgresql":
                # whoever migrates may take long, and is waited for; the tables' users are not kept waiting long by us
                await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
                await connection.execute(sa.text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"))
                # a newer release may have been faster: then its revision stands, and it is not ours to change
                found = await connection.run_sync(_standing)
                refuse_newer(found, revisions)
                if found.revision is not None and found.revision not in revisions:
                    return found.revision
            await connection.run_sync(lambda sync: command.upgrade(_config(sync), "head"))
            points.reach("commit.migrate.before")
    points.reach("commit.migrate.after")
    return head()

"""`open_house` on an empty database, at a fraction of its price: the first start of a test process is real, from the first migration
to the CA, and kept as it was left; each later one with the same settings begins from a copy of it and goes through the real start
as well, which finds everything there. A database or a data directory that holds anything is never touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import NamedTuple
from unittest import mock
from urllib.parse import urlsplit

import asyncpg

from certctl import settings as settings_module
from certctl.bootstrap import House, open_house
from certctl.core.clock import Clock
from certctl.pki import seal
from certctl.settings import Settings

_PLACES = ("CERTCTL_DATA_DIR", "CERTCTL_DATABASE_URL")
_EMPTY = "SELECT NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace)"


class _Kind(NamedTuple):
    """What makes one installation like another: its settings, its day, and for PostgreSQL the cluster."""

    cluster: str
    day: date
    environment: tuple[tuple[str, str], ...]


# the derivation of a key takes a good part of a second, and of one passphrase and one salt it is always the same
_derived = functools.cache(seal.hashlib.pbkdf2_hmac)
_made: dict[_Kind, str] = {}  # where each stands: a folder, or a database's name
_folders = tempfile.TemporaryDirectory(prefix="certctl-installed-")


@contextlib.asynccontextmanager
async def open_installed(environment: dict[str, str], clock: Clock) -> AsyncIterator[House]:
    """As `open_house` with these settings."""
    chosen = settings_module.load(environment)
    with mock.patch.object(seal.hashlib, "pbkdf2_hmac", _derived):
        if chosen.embedded:
            await _on_sqlite(chosen, environment, clock)
        else:
            await _on_postgres(chosen, environment, clock)
        async with open_house(chosen, clock) as house:
            yield house


def _kind(environment: dict[str, str], clock: Clock, cluster: str = "") -> _Kind:
    rest = {name: value for name, value in environment.items() if name not in _PLACES}
    return _Kind(cluster, clock.now().date(), tuple(sorted(rest.items())))


async def _on_sqlite(chosen: Settings, environment: dict[str, str], clock: Clock) -> None:
    path = Path(chosen.database_url.removeprefix("sqlite:///"))
    if path.exists() or (chosen.data_dir.exists() and any(chosen.data_dir.iterdir())):
        return
    kind = _kind(environment, clock)
    if kind not in _made:
        folder = Path(_folders.name) / str(len(_made))
        places = {"CERTCTL_DATA_DIR": str(folder / "data"), "CERTCTL_DATABASE_URL": f"sqlite:///{folder}/database"}
        async with open_house(settings_module.load(environment | places), clock):
            pass
        (folder / "data" / "server.lock").unlink()
        _made[kind] = str(folder)
    folder = Path(_made[kind])
    assert not list(folder.glob("database-*")), "the database was left with something beside it"
    shutil.copytree(folder / "data", chosen.data_dir, dirs_exist_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / "database", path)


async def _on_postgres(chosen: Settings, environment: dict[str, str], clock: Clock) -> None:
    where = urlsplit(chosen.database_url)
    name, cluster = where.path.removeprefix("/"), chosen.database_url.rpartition("/")[0]
    async with _connected(chosen.database_url) as connection:
        if not await connection.fetchval(_EMPTY):
            return
    kind = _kind(environment, clock, cluster)
    async with _connected(f"{cluster}/postgres") as connection:
        if kind not in _made:
            made = f"installed_{len(_made)}"
            await connection.execute(f"CREATE DATABASE {made}")
            places = {
                "CERTCTL_DATA_DIR": f"{_folders.name}/{len(_made)}",
                "CERTCTL_DATABASE_URL": f"{cluster}/{made}",
            }
            async with open_house(settings_module.load(environment | places), clock):
                pass
            await _until_left(connection, made)
            _made[kind] = made
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {_made[kind]}")


@contextlib.asynccontextmanager
async def _connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def _until_left(connection: asyncpg.Connection, name: str) -> None:
    """Nobody is connected to it any more, and nobody will be: only then can it be copied."""
    await connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    deadline = time.monotonic() + 60
    while await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE datname = $1", name):
        assert time.monotonic() < deadline, f"somebody is connected to {name}"
        await asyncio.sleep(0.02)

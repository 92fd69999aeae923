"""Reads from a real streaming standby: what it may answer and for whom, and that nobody meets an error for its sake."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest

from certctl import settings
from certctl.cli.doctor.server import check_read_standby
from certctl.core.errors import Misconfigured
from certctl.doors import reads
from certctl.store import migrate, standby
from certctl.store.standby import Reader, Standing
from certctl.store.tx import Database
from integration.api_house import Api, open_api
from integration.test_lists import make_csr
from peers.postgres import Postgres
from peers.postgres_pair import followed

CERTIFICATES = "/api/v1/certificates"


@dataclass
class Town:
    api: Api
    primary: Postgres
    standby: Postgres
    read_url: str

    @property
    def reader(self) -> Reader:
        assert self.api.house.reader is not None
        return self.api.house.reader

    def outcomes(self) -> dict[str, float]:
        """How many reads ended how, as this process's own metrics tell."""
        lines = self.api.state.figures.page().decode().splitlines()
        found = [line for line in lines if line.startswith("certctl_read_standby_reads_total{")]
        return {line.split('"')[1]: float(line.split()[-1]) for line in found}

    async def names(self, key: str) -> tuple[set[str], str]:
        """The names in the list as this caller sees it, and how the read ended."""
        before = self.outcomes()
        page = await self.api.get(f"{CERTIFICATES}?per_page=500", key=key)
        (outcome,) = [name for name, number in self.outcomes().items() if number > before[name]]
        return {row["name"] for row in page["data"]}, outcome

    async def until(self, is_so: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(60):
            while not await is_so():
                await asyncio.sleep(0.05)

    async def stands(self, standing: Standing) -> None:
        async def so() -> bool:
            return (await self.reader.look()).standing is standing

        await self.until(so)

    async def answered(self, key: str) -> None:
        """Wait until the standby answers this caller."""

        async def so() -> bool:
            return (await self.names(key))[1] == "answered"

        await self.until(so)

    async def make(self, name: str) -> None:
        body = {"name": name, "common_name": f"{name}.example.com", "csr_pem": make_csr()}
        await self.api.made(CERTIFICATES, body)


@pytest.fixture
async def town(tmp_path, monkeypatch) -> AsyncIterator[Town]:
    # neither the lag nor the patience that is put up with is a matter of this machine's speed
    monkeypatch.setattr(standby, "_LOOK_SECONDS", 60)
    monkeypatch.setattr(reads, "_PATIENCE_SECONDS", 60)
    with followed() as (primary, follower):
        url = primary.new_database()
        read_url = url.replace(str(primary.port), str(follower.port))
        more = {"CERTCTL_DATABASE_READ_URL": read_url, "CERTCTL_DATABASE_READ_LAG": "1h"}
        async with open_api(tmp_path / "data", url, **more) as api:
            yield Town(api, primary, follower, read_url)


async def test_lists_come_from_the_standby_and_nobody_meets_it(town, postgres_server, monkeypatch):
    await town.stands(Standing.USED)
    viewer = await town.api.key("r-viewer")
    await town.make("first")
    await town.answered(viewer)
    await town.answered(town.api.admin)
    await nobody_misses_what_they_did(town, viewer, monkeypatch)
    await while_it_is_down(town, viewer)
    await when_it_is_another(town, viewer, postgres_server, monkeypatch)


async def nobody_misses_what_they_did(town, viewer, monkeypatch):
    elsewhere = Reader(town.api.house.database, Database(town.read_url, takes_writes=False), timedelta(hours=1))
    await town.until(lambda: _is_used(elsewhere))
    town.standby.sql("SELECT pg_wal_replay_pause()")
    await town.make("second")
    assert await town.names(viewer) == ({"first"}, "answered"), "others' changes are shown within the lag"
    assert await town.names(town.api.admin) == ({"first", "second"}, "own_write")
    # every process knows, not only the one that made the change
    try:
        assert not await elsewhere.may_answer("t-default", "admin")
        assert await elsewhere.may_answer("t-default", "key-r-viewer-1")
    finally:
        await elsewhere.close()
    with monkeypatch.context() as impatient:
        impatient.setattr(town.reader, "_most_behind", 0.0)
        assert await town.names(viewer) == ({"first", "second"}, "not_usable"), "it is too far behind"
        assert (await town.api.get("/ready"))["read_standby"] == "behind"
    town.standby.sql("SELECT pg_wal_replay_resume()")
    await town.answered(town.api.admin)
    assert await town.names(town.api.admin) == ({"first", "second"}, "answered")


async def _is_used(reader: Reader) -> bool:
    return (await reader.look()).standing is Standing.USED


async def while_it_is_down(town, viewer):
    api = town.api
    town.standby.crash()
    names, outcome = await town.names(viewer)
    assert (names, outcome in {"failed", "not_usable"}) == ({"first", "second"}, True)
    await town.stands(Standing.UNREACHABLE)
    assert (await api.get("/ready"))["read_standby"] == "unreachable"
    for path in ("stats/certificates-by-status", "stats/expiration-timeline", "stats/job-trends", "jobs", "audit"):
        await api.get(f"/api/v1/{path}")
    chosen = settings.load(
        {
            "CERTCTL_DATA_DIR": str(api.house.settings.data_dir),
            "CERTCTL_DATABASE_URL": api.house.settings.database_url,
            "CERTCTL_DATABASE_READ_URL": town.read_url,
            "CERTCTL_DATABASE_READ_LAG": "1h",
        }
    )
    assert (await check_read_standby(chosen)).status == "warn"
    town.standby.start_again()
    await town.stands(Standing.USED)
    await town.answered(viewer)
    assert (await check_read_standby(chosen)).status == "ok"


async def when_it_is_another(town, viewer, postgres_server, monkeypatch):
    api = town.api
    with monkeypatch.context() as newer:
        newer.setattr(migrate, "head", lambda: "9999")
        assert (await town.reader.look()).standing is Standing.WRONG_SCHEMA
        assert (await town.names(viewer))[1] == "not_usable"
    stranger = Reader(
        api.house.database, Database(postgres_server.new_database(), takes_writes=False), timedelta(hours=1)
    )
    try:
        assert (await stranger.look()).standing is Standing.NO_STANDBY
    finally:
        await stranger.close()
    # promoted by whoever does such things: of two primaries this one is none of ours
    assert town.standby.sql("SELECT pg_promote(true, 60)") == "t"
    await town.stands(Standing.NO_STANDBY)
    assert await town.names(viewer) == ({"first", "second"}, "not_usable")


def test_sqlite_has_no_standby(tmp_path):
    with pytest.raises(Misconfigured, match="CERTCTL_DATABASE_READ_URL"):
        settings.load({"CERTCTL_DATA_DIR": str(tmp_path), "CERTCTL_DATABASE_READ_URL": "postgres://somewhere/certctl"})

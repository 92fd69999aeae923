"""A streaming standby that may answer what bears a moment's lag: may it be asked, and for whom is it new enough?

The primary's place in its log (LSN) is read, then the standby's: what the standby has replayed beyond that place it has
of everything committed before. So how far it is behind is known without a clock of either, and never told too small.
Whoever changes something leaves the place that their change ended at with the primary; they are answered by the standby
once it has replayed that. Must never be asked for what decides anything, and never be the reason of an error.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from datetime import timedelta
from enum import StrEnum

import sqlalchemy as sa
from msgspec import Struct

from certctl.core.errors import CertctlError, Misconfigured
from certctl.store import migrate
from certctl.store.schema import caller_writes
from certctl.store.tx import Database, Tx
from certctl.telemetry.logging import get_logger

log = get_logger(__name__)

_LOOK_EVERY_SECONDS = 1.0
_LOOK_SECONDS = 2.0
# places of the primary that are remembered: one a look, for longer than any lag that is put up with
_MOST_PLACES = 600
_WRITTEN = (
    "SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint, system_identifier FROM pg_control_system()"
)
_REPLAYED = """
SELECT pg_is_in_recovery(), pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint, system_identifier
FROM pg_control_system()
"""


class Standing(StrEnum):
    """How a standby stands."""

    UNKNOWN = "unknown"
    USED = "used"
    BEHIND = "behind"
    UNREACHABLE = "unreachable"
    WRONG_SCHEMA = "wrong_schema"
    NO_STANDBY = "no_standby"


class Standby(Struct, frozen=True):
    """What a look has found. `behind_seconds` is at most so much, None when that is not known."""

    standing: Standing
    behind_seconds: float | None = None
    detail: str = ""


class Reader:
    """One a process: the standby's connections, and what is known of it. `most_behind`: the lag that is put up with."""

    def __init__(self, primary: Database, standby: Database, most_behind: timedelta) -> None:
        self.standby = standby
        self._primary = primary
        self._most_behind = most_behind.total_seconds()
        self._places: deque[tuple[int, float]] = deque(maxlen=_MOST_PLACES)
        self._replayed = 0
        self._standing, self._detail = Standing.UNKNOWN, ""
        self._as_of: float | None = None
        self._looked_at = float("-inf")
        self._look: asyncio.Task[None] | None = None

    @property
    def found(self) -> Standby:
        """How the standby stands by what is known; asks nobody."""
        behind = None if self._as_of is None else time.monotonic() - self._as_of
        standing = self._standing
        if standing is Standing.USED and (behind is None or behind > self._most_behind):
            standing = Standing.BEHIND
        return Standby(standing, behind, self._detail)

    async def look(self) -> Standby:
        """Ask both how they stand, and tell."""
        await self._looking()
        return self.found

    def begin_look(self) -> None:
        """Have it looked at when the last look is a second old; nobody waits for it."""
        if time.monotonic() - self._looked_at > _LOOK_EVERY_SECONDS:
            self._looking()

    async def may_answer(self, tenant_id: str, actor_id: str) -> bool:
        """Whether the standby may answer this caller now: it is near enough, and has what they have changed. Raises
        Temporary when the primary cannot be asked.
        """
        self.begin_look()
        if self.found.standing is not Standing.USED:
            return False
        written = await self._written_by(tenant_id, actor_id)
        return written <= self._replayed or written <= await self._replay()

    def failed(self, error: BaseException) -> None:
        """The standby did not answer: it is asked nothing more until a look has found it well."""
        self._stands(Standing.UNREACHABLE, str(error))
        self._as_of = None
        self._looked_at = time.monotonic()

    def _looking(self) -> asyncio.Task[None]:
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._look_now(), name="standby")
        return self._look

    async def _look_now(self) -> None:
        self._looked_at = time.monotonic()
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                await self._compare()
        except (CertctlError, OSError, TimeoutError, sa.exc.SQLAlchemyError) as error:
            self.failed(error)

    async def _compare(self) -> None:
        began = time.monotonic()
        async with self._primary.read() as tx:
            (place, of_primary), *_ = await tx.rows(_WRITTEN)
        self._places.append((int(place), began))
        async with self.standby.read() as tx:
            (is_standby, replayed, of_standby), *_ = await tx.rows(_REPLAYED)
        if not is_standby or of_standby != of_primary:
            self._stands(Standing.NO_STANDBY, "it is no standby of CERTCTL_DATABASE_URL")
            return
        self._replayed = int(replayed)
        self._as_of = max((at for place, at in self._places if place <= self._replayed), default=None)
        there = await migrate.standing(self.standby)
        try:
            migrate.refuse_newer(there, migrate.known())
        except Misconfigured as error:
            self._stands(Standing.WRONG_SCHEMA, error.message)
            return
        if there.revision is None or there.revision < migrate.head():
            self._stands(Standing.WRONG_SCHEMA, f"it is at revision {there.revision}, this release at {migrate.head()}")
            return
        self._stands(Standing.USED, "")

    def _stands(self, standing: Standing, detail: str) -> None:
        if standing is not self._standing:
            log.info("standby_stands", standing=str(standing), detail=detail)
        self._standing, self._detail = standing, detail

    async def _written_by(self, tenant_id: str, actor_id: str) -> int:
        table = caller_writes
        async with self._primary.read() as tx:
            mine = sa.and_(table.c.tenant_id == tenant_id, table.c.actor_id == actor_id)
            return int(await tx.scalar(sa.select(table.c.place).where(mine)) or 0)

    async def _replay(self) -> int:
        """Ask the standby alone how far it is."""
        try:
            async with asyncio.timeout(_LOOK_SECONDS), self.standby.read() as tx:
                (is_standby, replayed, _), *_ = await tx.rows(_REPLAYED)
        except (CertctlError, OSError, TimeoutError, sa.exc.SQLAlchemyError) as error:
            self.failed(error)
            return -1
        if is_standby:
            self._replayed = max(self._replayed, int(replayed))
        return self._replayed

    async def close(self) -> None:
        """Give the standby's connections back."""
        if self._look is not None:
            self._look.cancel()
            await asyncio.gather(self._look, return_exceptions=True)
        await self.standby.close()


async def note_write(database: Database, tenant_id: str, actor_id: str) -> None:
    """Leave with the primary where its log is, now that this caller has changed something."""
    place = sa.func.pg_wal_lsn_diff(sa.func.pg_current_wal_insert_lsn(), sa.literal_column("'0/0'::pg_lsn"))

    def statement(tx: Tx) -> sa.Executable:
        row = {"tenant_id": tenant_id, "actor_id": actor_id, "place": sa.cast(place, sa.BigInteger)}
        made = tx.insert(caller_writes).values(row)
        return made.on_conflict_do_update(  # type: ignore[no-any-return]
            index_elements=["tenant_id", "actor_id"], set_={"place": made.excluded.place}
        )

    await database.write_alone("standby.note", statement)

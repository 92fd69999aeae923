"""The database's clock, which every replica goes by: leases, ticks and dates of one house have one measure."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa
import structlog

from certctl.core.clock import ToldClock, steady_seconds
from certctl.store.tx import Database

log = structlog.get_logger(__name__)

_WORTH_A_WARNING = timedelta(seconds=5)
# an answer that took longer says too little of when it was given
_LONGEST_ANSWER_SECONDS = 1.0


class DatabaseClock(ToldClock):
    """PostgreSQL's time, read now and then; counted on in between, and while the database is away."""

    def __init__(self) -> None:
        super().__init__()
        self._warned = False

    async def read(self, database: Database) -> bool:
        """Ask the database for its time; the error is at most half of the answer's way. False when the answer came too
        late to be of use. Raises what `Database.read` raises.
        """
        async with database.read() as tx:
            before = steady_seconds()
            told = await tx.scalar(sa.select(sa.func.clock_timestamp()))
            took = steady_seconds() - before
        if took > _LONGEST_ANSWER_SECONDS:
            return False
        self.tell(told, before + took / 2)
        self._warn()
        return True

    def _warn(self) -> None:
        error = self.own_error()
        wrong = abs(error) >= _WORTH_A_WARNING
        if wrong and not self._warned:
            log.warning(
                "own_clock_wrong",
                seconds=round(error.total_seconds(), 1),
                hint="the database's time is used; TLS checks of this machine are not: set its clock right (NTP)",
            )
        self._warned = wrong

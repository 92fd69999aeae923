"""Where what is shown is read from: the standby, where there is one that is near enough, else the primary.

For lists that grow without end, statistics and pages of the inventory alone. What decides (rights, policy, lifecycle,
OCSP and CRLs, ACME, agents) asks `ctx.database`, which is the primary. Whoever has changed something is shown it at
once, by whichever process answers; what others have changed is shown within the lag. Must never fail for the
standby's sake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import sqlalchemy as sa

from certctl.core.errors import CertctlError, Misconfigured, Temporary
from certctl.doors.identity import Caller
from certctl.doors.totals import Totals
from certctl.store.standby import Reader, Standby, Standing, note_write
from certctl.store.tx import Database, Tx
from certctl.telemetry.logging import get_logger
from certctl.telemetry.process import ProcessFigures

log = get_logger(__name__)

ResultT = TypeVar("ResultT")
# what is read, and who remembers totals meanwhile: nobody does on the standby, whose numbers are of another moment
Ask = Callable[[Tx, Totals | None], Awaitable[ResultT]]

# a standby that is slower than this is no help
_PATIENCE_SECONDS = 5.0


class Reads:
    """One a process; without a reader everything is read from the primary."""

    def __init__(self, database: Database, totals: Totals, figures: ProcessFigures, reader: Reader | None) -> None:
        self._database = database
        self._totals = totals
        self._figures = figures
        self._reader = reader
        if reader is not None:
            figures.watch_standby(lambda: reader.found.standing is Standing.USED, lambda: reader.found.behind_seconds)

    @property
    def standby(self) -> Standby | None:
        """How the standby stands, as the last look has found; None where there is none."""
        if self._reader is None:
            return None
        self._reader.begin_look()
        return self._reader.found

    async def ask(self, caller: Caller | None, ask: Ask[ResultT]) -> ResultT:
        """Read what may be a moment old."""
        if self._reader is not None:
            answered, found = await self._ask_standby(self._reader, caller, ask)
            if answered:
                return found  # type: ignore[return-value]  # it was answered
        async with self._database.read() as tx:
            return await ask(tx, self._totals)

    async def _ask_standby(
        self, reader: Reader, caller: Caller | None, ask: Ask[ResultT]
    ) -> tuple[bool, ResultT | None]:
        outcome = await self._why_not(reader, caller)
        if not outcome:
            try:
                async with asyncio.timeout(_PATIENCE_SECONDS), reader.standby.read() as tx:
                    found = await ask(tx, None)
            except (Temporary, Misconfigured, OSError, TimeoutError, sa.exc.SQLAlchemyError) as error:
                reader.failed(error)
                outcome = "failed"
            except CertctlError:
                outcome = "failed"  # what is wrong with the question itself is for the primary to say
            else:
                self._figures.read_at_standby("answered")
                return True, found
        self._figures.read_at_standby(outcome)
        return False, None

    @staticmethod
    async def _why_not(reader: Reader, caller: Caller | None) -> str:
        reader.begin_look()
        if caller is None or reader.found.standing is not Standing.USED:
            return "not_usable"
        return "" if await reader.may_answer(caller.tenant_id, caller.actor.id) else "own_write"

    async def wrote(self, caller: Caller | None) -> None:
        """This caller may have changed something, which ends before they are answered. Agents read no such things."""
        if self._reader is None or caller is None or caller.agent is not None:
            return
        try:
            await note_write(self._database, caller.tenant_id, caller.actor.id)
        except (CertctlError, OSError, sa.exc.SQLAlchemyError) as error:
            # the answer is true all the same, and a standby far enough behind to matter is soon looked at again
            log.warning("write_not_noted", error=str(error))
            self._reader.failed(error)

"""Writes what this process counted in memory to the fleet's counters, every few seconds and once more at the end."""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from certctl.core.errors import CertctlError
from certctl.lifecycle.context import Context
from certctl.telemetry.tally import Tally

log = structlog.get_logger(__name__)

_EVERY_SECONDS = 5.0


class Counting:
    """The loop of one process."""

    def __init__(self, ctx: Context, tally: Tally) -> None:
        self._ctx = ctx
        self._tally = tally
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Write what is left, then end."""
        self._stop.set()

    async def run(self) -> None:
        """Write now and then until told to stop; a database that is away is waited out."""
        stopping = False
        while not stopping:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_EVERY_SECONDS):
                    stopping = await self._stop.wait()
            await self._write()

    async def _write(self) -> None:
        taken = self._tally.take()
        if not taken:
            return
        try:
            async with self._ctx.database.begin("count.write") as tx:
                for metric, labels, amount in taken:
                    tx.count(self._ctx.scope.tenant_id, metric, amount, **labels)
        except CertctlError as error:
            self._tally.give_back(taken)
            log.warning("counts_wait", error=error.message)

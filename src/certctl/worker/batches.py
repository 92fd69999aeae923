"""The worker's second loop: gives batches their turns, one batch at a time, until told to stop.

Keeps no state: a process that dies leaves a lease that lapses, and the next one goes on behind the last item written.
"""

from __future__ import annotations

import asyncio

import structlog

from certctl.core.errors import CertctlError
from certctl.doors.batches import take_turn
from certctl.lifecycle.context import Context
from certctl.store.batches import CHANNEL
from certctl.store.wake import Wakeups

log = structlog.get_logger(__name__)

_POLL_SECONDS = 1.0
_AFTER_ERROR_SECONDS = 2.0


class BatchRunner:
    """Runs the batches of one tenant until told to stop."""

    def __init__(self, ctx: Context, wakeups: Wakeups) -> None:
        self._ctx = ctx
        self._wakeups = wakeups
        self._stopping = False

    def stop(self) -> None:
        """Finish the item in hand, give the batch back, take no more."""
        self._stopping = True
        self._wakeups.tell((CHANNEL,))

    async def run(self) -> None:
        """Take turns until stopped; errors of the database are waited out."""
        with self._wakeups.watch(CHANNEL) as watch:
            while not self._stopping:
                try:
                    busy = await take_turn(self._ctx, lambda: self._stopping)
                except CertctlError as error:
                    log.warning("batches_wait", error=error.message, detail=error.detail)
                    await asyncio.sleep(_AFTER_ERROR_SECONDS)
                    continue
                except Exception:
                    log.exception("batches_failed")
                    await asyncio.sleep(_AFTER_ERROR_SECONDS)
                    continue
                if not busy and not self._stopping:
                    await watch.wait(_POLL_SECONDS)

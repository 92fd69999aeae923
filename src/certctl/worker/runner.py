"""The worker's loop: claim due steps, run them a batch a kind, keep their leases alive, drain when asked.

Wake-ups make it prompt, a one-second poll makes it certain. Keeps no state that another process could not take over.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

import structlog

from certctl.core.errors import CertctlError
from certctl.core.job import Step
from certctl.lifecycle import flow
from certctl.lifecycle.context import Context
from certctl.store.wake import Wakeups

log = structlog.get_logger(__name__)

_BATCH = 32
_POLL_SECONDS = 1.0
_AFTER_ERROR_SECONDS = 2.0


class Runner:
    """Runs the server's steps of one tenant until told to stop."""

    def __init__(self, ctx: Context, wakeups: Wakeups) -> None:
        self._ctx = ctx
        self._wakeups = wakeups
        self._in_hand: dict[str, int] = {}
        self._stopping = False

    def stop(self) -> None:
        """Finish the batch in hand, claim no more."""
        self._stopping = True
        self._wakeups.tell((flow.STEPS_CHANNEL,))

    async def run(self) -> None:
        """Claim and run until stopped; errors of the database are waited out."""
        keeper = asyncio.create_task(self._keep_leases(), name="leases")
        try:
            with self._wakeups.watch(flow.STEPS_CHANNEL) as watch:
                while not self._stopping:
                    try:
                        busy = await self._once()
                    except CertctlError as error:
                        log.warning("worker_waits", error=error.message, detail=error.detail)
                        await asyncio.sleep(_AFTER_ERROR_SECONDS)
                        continue
                    except Exception:
                        log.exception("worker_failed")
                        await asyncio.sleep(_AFTER_ERROR_SECONDS)
                        continue
                    if not busy and not self._stopping:
                        await watch.wait(_POLL_SECONDS)
        finally:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper

    async def _once(self) -> bool:
        claimed = await flow.claim(self._ctx, _BATCH)
        if not claimed:
            return False
        self._in_hand = _fences(claimed)
        try:
            await flow.run_claimed(self._ctx, claimed)
        finally:
            self._in_hand = {}
        return True

    async def _keep_leases(self) -> None:
        """A slow CA must not cost us a lease: push its end while the step is in hand."""
        while True:
            await asyncio.sleep(self._ctx.patience.lease.total_seconds() / 3)
            held = list(self._in_hand.items())
            if held:
                try:
                    await flow.keep_leases(self._ctx, self._ctx.owner, held)
                except CertctlError as error:
                    log.warning("leases_not_kept", error=error.message)


def _fences(steps: Iterable[Step]) -> dict[str, int]:
    return {step.id: step.fence for step in steps}

"""One look a second at the database for all agents that wait in this process, whose polls then look for themselves.

A poll that waits is woken by a hint after the commit that made its step. Hints get lost, and a step may be written for
later: this look makes up for both. Were each poll to look, a thousand agents with nothing to do would cost a hundred
statements a second. Must never claim anything: a look is a read, whoever is woken claims under its own lease.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from certctl.core.errors import CertctlError
from certctl.lifecycle import flow
from certctl.lifecycle.context import Context
from certctl.store.wake import Wakeups, agent_channel
from certctl.telemetry.logging import get_logger

log = get_logger(__name__)

LOOK_SECONDS = 1.0
# of its time a process may spend looking: many steps for hosts that are away make one look long
_MOST_OF_THE_TIME = 0.05


class Lookout:
    """Looks while somebody waits, and only then. One a process."""

    def __init__(self, ctx: Context, wakeups: Wakeups) -> None:
        self._ctx = ctx
        self._wakeups = wakeups
        self._waiting = 0
        self._nobody = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """How many wait: of a fleet at rest, nearly all agents that have a connection to this process."""
        return self._waiting

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """For the length of the block somebody waits."""
        self._waiting += 1
        self._nobody.clear()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look_on(), name="agents-lookout")
        try:
            yield
        finally:
            self._waiting -= 1
            if not self._waiting:
                self._nobody.set()  # it ends by itself: a look that is cancelled costs a database connection

    async def _look_on(self) -> None:
        pause, clock = LOOK_SECONDS, asyncio.get_running_loop()
        while self._waiting:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._nobody.wait()
            if not self._waiting:
                return
            began = clock.time()
            try:
                due = await flow.agents_with_work(self._ctx)
            except CertctlError as error:
                # the database is away: who waits goes on waiting, and the next look tells
                log.warning("agents_not_looked_after", error=error)
            except Exception:
                log.exception("agents_not_looked_after")
            else:
                self._wakeups.tell(agent_channel(agent_id) for agent_id in due)
            pause = max(LOOK_SECONDS, (clock.time() - began) / _MOST_OF_THE_TIME)

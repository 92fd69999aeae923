"""Signs of life that say nothing new: kept for a second, then written together, one statement for many.

An agent beats every thirty seconds and says the same as before; a commit for each would be most of what a large
fleet's calls cost. What is kept here is lost with the process, and comes again with the agent's next beat. Anything
new (another version, another run, a return after silence, a sign long not written) is written at once, by `enrolment`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from datetime import datetime

from certctl.core.errors import CertctlError
from certctl.core.status import AgentStatus
from certctl.core.target import AgentRecord
from certctl.lifecycle.context import Context
from certctl.store import agents
from certctl.telemetry.logging import get_logger

log = get_logger(__name__)

KEPT_SECONDS = 1.0
# a statement is short, whatever the fleet: what is more goes with the next one
_MOST_A_STATEMENT = 5_000


class Beats:
    """One a process. `closing` is set when the process is to end: what is kept is written then at once."""

    def __init__(self, ctx: Context, closing: asyncio.Event) -> None:
        self._ctx = ctx
        self._closing = closing
        self._kept: dict[str, datetime] = {}
        self._task: asyncio.Task[None] | None = None

    def keep(self, agent: AgentRecord) -> bool:
        """Keep a sign of life of an agent that is as it is recorded; False when it has to be written at once.

        An agent that is not online, or that would soon be taken for silent, has to be: what is kept may still be lost.
        """
        now, last = self._ctx.now(), agent.last_heartbeat_at
        longest = self._ctx.patience.agent_silence / 2
        if agent.status != AgentStatus.ONLINE or last is None or now - last >= longest or self._closing.is_set():
            return False
        self._kept[agent.id] = now
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write_soon(), name="agents-beats")
        return True

    async def _write_soon(self) -> None:
        while self._kept:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KEPT_SECONDS):
                    await self._closing.wait()
            await self._write()
            if self._closing.is_set():
                return

    async def _write(self) -> None:
        kept, self._kept = self._kept, {}
        try:
            while kept:
                some = dict(itertools.islice(kept.items(), _MOST_A_STATEMENT))
                async with self._ctx.database.begin("agent.beats") as tx:
                    await agents.note_signs(tx, self._ctx.scope, some)
                kept = {agent_id: at for agent_id, at in kept.items() if agent_id not in some}
        except CertctlError as error:
            # tried again together: a commit for each is the last thing that a busy database needs
            self._kept = kept | self._kept
            log.warning("signs_of_life_not_written", agents=len(kept), error=error)
        except Exception:
            log.exception("signs_of_life_not_written", agents=len(kept))

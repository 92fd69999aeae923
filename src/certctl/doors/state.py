"""What every front door of one process shares: the lifecycle's context, who waits for what, limits, whether it drains.

Made once by the composition root; holds no state of any call.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime

from certctl.connectors.base.receiver import Receiver
from certctl.core.rules import DoorRules
from certctl.core.secret import Secret
from certctl.doors.callers import Callers
from certctl.doors.counted import Counted
from certctl.doors.cursors import Cursors
from certctl.doors.feed import Feed
from certctl.doors.identity import Agents
from certctl.doors.issuing import Issuing
from certctl.doors.limits import Limiter
from certctl.doors.readiness import Watch
from certctl.doors.reads import Reads
from certctl.doors.summaries import Summaries
from certctl.doors.totals import Totals
from certctl.lifecycle.context import Context
from certctl.store.identity import CHANNEL
from certctl.store.standby import Reader
from certctl.store.wake import Wakeups
from certctl.telemetry.process import ProcessFigures


@dataclass(frozen=True, slots=True)
class AppState:
    """One per process. A bootstrap token that is None closes that way in: to the first key, or to unknown agents."""

    ctx: Context
    wakeups: Wakeups
    max_body_bytes: int
    bootstrap_token: Secret | None
    version: str
    started_at: datetime
    agent_bootstrap_token: Secret | None = None
    figures: ProcessFigures = field(default_factory=ProcessFigures)
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    feed: Feed = field(default_factory=Feed)
    summaries: Summaries = field(default_factory=Summaries)
    counted: Counted = field(default_factory=Counted)
    watch: Watch = field(default_factory=Watch)
    callers: Callers = field(default_factory=Callers)
    rules: DoorRules = field(default_factory=DoorRules)
    # where the audit log goes besides the database
    audit_receivers: tuple[Receiver, ...] = ()
    # a streaming standby, where one may be read
    reader: Reader | None = None
    limits: Limiter = field(init=False)
    totals: Totals = field(init=False)
    agents: Agents = field(init=False)
    issuing: Issuing = field(init=False)
    reads: Reads = field(init=False)

    def __post_init__(self) -> None:
        """Hear of every change of who may do what."""
        object.__setattr__(self, "limits", Limiter(self.ctx, shared=self.rules.limits.shared))
        object.__setattr__(self, "totals", Totals(self.ctx.clock))
        object.__setattr__(self, "agents", Agents(self.ctx))
        object.__setattr__(self, "issuing", Issuing(self.ctx))
        reads = Reads(self.ctx.database, self.totals, self.figures, self.reader)
        object.__setattr__(self, "reads", reads)
        self.wakeups.call(CHANNEL, self.callers.forget)

    @property
    def cursors(self) -> Cursors:
        """Reads and writes the cursors of lists."""
        return Cursors(self.ctx.sealer.derive("certctl/cursors"))

    def drain(self) -> None:
        """Long polls end now with what they have; call it on the event loop's thread when the process is to stop."""
        self.draining.set()
        self.wakeups.tell_all()

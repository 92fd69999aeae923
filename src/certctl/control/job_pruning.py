"""Retention of job history: what ended longer ago than it is kept goes, with its steps; the audit log keeps its events.

A part a commit, so that nobody waits for it and a crash leaves nothing half done; begun anew it walks from the oldest.
"""

from __future__ import annotations

from datetime import timedelta

from certctl.lifecycle.context import Context
from certctl.store import job_pruning
from certctl.telemetry.logging import get_logger

log = get_logger(__name__)

_PART = 1000
# jobs in one run: the next one goes on. At 2,000 a second that is a few minutes
_MOST = 500_000


async def prune_due(ctx: Context, kept: timedelta) -> int:
    """The tick; returns how many jobs went."""
    before, gone, lost = ctx.now() - kept, 0, 0
    place: job_pruning.Place | None = None
    while gone < _MOST:
        async with ctx.database.begin("jobs.prune") as tx:
            part = await job_pruning.prune(tx, ctx.scope, before, place, _PART)
        gone, lost, place = gone + part.jobs, lost + part.steps, part.last
        if place is None:
            break
    if gone:
        log.info("jobs_pruned", jobs=gone, steps=lost, before=before.isoformat())
    return gone

"""Run the first steps of jobs just written before answering, within a short budget; a worker takes on what remains."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from certctl.core.errors import CertctlError
from certctl.core.job import Job
from certctl.doors.state import AppState
from certctl.lifecycle import flow
from certctl.lifecycle.context import Context
from certctl.store import views
from certctl.store.lists import Slice
from certctl.telemetry.logging import get_logger

log = get_logger(__name__)

BUDGET = timedelta(seconds=1.5)


async def drive(state: AppState, job_ids: Sequence[str], ctx: Context | None = None) -> None:
    """Drive these jobs one after the other. What fails is settled by its stage; the caller's write stands anyway.

    `ctx` is the `flow.driving` one that they were written with, where there is one.
    """
    clock = asyncio.get_running_loop()
    deadline = clock.time() + BUDGET.total_seconds()
    for job_id in job_ids:
        left = max(deadline - clock.time(), 0.0)
        if left <= 0 and ctx is None:
            return
        # out of time, what was handed on with the write is given back all the same
        try:
            await flow.drive(ctx or state.ctx, job_id, timedelta(seconds=left))
        except CertctlError as error:
            log.warning("job_not_driven", job_id=job_id, error=error)


async def drive_pending(state: AppState, certificate_id: str) -> None:
    """Drive whatever has just been written for a certificate."""
    async with state.ctx.database.read() as tx:
        equal = {"certificate_id": certificate_id, "status": "Pending"}
        found = await views.job_page(tx, state.ctx.scope, equal, Slice(limit=20))
    await drive(state, ids(found.data))


def ids(jobs: Sequence[Job]) -> list[str]:
    """The ids of jobs."""
    return [job.id for job in jobs]

"""Waves of a batch: so many items, then a rest, then a look at what became of them before the next ones are begun.

Nothing is kept of where it stands but the items themselves, so that whoever comes after a crash rests as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from certctl.core.batch import Batch, BatchItem
from certctl.core.scope import Scope
from certctl.core.status import JobStatus
from certctl.store import batches
from certctl.store.tx import Tx


class Gate(Struct, frozen=True):
    """Whether the next items may be begun: not before `rest_until`, and not at all for the reason `halt`."""

    rest_until: datetime | None = None
    halt: str = ""


async def gate(tx: Tx, scope: Scope, batch: Batch, item: BatchItem, now: datetime) -> Gate:
    """Between two waves a batch rests; when more has failed by then than it bears, jobs among it, it halts."""
    wave = batch.wave_of(item.seq)
    if wave == 0 or batch.dry_run:
        return Gate()
    ended = await batches.wave_ended_at(tx, scope, batch, wave - 1)
    until = ended + timedelta(seconds=batch.wave_pause_seconds) if ended is not None else now
    if until > now:
        return Gate(rest_until=until)
    if batch.max_failures is None:
        return Gate()
    come = await batches.progress(tx, scope, batch.id)
    jobs = batch.jobs_failed_gone + sum(of_type.get(str(JobStatus.FAILED), 0) for of_type in come.values())
    if batch.failed + jobs <= batch.max_failures:
        return Gate()
    return Gate(halt=f"more than {batch.max_failures} failed: {batch.failed} items, {jobs} of the jobs they began")


def of_one_wave(batch: Batch, items: Sequence[BatchItem]) -> list[BatchItem]:
    """The first of these items, and those that belong to its wave."""
    return [item for item in items if batch.wave_of(item.seq) == batch.wave_of(items[0].seq)]

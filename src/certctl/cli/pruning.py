"""`certctl-server prune-audit`: drop what is older than audit events are kept, or say what would be."""

from __future__ import annotations

import asyncio
import sys

from certctl.bootstrap import open_house
from certctl.connectors.receivers import receivers_of
from certctl.control.audit_pruning import Pruned, prune
from certctl.core.errors import Misconfigured
from certctl.settings import Settings


def run(chosen: Settings, *, dry_run: bool) -> int:
    """Prune once. Misconfigured without a retention."""
    if not chosen.audit_retention:
        raise Misconfigured("CERTCTL_AUDIT_RETENTION is not set: audit events are kept for ever")
    receivers = [receiver.name for receiver in receivers_of(chosen.audit)]

    async def once() -> Pruned:
        async with open_house(chosen) as house:
            return await prune(house.ctx, chosen.audit_retention, receivers, dry_run=dry_run)

    done = asyncio.run(once())
    what = "would be dropped" if dry_run else "were dropped"
    sys.stdout.write(
        f"{done.end - done.start} events {what} ({done.start} to {done.end} of the log); beyond that: {done.waits}\n"
    )
    return 0

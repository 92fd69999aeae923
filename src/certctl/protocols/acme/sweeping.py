"""The sweep: what has lapsed is ended, what is of no use any more goes."""

from __future__ import annotations

from certctl.lifecycle.context import Context
from certctl.store import acme

_LIMIT = 5000


async def sweep(ctx: Context) -> int:
    """Sweep once, in small transactions, until nothing is left; how many rows."""
    swept = 0
    while True:
        async with ctx.database.begin("acme.sweep") as tx:
            found = await acme.sweep(tx, ctx.scope, ctx.now(), _LIMIT)
        swept += sum(found.values())
        if max(found.values()) < _LIMIT:
            return swept

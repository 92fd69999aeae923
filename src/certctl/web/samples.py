"""Whether an installation shows a sample fleet: then every page says so, since nobody has seen what it tells."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from certctl.lifecycle.context import Context
from certctl.sample import FACT
from certctl.store import authority
from certctl.store.tx import Database

_KNOWN: WeakKeyDictionary[Database, bool] = WeakKeyDictionary()


async def are_shown(ctx: Context) -> bool:
    """Read once a process: a fleet is filled before the server starts, or not at all."""
    known = _KNOWN.get(ctx.database)
    if known is None:
        async with ctx.database.read() as tx:
            known = await authority.get_fact(tx, ctx.scope, FACT) is not None
        _KNOWN[ctx.database] = known
    return known

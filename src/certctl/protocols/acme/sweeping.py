"""The sweep: what has lapsed is ended, what is of no use any more goes."""

from __future__ import annotations

from certctl.core.errors import CertctlError
from certctl.lifecycle.context import Context
from certctl.store import acme
from certctl.telemetry import metrics

_LIMIT = 5000
_COUNTED = {
    "nonces": metrics.ACME_GC_NONCES_REAPED,
    "authorizations": metrics.ACME_GC_AUTHZS_EXPIRED,
    "orders": metrics.ACME_GC_ORDERS_INVALIDATED,
}


async def sweep(ctx: Context) -> int:
    """Sweep once, in small transactions, until nothing is left; how many rows."""
    tenant_id, swept = ctx.scope.tenant_id, 0
    try:
        while True:
            async with ctx.database.begin("acme.sweep") as tx:
                found = await acme.sweep(tx, ctx.scope, ctx.now(), _LIMIT)
                for name, rows in found.items():
                    if rows:
                        tx.count(tenant_id, _COUNTED[name], rows)
                last = max(found.values()) < _LIMIT
                if last:
                    tx.count(tenant_id, metrics.ACME_GC_RUNS)
            swept += sum(found.values())
            if last:
                return swept
    except CertctlError:
        async with ctx.database.begin("acme.sweep") as tx:
            tx.count(tenant_id, metrics.ACME_GC_RUN_FAILURES)
        raise

"""/api/v1/admin/crl/cache: how each CA generation's CRL, its shards and its deltas stand."""

from __future__ import annotations

from litestar import get

from certctl import ledger
from certctl.api.guard import needs
from certctl.api.request import ApiRequest
from certctl.client.models.crls import CrlEventView, CrlPartView, CrlsAnswer, CrlView
from certctl.core.catalogue import CaCertificate
from certctl.core.events import EventType
from certctl.ledger import EventRow
from certctl.lifecycle import crl_parts, publish
from certctl.lifecycle.context import Context
from certctl.store import crl
from certctl.store import crl_parts as stored

_EVENTS = 20


@get("/admin/crl/cache", opt=needs("crl.admin"), summary="CRLs as they stand")
async def show_crls(request: ApiRequest) -> CrlsAnswer:
    """Numbers, times and what is not told yet, of each CA generation that is not retired."""
    ctx = request.ctx
    rows = [await _row(ctx, ca) for ca in await publish.signing_cas(ctx)]
    return CrlsAnswer(cache_rows=rows, row_count=len(rows), generated_at=ctx.now())


async def _row(ctx: Context, ca: CaCertificate) -> CrlView:
    parts = await crl_parts.parts_of(ctx, ca.id)
    async with ctx.database.read() as tx:
        found = await crl.state(tx, ctx.scope, ca.id)
        pending = await crl.pending(tx, ctx.scope, ca.id)
        made = await stored.newest(tx, ctx.scope, ca.id)
        rows = await ledger.recent(tx, ctx.scope, _EVENTS, subject_id=ca.id)
    published = [_event(row) for row in rows if row.type == EventType.CRL_PUBLISHED and not row.details.get("shard")]
    head = found.head
    return CrlView(
        issuer_id=ca.issuer_id,
        ca_certificate_id=ca.id,
        cache_present=head is not None,
        crl_number=head.number if head else 0,
        this_update=head.this_update if head else None,
        next_update=head.next_update if head else None,
        generated_at=head.created_at if head else None,
        generation_duration_ms=next(
            (one.duration_ms for one in published if head and one.crl_number == head.number), 0
        ),
        revoked_count=head.revoked_count if head else 0,
        pending=pending + found.listed_total - (head.revoked_count if head else 0),
        is_stale=found.is_behind or head is None or head.next_update <= ctx.now(),
        shards=parts.shards,
        deltas=parts.deltas,
        parts=[
            CrlPartView(
                shard=one.shard,
                is_delta=one.is_delta,
                crl_number=one.number,
                base_number=one.base_number,
                this_update=one.this_update,
                next_update=one.next_update,
                revoked_count=one.revoked_count,
            )
            for one in made
        ],
        recent_events=published,
    )


def _event(row: EventRow) -> CrlEventView:
    return CrlEventView(
        started_at=row.created_at,
        duration_ms=int(row.details.get("milliseconds", 0)),
        succeeded=True,
        crl_number=int(row.details.get("number", 0)),
        revoked_count=int(row.details.get("revoked", 0)),
        error="",
    )


HANDLERS = (show_crls,)

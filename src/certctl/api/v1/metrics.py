"""/api/v1/metrics: the fleet's figures, as JSON and as Prometheus reads them. Every replica tells the same."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from litestar import Response, get

from certctl.api.guard import needs
from certctl.api.request import ApiRequest
from certctl.client.models.metrics import Counters, Gauges, MetricsView, Uptime
from certctl.control import audit_push
from certctl.core.catalogue import IssuerRecord
from certctl.core.errors import NotAllowed
from certctl.core.scope import Scope
from certctl.core.target import TargetRecord
from certctl.store import counters, gauges
from certctl.store.counters import Totals
from certctl.store.gauges import Sample
from certctl.store.tx import Tx
from certctl.telemetry import exposition, metrics
from certctl.telemetry.metrics import Kind, Metric, Place

_MOST_WAITING = 100_000


@get("/metrics", opt=needs("metrics.read"), summary="The fleet's figures")
async def show_metrics(request: ApiRequest) -> MetricsView:
    """Counted in the database when asked."""
    scope, now = _whole(request), request.ctx.now()
    async with request.ctx.database.read() as tx:
        samples = {sample.metric.name: int(sample.value) for sample in await gauges.fleet(tx, scope, now)}
        totals = await counters.totals(tx, scope)
    return MetricsView(
        gauge=Gauges(**{name: samples[f"certctl_{name}"] for name in Gauges.__struct_fields__}),
        counter=Counters(
            job_completed_total=_total(totals, metrics.JOB_COMPLETED),
            job_failed_total=_total(totals, metrics.JOB_FAILED),
            notifications_dead_total=_total(totals, metrics.NOTIFICATION_DEAD),
        ),
        uptime=Uptime(uptime_seconds=_uptime(request, now), server_started=request.door.started_at, measured_at=now),
    )


@get(
    "/metrics/prometheus",
    opt=needs("metrics.read"),
    media_type=exposition.CONTENT_TYPE,
    summary="The fleet's figures for Prometheus",
)
async def show_prometheus(request: ApiRequest) -> Response[bytes]:
    """Text format 0.0.4. Gauges are counted in the database when asked, counters never fall."""
    scope, now = _whole(request), request.ctx.now()
    async with request.ctx.database.read() as tx:
        samples = await gauges.fleet(tx, scope, now)
        totals = await counters.totals(tx, scope)
        zeros = await _zeros(tx, scope)
    samples += await _push(request)
    samples.append(Sample(metrics.UPTIME, _uptime(request, now)))
    counted = [each for each in metrics.METRICS if each.place is Place.FLEET and each.kind is not Kind.GAUGE]
    body = exposition.write([(each.metric, each.value, each.labels) for each in samples], counted, totals, zeros)
    return Response(body, media_type=exposition.CONTENT_TYPE)


async def _push(request: ApiRequest) -> list[Sample]:
    """How far each receiver of the audit log that is configured is behind."""
    found = []
    for one in await audit_push.standings(request.ctx, request.door.audit_receivers, _MOST_WAITING):
        receiver = {"receiver": one.cursor.name}
        found.append(Sample(metrics.AUDIT_PUSH_WAITING, one.behind, receiver))
        found.append(Sample(metrics.AUDIT_PUSH_BEHIND, one.waits.total_seconds(), receiver))
    return found


def _whole(request: ApiRequest) -> Scope:
    """Counts of the fleet would tell a caller of some teams what the others have."""
    whole = Scope.whole(request.visible.tenant_id)
    if request.visible != whole:
        raise NotAllowed("metrics are of the whole fleet; a key limited to a part of it cannot read them")
    return whole


def _uptime(request: ApiRequest, now: datetime) -> float:
    return max(0.0, (now - request.door.started_at).total_seconds())


def _total(totals: Totals, metric: Metric) -> int:
    return int(totals.get(metric.name, {}).get("{}", 0))


async def _zeros(tx: Tx, scope: Scope) -> dict[str, list[dict[str, str]]]:
    """The lines that could be counted with what is configured: a rate needs a first value to rise from."""
    issuer_types = await gauges.types_of(tx, scope, IssuerRecord)
    target_types = await gauges.types_of(tx, scope, TargetRecord)
    zeros: dict[str, Any] = {
        metrics.ISSUANCE.name: [
            {"issuer_type": kind, "outcome": outcome} for kind in issuer_types for outcome in ("success", "failure")
        ],
        metrics.ISSUANCE_FAILURES.name: [
            {"issuer_type": kind, "error_class": word} for kind in issuer_types for word in metrics.ERROR_CLASSES
        ],
        metrics.DEPLOY_ATTEMPTS.name: [
            {"target_type": kind, "result": result} for kind in target_types for result in ("success", "failure")
        ],
        metrics.DEPLOY_UNVERIFIED.name: [{"target_type": kind} for kind in target_types],
        metrics.JOB_TIMED_OUT.name: [{"awaited": word} for word in ("approval", "csr")],
        metrics.OCSP.name: [{"label": label} for label in metrics.OCSP_LABELS],
    }
    return zeros


HANDLERS = (show_metrics, show_prometheus)

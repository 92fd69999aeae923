"""What the fleet looks like at this moment, counted by SQL: the same whichever replica is asked. Loads no rows."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
import sqlalchemy as sa
from msgspec import Struct

from certctl.core.catalogue import IssuerRecord
from certctl.core.scope import Scope
from certctl.core.status import LIVE_JOB, CertificateStatus, JobStatus, StepStatus
from certctl.core.target import TargetRecord
from certctl.store import asks, audit_tree, catalogue, health, outbox
from certctl.store.schema import agents, ca_certificates, certificates, crls, jobs, steps, ticks
from certctl.store.stats import EXPIRES_SOON, IN_USE
from certctl.store.tx import Tx
from certctl.telemetry import metrics
from certctl.telemetry.metrics import Metric

ONLINE_WITHIN = timedelta(minutes=5)
STUCK_AFTER = timedelta(hours=1)


class Sample(Struct, frozen=True):
    """One gauge's value."""

    metric: Metric
    value: float
    labels: dict[str, str] = {}


async def fleet(tx: Tx, scope: Scope, now: datetime) -> list[Sample]:
    """Every fleet gauge. `scope` must be a whole tenant: counts of a part would not be the fleet's."""
    return [
        *await _certificates(tx, scope, now),
        *await _agents(tx, scope, now),
        *await _jobs(tx, scope, now),
        *await _steps(tx, scope, now),
        *await _ticks(tx, scope, now),
        *await _authorities(tx, scope),
        *await _audit(tx, scope),
        await _notifications(tx, scope, now),
        Sample(metrics.CA_PAUSES, await asks.number_paused(tx, scope)),
        *await _health(tx, scope, now),
    ]


async def _notifications(tx: Tx, scope: Scope, now: datetime) -> Sample:
    oldest = await outbox.oldest_due(tx, scope, now)
    return Sample(metrics.NOTIFICATION_OLDEST, 0 if oldest is None else (now - oldest).total_seconds())


async def _health(tx: Tx, scope: Scope, now: datetime) -> list[Sample]:
    counts = msgspec.to_builtins(await health.counts(tx, scope))
    del counts["total"]
    due = await health.longest_due(tx, scope, now)
    return [
        *(Sample(metrics.HEALTH_CHECKS, number, {"status": word}) for word, number in counts.items()),
        Sample(metrics.HEALTH_OLDEST, 0 if due is None else (now - due).total_seconds()),
    ]


async def _certificates(tx: Tx, scope: Scope, now: datetime) -> list[Sample]:
    c = certificates.c
    mine = c.tenant_id == scope.tenant_id
    rows = await tx.execute(sa.select(c.status, sa.func.count().label("number")).where(mine).group_by(c.status))
    number = {row.status: row.number for row in rows}
    live = sa.and_(mine, c.status.in_(IN_USE))
    soon = sa.and_(live, c.expires_at > now, c.expires_at <= now + EXPIRES_SOON)
    # Expiring is what is near its end with no renewal under way; a failed one may have no try left before its end
    no_try_left = sa.and_(
        c.status == CertificateStatus.FAILED, sa.or_(c.next_check_at.is_(None), c.next_check_at >= c.expires_at)
    )
    unrenewable = sa.and_(live, c.expires_at > now, sa.or_(c.status == CertificateStatus.EXPIRING, no_try_left))
    samples = [
        Sample(metrics.CERTIFICATE_TOTAL, sum(number.values()) - number.get(CertificateStatus.ARCHIVED, 0)),
        Sample(metrics.CERTIFICATE_ACTIVE, number.get(CertificateStatus.ACTIVE, 0)),
        Sample(metrics.CERTIFICATE_REVOKED, number.get(CertificateStatus.REVOKED, 0)),
        Sample(metrics.CERTIFICATE_EXPIRING_SOON, await _count(tx, certificates, soon)),
        Sample(metrics.CERTIFICATE_EXPIRED, await _count(tx, certificates, sa.and_(live, c.expires_at <= now))),
        Sample(metrics.CERTIFICATE_UNRENEWABLE, await _count(tx, certificates, unrenewable)),
    ]
    rows = await tx.execute(
        sa.select(c.issuer_id, sa.func.min(c.expires_at).label("first"))
        .where(live, c.expires_at > now)
        .group_by(c.issuer_id)
    )
    samples += [
        Sample(metrics.CERTIFICATE_NEXT_EXPIRY, row.first.timestamp(), {"issuer_id": row.issuer_id}) for row in rows
    ]
    return samples


async def _agents(tx: Tx, scope: Scope, now: datetime) -> list[Sample]:
    known = sa.and_(agents.c.tenant_id == scope.tenant_id, agents.c.retired_at.is_(None))
    online = sa.and_(known, agents.c.last_heartbeat_at >= now - ONLINE_WITHIN)
    return [
        Sample(metrics.AGENT_TOTAL, await _count(tx, agents, known)),
        Sample(metrics.AGENT_ONLINE, await _count(tx, agents, online)),
    ]


async def _jobs(tx: Tx, scope: Scope, now: datetime) -> list[Sample]:
    pending = sa.and_(jobs.c.tenant_id == scope.tenant_id, jobs.c.status.in_(tuple(LIVE_JOB)))
    stuck = sa.and_(pending, jobs.c.status != JobStatus.AWAITING_APPROVAL, jobs.c.scheduled_at < now - STUCK_AFTER)
    return [
        Sample(metrics.JOB_PENDING, await _count(tx, jobs, pending)),
        Sample(metrics.JOB_STUCK, await _count(tx, jobs, stuck)),
    ]


async def _steps(tx: Tx, scope: Scope, now: datetime) -> list[Sample]:
    rows = await tx.execute(
        sa.select(steps.c.kind, sa.func.count().label("number"), sa.func.min(steps.c.run_at).label("oldest"))
        .where(steps.c.tenant_id == scope.tenant_id, steps.c.status == StepStatus.READY, steps.c.run_at <= now)
        .group_by(steps.c.kind)
    )
    samples = []
    for row in rows:
        kind = {"kind": row.kind}
        samples.append(Sample(metrics.STEP_READY, row.number, kind))
        samples.append(Sample(metrics.STEP_OLDEST, (now - row.oldest).total_seconds(), kind))
    return samples


async def _ticks(tx: Tx, scope: Scope, now: datetime) -> list[Sample]:
    rows = await tx.execute(sa.select(ticks.c.name, ticks.c.next_run_at).where(ticks.c.tenant_id == scope.tenant_id))
    return [
        Sample(metrics.TICK_LAG, max(0.0, (now - row.next_run_at).total_seconds()), {"tick": row.name})
        for row in rows
        if row.next_run_at is not None
    ]


async def _authorities(tx: Tx, scope: Scope) -> list[Sample]:
    ca = ca_certificates.c
    used = await tx.execute(
        sa.select(ca.id, ca.issuer_id, ca.not_after).where(ca.tenant_id == scope.tenant_id, ca.state != "retired")
    )
    samples = [
        Sample(metrics.CA_NOT_AFTER, row.not_after.timestamp(), {"ca_id": row.id, "issuer_id": row.issuer_id})
        for row in used
    ]
    newest = await tx.execute(
        sa.select(crls.c.ca_certificate_id, sa.func.max(crls.c.next_update).label("next_update"))
        .join(ca_certificates, sa.and_(ca.tenant_id == crls.c.tenant_id, ca.id == crls.c.ca_certificate_id))
        .where(crls.c.tenant_id == scope.tenant_id, ca.state != "retired")
        .group_by(crls.c.ca_certificate_id)
    )
    samples += [
        Sample(metrics.CRL_NEXT_UPDATE, row.next_update.timestamp(), {"ca_id": row.ca_certificate_id}) for row in newest
    ]
    return samples


async def _audit(tx: Tx, scope: Scope) -> list[Sample]:
    tree = await audit_tree.tree(tx, scope)
    verified = tree.verified_at.timestamp() if tree is not None and tree.verified_at else 0
    return [
        Sample(metrics.AUDIT_ROWS, tree.size if tree is not None else 0),
        Sample(metrics.AUDIT_VERIFIED_AT, verified),
        Sample(metrics.AUDIT_BROKEN, 0 if tree is None or tree.broken_at is None else 1),
    ]


async def _count(tx: Tx, table: sa.Table, where: sa.ColumnElement[bool]) -> int:
    return int(await tx.scalar(sa.select(sa.func.count()).select_from(table).where(where)))


async def types_of(tx: Tx, scope: Scope, kind: type[IssuerRecord | TargetRecord]) -> list[str]:
    """The types of issuers or targets that are configured."""
    table, _ = catalogue.TABLES[kind]
    rows = await tx.execute(
        sa.select(table.c.type).where(catalogue.in_scope(kind, scope)).distinct().order_by(table.c.type)
    )
    return [row.type for row in rows]

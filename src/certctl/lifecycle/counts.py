"""What the stages count of themselves, in the transaction of what they count; `telemetry.metrics` says what each is."""

from __future__ import annotations

from datetime import timedelta

from certctl.core.catalogue import IssuerRecord
from certctl.core.errors import ConnectorError, TrustError
from certctl.core.job import Job
from certctl.core.target import TargetRecord
from certctl.lifecycle.context import Context
from certctl.store import catalogue
from certctl.store.tx import Tx
from certctl.telemetry import metrics

GONE = "deleted"


async def answered(tx: Tx, ctx: Context, job: Job, waited: timedelta) -> None:
    """The CA's answer is here."""
    issuer_type = await _issuer_type(tx, ctx, job)
    _count(tx, ctx, metrics.ISSUANCE_SECONDS, waited.total_seconds(), issuer_type=issuer_type)


async def issued(tx: Tx, ctx: Context, job: Job) -> None:
    """The CA's answer was judged right and recorded."""
    _count(tx, ctx, metrics.ISSUANCE, issuer_type=await _issuer_type(tx, ctx, job), outcome="success")


async def ask_failed(tx: Tx, ctx: Context, job: Job, error: Exception) -> None:
    """The CA was asked in vain, or its answer was wrong."""
    issuer_type = await _issuer_type(tx, ctx, job)
    _count(tx, ctx, metrics.ISSUANCE, issuer_type=issuer_type, outcome="failure")
    _count(tx, ctx, metrics.ISSUANCE_FAILURES, issuer_type=issuer_type, error_class=error_class(error))


def error_class(error: Exception) -> str:
    """The word of `metrics.ERROR_CLASSES` that a failed ask is counted under."""
    if isinstance(error, ConnectorError):
        return error.cause
    return "validation" if isinstance(error, TrustError) else "other"


async def deploy_ended(tx: Tx, ctx: Context, job: Job, result: str) -> None:
    """A deployment was applied (`success`), or one attempt at it failed (`failure`)."""
    _count(tx, ctx, metrics.DEPLOY_ATTEMPTS, target_type=await _target_type(tx, ctx, job), result=result)


async def seen_wrong(tx: Tx, ctx: Context, job: Job) -> None:
    """A target was looked at and did not serve what was deployed."""
    _count(tx, ctx, metrics.DEPLOY_UNVERIFIED, target_type=await _target_type(tx, ctx, job))


def _count(tx: Tx, ctx: Context, metric: metrics.Metric, amount: float = 1, **labels: str) -> None:
    tx.count(ctx.scope.tenant_id, metric, amount, **labels)


async def _issuer_type(tx: Tx, ctx: Context, job: Job) -> str:
    issuer_id = str(job.body.get("issuer_id", ""))
    key = (ctx.scope, IssuerRecord, issuer_id)
    found = tx.first_seen.get(key) or await catalogue.find(tx, ctx.scope, IssuerRecord, id=issuer_id)
    return found.type if found else GONE


async def _target_type(tx: Tx, ctx: Context, job: Job) -> str:
    key = (ctx.scope, TargetRecord, job.target_id)
    found = tx.first_seen.get(key) or await catalogue.find(tx, ctx.scope, TargetRecord, id=job.target_id)
    return found.type if found else GONE

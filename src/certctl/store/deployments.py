"""Deployments (one version on one target) and what was observed to be served: what only the lifecycle may write."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from certctl.core.errors import Conflict
from certctl.core.scope import Scope
from certctl.core.status import DEPLOYMENT, DeploymentStatus, before
from certctl.core.target import Deployment
from certctl.store import arrays
from certctl.store.schema import deployments, observations
from certctl.store.tx import Tx


async def insert_deployment(tx: Tx, scope: Scope, deployment: Deployment) -> None:
    """Write the intent to put a version on a target, once a job; older unfinished intents for the target are
    superseded.
    """
    row = {name: getattr(deployment, name) for name in deployment.__struct_fields__}
    await tx.execute(tx.insert(deployments).values(row).on_conflict_do_nothing(index_elements=["tenant_id", "job_id"]))
    del scope


async def deployments_of_jobs(tx: Tx, scope: Scope, job_ids: Sequence[str]) -> dict[str, Deployment]:
    """The deployments of many jobs, by job id."""
    if not job_ids:
        return {}
    rows = await tx.all(
        Deployment,
        sa.select(deployments).where(
            deployments.c.tenant_id == scope.tenant_id, deployments.c.job_id.in_(tuple(job_ids))
        ),
    )
    return {row.job_id: row for row in rows}


async def deployments_of_versions(tx: Tx, scope: Scope, version_ids: Sequence[str]) -> list[Deployment]:
    """Every deployment of these versions, oldest first."""
    if not version_ids:
        return []
    return await tx.all(
        Deployment,
        sa.select(deployments)
        .where(deployments.c.tenant_id == scope.tenant_id, deployments.c.version_id.in_(tuple(version_ids)))
        .order_by(deployments.c.created_at, deployments.c.id),
    )


async def move_deployment(
    tx: Tx, scope: Scope, deployment_id: str, status: DeploymentStatus, now: datetime, **values: Any
) -> None:
    """Guarded change of status; raises Conflict when the deployment may not move so."""
    allowed = {*before(DEPLOYMENT, status), str(status)}
    moved = await tx.execute(
        sa.update(deployments)
        .where(
            deployments.c.tenant_id == scope.tenant_id,
            deployments.c.id == deployment_id,
            deployments.c.status.in_(allowed),
        )
        .values(values | {"status": status, "updated_at": now})
    )
    if moved.rowcount != 1:
        raise Conflict(f"the deployment may not become {status} from where it stands")


async def apply_all(tx: Tx, scope: Scope, pending: Sequence[Deployment], now: datetime) -> int:
    """Mark pending deployments as being applied; how many were still pending."""
    return await arrays.update(
        tx,
        deployments,
        [{"row_id": one.id} for one in pending],
        match={"row_id": deployments.c.id.name},
        alike={"status": DeploymentStatus.APPLYING, "updated_at": now},
        where={"tenant_id": scope.tenant_id, "status": DeploymentStatus.PENDING},
    )


async def supersede_others(tx: Tx, scope: Scope, deployment: Deployment, now: datetime) -> None:
    """Every earlier deployment on the same target speaks of the past now that `deployment` is verified there."""
    await tx.execute(
        sa.update(deployments)
        .where(
            deployments.c.tenant_id == scope.tenant_id,
            deployments.c.target_id == deployment.target_id,
            deployments.c.id != deployment.id,
            deployments.c.created_at <= deployment.created_at,
            deployments.c.status != DeploymentStatus.SUPERSEDED,
        )
        .values(status=DeploymentStatus.SUPERSEDED, updated_at=now)
    )


async def insert_observation(
    tx: Tx,
    scope: Scope,
    *,
    observation_id: str,
    deployment: Deployment,
    expected: str,
    observed: str,
    error: str,
    observed_by: str,
    now: datetime,
) -> None:
    """What was seen at a target, when, and by whom."""
    await tx.execute(
        sa.insert(observations).values(
            tenant_id=scope.tenant_id,
            id=observation_id,
            deployment_id=deployment.id,
            target_id=deployment.target_id,
            expected_fingerprint=expected,
            observed_fingerprint=observed,
            error=error,
            observed_by=observed_by,
            observed_at=now,
        )
    )

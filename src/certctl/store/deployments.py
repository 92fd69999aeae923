"""Deployments (one version on one target) and what was observed to be served: what only the lifecycle may write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from msgspec import Struct, structs

from certctl.core.errors import Conflict
from certctl.core.scope import Scope
from certctl.core.status import DEPLOYMENT, DeploymentStatus, before
from certctl.core.target import Deployment
from certctl.store import arrays
from certctl.store.among import any_of
from certctl.store.schema import deployments, observations
from certctl.store.tx import Tx


async def insert_deployments(tx: Tx, scope: Scope, made: Sequence[Deployment]) -> None:
    """Write the intents to put versions on targets, each once a job."""
    del scope
    await arrays.insert(tx, deployments, [structs.asdict(one) for one in made], once=True)


async def deployments_of_jobs(tx: Tx, scope: Scope, job_ids: Sequence[str]) -> dict[str, Deployment]:
    """The deployments of many jobs, by job id."""
    if not job_ids:
        return {}
    rows = await tx.all(
        Deployment,
        sa.select(deployments).where(deployments.c.tenant_id == scope.tenant_id, any_of(deployments.c.job_id, job_ids)),
    )
    return {row.job_id: row for row in rows}


async def deployments_of_versions(tx: Tx, scope: Scope, version_ids: Sequence[str]) -> list[Deployment]:
    """Every deployment of these versions, oldest first."""
    if not version_ids:
        return []
    return await tx.all(
        Deployment,
        sa.select(deployments)
        .where(deployments.c.tenant_id == scope.tenant_id, any_of(deployments.c.version_id, version_ids))
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


async def change_all(tx: Tx, scope: Scope, now: datetime, changed: Mapping[str, Mapping[str, Any]]) -> None:
    """Write other values, the same columns of each, into deployments (by id) that the caller has locked."""
    same = {"tenant_id": scope.tenant_id, "updated_at": now}
    await arrays.change(tx, deployments, [same | {"id": name} | dict(columns) for name, columns in changed.items()])


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


async def supersede_beside(tx: Tx, scope: Scope, verified: Sequence[Deployment], now: datetime) -> None:
    """Every earlier deployment on the targets of these, which are verified there now and of which each has a target of
    its own, speaks of the past.
    """
    newer = deployments.alias("newer")
    is_earlier = (
        sa.exists()
        .where(
            newer.c.tenant_id == deployments.c.tenant_id,
            newer.c.target_id == deployments.c.target_id,
            newer.c.id != deployments.c.id,
            deployments.c.created_at <= newer.c.created_at,
            any_of(newer.c.id, [one.id for one in verified]),
        )
        .correlate(deployments)
    )
    await tx.execute(
        sa.update(deployments)
        .where(
            deployments.c.tenant_id == scope.tenant_id,
            any_of(deployments.c.target_id, [one.target_id for one in verified]),
            deployments.c.status != DeploymentStatus.SUPERSEDED,
            is_earlier,
        )
        .values(status=DeploymentStatus.SUPERSEDED, updated_at=now)
    )


class Observation(Struct, frozen=True, kw_only=True):
    """What was seen served where a deployment put its version; by whom: an agent's id, or a word for the server."""

    id: str
    deployment: Deployment
    expected: str
    observed: str
    observed_by: str
    error: str = ""


async def insert_observations(tx: Tx, scope: Scope, seen: Sequence[Observation], now: datetime) -> None:
    """Write what was seen just now."""
    rows = [
        {
            "tenant_id": scope.tenant_id,
            "id": one.id,
            "deployment_id": one.deployment.id,
            "target_id": one.deployment.target_id,
            "expected_fingerprint": one.expected,
            "observed_fingerprint": one.observed,
            "error": one.error,
            "observed_by": one.observed_by,
            "observed_at": now,
        }
        for one in seen
    ]
    await arrays.insert(tx, observations, rows)

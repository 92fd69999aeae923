"""Steps that agents report on at the same time, with what they are about: each look is one statement for all of them.

Whoever writes what comes of them holds their rows' locks, which these looks take in the order of the steps' ids.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from msgspec import Struct

from certctl.core.certificate import VersionFacts
from certctl.core.job import Job, Step
from certctl.core.scope import Scope
from certctl.core.status import StepStatus
from certctl.core.target import Deployment, TargetRecord
from certctl.store import together
from certctl.store.among import any_given
from certctl.store.schema import deployments, jobs, steps, targets, versions
from certctl.store.statements import Statement
from certctl.store.tx import Tx

_OF_ITS_JOB = sa.and_(jobs.c.tenant_id == steps.c.tenant_id, jobs.c.id == steps.c.job_id)
_LEASED = (
    steps.c.tenant_id == sa.bindparam("tenant_id"),
    any_given(steps.c.id, "step_ids"),
    steps.c.status == StepStatus.LEASED,
)
_STEPS = (*together.columns(Step, steps, "step"), *together.columns(Job, jobs, "job"))
_WITH_JOBS = Statement(sa.select(*_STEPS).join_from(steps, jobs, _OF_ITS_JOB).where(*_LEASED).order_by(steps.c.id))
_WITH_JOBS_LOCKED = Statement(_WITH_JOBS.clause.with_for_update())
_CERTIFICATES = Statement(sa.select(jobs.c.certificate_id).join_from(steps, jobs, _OF_ITS_JOB).where(*_LEASED))
_DEPLOYMENTS_LOCKED = Statement(
    sa.select(
        *_STEPS,
        *together.columns(Deployment, deployments, "deployment"),
        *together.columns(VersionFacts, versions, "version"),
        *together.columns(TargetRecord, targets, "target"),
    )
    .join_from(steps, jobs, _OF_ITS_JOB)
    .join(deployments, sa.and_(deployments.c.tenant_id == jobs.c.tenant_id, deployments.c.job_id == jobs.c.id))
    .join(versions, sa.and_(versions.c.tenant_id == jobs.c.tenant_id, versions.c.id == jobs.c.version_id))
    .join(targets, sa.and_(targets.c.tenant_id == jobs.c.tenant_id, targets.c.id == jobs.c.target_id))
    .where(*_LEASED)
    .order_by(steps.c.id)
    .with_for_update(of=(steps, jobs, deployments))
)


class Deploying(Struct, frozen=True):
    """A leased step of a deployment, and what is deployed where."""

    step: Step
    job: Job
    deployment: Deployment
    version: VersionFacts
    target: TargetRecord


async def leased(tx: Tx, scope: Scope, step_ids: Sequence[str], *, lock: bool = False) -> dict[str, tuple[Step, Job]]:
    """Those of these steps that are leased, each with its job, by step id; whether it is by the fence that somebody
    knows is for them to see.
    """
    statement = _WITH_JOBS_LOCKED if lock else _WITH_JOBS
    rows = (await tx.execute(statement, tenant_id=scope.tenant_id, step_ids=step_ids)).all()
    found = [together.taken_apart(row, Step, Job) for row in rows]
    return {step.id: (step, job) for step, job in found}


async def certificates_of(tx: Tx, scope: Scope, step_ids: Sequence[str]) -> set[str]:
    """The ids of the certificates that these steps, as far as they are leased, are about."""
    found = await tx.execute(_CERTIFICATES, tenant_id=scope.tenant_id, step_ids=step_ids)
    return set(found.scalars())


async def deploying(tx: Tx, scope: Scope, step_ids: Sequence[str]) -> dict[str, Deploying]:
    """Those of these steps that are leased and belong to a deployment, by step id. Step, job and deployment are
    locked.
    """
    rows = (await tx.execute(_DEPLOYMENTS_LOCKED, tenant_id=scope.tenant_id, step_ids=step_ids)).all()
    kinds = (Step, Job, Deployment, VersionFacts, TargetRecord)
    found = [Deploying(*together.taken_apart(row, *kinds)) for row in rows]
    return {one.step.id: one for one in found}

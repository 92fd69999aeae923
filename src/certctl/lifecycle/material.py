"""Which version goes to which target, and what an agent is told of both: shared by deploy and plan. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TypeVar

from msgspec import Struct

from certctl.core.certificate import Certificate, Version
from certctl.core.errors import Conflict, NotFound
from certctl.core.job import Job, Step
from certctl.core.status import JobStatus, VersionStatus
from certctl.core.target import Deployment, TargetRecord
from certctl.lifecycle.context import Context
from certctl.pki.pem import certificate_pem
from certctl.store import catalogue, certificates, deployments
from certctl.store.tx import Tx
from certctl.wire.agent import WorkItem

FoundT = TypeVar("FoundT")


async def pairs(
    tx: Tx, ctx: Context, certificate: Certificate, *, target_id: str = "", version_id: str = ""
) -> list[tuple[TargetRecord, Version]]:
    """One target or all, each with its holder's current version or the named older one. NotFound, Conflict."""
    targets = await certificates.targets_of(tx, ctx.scope, certificate.id)
    if target_id:
        targets = [target for target in targets if target.id == target_id]
    if not targets:
        raise NotFound(f"certificate {certificate.id} is mapped to no such enabled target")
    if not version_id:
        return await _current(tx, ctx, certificate, targets)
    version = await certificates.version_of(tx, ctx.scope, certificate.id, version_id)
    if version.status == VersionStatus.REVOKED:
        raise Conflict(f"version {version_id} is revoked and is not deployed again")
    if version.not_after <= ctx.now():
        raise Conflict(f"version {version_id} has expired and is not deployed again")
    found = [(target, version) for target in targets if target.agent_id == version.holder_id]
    if not found:
        raise Conflict("the key of this version is on another host than these targets")
    return found


async def _current(
    tx: Tx, ctx: Context, certificate: Certificate, targets: list[TargetRecord]
) -> list[tuple[TargetRecord, Version]]:
    current = await certificates.current_versions(tx, ctx.scope, certificate.id)
    found = [(target, current[target.agent_id]) for target in targets if target.agent_id in current]
    if not found:
        raise Conflict("there is nothing to deploy yet: no version has been issued for these targets' hosts")
    return found


class Stock(Struct, frozen=True):
    """What the steps that an agent takes at once are about: versions, targets and certificates by their ids,
    deployments by their jobs.
    """

    versions: Mapping[str, Version]
    targets: Mapping[str, TargetRecord]
    certificates: Mapping[str, Certificate]
    deployments: Mapping[str, Deployment]

    def version(self, job: Job) -> Version:
        """The version that a job puts somewhere. NotFound."""
        return _there(self.versions, job.version_id, "certificate version")

    def target(self, job: Job) -> TargetRecord:
        """Where. NotFound."""
        return _there(self.targets, job.target_id, "target")

    def certificate(self, job: Job) -> Certificate:
        """Whose version it is. NotFound."""
        return _there(self.certificates, job.certificate_id, "certificate")

    def deployment(self, job: Job) -> Deployment:
        """The deployment of a job. NotFound."""
        found = self.deployments.get(job.id)
        if found is None:
            raise NotFound(f"job {job.id} has no deployment")
        return found


def _there(known: Mapping[str, FoundT], name: str, word: str) -> FoundT:
    found = known.get(name)
    if found is None:
        raise NotFound(f"no {word} {name}")
    return found


async def look(tx: Tx, ctx: Context, known: Sequence[Job]) -> Stock:
    """Read what these jobs are about, each kind by one statement."""
    if not known:
        return Stock({}, {}, {}, {})
    version_ids = tuple({job.version_id for job in known})
    target_ids = tuple({job.target_id for job in known})
    certificate_ids = tuple({job.certificate_id for job in known})
    return Stock(
        versions=await certificates.versions_by_id(tx, ctx.scope, version_ids),
        targets=await catalogue.many(tx, ctx.scope, TargetRecord, target_ids),
        certificates=await certificates.certificates_by_id(tx, ctx.scope, certificate_ids),
        deployments=await deployments.deployments_of_jobs(tx, ctx.scope, [job.id for job in known]),
    )


def item(stock: Stock, step: Step, job: Job, lease: timedelta, *, plan_id: str) -> WorkItem:
    """The version and the target of a job, as an agent gets them."""
    version, target, certificate = stock.version(job), stock.target(job), stock.certificate(job)
    return WorkItem(
        id=job.id,
        type=str(job.type),
        certificate_id=job.certificate_id,
        status=str(JobStatus.RUNNING),
        common_name=certificate.common_name,
        sans=certificate.sans,
        target_id=target.id,
        target_type=target.type,
        target_config=target.config,
        step_id=step.id,
        step_kind=str(step.kind),
        fence=step.fence,
        lease_seconds=lease.total_seconds(),
        attempt=step.attempts,
        version_id=version.id,
        key_job_id=version.job_id,
        plan_id=plan_id,
        certificate_pem=certificate_pem(version.leaf_der),
        chain_pem=version.chain_pem,
        fingerprint_sha256=version.fingerprint_sha256,
        traceparent=job.traceparent,
    )

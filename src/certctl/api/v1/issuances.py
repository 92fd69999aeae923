"""/api/v1/certificates/bulk-issue: many certificates for keys that the caller holds, each judged by itself."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from litestar import post
from litestar.params import JSONBody

from certctl.api.guard import needs
from certctl.api.request import ApiRequest
from certctl.client.models.issuances import BulkIssueAnswer, BulkIssueBody, IssueItem, IssueResult
from certctl.client.models.problem import ProblemViolation
from certctl.core.certificate import Version
from certctl.core.errors import CertctlError, Temporary
from certctl.core.job import Job
from certctl.core.status import LIVE_JOB
from certctl.doors.driving import drive, ids
from certctl.lifecycle import flow
from certctl.lifecycle import request as request_stage
from certctl.lifecycle.request import NewCertificate
from certctl.lifecycle.together import Member
from certctl.pki.pem import certificate_pem
from certctl.store import views


@post("/certificates/bulk-issue", status_code=200, opt=needs("cert.issue"), summary="Issue many certificates")
async def bulk_issue(request: ApiRequest, data: JSONBody[BulkIssueBody]) -> BulkIssueAnswer:
    """Each with its CSR, at most 500 a call, and each by itself: what is refused fails its item alone."""
    wanted = [_wanted(item) for item in data.certificates]
    found = await request.door.issuing.ask_all(request.visible, request.actor, wanted)
    if all(isinstance(one, Temporary) for one in found):
        raise next(one for one in found if isinstance(one, Temporary))
    chains: dict[str, str] = {}
    results = [
        await _result(request, chains, index, wish, one)
        for index, (wish, one) in enumerate(zip(wanted, found, strict=True))
    ]
    return _answer(results, chains)


def _wanted(item: IssueItem) -> NewCertificate:
    said = {name: value for name, value in msgspec.structs.asdict(item).items() if value not in ("", None)}
    return NewCertificate(**said, source="API")


async def _result(
    request: ApiRequest,
    chains: dict[str, str],
    index: int,
    wanted: NewCertificate,
    found: Member | CertctlError | None,
) -> IssueResult:
    if isinstance(found, CertctlError):
        return _failed(index, found)
    if found is None:
        return await _alone(request, chains, index, wanted)
    if found.version is None:
        return IssueResult(
            index=index, status="under_way", certificate_id=found.certificate.id, job_id=found.made.job.id
        )
    return _issued(chains, index, found.version)


async def _alone(request: ApiRequest, chains: dict[str, str], index: int, wanted: NewCertificate) -> IssueResult:
    """One that does not go with the others, and what has come of its job by now."""
    ctx = flow.driving(request.ctx)
    try:
        made, jobs = await request_stage.create(ctx, request.visible, request.actor, wanted)
        await drive(request.door, ids(jobs), ctx)
        async with request.ctx.database.read() as tx:
            job = await views.job(tx, request.visible, jobs[0].id)
            if job.version_id:
                return _issued(chains, index, await views.version(tx, request.visible, made.id, job.version_id))
    except CertctlError as error:
        return _failed(index, error)
    return _told_by(index, job)


def _told_by(index: int, job: Job) -> IssueResult:
    if job.status in LIVE_JOB:
        return IssueResult(index=index, status="under_way", certificate_id=job.certificate_id, job_id=job.id)
    return IssueResult(
        index=index,
        status="failed",
        certificate_id=job.certificate_id,
        job_id=job.id,
        code=job.error_kind,
        error=job.last_error,
    )


def _issued(chains: dict[str, str], index: int, version: Version) -> IssueResult:
    chains.setdefault(version.ca_certificate_id, version.chain_pem)
    return IssueResult(
        index=index,
        status="issued",
        certificate_id=version.certificate_id,
        job_id=version.job_id,
        version_id=version.id,
        ca_certificate_id=version.ca_certificate_id,
        serial_number=version.serial_number,
        fingerprint_sha256=version.fingerprint_sha256,
        not_after=version.not_after,
        cert_pem=certificate_pem(version.leaf_der),
    )


def _failed(index: int, error: CertctlError) -> IssueResult:
    violations = [
        ProblemViolation(rule=each.rule, message=each.message, field=each.field)
        for each in getattr(error, "violations", ())
    ]
    return IssueResult(index=index, status="failed", code=error.code, error=error.message, violations=violations)


def _answer(results: Sequence[IssueResult], chains: dict[str, str]) -> BulkIssueAnswer:
    number = {status: sum(each.status == status for each in results) for status in ("issued", "under_way", "failed")}
    return BulkIssueAnswer(
        total=len(results),
        total_issued=number["issued"],
        total_under_way=number["under_way"],
        total_failed=number["failed"],
        chains=chains,
        results=list(results),
    )


HANDLERS = (bulk_issue,)

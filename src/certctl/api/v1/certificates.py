"""/api/v1/certificates: request, look at, change, renew, deploy, revoke, export."""

from __future__ import annotations

from collections.abc import Sequence

from litestar import Response, delete, get, post, put
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, FromQuery, JSONBody

from certctl.api.guard import edits, needs
from certctl.api.lists import answer_list, answer_whole, in_one_piece, listed
from certctl.api.patching import patched
from certctl.api.request import ApiRequest
from certctl.api.shown import given, shown
from certctl.api.v1.versions import version_view
from certctl.client.models.certificates import (
    CertificateView,
    CertificateWrite,
    CsrBody,
    DeployBody,
    DeploymentsAnswer,
    DeploymentState,
    DeploymentTargetView,
    PemExport,
    RenewBody,
    RevokeBody,
    VersionView,
)
from certctl.client.models.page import PageOf, StatusAnswer
from certctl.control import exports
from certctl.core.certificate import Certificate
from certctl.core.errors import Malformed, Violation
from certctl.core.scope import Scope
from certctl.core.target import Deployment, TargetRecord
from certctl.doors.driving import drive, drive_pending, ids
from certctl.lifecycle import deploy, flow, plan, renew, revoke
from certctl.lifecycle import request as request_stage
from certctl.pki.pem import certificate_pem
from certctl.store import views
from certctl.store.listings import CERTIFICATES, VERSIONS
from certctl.store.tx import Tx
from certctl.store.whole_listings import PLACES


@get("/certificates", opt=needs("cert.read") | listed(CERTIFICATES), summary="List certificates")
async def list_certificates(request: ApiRequest) -> PageOf[CertificateView]:
    """The oldest first, unless another order is asked for."""
    return await answer_list(request, CertificateView, show_all=_views)


async def _views(tx: Tx, visible: Scope, found: Sequence[Certificate]) -> list[CertificateView]:
    targets = await views.target_ids(tx, visible, [row.id for row in found])
    return [_view(row, targets[row.id]) for row in found]


def _view(certificate: Certificate, target_ids: list[str]) -> CertificateView:
    return shown(CertificateView, certificate, target_ids=target_ids)


async def _shown(request: ApiRequest, certificate_id: str) -> CertificateView:
    async with request.ctx.database.read() as tx:
        found, targets = await views.with_targets(tx, request.visible, certificate_id)
    return _view(found, targets)


@post("/certificates", status_code=201, opt=needs("cert.issue"), summary="Request a certificate")
async def create_certificate(request: ApiRequest, data: JSONBody[CertificateWrite]) -> CertificateView:
    """One issuing job a key holder: each agent of `target_ids`, or the caller when `csr_pem` is given."""
    if not data.common_name:
        message = "common_name is needed"
        raise Malformed(message, violations=(Violation("field_is_missing", message, "common_name"),))
    wanted = request_stage.NewCertificate(**given(data), source="API")
    member = await request.door.issuing.ask(request.visible, request.actor, wanted)
    if member is not None and member.version is not None:
        return _view(member.certificate, [])
    if member is not None:
        return await _shown(request, member.certificate.id)
    ctx = flow.driving(request.ctx) if wanted.csr_pem else request.ctx
    certificate, jobs = await request_stage.create(ctx, request.visible, request.actor, wanted)
    await drive(request.door, ids(jobs), ctx)
    return await _shown(request, certificate.id)


@get("/certificates/{certificate_id:str}", opt=needs("cert.read"), summary="One certificate")
async def show_certificate(request: ApiRequest, certificate_id: FromPath[str]) -> CertificateView:
    """One certificate."""
    return await _shown(request, certificate_id)


@put("/certificates/{certificate_id:str}", opt=edits("cert.edit"), summary="Change a certificate")
async def update_certificate(
    request: ApiRequest, certificate_id: FromPath[str], data: JSONBody[CertificateWrite]
) -> CertificateView:
    """Field by field; names change with the next version. Targets newly mapped get a version."""
    if data.csr_pem:
        message = f"send a CSR to POST /api/v1/certificates/{certificate_id}/csr"
        raise Malformed(message, violations=(Violation("not_on_update", message, "csr_pem"),))
    changes = request_stage.CertificateChanges(**request.changes(data, certificate_id, but=("csr_pem",)))
    await request_stage.update(request.ctx, request.visible, request.actor, certificate_id, changes, request.expected)
    await drive_pending(request.door, certificate_id)
    return await _shown(request, certificate_id)


@delete(
    "/certificates/{certificate_id:str}", status_code=204, opt=edits("cert.delete"), summary="Archive a certificate"
)
async def archive_certificate(request: ApiRequest, certificate_id: FromPath[str]) -> None:
    """What was issued stays valid until it is revoked."""
    await request_stage.archive(request.ctx, request.visible, request.actor, certificate_id, request.expected)


@get(
    "/certificates/{certificate_id:str}/versions",
    opt=needs("cert.read") | listed(VERSIONS),
    summary="Versions of a certificate",
)
async def list_versions(request: ApiRequest, certificate_id: FromPath[str]) -> PageOf[VersionView]:
    """Newest first."""
    async with request.ctx.database.read() as tx:
        await views.certificate(tx, request.visible, certificate_id)
    return await answer_list(request, VersionView, show=version_view, fixed={"certificate_id": certificate_id})


@get(
    "/certificates/{certificate_id:str}/deployments",
    opt=needs("cert.read") | in_one_piece(PLACES),
    summary="Where a certificate is",
)
async def list_deployments(request: ApiRequest, certificate_id: FromPath[str]) -> DeploymentsAnswer:
    """Every mapped target, with what is known of the certificate there."""
    async with request.ctx.database.read() as tx:
        await views.certificate(tx, request.visible, certificate_id)

    async def show(tx: Tx, visible: Scope, targets: Sequence[TargetRecord]) -> list[DeploymentTargetView]:
        newest = await views.newest_deployments(tx, visible, certificate_id)
        return [_place(target, newest.get(target.id)) for target in targets]

    return await answer_whole(
        request, DeploymentsAnswer, DeploymentTargetView, show_all=show, fixed={"certificate_id": certificate_id}
    )


def _place(target: TargetRecord, deployment: Deployment | None) -> DeploymentTargetView:
    state = shown(DeploymentState, deployment) if deployment else None
    return shown(DeploymentTargetView, target, deployment=state)


@post("/certificates/{certificate_id:str}/renew", status_code=202, opt=needs("cert.issue"), summary="Renew now")
async def renew_certificate(
    request: ApiRequest,
    certificate_id: FromPath[str],
    data: JSONBody[RenewBody | None] = None,
    force: FromQuery[bool] = False,
) -> StatusAnswer:
    """Every key holder makes a new key."""
    forced = force or (data is not None and data.force)
    jobs = await renew.trigger(request.ctx, request.visible, request.actor, certificate_id, force=forced)
    await drive(request.door, ids(jobs))
    return StatusAnswer(status="renewal_triggered", job_ids=ids(jobs))


@post("/certificates/{certificate_id:str}/deploy", status_code=202, opt=needs("cert.edit"), summary="Deploy now")
async def deploy_certificate(
    request: ApiRequest, certificate_id: FromPath[str], data: JSONBody[DeployBody | None] = None
) -> StatusAnswer:
    """The current version of each holder, or the named one (a rollback).

    With `dry_run` the agents say what would be done and touch nothing; the plan stands in the job, as `plan`.
    """
    wanted = data or DeployBody()
    act = plan.trigger if wanted.dry_run else deploy.trigger
    jobs = await act(
        request.ctx,
        request.visible,
        request.actor,
        certificate_id,
        target_id=wanted.target_id,
        version_id=wanted.version_id,
    )
    status = "deployment_planned" if wanted.dry_run else "deployment_triggered"
    return StatusAnswer(status=status, job_ids=ids(jobs))


@post("/certificates/{certificate_id:str}/revoke", status_code=200, opt=needs("cert.revoke"), summary="Revoke")
async def revoke_certificate(
    request: ApiRequest, certificate_id: FromPath[str], data: JSONBody[RevokeBody | None] = None
) -> StatusAnswer:
    """Every version that could still be trusted, or the named one. OCSP and CRL speak of it at once."""
    wanted = data or RevokeBody()
    job = await revoke.trigger(
        request.ctx,
        request.visible,
        request.actor,
        certificate_id,
        reason=wanted.reason,
        version_id=wanted.version_id,
        replace=wanted.replace,
    )
    if job.completed_at is None:
        await drive(request.door, [job.id])
    if wanted.replace:
        await drive_pending(request.door, certificate_id)
    return StatusAnswer(status="revoked", job_id=job.id)


@post("/certificates/{certificate_id:str}/csr", status_code=202, opt=needs("cert.issue"), summary="Send a CSR")
async def submit_csr(request: ApiRequest, certificate_id: FromPath[str], data: JSONBody[CsrBody]) -> StatusAnswer:
    """The caller keeps the key; names and life come from the certificate, the CSR gives its public key."""
    ctx = flow.driving(request.ctx)
    job = await request_stage.submit_csr(ctx, request.visible, request.actor, certificate_id, data.csr_pem)
    await drive(request.door, [job.id], ctx)
    return StatusAnswer(status="csr_accepted", job_id=job.id)


@get(
    "/certificates/{certificate_id:str}/export/pem",
    opt=needs("cert.read"),
    summary="Export as PEM",
    responses={200: ResponseSpec(bytes, generate_examples=False, media_type="application/x-pem-file", description="")},
)
async def export_pem(
    request: ApiRequest,
    certificate_id: FromPath[str],
    version_id: FromQuery[str] = "",
    download: FromQuery[bool] = False,
) -> Response[PemExport]:
    """The newest current version, or the named one; `download=true` answers with a file."""
    version = await exports.export(request.ctx, request.visible, request.actor, certificate_id, version_id=version_id)
    leaf = certificate_pem(version.leaf_der)
    body = PemExport(cert_pem=leaf, chain_pem=version.chain_pem, full_pem=leaf + version.chain_pem)
    if not download:
        return Response(body, media_type="application/json")
    headers = {"Content-Disposition": f'attachment; filename="{certificate_id}.pem"'}
    # a download is bytes, not JSON; the schema above is what the plain form has
    return Response(
        body.full_pem.encode(),  # type: ignore[arg-type]  # see above
        media_type="application/x-pem-file",
        headers=headers,
    )


HANDLERS = (
    list_certificates,
    create_certificate,
    show_certificate,
    update_certificate,
    patched(show_certificate, update_certificate),
    archive_certificate,
    list_versions,
    list_deployments,
    renew_certificate,
    deploy_certificate,
    revoke_certificate,
    submit_csr,
    export_pem,
)

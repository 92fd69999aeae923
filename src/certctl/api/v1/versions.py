"""/api/v1/certificates/{id}/versions/{version_id}: one version, put back, and exported as PKCS #12."""

from __future__ import annotations

import asyncio

from litestar import Response, get, post
from litestar.params import FromPath, JSONBody

from certctl.api.guard import needs
from certctl.api.request import ApiRequest
from certctl.api.shown import shown
from certctl.client.models.certificates import Pkcs12Body, VersionView
from certctl.client.models.page import StatusAnswer
from certctl.control import exports
from certctl.core.certificate import Version
from certctl.doors.driving import ids
from certctl.lifecycle import deploy
from certctl.pki.csr import csr_pem
from certctl.pki.pem import certificate_pem, read_certificates
from certctl.pki.pkcs12 import trust_store
from certctl.store import views

PKCS12 = "application/x-pkcs12"


def version_view(version: Version) -> VersionView:
    """A version as clients see it."""
    return shown(
        VersionView,
        version,
        pem_chain=certificate_pem(version.leaf_der) + version.chain_pem,
        csr_pem=csr_pem(version.csr_der) if version.csr_der else "",
    )


@get("/certificates/{certificate_id:str}/versions/{version_id:str}", opt=needs("cert.read"), summary="One version")
async def show_certificate_version(
    request: ApiRequest, certificate_id: FromPath[str], version_id: FromPath[str]
) -> VersionView:
    """One version of this certificate."""
    async with request.ctx.database.read() as tx:
        return version_view(await views.version(tx, request.visible, certificate_id, version_id))


@post(
    "/certificates/{certificate_id:str}/versions/{version_id:str}/rollback",
    status_code=202,
    opt=needs("cert.edit"),
    summary="Put an older version back",
)
async def roll_back(request: ApiRequest, certificate_id: FromPath[str], version_id: FromPath[str]) -> StatusAnswer:
    """On the targets of the host that has its key. Revoked and expired versions are refused (409)."""
    jobs = await deploy.rollback(request.ctx, request.visible, request.actor, certificate_id, version_id)
    return StatusAnswer(status="rollback_triggered", job_ids=ids(jobs))


@post(
    "/certificates/{certificate_id:str}/export/pkcs12",
    status_code=200,
    opt=needs("cert.read"),
    summary="Export as PKCS #12",
    media_type=PKCS12,
)
async def export_pkcs12(
    request: ApiRequest, certificate_id: FromPath[str], data: JSONBody[Pkcs12Body | None] = None
) -> Response[bytes]:
    """A trust store: the newest current version (or the named one) and its chain, never a key."""
    wanted = data or Pkcs12Body()
    version = await exports.export(
        request.ctx, request.visible, request.actor, certificate_id, version_id=wanted.version_id, form="pkcs12"
    )
    chain = read_certificates(version.chain_pem) if version.chain_pem else ()
    content = await asyncio.to_thread(trust_store, (version.leaf_der, *chain), wanted.password)
    headers = {"Content-Disposition": f'attachment; filename="{certificate_id}.p12"'}
    return Response(content, media_type=PKCS12, headers=headers)


HANDLERS = (show_certificate_version, roll_back, export_pkcs12)

"""/api/v1/certificates/import, .../claim and .../reissue: certificates from elsewhere, and new keys for old."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from litestar import post
from litestar.params import FromPath, JSONBody
from msgspec import Struct

from certctl.api.guard import needs
from certctl.api.request import ApiRequest
from certctl.api.shown import given, shown
from certctl.client.models.certificates import CertificateView
from certctl.client.models.imports import ClaimBody, ImportAnswer, ImportBody, ImportItem, ImportResult, ReissueBody
from certctl.client.models.page import StatusAnswer
from certctl.core.errors import CallerError, Malformed, Violation
from certctl.doors.driving import drive, drive_pending, ids
from certctl.doors.identity import authorise
from certctl.lifecycle import adopt, renew
from certctl.lifecycle import request as request_stage
from certctl.pki import bundle
from certctl.pki.fingerprints import sha256_hex
from certctl.store import views


@post("/certificates/import", status_code=200, opt=needs("cert.edit"), summary="Import certificates")
async def import_certificates(request: ApiRequest, data: JSONBody[ImportBody]) -> ImportAnswer:
    """Watched from now on, renewed when claimed. One private key anywhere refuses all; other faults fail their item."""
    # nobody else waits while they are read; what is known by its bytes needs no more of it
    came = await asyncio.to_thread(_look_at_all, data.certificates)
    known = await adopt.known(request.ctx, request.visible, [one.fingerprint for one in came if one.fingerprint])
    read = await asyncio.to_thread(_read_all, came, known)
    found = [one for one in read if isinstance(one, adopt.Found)]
    unknown = all(one.fingerprint for one in came)
    done = iter(await adopt.adopt_all(request.ctx, request.visible, request.actor, found, unknown=unknown))
    became = [next(done) if isinstance(one, adopt.Found) else one for one in read]
    if len(became) == 1 and isinstance(became[0], CallerError):
        raise became[0]
    results = [_result(index, one) for index, one in enumerate(became)]
    number = {status: sum(each.status == status for each in results) for status in ("imported", "known", "failed")}
    return ImportAnswer(
        total=len(results),
        total_imported=number["imported"],
        total_known=number["known"],
        total_failed=number["failed"],
        results=results,
    )


def _result(index: int, became: adopt.Adopted | CallerError) -> ImportResult:
    if isinstance(became, CallerError):
        return ImportResult(index=index, status="failed", error=became.message)
    return ImportResult(
        index=index,
        status="imported" if became.is_new else "known",
        certificate_id=became.certificate_id,
        version_id=became.version_id,
        fingerprint_sha256=became.fingerprint_sha256,
    )


class _Came(Struct, frozen=True):
    """An item, looked at: its one certificate and the SHA-256 of it, empty where there are several or another form."""

    index: int
    item: ImportItem
    der: bytes
    fingerprint: str


def _look_at_all(items: Sequence[ImportItem]) -> list[_Came]:
    return [_look_at(item, index) for index, item in enumerate(items)]


def _look_at(item: ImportItem, index: int) -> _Came:
    """What can be said of an item before it is read; a private key in a text is raised before anything is written."""
    try:
        for text in (item.name, item.environment, *item.tags, *item.tags.values()):
            if text:
                bundle.refuse_private_key(text)
        der = bundle.one_of_pem(item.pem) if item.pem and not item.der else b""
    except Malformed as error:
        raise _in_body(error, index) from None
    return _Came(index, item, der, sha256_hex(der) if der else "")


def _read_all(
    came: Sequence[_Came], known: Mapping[str, adopt.Adopted | CallerError]
) -> list[adopt.Found | adopt.Adopted | CallerError]:
    return [known.get(one.fingerprint) or _read(one) for one in came]


def _read(came: _Came) -> adopt.Found | CallerError:
    """What an item holds, or why not; a private key is raised at once, before anything is written."""
    item = came.item
    try:
        if bool(item.pem) == bool(item.der):
            message = "give pem or der, one of them"
            return Malformed(message, violations=(Violation("field_is_missing", message, "pem"),))
        if came.der:
            read = bundle.read_one(came.der)
        else:
            read = bundle.read_pem(item.pem) if item.pem else bundle.read_der(item.der)
    except Malformed as error:
        if any(each.rule == bundle.PRIVATE_KEY for each in error.violations):
            raise _in_body(error, came.index) from None
        return error
    said = {name: getattr(item, name) for name in ("name", "environment", "owner_id", "team_id", "tags")}
    return adopt.Found(bundle=read, **said)


def _in_body(error: Malformed, index: int) -> Malformed:
    """The same, saying with which item it came."""
    violation = Violation(bundle.PRIVATE_KEY, error.message, f"certificates[{index}]")
    return Malformed(error.message, violations=(violation,))


@post(
    "/certificates/{certificate_id:str}/claim",
    status_code=200,
    opt=needs("cert.issue"),
    summary="Claim an imported certificate",
)
async def claim_certificate(
    request: ApiRequest, certificate_id: FromPath[str], data: JSONBody[ClaimBody | None] = None
) -> CertificateView:
    """Its next version is ours. Targets named get one at once; without any it is watched until some are mapped."""
    changes = request_stage.CertificateChanges(**given(data or ClaimBody()))
    claimed = await request_stage.claim(request.ctx, request.visible, request.actor, certificate_id, changes)
    await drive_pending(request.door, certificate_id)
    async with request.ctx.database.read() as tx:
        now = await views.certificate(tx, request.ctx.scope, claimed.id)
        targets = await views.target_ids(tx, request.ctx.scope, [claimed.id])
    return shown(CertificateView, now, target_ids=targets[claimed.id])


@post(
    "/certificates/{certificate_id:str}/reissue",
    status_code=202,
    opt=needs("cert.issue"),
    summary="New keys, and the old versions revoked if wanted",
)
async def reissue_certificate(
    request: ApiRequest, certificate_id: FromPath[str], data: JSONBody[ReissueBody | None] = None
) -> StatusAnswer:
    """Every key holder makes a new key. To revoke the old versions asks for the permission cert.revoke, too."""
    wanted = data or ReissueBody()
    if wanted.revoke_old:
        authorise(request.caller, "cert.revoke")
    jobs = await renew.reissue(
        request.ctx,
        request.visible,
        request.actor,
        certificate_id,
        revoke_old=wanted.revoke_old,
        reason=wanted.reason,
        force=wanted.force,
    )
    await drive(request.door, ids(jobs))
    return StatusAnswer(status="reissue_triggered", job_ids=ids(jobs))


HANDLERS = (import_certificates, claim_certificate, reissue_certificate)

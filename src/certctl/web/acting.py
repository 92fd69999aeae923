"""What is done to one certificate from its page: renew, deploy, put back, revoke, archive, export.

What cannot be undone has a page of its own that says the consequence in numbers and asks for the typed name.
"""

from __future__ import annotations

from litestar import Response, get, post
from litestar.params import FromPath
from msgspec import Struct

from certctl.control import exports
from certctl.core.status import CertificateStatus, DeploymentStatus
from certctl.doors.driving import drive, drive_pending, ids
from certctl.lifecycle import deploy, renew, revoke
from certctl.lifecycle import request as request_stage
from certctl.pki.pem import certificate_pem
from certctl.policy.revocation import RevocationReason
from certctl.store import views
from certctl.web.acts import act, going
from certctl.web.guard import needs
from certctl.web.marks import Facts
from certctl.web.pages import render
from certctl.web.request import Fields, WebRequest
from certctl.web.rows import gather
from certctl.web.words import exact, ngettext
from certctl.web.words import gettext as _

_AT = "/certificates/{certificate_id:str}"


class Allowed(Struct, frozen=True, kw_only=True):
    """Which acts the page offers: what the caller may do and the state of things lets."""

    renew: bool
    deploy: bool
    edit: bool
    revoke: bool
    archive: bool
    export: bool


def allowed(request: WebRequest, facts: Facts) -> Allowed:
    """What makes sense now; whatever is pressed is judged again."""
    status = facts.certificate.status
    alive = status != CertificateStatus.ARCHIVED
    return Allowed(
        renew=alive and request.may("cert.issue") and bool(facts.places) and bool(facts.certificate.issuer_id),
        deploy=alive and request.may("cert.edit") and bool(facts.places) and bool(facts.leaves),
        edit=alive and request.may("cert.edit"),
        revoke=request.may("cert.revoke") and bool(facts.leaves) and bool(facts.certificate.issuer_id),
        archive=alive and request.may("cert.delete"),
        export=bool(facts.leaves),
    )


async def _load(request: WebRequest, certificate_id: str) -> Facts:
    async with request.ctx.database.read() as tx:
        certificate = await views.certificate(tx, request.visible, certificate_id)
        (facts,) = await gather(tx, request.visible, [certificate], request.ctx.now())
    return facts


@post(f"{_AT}/renew", opt=needs("cert.issue"))
async def renew_now(request: WebRequest, certificate_id: FromPath[str]) -> Response[str]:
    """Every key holder makes a new key."""

    async def doing(fields: Fields) -> str:
        force = fields.get("force") == "yes"
        jobs = await renew.trigger(request.ctx, request.visible, request.actor, certificate_id, force=force)
        await drive(request.door, ids(jobs))
        return going(f"/certificates/{certificate_id}", "renewal")

    return await act(request, doing)


@post(f"{_AT}/deploy", opt=needs("cert.edit"))
async def deploy_now(request: WebRequest, certificate_id: FromPath[str]) -> Response[str]:
    """The current version of each holder, to one place or all."""

    async def doing(fields: Fields) -> str:
        target_id = fields.get("target_id")
        await deploy.trigger(request.ctx, request.visible, request.actor, certificate_id, target_id=target_id)
        return going(f"/certificates/{certificate_id}", "deployment")

    return await act(request, doing)


@get(f"{_AT}/versions/{{version_id:str}}/rollback", opt=needs("cert.edit"))
async def ask_rollback(request: WebRequest, certificate_id: FromPath[str], version_id: FromPath[str]) -> Response[str]:
    """What putting an older version back means."""
    facts = await _load(request, certificate_id)
    async with request.ctx.database.read() as tx:
        version = await views.version(tx, request.visible, certificate_id, version_id)
    places = [place for place in facts.places if place.agent_id == version.holder_id]
    name = facts.certificate.name
    return await render(
        request,
        "confirm.html",
        title=_("Put an older version of {name} back?").format(name=name),
        crumb=facts.certificate,
        consequence=ngettext(
            "{number} place gets it. It is the current one again once it is seen served there.",
            "{number} places get it. It is the current one again once it is seen served there.",
            len(places),
        ).format(number=len(places)),
        facts=[(_("Serial"), version.serial_number), (_("Ends"), exact(version.not_after))],
        action=f"/certificates/{certificate_id}/versions/{version_id}/rollback",
        verb=_("Put it back"),
        harm=False,
        typed="",
        reasons=[],
        fault="",
        replace=False,
        chosen="",
    )


@post(f"{_AT}/versions/{{version_id:str}}/rollback", opt=needs("cert.edit"))
async def roll_back(request: WebRequest, certificate_id: FromPath[str], version_id: FromPath[str]) -> Response[str]:
    """Put an older version back on its holder's places."""

    async def doing(_fields: Fields) -> str:
        await deploy.rollback(request.ctx, request.visible, request.actor, certificate_id, version_id)
        return going(f"/certificates/{certificate_id}", "rollback")

    return await act(request, doing)


def reasons() -> list[tuple[str, str]]:
    """Why something is revoked, in words; the first is no choice."""
    r = RevocationReason
    return [
        ("", _("Choose a reason")),
        (str(r.KEY_COMPROMISE), _("The key is known to others")),
        (str(r.SUPERSEDED), _("Another certificate has taken its place")),
        (str(r.CESSATION_OF_OPERATION), _("What it was for is no more")),
        (str(r.AFFILIATION_CHANGED), _("It belongs to somebody else now")),
        (str(r.PRIVILEGE_WITHDRAWN), _("It may no longer be used")),
        (str(r.UNSPECIFIED), _("Another reason")),
    ]


@get(f"{_AT}/revoke", opt=needs("cert.revoke"))
async def ask_revoke(request: WebRequest, certificate_id: FromPath[str]) -> Response[str]:
    """What revoking means here, in numbers."""
    return await _revoke_page(request, await _load(request, certificate_id))


async def _revoke_page(
    request: WebRequest, facts: Facts, fault: str = "", chosen: str = "", *, replace: bool = False
) -> Response[str]:
    serving = sum(place.status in {DeploymentStatus.VERIFIED, DeploymentStatus.APPLIED} for place in facts.places)
    name = facts.certificate.name
    told = ngettext(
        "{number} place serves it. Clients that check revocation refuse it from now on. This cannot be undone.",
        "{number} places serve it. Clients that check revocation refuse them from now on. This cannot be undone.",
        serving,
    )
    return await render(
        request,
        "confirm.html",
        status=400 if fault else 200,
        title=_("Revoke {name}?").format(name=name),
        crumb=facts.certificate,
        consequence=told.format(number=serving),
        facts=[(_("Versions in use"), str(len(facts.leaves)))],
        action=f"/certificates/{facts.certificate.id}/revoke",
        verb=_("Revoke {name}").format(name=name),
        harm=True,
        typed=name,
        reasons=reasons(),
        fault=fault,
        replace=replace,
        chosen=chosen,
    )


@post(f"{_AT}/revoke", opt=needs("cert.revoke"))
async def revoke_now(request: WebRequest, certificate_id: FromPath[str]) -> Response[str]:
    """Every version that could still be trusted; OCSP and CRL speak of it at once."""
    facts = await _load(request, certificate_id)
    said = await request.checked()
    reason, replace = said.get("reason"), said.get("replace") == "yes"
    fault = _typed_fault(said, facts.certificate.name)
    if not reason:
        fault = _("Choose a reason: it stands in the CRL and cannot be changed.")
    if fault:
        return await _revoke_page(request, facts, fault, reason, replace=replace)

    async def doing(_fields: Fields) -> str:
        job = await revoke.trigger(
            request.ctx, request.visible, request.actor, certificate_id, reason=reason, replace=replace
        )
        await drive(request.door, [job.id])
        if replace:
            await drive_pending(request.door, certificate_id)
        return going(f"/certificates/{certificate_id}", "revoked")

    return await act(request, doing)


def _typed_fault(said: Fields, name: str) -> str:
    return "" if said.get("typed") == name.strip() else _("Type the name as it stands: {name}").format(name=name)


@get(f"{_AT}/archive", opt=needs("cert.delete"))
async def ask_archive(request: WebRequest, certificate_id: FromPath[str]) -> Response[str]:
    """What archiving means."""
    return await _archive_page(request, await _load(request, certificate_id))


async def _archive_page(request: WebRequest, facts: Facts, fault: str = "") -> Response[str]:
    name = facts.certificate.name
    return await render(
        request,
        "confirm.html",
        status=400 if fault else 200,
        title=_("Archive {name}?").format(name=name),
        crumb=facts.certificate,
        consequence=_("Nobody renews or deploys it any more. What was issued stays valid until it ends or is revoked."),
        facts=[(_("Places"), str(len(facts.places))), (_("Jobs under way"), str(len(facts.jobs)))],
        action=f"/certificates/{facts.certificate.id}/archive",
        verb=_("Archive {name}").format(name=name),
        harm=True,
        typed=name,
        reasons=[],
        fault=fault,
        replace=False,
        chosen="",
    )


@post(f"{_AT}/archive", opt=needs("cert.delete"))
async def archive(request: WebRequest, certificate_id: FromPath[str]) -> Response[str]:
    """Stop looking after it."""
    facts = await _load(request, certificate_id)
    fault = _typed_fault(await request.checked(), facts.certificate.name)
    if fault:
        return await _archive_page(request, facts, fault)

    async def doing(_fields: Fields) -> str:
        await request_stage.archive(request.ctx, request.visible, request.actor, certificate_id)
        return going(f"/certificates/{certificate_id}", "archived")

    return await act(request, doing)


@post(f"{_AT}/export", opt=needs("cert.read"))
async def export(request: WebRequest, certificate_id: FromPath[str]) -> Response[bytes]:
    """The certificate and its chain as a file; who took it is recorded."""
    fields = await request.checked()
    version = await exports.export(
        request.ctx, request.visible, request.actor, certificate_id, version_id=fields.get("version_id")
    )
    body = (certificate_pem(version.leaf_der) + version.chain_pem).encode()
    headers = {"Content-Disposition": f'attachment; filename="{certificate_id}.pem"', "Cache-Control": "no-store"}
    return Response(body, media_type="application/x-pem-file", headers=headers, status_code=200)


HANDLERS = (renew_now, deploy_now, ask_rollback, roll_back, ask_revoke, revoke_now, ask_archive, archive, export)

"""/issuers/.../revoke: an intermediate revoked by the CA above it, by its typed name; first what that means is told."""

from __future__ import annotations

from litestar import Response, get, post
from litestar.params import FromPath

from certctl.control import ca_revocation, hierarchy
from certctl.core.catalogue import CaCertificate, IssuerRecord
from certctl.core.errors import Conflict
from certctl.policy.revocation import RevocationReason
from certctl.store import authority, catalogue
from certctl.store.authority import CaDependencies
from certctl.web.acts import act, going
from certctl.web.guard import needs
from certctl.web.pages import render
from certctl.web.request import Fields, WebRequest
from certctl.web.words import gettext as _

_AT = "/issuers/{issuer_id:str}/hierarchy/{ca_id:str}/revoke"


def reasons() -> list[tuple[str, str]]:
    """Why a CA is revoked: what its parent's CRL will say."""
    r = RevocationReason
    return [
        ("", _("Choose a reason")),
        (str(r.CA_COMPROMISE), _("Its key may be in other hands")),
        (str(r.SUPERSEDED), _("Another has taken its place")),
        (str(r.CESSATION_OF_OPERATION), _("It is needed no more")),
        (str(r.AFFILIATION_CHANGED), _("What it says of us is true no more")),
        (str(r.UNSPECIFIED), _("Another reason")),
    ]


@get(_AT, opt=needs("ca.hierarchy.manage"))
async def ask(request: WebRequest, issuer_id: FromPath[str], ca_id: FromPath[str]) -> Response[str]:
    """What revoking it means now."""
    return await _page(request, issuer_id, ca_id)


async def _page(
    request: WebRequest, issuer_id: str, ca_id: str, fault: str = "", status: int = 400, chosen: str = ""
) -> Response[str]:
    issuer, ca, below, needed = await _facts(request, issuer_id, ca_id)
    return await render(
        request,
        "ca-revoke.html",
        status=status if fault else 200,
        issuer=issuer,
        ca=ca,
        name=ca.name or ca.subject,
        below=[one.name or one.subject for one in below if one.id != ca.id],
        needed=needed,
        reasons=reasons(),
        chosen=chosen,
        fault=fault,
    )


async def _facts(
    request: WebRequest, issuer_id: str, ca_id: str
) -> tuple[IssuerRecord, CaCertificate, list[CaCertificate], CaDependencies]:
    """The CA, all whose chain goes through it, and what needs any of them, as far as the caller sees."""
    now, sees = request.ctx.now(), request.seen_by("cert.read")
    async with request.ctx.database.read() as tx:
        issuer = await catalogue.get(tx, request.visible, IssuerRecord, issuer_id)
        ca = await hierarchy.find(tx, request.visible, ca_id)
        below = ca_revocation.at_or_below(ca, await authority.ca_certificates_of(tx, request.ctx.scope, ca.issuer_id))
        found = [await authority.ca_dependencies(tx, sees, one.id, now) for one in below]
    needed = CaDependencies(
        active_children=sum(each.active_children for each in found),
        valid_certificates=sum(each.valid_certificates for each in found),
        open_orders=sum(each.open_orders for each in found),
    )
    return issuer, ca, below, needed


@post(_AT, opt=needs("ca.hierarchy.manage"))
async def revoke(request: WebRequest, issuer_id: FromPath[str], ca_id: FromPath[str]) -> Response[str]:
    """At once: the parent's CRL says so before the answer goes out."""
    said = await request.checked()
    async with request.ctx.database.read() as tx:
        ca = await hierarchy.find(tx, request.visible, ca_id)
    name, reason = ca.name or ca.subject, said.get("reason")
    if reason not in {key for key, _text in reasons() if key}:
        fault = _("Choose a reason: it stands in the CRL and cannot be changed.")
        return await _page(request, issuer_id, ca_id, fault)
    if said.get("typed") != name.strip():
        fault = _("Type the name as it stands: {name}").format(name=name)
        return await _page(request, issuer_id, ca_id, fault, chosen=reason)

    async def doing(fields: Fields) -> str:
        await ca_revocation.revoke(
            request.ctx,
            request.visible,
            request.actor,
            ca_id,
            reason=reason,
            note=fields.get("note")[:255],
            confirm=True,
            sees=request.seen_by,
        )
        return going(f"/issuers/{issuer_id}/hierarchy", "ca-revoked")

    try:
        return await act(request, doing)
    except Conflict as error:
        fault = error.message[:1].upper() + error.message[1:]
        return await _page(request, issuer_id, ca_id, fault, 409, reason)


HANDLERS = (ask, revoke)

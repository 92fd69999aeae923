"""/issuers/.../account: our account at another CA: what of its limits is used, orders that were lost, names that are
paused, each with its reason and a button that asks again.
"""

from __future__ import annotations

from litestar import Response, get, post
from litestar.params import FromPath

from certctl.control import ca_accounts, ca_asks
from certctl.core.ca_limits import limits_of
from certctl.core.catalogue import IssuerRecord
from certctl.store import catalogue
from certctl.web.acts import act, going
from certctl.web.guard import needs
from certctl.web.pages import render
from certctl.web.request import Fields, WebRequest

_AT = "/issuers/{issuer_id:str}/account"


@get(_AT, opt=needs("issuer.read"))
async def show(request: WebRequest, issuer_id: FromPath[str]) -> Response[str]:
    """What the API tells of it."""
    stands = await ca_asks.standing(request.ctx, request.visible, issuer_id)
    async with request.ctx.database.read() as tx:
        issuer = await catalogue.get(tx, request.visible, IssuerRecord, issuer_id)
    return await render(
        request,
        "issuer-account.html",
        issuer=issuer,
        stands=stands,
        limits=[(ca_asks.say(one.limit), one.used) for one in stands.spent],
        known=limits_of(stands.directory_url),
        may_edit=request.may("issuer.edit"),
    )


@post(f"{_AT}/resume", opt=needs("issuer.edit"))
async def resume(request: WebRequest, issuer_id: FromPath[str]) -> Response[str]:
    """Ask again for one certificate's names, or for all."""

    async def doing(fields: Fields) -> str:
        certificate_id = fields.get("certificate_id")
        await ca_asks.resume(request.ctx, request.visible, request.actor, issuer_id, certificate_id)
        return going(f"/issuers/{issuer_id}/account", "orders-resumed")

    return await act(request, doing)


@post(f"{_AT}/roll-key", opt=needs("issuer.edit"))
async def roll_key(request: WebRequest, issuer_id: FromPath[str]) -> Response[str]:
    """Another key for the account."""

    async def doing(_fields: Fields) -> str:
        await ca_accounts.roll_key(request.ctx, request.visible, issuer_id)
        return going(f"/issuers/{issuer_id}/account", "account-key-changed")

    return await act(request, doing)


HANDLERS = (show, resume, roll_key)

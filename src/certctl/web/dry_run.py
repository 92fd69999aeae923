"""/issuers/.../dry-run: the same names through the CA's directory for trials, told step by step; nothing of it is kept.

Where there is no place for trials the page says so and why, and has no form.
"""

from __future__ import annotations

from datetime import timedelta

from litestar import Response, get, post
from litestar.params import FromPath

from certctl.connectors.base.issuer import DryRun
from certctl.control import issuers
from certctl.core.catalogue import IssuerRecord
from certctl.core.errors import ConnectorError, Malformed
from certctl.core.names import Name, parse_names
from certctl.store import catalogue
from certctl.web.guard import needs
from certctl.web.pages import render
from certctl.web.request import WebRequest
from certctl.web.words import gettext as _

_AT = "/issuers/{issuer_id:str}/dry-run"
_LIMIT = timedelta(seconds=120)
_MOST_NAMES = 100


@get(_AT, opt=needs("issuer.edit"))
async def ask(request: WebRequest, issuer_id: FromPath[str]) -> Response[str]:
    """Which names, and where they would be tried."""
    return await _page(request, issuer_id)


@post(_AT, opt=needs("issuer.edit"))
async def run(request: WebRequest, issuer_id: FromPath[str]) -> Response[str]:
    """Try them; the answer is the one page that tells of it."""
    said = (await request.checked()).get("names").strip()[:10_000]
    try:
        names = _names(said)
        ran = await issuers.dry_run(request.ctx, request.visible, request.actor, issuer_id, names, _LIMIT)
    except (Malformed, ConnectorError) as error:
        return await _page(request, issuer_id, said, fault=error.message)
    return await _page(request, issuer_id, said, ran=ran)


def _names(said: str) -> tuple[Name, ...]:
    names = parse_names(said.split())
    if not 1 <= len(names) <= _MOST_NAMES:
        raise Malformed(_("1 to {most} names, parted by spaces").format(most=_MOST_NAMES))
    return names


async def _page(
    request: WebRequest, issuer_id: str, names: str = "", *, fault: str = "", ran: DryRun | None = None
) -> Response[str]:
    async with request.ctx.database.read() as tx:
        issuer = await catalogue.get(tx, request.visible, IssuerRecord, issuer_id)
    place, why_not = await issuers.trial_place(request.ctx, issuer)
    return await render(
        request,
        "issuer-dry-run.html",
        issuer=issuer,
        place=place,
        why_not=why_not,
        names=names,
        fault=fault,
        ran=ran,
        steps=_words(),
    )


def _words() -> dict[str, str]:
    return {
        "account": _("Account"),
        "precheck": _("Look at DNS"),
        "order": _("Order"),
        "present": _("Answers put"),
        "propagation": _("Answers seen"),
        "validation": _("Validation by the CA"),
        "finalize": _("Finalize"),
        "certificate": _("Certificate"),
        "cleanup": _("Cleaning up"),
    }


HANDLERS = (ask, run)

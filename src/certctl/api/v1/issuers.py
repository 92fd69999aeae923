"""/api/v1/issuers: the CAs that may be asked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from litestar import delete, get, post, put
from litestar.params import FromPath, JSONBody

from certctl.api.guard import edits, needs
from certctl.api.lists import ShowAll, answer_list, listed
from certctl.api.patching import patched
from certctl.api.request import ApiRequest
from certctl.api.shown import given, shown
from certctl.client.models.issuers import IssuerView, IssuerWrite
from certctl.client.models.page import PageOf
from certctl.client.models.targets import TestAnswer
from certctl.control import issuers
from certctl.core.catalogue import IssuerRecord
from certctl.core.scope import Scope
from certctl.store import catalogue, stats
from certctl.store.listings import ISSUERS
from certctl.store.tx import Tx

_RECENT = timedelta(hours=24)


def _view(issuer: IssuerRecord) -> IssuerView:
    return shown(IssuerView, issuer)


def _views(request: ApiRequest) -> ShowAll[IssuerRecord, IssuerView]:
    """Issuers with what failed of late, among the jobs that the caller may see."""
    jobs_seen, since = request.seen_by("job.read"), request.ctx.now() - _RECENT

    async def show(tx: Tx, _scope: Scope, found: Sequence[IssuerRecord]) -> list[IssuerView]:
        failures = await stats.issuer_failures(tx, jobs_seen, [issuer.id for issuer in found], since)
        return [
            shown(IssuerView, issuer, recent_failures=failed.number, last_failure_at=failed.last_at)
            for issuer in found
            for failed in [failures.get(issuer.id, stats.IssuerFailures())]
        ]

    return show


@get("/issuers", opt=needs("issuer.read") | listed(ISSUERS), summary="List issuers")
async def list_issuers(request: ApiRequest) -> PageOf[IssuerView]:
    """By name."""
    return await answer_list(request, IssuerView, show_all=_views(request))


@post("/issuers", status_code=201, opt=needs("issuer.edit"), summary="Create an issuer")
async def create_issuer(request: ApiRequest, data: JSONBody[IssuerWrite]) -> IssuerView:
    """Its `config` is judged by its type."""
    return _view(await issuers.create(request.ctx, request.visible, request.actor, given(data)))


@get("/issuers/{issuer_id:str}", opt=needs("issuer.read"), summary="One issuer")
async def show_issuer(request: ApiRequest, issuer_id: FromPath[str]) -> IssuerView:
    """One issuer, and how many of its issuances failed in the last 24 hours."""
    async with request.ctx.database.read() as tx:
        issuer = await catalogue.get(tx, request.visible, IssuerRecord, issuer_id)
        (view,) = await _views(request)(tx, request.visible, [issuer])
    return view


@put("/issuers/{issuer_id:str}", opt=edits("issuer.edit"), summary="Change an issuer")
async def update_issuer(request: ApiRequest, issuer_id: FromPath[str], data: JSONBody[IssuerWrite]) -> IssuerView:
    """What is absent stays; a `config` that is given replaces the whole."""
    changes = request.changes(data, issuer_id)
    return _view(
        await issuers.update(request.ctx, request.visible, request.actor, issuer_id, changes, request.expected)
    )


@delete("/issuers/{issuer_id:str}", status_code=204, opt=edits("issuer.delete"), summary="Delete an issuer")
async def delete_issuer(request: ApiRequest, issuer_id: FromPath[str]) -> None:
    """One that has issued, or is named, is kept (409)."""
    await issuers.delete(request.ctx, request.visible, request.actor, issuer_id, request.expected, sees=request.seen_by)


@post("/issuers/{issuer_id:str}/test", status_code=200, opt=needs("issuer.edit"), summary="Test an issuer")
async def try_issuer(request: ApiRequest, issuer_id: FromPath[str]) -> TestAnswer:
    """Tries its set-up without issuing; a failure answers 502 or 503 with the reason."""
    said = await issuers.test(request.ctx, request.visible, request.actor, issuer_id)
    return TestAnswer(status="connection_successful", message=said)


HANDLERS = (
    list_issuers,
    create_issuer,
    show_issuer,
    update_issuer,
    patched(show_issuer, update_issuer),
    delete_issuer,
    try_issuer,
)

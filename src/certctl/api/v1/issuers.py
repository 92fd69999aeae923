"""/api/v1/issuers: the CAs that may be asked."""

from __future__ import annotations

from litestar import delete, get, post, put
from litestar.params import FromPath, JSONBody

from certctl.api.guard import edits, needs
from certctl.api.lists import answer_list, listed
from certctl.api.patching import patched
from certctl.api.request import ApiRequest
from certctl.api.shown import given, shown
from certctl.client.models.issuers import IssuerView, IssuerWrite
from certctl.client.models.page import PageOf
from certctl.client.models.targets import TestAnswer
from certctl.control import issuers
from certctl.core.catalogue import IssuerRecord
from certctl.store import catalogue
from certctl.store.listings import ISSUERS


def _view(issuer: IssuerRecord) -> IssuerView:
    return shown(IssuerView, issuer)


@get("/issuers", opt=needs("issuer.read") | listed(ISSUERS), summary="List issuers")
async def list_issuers(request: ApiRequest) -> PageOf[IssuerView]:
    """By name."""
    return await answer_list(request, IssuerView)


@post("/issuers", status_code=201, opt=needs("issuer.edit"), summary="Create an issuer")
async def create_issuer(request: ApiRequest, data: JSONBody[IssuerWrite]) -> IssuerView:
    """Its `config` is judged by its type."""
    return _view(await issuers.create(request.ctx, request.visible, request.actor, given(data)))


@get("/issuers/{issuer_id:str}", opt=needs("issuer.read"), summary="One issuer")
async def show_issuer(request: ApiRequest, issuer_id: FromPath[str]) -> IssuerView:
    """One issuer."""
    async with request.ctx.database.read() as tx:
        return _view(await catalogue.get(tx, request.visible, IssuerRecord, issuer_id))


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

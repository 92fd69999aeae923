"""/api/v1/owners: who answers for certificates."""

from __future__ import annotations

from litestar import delete, get, post, put
from litestar.params import FromPath, JSONBody

from certctl.api.guard import edits, needs
from certctl.api.lists import answer_list, listed
from certctl.api.patching import patched
from certctl.api.request import ApiRequest
from certctl.api.shown import given, shown
from certctl.client.models.page import PageOf
from certctl.client.models.people import OwnerView, OwnerWrite
from certctl.control import owners
from certctl.core.catalogue import Owner
from certctl.store import catalogue
from certctl.store.listings import OWNERS


def _view(owner: Owner) -> OwnerView:
    return shown(OwnerView, owner)


@get("/owners", opt=needs("owner.read") | listed(OWNERS), summary="List owners")
async def list_owners(request: ApiRequest) -> PageOf[OwnerView]:
    """By name."""
    return await answer_list(request, OwnerView)


@post("/owners", status_code=201, opt=needs("owner.edit"), summary="Create an owner")
async def create_owner(request: ApiRequest, data: JSONBody[OwnerWrite]) -> OwnerView:
    """An id or name that is taken answers 409."""
    return _view(await owners.create(request.ctx, request.visible, request.actor, given(data)))


@get("/owners/{owner_id:str}", opt=needs("owner.read"), summary="One owner")
async def show_owner(request: ApiRequest, owner_id: FromPath[str]) -> OwnerView:
    """One owner."""
    async with request.ctx.database.read() as tx:
        return _view(await catalogue.get(tx, request.visible, Owner, owner_id))


@put("/owners/{owner_id:str}", opt=edits("owner.edit"), summary="Change an owner")
async def update_owner(request: ApiRequest, owner_id: FromPath[str], data: JSONBody[OwnerWrite]) -> OwnerView:
    """What is absent stays."""
    changes = request.changes(data, owner_id)
    return _view(await owners.update(request.ctx, request.visible, request.actor, owner_id, changes, request.expected))


@delete("/owners/{owner_id:str}", status_code=204, opt=edits("owner.delete"), summary="Delete an owner")
async def delete_owner(request: ApiRequest, owner_id: FromPath[str]) -> None:
    """One that is still named is kept (409)."""
    await owners.delete(request.ctx, request.visible, request.actor, owner_id, request.expected, sees=request.seen_by)


HANDLERS = (list_owners, create_owner, show_owner, update_owner, patched(show_owner, update_owner), delete_owner)

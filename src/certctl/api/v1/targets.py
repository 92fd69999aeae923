"""/api/v1/targets: the servers that take certificates."""

from __future__ import annotations

from litestar import delete, get, post, put
from litestar.params import FromPath, JSONBody

from certctl.api.guard import edits, needs
from certctl.api.lists import answer_list, listed
from certctl.api.patching import patched
from certctl.api.request import ApiRequest
from certctl.api.shown import given, shown
from certctl.client.models.page import PageOf
from certctl.client.models.targets import TargetView, TargetWrite, TestAnswer
from certctl.control import targets
from certctl.core.target import TargetRecord
from certctl.store import catalogue
from certctl.store.listings import TARGETS


def _view(target: TargetRecord) -> TargetView:
    return shown(TargetView, target)


@get("/targets", opt=needs("target.read") | listed(TARGETS), summary="List targets")
async def list_targets(request: ApiRequest) -> PageOf[TargetView]:
    """By name; retired ones too."""
    return await answer_list(request, TargetView)


@post("/targets", status_code=201, opt=needs("target.edit"), summary="Create a target")
async def create_target(request: ApiRequest, data: JSONBody[TargetWrite]) -> TargetView:
    """Its `config` is judged by its type."""
    return _view(await targets.create(request.ctx, request.visible, request.actor, given(data)))


@get("/targets/{target_id:str}", opt=needs("target.read"), summary="One target")
async def show_target(request: ApiRequest, target_id: FromPath[str]) -> TargetView:
    """One target."""
    async with request.ctx.database.read() as tx:
        return _view(await catalogue.get(tx, request.visible, TargetRecord, target_id))


@put("/targets/{target_id:str}", opt=edits("target.edit"), summary="Change a target")
async def update_target(request: ApiRequest, target_id: FromPath[str], data: JSONBody[TargetWrite]) -> TargetView:
    """What is absent stays; a `config` that is given replaces the whole."""
    changes = request.changes(data, target_id)
    return _view(
        await targets.update(request.ctx, request.visible, request.actor, target_id, changes, request.expected)
    )


@delete("/targets/{target_id:str}", status_code=204, opt=edits("target.delete"), summary="Delete or retire a target")
async def delete_target(request: ApiRequest, target_id: FromPath[str]) -> None:
    """One that was used is retired: its history stays readable."""
    await targets.delete(request.ctx, request.visible, request.actor, target_id, request.expected)


@post("/targets/{target_id:str}/test", status_code=200, opt=needs("target.edit"), summary="Test a target")
async def try_target(request: ApiRequest, target_id: FromPath[str]) -> TestAnswer:
    """Whether its agent is heard from."""
    good, said = await targets.test(request.ctx, request.visible, request.actor, target_id)
    return TestAnswer(status="success" if good else "failed", message=said)


HANDLERS = (
    list_targets,
    create_target,
    show_target,
    update_target,
    patched(show_target, update_target),
    delete_target,
    try_target,
)

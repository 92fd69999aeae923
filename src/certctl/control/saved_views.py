"""Views that people keep: a list's filter under a name, for the one who keeps it, on whatever machine they sit."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode

from certctl.control.changes import check_name, fault, note
from certctl.core.actor import Actor
from certctl.core.errors import Conflict
from certctl.core.events import EventType
from certctl.core.ids import new_id
from certctl.core.saved_view import SavedView
from certctl.lifecycle.context import Context
from certctl.store import saved_views

MOST = 50
_LONGEST_NAME, _LONGEST_QUERY = 80, 2000
# a place in a list, and what a page tells once, are no part of a view
_PASSING = frozenset({"cursor", "done"})


async def keep(ctx: Context, actor: Actor, path: str, name: str, query: str) -> SavedView:
    """A new one. Conflict when they have one of this name for this list, or have as many as one may."""
    now = ctx.now()
    view = SavedView(
        tenant_id=ctx.scope.tenant_id,
        id=new_id("view"),
        actor_id=actor.id,
        path=path,
        name=_name(name),
        query=_query(query),
        created_at=now,
        updated_at=now,
    )
    async with ctx.database.begin("config.saved_view") as tx:
        if len(await saved_views.of_actor(tx, ctx.scope, actor.id)) >= MOST:
            raise Conflict(f"you keep {MOST} views already: take one away first")
        await saved_views.add(tx, ctx.scope, view)
        await note(tx, ctx, actor, EventType.CONFIG_CREATED, "saved_view", view.id)
    return view


async def rename(ctx: Context, actor: Actor, view_id: str, name: str) -> None:
    """Another name. NotFound for a view of somebody else."""
    async with ctx.database.begin("config.saved_view") as tx:
        await saved_views.change(tx, ctx.scope, actor.id, view_id, name=_name(name), updated_at=ctx.now())
        await note(tx, ctx, actor, EventType.CONFIG_UPDATED, "saved_view", view_id, ["name"])


async def forget(ctx: Context, actor: Actor, view_id: str) -> None:
    """Take one away. NotFound for a view of somebody else."""
    async with ctx.database.begin("config.saved_view") as tx:
        await saved_views.remove(tx, ctx.scope, actor.id, view_id)
        await note(tx, ctx, actor, EventType.CONFIG_DELETED, "saved_view", view_id)


def _name(text: str) -> str:
    name = check_name(text)
    if len(name) > _LONGEST_NAME:
        raise fault("name_has_wrong_form", f"a view's name has at most {_LONGEST_NAME} characters", "name")
    return name


def _query(text: str) -> str:
    """The filter in one form; whether the list knows it the list says, whenever it is opened."""
    if len(text) > _LONGEST_QUERY:
        raise fault("query_is_too_long", f"a view's filter has at most {_LONGEST_QUERY} characters", "query")
    try:
        pairs = parse_qsl(text.removeprefix("?"), errors="strict", max_num_fields=50)
    except (UnicodeError, ValueError) as error:
        raise fault("query_has_wrong_form", "this filter cannot be read", "query") from error
    return urlencode([(name, value) for name, value in pairs if name not in _PASSING])

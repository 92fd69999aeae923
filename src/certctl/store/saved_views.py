"""Views that people keep: each sees and changes their own alone."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from certctl.core.errors import Conflict, NotFound
from certctl.core.saved_view import SavedView
from certctl.core.scope import Scope
from certctl.store.schema import saved_views
from certctl.store.tx import Tx

_C = saved_views.c


def _mine(scope: Scope, actor_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(_C.tenant_id == scope.tenant_id, _C.actor_id == actor_id)


async def of_actor(tx: Tx, scope: Scope, actor_id: str, path: str = "") -> list[SavedView]:
    """Those of a person, of one list if one is named; by list and name."""
    wanted = sa.select(saved_views).where(_mine(scope, actor_id))
    if path:
        wanted = wanted.where(_C.path == path)
    return await tx.all(SavedView, wanted.order_by(_C.path, _C.name))


async def add(tx: Tx, scope: Scope, view: SavedView) -> None:
    """Keep one more. Conflict when the person has one of this name for this list."""
    row = {name: getattr(view, name) for name in view.__struct_fields__} | {"tenant_id": scope.tenant_id}
    written = await tx.execute(
        tx.insert(saved_views)
        .values(row)
        .on_conflict_do_nothing(index_elements=["tenant_id", "actor_id", "path", "name"])
    )
    if written.rowcount != 1:
        raise Conflict(f"you have a view called {view.name} already")


async def change(tx: Tx, scope: Scope, actor_id: str, view_id: str, **values: object) -> None:
    """Change one's own. NotFound for another's, Conflict for a name that is taken."""
    mine = sa.and_(_mine(scope, actor_id), _C.id == view_id)
    try:
        changed = await tx.execute(sa.update(saved_views).where(mine).values(values))
    except IntegrityError as error:
        raise Conflict(f"you have a view called {values.get('name')} already") from error
    if changed.rowcount != 1:
        raise NotFound(f"no view {view_id}")


async def remove(tx: Tx, scope: Scope, actor_id: str, view_id: str) -> None:
    """Forget one's own. NotFound for another's."""
    gone = await tx.execute(sa.delete(saved_views).where(_mine(scope, actor_id), _C.id == view_id))
    if gone.rowcount != 1:
        raise NotFound(f"no view {view_id}")

"""Teams: owners who work together. A team that is still named by an owner or a certificate is not deleted."""

from __future__ import annotations

from typing import Any

from certctl.control.changes import check_name, note
from certctl.control.usage import Sees, check_unused
from certctl.core.actor import Actor
from certctl.core.catalogue import Team
from certctl.core.events import EventType
from certctl.core.ids import check_id, new_id
from certctl.core.revision import Expected
from certctl.core.scope import Scope
from certctl.lifecycle.context import Context
from certctl.store import catalogue, schema


async def create(ctx: Context, scope: Scope, actor: Actor, wanted: dict[str, Any]) -> Team:
    """A new team; `wanted` has the API's fields. Conflict when its id or name is taken."""
    scope.check_whole("a new team")
    now = ctx.now()
    team = Team(
        tenant_id=scope.tenant_id,
        id=check_id(wanted["id"]) if wanted.get("id") else new_id("team"),
        name=check_name(wanted.get("name", "")),
        description=wanted.get("description", ""),
        created_at=now,
        updated_at=now,
    )
    async with ctx.database.begin("config.team") as tx:
        await catalogue.insert(tx, scope, team)
        await note(tx, ctx, actor, EventType.CONFIG_CREATED, "team", team.id)
    return team


async def update(
    ctx: Context, scope: Scope, actor: Actor, team_id: str, changes: dict[str, Any], expected: Expected = None
) -> Team:
    """Change `name` or `description`; absent fields stay."""
    if "name" in changes:
        changes = changes | {"name": check_name(changes["name"])}
    async with ctx.database.begin("config.team") as tx:
        await catalogue.change(tx, scope, Team, team_id, expected=expected, updated_at=ctx.now(), **changes)
        await note(tx, ctx, actor, EventType.CONFIG_UPDATED, "team", team_id, changes)
        return await catalogue.get(tx, scope, Team, team_id)


async def delete(
    ctx: Context, scope: Scope, actor: Actor, team_id: str, expected: Expected = None, *, sees: Sees | None = None
) -> None:
    """Delete a team nobody names; Conflict otherwise."""
    async with ctx.database.begin("config.team") as tx:
        await catalogue.get(tx, scope, Team, team_id, expected=expected)
        named_in = {
            "owners": ("owner.read", schema.owners.c.team_id),
            "certificates": ("cert.read", schema.certificates.c.team_id),
        }
        await check_unused(tx, scope, "team", team_id, named_in, sees)
        await catalogue.remove(tx, scope, Team, team_id, expected=expected)
        await note(tx, ctx, actor, EventType.CONFIG_DELETED, "team", team_id)

"""Owners: the people or groups that answer for certificates. One that a certificate still names is not deleted."""

from __future__ import annotations

from typing import Any

from certctl.control.changes import check_name, fault, note
from certctl.control.usage import Sees, check_unused
from certctl.core.actor import Actor
from certctl.core.catalogue import Owner, Team
from certctl.core.events import EventType
from certctl.core.ids import check_id, new_id
from certctl.core.names import NameKind, parse_name
from certctl.core.revision import Expected
from certctl.core.scope import Scope
from certctl.lifecycle.context import Context
from certctl.store import catalogue, schema
from certctl.store.tx import Tx


async def create(ctx: Context, scope: Scope, actor: Actor, wanted: dict[str, Any]) -> Owner:
    """A new owner; `wanted` has the API's fields. Conflict when its id or name is taken."""
    scope.check_admits(teams=wanted.get("team_id", ""))
    now = ctx.now()
    owner = Owner(
        tenant_id=scope.tenant_id,
        id=check_id(wanted["id"]) if wanted.get("id") else new_id("owner"),
        name=check_name(wanted.get("name", "")),
        email=_email(wanted.get("email", "")),
        team_id=wanted.get("team_id", ""),
        created_at=now,
        updated_at=now,
    )
    async with ctx.database.begin("config.owner") as tx:
        await _check_team(tx, scope, owner.team_id)
        await catalogue.insert(tx, scope, owner)
        await note(tx, ctx, actor, EventType.CONFIG_CREATED, "owner", owner.id)
    return owner


async def update(
    ctx: Context, scope: Scope, actor: Actor, owner_id: str, changes: dict[str, Any], expected: Expected = None
) -> Owner:
    """Change `name`, `email` or `team_id`; absent fields stay."""
    if "name" in changes:
        changes = changes | {"name": check_name(changes["name"])}
    if "email" in changes:
        changes = changes | {"email": _email(changes["email"])}
    async with ctx.database.begin("config.owner") as tx:
        await catalogue.get(tx, scope, Owner, owner_id)
        if "team_id" in changes:
            scope.check_admits(teams=changes["team_id"])
        await _check_team(tx, scope, changes.get("team_id", ""))
        await catalogue.change(tx, scope, Owner, owner_id, expected=expected, updated_at=ctx.now(), **changes)
        await note(tx, ctx, actor, EventType.CONFIG_UPDATED, "owner", owner_id, changes)
        return await catalogue.get(tx, scope, Owner, owner_id)


async def delete(
    ctx: Context, scope: Scope, actor: Actor, owner_id: str, expected: Expected = None, *, sees: Sees | None = None
) -> None:
    """Delete an owner no certificate names; Conflict otherwise."""
    async with ctx.database.begin("config.owner") as tx:
        await catalogue.get(tx, scope, Owner, owner_id, expected=expected)
        named_in = {"certificates": ("cert.read", schema.certificates.c.owner_id)}
        await check_unused(tx, scope, "owner", owner_id, named_in, sees)
        await catalogue.remove(tx, scope, Owner, owner_id, expected=expected)
        await note(tx, ctx, actor, EventType.CONFIG_DELETED, "owner", owner_id)


def _email(text: str) -> str:
    if not text:
        return ""
    if parse_name(text, "email").kind != NameKind.EMAIL:
        raise fault("email_has_wrong_form", f"{text!r} is no e-mail address", "email")
    return text.strip()


async def _check_team(tx: Tx, scope: Scope, team_id: str) -> None:
    if team_id and await catalogue.find(tx, scope, Team, id=team_id) is None:
        raise fault("unknown_reference", f"no team {team_id}", "team_id")

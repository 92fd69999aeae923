"""Grants: who holds which role, how far it reaches, until when. Nobody gives what they lack; the last admin stays."""

from __future__ import annotations

from datetime import datetime

from certctl.control import access, keys
from certctl.control.access import Giver
from certctl.control.changes import fault
from certctl.core.actor import Actor, ActorType
from certctl.core.catalogue import ActorRole, ApiKey
from certctl.core.errors import Conflict, NotFound
from certctl.core.events import Event, EventType
from certctl.core.ids import new_id
from certctl.core.permissions import RESERVED_ACTOR
from certctl.core.scope import EVERYTHING, GLOBAL
from certctl.ledger import append
from certctl.lifecycle.context import Context
from certctl.store import catalogue, identity
from certctl.store.tx import Tx


async def assign(
    ctx: Context, giver: Giver, key_id: str, role_id: str, scope_type: str, scope_id: str, expires_at: datetime | None
) -> None:
    """Give an API key a role; the same once more changes when it ends."""
    _refuse_reserved(key_id)
    keys.check_end(ctx, expires_at)
    now = ctx.now()
    async with ctx.database.begin("grant.change") as tx, access.keeping_an_admin(tx, ctx):
        key = await keys.find(tx, ctx, giver, "auth.role.assign", key_id)
        if key.agent_id:
            raise fault("agent_key_has_one_role", "a key bound to an agent takes no further role", "role_id")
        if key.revoked_at is not None:
            raise Conflict(f"API key {key.name} was revoked")
        await access.check_role(tx, ctx.scope, role_id)
        reach = access.read_reach(scope_type, scope_id)
        giver.check_gives(await access.of_roles(tx, ctx.scope, [role_id], reach), expires_at)
        await access.check_reach(tx, ctx.scope, reach)
        grant = ActorRole(
            tenant_id=ctx.scope.tenant_id,
            id=new_id("ar"),
            actor_id=key.name,
            actor_type=str(ActorType.API_KEY),
            role_id=role_id,
            scope_type=scope_type,
            scope_id=scope_id,
            expires_at=expires_at,
            granted_by=giver.actor.id,
            created_at=now,
        )
        await identity.put_grant(tx, ctx.scope, grant)
        ends = expires_at.isoformat() if expires_at else ""
        told = {"role_id": role_id, "scope_type": scope_type, "scope_id": scope_id, "expires_at": ends}
        await _note(tx, ctx, giver.actor, EventType.ROLE_ASSIGNED, key, told)


async def revoke(ctx: Context, giver: Giver, key_id: str, role_id: str, scope_type: str, scope_id: str) -> None:
    """Take a role from an API key: in one scope, or without a `scope_type` everywhere. NotFound when it has none."""
    _refuse_reserved(key_id)
    async with ctx.database.begin("grant.change") as tx, access.keeping_an_admin(tx, ctx):
        key = await keys.find(tx, ctx, giver, "auth.role.revoke", key_id)
        removed = await identity.remove_grants(
            tx,
            ctx.scope,
            key.name,
            ActorType.API_KEY,
            role_id=role_id,
            scope_type=scope_type,
            scope_id=scope_id,
        )
        made_with = role_id in key.role_ids
        if made_with and (not scope_type or (scope_type == GLOBAL and access.reach_of(key) == EVERYTHING)):
            left = [each for each in key.role_ids if each != role_id]
            await catalogue.change(tx, ctx.scope, ApiKey, key.id, role_ids=left)
            removed += 1
        if not removed:
            raise NotFound(f"API key {key.name} does not hold {role_id} there")
        told = {"role_id": role_id, "scope_type": scope_type or "any", "scope_id": scope_id}
        await _note(tx, ctx, giver.actor, EventType.ROLE_REVOKED, key, told)


async def remove_demo_grants(ctx: Context, actor: Actor) -> int:
    """Take every grant from the reference product's demo actor; returns how many there were."""
    async with ctx.database.begin("grant.change") as tx:
        removed = await identity.remove_grants(tx, ctx.scope, RESERVED_ACTOR)
        if removed:
            identity.changed(tx)
            event = Event(
                type=EventType.ROLE_REVOKED,
                subject_type="actor",
                subject_id=RESERVED_ACTOR,
                actor=actor,
                details={"removed": removed},
            )
            await append(tx, ctx.scope, ctx.now(), event)
    return removed


async def _note(tx: Tx, ctx: Context, actor: Actor, kind: EventType, key: ApiKey, told: dict[str, str]) -> None:
    event = Event(
        type=kind, subject_type="api_key", subject_id=key.id, actor=actor, details={"actor_id": key.name} | told
    )
    await append(tx, ctx.scope, ctx.now(), event)


def _refuse_reserved(key_id: str) -> None:
    if key_id == RESERVED_ACTOR:
        raise Conflict(f"{RESERVED_ACTOR} is reserved: nobody gives it roles or takes them away")

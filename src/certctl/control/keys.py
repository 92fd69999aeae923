"""API keys: made once shown once, kept as SHA-256, expiring, rotated, revoked; nobody gives more than they have.

`bootstrap` makes the first one with the operator's token, once for the life of the installation.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct

from certctl.control import access
from certctl.control.access import Giver
from certctl.control.changes import check_name, fault, note
from certctl.control.enrolment import digest
from certctl.core.actor import Actor, ActorType
from certctl.core.catalogue import ApiKey
from certctl.core.errors import Conflict, Gone, NotAllowed, NotAuthenticated, NotFound, PreconditionFailed
from certctl.core.events import Event, EventType
from certctl.core.ids import new_id
from certctl.core.keyvalue import PREFIX, new_value
from certctl.core.permissions import AGENT_ROLE, RESERVED_ACTOR
from certctl.core.revision import Expected, changed_meanwhile
from certctl.core.scope import Scope
from certctl.core.secret import Secret
from certctl.core.target import AgentRecord
from certctl.ledger import append
from certctl.lifecycle.context import Context
from certctl.store import authority, catalogue, identity
from certctl.store.tx import Tx

__all__ = ["ADMIN_ROLE", "AGENT_ROLE", "PREFIX"]

ADMIN_ROLE = "r-admin"
LONGEST_OVERLAP = timedelta(days=30)
_USED = "bootstrap_used"
_PREFIX_LENGTH = 8
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{2,63}")


class KeyWish(Struct, frozen=True, kw_only=True):
    """A key to make. None in a list means no limit of that kind. `agent_id` makes it the key of that agent alone."""

    name: str
    role_ids: Sequence[str]
    expires_at: datetime | None = None
    teams: Sequence[str] | None = None
    profiles: Sequence[str] | None = None
    issuers: Sequence[str] | None = None
    agent_id: str = ""
    person: str = ""


async def create(ctx: Context, giver: Giver, wish: KeyWish) -> tuple[ApiKey, Secret]:
    """A new key and its value, which is never shown again. Malformed, NotAllowed or Conflict."""
    name = _check_key_name(wish.name)
    if not wish.role_ids:
        raise fault("unknown_role", "role_ids are one or more roles", "role_ids")
    check_end(ctx, wish.expires_at)
    _check_person(giver, wish)
    key, value = _make(ctx, name, giver.actor.id, wish)
    async with ctx.database.begin("key.create") as tx:
        for role_id in wish.role_ids:
            await access.check_role(tx, ctx.scope, role_id, "role_ids")
        if wish.agent_id:
            await _check_agent(tx, ctx, wish)
        given = await access.of_roles(tx, ctx.scope, wish.role_ids, access.reach_of(key))
        giver.check_gives(given, wish.expires_at)
        await catalogue.insert(tx, ctx.scope, key)
        await note(tx, ctx, giver.actor, EventType.CONFIG_CREATED, "api_key", key.id, _told(wish))
    return key, value


def _told(wish: KeyWish) -> tuple[str, ...]:
    return (*wish.role_ids, f"person {wish.person}") if wish.person else tuple(wish.role_ids)


def _check_person(giver: Giver, wish: KeyWish) -> None:
    """Who else a key stands for is said by an administrator alone: two people may decide what one may not."""
    if not wish.person:
        return
    check_name(wish.person)
    if wish.agent_id:
        raise fault("agent_key_is_no_person", "a key bound to an agent is no person's", "person")
    if not access.is_admin(giver.permissions):
        raise NotAllowed("only an administrator without limits says whose a key is")


def check_end(ctx: Context, expires_at: datetime | None) -> None:
    """Malformed unless an end lies ahead."""
    if expires_at is not None and (expires_at.tzinfo is None or expires_at <= ctx.now()):
        raise fault("expires_in_the_past", "expires_at must lie in the future and have a time zone", "expires_at")


async def _check_agent(tx: Tx, ctx: Context, wish: KeyWish) -> None:
    """A key bound to an agent is that agent and nothing else."""
    if tuple(wish.role_ids) != (AGENT_ROLE,) or (wish.teams, wish.profiles, wish.issuers) != (None, None, None):
        message = f"a key bound to an agent has the role {AGENT_ROLE} alone and no other limits"
        raise fault("agent_key_has_one_role", message, "role_ids")
    agent = await catalogue.find(tx, ctx.scope, AgentRecord, id=wish.agent_id)
    if agent is None or agent.retired_at is not None:
        raise fault("unknown_reference", f"no agent {wish.agent_id}, or it was retired", "agent_id")


def maker(actor: Actor, visible: Scope) -> str | None:
    """Whose keys somebody sees: all of them, or with a limited grant their own and those they made."""
    return None if visible.is_whole else actor.id


async def find(tx: Tx, ctx: Context, giver: Giver, permission: str, key_id: str) -> ApiKey:
    """A key by id or name, as far as the giver's permission reaches; NotFound otherwise."""
    key = await identity.key_by_id_or_name(tx, ctx.scope, key_id)
    mine = maker(giver.actor, giver.reach(permission))
    if key is None or (mine is not None and mine not in {key.created_by, key.name}):
        raise NotFound(f"no API key {key_id}")
    return key


class Rotation(Struct, frozen=True, kw_only=True):
    """How to rotate: the old value stays good for `overlap`, `expires_at` is the key's new end; `expected` is what the
    key may have been when it was looked at.
    """

    overlap: timedelta = timedelta(0)
    expires_at: datetime | None = None
    expected: Expected = None


async def rotate(ctx: Context, giver: Giver, key_id: str, wish: Rotation) -> tuple[ApiKey, Secret]:
    """A fresh value for a key, shown this once; an older one than that which stays good for a while ends now.

    Whoever gets the value gets the key's rights: to rotate another's key one has to hold them all.
    """
    overlap, expires_at = wish.overlap, wish.expires_at
    if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
        message = f"overlap_seconds is 0 to {int(LONGEST_OVERLAP.total_seconds())}"
        raise fault("overlap_out_of_range", message, "overlap_seconds")
    check_end(ctx, expires_at)
    now, value = ctx.now(), new_value()
    async with ctx.database.begin("key.rotate") as tx, access.keeping_an_admin(tx, ctx):
        key = await find(tx, ctx, giver, "auth.key.rotate", key_id)
        _check_unchanged(key, wish.expected)
        if key.revoked_at is not None:
            raise Conflict(f"API key {key.name} was revoked")
        ends = expires_at or key.expires_at
        if ends is not None and ends <= now:
            raise Conflict(f"API key {key.name} has expired; give it a new expires_at")
        own = key.name == giver.actor.id
        if not own:
            giver.check_gives((await access.of_key(tx, ctx.scope, key, now)).permissions, ends)
        elif expires_at is not None:
            giver.check_gives({}, expires_at)
        fresh: dict[str, Any] = {
            "key_hash": digest(value),
            "prefix": value.reveal()[:_PREFIX_LENGTH],
            "previous_hash": key.key_hash if overlap else None,
            "previous_until": now + overlap if overlap else None,
            "expires_at": ends,
            "shown_to": giver.actor.id,
            "shown_at": now + overlap,
        }
        await catalogue.change(tx, ctx.scope, ApiKey, key.id, expected=wish.expected, **fresh)
        event = Event(
            type=EventType.KEY_ROTATED,
            subject_type="api_key",
            subject_id=key.id,
            actor=giver.actor,
            details={"name": key.name, "overlap_seconds": int(overlap.total_seconds())},
        )
        await append(tx, ctx.scope, now, event)
    return msgspec.structs.replace(key, **fresh), value


async def revoke(ctx: Context, giver: Giver, key_id: str, expected: Expected = None) -> None:
    """Revoke a key at once; twice is once. Conflict for the last administrator's: nobody could get in again."""
    async with ctx.database.begin("key.revoke") as tx, access.keeping_an_admin(tx, ctx):
        key = await find(tx, ctx, giver, "auth.key.delete", key_id)
        _check_unchanged(key, expected)
        if key.revoked_at is not None:
            return
        ended: dict[str, Any] = {"revoked_at": ctx.now(), "previous_hash": None, "previous_until": None}
        await catalogue.change(tx, ctx.scope, ApiKey, key.id, expected=expected, **ended)
        await note(tx, ctx, giver.actor, EventType.CONFIG_DELETED, "api_key", key.id)


def _check_unchanged(key: ApiKey, expected: Expected) -> None:
    if expected is not None and key.row_version not in expected:
        raise PreconditionFailed(changed_meanwhile(f"API key {key.name}"))


async def bootstrap_is_open(ctx: Context, expected: Secret | None) -> bool:
    """Whether the first key may still be made."""
    if not expected:
        return False
    async with ctx.database.read() as tx:
        used = await authority.get_fact(tx, ctx.scope, _USED)
        return used is None or await _never_came(tx, ctx, used)


async def bootstrap(
    ctx: Context, expected: Secret | None, token: Secret, actor_name: str, *, request_id: str = "", address: str = ""
) -> tuple[ApiKey, Secret]:
    """The first administrator's key, once. Gone afterwards, NotAuthenticated for a wrong token.

    Its value is shown in the answer alone: while the key was never used, that answer may have been lost with a dying
    server, and asking again gives the key a fresh value.
    """
    if not await bootstrap_is_open(ctx, expected) or expected is None:
        raise Gone("bootstrap is closed: it was used, or no CERTCTL_BOOTSTRAP_TOKEN is set")
    if not hmac.compare_digest(expected.reveal().encode(), token.reveal().encode()):
        raise NotAuthenticated("this bootstrap token is wrong")
    name = _check_key_name(actor_name, "actor_name")
    now = ctx.now()
    key, value = _make(ctx, name, "bootstrap", KeyWish(name=name, role_ids=(ADMIN_ROLE,)))
    async with ctx.database.begin("bootstrap") as tx:
        if await authority.put_fact_once(tx, ctx.scope, _USED, key.id.encode(), now):
            await catalogue.insert(tx, ctx.scope, key)
        else:
            used = await authority.get_fact(tx, ctx.scope, _USED)
            if used is None or not await _never_came(tx, ctx, used):
                raise Gone("bootstrap is closed: it was used a moment ago")
            key = msgspec.structs.replace(key, id=used.decode())
            await catalogue.change(
                tx, ctx.scope, ApiKey, key.id, name=key.name, prefix=key.prefix, key_hash=key.key_hash
            )
            identity.changed(tx)
        actor = Actor(id=name, type=ActorType.API_KEY, request_id=request_id, address=address)
        event = Event(type=EventType.BOOTSTRAP_USED, subject_type="api_key", subject_id=key.id, actor=actor)
        await append(tx, ctx.scope, now, event)
    return key, value


async def _never_came(tx: Tx, ctx: Context, key_id: bytes) -> bool:
    """Whether the first key has never been seen in use: perhaps nobody has it."""
    key = await catalogue.find(tx, ctx.scope, ApiKey, id=key_id.decode())
    return key is not None and key.last_used_at is None and key.revoked_at is None


def _make(ctx: Context, name: str, created_by: str, wish: KeyWish) -> tuple[ApiKey, Secret]:
    value = new_value()
    key = ApiKey(
        tenant_id=ctx.scope.tenant_id,
        id=new_id("ak"),
        name=name,
        prefix=value.reveal()[:_PREFIX_LENGTH],
        key_hash=digest(value),
        role_ids=list(wish.role_ids),
        teams=_listed(wish.teams),
        profiles=_listed(wish.profiles),
        issuers=_listed(wish.issuers),
        created_by=created_by,
        created_at=ctx.now(),
        expires_at=wish.expires_at,
        last_used_at=None,
        revoked_at=None,
        agent_id=wish.agent_id,
        person=wish.person,
    )
    return key, value


def _listed(ids: Sequence[str] | None) -> list[str] | None:
    return None if ids is None else list(ids)


def _check_key_name(name: str, field: str = "name") -> str:
    checked = check_name(name)
    if not _NAME.fullmatch(checked):
        message = f"{field} is 3 to 64 characters of a-z 0-9 . _ - and begins with a letter or digit"
        raise fault("key_name_has_wrong_form", message, field)
    if checked == RESERVED_ACTOR:
        raise Conflict(f"the name {RESERVED_ACTOR} is reserved")
    return checked

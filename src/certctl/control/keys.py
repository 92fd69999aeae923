"""API keys: made once shown once, kept as SHA-256, expiring, revocable; nobody gives more than they have.

`bootstrap` makes the first one with the operator's token, once for the life of the installation.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from certctl.control.changes import check_name, fault, note
from certctl.control.enrolment import digest
from certctl.core.actor import Actor, ActorType
from certctl.core.catalogue import ApiKey
from certctl.core.errors import Conflict, Gone, NotAllowed, NotAuthenticated
from certctl.core.events import Event, EventType
from certctl.core.ids import new_id
from certctl.core.scope import Scope
from certctl.core.secret import Secret
from certctl.core.target import AgentRecord
from certctl.ledger import append
from certctl.lifecycle.context import Context
from certctl.store import authority, catalogue, views
from certctl.store.lists import Slice
from certctl.store.tx import Tx

ADMIN_ROLE = "r-admin"
AGENT_ROLE = "r-agent"
PREFIX = "ctk_"
_USED = "bootstrap_used"
_PREFIX_LENGTH = 8
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{2,63}")
_MOST_KEYS = 100_000

PermissionsOf = Callable[[Iterable[str]], frozenset[str]]


class KeyWish(Struct, frozen=True, kw_only=True):
    """A key to make. None in a list means no limit of that kind. `agent_id` makes it the key of that agent alone."""

    name: str
    role_ids: Sequence[str]
    expires_at: datetime | None = None
    teams: Sequence[str] | None = None
    profiles: Sequence[str] | None = None
    issuers: Sequence[str] | None = None
    agent_id: str = ""


class Giver(Struct, frozen=True, kw_only=True):
    """Who makes a key: what they hold is the most they can give. `permissions_of` is the doors' catalogue of roles."""

    actor: Actor
    permissions: frozenset[str]
    scope: Scope
    known_roles: frozenset[str]
    permissions_of: PermissionsOf


async def create(ctx: Context, giver: Giver, wish: KeyWish) -> tuple[ApiKey, Secret]:
    """A new key and its value, which is never shown again. Malformed, NotAllowed or Conflict."""
    name = _check_key_name(wish.name)
    _check_roles(giver, wish)
    now = ctx.now()
    if wish.expires_at is not None and (wish.expires_at.tzinfo is None or wish.expires_at <= now):
        raise fault("expires_in_the_past", "expires_at must lie in the future and have a time zone", "expires_at")
    key, value = _make(ctx, name, giver.actor.id, wish)
    async with ctx.database.begin("key.create") as tx:
        if wish.agent_id:
            await _check_agent(tx, ctx, wish)
        await catalogue.insert(tx, ctx.scope, key)
        await note(tx, ctx, giver.actor, EventType.CONFIG_CREATED, "api_key", key.id, wish.role_ids)
    return key, value


async def _check_agent(tx: Tx, ctx: Context, wish: KeyWish) -> None:
    """A key bound to an agent is that agent and nothing else."""
    if tuple(wish.role_ids) != (AGENT_ROLE,) or (wish.teams, wish.profiles, wish.issuers) != (None, None, None):
        message = f"a key bound to an agent has the role {AGENT_ROLE} alone and no other limits"
        raise fault("agent_key_has_one_role", message, "role_ids")
    agent = await catalogue.find(tx, ctx.scope, AgentRecord, id=wish.agent_id)
    if agent is None or agent.retired_at is not None:
        raise fault("unknown_reference", f"no agent {wish.agent_id}, or it was retired", "agent_id")


async def revoke(ctx: Context, actor: Actor, key_id: str, can_manage: Callable[[ApiKey], bool]) -> None:
    """Revoke a key at once; twice is once. Conflict for the last key that can make keys: nobody could get in again."""
    async with ctx.database.begin("key.revoke") as tx:
        key = await catalogue.get(tx, ctx.scope, ApiKey, key_id)
        if key.revoked_at is not None:
            return
        if can_manage(key) and not await _another(tx, ctx, key, can_manage):
            raise Conflict("this is the last key that can make keys; make another one before revoking it")
        await catalogue.change(tx, ctx.scope, ApiKey, key_id, revoked_at=ctx.now())
        await note(tx, ctx, actor, EventType.CONFIG_DELETED, "api_key", key_id)


async def _another(tx: Tx, ctx: Context, key: ApiKey, can_manage: Callable[[ApiKey], bool]) -> bool:
    now = ctx.now()
    page = await views.record_page(tx, ctx.scope, ApiKey, Slice(limit=_MOST_KEYS), revoked_at=None)
    return any(
        other.id != key.id and can_manage(other) and (other.expires_at is None or other.expires_at > now)
        for other in page.data
    )


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
        actor = Actor(id=name, type=ActorType.API_KEY, request_id=request_id, address=address)
        event = Event(type=EventType.BOOTSTRAP_USED, subject_type="api_key", subject_id=key.id, actor=actor)
        await append(tx, ctx.scope, now, event)
    return key, value


async def _never_came(tx: Tx, ctx: Context, key_id: bytes) -> bool:
    """Whether the first key has never been seen in use: perhaps nobody has it."""
    key = await catalogue.find(tx, ctx.scope, ApiKey, id=key_id.decode())
    return key is not None and key.last_used_at is None and key.revoked_at is None


def _make(ctx: Context, name: str, created_by: str, wish: KeyWish) -> tuple[ApiKey, Secret]:
    value = Secret(f"{PREFIX}{secrets.token_urlsafe(32)}")
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
    )
    return key, value


def _listed(ids: Sequence[str] | None) -> list[str] | None:
    return None if ids is None else list(ids)


def _check_key_name(name: str, field: str = "name") -> str:
    checked = check_name(name)
    if not _NAME.fullmatch(checked):
        message = f"{field} is 3 to 64 characters of a-z 0-9 . _ - and begins with a letter or digit"
        raise fault("key_name_has_wrong_form", message, field)
    return checked


def _check_roles(giver: Giver, wish: KeyWish) -> None:
    unknown = sorted(set(wish.role_ids) - giver.known_roles)
    if unknown or not wish.role_ids:
        message = f"role_ids are one or more of {', '.join(sorted(giver.known_roles))}"
        raise fault("unknown_role", message, "role_ids")
    beyond = sorted(giver.permissions_of(wish.role_ids) - giver.permissions)
    if beyond:
        raise NotAllowed(f"you cannot give what you do not have: {', '.join(beyond[:5])}")
    limits = (
        (giver.scope.teams, wish.teams, "teams"),
        (giver.scope.profiles, wish.profiles, "profiles"),
        (giver.scope.issuers, wish.issuers, "issuers"),
    )
    for mine, theirs, field in limits:
        if mine is not None and (theirs is None or not set(theirs) <= set(mine)):
            raise NotAllowed(f"your own key is limited to some {field}; limit the new one to the same or fewer")

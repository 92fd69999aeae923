"""Who is calling: a bearer key or an agent's credential becomes a Caller with permissions and a scope (RFC 6750 2.1).

Keys are looked up by SHA-256; expired and revoked ones are refused. An agent speaks for its own id alone. Must never
log a key.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from msgspec import Struct

from certctl.control.enrolment import digest
from certctl.core.actor import Actor, ActorType
from certctl.core.catalogue import ApiKey
from certctl.core.errors import NotAllowed, NotAuthenticated, Temporary
from certctl.core.scope import Scope
from certctl.core.secret import Secret
from certctl.core.target import AgentRecord
from certctl.doors.permissions import AGENT_PERMISSIONS, AGENT_ROLE, permissions_of
from certctl.lifecycle.context import Context
from certctl.store import catalogue
from certctl.telemetry.logging import get_logger

log = get_logger(__name__)

_TOUCH_EVERY = timedelta(minutes=1)
_LONGEST_BEARER = 512


class Caller(Struct, frozen=True, kw_only=True):
    """Somebody known. `agent` is set when an agent calls; `key_id` when an API key does; both for an agent's key."""

    actor: Actor
    role_ids: tuple[str, ...]
    permissions: frozenset[str]
    scope: Scope
    agent: AgentRecord | None = None
    key_id: str = ""

    @property
    def key_owner(self) -> str:
        """Who holds the leases of an agent that calls with an API key and names no lease; empty for anybody else."""
        return f"agent:{self.agent.id}:{self.key_boot_id}" if self.agent is not None and self.key_id else ""

    @property
    def key_boot_id(self) -> str:
        """What stands for the run of an agent that does not name its runs."""
        return f"key-{self.key_id}"


def bearer(headers: Mapping[str, str]) -> Secret:
    """The bearer credential of a request; NotAuthenticated when there is none. Header names are lowercase."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    value = value.strip()
    if scheme.lower() != "bearer" or not value or len(value) > _LONGEST_BEARER:
        raise NotAuthenticated("Authorization header required: send `Authorization: Bearer <API key>`")
    return Secret(value)


async def authenticate(ctx: Context, headers: Mapping[str, str], *, request_id: str, address: str) -> Caller:
    """Who holds the bearer credential of these headers; NotAuthenticated otherwise."""
    hashed = digest(bearer(headers))
    async with ctx.database.read() as tx:
        key = await catalogue.by_secret_hash(tx, ApiKey, "key_hash", hashed)
        if key is not None:
            bound = bool(key.agent_id) and key.tenant_id == ctx.scope.tenant_id
            agent = await catalogue.find(tx, ctx.scope, AgentRecord, id=key.agent_id) if bound else None
        else:
            agent = await catalogue.by_secret_hash(tx, AgentRecord, "credential_hash", hashed)
    if key is not None and key.tenant_id == ctx.scope.tenant_id:
        return await _key_holder(ctx, key, agent, request_id, address)
    if agent is not None and agent.tenant_id == ctx.scope.tenant_id:
        return Caller(
            actor=Actor(id=agent.id, type=ActorType.AGENT, request_id=request_id, address=address),
            role_ids=(AGENT_ROLE,),
            permissions=AGENT_PERMISSIONS,
            scope=Scope.whole(agent.tenant_id),
            agent=agent,
        )
    raise NotAuthenticated("this API key is not known")


async def _key_holder(ctx: Context, key: ApiKey, agent: AgentRecord | None, request_id: str, address: str) -> Caller:
    now = ctx.now()
    if key.revoked_at is not None:
        raise NotAuthenticated("this API key was revoked")
    if key.expires_at is not None and key.expires_at <= now:
        raise NotAuthenticated("this API key has expired")
    if key.agent_id and agent is None:
        raise NotAuthenticated("this API key is bound to an agent that is no more")
    if key.last_used_at is None or now - key.last_used_at >= _TOUCH_EVERY:
        await _touch(ctx, key)
    return Caller(
        actor=Actor(id=key.name, type=ActorType.API_KEY, request_id=request_id, address=address),
        role_ids=tuple(key.role_ids),
        permissions=AGENT_PERMISSIONS if agent is not None else permissions_of(key.role_ids),
        scope=Scope(
            tenant_id=key.tenant_id,
            teams=_limit(key.teams),
            profiles=_limit(key.profiles),
            issuers=_limit(key.issuers),
        ),
        key_id=key.id,
        agent=agent,
    )


def _limit(ids: list[str] | None) -> tuple[str, ...] | None:
    return None if ids is None else tuple(ids)


async def _touch(ctx: Context, key: ApiKey) -> None:
    """When a key was last used is good to know, and no reason to refuse its holder."""
    try:
        async with ctx.database.begin("key.touch") as tx:
            await catalogue.change(tx, Scope.whole(key.tenant_id), ApiKey, key.id, last_used_at=ctx.now())
    except Temporary as error:
        log.warning("key_use_not_noted", key_id=key.id, error=error)


def authorise(caller: Caller, permission: str) -> None:
    """NotAllowed unless the caller has this permission."""
    if permission not in caller.permissions:
        raise NotAllowed(f"this needs the permission {permission}, which {caller.actor.id} does not have")


def own_agent(caller: Caller, agent_id: str) -> AgentRecord:
    """The calling agent, which speaks for its own id alone; NotAllowed otherwise."""
    if caller.agent is None:
        raise NotAllowed("only an agent may call this, with its own credential or an API key bound to its id")
    if caller.agent.id != agent_id:
        raise NotAllowed("an agent speaks for itself alone")
    return caller.agent

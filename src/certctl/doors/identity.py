"""Who is calling: a bearer key, an agent's credential or a browser's session becomes a Caller (RFC 6750 2.1).

Credentials are looked up by SHA-256; what has expired or was revoked is refused. An Authorization header wins over a
cookie. An agent speaks for its own id alone. Must never log a credential.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from certctl.control import access, breakglass
from certctl.control.access import Giver
from certctl.control.enrolment import CREDENTIAL_PREFIX, digest
from certctl.core.actor import Actor, ActorType
from certctl.core.catalogue import ApiKey
from certctl.core.errors import NotAllowed, NotAuthenticated, Temporary
from certctl.core.keyvalue import may_be_key
from certctl.core.people import Session, SessionMethod
from certctl.core.permissions import AGENT_PERMISSIONS, AGENT_ROLE
from certctl.core.rules import DoorRules
from certctl.core.scope import EVERYTHING, Scope
from certctl.core.secret import Secret
from certctl.core.target import AgentRecord
from certctl.doors.callers import Callers, Known
from certctl.doors.cookies import session_token
from certctl.doors.together import Together
from certctl.lifecycle.context import Context
from certctl.store import agents, catalogue, identity, sessions
from certctl.store.tx import Tx
from certctl.telemetry.logging import get_logger

log = get_logger(__name__)

_TOUCH_EVERY = timedelta(minutes=1)
_LONGEST_BEARER = 512


class Caller(Struct, frozen=True, kw_only=True):
    """Somebody known. `agent` is set when an agent calls; `key_id` when an API key does; both for an agent's key.

    `permissions` says of each how far it reaches; `until` is when the credential itself ends; `session_id` names the
    browser's session, and `csrf_hash` is what its changes have to match (`cookies.check_csrf`).
    """

    actor: Actor
    tenant_id: str
    role_ids: tuple[str, ...]
    permissions: Mapping[str, Scope]
    agent: AgentRecord | None = None
    key_id: str = ""
    until: datetime | None = None
    session_id: str = ""
    csrf_hash: str = ""

    @property
    def key_owner(self) -> str:
        """Who holds the leases of an agent that calls with an API key and names no lease; empty for anybody else."""
        return f"agent:{self.agent.id}:{self.key_boot_id}" if self.agent is not None and self.key_id else ""

    @property
    def key_boot_id(self) -> str:
        """What stands for the run of an agent that does not name its runs."""
        return f"key-{self.key_id}"

    @property
    def is_admin(self) -> bool:
        """Whether nothing is kept from them."""
        return access.is_admin(self.permissions)

    @property
    def giver(self) -> Giver:
        """What they may give to others."""
        return Giver(actor=self.actor, permissions=self.permissions, until=self.until)

    def reach(self, permission: str) -> Scope:
        """How far a permission of theirs reaches; NotAllowed when they do not have it."""
        found = self.permissions.get(permission)
        if found is None:
            raise NotAllowed(f"this needs the permission {permission}, which {self.actor.id} does not have")
        return found


class Knock(Struct, frozen=True, kw_only=True):
    """What a door sees of somebody who calls; header names are lowercase."""

    headers: Mapping[str, str]
    method: str = "GET"
    request_id: str = ""
    address: str = ""

    @property
    def user_agent(self) -> str:
        """What the client says it is, as far as it is kept."""
        return self.headers.get("user-agent", "")[:512]


def bearer(headers: Mapping[str, str]) -> Secret:
    """The bearer credential of a request; NotAuthenticated when there is none. Header names are lowercase."""
    scheme, _, value = headers.get("authorization", "").partition(" ")
    value = value.strip()
    if scheme.lower() != "bearer" or not value or len(value) > _LONGEST_BEARER:
        raise NotAuthenticated("Authorization header required: send `Authorization: Bearer <API key>`")
    return Secret(value)


def hash_bearer(value: Secret) -> str:
    """How a bearer credential is looked up; NotAuthenticated for what cannot be one."""
    if not may_be_key(value.reveal()):
        raise NotAuthenticated("this is no whole API key: its checksum is wrong; was it copied in full?")
    return digest(value)


class Agents(Together[str, AgentRecord]):
    """Whose credentials these are, by their hash; asked for all that call at the same time. One a process."""

    def __init__(self, ctx: Context) -> None:
        async def ask(hashes: Sequence[str]) -> dict[str, AgentRecord]:
            async with ctx.database.read() as tx:
                return await agents.by_credentials(tx, ctx.scope, hashes)

        super().__init__("agents-by-credential", ask)


async def authenticate(
    ctx: Context, callers: Callers, known_agents: Agents, knock: Knock, before_look_up: Callable[[], Awaitable[None]]
) -> Caller:
    """Who holds the bearer credential of this request; NotAuthenticated otherwise."""
    try:
        hashed = hash_bearer(bearer(knock.headers))
    except NotAuthenticated:
        await before_look_up()
        raise
    known, agent = callers.find(hashed, ctx.now()), None
    if known is None:
        await before_look_up()
        if is_agents(knock) and (calling := await known_agents.find(hashed)) is not None:
            return _agent(calling, knock)
        epoch = callers.epoch
        found = await look_up(ctx, hashed)
        if isinstance(found, AgentRecord):
            return _agent(found, knock)
        known, agent = found
        if agent is None:
            # what an agent last said of itself moves with every poll of it: never remembered
            callers.keep(hashed, known, epoch)
    now = ctx.now()
    if known.touched_at is None or now - known.touched_at >= _TOUCH_EVERY:
        known.touched_at = now
        await _touch_key(ctx, known.key_id)
    return _caller(ctx, known, knock, agent)


async def authenticate_browser(
    ctx: Context,
    callers: Callers,
    rules: DoorRules,
    knock: Knock,
    before_look_up: Callable[[], Awaitable[None]],
) -> Caller:
    """Whose session a browser's cookie names; NotAuthenticated otherwise. Its CSRF token is judged by the caller."""
    token = session_token(knock.headers)
    if token is None:
        await before_look_up()
        raise NotAuthenticated("sign in, or send `Authorization: Bearer <API key>`")
    hashed = digest(token)
    known = callers.find(hashed, ctx.now())
    if known is None:
        await before_look_up()
        epoch = callers.epoch
        known = await _look_up_session(ctx, rules, hashed)
        callers.keep(hashed, known, epoch)
    session = known.session
    if session is None:  # a bug: what a cookie's token finds is a session
        raise RuntimeError("no session behind a session token")
    bound = rules.sessions
    if (bound.bind_ip and session.ip_address != knock.address) or (
        bound.bind_user_agent and session.user_agent != knock.user_agent
    ):
        raise NotAuthenticated("this session was begun from elsewhere; sign in again")
    now = ctx.now()
    if known.touched_at is None or now - known.touched_at >= min(_TOUCH_EVERY, bound.idle / 4):
        known.touched_at = now
        callers.drop(hashed)
        await _touch_session(ctx, session, min(now + bound.idle, session.absolute_expires_at))
    return _caller(ctx, known, knock, None)


def is_agents(knock: Knock) -> bool:
    """Whether the credential says that it is an agent's: it is looked for there first, nothing else follows from it."""
    return bearer(knock.headers).reveal().startswith(CREDENTIAL_PREFIX)


async def look_up(ctx: Context, hashed: str) -> AgentRecord | tuple[Known, AgentRecord | None]:
    """Whose credential has this hash: an agent, or a key and the agent it is bound to; NotAuthenticated otherwise."""
    began, now = time.monotonic(), ctx.now()
    async with ctx.database.read() as tx:
        key = await identity.key_by_secret(tx, hashed)
        if key is None:
            agent = await _agent_by(tx, hashed)
            if agent is None or agent.tenant_id != ctx.scope.tenant_id:
                raise NotAuthenticated("this API key is not known")
            return agent
        if key.tenant_id != ctx.scope.tenant_id:
            raise NotAuthenticated("this API key is not known")
        _check_key(key, now)
        value_ends = _check_value(key, hashed, now)
        agent = await catalogue.find(tx, ctx.scope, AgentRecord, id=key.agent_id) if key.agent_id else None
        held = await access.of_key(tx, ctx.scope, key, now)
    if key.agent_id and agent is None:
        raise NotAuthenticated("this API key is bound to an agent that is no more")
    known = Known(
        actor_id=key.name,
        actor_type=ActorType.API_KEY,
        permissions=held.permissions,
        role_ids=held.role_ids,
        ends_at=_first(key.expires_at, value_ends, held.changes_at),
        touched_at=key.last_used_at,
        read_at=began,
        key_id=key.id,
        until=key.expires_at,
    )
    return known, agent


async def _agent_by(tx: Tx, hashed: str) -> AgentRecord | None:
    return await catalogue.by_secret_hash(tx, AgentRecord, "credential_hash", hashed)


def _first(*moments: datetime | None) -> datetime | None:
    return min((moment for moment in moments if moment is not None), default=None)


def _check_key(key: ApiKey, now: datetime) -> None:
    if key.revoked_at is not None:
        raise NotAuthenticated("this API key was revoked")
    if key.expires_at is not None and key.expires_at <= now:
        raise NotAuthenticated("this API key has expired")


def _check_value(key: ApiKey, hashed: str, now: datetime) -> datetime | None:
    """When this very value ends, if it was rotated away; NotAuthenticated when it has ended."""
    if key.key_hash == hashed:
        return None
    if key.previous_until is None or key.previous_until <= now:
        raise NotAuthenticated("this API key was rotated; use its new value")
    return key.previous_until


async def _look_up_session(ctx: Context, rules: DoorRules, hashed: str) -> Known:
    began, now = time.monotonic(), ctx.now()
    async with ctx.database.read() as tx:
        session = await sessions.by_token(tx, hashed)
        if session is None or session.tenant_id != ctx.scope.tenant_id:
            raise NotAuthenticated("this session is not known; sign in again")
        if session.revoked_at is not None:
            raise NotAuthenticated("this session was ended; sign in again")
        if session.absolute_expires_at <= now:
            raise NotAuthenticated("this session has lasted its time; sign in again")
        if session.idle_expires_at <= now:
            raise NotAuthenticated("this session was idle for too long; sign in again")
        held, until = await _holder_of(tx, ctx, rules, session, now)
    return Known(
        actor_id=session.actor_id,
        actor_type=ActorType(session.actor_type),
        permissions=held.permissions,
        role_ids=held.role_ids,
        ends_at=_first(session.idle_expires_at, session.absolute_expires_at, until, held.changes_at),
        touched_at=session.last_seen_at,
        read_at=began,
        key_id=session.key_id,
        until=until,
        session=session,
    )


async def _holder_of(
    tx: Tx, ctx: Context, rules: DoorRules, session: Session, now: datetime
) -> tuple[access.Access, datetime | None]:
    """What the one who began a session may do now, and when their credential ends; NotAuthenticated if it is gone."""
    if session.method == SessionMethod.API_KEY:
        key = await catalogue.find(tx, ctx.scope, ApiKey, id=session.key_id)
        if key is None:
            raise NotAuthenticated("the API key of this session is no more")
        _check_key(key, now)
        return await access.of_key(tx, ctx.scope, key, now), key.expires_at
    user = await sessions.user(tx, ctx.scope, session.actor_id)
    if user is not None and user.deactivated_at is not None:
        raise NotAuthenticated("this user was deactivated")
    if session.method == SessionMethod.BREAKGLASS:
        if not rules.breakglass.enabled or await sessions.credential(tx, ctx.scope, session.actor_id) is None:
            raise NotAuthenticated("break-glass access is over")
        held = await access.of_roles(tx, ctx.scope, [breakglass.ROLE], EVERYTHING)
        return access.Access(permissions=held, role_ids=(breakglass.ROLE,)), None
    if user is None:
        raise NotAuthenticated("this user is no more")
    return await access.of_user(tx, ctx.scope, user.id, now), None


def _agent(agent: AgentRecord, knock: Knock) -> Caller:
    return Caller(
        actor=Actor(id=agent.id, type=ActorType.AGENT, request_id=knock.request_id, address=knock.address),
        tenant_id=agent.tenant_id,
        role_ids=(AGENT_ROLE,),
        permissions=dict.fromkeys(AGENT_PERMISSIONS, Scope.whole(agent.tenant_id)),
        agent=agent,
    )


def _caller(ctx: Context, known: Known, knock: Knock, agent: AgentRecord | None) -> Caller:
    return Caller(
        actor=Actor(id=known.actor_id, type=known.actor_type, request_id=knock.request_id, address=knock.address),
        tenant_id=ctx.scope.tenant_id,
        role_ids=known.role_ids,
        permissions=known.permissions,
        key_id=known.key_id,
        agent=agent,
        until=known.until,
        session_id=known.session.id if known.session else "",
        csrf_hash=known.session.csrf_hash if known.session else "",
    )


async def _touch_key(ctx: Context, key_id: str) -> None:
    """When a key was last used is good to know, and no reason to refuse its holder."""
    try:
        async with ctx.database.begin("key.touch") as tx:
            await identity.touch_key(tx, ctx.scope, key_id, ctx.now())
    except Temporary as error:
        log.warning("key_use_not_noted", key_id=key_id, error=error)


async def _touch_session(ctx: Context, session: Session, idle_expires_at: datetime) -> None:
    try:
        async with ctx.database.begin("session.touch") as tx:
            await sessions.touch(tx, ctx.scope, session.id, ctx.now(), idle_expires_at)
    except Temporary as error:
        log.warning("session_use_not_noted", session_id=session.id, error=error)


def authorise(caller: Caller, permission: str) -> None:
    """NotAllowed unless the caller has this permission, however far it reaches."""
    caller.reach(permission)


def own_agent(caller: Caller, agent_id: str) -> AgentRecord:
    """The calling agent, which speaks for its own id alone; NotAllowed otherwise."""
    if caller.agent is None:
        raise NotAllowed("only an agent may call this, with its own credential or an API key bound to its id")
    if caller.agent.id != agent_id:
        raise NotAllowed("an agent speaks for itself alone")
    return caller.agent

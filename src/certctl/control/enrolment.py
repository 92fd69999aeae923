"""Agents come and go: a one-time, expiring token bound to a name or a group makes one agent, whose credential is its
own.

Tokens and credentials are shown once and stored as SHA-256. A retired agent is Gone and its steps go to nobody.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import secrets
from datetime import timedelta
from typing import Any

import msgspec

from certctl.control.beats import Beats
from certctl.core.actor import Actor, ActorType
from certctl.core.catalogue import EnrolmentToken
from certctl.core.errors import Conflict, Gone, Malformed, NotAllowed, NotAuthenticated, Violation
from certctl.core.events import Event, EventType
from certctl.core.ids import new_id
from certctl.core.secret import Secret
from certctl.core.status import AgentStatus
from certctl.core.target import AgentRecord
from certctl.ledger import append
from certctl.lifecycle import flow, incidents
from certctl.lifecycle.context import Context
from certctl.store import catalogue
from certctl.store.tx import Tx
from certctl.wire.agent import PROTOCOL_VERSION, Enrolment, Heartbeat, HeartbeatReply

REFERENCE_PROTOCOL = 0
CREDENTIAL_PREFIX = "cta_"
_FROM_SHARED = "agent-bootstrap"
_SHARED_TTL = timedelta(days=30)
_LONGEST_TTL = timedelta(days=30)


def digest(secret: Secret) -> str:
    """How tokens, credentials and keys are stored: SHA-256 is enough for 256 random bits."""
    return hashlib.sha256(secret.reveal().encode()).hexdigest()


async def create_token(
    ctx: Context, actor: Actor, *, agent_name: str, agent_group: str, ttl: timedelta
) -> tuple[EnrolmentToken, Secret]:
    """A token for one agent of this name, or of this group; valid once, for at most 30 days."""
    if bool(agent_name) == bool(agent_group):
        message = "give exactly one of agent_name and agent_group"
        raise Malformed(message, violations=(Violation("name_or_group", message, "agent_name"),))
    if not timedelta(0) < ttl <= _LONGEST_TTL:
        message = "an enrolment token lives more than 0 seconds and at most 30 days"
        raise Malformed(message, violations=(Violation("lifetime_out_of_range", message, "expires_in_seconds"),))
    secret = Secret(f"cte_{secrets.token_urlsafe(32)}")
    now = ctx.now()
    token = EnrolmentToken(
        tenant_id=ctx.scope.tenant_id,
        id=new_id("tok"),
        token_hash=digest(secret),
        agent_name=agent_name,
        agent_group=agent_group,
        created_by=actor.id,
        created_at=now,
        expires_at=now + ttl,
        used_at=None,
        used_by="",
    )
    async with ctx.database.begin("enrolment.token") as tx:
        await catalogue.insert(tx, ctx.scope, token)
        details = {"agent_name": agent_name, "agent_group": agent_group, "expires_at": token.expires_at.isoformat()}
        await append(
            tx, ctx.scope, now, _event(EventType.ENROLMENT_TOKEN_CREATED, "enrolment_token", token.id, actor, details)
        )
    return token, secret


async def enrol(
    ctx: Context, token: Secret, said: Enrolment, address: str, attempt_id: str = ""
) -> tuple[AgentRecord, Secret]:
    """Use a token up and make its agent.

    An agent whose answer was lost asks again with the same `attempt_id` (its Idempotency-Key) and, while its agent has
    never been at work, gets that agent with a fresh credential. Everybody else needs a new token.
    """
    if said.protocol != PROTOCOL_VERSION:
        raise Malformed(f"this server speaks agent protocol {PROTOCOL_VERSION}, the agent speaks {said.protocol}")
    now = ctx.now()
    credential = Secret(CREDENTIAL_PREFIX + secrets.token_urlsafe(32))
    async with ctx.database.begin("enrolment.enrol") as tx:
        known = await _usable_token(tx, ctx, token, said)
        if known.used_at is not None:
            agent = await _same_again(tx, ctx, known, attempt_id, credential)
        else:
            agent = _agent(ctx, said, known.agent_group, credential, address)
            use = {"used_at": now, "used_by": agent.id, "used_key": attempt_id[:200]}
            if not await catalogue.change_if(tx, ctx.scope, EnrolmentToken, known.id, "used_at", is_null=True, **use):
                raise NotAuthenticated("the enrolment token has been used; ask for a new one")
            await catalogue.insert(tx, ctx.scope, agent)
        actor = Actor(id=agent.id, type=ActorType.AGENT, address=address)
        details = {"name": agent.name, "hostname": agent.hostname, "token_id": known.id}
        await append(tx, ctx.scope, now, _event(EventType.AGENT_ENROLLED, "agent", agent.id, actor, details))
    return agent, credential


async def enrol_by_shared_token(
    ctx: Context, shared: Secret, said: Enrolment, address: str, attempt_id: str = ""
) -> tuple[AgentRecord, Secret]:
    """Enrol one of many agents that hold the installation's agent bootstrap token, compared by the caller.

    Each enrolment leaves a used-up token of its own, known by the shared one and its attempt: a lost answer is asked
    for again as in `enrol`, and the record says who came in this way. The living agent of a name keeps it.
    """
    attempt_id = attempt_id[:200] or new_id("attempt")
    own = Secret(f"{shared.reveal()}:{attempt_id}")
    now = ctx.now()
    token = EnrolmentToken(
        tenant_id=ctx.scope.tenant_id,
        id=new_id("tok"),
        token_hash=digest(own),
        agent_name=said.name,
        agent_group="",
        created_by=_FROM_SHARED,
        created_at=now,
        expires_at=now + _SHARED_TTL,
        used_at=None,
        used_by="",
    )
    async with ctx.database.begin("enrolment.shared") as tx:
        if await catalogue.by_secret_hash(tx, EnrolmentToken, "token_hash", token.token_hash) is None:
            with contextlib.suppress(Conflict):  # the same attempt, asked twice at once
                await catalogue.insert(tx, ctx.scope, token)
    return await enrol(ctx, own, said, address, attempt_id)


async def _usable_token(tx: Tx, ctx: Context, token: Secret, said: Enrolment) -> EnrolmentToken:
    known = await catalogue.by_secret_hash(tx, EnrolmentToken, "token_hash", digest(token))
    if known is None or known.tenant_id != ctx.scope.tenant_id or known.expires_at <= ctx.now():
        raise NotAuthenticated("the enrolment token is unknown or has expired; ask for a new one")
    if known.agent_name and known.agent_name != said.name:
        raise NotAllowed(f"this enrolment token is for the agent named {known.agent_name}")
    return known


async def _same_again(tx: Tx, ctx: Context, known: EnrolmentToken, attempt_id: str, credential: Secret) -> AgentRecord:
    agent = await catalogue.find(tx, ctx.scope, AgentRecord, id=known.used_by)
    same = bool(attempt_id) and hmac.compare_digest(known.used_key.encode(), attempt_id[:200].encode())
    if not same or agent is None or agent.boot_id or agent.retired_at is not None:
        raise NotAuthenticated("the enrolment token has been used; ask for a new one")
    await catalogue.change(tx, ctx.scope, AgentRecord, agent.id, credential_hash=digest(credential))
    return agent


def _agent(ctx: Context, said: Enrolment, agent_group: str, credential: Secret, address: str) -> AgentRecord:
    name = said.name.strip()
    if not name or len(name) > 128 or not said.hostname:
        message = "an agent enrols with a name of at most 128 characters and a hostname"
        raise Malformed(message, violations=(Violation("agent_needs_a_name", message, "name"),))
    now = ctx.now()
    return AgentRecord(
        tenant_id=ctx.scope.tenant_id,
        id=new_id("agent"),
        name=name,
        hostname=said.hostname[:255],
        status=AgentStatus.ONLINE,
        last_heartbeat_at=now,
        registered_at=now,
        os=said.os[:64],
        architecture=said.architecture[:64],
        ip_address=(said.ip_address or address)[:64],
        version=said.version[:64],
        protocol=said.protocol,
        capabilities=[capability[:64] for capability in said.capabilities[:64]],
        agent_group=agent_group,
        boot_id="",
        credential_hash=digest(credential),
        retired_at=None,
        retired_reason="",
    )


async def register(ctx: Context, actor: Actor, said: Enrolment, address: str) -> AgentRecord:
    """An agent of the reference product, registered by an operator; it calls with an API key bound to its id.

    Its protocol is 0, which marks it: it knows no leases. Nobody has its own credential. Conflict for a taken name.
    """
    nobody = Secret(secrets.token_urlsafe(32))
    agent = msgspec.structs.replace(
        _agent(ctx, said, "", nobody, address),
        protocol=REFERENCE_PROTOCOL,
        capabilities=[],
        status=AgentStatus.UNKNOWN,
        last_heartbeat_at=None,
    )
    async with ctx.database.begin("enrolment.register") as tx:
        await catalogue.insert(tx, ctx.scope, agent)
        details = {"name": agent.name, "hostname": agent.hostname}
        await append(tx, ctx.scope, ctx.now(), _event(EventType.AGENT_ENROLLED, "agent", agent.id, actor, details))
    return agent


async def agent_of(ctx: Context, credential: Secret) -> AgentRecord:
    """Whose credential this is; NotAuthenticated otherwise."""
    async with ctx.database.read() as tx:
        agent = await catalogue.by_secret_hash(tx, AgentRecord, "credential_hash", digest(credential))
    if agent is None or agent.tenant_id != ctx.scope.tenant_id:
        raise NotAuthenticated("this agent credential is unknown; enrol the agent again")
    return agent


def refuse_retired(agent: AgentRecord) -> None:
    """A retired agent is told so, and stops."""
    if agent.retired_at is not None:
        raise Gone(f"agent {agent.name} was retired: {agent.retired_reason or 'no reason given'}")


async def heartbeat(ctx: Context, beats: Beats, agent: AgentRecord, said: Heartbeat) -> HeartbeatReply:
    """A sign of life; extends the leases of the steps in hand and names those that have passed on.

    `agent` is as it was read for this call: one that says nothing new is written together with others.
    """
    refuse_retired(agent)
    now = ctx.now()
    owner = f"agent:{agent.id}:{said.boot_id}"
    held: set[str] = set()
    if said.leases:
        held = await flow.keep_leases(ctx, owner, [(lease.step_id, lease.fence) for lease in said.leases[:256]])
    changes = {name: value for name, value in _told(said).items() if getattr(agent, name) != value}
    if changes or not beats.keep(agent):
        async with ctx.database.begin("heartbeat") as tx:
            await _write_sign(tx, ctx, agent, **changes)
    lost = [lease for lease in said.leases if lease.step_id not in held]
    return HeartbeatReply(lost=lost, server_time=now.isoformat())


def _told(said: Heartbeat) -> dict[str, Any]:
    """The facts of itself that a heartbeat tells; what it leaves out stays as it is known."""
    told = {
        "version": said.version[:64],
        "hostname": said.hostname[:255],
        "os": said.os[:64],
        "architecture": said.architecture[:64],
        "ip_address": said.ip_address[:64],
        # an agent that was updated can do more than when it enrolled
        "capabilities": [capability[:64] for capability in said.capabilities[:64]],
    }
    facts: dict[str, Any] = {name: value for name, value in told.items() if value}
    if said.boot_id:  # it names its runs, so it speaks our protocol, whatever it was registered as
        facts["protocol"] = said.protocol
    return facts


async def seen(ctx: Context, beats: Beats, agent: AgentRecord, boot_id: str) -> None:
    """A poll is a sign of life too; written with others, and at once when a new run of the agent begins."""
    if agent.boot_id == boot_id and beats.keep(agent):
        return
    async with ctx.database.begin("agent.seen") as tx:
        await _write_sign(tx, ctx, agent, boot_id=boot_id)


async def _write_sign(tx: Tx, ctx: Context, agent: AgentRecord, **changes: Any) -> None:
    now = ctx.now()
    sign: dict[str, Any] = {"status": AgentStatus.ONLINE, "last_heartbeat_at": now}
    await catalogue.change(tx, ctx.scope, AgentRecord, agent.id, **sign, **changes)
    if agent.status == AgentStatus.OFFLINE:
        actor = Actor(id=agent.id, type=ActorType.AGENT)
        await append(tx, ctx.scope, now, _event(EventType.AGENT_RETURNED, "agent", agent.id, actor, {}))
        await incidents.returned(tx, ctx, agent.id, agent.name)


def _event(kind: EventType, subject: str, subject_id: str, actor: Actor, details: dict[str, Any]) -> Event:
    return Event(type=kind, subject_type=subject, subject_id=subject_id, actor=actor, details=details)

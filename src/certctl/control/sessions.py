"""Browser sessions: rows on the server, of which the browser holds a random token; begun, listed, ended.

Tokens are kept as SHA-256. A session that was begun with an API key ends with it. A sign-in always makes a new token:
what a browser brought along is never taken up (session fixation), and ends.
"""

from __future__ import annotations

import secrets
from datetime import timedelta

from msgspec import Struct

from certctl.control.enrolment import digest
from certctl.core.actor import Actor
from certctl.core.errors import NotFound
from certctl.core.events import Event, EventType
from certctl.core.ids import new_id
from certctl.core.people import Session, SessionMethod
from certctl.core.rules import SessionRules
from certctl.core.secret import Secret
from certctl.ledger import append
from certctl.lifecycle.context import Context
from certctl.store import identity, rates, sessions

_KEPT_AFTER_THE_END = timedelta(days=1)
_SWEPT_AT_ONCE = 1000
_BUCKETS_KEPT = timedelta(hours=1)
_LONGEST_USER_AGENT = 512


class Begun(Struct, frozen=True, kw_only=True):
    """A session just begun, with the two values that leave this once."""

    session: Session
    token: Secret
    csrf: Secret


async def begin(
    ctx: Context,
    rules: SessionRules,
    actor: Actor,
    method: SessionMethod,
    *,
    user_agent: str,
    key_id: str = "",
    instead_of: Secret | None = None,
) -> Begun:
    """A new session for `actor`; the one whose token is `instead_of` ends."""
    now = ctx.now()
    token, csrf = Secret(secrets.token_urlsafe(32)), Secret(secrets.token_urlsafe(32))
    session = Session(
        tenant_id=ctx.scope.tenant_id,
        id=new_id("ses"),
        token_hash=digest(token),
        csrf_hash=digest(csrf),
        actor_id=actor.id,
        actor_type=str(actor.type),
        method=str(method),
        key_id=key_id,
        ip_address=actor.address,
        user_agent=user_agent[:_LONGEST_USER_AGENT],
        created_at=now,
        last_seen_at=now,
        idle_expires_at=now + rules.idle,
        absolute_expires_at=now + rules.absolute,
        revoked_at=None,
        revoked_reason="",
    )
    async with ctx.database.begin("session.begin") as tx:
        if instead_of:
            before = await sessions.by_token(tx, digest(instead_of))
            if before is not None and before.tenant_id == ctx.scope.tenant_id:
                await sessions.end(tx, ctx.scope, now, "signed in anew", session_ids=[before.id])
                identity.changed(tx)
        await sessions.insert(tx, ctx.scope, session)
        event = Event(
            type=EventType.SESSION_BEGUN,
            subject_type="session",
            subject_id=session.id,
            actor=actor,
            details={"method": session.method, "user_agent": session.user_agent},
        )
        await append(tx, ctx.scope, now, event)
    return Begun(session=session, token=token, csrf=csrf)


async def end(ctx: Context, actor: Actor, session_id: str, reason: str, *, whose: Actor | None) -> None:
    """End a session; with `whose`, one of theirs. NotFound when there is none that still lasts."""
    now = ctx.now()
    async with ctx.database.begin("session.end") as tx:
        owner = {} if whose is None else {"actor_id": whose.id, "actor_type": str(whose.type)}
        found = await sessions.alive(tx, ctx.scope, now, session_id=session_id, **owner)
        if not found:
            raise NotFound(f"no session {session_id}")
        await sessions.end(tx, ctx.scope, now, reason, session_ids=[session_id])
        identity.changed(tx)
        event = Event(
            type=EventType.SESSION_ENDED,
            subject_type="session",
            subject_id=session_id,
            actor=actor,
            details={"actor_id": found[0].actor_id, "reason": reason},
        )
        await append(tx, ctx.scope, now, event)


async def end_all(ctx: Context, actor: Actor, actor_id: str, actor_type: str, *, but: str = "") -> int:
    """End every session of somebody, `but` one; returns how many."""
    now = ctx.now()
    async with ctx.database.begin("session.end") as tx:
        ended = await sessions.end(tx, ctx.scope, now, "revoked", actor_id=actor_id, actor_type=actor_type, but=but)
        if ended:
            identity.changed(tx)
            event = Event(
                type=EventType.SESSION_ENDED,
                subject_type="actor",
                subject_id=actor_id,
                actor=actor,
                details={"actor_type": actor_type, "ended": ended, "but": but},
            )
            await append(tx, ctx.scope, now, event)
    return ended


async def sweep(ctx: Context) -> int:
    """Delete sessions that have been over for a day, and rate buckets that are full again; returns how many."""
    now = ctx.now()
    async with ctx.database.begin("session.sweep") as tx:
        gone = await sessions.sweep(tx, ctx.scope, now - _KEPT_AFTER_THE_END, _SWEPT_AT_ONCE)
        return gone + await rates.sweep(tx, ctx.scope, now - _BUCKETS_KEPT)

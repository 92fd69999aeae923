"""Browser sessions, users and break-glass credentials. Tokens and passwords are here as hashes alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa

from certctl.core.actor import ActorType
from certctl.core.people import BreakglassCredential, Session, User
from certctl.core.scope import Scope
from certctl.store.schema import breakglass_credentials, sessions, users
from certctl.store.tx import Tx


async def by_token(tx: Tx, hashed: str) -> Session | None:
    """Whose session token this is, whatever the tenant."""
    return await tx.one(Session, sa.select(sessions).where(sessions.c.token_hash == hashed))


async def insert(tx: Tx, scope: Scope, session: Session) -> None:
    """A new session."""
    row = {name: getattr(session, name) for name in session.__struct_fields__}
    if session.tenant_id != scope.tenant_id:
        raise ValueError("a session of another tenant")
    await tx.execute(sa.insert(sessions).values(row))


async def touch(tx: Tx, scope: Scope, session_id: str, now: datetime, idle_expires_at: datetime) -> None:
    """A session was used."""
    await tx.execute(
        sa.update(sessions)
        .where(sessions.c.tenant_id == scope.tenant_id, sessions.c.id == session_id, sessions.c.revoked_at.is_(None))
        .values(last_seen_at=now, idle_expires_at=idle_expires_at)
    )


async def alive(
    tx: Tx, scope: Scope, now: datetime, *, actor_id: str = "", actor_type: str = "", session_id: str = ""
) -> list[Session]:
    """Sessions that are not over, newest first, of an actor or of all."""
    asked = {
        sessions.c.actor_id: actor_id,
        sessions.c.actor_type: actor_type,
        sessions.c.id: session_id,
    }
    return await tx.all(
        Session,
        sa.select(sessions)
        .where(
            sessions.c.tenant_id == scope.tenant_id,
            sessions.c.revoked_at.is_(None),
            sessions.c.idle_expires_at > now,
            sessions.c.absolute_expires_at > now,
            *(column == value for column, value in asked.items() if value),
        )
        .order_by(sessions.c.created_at.desc(), sessions.c.id.desc()),
    )


async def end(
    tx: Tx,
    scope: Scope,
    now: datetime,
    reason: str,
    *,
    actor_id: str = "",
    actor_type: str = "",
    session_ids: Sequence[str] = (),
    key_id: str = "",
    but: str = "",
) -> int:
    """Revoke sessions by id, by key or of an actor (`but` one); returns how many. Naming none of these is a mistake."""
    conditions = [sessions.c.tenant_id == scope.tenant_id, sessions.c.revoked_at.is_(None)]
    if session_ids:
        conditions.append(sessions.c.id.in_(tuple(session_ids)))
    if actor_id:
        conditions += [sessions.c.actor_id == actor_id, sessions.c.actor_type == actor_type]
    if key_id:
        conditions.append(sessions.c.key_id == key_id)
    if not (session_ids or actor_id or key_id):
        raise ValueError("whose sessions?")
    if but:
        conditions.append(sessions.c.id != but)
    ended = {"revoked_at": now, "revoked_reason": reason}
    return (await tx.execute(sa.update(sessions).where(*conditions).values(ended))).rowcount


async def sweep(tx: Tx, scope: Scope, before: datetime, limit: int) -> int:
    """Delete sessions that were over before that moment; returns how many."""
    over = sa.or_(
        sessions.c.revoked_at < before, sessions.c.idle_expires_at < before, sessions.c.absolute_expires_at < before
    )
    old = sa.select(sessions.c.id).where(sessions.c.tenant_id == scope.tenant_id, over).limit(limit)
    swept = await tx.execute(sa.delete(sessions).where(sessions.c.tenant_id == scope.tenant_id, sessions.c.id.in_(old)))
    return swept.rowcount


async def user(tx: Tx, scope: Scope, user_id: str) -> User | None:
    """A user, or None."""
    return await tx.one(User, sa.select(users).where(users.c.tenant_id == scope.tenant_id, users.c.id == user_id))


async def set_deactivated(tx: Tx, scope: Scope, user_id: str, now: datetime, moment: datetime | None) -> None:
    """Deactivate a user, or reactivate them (None)."""
    await tx.execute(
        sa.update(users)
        .where(users.c.tenant_id == scope.tenant_id, users.c.id == user_id)
        .values(deactivated_at=moment, updated_at=now)
    )


async def credential(tx: Tx, scope: Scope, actor_id: str) -> BreakglassCredential | None:
    """An actor's break-glass credential, or None."""
    table = breakglass_credentials
    return await tx.one(
        BreakglassCredential,
        sa.select(table).where(table.c.tenant_id == scope.tenant_id, table.c.id == actor_id),
    )


async def put_credential(tx: Tx, scope: Scope, made: BreakglassCredential) -> None:
    """Write an actor's credential, or give it a new password; failures are forgotten."""
    row = {name: getattr(made, name) for name in made.__struct_fields__} | {"tenant_id": scope.tenant_id}
    changed = {
        "password_hash": made.password_hash,
        "last_password_change_at": made.last_password_change_at,
        "failure_count": 0,
        "last_failure_at": None,
        "locked_until": None,
    }
    await tx.execute(
        tx.insert(breakglass_credentials)
        .values(row)
        .on_conflict_do_update(index_elements=["tenant_id", "id"], set_=changed)
    )


async def remove_credential(tx: Tx, scope: Scope, actor_id: str) -> bool:
    """Delete a credential; False when there was none."""
    table = breakglass_credentials
    removed = await tx.execute(sa.delete(table).where(table.c.tenant_id == scope.tenant_id, table.c.id == actor_id))
    return removed.rowcount == 1


async def begin_attempt(
    tx: Tx, scope: Scope, actor_id: str, now: datetime, *, threshold: int, lockout: timedelta, reset: timedelta
) -> bool:
    """Count an attempt as failed before it is judged, so that many at once are no more than `threshold`.

    False while the credential is locked, or when there is none. Failures older than `reset` are forgotten.
    """
    table = breakglass_credentials
    moment = sa.bindparam(None, now, type_=table.c.locked_until.type)
    quiet = sa.or_(
        table.c.last_failure_at.is_(None),
        table.c.last_failure_at < sa.bindparam(None, now - reset, type_=table.c.locked_until.type),
        table.c.locked_until.is_not(None),  # a lock that is over begins a new count
    )
    count = sa.case((quiet, 1), else_=table.c.failure_count + 1)
    locked = sa.bindparam(None, now + lockout, type_=table.c.locked_until.type)
    counted = await tx.execute(
        sa.update(table)
        .where(
            table.c.tenant_id == scope.tenant_id,
            table.c.id == actor_id,
            sa.or_(table.c.locked_until.is_(None), table.c.locked_until <= moment),
        )
        .values(
            failure_count=count,
            last_failure_at=now,
            locked_until=sa.case((count >= threshold, locked), else_=sa.null()),
        )
    )
    return counted.rowcount == 1


async def forget_failures(tx: Tx, scope: Scope, actor_id: str, password_hash: str = "") -> bool:
    """Unlock; with a `password_hash`, keep it as the same password's newer form. False when there is none."""
    table = breakglass_credentials
    values = {"failure_count": 0, "last_failure_at": None, "locked_until": None}
    if password_hash:
        values["password_hash"] = password_hash  # type: ignore[assignment]  # a column of text among others
    changed = await tx.execute(
        sa.update(table).where(table.c.tenant_id == scope.tenant_id, table.c.id == actor_id).values(values)
    )
    return changed.rowcount == 1


USER_TYPE = str(ActorType.USER)

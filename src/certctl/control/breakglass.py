"""Break-glass: a local password with which somebody becomes administrator when nothing else works (argon2id, RFC 9106).

Off unless switched on. An attempt is counted as failed before it is judged, so that many at once gain nothing; an
unknown actor, a locked one and a wrong password cost the same and read the same. Passwords are never logged nor told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from certctl.control import access
from certctl.control.access import Giver
from certctl.control.changes import fault, note
from certctl.core.actor import Actor, ActorType
from certctl.core.errors import Conflict, NotAuthenticated, NotFound
from certctl.core.events import Event, EventType
from certctl.core.ids import check_id
from certctl.core.people import BreakglassCredential
from certctl.core.permissions import RESERVED_ACTOR
from certctl.core.rules import BreakglassRules
from certctl.core.scope import EVERYTHING
from certctl.core.secret import Secret
from certctl.ledger import append
from certctl.lifecycle.context import Context
from certctl.store import identity, sessions
from certctl.store.tx import Tx

ROLE = "r-admin"
SUBJECT = "breakglass_credential"
PASSWORD = "password"  # noqa: S105  # the name of what changed, as the log tells it
SHORTEST_PASSWORD = 12
LONGEST_PASSWORD = 256

_HASHER = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=4, hash_len=32, salt_len=16)
# each takes 64 MiB: no more than this many at once a process
_WORKERS = ThreadPoolExecutor(max_workers=2, thread_name_prefix="password")
_REFUSED = "actor or password is wrong, or too many attempts were made"
# what an unknown actor's password is compared with: nobody has it
_NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


async def set_password(ctx: Context, giver: Giver, actor_id: str, password: Secret) -> BreakglassCredential:
    """Give an actor a break-glass password, or a new one; sessions begun with the old one end.

    It makes an administrator: only somebody who is one without limits gives it.
    """
    check_id(actor_id, "actor_id")
    if actor_id == RESERVED_ACTOR:
        raise Conflict(f"{RESERVED_ACTOR} is reserved")
    size = len(password.reveal().encode())
    if not SHORTEST_PASSWORD <= size <= LONGEST_PASSWORD:
        message = f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} bytes"
        raise fault("password_has_wrong_length", message, "password")
    hashed = await _work(_HASHER.hash, password.reveal())
    now = ctx.now()
    made = BreakglassCredential(
        tenant_id=ctx.scope.tenant_id,
        id=actor_id,
        password_hash=hashed,
        created_by=giver.actor.id,
        created_at=now,
        last_password_change_at=now,
        failure_count=0,
        last_failure_at=None,
        locked_until=None,
    )
    async with ctx.database.begin("breakglass.change") as tx:
        giver.check_gives(await access.of_roles(tx, ctx.scope, [ROLE], EVERYTHING), None)
        user = await sessions.user(tx, ctx.scope, actor_id)
        if user is not None and user.deactivated_at is not None:
            raise Conflict(f"user {actor_id} was deactivated")
        await sessions.put_credential(tx, ctx.scope, made)
        await _end_sessions(tx, ctx, actor_id, "password changed")
        await note(tx, ctx, giver.actor, EventType.CONFIG_UPDATED, SUBJECT, actor_id, (PASSWORD,))
        return await sessions.credential(tx, ctx.scope, actor_id) or made


async def _end_sessions(tx: Tx, ctx: Context, actor_id: str, reason: str) -> None:
    await sessions.end(tx, ctx.scope, ctx.now(), reason, actor_id=actor_id, actor_type=str(ActorType.USER))
    identity.changed(tx)


async def unlock(ctx: Context, actor: Actor, actor_id: str) -> None:
    """Forget an actor's failures; NotFound without a credential."""
    async with ctx.database.begin("breakglass.change") as tx:
        if not await sessions.forget_failures(tx, ctx.scope, actor_id):
            raise NotFound(f"no break-glass credential of {actor_id}")
        await note(tx, ctx, actor, EventType.CONFIG_UPDATED, SUBJECT, actor_id, ("locked_until",))


async def remove(ctx: Context, actor: Actor, actor_id: str) -> None:
    """Delete an actor's credential and end its sessions; NotFound without one."""
    async with ctx.database.begin("breakglass.change") as tx:
        if not await sessions.remove_credential(tx, ctx.scope, actor_id):
            raise NotFound(f"no break-glass credential of {actor_id}")
        await _end_sessions(tx, ctx, actor_id, "break-glass credential deleted")
        await note(tx, ctx, actor, EventType.CONFIG_DELETED, SUBJECT, actor_id)


async def check_password(ctx: Context, rules: BreakglassRules, actor: Actor, password: Secret) -> None:
    """NotAuthenticated unless this is the actor's password and the credential is not locked."""
    now = ctx.now()
    async with ctx.database.begin("breakglass.attempt") as tx:
        counted = await sessions.begin_attempt(
            tx, ctx.scope, actor.id, now, threshold=rules.threshold, lockout=rules.lockout, reset=rules.reset
        )
        known = await sessions.credential(tx, ctx.scope, actor.id) if counted else None
        user = await sessions.user(tx, ctx.scope, actor.id)
    good = await _verify(known.password_hash if known else _NOBODY, password)
    if known is None or not good or (user is not None and user.deactivated_at is not None):
        if known is not None:
            await _note_failure(ctx, actor, locked=known.locked_until is not None)
        raise NotAuthenticated(_REFUSED)
    fresh = ""
    if _HASHER.check_needs_rehash(known.password_hash):
        fresh = await _work(_HASHER.hash, password.reveal())
    async with ctx.database.begin("breakglass.attempt") as tx:
        await sessions.forget_failures(tx, ctx.scope, actor.id, fresh)


async def _work(function: Callable[..., Any], *values: str) -> Any:
    return await asyncio.get_running_loop().run_in_executor(_WORKERS, function, *values)


async def _verify(password_hash: str, password: Secret) -> bool:
    given = password.reveal()
    if len(given.encode()) > LONGEST_PASSWORD:
        given = given[:LONGEST_PASSWORD]  # too long to be right, and judged in the same time
    try:
        await _work(_HASHER.verify, password_hash, given)
    except (VerificationError, InvalidHashError):
        return False
    return given == password.reveal()


async def _note_failure(ctx: Context, actor: Actor, *, locked: bool) -> None:
    event = Event(
        type=EventType.BREAKGLASS_REFUSED,
        subject_type=SUBJECT,
        subject_id=actor.id,
        actor=actor,
        details={"locked": locked},
    )
    async with ctx.database.begin("breakglass.refused") as tx:
        await append(tx, ctx.scope, ctx.now(), event)

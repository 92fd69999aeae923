"""Two people: who asks is not who approves. A key counts as the human who made it, through however many keys, unless an
administrator said whose it is; and then only once that person has rotated it, so that nobody else knows its value.

The rules of what an approval covers are the stage's (`lifecycle.approve`); here it is settled whose word it is.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from certctl.core.actor import Actor
from certctl.core.approval import Approval
from certctl.core.catalogue import ApiKey
from certctl.core.errors import NotAllowed
from certctl.core.scope import Scope
from certctl.lifecycle import approve
from certctl.lifecycle.context import Context
from certctl.store import approvals, catalogue, views
from certctl.store.tx import Tx

BOOTSTRAP = "bootstrap"
_LONGEST_DESCENT = 1000


async def decide(ctx: Context, scope: Scope, actor: Actor, job_id: str, decision: approve.Decision) -> Approval:
    """Approve or reject a job that waits. NotAllowed for the human who asked, whichever of their keys calls, and where
    one human was shown the values of both keys.
    """
    async with ctx.database.read() as tx:
        job = await views.job(tx, scope, job_id)
        mine = await holder(tx, ctx, actor.id, ctx.now())
        theirs = await holder(tx, ctx, job.requested_by, job.created_at)
    if mine.person == theirs.person:
        raise NotAllowed(
            f"{job.requested_by} asked for this, and {actor.id} is the same person ({mine.person}): "
            "another one has to decide"
        )
    shared = mine.known_to & theirs.known_to
    if shared:
        raise NotAllowed(
            f"{', '.join(sorted(shared))} was shown the key of whoever asked or decides: "
            "who holds a key that another made rotates it first, and then asks or decides"
        )
    return await approve.decide(ctx, scope, actor, job_id, decision)


async def decide_approval(
    ctx: Context, scope: Scope, actor: Actor, approval_id: str, decision: approve.Decision
) -> Approval:
    """The same by the approval's own id."""
    async with ctx.database.read() as tx:
        found = await approvals.approval(tx, scope, approval_id)
    return await decide(ctx, scope, actor, found.job_id, decision)


class Holder(Struct, frozen=True):
    """The person behind an actor, and everybody who may know a value that it called with (themselves too)."""

    person: str
    known_to: frozenset[str]


async def holder(tx: Tx, ctx: Context, name: str, at: datetime) -> Holder:
    """Who stood behind an actor's name at a moment.

    A key with a `person` is theirs. Its maker, and whoever rotated it last, know its value, until the key rotated
    itself and no older value is good.
    """
    key = await _last_of_descent(tx, ctx, name)
    if isinstance(key, str):
        return Holder(key, frozenset({key}))
    alone = key.shown_to == key.name and key.shown_at is not None and key.shown_at <= at
    makers = set() if alone else {key.created_by, key.shown_to or key.created_by} - {key.name}
    knowing = [await human_behind(tx, ctx, maker) for maker in sorted(makers)]
    return Holder(key.person, frozenset({key.person, *knowing}))


async def human_behind(tx: Tx, ctx: Context, name: str) -> str:
    """Who stands behind an actor's name: a key is whoever made it, and so on up to a person or the first key of all.

    Were it otherwise, whoever may make keys could make a second one and approve what they asked for themselves.
    """
    found = await _last_of_descent(tx, ctx, name)
    return found if isinstance(found, str) else found.person


async def _last_of_descent(tx: Tx, ctx: Context, name: str) -> ApiKey | str:
    """A key that is a named person's, or the name at which the descent of a key ends."""
    for _ in range(_LONGEST_DESCENT):
        key = await catalogue.find(tx, ctx.scope, ApiKey, name=name)
        if key is not None and key.person:
            return key
        if key is None or not key.created_by or key.created_by in {BOOTSTRAP, name}:
            return name
        name = key.created_by
    raise NotAllowed("this key descends from too many others to say whose it is")

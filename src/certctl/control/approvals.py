"""Two people: who asks is not who approves. A key counts as the human who made it, through however many keys.

The rules of what an approval covers are the stage's (`lifecycle.approve`); here it is settled whose word it is.
"""

from __future__ import annotations

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
    """Approve or reject a job that waits. NotAllowed for the human who asked, whichever of their keys calls."""
    async with ctx.database.read() as tx:
        job = await views.job(tx, scope, job_id)
        mine, theirs = await human_behind(tx, ctx, actor.id), await human_behind(tx, ctx, job.requested_by)
    if mine == theirs:
        raise NotAllowed(
            f"{job.requested_by} asked for this, and {actor.id} is the same person ({mine}): another one has to decide"
        )
    return await approve.decide(ctx, scope, actor, job_id, decision)


async def decide_approval(
    ctx: Context, scope: Scope, actor: Actor, approval_id: str, decision: approve.Decision
) -> Approval:
    """The same by the approval's own id."""
    async with ctx.database.read() as tx:
        found = await approvals.approval(tx, scope, approval_id)
    return await decide(ctx, scope, actor, found.job_id, decision)


async def human_behind(tx: Tx, ctx: Context, name: str) -> str:
    """Who stands behind an actor's name: a key is whoever made it, and so on up to a person or the first key of all.

    Were it otherwise, whoever may make keys could make a second one and approve what they asked for themselves.
    """
    for _ in range(_LONGEST_DESCENT):
        key = await catalogue.find(tx, ctx.scope, ApiKey, name=name)
        if key is None or not key.created_by or key.created_by in {BOOTSTRAP, name}:
            return name
        name = key.created_by
    raise NotAllowed("this key descends from too many others to say whose it is")

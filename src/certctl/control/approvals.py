"""Two people: who asks is not who approves. A key counts as the human who made it, through however many keys, unless an
administrator said whose it is; and then only once that person has rotated it, so that nobody else knows its value.
Break-glass is no second person: behind a name with a break-glass password stands whoever ever set it, too.

The rules of what an approval covers are the stage's (`lifecycle.approve`); here it is settled whose word it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from certctl import ledger
from certctl.control import breakglass, profile_edits
from certctl.control.batches import scope_key
from certctl.core.acme import AcmeAccount
from certctl.core.actor import Actor
from certctl.core.approval import PROFILE_EDIT, Approval, Holder
from certctl.core.catalogue import ApiKey
from certctl.core.errors import CertctlError, NotAllowed, Temporary
from certctl.core.events import EventType
from certctl.core.scope import Scope
from certctl.core.status import ApprovalState
from certctl.lifecycle import approve
from certctl.lifecycle.context import Context
from certctl.store import acme, approvals, audit_pruning, batches, catalogue, views
from certctl.store.tx import Tx
from certctl.telemetry.logging import get_logger

log = get_logger(__name__)

BOOTSTRAP = "bootstrap"
_LONGEST_DESCENT = 1000
_TOGETHER = 250


async def decide(ctx: Context, scope: Scope, actor: Actor, job_id: str, decision: approve.Decision) -> Approval:
    """Approve or reject a job that waits. NotAllowed for the human who asked, whichever of their keys calls, and where
    one human was shown the values of both keys.
    """
    async with ctx.database.read() as tx:
        job = await views.job(tx, scope, job_id)
        by = await _another(tx, ctx, actor, job.requested_by, job.created_at)
    return await approve.decide(ctx, scope, actor, job_id, decision, by)


async def decide_approval(
    ctx: Context, scope: Scope, actor: Actor, approval_id: str, decision: approve.Decision
) -> Approval:
    """The same by the approval's own id; edits of profiles wait here, too."""
    async with ctx.database.read() as tx:
        found = await approvals.approval(tx, scope, approval_id)
    if found.kind != PROFILE_EDIT:
        return await decide(ctx, scope, actor, found.job_id, decision)
    async with ctx.database.read() as tx:
        by = await _another(tx, ctx, actor, found.requested_by, found.created_at)
    return await profile_edits.decide(ctx, scope, actor, found, decision, by)


class BatchWord(msgspec.Struct, kw_only=True):
    """What one person's word on what a batch asked for has come to. `after` is the last job that was looked at;
    `is_over` when none waits behind it.
    """

    approved: int = 0
    rejected: int = 0
    given: int = 0
    reasons: Counter[str]
    after: str
    is_over: bool = False


async def decide_batch(
    ctx: Context,
    scope: Scope,
    actor: Actor,
    batch_id: str,
    decision: approve.Decision,
    after: str,
    may_go_on: Callable[[], bool],
) -> BatchWord:
    """One word on every request of a batch that waits for people, by 250 in a commit, while `may_go_on`; the same word
    again, `after` the last job of the answer, goes on with what is left.

    Whoever asked for the batch decides none of it: NotAllowed. NotFound outside the scope. A request that may not be
    approved (its profile was edited since, a rule forbids it now, others decide about it) waits on, and says why.
    """
    said = BatchWord(reasons=Counter(), after=after)
    async with ctx.database.read() as tx:
        batch = await batches.batch(tx, scope, batch_id, key=scope_key(scope), requested_by=actor.id)
        by = await _another(tx, ctx, actor, batch.requested_by, batch.created_at)
    while may_go_on():
        async with ctx.database.read() as tx:
            found = await approvals.waiting_in_batch(tx, ctx.scope, batch_id, by.person, said.after, _TOGETHER)
            if not found:
                said.is_over = True
                break
            # whoever had a hand in the asker's key by then counts too: what lies between is in one of the two
            by = await _another(tx, ctx, actor, batch.requested_by, max(at for _, at in found))
        ids = [job_id for job_id, _ in found]
        await _decide_these(ctx, scope, actor, ids, decision, by, said)
        said.after = ids[-1]
    return said


async def _decide_these(
    ctx: Context,
    scope: Scope,
    actor: Actor,
    job_ids: Sequence[str],
    decision: approve.Decision,
    by: Holder,
    said: BatchWord,
) -> None:
    """Yes to all of them in one commit; a no, and what cannot be written together, is said of each by itself."""
    if decision.approved:
        try:
            tally = await approve.approve_all(ctx, scope, actor, job_ids, decision, by)
        except Temporary:
            raise
        except CertctlError as error:
            log.info("approved_one_by_one", jobs=len(job_ids), error=error.message)
        else:
            said.approved += tally.approved
            said.given += tally.given
            said.reasons.update(tally.refused)
            return
    for job_id in job_ids:
        try:
            decided = await approve.decide(ctx, scope, actor, job_id, decision, by)
        except Temporary:
            raise
        except CertctlError as error:
            said.reasons[error.message] += 1
            continue
        said.approved += decided.state == ApprovalState.APPROVED
        said.rejected += decided.state == ApprovalState.REJECTED
        said.given += decided.state == ApprovalState.PENDING


async def _another(tx: Tx, ctx: Context, actor: Actor, requested_by: str, at: datetime) -> Holder:
    """Who decides, when that is another human than asked."""
    objection = await same_hands(tx, ctx, actor.id, requested_by, at)
    if objection:
        raise NotAllowed(objection)
    return await holder(tx, ctx, actor.id, ctx.now())


async def same_hands(tx: Tx, ctx: Context, decides: str, asked: str, asked_at: datetime) -> str:
    """Why the word of one actor is no second person's beside the other's; empty when it is."""
    mine = await holder(tx, ctx, decides, ctx.now())
    theirs = await holder(tx, ctx, asked, asked_at)
    if mine.person == theirs.person:
        return f"{asked} asked for this, and {decides} is the same person ({mine.person}): another one has to decide"
    shared = mine.known_to & theirs.known_to
    if shared:
        return (
            f"{', '.join(sorted(shared))} was shown the key of whoever asked or decides, or set their break-glass "
            "password: who holds a key that another made rotates it first, and then asks or decides"
        )
    return ""


async def holder(tx: Tx, ctx: Context, name: str, at: datetime) -> Holder:
    """Who stood behind an actor's name at a moment.

    A key with a `person` is theirs. Its maker, and whoever rotated it last, know its value, until the key rotated
    itself and no older value is good.
    """
    descent, key = await _descent(tx, ctx, name)
    if key is None:
        return Holder(descent[-1], await _could_be(tx, ctx, name, at))
    alone = key.shown_to == key.name and key.shown_at is not None and key.shown_at <= at
    makers = set() if alone else {key.created_by, key.shown_to or key.created_by} - {key.name}
    knowing = {key.person}
    for each in sorted(makers):
        knowing |= await _could_be(tx, ctx, each, at)
    return Holder(key.person, frozenset(knowing | await _through_breakglass(tx, ctx, descent, at)))


async def _could_be(tx: Tx, ctx: Context, name: str, at: datetime) -> frozenset[str]:
    """Every human who could have acted under a name at a moment."""
    found: set[str] = set()
    waiting, seen = [name], {name}
    while waiting:
        descent, key = await _descent(tx, ctx, waiting.pop())
        found.add(descent[-1] if key is None else key.person)
        for each in descent:
            fresh = await _setters(tx, ctx, each, at) - seen
            seen |= fresh
            waiting += sorted(fresh)
    return frozenset(found)


async def _through_breakglass(tx: Tx, ctx: Context, names: list[str], at: datetime) -> frozenset[str]:
    """Every human who could have called under one of these names by a break-glass password."""
    setters = {setter for name in names for setter in await _setters(tx, ctx, name, at)}
    return frozenset().union(*[await _could_be(tx, ctx, setter, at) for setter in sorted(setters)])


async def _setters(tx: Tx, ctx: Context, name: str, at: datetime) -> set[str]:
    """Who ever set a break-glass password for this name. The log says it: a credential names its last setter alone,
    and who signs in with a password that another gave them can set the next one under their own name.
    """
    rows = await ledger.about(tx, ctx.scope, breakglass.SUBJECT, name, EventType.CONFIG_UPDATED)
    told = {row.actor for row in rows if row.created_at <= at and breakglass.PASSWORD in row.details["fields"]}
    return told | await audit_pruning.setters(tx, ctx.scope, name, at)


async def _descent(tx: Tx, ctx: Context, name: str) -> tuple[list[str], ApiKey | None]:
    """The names from a key up through those that made it; the last one's key, when that is a named person's.

    A key is whoever made it: otherwise whoever may make keys could make a second one and approve what they asked for
    themselves.
    """
    names: list[str] = []
    while len(names) < _LONGEST_DESCENT:
        names.append(name)
        key = await catalogue.find(tx, ctx.scope, ApiKey, name=name)
        if key is not None and key.person:
            return names, key
        if key is None and (voucher := await _voucher(tx, ctx, name)):
            name = voucher
            continue
        if key is None or not key.created_by or key.created_by in {BOOTSTRAP, name}:
            return names, None
        name = key.created_by
    raise NotAllowed("this key descends from too many others to say whose it is")


async def _voucher(tx: Tx, ctx: Context, name: str) -> str:
    """Who made the external account key that an ACME account was bound with, and so knows its value; empty for none."""
    prefix, _, account_id = name.partition(":")
    account = await acme.get(tx, ctx.scope, AcmeAccount, account_id) if prefix == "acme" else None
    if account is None or not account.external_key_id:
        return ""
    key = await acme.external_key(tx, ctx.scope, account.external_key_id)
    return key.created_by if key is not None else ""

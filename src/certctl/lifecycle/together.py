"""Issuance together: what many clients ask for at the same time is judged, intended, signed and recorded in one go.

Two commits for all of them: certificates, jobs and orders with their intents; then, once our CA has signed, versions
and what the rows say. The same functions judge, the same events and steps are written, a fence and a witness guard
each. Who is not plainly allowed, or is in another's way, goes alone, stage by stage as ever (`request.create`,
`flow.drive`): one that breaks a rule takes nobody along (ADR 44).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

import structlog
from msgspec import Struct, structs

from certctl.connectors.base.issuer import DraftsIntent, Issued, Issuer
from certctl.core.actor import Actor
from certctl.core.catalogue import IssuerRecord, RenewalPolicy
from certctl.core.certificate import Certificate, Version
from certctl.core.errors import CallerError, CertctlError, Temporary
from certctl.core.events import Event, Notice
from certctl.core.job import Step
from certctl.core.scope import Scope
from certctl.core.status import CertificateStatus, StepKind
from certctl.ledger import append, notify_all
from certctl.lifecycle import counts, flow, handoff, issue, record, request, standing, straight
from certctl.lifecycle.context import Context, Known
from certctl.pki.pem import chain_pem
from certctl.store import catalogue, issuances
from certctl.store.tx import Tx
from certctl.telemetry import tracing

log = structlog.get_logger(__name__)

# a group is so small that nobody waits long for the others, and so large that what it shares is nothing
MOST_AT_ONCE = 50

Witness = Callable[[Tx], Awaitable[None]]


class Beside(Protocol):
    """What a door writes of its own with a wish, by the commits of its group (an order of ACME)."""

    @property
    def key(self) -> str:
        """Its id, by which `hold` knows it."""
        ...

    async def hold(self, tx: Tx, scope: Scope, keys: Sequence[str]) -> set[str]:
        """Lock all of its kind that are in the group: the keys of those that may still go."""
        ...

    async def intended(self, tx: Tx, certificate_id: str, job_id: str) -> Event:
        """Write that the wish has its job; what is told of it. Nothing is asked: it waits for what else is written."""
        ...

    async def issued(self, tx: Tx, version: Version) -> Event:
        """Write that the wish has its version, alike."""
        ...


class Wish(Struct, frozen=True, kw_only=True):
    """One certificate that a client asks for with its CSR: who asks, what they may see, and what guards their call.

    `witness` is asked before the commit that the wish is written by; `traceparent` is the trace that it belongs to.
    """

    scope: Scope
    actor: Actor
    wanted: request.NewCertificate
    traceparent: str = ""
    witness: Witness | None = None
    beside: Beside | None = None


class OnItsWay(Struct, kw_only=True):
    """One of a group: its order on the way to the CA, and the version that it came to."""

    asked: issue.Asked | None = None
    # None while it is under way, or where it is settled by whoever has its step
    version: Version | None = None

    @property
    def order(self) -> issue.Asked:
        """Its order, which it has from its intent on."""
        if self.asked is None:
            raise AssertionError("a member has its order before it is written")
        return self.asked


class Member(OnItsWay):
    """A wish that is written with others: its row as it stands, its job and the steps of that."""

    wish: Wish
    certificate: Certificate
    made: handoff.Draft
    steps: Sequence[Step] = ()


# in the order of the wishes: a member that is written, what refuses it, or None for one that has to go alone
Found = Member | CallerError | None


def may_go(wanted: request.NewCertificate) -> bool:
    """Whether a wish is of the kind that goes together: its CSR is there and there is nothing to deploy to."""
    return bool(wanted.csr_pem) and not wanted.target_ids


async def intend(ctx: Context, wishes: Sequence[Wish]) -> list[Found]:
    """Judge wishes and write those that are plainly allowed, with the intents of their orders, by one commit.

    Raises Temporary when the database is away: then it is not known for any of them what was written.
    """
    own = flow.driving(ctx)
    found = await _judge_all(own, wishes)
    members = [one for one in found if isinstance(one, Member)]
    await _draft_all(own, members)
    going = [member for member in members if member.asked is not None and member.asked.error is None]
    if going:
        try:
            going = await _write_intents(own, going)
        except Temporary:
            raise
        except Exception as error:
            # one of them is in the way of all: each goes alone, and is told by itself what is wrong
            _note("not_together", error, len(going))
            going = []
    written = {id(member) for member in going}
    return [None if isinstance(one, Member) and id(one) not in written else one for one in found]


def _note(event: str, error: Exception, members: int) -> None:
    """Why a group goes one by one. What is no refusal is a fault of ours, which alone may not be met."""
    if isinstance(error, CertctlError):
        log.info(event, members=members, reason=type(error).__name__, detail=str(error)[:300])
    else:
        log.error(event, members=members, exc_info=error)


async def _judge_all(ctx: Context, wishes: Sequence[Wish]) -> list[Found]:
    """Each wish by every rule, over facts that are read once for all of them."""
    found: list[Found] = []
    async with ctx.database.read() as tx:
        for wish in wishes:
            try:
                found.append(await _judge(tx, ctx, wish) if may_go(wish.wanted) else None)
            except Temporary:
                raise
            except CallerError as error:
                found.append(error)
            except Exception:
                found.append(None)  # alone it is told, and logged, what is wrong
            await asyncio.sleep(0)  # others are served meanwhile
        members = [one for one in found if isinstance(one, Member)]
        ids, names = await issuances.taken(tx, ctx.scope, [one.certificate for one in members]) if members else ((), ())
    used_ids, used_names = set(ids), set(names)
    for place, one in enumerate(found):
        if isinstance(one, Member):
            if one.certificate.id in used_ids or one.certificate.name in used_names:
                found[place] = None
            used_ids.add(one.certificate.id)
            used_names.add(one.certificate.name)
    return found


async def _judge(tx: Tx, ctx: Context, wish: Wish) -> Member | None:
    with tracing.beneath(wish.traceparent):
        certificate, made = await request.draft_for_client(tx, ctx, wish.scope, wish.actor, wish.wanted)
    # a warning is recorded, and told, with what else is known of its certificate
    return None if made.decided is None or made.decided.found else Member(wish, certificate, made)


async def _draft_all(ctx: Context, members: Sequence[Member]) -> None:
    """The order of each with its serial and TBS; a member whose issuer does not draft, or not this, has none."""
    issuers: dict[str, Issuer | None] = {}
    for member in members:
        decided = member.made.decided
        if decided is None:
            continue
        issuer_id = decided.issuer.id
        if issuer_id not in issuers:
            issuers[issuer_id] = await opened(ctx, decided.issuer)
        issuer = issuers[issuer_id]
        if issuer is not None:
            member.steps = straight.steps_of(ctx, member.made.job, ctx.now())
            known = Known(member.made.job, decided.issuer)
            member.asked = issue.asked_by(ctx, member.steps[-1], known, issuer)
    await issue.draft([member.asked for member in members if member.asked is not None])


async def opened(ctx: Context, found: IssuerRecord) -> Issuer | None:
    """An issuer that drafts what it will sign; None for another, and for one that cannot be opened."""
    try:
        issuer = await ctx.open_issuer(found)
    except Exception:
        return None  # alone its job is settled by what is wrong with it
    return issuer if isinstance(issuer, DraftsIntent) else None


async def _write_intents(ctx: Context, ready: Sequence[Member]) -> list[Member]:
    """Write them; returns those that are written: what a door holds beside one may have been taken meanwhile."""
    with issuances.conflicts():
        async with ctx.database.begin("together.intent") as tx:
            going = await _held_beside(tx, ctx, ready)
            told: list[Event] = []
            for member in going:
                told += _told_of_intent(ctx, member)
                if member.wish.beside is not None:
                    told.append(await member.wish.beside.intended(tx, member.certificate.id, member.made.job.id))
            await issuances.intend(tx, ctx.scope, [_intended(member) for member in going])
            await append(tx, ctx.scope, ctx.now(), *told)
            for member in going:
                if member.wish.witness is not None:
                    tx.subjects = [("certificate", member.certificate.id)]
                    await member.wish.witness(tx)
    return going


async def _held_beside(tx: Tx, ctx: Context, ready: Sequence[Member]) -> list[Member]:
    kinds: dict[type[Beside], list[Beside]] = {}
    for member in ready:
        if member.wish.beside is not None:
            kinds.setdefault(type(member.wish.beside), []).append(member.wish.beside)
    held = {kind: await each[0].hold(tx, ctx.scope, [one.key for one in each]) for kind, each in kinds.items()}
    going: list[Member] = []
    for member in ready:
        beside = member.wish.beside
        if beside is not None:
            if beside.key not in held[type(beside)]:
                continue
            held[type(beside)].remove(beside.key)  # of two that hold the same, the first goes
        going.append(member)
    return going


def _told_of_intent(ctx: Context, member: Member) -> list[Event]:
    one, made = member.order, member.made
    if made.decided is None:
        raise AssertionError("only what is decided is written together")
    one.record = issue.intended(ctx, one)
    decided = straight.events_of(ctx.actor, made.job, made.decided)
    asked = (*made.ask.first, handoff.asked_event(made), *decided)
    return [*asked, issue.intended_event(ctx, one.record, made.job)]


def _intended(member: Member) -> issuances.Intended:
    made, record_ = member.made, member.order.record
    if record_ is None:
        raise AssertionError("what is written has its intent")
    return issuances.Intended(member.certificate, made.job, handoff.live_key(made), member.steps, record_)


async def finish(ctx: Context, members: Sequence[Member]) -> None:
    """Have the orders of a group signed and record them by one commit. What does not come to a version is settled as
    its step always is, by itself.
    """
    of_steps = {member.order.step.id: member for member in members}
    await sign(ctx, [member.order for member in members], partial(_record_right, of_steps))


RecordAll = Callable[[Context, Sequence[tuple[issue.Asked, Version]]], Awaitable[set[str]]]


async def sign(ctx: Context, asked: Sequence[issue.Asked], record_all: RecordAll) -> None:
    """Have orders of CAs of ours signed, whose intents are stored; `record_all` writes the versions that the right
    answers come to, and returns the ids of the steps that ended with it. Whatever is left is settled by itself.
    """
    # what comes next for one that goes alone is for whoever claims it
    own = replace(flow.driving(ctx), handed=None)
    spans = {one.step.id: (one.job.traceparent, flow.facts_of(one.step, one.job)) for one in asked}
    async with flow.keeping(own, [one.step for one in asked]):
        with tracing.spans(str(StepKind.ISSUE), spans):
            await issue.act(own, asked)
            for one in await _left_by(own, asked, record_all):
                try:
                    await issue.finish(own, one, record=record.at_once)
                except Exception as error:
                    await flow.settle_failed(own, StepKind.ISSUE, one.step, error)


async def _left_by(ctx: Context, asked: Sequence[issue.Asked], record_all: RecordAll) -> list[issue.Asked]:
    """Record what was signed; returns the orders that have to go alone."""
    right: list[tuple[issue.Asked, Version]] = []
    for one in asked:
        version = _judged(ctx, one)
        if version is not None:
            right.append((one, version))
        await asyncio.sleep(0)
    done: set[str] = set()
    if right:
        try:
            with issuances.conflicts():
                done = await record_all(ctx, right)
        except Exception as error:
            _note("not_recorded_together", error, len(right))
    return [one for one in asked if one.step.id not in done]


def _judged(ctx: Context, one: issue.Asked) -> Version | None:
    """The version that an answer comes to; None where something is wrong, which is told when it goes alone."""
    if not issue.may_be_recorded(one) or one.record is None or not isinstance(one.answer, Issued):
        return None
    chain = chain_pem(one.answer.chain_der)
    one.record = structs.replace(one.record, leaf_der=one.answer.leaf_der, chain_pem=chain)
    try:
        told: tracing.Facts = {
            "job_id": one.job.id,
            "job_type": str(one.job.type),
            "certificate_id": one.job.certificate_id,
        }
        with tracing.span("record", parent=one.job.traceparent, **told):
            return record.judged(ctx, one.job, one.record)
    except CertctlError:
        return None


async def _record_right(
    members: Mapping[str, Member], ctx: Context, signed: Sequence[tuple[issue.Asked, Version]]
) -> set[str]:
    """The ids of the steps that ended with their versions recorded: those that are still ours, of rows that are as they
    were written.
    """
    right = [(members[one.step.id], version) for one, version in signed]
    now, ended, told, notices = ctx.now(), list[issuances.Issued](), list[Event](), list[Notice]()
    stands: list[tuple[Member, Certificate, Version]] = []
    async with ctx.database.begin("together.record") as tx:
        leased = [(member.certificate.id, member.order.step) for member, _ in right]
        rows = await issuances.held(tx, ctx.scope, leased)
        mine = [row.id for row in rows.values()]
        jobs = [member.made.job.id for member, _ in right]
        more = await issuances.not_bare(tx, ctx.scope, mine, jobs) if mine else set()
        ids = tuple({row.renewal_policy_id for row in rows.values()})
        policies = await catalogue.many(tx, ctx.scope, RenewalPolicy, ids)
        for member, version in right:
            one, row = member.order, rows.get(member.order.step.id)
            if row is None or row.id in more or row.status != CertificateStatus.PENDING or one.record is None:
                continue
            policy = policies.get(row.renewal_policy_id)
            first = standing.with_first(ctx, row, policy, version) if policy is not None else None
            if first is None:
                continue
            done = record.done_step(ctx, one.job, now)
            ended.append(issuances.Issued(one.step, done, one.job, one.record, version, first.columns))
            told.append(record.issued_event(ctx, one.job, version))
            if member.wish.beside is not None:
                told.append(await member.wish.beside.issued(tx, version))
            notices += first.notices
            stands.append((member, first.certificate, version))
            if one.known is not None:
                catalogue.saw(tx, ctx.scope, one.known.issuer, one.known.issuer.id)
            await counts.answered(tx, ctx, one.job, now - one.record.created_at)
            await counts.issued(tx, ctx, one.job)
        if ended:
            await issuances.issued(tx, ctx.scope, now, ended)
            await notify_all(tx, ctx.scope, now, notices)
            await append(tx, ctx.scope, now, *told)
    for member, row, version in stands:
        member.certificate, member.version = row, version
    return {each.step.id for each in ended}

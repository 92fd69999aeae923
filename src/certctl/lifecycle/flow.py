"""The map of the story on one page: every stage, what it reads and writes, whom it hands on to, what happens if it
dies.

Only this module knows which function runs which kind of step. `drive` runs a job's next steps inline for doors that
want an answer in one go; the worker's loop calls the same `run_claimed`; agents get theirs through `work_for`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

import structlog
from msgspec import Struct

from certctl.core.errors import CertctlError, StaleFence, Temporary
from certctl.core.job import Job, Step
from certctl.core.status import StepKind
from certctl.core.target import AgentRecord
from certctl.lifecycle import (
    approve,
    deploy,
    issue,
    material,
    plan,
    prepare,
    prove,
    publish,
    record,
    reference,
    revoke,
    settle,
    verify,
)
from certctl.lifecycle.context import Context
from certctl.store import agents, catalogue, jobs, many_jobs
from certctl.store.tx import Tx
from certctl.telemetry import tracing
from certctl.wire.agent import ReferenceWorkItem, WorkItem

log = structlog.get_logger(__name__)

Run = Callable[[Context, Sequence[Step]], Awaitable[None]]


class Stage(Struct, frozen=True):
    """One row of the map. `run` is None where only an agent does the work."""

    name: str
    reads_writes: str
    hands_on: str
    if_it_dies: str
    run: Run | None = None


STAGES: tuple[Stage, ...] = (
    Stage(
        "request", "certificate, targets -> job a key holder (idempotency key)", "approve", "the caller retries safely"
    ),
    Stage(
        "adopt",
        "certificate from elsewhere -> inventory entry with no job and no CA of ours; only watched",
        "request (when claimed)",
        "one commit: there or not",
    ),
    Stage(
        "approve",
        "request, profile, issuer, policies -> approved with a decision hash, or denied with every violation",
        "prepare",
        "pure: the same verdict",
        approve.run,
    ),
    Stage(
        "prepare",
        "approved request -> CSR of the holder, judged against the request",
        "issue",
        "the same holder finds the same staged key",
        prepare.run,
    ),
    Stage(
        "prove",
        "challenges of the job's order -> the agent serves exactly their answers, and says so",
        "- (issue looks)",
        "a new run of the agent is told anew; a lapsed one serves nothing",
    ),
    Stage(
        "issue",
        "serial and whole TBS (own CA) or the CA's reference stored first, then the raw answer",
        "issue, record",
        "signs the stored TBS again; collects by reference",
        partial(issue.run, record=record.at_once),
    ),
    Stage(
        "record",
        "answer judged byte by byte -> immutable version, current for its holder",
        "deploy a target",
        "the bytes are kept",
        record.run,
    ),
    Stage(
        "deploy",
        "pending -> applying -> applied with a receipt, bound to one version",
        "verify",
        "the host's journal finishes or rolls back; the lease lapses",
    ),
    Stage("verify", "probe of what is really served -> verified, or drifted", "-", "probed again", verify.run),
    Stage(
        "plan",
        "a dry run: version and target -> what a deployment would do, kept on the job; nothing is touched",
        "-",
        "asked again",
    ),
    Stage(
        "observe",
        "heartbeats -> agents that fell silent; looks at endpoints -> their state and history",
        "notify",
        "next tick; a look's lease lapses",
    ),
    Stage(
        "renew",
        "indexed next_check_at due -> request linked to the version it renews",
        "approve",
        "unique (certificate, holder, version, attempt); a page of certificates is one commit",
    ),
    Stage(
        "suggest",
        "CAs that suggest when to renew are asked when they wish to be -> window, next_check_at",
        "-",
        "next tick",
    ),
    Stage("revoke", "facts at once -> the CA is told until it confirms", "publish", "asks the CA again", revoke.run),
    Stage(
        "notify",
        "outbox -> routed to the channels that take it -> sent, tried again, or given up",
        "-",
        "the lease lapses; sent again under the same id",
    ),
    Stage("publish", "facts -> CRL with the next number, OCSP responder", "-", "next tick", publish.run),
)

_ABOUT_A_TARGET = (StepKind.DEPLOY, StepKind.VERIFY, StepKind.PLAN)

RUN: dict[StepKind, Run] = {StepKind(stage.name): stage.run for stage in STAGES if stage.run is not None}


async def run_claimed(ctx: Context, claimed: Sequence[Step]) -> None:
    """Run leased steps, a batch a kind. One poisonous step in a batch must not hold up the rest."""
    kinds: dict[StepKind, list[Step]] = defaultdict(list)
    for step in claimed:
        kinds[StepKind(step.kind)].append(step)
    for kind, batch in kinds.items():
        try:
            with _told(batch), tracing.spans(str(kind), await _traces(ctx, batch)):
                await RUN[kind](ctx, batch)
        except Exception as error:
            await _one_by_one(ctx, kind, batch, error)


def _told(batch: Sequence[Step]) -> contextlib.AbstractContextManager[object]:
    """Log lines of a step that runs alone carry its ids."""
    if len(batch) != 1:
        return contextlib.nullcontext()
    return structlog.contextvars.bound_contextvars(job_id=batch[0].job_id, step_id=batch[0].id)


async def _traces(ctx: Context, batch: Sequence[Step]) -> dict[str, tuple[str, tracing.Facts]]:
    """For each step the trace that its job belongs to, and what its span says; read only where traces are kept."""
    if not tracing.is_on():
        return {}
    try:
        async with ctx.database.read() as tx:
            known = await jobs.jobs_by_id(tx, ctx.scope, [step.job_id for step in batch])
    except CertctlError:  # the stage will meet the same, and settle it
        return {}
    return {step.id: (known[step.job_id].traceparent, facts_of(step, known[step.job_id])) for step in batch}


def facts_of(step: Step, job: Job) -> tracing.Facts:
    """What a step's span says."""
    return {
        "job_id": job.id,
        "job_type": str(job.type),
        "step_id": step.id,
        "certificate_id": job.certificate_id,
        "target_id": job.target_id,
        "attempt": step.attempts,
    }


async def _one_by_one(ctx: Context, kind: StepKind, batch: Sequence[Step], error: Exception) -> None:
    """A batch that failed as a whole is run again singly: what is done is refused by its fence, what is bad is
    settled.
    """
    if len(batch) > 1:
        for step in batch:
            await run_claimed(ctx, [step])
        return
    await settle_failed(ctx, kind, batch[0], error)


async def settle_failed(ctx: Context, kind: StepKind, step: Step, error: Exception) -> None:
    """What a stage raised over a step: it has passed on, or is tried again, or has failed for good."""
    if isinstance(error, StaleFence):
        log.info("step_passed_on", stage=str(kind), step_id=step.id)
        return
    log.warning("step_failed", stage=str(kind), step_id=step.id, job_id=step.job_id, exc_info=error)
    try:
        async with ctx.database.begin("settle") as tx:
            await settle.fail(tx, ctx, step, error)
    except CertctlError as again:
        # the lease lapses and the step is handed out again: nothing is lost by waiting
        log.warning("step_left_to_its_lease", step_id=step.id, error=again.message, detail=again.detail)


STEPS_CHANNEL = jobs.SERVER_CHANNEL


async def keep_leases(ctx: Context, owner: str, held: Iterable[tuple[str, int]]) -> set[str]:
    """Push the end of the leases that `owner` still has on these (step id, fence) pairs; returns the step ids it
    has.
    """
    async with ctx.database.begin("leases") as tx:
        return await jobs.extend_leases(tx, ctx.scope, held, owner, ctx.now() + ctx.patience.lease)


async def free_lapsed(ctx: Context) -> int:
    """Give back every step whose lease has run out; returns how many.

    An agent may have had nobody to tell that it lives: a process that has only just begun leaves what agents hold to
    them for one lease more, in which they come back. A clock that was put back since then
    says nothing of that, and holds nobody up.
    """
    now = ctx.now()
    has_just_begun = ctx.began is not None and timedelta(0) <= now - ctx.began < ctx.patience.lease
    async with ctx.database.begin("lapsed") as tx:
        return await jobs.release_lapsed(tx, ctx.scope, now, agents_too=not has_just_begun)


async def free_earlier_runs(ctx: Context, owner_prefix: str) -> int:
    """At the start of the only server process: what its earlier runs held is free at once."""
    async with ctx.database.begin("release") as tx:
        return await jobs.release_of_earlier_boots(tx, ctx.scope, owner_prefix, ctx.owner)


async def claim(ctx: Context, limit: int, *, job_id: str | None = None) -> list[Step]:
    """Lease due server steps in a transaction of their own; an idle worker's look takes no lock."""
    if job_id is None:
        async with ctx.database.read() as tx:
            if not await jobs.has_due(tx, ctx.scope, "", ctx.now()):
                return []
    async with ctx.database.begin("claim") as tx:
        return await jobs.claim(
            tx, ctx.scope, owner=ctx.owner, lease=ctx.patience.lease, now=ctx.now(), limit=limit, job_id=job_id
        )


def driving(ctx: Context) -> Context:
    """A context of one task's own that will `drive` a job: the steps that are written with it are leased to it."""
    return replace(ctx, handed=[], known={}, ended=set())


async def drive(ctx: Context, job_id: str, budget: timedelta = timedelta(seconds=2)) -> None:
    """Run a job's due server steps inline until none is left or the budget is spent; the worker takes on what
    remains. Each stage hands the next step on with its own commit: one claim, at most, a job.
    """
    own = ctx if ctx.handed is not None else driving(ctx)
    deadline = asyncio.get_running_loop().time() + budget.total_seconds()
    held: list[Step] = []
    try:
        async with keeping(own, held):
            while asyncio.get_running_loop().time() < deadline:
                held[:] = _handed(own) or await claim(own, 1, job_id=job_id)
                if not held:
                    return
                await run_claimed(own, list(held))
                if held[0].kind == StepKind.RECORD or job_id in own.ended:
                    return  # a job's last, if it was done; tried again later, if not
    finally:
        await _give_back(own, _handed(own))


@contextlib.asynccontextmanager
async def keeping(ctx: Context, held: Sequence[Step]) -> AsyncIterator[None]:
    """Push the end of the leases on whatever is in `held`: a CA may take longer than a lease, and must not be asked by
    somebody else meanwhile.
    """
    keeper = asyncio.create_task(_keep(ctx, held), name="driven-leases")
    try:
        yield
    finally:
        keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeper


async def _keep(ctx: Context, held: Sequence[Step]) -> None:
    while True:
        await asyncio.sleep(ctx.patience.lease.total_seconds() / 3)
        if not held:
            continue
        try:
            await keep_leases(ctx, ctx.owner, [(step.id, step.fence) for step in held])
        except CertctlError as error:
            log.warning("leases_not_kept", error=error.message)


def _handed(ctx: Context) -> list[Step]:
    """Take what was handed on."""
    taken = list(ctx.handed or ())
    if ctx.handed is not None:
        ctx.handed.clear()
    return taken


async def _give_back(ctx: Context, left: Sequence[Step]) -> None:
    if not left:
        return
    try:
        async with ctx.database.begin("claim") as tx:
            await jobs.give_back(tx, ctx.scope, left)
    except CertctlError as error:
        # their leases lapse
        log.warning("steps_left_to_their_leases", steps=[step.id for step in left], error=error.message)


async def agents_with_work(ctx: Context) -> list[str]:
    """The ids of the agents that have due steps; claims nothing."""
    async with ctx.database.read() as tx:
        return await jobs.agents_with_due(tx, ctx.scope, ctx.now())


async def with_work(ctx: Context, agent_ids: Sequence[str]) -> set[str]:
    """Those of these agents that have due steps; claims nothing."""
    async with ctx.database.read() as tx:
        return await agents.with_due_steps(tx, ctx.scope, agent_ids, ctx.now())


async def work_for(
    ctx: Context, agent: AgentRecord, boot_id: str, limit: int, *, just_read: bool = False
) -> list[WorkItem]:
    """Lease an agent's due steps and say what each needs; `agent` is as its caller last saw it, a moment ago if
    `just_read`: then it is not read again.

    A new boot frees what the last one held; a poll left over from an earlier boot gets nothing.
    """
    async with ctx.database.read() as tx:
        now_known = agent if just_read else await catalogue.get(tx, ctx.scope, AgentRecord, agent.id)
        due = await jobs.has_due(tx, ctx.scope, agent.id, ctx.now())
    is_new_boot = boot_id != agent.boot_id
    if now_known.retired_at is not None or (not is_new_boot and now_known.boot_id not in ("", boot_id)):
        return []
    if not due and not is_new_boot:
        return []
    owner = _owner(agent.id, boot_id)
    async with ctx.database.begin("work") as tx:
        if is_new_boot:
            await catalogue.change(tx, ctx.scope, AgentRecord, agent.id, boot_id=boot_id)
            await jobs.release_of_earlier_boots(tx, ctx.scope, f"agent:{agent.id}:", owner)
        claimed = await jobs.claim(
            tx, ctx.scope, owner=owner, lease=ctx.patience.lease, now=ctx.now(), limit=limit, agent_id=agent.id
        )
        known = await jobs.jobs_by_id(tx, ctx.scope, [step.job_id for step in claimed])
        made = await _items(tx, ctx, claimed, known)
    return [item for item in made if item is not None]


@dataclass(frozen=True, slots=True, eq=False)
class Poll:
    """An agent that asks for work in a run that is known of it, as its caller last saw it. Two are never the same."""

    agent: AgentRecord
    boot_id: str


async def work_for_all(ctx: Context, limit: int, polls: Sequence[Poll]) -> dict[Poll, list[WorkItem]]:
    """`work_for` for agents that ask at the same time, by one commit; who is left out (a new run, a second poll) is to
    ask alone.
    """
    async with ctx.database.read() as tx:
        known = await catalogue.many(tx, ctx.scope, AgentRecord, tuple({poll.agent.id for poll in polls}))
    asking: dict[str, Poll] = {}
    for poll in polls:
        now_known = known.get(poll.agent.id)
        is_well = now_known is not None and now_known.retired_at is None and now_known.boot_id == poll.boot_id
        if is_well and poll.agent.boot_id == poll.boot_id:
            asking.setdefault(poll.agent.id, poll)
    owners = {agent_id: _owner(agent_id, poll.boot_id) for agent_id, poll in asking.items()}
    try:
        async with ctx.database.begin("work") as tx:
            claimed = await many_jobs.claim_for_agents(
                tx, ctx.scope, owners, lease=ctx.patience.lease, now=ctx.now(), limit=limit
            )
            of_jobs = await jobs.jobs_by_id(tx, ctx.scope, [step.job_id for step in claimed])
            made = await _items(tx, ctx, claimed, of_jobs)
    except Temporary:
        raise
    except CertctlError as error:  # one of them is in the way of all
        log.info("polls_not_together", polls=len(asking), error=error)
        return {}
    found: dict[Poll, list[WorkItem]] = {poll: [] for poll in asking.values()}
    for step, item in zip(claimed, made, strict=True):
        if item is not None:
            found[asking[step.agent_id]].append(item)
    return found


def _owner(agent_id: str, boot_id: str) -> str:
    return f"agent:{agent_id}:{boot_id}"


async def work_for_key(ctx: Context, agent: AgentRecord, boot_id: str, limit: int) -> list[ReferenceWorkItem]:
    """Lease due steps to an agent that calls with an API key and names no lease: `boot_id` stands for that key.

    It works one thing after another and polls in between: what it still holds when it asks is handed to it again.
    """
    owner = _owner(agent.id, boot_id)
    async with ctx.database.begin("work.key") as tx:
        if agent.boot_id != boot_id:
            await catalogue.change(tx, ctx.scope, AgentRecord, agent.id, boot_id=boot_id)
            await jobs.release_of_earlier_boots(tx, ctx.scope, f"agent:{agent.id}:", owner)
        await jobs.release_owned(tx, ctx.scope, owner)
        claimed = await jobs.claim(
            tx,
            ctx.scope,
            owner=owner,
            lease=ctx.patience.reference_lease,
            now=ctx.now(),
            limit=limit,
            agent_id=agent.id,
            kinds=reference.KINDS,
        )
        known = await jobs.jobs_by_id(tx, ctx.scope, [step.job_id for step in claimed])
        made = await _items(tx, ctx, claimed, known)
    return [reference.item(item) for item in made if item is not None]


async def _items(tx: Tx, ctx: Context, claimed: Sequence[Step], known: Mapping[str, Job]) -> list[WorkItem | None]:
    """What an agent needs for the steps that it has taken; what they are about is read, and begun, together."""
    offered = [step for step in claimed if step.attempts <= ctx.patience.agent_offers]
    stock = await material.look(tx, ctx, [known[step.job_id] for step in offered if step.kind in _ABOUT_A_TARGET])
    deployed = [known[step.job_id] for step in offered if step.kind == StepKind.DEPLOY]
    are_begun = bool(deployed) and await deploy.begin_all(tx, ctx, deployed, stock)
    return [await _item(tx, ctx, step, known[step.job_id], stock, are_begun=are_begun) for step in claimed]


async def _item(
    tx: Tx, ctx: Context, step: Step, job: Job, stock: material.Stock, *, are_begun: bool
) -> WorkItem | None:
    lease = ctx.patience.lease
    if step.attempts > ctx.patience.agent_offers:
        await settle.end_job(tx, ctx, job, "the agent took this step many times and never answered", "rejected")
        return None
    if step.kind == StepKind.PREPARE:
        return prepare.item(step, job, lease)
    try:
        if step.kind == StepKind.PROVE:
            return await prove.item(tx, ctx, step, job, lease)
        if step.kind == StepKind.DEPLOY:
            return await deploy.item(tx, ctx, step, job, lease, stock, is_begun=are_begun)
        if step.kind == StepKind.PLAN:
            return await plan.item(tx, ctx, step, job, lease, stock)
        return verify.item(step, job, lease, stock)
    except CertctlError as error:
        await settle.fail(tx, ctx, step, error)
        return None

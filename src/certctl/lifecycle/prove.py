"""prove: an agent answers a CA's challenges on its host, while an order of the job waits for it.

What is to be answered is kept by job; a step tells the agent to serve exactly that, and it says so. Nothing left means
that all is taken away. A run of the agent that ended serves nothing: the next one is told anew. Hands on to nothing:
the job's issue step looks and goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from certctl.connectors.base.solver import HostWish, Proof
from certctl.core.actor import Actor
from certctl.core.errors import Malformed, Misconfigured, NotAllowed, NotFound
from certctl.core.events import Event, EventType
from certctl.core.job import Job, Step
from certctl.core.status import StepKind, StepStatus
from certctl.core.target import AgentRecord
from certctl.ledger import append
from certctl.lifecycle.context import Context
from certctl.store import catalogue, host_answers, jobs
from certctl.store.host_answers import HostAnswerRecord
from certctl.store.tx import Tx
from certctl.wire.agent import HostAnswer, StatusReport, WorkItem

# an agent that is never told to stop stops by itself: no CA looks for longer
_SERVED_FOR = timedelta(hours=1)
_AT_ONCE = 50


class Hosts:
    """What a solver asks of agents; `ctx` is asked for when it is there."""

    def __init__(self, ctx: Callable[[], Context]) -> None:
        self._ctx = ctx

    async def ask(self, proof: Proof, wish: HostWish) -> None:
        """Have the agent answer. Raises Misconfigured when it is not there, or cannot."""
        ctx, agent_id = self._ctx(), wish.agent_id or proof.agent_id
        now = ctx.now()
        async with ctx.database.begin("prove.ask") as tx:
            await _refuse_who_cannot(tx, ctx, agent_id)
            record = HostAnswerRecord(
                tenant_id=ctx.scope.tenant_id,
                job_id=proof.job_id,
                token=proof.token,
                agent_id=agent_id,
                type=wish.type,
                name=proof.name,
                key_authorization=proof.key_authorization,
                webroot=wish.webroot,
                port=wish.port,
                shown_by="",
                created_at=now,
            )
            if await host_answers.put(tx, ctx.scope, record):
                await _tell(tx, ctx, proof.job_id, agent_id)

    async def stands(self, proof: Proof) -> bool:
        """Whether the agent's present run serves it; a new run is told what the one before was."""
        ctx = self._ctx()
        async with ctx.database.read() as tx:
            found = await host_answers.showing(tx, ctx.scope, proof.job_id, proof.token)
        if found is None:
            raise Misconfigured("the agent that should answer is not there any more")
        if found.shown_by and found.shown_by != found.boot_id:
            async with ctx.database.begin("prove.again") as tx:
                await _tell(tx, ctx, proof.job_id, found.agent_id)
        return bool(found.shown_by) and found.shown_by == found.boot_id

    async def drop(self, proof: Proof) -> None:
        """Have it taken away."""
        ctx = self._ctx()
        async with ctx.database.begin("prove.drop") as tx:
            for agent_id in await host_answers.drop(tx, ctx.scope, proof.job_id, proof.token):
                await _tell(tx, ctx, proof.job_id, agent_id)


async def _refuse_who_cannot(tx: Tx, ctx: Context, agent_id: str) -> None:
    if not agent_id:
        raise Misconfigured(
            "challenge_by is agent, and no agent holds this certificate's key: name one in challenge_agent_id"
        )
    try:
        agent = await catalogue.get(tx, ctx.scope, AgentRecord, agent_id)
    except NotFound as error:
        raise Misconfigured(f"there is no agent {agent_id} to answer challenges") from error
    if agent.retired_at is not None:
        raise Misconfigured(f"agent {agent.name}, which should answer challenges, is retired")
    if str(StepKind.PROVE) not in agent.capabilities:
        raise Misconfigured(
            f"agent {agent.name} (version {agent.version or 'unknown'}) answers no challenges; update it"
        )


async def _tell(tx: Tx, ctx: Context, job_id: str, agent_id: str) -> None:
    """See that a step waits for the agent: one that is not taken yet says whatever stands when it is."""
    open_now = await jobs.open_steps(tx, ctx.scope, (StepKind.PROVE,), agent_id=agent_id, job_id=job_id)
    if not any(step.status == StepStatus.READY for step in open_now):
        await jobs.add_step(tx, ctx.scope, job_id, StepKind.PROVE, ctx.now(), agent_id=agent_id)


async def item(tx: Tx, ctx: Context, step: Step, job: Job, lease: timedelta) -> WorkItem:
    """What the agent is to serve for this job, all of it."""
    wanted = [one for one in await host_answers.of_job(tx, ctx.scope, job.id) if one.agent_id == step.agent_id]
    return WorkItem(
        id=job.id,
        type=str(job.type),
        certificate_id=job.certificate_id,
        step_id=step.id,
        step_kind=str(StepKind.PROVE),
        fence=step.fence,
        lease_seconds=lease.total_seconds(),
        attempt=step.attempts,
        traceparent=job.traceparent,
        answers=[
            HostAnswer(
                type=one.type,
                name=one.name,
                token=one.token,
                key_authorization=one.key_authorization,
                webroot=one.webroot,
                port=one.port,
                seconds=_SERVED_FOR.total_seconds(),
            )
            for one in wanted
        ],
    )


async def report(ctx: Context, agent: AgentRecord, actor: Actor, job_id: str, said: StatusReport) -> None:
    """Take an agent's word that it serves these answers for the job, and no others."""
    async with ctx.database.begin("prove.report") as tx:
        step = await jobs.held_step(tx, ctx.scope, said.step_id, said.fence)
        if step.agent_id != agent.id or step.job_id != job_id or step.kind != StepKind.PROVE:
            raise NotAllowed("this step is not leased to this agent for challenges")
        if said.status != "Completed" or said.proved is None:
            raise Malformed("answers are reported with status Completed; what failed is reported without them")
        now, tokens = ctx.now(), tuple(said.proved[:200])
        await host_answers.mark_shown(tx, ctx.scope, job_id, tokens, step.lease_owner.rpartition(":")[2])
        await jobs.end_step(tx, ctx.scope, step, StepStatus.DONE, now)
        await jobs.hasten_steps(tx, ctx.scope, job_id, StepKind.ISSUE, now)
        job = (await jobs.jobs_by_id(tx, ctx.scope, [job_id]))[job_id]
        details = {"job_id": job_id, "answers": len(tokens)}
        event = Event(
            type=EventType.CHALLENGES_SHOWN,
            subject_type="certificate",
            subject_id=job.certificate_id,
            actor=actor,
            details=details,
        )
        await append(tx, ctx.scope, now, event)


async def tick(ctx: Context) -> int:
    """Have what ended jobs left taken away; returns how many jobs."""
    async with ctx.database.read() as tx:
        found = await host_answers.left_over(tx, ctx.scope, _AT_ONCE)
    for job_id in found:
        async with ctx.database.begin("prove.sweep") as tx:
            for agent_id in await host_answers.drop(tx, ctx.scope, job_id):
                await _tell(tx, ctx, job_id, agent_id)
    return len(found)

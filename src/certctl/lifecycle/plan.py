"""plan: what would a deployment do on its host? The agent looks and says; nothing there is touched.

A dry run is a job of its own (type Validation): it writes no deployment, stops none, and its failure alarms nobody. The
result is kept on the job under `plan`. Hands on to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec

from certctl.core.actor import Actor
from certctl.core.certificate import Version
from certctl.core.errors import Conflict, Malformed, NotAllowed
from certctl.core.events import Event, EventType
from certctl.core.job import Job, Step
from certctl.core.scope import Scope
from certctl.core.status import JobStatus, StepKind, StepStatus
from certctl.core.target import AgentRecord, TargetRecord
from certctl.ledger import append
from certctl.lifecycle import material, rollout
from certctl.lifecycle.context import Context
from certctl.store import catalogue, certificates, jobs
from certctl.store.tx import Tx
from certctl.wire.agent import PlanReport, StatusReport, WorkItem

_MOST_LINES = 64


async def trigger(
    ctx: Context, scope: Scope, actor: Actor, certificate_id: str, *, target_id: str = "", version_id: str = ""
) -> list[Job]:
    """Ask the agents what deploying to one target or all would do. Conflict when an agent cannot tell."""
    async with ctx.database.begin("plan") as tx:
        certificate = await certificates.certificate(tx, scope, certificate_id)
        pairs = await material.pairs(tx, ctx, certificate, target_id=target_id, version_id=version_id)
        await _refuse_who_cannot(tx, ctx, pairs)
        return [await rollout.plan_on(tx, ctx, certificate, version, target, actor) for target, version in pairs]


async def _refuse_who_cannot(tx: Tx, ctx: Context, pairs: Sequence[tuple[TargetRecord, Version]]) -> None:
    known = await catalogue.many(tx, ctx.scope, AgentRecord, tuple({target.agent_id for target, _ in pairs}))
    for agent in known.values():
        if str(StepKind.PLAN) not in agent.capabilities:
            raise Conflict(f"agent {agent.name} (version {agent.version or 'unknown'}) knows no dry run; update it")


async def item(tx: Tx, ctx: Context, step: Step, job: Job, lease: timedelta, stock: material.Stock) -> WorkItem:
    """What an agent needs to plan: the same as to deploy, under a plan id that no deployment has."""
    await jobs.move_job(tx, ctx.scope, job.id, JobStatus.RUNNING, ctx.now())
    return material.item(stock, step, job, lease, plan_id=job.id)


async def report(ctx: Context, agent: AgentRecord, actor: Actor, job_id: str, said: StatusReport) -> None:
    """Take an agent's plan for a step leased to it and keep it on the job."""
    async with ctx.database.begin("plan.report") as tx:
        step = await jobs.held_step(tx, ctx.scope, said.step_id, said.fence)
        job = (await jobs.jobs_by_id(tx, ctx.scope, [step.job_id]))[step.job_id]
        if step.agent_id != agent.id or job.id != job_id or step.kind != StepKind.PLAN:
            raise NotAllowed("this step is not leased to this agent for a plan")
        if said.status != "Completed" or said.plan is None:
            raise Malformed("a plan is reported with status Completed; what failed is reported without a plan")
        now = ctx.now()
        body = job.body | {"plan": _bounded(said.plan)}
        await jobs.end_step(tx, ctx.scope, step, StepStatus.DONE, now)
        await jobs.move_job(tx, ctx.scope, job.id, JobStatus.COMPLETED, now, body=body, last_error="")
        details = {"job_id": job.id, "target_id": job.target_id, "version_id": job.version_id}
        event = Event(
            type=EventType.DEPLOYMENT_PLANNED,
            subject_type="certificate",
            subject_id=job.certificate_id,
            actor=actor,
            details=details,
        )
        await append(tx, ctx.scope, now, event)


def _bounded(plan: PlanReport) -> dict[str, Any]:
    """A plan as it is kept: an agent must not fill the database."""
    shorter = msgspec.structs.replace(
        plan,
        files=plan.files[:_MOST_LINES],
        actions=[action[:200] for action in plan.actions[:_MOST_LINES]],
        summary=[line[:500] for line in plan.summary[:_MOST_LINES]],
    )
    kept: dict[str, Any] = msgspec.to_builtins(shorter)
    return kept

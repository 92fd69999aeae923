"""Agents of the reference product name no step: what they mean is resolved here, to one step or to a refusal.

Such an agent calls with an API key bound to its id; `owner` stands for that key. Never guesses: where more than one
step could be meant, the answer is a Conflict that names them. An agent with a credential of its own never comes here.
"""

from __future__ import annotations

from collections.abc import Sequence

from certctl.core.errors import Conflict, StaleFence
from certctl.core.job import Step
from certctl.core.names import parse_names
from certctl.core.status import JobStatus, StepKind, StepStatus
from certctl.core.target import AgentRecord
from certctl.lifecycle.context import Context
from certctl.store import jobs
from certctl.store.tx import Tx
from certctl.wire.agent import ReferenceWorkItem, WorkItem

KINDS = (StepKind.PREPARE, StepKind.DEPLOY)


async def open_step(
    tx: Tx,
    ctx: Context,
    agent: AgentRecord,
    owner: str,
    kinds: Sequence[StepKind],
    *,
    job_id: str = "",
    certificate_id: str = "",
) -> Step | None:
    """The agent's one open step of these kinds, leased to `owner`; None when there is none. Conflict for several."""
    found = await jobs.open_steps(tx, ctx.scope, kinds, agent_id=agent.id, job_id=job_id, certificate_id=certificate_id)
    if len(found) > 1:
        choice = ", ".join(step.job_id for step in found[:10])
        raise Conflict(f"more than one job of agent {agent.name} could be meant; name one of them: {choice}")
    if not found:
        return None
    step = found[0]
    if step.status == StepStatus.LEASED and step.lease_owner != owner:
        raise StaleFence("this step is leased to a run of the agent that names its leases")
    return await jobs.take_step(tx, ctx.scope, step, owner, ctx.now() + ctx.patience.reference_lease)


def item(told: WorkItem) -> ReferenceWorkItem:
    """A work item with the reference product's fields alone: it tells work apart by status and type."""
    asks_csr = told.step_kind == StepKind.PREPARE
    return ReferenceWorkItem(
        id=told.id,
        type=told.type,
        certificate_id=told.certificate_id,
        status=str(JobStatus.AWAITING_CSR) if asks_csr else told.status,
        common_name=told.common_name if asks_csr else "",
        sans=[name.value for name in parse_names(told.sans)] if asks_csr else [],
        target_id=told.target_id,
        target_type=told.target_type,
        target_config=told.target_config,
    )

"""What agents say of their steps at the same time, taken by one commit for all of them (ADR 52).

Each stage says for itself what it takes together (`deploy.report_all`, `verify.report_all`), under the same fences and
by the same rules as alone. Whatever is not plainly right goes alone and is told there what is wrong with it: one that
breaks a rule takes nobody along.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import structlog

from certctl.core.actor import Actor
from certctl.core.errors import CertctlError, Temporary
from certctl.core.job import Job, Step
from certctl.core.status import StepKind
from certctl.core.target import AgentRecord

log = structlog.get_logger(__name__)

# so small that nobody waits long for the others, and so large that what a commit costs is little of it
MOST_AT_ONCE = 50


class OfAStep(Protocol):
    """Every word of an agent names the step, and the fence under which it was leased."""

    step_id: str
    fence: int


SaidT = TypeVar("SaidT", bound=OfAStep)
AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True, slots=True, eq=False)
class Report(Generic[SaidT]):
    """One agent's word on one job (empty: on that of its step). The same word said twice is two reports."""

    agent: AgentRecord
    actor: Actor
    job_id: str
    said: SaidT

    def is_of(self, step: Step, job: Job, kind: StepKind) -> bool:
        """Whether this leased step is of that kind, and leased to this agent for this job under this fence."""
        is_held = step.fence == self.said.fence and step.agent_id == self.agent.id == job.agent_id
        return is_held and step.kind == kind and self.job_id in {"", job.id}


async def take(
    name: str,
    reports: Sequence[Report[SaidT]],
    all_at_once: Callable[[Mapping[str, Report[SaidT]]], Awaitable[Mapping[str, AnswerT]]],
) -> dict[Report[SaidT], AnswerT]:
    """What `all_at_once` answers to reports, by the ids of their steps; who is left out goes alone, and so does whoever
    speaks of the same step as another. Raises Temporary: then it is not known of any of them what was written.
    """
    of_steps: dict[str, Report[SaidT]] = {}
    for report in reports:
        of_steps.setdefault(report.said.step_id, report)
    try:
        answers = await all_at_once(of_steps)
    except Temporary:
        raise
    except CertctlError as error:  # one of them is in the way of all
        log.info("reports_not_together", of=name, reports=len(of_steps), error=error)
        return {}
    except Exception:  # a fault of ours, which alone may not be met
        log.exception("reports_not_together", of=name, reports=len(of_steps))
        return {}
    return {of_steps[step_id]: answer for step_id, answer in answers.items()}

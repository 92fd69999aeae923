"""Is a certificate healthy? Four truths, each judged by itself: issued, deployed, served, trusted.

A condition is True or False only where somebody looked; what nobody has observed, or observed too long ago, reads None.
Green is therefore never a guess. Pure: observations and the present moment are parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeAlias

from msgspec import Struct

from certctl.core.status import DeploymentStatus


class Condition(Struct, frozen=True):
    """One truth: `ok` is None when it is not known; `reason` is a sentence for people."""

    name: str
    ok: bool | None
    reason: str


class DeploymentFacts(Struct, frozen=True, kw_only=True):
    """One target: what was meant to be there, and what was last seen there. Fingerprints are SHA-256, lowercase hex."""

    target_id: str
    status: DeploymentStatus
    wanted_fingerprint: str
    observed_fingerprint: str = ""
    observed_at: datetime | None = None


class ReadinessFacts(Struct, frozen=True, kw_only=True):
    """A certificate as a whole. Moments are None when there is no current version.

    `chain_verified` is None until a verification was made; `observations_last` is how long an observation counts.
    """

    now: datetime
    not_before: datetime | None = None
    not_after: datetime | None = None
    revoked: bool = False
    chain_verified: bool | None = None
    chain_fault: str = ""
    deployments: tuple[DeploymentFacts, ...] = ()
    observations_last: timedelta = timedelta(days=1)


def judge_readiness(facts: ReadinessFacts) -> tuple[Condition, ...]:
    """Every condition, in the order of a certificate's life."""
    return tuple(rule(facts) for rule in CONDITIONS)


def is_ready(conditions: tuple[Condition, ...]) -> bool | None:
    """False when any condition is false, else None when any is unknown (or there is none), else True."""
    if any(condition.ok is False for condition in conditions):
        return False
    return True if conditions and all(condition.ok for condition in conditions) else None


def it_is_issued(facts: ReadinessFacts) -> Condition:
    """There is a current version, valid now and not revoked."""
    if facts.revoked:
        return Condition("issued", ok=False, reason="it is revoked")
    if facts.not_before is None or facts.not_after is None:
        return Condition("issued", ok=False, reason="no version has been issued")
    if facts.now >= facts.not_after:
        return Condition("issued", ok=False, reason=f"it expired at {facts.not_after.isoformat()}")
    if facts.now < facts.not_before:
        return Condition("issued", ok=False, reason=f"it is not valid before {facts.not_before.isoformat()}")
    return Condition("issued", ok=True, reason=f"it is valid until {facts.not_after.isoformat()}")


def it_is_deployed(facts: ReadinessFacts) -> Condition:
    """The current version was put on every target, and none failed."""
    if not facts.deployments:
        return Condition("deployed", ok=None, reason="no target is mapped to it")
    failed = _targets(facts, DeploymentStatus.FAILED)
    if failed:
        return Condition("deployed", ok=False, reason=f"deployment failed on {failed}")
    waiting = _targets(facts, DeploymentStatus.PENDING, DeploymentStatus.APPLYING, DeploymentStatus.SUPERSEDED)
    if waiting:
        return Condition("deployed", ok=False, reason=f"it is not yet on {waiting}")
    return Condition("deployed", ok=True, reason=f"it is on {_counted(facts)}")


def it_is_served(facts: ReadinessFacts) -> Condition:
    """Every target was lately seen to serve the current version."""
    if not facts.deployments:
        return Condition("served", ok=None, reason="no target is mapped to it")
    other = [d.target_id for d in facts.deployments if _serves_another(d)]
    if other:
        return Condition("served", ok=False, reason=f"another certificate is served by {', '.join(other)}")
    unseen = [d.target_id for d in facts.deployments if not d.observed_fingerprint or d.observed_at is None]
    if unseen:
        return Condition("served", ok=None, reason=f"nobody has seen what {', '.join(unseen)} serves")
    oldest = facts.now - facts.observations_last
    stale = [d.target_id for d in facts.deployments if d.observed_at is not None and d.observed_at < oldest]
    if stale:
        return Condition("served", ok=None, reason=f"the last look at {', '.join(stale)} is too old")
    return Condition("served", ok=True, reason=f"it was seen served by {_counted(facts)}")


def it_is_trusted(facts: ReadinessFacts) -> Condition:
    """Its chain was verified up to a root that is trusted."""
    if facts.chain_verified is None:
        return Condition("trusted", ok=None, reason="its chain has not been verified")
    if not facts.chain_verified:
        return Condition("trusted", ok=False, reason=facts.chain_fault or "its chain does not verify")
    return Condition("trusted", ok=True, reason="its chain verifies")


ConditionRule: TypeAlias = Callable[[ReadinessFacts], Condition]

CONDITIONS: tuple[ConditionRule, ...] = (it_is_issued, it_is_deployed, it_is_served, it_is_trusted)


def _targets(facts: ReadinessFacts, *statuses: DeploymentStatus) -> str:
    return ", ".join(d.target_id for d in facts.deployments if d.status in statuses)


def _serves_another(deployment: DeploymentFacts) -> bool:
    seen = deployment.observed_fingerprint
    return deployment.status == DeploymentStatus.DRIFTED or bool(seen and seen != deployment.wanted_fingerprint)


def _counted(facts: ReadinessFacts) -> str:
    number = len(facts.deployments)
    return "its one target" if number == 1 else f"all its {number} targets"

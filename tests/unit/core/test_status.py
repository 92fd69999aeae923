"""The status machines, walked: every status can be reached, and only the terminal ones are ends."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import pytest

from certctl.core import status
from certctl.core.status import (
    ApprovalState,
    BatchStatus,
    CertificateStatus,
    DeploymentStatus,
    ItemStatus,
    JobStatus,
    OrderStatus,
    StepStatus,
    VersionStatus,
    before,
)

Machine = Mapping[StrEnum, frozenset[StrEnum]]

MACHINES = {
    "CERTIFICATE": (CertificateStatus, CertificateStatus.PENDING, {"Archived"}),
    "JOB": (JobStatus, JobStatus.PENDING, {"Completed", "Failed", "Cancelled"}),
    "STEP": (StepStatus, StepStatus.READY, {"done", "failed", "cancelled"}),
    "VERSION": (VersionStatus, VersionStatus.ISSUED, {"revoked"}),
    "DEPLOYMENT": (DeploymentStatus, DeploymentStatus.PENDING, {"superseded"}),
    "BATCH": (BatchStatus, BatchStatus.RUNNING, {"completed", "cancelled"}),
    "ITEM": (ItemStatus, ItemStatus.PENDING, {"done", "skipped", "failed"}),
    "APPROVAL": (ApprovalState, ApprovalState.PENDING, {"approved", "rejected", "expired"}),
    "ORDER": (OrderStatus, OrderStatus.INTENDED, {"recorded", "rejected"}),
}


def reachable(machine: Machine, start: StrEnum) -> set[StrEnum]:
    seen: set[StrEnum] = set()
    waiting = [start]
    while waiting:
        if (one := waiting.pop()) not in seen:
            seen.add(one)
            waiting.extend(machine[one])
    return seen


def test_every_machine_is_walked() -> None:
    assert {
        name for name, value in vars(status).items() if isinstance(value, dict) and not name.startswith("_")
    } == set(MACHINES)


@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_is_whole(name: str) -> None:
    kind, first, ends = MACHINES[name]
    machine: Machine = getattr(status, name)
    assert set(machine) == set(kind), "every status has its row"
    assert reachable(machine, first) == set(kind), "every status can be reached from the first"
    assert {str(one) for one, targets in machine.items() if not targets} == ends
    for one in machine:
        assert one not in machine[one], "a status is not its own successor"
        assert {str(end) for end in reachable(machine, one)} & ends, "from everywhere an end can be reached"


@pytest.mark.parametrize("name", MACHINES)
def test_before_is_the_machine_read_backwards(name: str) -> None:
    machine: Machine = getattr(status, name)
    for one in machine:
        assert set(before(machine, one)) == {str(source) for source in machine if one in machine[source]}


def test_live_jobs_are_those_that_have_not_ended() -> None:
    assert {job for job, targets in status.JOB.items() if targets} == status.LIVE_JOB

"""Whoever drives a job has each next step leased with the commit of the one before; what it does not run it gives back."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from certctl.core.job import Job
from certctl.core.names import parse_names
from certctl.core.status import JobStatus, StepKind, StepStatus
from certctl.lifecycle import flow, request
from certctl.lifecycle.context import Context
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.csr import build_csr, csr_pem
from certctl.pki.keys import generate_private_key
from certctl.store.schema import steps
from lifecycle.world import PERSON, World


async def asked(town: World, ctx: Context) -> Job:
    wanted = request.NewCertificate(common_name="own.example", csr_pem=_csr("own.example"))
    _, (job,) = await request.create(ctx, town.ctx.scope, PERSON, wanted)
    return job


async def steps_of(town: World, job: Job) -> list[tuple[str, str, int, str]]:
    async with town.ctx.database.read() as tx:
        found = sa.select(steps.c.kind, steps.c.status, steps.c.fence, steps.c.lease_owner)
        rows = await tx.execute(found.where(steps.c.job_id == job.id).order_by(steps.c.created_at, steps.c.id))
        return [tuple(row) for row in rows]


async def status_of(town: World, job: Job) -> JobStatus:
    (known,) = [each for each in await town.jobs() if each.id == job.id]
    return JobStatus(known.status)


async def test_a_driven_job_is_handed_from_stage_to_stage(town: World):
    own = flow.driving(town.ctx)
    job = await asked(town, own)
    assert [step.kind for step in own.handed] == [StepKind.APPROVE]
    assert await steps_of(town, job) == [("approve", StepStatus.LEASED, 1, town.ctx.owner)]
    # nobody else gets it
    assert await flow.claim(town.ctx, 10, job_id=job.id) == []
    await flow.drive(own, job.id)
    assert own.handed == []
    kinds = [(kind, status, fence) for kind, status, fence, _ in await steps_of(town, job)]
    assert kinds == [(kind, StepStatus.DONE, 1) for kind in ("approve", "prepare", "issue", "record")]
    assert await status_of(town, job) == JobStatus.COMPLETED


async def test_a_driver_whose_time_is_up_gives_its_step_to_whoever_comes(town: World):
    own = flow.driving(town.ctx)
    job = await asked(town, own)
    await flow.drive(own, job.id, timedelta(0))
    assert own.handed == []
    assert await steps_of(town, job) == [("approve", StepStatus.READY, 1, "")]
    await town.settle()
    assert await status_of(town, job) == JobStatus.COMPLETED


async def test_a_step_of_a_driver_that_died_is_had_by_another_when_its_lease_lapses(town: World):
    job = await asked(town, flow.driving(town.ctx))
    assert await flow.free_lapsed(town.ctx) == 0
    town.clock.moment += town.ctx.patience.lease + timedelta(seconds=1)
    assert await flow.free_lapsed(town.ctx) == 1
    await town.settle()
    assert await status_of(town, job) == JobStatus.COMPLETED
    assert [fence for _, _, fence, _ in await steps_of(town, job)][0] == 2


async def test_what_was_rolled_back_was_not_handed_on(town: World):
    own = flow.driving(town.ctx)

    async def half_way() -> None:
        async with own.database.begin("test") as tx:
            wanted = request.NewCertificate(common_name="half.example", csr_pem=_csr("half.example"))
            await request.create_in(tx, own, town.ctx.scope, PERSON, wanted)
            raise RuntimeError("here it ends")

    with pytest.raises(RuntimeError):
        await half_way()
    assert own.handed == []
    assert await town.jobs() == []


def _csr(name: str) -> str:
    key = generate_private_key(KeyAlgorithm.ECDSA_P256)
    return csr_pem(build_csr(key, name, parse_names([name])))

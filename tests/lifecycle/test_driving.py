"""Whoever drives a job has each next step leased with the commit of the one before; what it does not run it gives back."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from certctl.core.catalogue import Profile
from certctl.core.job import Job
from certctl.core.names import parse_names
from certctl.core.status import JobStatus, StepKind, StepStatus, VersionStatus
from certctl.lifecycle import flow, request
from certctl.lifecycle.context import Context
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.csr import build_csr, csr_pem
from certctl.pki.keys import generate_private_key
from certctl.store import audit, catalogue, jobs, views
from certctl.store.schema import orders, steps
from certctl.telemetry import points
from lifecycle.dying import Died, dying_at
from lifecycle.world import PERSON, World


async def asked(town: World, ctx: Context, name: str = "own.example") -> Job:
    wanted = request.NewCertificate(common_name=name, csr_pem=_csr(name))
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


async def orders_of(town: World, job: Job) -> list[tuple[str, bool]]:
    async with town.ctx.database.read() as tx:
        found = sa.select(orders.c.status, orders.c.leaf_der).where(orders.c.job_id == job.id)
        return [(status, leaf_der is not None) for status, leaf_der in await tx.execute(found)]


async def events_of(town: World, job: Job) -> list[str]:
    async with town.ctx.database.read() as tx:
        rows = await audit.events_after(tx, town.ctx.scope, (0, 0), 1000)
    return [row.type for row in rows if row.subject_id == job.certificate_id]


async def edit_profile(town: World, **values: object) -> None:
    async with town.ctx.database.begin("test") as tx:
        await catalogue.change(tx, town.ctx.scope, Profile, "prof-default", **values)


WAY = ("approve", "prepare", "issue", "record")


async def test_a_request_that_every_rule_allows_is_ready_to_be_issued_with_its_own_commit(town: World):
    own = flow.driving(town.ctx)
    job = await asked(town, own)
    assert [step.kind for step in own.handed] == [StepKind.ISSUE]
    assert await steps_of(town, job) == [
        ("approve", StepStatus.DONE, 1, ""),
        ("prepare", StepStatus.DONE, 1, ""),
        ("issue", StepStatus.LEASED, 1, town.ctx.owner),
    ]
    assert await orders_of(town, job) == []
    # nobody else gets it
    assert await flow.claim(town.ctx, 10, job_id=job.id) == []
    await flow.drive(own, job.id)
    assert own.handed == []
    assert [step[:3] for step in await steps_of(town, job)] == [(kind, StepStatus.DONE, 1) for kind in WAY]
    assert await status_of(town, job) == JobStatus.COMPLETED
    assert await orders_of(town, job) == [("recorded", True)]


async def test_the_short_way_tells_and_leaves_what_the_long_one_does(town: World):
    own = flow.driving(town.ctx)
    short = await asked(town, own)
    await flow.drive(own, short.id)
    long = await asked(town, town.ctx, "long.example")
    await town.settle()
    assert await events_of(town, short) == await events_of(town, long)
    assert [step[:3] for step in await steps_of(town, short)] == [step[:3] for step in await steps_of(town, long)]
    async with town.ctx.database.read() as tx:
        known = await jobs.jobs_by_id(tx, town.ctx.scope, [short.id, long.id])
        rows = [await views.certificate(tx, town.ctx.scope, known[job.id].certificate_id) for job in (short, long)]
    own_facts = {"names", "common_name", "csr_pem", "decision_hash"}
    bodies = [
        {name: said for name, said in known[job.id].body.items() if name not in own_facts} for job in (short, long)
    ]
    assert bodies[0] == bodies[1]
    for field in ("status", "status_reason", "expires_at", "next_check_at", "last_renewal_at", "failures"):
        assert getattr(rows[0], field) == getattr(rows[1], field), field


async def test_a_driven_job_of_an_earlier_kind_is_handed_from_stage_to_stage(town: World):
    """A CSR that is wrong, for one: what is not plainly yes goes stage by stage, and is settled there."""
    own = flow.driving(town.ctx)
    wanted = request.NewCertificate(common_name="own.example", csr_pem=_csr("another.example"))
    _, (job,) = await request.create(own, town.ctx.scope, PERSON, wanted)
    assert [step.kind for step in own.handed] == [StepKind.APPROVE]
    await flow.drive(own, job.id)
    assert own.handed == []
    assert [step[:2] for step in await steps_of(town, job)] == [
        ("approve", StepStatus.DONE),
        ("prepare", StepStatus.FAILED),
    ]
    assert await status_of(town, job) == JobStatus.FAILED


async def test_what_people_are_to_approve_waits_for_them_however_it_is_driven(town: World):
    await edit_profile(town, requires_approval=True)
    own = flow.driving(town.ctx)
    job = await asked(town, own)
    assert [step.kind for step in own.handed] == [StepKind.APPROVE]
    await flow.drive(own, job.id)
    assert await status_of(town, job) == JobStatus.AWAITING_APPROVAL
    assert await orders_of(town, job) == []


async def test_a_wrong_answer_on_the_short_way_is_kept_and_no_version(town: World):
    (await town.issuer()).wrong = True
    own = flow.driving(town.ctx)
    job = await asked(town, own)
    await flow.drive(own, job.id)
    assert [step[:2] for step in await steps_of(town, job)][2:] == [
        ("issue", StepStatus.DONE),
        ("record", StepStatus.FAILED),
    ]
    assert await status_of(town, job) == JobStatus.FAILED
    assert await orders_of(town, job) == [("rejected", True)]
    assert await town.versions(job.certificate_id) == []


async def test_a_ca_that_is_down_on_the_short_way_is_asked_again_for_the_same_order(town: World):
    (await town.issuer()).down = True
    own = flow.driving(town.ctx)
    job = await asked(town, own)
    await flow.drive(own, job.id)
    assert await orders_of(town, job) == [("intended", False)]
    assert await status_of(town, job) == JobStatus.RUNNING
    (await town.issuer()).down = False
    town.clock.moment += timedelta(hours=1)
    await town.settle()
    assert await status_of(town, job) == JobStatus.COMPLETED
    assert [order.job_id for order in (await town.issuer()).submitted] == [job.id]


async def test_a_job_that_is_cancelled_before_its_intent_is_never_signed(town: World):
    own = flow.driving(town.ctx)
    job = await asked(town, own)
    await request.cancel(town.ctx, town.ctx.scope, PERSON, job.id)
    await flow.drive(own, job.id)
    assert (await town.issuer()).submitted == []
    assert await orders_of(town, job) == []
    assert await status_of(town, job) == JobStatus.CANCELLED


POINTS = (
    "commit.issue.intent.before",
    "commit.issue.intent.after",
    "issue.asking",
    "issue.answered",
    "commit.issue.record.before",
    "commit.issue.record.after",
)


async def test_wherever_a_driver_dies_on_the_short_way_one_order_comes_to_one_version(town: World, monkeypatch):
    """Its step's lease lapses; whoever has it then signs the stored bytes again."""
    died: dict[str, Job] = {}
    for number, point in enumerate(POINTS):
        own = flow.driving(town.ctx)
        died[point] = job = await asked(town, own, f"n{number}.example")
        with monkeypatch.context() as patch, pytest.raises(Died):
            patch.setattr(points, "hook", dying_at(point))
            await flow.drive(own, job.id)
    left = {
        point: (await orders_of(town, job), len(await town.versions(job.certificate_id))) for point, job in died.items()
    }
    intended, recorded = ([("intended", False)], 0), ([("recorded", True)], 1)
    assert left == dict(zip(POINTS, (([], 0), intended, intended, intended, intended, recorded), strict=True))
    town.clock.moment += town.ctx.patience.lease + timedelta(seconds=1)
    await flow.free_lapsed(town.ctx)
    await town.settle()
    submitted = (await town.issuer()).submitted
    for point, job in died.items():
        assert await status_of(town, job) == JobStatus.COMPLETED, point
        assert await orders_of(town, job) == [("recorded", True)], point
        (version,) = await town.versions(job.certificate_id)
        assert version.status == VersionStatus.CURRENT, point
        assert len({order.intent.tbs_der for order in submitted if order.job_id == job.id}) == 1, point


async def test_a_driver_whose_time_is_up_gives_its_step_to_whoever_comes(town: World):
    own = flow.driving(town.ctx)
    job = await asked(town, own)
    await flow.drive(own, job.id, timedelta(0))
    assert own.handed == []
    assert (await steps_of(town, job))[-1] == ("issue", StepStatus.READY, 1, "")
    await town.settle()
    assert await status_of(town, job) == JobStatus.COMPLETED


async def test_a_step_of_a_driver_that_died_is_had_by_another_when_its_lease_lapses(town: World):
    job = await asked(town, flow.driving(town.ctx))
    assert await flow.free_lapsed(town.ctx) == 0
    town.clock.moment += town.ctx.patience.lease + timedelta(seconds=1)
    assert await flow.free_lapsed(town.ctx) == 1
    await town.settle()
    assert await status_of(town, job) == JobStatus.COMPLETED
    assert [fence for kind, _, fence, _ in await steps_of(town, job) if kind == "issue"] == [2]


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

"""/api/v1/jobs: list, look at (with a long poll), cancel; what was seen at a deployment's target."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
from litestar import get, post
from litestar.params import FromPath, QueryParameter

from certctl.api.guard import needs
from certctl.api.lists import answer_list, listed
from certctl.api.request import ApiRequest
from certctl.api.shown import shown
from certctl.client.models.jobs import LIVE, JobView, StepView, VerificationView
from certctl.client.models.page import PageOf, StatusAnswer
from certctl.core.errors import NotFound
from certctl.core.job import Job
from certctl.core.status import JobType
from certctl.lifecycle import request as request_stage
from certctl.store import views
from certctl.store.listings import JOBS
from certctl.store.wake import job_channel
from certctl.wire.agent import PlanReport

LONGEST_WAIT_SECONDS = 60.0
_POLL_BENEATH_SECONDS = 1.0

Wait = Annotated[float, QueryParameter(ge=0, le=LONGEST_WAIT_SECONDS, description="seconds to wait for a change")]


@get("/jobs", opt=needs("job.read") | listed(JOBS), summary="List jobs")
async def list_jobs(request: ApiRequest) -> PageOf[JobView]:
    """Newest first."""
    return await answer_list(request, JobView, show=_view)


def _view(job: Job) -> JobView:
    return shown(JobView, job, steps=[], plan=None)


async def _load(request: ApiRequest, job_id: str) -> JobView:
    async with request.ctx.database.read() as tx:
        job = await views.job(tx, request.visible, job_id)
        steps = await views.steps_of(tx, request.visible, job_id)
    planned = msgspec.convert(job.body["plan"], PlanReport) if "plan" in job.body else None
    return shown(JobView, job, steps=[shown(StepView, step) for step in steps], plan=planned)


@get("/jobs/{job_id:str}", opt=needs("job.read"), summary="One job")
async def show_job(request: ApiRequest, job_id: FromPath[str], wait: Wait = 0) -> JobView:
    """With its steps. `wait` holds the answer until the job has moved or ended, at most so many seconds."""
    clock, door = asyncio.get_running_loop(), request.door
    deadline = clock.time() + wait
    with door.wakeups.watch(job_channel(job_id)) as watch:
        first = now = await _load(request, job_id)
        while now == first and now.status in LIVE and not door.draining.is_set():
            left = deadline - clock.time()
            if left <= 0:
                break
            await watch.wait(min(left, _POLL_BENEATH_SECONDS))
            now = await _load(request, job_id)
    return now


@post("/jobs/{job_id:str}/cancel", status_code=200, opt=needs("job.cancel"), summary="Cancel a job")
async def cancel_job(request: ApiRequest, job_id: FromPath[str]) -> StatusAnswer:
    """A result that comes later meets a stale fence and is refused."""
    await request_stage.cancel(request.ctx, request.visible, request.actor, job_id)
    return StatusAnswer(status="job_cancelled")


@get("/jobs/{job_id:str}/verification", opt=needs("verification.read"), summary="What was seen")
async def show_verification(request: ApiRequest, job_id: FromPath[str]) -> VerificationView:
    """What the target of a deployment was last seen to serve."""
    async with request.ctx.database.read() as tx:
        job = await views.job(tx, request.visible, job_id)
        if job.type != JobType.DEPLOYMENT or not job.version_id:
            raise NotFound(f"job {job_id} is no deployment: there is nothing to verify")
        version = await views.version(tx, request.visible, job.certificate_id, job.version_id)
    return VerificationView(
        job_id=job.id,
        target_id=job.target_id,
        expected_fingerprint=version.fingerprint_sha256,
        actual_fingerprint=job.verification_fingerprint,
        verified=job.verification_status == "success",
        verified_at=job.verified_at,
        error=job.verification_error,
    )


HANDLERS = (list_jobs, show_job, cancel_job, show_verification)

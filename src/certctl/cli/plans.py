"""What a dry run says: waits for the agents' plans and shows them, target by target."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from certctl.cli import output, tables

if TYPE_CHECKING:
    from certctl.client import Client
    from certctl.client.models.jobs import JobView


def show(client: Client, job_ids: Sequence[str], timeout: float, *, json: bool) -> None:
    """Wait for the plans of these jobs and print them; StageFailed when a host says that it would not work."""
    from certctl.cli.progress import Follower, refuse_failures
    from certctl.client import calls

    names = {row.id: row.name for row in client.send(calls.TARGETS.list()).data}
    follower = Follower(client, quiet=True, names=names)
    jobs = [follower.follow_job(job_id, timeout) for job_id in job_ids]
    if json:
        output.print_data(jobs)
    else:
        for job in jobs:
            print_plan(job, names.get(job.target_id, job.target_id))
        if all(job.plan for job in jobs):
            sys.stdout.write("nothing was changed\n")
    refuse_failures(jobs)


def print_plan(job: JobView, where: str) -> None:
    """One target's plan; nothing when its job has none."""
    plan = job.plan
    if plan is None:
        return
    sys.stdout.write(f"{tables.safe(where)}:\n")
    for line in plan.summary:
        sys.stdout.write(f"  {tables.safe(line)}\n")
    if plan.served_now:
        same = plan.served_now == plan.fingerprint_sha256
        sys.stdout.write(f"  now served there: {'this certificate' if same else tables.safe(plan.served_now[:16])}\n")

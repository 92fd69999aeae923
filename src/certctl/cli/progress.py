"""Follows jobs stage by stage until all have ended: a line a stage that is done, beneath it what is being waited for.

Lines go to standard error, so that standard output stays for the result. On a pipe there is no spinner.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from certctl.cli.exits import StageFailed, TimedOut
from certctl.cli.tables import is_terminal, paint, safe
from certctl.client.models.jobs import LIVE, JobView, StepView

if TYPE_CHECKING:
    from certctl.client import Client

_POLL_SECONDS = 2.0
_DONE = {
    "approve": "profile and issuer allow it",
    "prepare": "key made by its holder, CSR matches the request",
    "issue": "signed by the CA",
    "record": "answer checked: key, names, lifetime, chain",
    "deploy": "put in place and reloaded on the host",
    "verify": "seen to be served",
    "plan": "looked at on the host, nothing touched",
    "revoke": "the CA knows",
    "publish": "CRL and OCSP say so",
}


class Follower:
    """Watches the jobs of one certificate, or one job."""

    def __init__(self, client: Client, *, quiet: bool, names: dict[str, str] | None = None) -> None:
        self._client = client
        self._quiet = quiet
        self._names = names or {}
        self._told: set[str] = set()
        self._line = ""

    def follow_certificate(self, certificate_id: str, known: set[str], timeout: float) -> list[JobView]:
        """All jobs of a certificate that are not `known`, until none is live. Raises TimedOut."""
        deadline = time.monotonic() + timeout
        ended: dict[str, JobView] = {}
        while True:
            listed = self._client.list_jobs(certificate_id=certificate_id).data
            wanted = [job.id for job in reversed(listed) if job.id not in known and job.id not in ended]
            live = self._look(wanted, ended)
            if not live:
                self._clear()
                return list(ended.values())
            self._wait(live, deadline)

    def follow_job(self, job_id: str, timeout: float) -> JobView:
        """One job until it has ended. Raises TimedOut."""
        deadline = time.monotonic() + timeout
        ended: dict[str, JobView] = {}
        while live := self._look([job_id], ended):
            self._wait(live, deadline)
        self._clear()
        return ended[job_id]

    def _look(self, job_ids: Sequence[str], ended: dict[str, JobView]) -> list[JobView]:
        live: list[JobView] = []
        for job_id in job_ids:
            job = self._client.get_job(job_id)
            for step in job.steps:
                self._tell(job, step)
            if job.status in LIVE:
                live.append(job)
            else:
                ended[job.id] = job
        return live

    def _wait(self, live: Sequence[JobView], deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            self._clear()
            raise TimedOut(f"not done in time: {self._waiting_for(live[0])}")
        self._show(self._waiting_for(live[0]))
        self._client.get_job(live[0].id, wait_seconds=min(left, _POLL_SECONDS))

    def _waiting_for(self, job: JobView) -> str:
        step = next((step for step in job.steps if step.ended_at is None), None)
        kind = step.kind if step else job.type.lower()
        where = self._name(job.target_id or job.agent_id)
        trouble = f" (last try: {safe(job.last_error)})" if job.last_error else ""
        if kind == "prepare" and job.agent_id:
            return f"prepare: waiting for the agent {where} to make its key{trouble}"
        return f"{kind}{f' on {where}' if where else ''}{trouble}"

    def _name(self, thing_id: str) -> str:
        return safe(self._names.get(thing_id, thing_id))

    def _tell(self, job: JobView, step: StepView) -> None:
        if step.ended_at is None or step.id in self._told:
            return
        self._told.add(step.id)
        if self._quiet or step.status == "cancelled":
            return
        good = step.status == "done"
        mark = paint("\u2713", "green", sys.stderr) if good else paint("\u2717", "red", sys.stderr)
        took = (step.ended_at - step.created_at).total_seconds()
        where = self._name(job.target_id or job.agent_id)
        said = _DONE.get(step.kind, "") if good else safe(step.error)
        self._clear()
        sys.stderr.write(f"{mark} {step.kind:<8} {took:6.2f} s  {f'{where}: ' if where else ''}{said}\n")

    def _show(self, text: str) -> None:
        if self._quiet or not is_terminal(sys.stderr) or text == self._line:
            return
        self._clear()
        self._line = text
        sys.stderr.write(f"\u2026 {text}")
        sys.stderr.flush()

    def _clear(self) -> None:
        if self._line:
            sys.stderr.write("\r\x1b[K")
            self._line = ""


def refuse_failures(jobs: Sequence[JobView]) -> None:
    """Raise StageFailed when a job did not do what it was for; one replaced by a newer job does not count."""
    failed = [job for job in jobs if job.status == "Failed"]
    if failed:
        reasons = "; ".join(f"{job.type.lower()} failed: {safe(job.last_error) or 'no reason given'}" for job in failed)
        raise StageFailed(reasons)
    if jobs and all(job.status == "Cancelled" for job in jobs):
        raise StageFailed(f"cancelled: {safe(jobs[-1].last_error)}")

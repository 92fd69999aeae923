"""`certctl doctor`: is the control plane well, as far as an API key can see? Reads only.

What the key may not read is said, not guessed.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from certctl import __version__
from certctl.cli.doctor import Finding, examine, fail, judge_clock, judge_end, ok, tell, warn

if TYPE_CHECKING:
    from certctl.client import Client
    from certctl.client.models.agents import AgentView
    from certctl.client.models.jobs import JobView

_OWN_CERTIFICATE = "certctl-server"
_OWN_LIFE = timedelta(days=47)
_STUCK_AFTER = timedelta(minutes=5)
_RECENT = timedelta(days=1)
_MOST_NAMED = 5
_MOST_JOBS = 20


def check_server(client: Client) -> Finding:
    """The server answers and can work."""
    from certctl.client import calls

    state = client.send(calls.get_readiness())
    if state.status != "ready":
        return fail(f"{client.url} is not ready: {state.error or state.db}", "on the server: certctl-server doctor")
    return ok(f"{client.url} is ready, its database is {state.db}")


def check_key(client: Client) -> Finding:
    """The API key is good."""
    me = client.get_me()
    return ok(f"signed in as {me.actor_id} ({', '.join(me.roles)})")


def check_clock(client: Client) -> Finding:
    """The two clocks agree: tokens, leases and certificates' dates depend on it."""
    from certctl.client import calls

    before = datetime.now(UTC)
    told = client.send(calls.get_version()).server_time
    if told is None:
        return warn("the server does not tell its time", "update the server")
    return judge_clock(told, before, datetime.now(UTC), "the server's")


def check_versions(client: Client) -> list[Finding]:
    """This program, the server and the agents are neighbours: one minor version apart at most."""
    from certctl.client import calls

    version = client.send(calls.get_version()).version
    found: list[Finding] = []
    if not neighbours(version, __version__):
        found.append(warn(f"the server is certctl {version}, this program {__version__}", "bring both to one release"))
    for agent in _agents(client):
        if agent.capabilities and not neighbours(version, agent.version):
            said = f"agent {agent.name} is certctl {agent.version}, the server {version}"
            found.append(warn(said, f"update the agent on {agent.hostname}"))
    return found or [ok(f"everything is certctl {version} or a neighbour of it")]


def neighbours(one: str, other: str) -> bool:
    """Whether two releases are at most one minor version apart."""
    try:
        first, second = ([int(part) for part in text.split(".")[:2]] for text in (one, other))
    except ValueError:
        return one == other
    return first[0] == second[0] and abs(first[1] - second[1]) <= 1


def check_agents(client: Client) -> list[Finding]:
    """Every agent is heard from."""
    agents = _agents(client)
    silent = [agent for agent in agents if agent.status != "Online"]
    found = [
        warn(
            f"agent {agent.name} is {agent.status}, last heard from {_when(agent.last_heartbeat_at)}",
            f"on {agent.hostname}: certctl-agent doctor; for good: certctl agents retire {agent.name}",
        )
        for agent in silent[:_MOST_NAMED]
    ]
    if len(silent) > _MOST_NAMED:
        found.append(warn(f"and {len(silent) - _MOST_NAMED} more agents are silent", "certctl agents list"))
    return found or [ok(f"{len(agents)} agents, all heard from")]


def check_targets(client: Client) -> list[Finding]:
    """Every target has an agent that can do its work."""
    from certctl.client import calls

    agents = {agent.id: agent for agent in _agents(client)}
    targets = client.send(calls.TARGETS.list()).data
    found: list[Finding] = []
    for target in targets:
        if not target.enabled or target.retired_at is not None:
            continue
        agent = agents.get(target.agent_id)
        if agent is None:
            said = f"target {target.name} has no agent any more: nothing can be deployed there"
            found.append(fail(said, f"give it one: certctl targets update {target.id} --set agent_id=ID"))
        elif agent.status == "Offline":
            said = f"target {target.name} waits for agent {agent.name}, which is silent"
            found.append(fail(said, f"on {agent.hostname}: certctl-agent doctor"))
    return found[:_MOST_JOBS] or [ok(f"{len(targets)} targets, each with an agent")]


def check_stuck_steps(client: Client) -> list[Finding]:
    """No step waits for somebody who does not come."""
    now = datetime.now(UTC)
    found: list[Finding] = []
    for status in ("Running", "AwaitingCSR", "Pending"):
        for job in _jobs(client, status):
            if now - job.created_at >= _STUCK_AFTER and len(found) < _MOST_JOBS:
                found += _stuck(client.get_job(job.id), now)
    approvals = _jobs(client, "AwaitingApproval")
    if approvals:
        found.append(warn(f"{len(approvals)} jobs await approval", "certctl jobs list --status AwaitingApproval"))
    return found or [ok("no step is stuck")]


def _stuck(job: JobView, now: datetime) -> list[Finding]:
    step = next((step for step in job.steps if step.ended_at is None), None)
    if step is None or now - step.run_at < _STUCK_AFTER:
        return []
    who = f"agent {step.agent_id}" if step.agent_id else "the server's worker"
    said = f"{job.type} {job.id} of {job.certificate_id}: {step.kind} has waited for {who} since {_when(step.run_at)}"
    said += f" (last error: {job.last_error})" if job.last_error else ""
    where = "on its host: certctl-agent doctor" if step.agent_id else "on the server: certctl-server doctor"
    return [fail(said, f"{where}; or give it up: certctl jobs cancel {job.id}")]


def check_failed_jobs(client: Client) -> list[Finding]:
    """What failed since yesterday."""
    now = datetime.now(UTC)
    failed = [job for job in _jobs(client, "Failed") if job.completed_at and now - job.completed_at < _RECENT]
    found = [
        warn(f"{job.type} of {job.certificate_id} failed: {job.last_error}", f"certctl jobs show {job.id}")
        for job in failed[:_MOST_NAMED]
    ]
    if len(failed) > _MOST_NAMED:
        found.append(warn(f"and {len(failed) - _MOST_NAMED} more since yesterday", "certctl jobs list --status Failed"))
    return found or [ok("no job failed since yesterday")]


def check_own_certificate(client: Client) -> list[Finding]:
    """The servers' own TLS certificates, where certctl keeps them: one a data directory."""
    found: list[Finding] = []
    for own in client.list_certificates(q=_OWN_CERTIFICATE).data:
        if own.source != "own-tls" or own.status == "Archived":
            continue
        what, step = f"the server's own TLS certificate {own.id}", "on that server: certctl-server doctor"
        if own.expires_at is None:
            found.append(fail(f"{what} was never issued", step))
        else:
            step += f"; if that server is no more: certctl certs archive {own.id}"
            found.append(judge_end(what, own.expires_at, datetime.now(UTC), _OWN_LIFE, step))
    return found or [ok("the server brings its own TLS certificate: certctl-server doctor looks at it there")]


def check_certificates(client: Client) -> list[Finding]:
    """Certificates that have expired, failed, or lie within their renewal window."""
    found: list[Finding] = []
    for status, judge in (("Expired", fail), ("Failed", fail), ("Expiring", warn)):
        page = client.list_certificates(status=status, per_page=_MOST_NAMED)
        if page.total:
            names = ", ".join(row.name for row in page.data)
            more = f" and {page.total - len(page.data)} more" if page.total > len(page.data) else ""
            found.append(judge(f"{page.total} {status}: {names}{more}", f"certctl certs list --status {status}"))
    return found or [ok("no certificate is expired, failed or about to expire")]


def _agents(client: Client) -> list[AgentView]:
    return client.list_agents().data


def _jobs(client: Client, status: str) -> list[JobView]:
    return client.list_jobs(status=status, per_page=100).data


def _when(moment: datetime | None) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if moment else "never"


CHECKS = (
    check_server,
    check_key,
    check_clock,
    check_versions,
    check_agents,
    check_targets,
    check_stuck_steps,
    check_failed_jobs,
    check_own_certificate,
    check_certificates,
)


def run(client: Client, *, as_json: bool) -> int:
    """Examine the server that `client` speaks to; returns the exit code."""
    return tell(examine(CHECKS, client, vital=(check_server, check_key)), as_json=as_json)

"""`make bench BENCH=rollout`: a mass re-issue from asked to proven, by real servers and hosts that are simulated.

In a copy of a kept seed each certificate has a target of its own, on one of the agents; all are renewed by one call.
Every agent (`peers.hosts`, one process beside the servers on the same cores) makes a key and a CSR on its "host", the
local CA signs, the agent deploys, answers with its receipt, looks at what is served and says so. In the middle one
server process is killed. At the end the database is judged, and what the hosts say that they serve: each certificate
exactly one new version, one deployment with a receipt of that version, one look that proves it; none asked for twice,
nothing under way. An operator looks at the progress each second meanwhile; every ten it is printed. A run that takes
longer than `--minutes` stops there, tells how far it came and what is under way, and has failed.
Usage: bench/run.py rollout [--certificates N] [--agents N] [--seed N] [--into DIR] [--processes N] [--minutes N]
    [--keep]
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import httpx
import kept
import seed
import uvloop
from crowd import unverified
from inventory import slowly
from kit import arguments, load, milliseconds, tell
from ladder import cpu_seconds, tree

from certctl.control.enrolment import CREDENTIAL_PREFIX
from peers.fleet import Fleet, fleet
from peers.hosts import Hosts
from peers.postgres import Postgres

_DATABASE = "rollout"
_CREDENTIAL = f"{CREDENTIAL_PREFIX}rollout-"
_MARK = "rollout"
_TOLD_SECONDS = 10.0
_RATE = 400

_PREPARE = """
CREATE TEMP TABLE chosen AS
  SELECT c.id, row_number() OVER (ORDER BY c.id) - 1 AS n, v.id AS version_id
  FROM managed_certificates c JOIN certificate_versions v ON v.tenant_id = c.tenant_id AND v.certificate_id = c.id
    AND v.status = 'current'
  WHERE c.status = 'Active' ORDER BY c.id LIMIT {certificates};
INSERT INTO agents (tenant_id, id, name, hostname, status, registered_at, os, version, capabilities, credential_hash)
  SELECT 't-default', 'agent-r' || to_char(n, 'FM000000'), 'rollout-' || n, 'rollout-' || n, 'Offline', now(), 'linux',
    '1.0', '[]', encode(sha256(('{credential}' || n)::bytea), 'hex')
  FROM generate_series(0, {agents} - 1) n;
INSERT INTO deployment_targets (tenant_id, id, name, type, agent_id, config, enabled, created_at, updated_at)
  SELECT 't-default', 'tgt-r' || n, 'rollout-' || n, 'NGINX', 'agent-r' || to_char(n % {agents}, 'FM000000'),
    '{{"cert_path": "/etc/tls/site.crt", "key_path": "/etc/tls/site.key", "endpoint": "127.0.0.1:443"}}', true, now(),
    now()
  FROM chosen;
DELETE FROM certificate_target_mappings m USING chosen WHERE m.certificate_id = chosen.id;
INSERT INTO certificate_target_mappings (tenant_id, certificate_id, target_id)
  SELECT 't-default', id, 'tgt-r' || n FROM chosen;
UPDATE certificate_versions v SET holder_id = 'agent-r' || to_char(chosen.n % {agents}, 'FM000000')
  FROM chosen WHERE v.id = chosen.version_id;
UPDATE managed_certificates c SET environment = '{mark}' FROM chosen WHERE c.id = chosen.id;
ANALYZE managed_certificates; ANALYZE certificate_versions; ANALYZE certificate_target_mappings;
ANALYZE deployment_targets; ANALYZE agents;
"""
_OF_US = "JOIN managed_certificates c ON c.tenant_id = x.tenant_id AND c.id = x.certificate_id"
_NEW = f"SELECT x.* FROM certificate_versions x {_OF_US} WHERE c.environment = '{_MARK}' AND x.created_at > '{{since}}'"
_JUDGE = {
    "certificates": f"SELECT count(*) FROM managed_certificates WHERE environment = '{_MARK}' AND status = 'Active'",
    "new_versions": f"SELECT count(*) FROM ({_NEW}) v",
    "with_one_new_current": f"SELECT count(*) FROM (SELECT certificate_id FROM ({_NEW}) v WHERE v.status = 'current' "
    "GROUP BY certificate_id HAVING count(*) = 1) w",
    "serial_numbers": f"SELECT count(DISTINCT serial_number) FROM ({_NEW}) v",
    "current_in_all": f"SELECT count(*) FROM certificate_versions x {_OF_US} WHERE c.environment = '{_MARK}' "
    "AND x.status = 'current'",
    "deployments": f"SELECT count(*) FROM deployments d JOIN ({_NEW}) v ON v.id = d.version_id",
    "verified_with_receipt": f"SELECT count(*) FROM deployments d JOIN ({_NEW}) v ON v.id = d.version_id "
    "WHERE d.status = 'verified' AND d.receipt ->> 'served_after' = v.fingerprint_sha256",
    "proofs": f"SELECT count(*) FROM observations o JOIN deployments d ON d.id = o.deployment_id "
    f"JOIN ({_NEW}) v ON v.id = d.version_id WHERE o.observed_fingerprint = v.fingerprint_sha256",
    "told_verified": f"SELECT count(*) FROM audit_events e JOIN ({_NEW}) v ON v.id = e.details ->> 'version_id' "
    "WHERE e.type = 'deployment_job_completed'",
}
_LEFT = (
    f"SELECT count(*) FROM jobs x {_OF_US} WHERE c.environment = '{_MARK}' AND x.created_at > '{{since}}' "
    "AND x.status <> 'Completed'"
)
_SERVED = f"SELECT m.target_id, v.fingerprint_sha256 FROM ({_NEW}) v JOIN certificate_target_mappings m ON "
_SERVED += "m.certificate_id = v.certificate_id WHERE v.status = 'current'"


def agent_id(number: int) -> str:
    """As `_PREPARE` names them."""
    return f"agent-r{number:06}"


def credential(number: int) -> str:
    """What each shows."""
    return f"{_CREDENTIAL}{number}"


async def _shard(pipe: Any, port: int, count: int) -> None:
    hosts = Hosts(port, count, credential, agent_id, unverified(), arrive_seconds=count / _RATE)
    task = asyncio.create_task(hosts.live())
    while True:
        told = await asyncio.to_thread(pipe.recv)
        if told == "end":
            task.cancel()
            await asyncio.wait([task])
            return
        if task.done():
            task.result()
        pipe.send(
            {
                "there": len(hosts.there),
                "done": dict(hosts.done),
                "calls": dict(hosts.calls) | {"polls": hosts.polls, "polls_without_work": hosts.empty_polls},
                "failures": dict(hosts.failures),
                "refused": dict(hosts.refused),
                "served": hosts.served if told == "served" else {},
            }
        )


def _run_shard(*values: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_shard(*values))


class Agents:
    """All agents, in a process of their own."""

    def __init__(self, port: int, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, there = context.Pipe()
        self.process = context.Process(target=_run_shard, args=(there, port, count), daemon=True)
        self.process.start()

    def ask(self, word: str = "report") -> dict[str, Any]:
        """What they say of themselves. Raises RuntimeError when they are no more, or say nothing for a minute."""
        try:
            self._pipe.send(word)
            if not self._pipe.poll(60):
                raise RuntimeError("the agents' process says nothing")
            told: dict[str, Any] = self._pipe.recv()
        except (OSError, EOFError) as error:
            raise RuntimeError(f"the agents' process ended ({self.process.exitcode}); see what it wrote") from error
        return told

    def end(self) -> None:
        """They go."""
        with contextlib.suppress(OSError):
            self._pipe.send("end")
        self.process.join(20)
        if self.process.is_alive():
            self.process.kill()


@contextlib.contextmanager
def prepared(directory: Path, certificates: int, agents: int) -> Iterator[tuple[Postgres, str]]:
    """The copy of the seed, with a host for each certificate; the seed stays as it is."""
    with kept.started(directory) as server:
        server.sql(f"DROP DATABASE IF EXISTS {_DATABASE} WITH (FORCE)")
        slowly(server, f"CREATE DATABASE {_DATABASE} TEMPLATE {kept.DATABASE}", "postgres")
        try:
            values = {"certificates": certificates, "agents": agents, "mark": _MARK, "credential": _CREDENTIAL}
            slowly(server, _PREPARE.format(**values), _DATABASE)
            yield server, kept.url_of(server, _DATABASE)
        finally:
            server.sql(f"DROP DATABASE IF EXISTS {_DATABASE} WITH (FORCE)")


def measure(directory: Path, asked: Any) -> dict[str, Any]:
    """The figures of one rollout, its judgement passed."""
    settings = seed.QUIET | {
        "CERTCTL_SERVER_PROCESSES": str(asked.processes),
        "CERTCTL_SERVER_HANDSHAKES_PER_SECOND": str(_RATE),
    }
    with (
        prepared(directory, asked.certificates, asked.agents) as (server, url),
        tempfile.TemporaryDirectory(prefix="certctl-rollout-") as folder,
        fleet(Path(folder), url, **settings) as town,
    ):
        town.start_server()
        town.key = str(kept.facts_of(directory)["api_key"])
        agents = Agents(town.api_port, asked.agents)
        try:
            town.wait(lambda: agents.ask()["there"] == asked.agents, "every agent is there", 600)
            since = server.sql("SELECT now()", _DATABASE)
            return _play(town, server, agents, asked, since)
        finally:
            agents.end()


class Stopped(Exception):
    """The rollout came to nothing in the time that it had, or was halted; holds what was proven of it, and how."""

    def __init__(self, why: str, figures: dict[str, Any]) -> None:
        super().__init__(why)
        self.figures = figures


class Meter:
    """CPU, commits and calls from now on."""

    def __init__(self, town: Fleet, server: Postgres, agents: Agents) -> None:
        self._town, self._server, self._agents = town, server, agents
        self._began, self._used, self._commits = time.monotonic(), self._cpu(), _commits(server)
        self._calls = agents.ask()["calls"]

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._began

    def _cpu(self) -> list[float]:
        pids = (tree(self._town.server.pid), tree(self._server.process.pid), [self._agents.process.pid])
        return [cpu_seconds(each) for each in pids]

    def each(self, count: int, told: dict[str, Any]) -> dict[str, Any]:
        """What one of `count` certificates cost."""
        spent = [round((now - then) * 1000 / count, 3) for now, then in zip(self._cpu(), self._used, strict=True)]
        return {
            "seconds": round(self.seconds, 1),
            "proven_per_second": round(count / self.seconds, 1),
            **dict(zip(("server_cpu_ms_each", "database_cpu_ms_each", "agents_cpu_ms_each"), spent, strict=True)),
            # reads by themselves among them
            "transactions_each": round((_commits(self._server) - self._commits) / count, 2),
            "calls_each": {name: round((n - self._calls.get(name, 0)) / count, 2) for name, n in told["calls"].items()},
            "failures": told["failures"],
            "refused": told["refused"],
        }


def _play(town: Fleet, server: Postgres, agents: Agents, asked: Any, since: str) -> dict[str, Any]:
    meter, looks, told_at = Meter(town, server, agents), [], 0.0
    answer = town.post("/api/v1/certificates/bulk-renew", {"environment": _MARK, "max_failures": 0})
    path, recorded, killed, proven, told_of = f"/api/v1/batches/{answer['batch_id']}", 0.0, 0, 0, 0
    while proven < asked.certificates:
        looked = time.monotonic()
        batch = _look(town, path)
        looks.append(time.monotonic() - looked)
        proven = batch["progress"].get("Deployment", {}).get("Completed", 0)
        recorded = recorded or (meter.seconds if batch["status"] == "completed" else 0.0)
        if meter.seconds - told_at >= _TOLD_SECONDS:
            rate = (proven - told_of) / (meter.seconds - told_at)
            sys.stderr.write(f"{meter.seconds:.0f} s: {proven} of {asked.certificates} proven, {rate:.1f} a second\n")
            told_at, told_of = meter.seconds, proven
        why = ""
        if batch["status"] not in {"running", "completed"}:
            why = f"the batch is {batch['status']}: {batch['status_reason']}"
        elif meter.seconds > asked.minutes * 60:
            why = f"{proven} of {asked.certificates} are proven after {asked.minutes:g} minutes"
        if why:
            raise Stopped(
                why, {"proven": proven, "progress": batch["progress"]} | meter.each(proven or 1, agents.ask())
            )
        if proven >= asked.certificates // 2 and not killed:
            victim = tree(town.server.pid)[-1]
            os.kill(victim, signal.SIGKILL)
            killed = proven
        if proven < asked.certificates:
            time.sleep(1)
    told = agents.ask("served")
    return {
        "certificates": asked.certificates,
        "agents": asked.agents,
        "server_processes": asked.processes,
        "killed_a_process_at": killed,
        "recorded_seconds": round(recorded, 1),
        **meter.each(asked.certificates, told),
        "progress": milliseconds(looks),
        "judged": judge(server, asked.certificates, since, told["served"]),
    }


def _look(town: Fleet, path: str) -> Any:
    for _ in range(20):  # the process that has this connection may be the one that is killed
        with contextlib.suppress(OSError, AssertionError, httpx.HTTPError):
            return town.get(path)
        time.sleep(0.5)
    return town.get(path)


def _commits(server: Postgres) -> int:
    return int(server.sql(f"SELECT xact_commit FROM pg_stat_database WHERE datname = '{_DATABASE}'"))


def judge(server: Postgres, count: int, since: str, served: dict[str, str]) -> dict[str, int]:
    """Each certificate exactly once, by the database's word and by what the hosts serve."""
    found = {name: int(server.sql(sql.format(since=since), _DATABASE)) for name, sql in _JUDGE.items()}
    left = int(server.sql(_LEFT.format(since=since), _DATABASE))
    rows = server.sql(_SERVED.format(since=since), _DATABASE).splitlines()
    current = dict(row.split("|") for row in rows)
    if any(number != count for number in found.values()) or left or current != served:
        differ = sum(served.get(target) != fingerprint for target, fingerprint in current.items())
        raise RuntimeError(
            f"{count} certificates, but {found}; {left} jobs not completed; {differ} serve something else"
        )
    return found | {"serve_their_current_version": len(served)}


def main(given: list[str] | None = None) -> int:
    """Measure, judge, print, keep."""
    parser = arguments(__doc__)
    parser.add_argument("--certificates", type=int, default=10_000, help="so many are issued anew")
    parser.add_argument("--agents", type=int, default=1_000)
    parser.add_argument("--processes", type=int, default=2, help="of the server")
    parser.add_argument("--minutes", type=float, default=60.0, help="it has failed if it takes longer")
    parser.add_argument("--seed", type=int, default=100_000, help="certificates of the seed")
    parser.add_argument("--into", type=Path, help="where the seed lies, when not at its usual place")
    asked = parser.parse_args(given)
    directory = (asked.into or seed.usual(asked.seed)).resolve()
    if not (directory / kept.FACTS).exists():
        seed.make(directory, asked.seed, 20261126)
    before = load()
    try:
        figures = measure(directory, asked)
    except Stopped as error:
        tell("rollout", {"load_before": before, "stopped": str(error), "rollout": error.figures}, keep=False)
        return 1
    tell("rollout", {"load_before": before, "rollout": figures}, keep=asked.keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A bulk renewal outlives the replicas that run it: real server processes on one PostgreSQL, killed in the middle."""

from __future__ import annotations

import contextlib
import json
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from peers.fleet import Fleet
from peers.postgres import Postgres

CERTIFICATES = 1000  # four commits of items
AGENT = "agent-of-the-test"

SEED = """
INSERT INTO agents (tenant_id, id, name, status, registered_at, capabilities)
  VALUES ('t-default', '{agent}', 'nobody', 'Offline', now(), '[]');
INSERT INTO deployment_targets (tenant_id, id, name, type, agent_id, config, enabled, created_at, updated_at)
  SELECT 't-default', 'target-' || n, 'target-' || n, 'NGINX', '{agent}', '{{}}', true, now(), now()
  FROM generate_series(1, {count}) n;
INSERT INTO managed_certificates (tenant_id, id, name, common_name, sans, environment, issuer_id, renewal_policy_id,
    certificate_profile_id, status, tags, source, created_at, updated_at)
  SELECT 't-default', 'mc-' || n, 'mc-' || n, 'c' || n || '.example', ('["c' || n || '.example"]')::jsonb, 'bulk',
    'iss-local', 'rp-default', 'prof-default', 'Pending', '{{}}', 'API', now(), now()
  FROM generate_series(1, {count}) n;
INSERT INTO certificate_target_mappings (tenant_id, certificate_id, target_id)
  SELECT 't-default', 'mc-' || n, 'target-' || n FROM generate_series(1, {count}) n;
"""


class Replicas:
    """Server processes on one database, each with its own directory, started and killed one by one."""

    def __init__(self, directory: Path, server: Postgres) -> None:
        self.directory = directory
        self.url = server.new_database()
        self.postgres = server
        self.started: list[Fleet] = []
        self.key = ""

    def start(self, die_at: str = "") -> Fleet:
        folder = self.directory / f"replica-{len(self.started)}"
        folder.mkdir(parents=True)
        one = Fleet(folder, self.url)
        self.started.append(one)
        one.start_server(die_at)
        if not self.key:
            one.bootstrap()
        self.key = one.key = self.key or one.key
        return one

    def sql(self, statement: str) -> list[list[str]]:
        out = self.postgres.sql(statement, self.url.rpartition("/")[2])
        return [line.split("|") for line in out.splitlines()]

    def seed(self, count: int) -> None:
        self.sql(SEED.format(agent=AGENT, count=count))

    def close(self) -> None:
        for one in self.started:
            with contextlib.suppress(AssertionError):
                one.stop()


@pytest.fixture
def replicas(tmp_path, postgres_server):
    made = Replicas(tmp_path, postgres_server)
    try:
        yield made
    finally:
        made.close()


def judge(replicas: Replicas, batch: dict[str, Any], count: int) -> None:
    """Each certificate has exactly the one job that its item names; the totals are the items'."""
    assert (batch["status"], batch["total"], batch["done"]) == ("completed", count, count)
    assert (batch["skipped"], batch["failed"], batch["waiting"]) == (0, 0, 0)
    items = replicas.sql(f"SELECT certificate_id, status, job_ids FROM batch_items WHERE batch_id = '{batch['id']}'")
    assert len(items) == count
    assert {status for _, status, _ in items} == {"done"}
    named = {(certificate_id, job_id) for certificate_id, _, job_ids in items for job_id in json.loads(job_ids)}
    written = [
        tuple(row) for row in replicas.sql("SELECT certificate_id, id FROM jobs WHERE certificate_id LIKE 'mc-%'")
    ]
    assert len(written) == len(set(written)) == count, "one job a certificate, none twice"
    assert set(written) == named
    whole = [[str(count), str(count)]]
    ours = "subject_id LIKE 'mc-%'"
    judged = f"SELECT count(*), count(DISTINCT subject_id) FROM audit_events WHERE type = 'request_approved' AND {ours}"
    assert replicas.sql(judged) == whole, "each was approved with the commit that asked, once"
    steps = (
        "SELECT s.kind, s.status, count(*), count(DISTINCT s.job_id) FROM steps s JOIN jobs j ON j.id = s.job_id"
        " WHERE j.certificate_id LIKE 'mc-%' GROUP BY s.kind, s.status ORDER BY s.kind"
    )
    assert replicas.sql(steps) == [["approve", "done", *whole[0]], ["prepare", "ready", *whole[0]]]
    triggered = "SELECT count(*), count(DISTINCT subject_id) FROM audit_events WHERE type = 'renewal_triggered'"
    assert replicas.sql(triggered) == whole
    assert replicas.sql("SELECT count(*) FROM audit_events WHERE type = 'batch_completed'") == [["1"]]


def done(replicas: Replicas) -> int:
    ((number,),) = replicas.sql("SELECT done FROM batches")
    return int(number)


def written(replicas: Replicas) -> int:
    """How many certificates have a job, and an item that says so; the two are one number."""
    ((jobs, items),) = replicas.sql(
        "SELECT (SELECT count(DISTINCT certificate_id) FROM jobs WHERE certificate_id LIKE 'mc-%'"
        " AND status = 'AwaitingCSR'),"
        " (SELECT count(*) FROM batch_items WHERE status = 'done')"
    )
    assert jobs == items
    return int(items)


@pytest.mark.timeout(300)
def test_each_item_is_done_once_whoever_dies(replicas):
    """One replica dies before a commit of several items, the next behind one, the third by surprise; the last goes on."""
    first = replicas.start("commit.batch.items.before#2")
    replicas.seed(CERTIFICATES)
    with contextlib.suppress(httpx.HTTPError):  # the answer is lost with the replica
        first.call("POST", "/api/v1/certificates/bulk-renew", {"environment": "bulk", "max_failures": 0})
    assert first.server.wait(60) == -signal.SIGKILL
    before = done(replicas)
    assert 0 < before < CERTIFICATES, "what was in hand was rolled back, what was committed before it stands"
    assert written(replicas) == before, "no job without its result"
    second = replicas.start("commit.batch.items.after#1")
    assert second.server.wait(60) == -signal.SIGKILL
    behind = done(replicas)
    assert before < behind < CERTIFICATES, "the items whose commit was the last are counted"
    assert written(replicas) == behind
    third, last = replicas.start(), replicas.start()
    last.wait(lambda: done(replicas) > behind, "the batch goes on", 60)
    third.server.kill()
    assert third.server.wait(60) == -signal.SIGKILL
    (batch,) = last.get("/api/v1/batches")["data"]
    last.wait(lambda: last.get(f"/api/v1/batches/{batch['id']}")["status"] != "running", "the batch ends", 120)
    judge(replicas, last.get(f"/api/v1/batches/{batch['id']}"), CERTIFICATES)

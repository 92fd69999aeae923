"""Job history ends when it is told to, and nothing goes that a certificate's page, an open job or a batch needs."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec import structs

from certctl import settings
from certctl.control import job_pruning, waves
from certctl.core.batch import BatchItem
from certctl.core.errors import Misconfigured
from certctl.core.scope import Scope
from certctl.core.status import ItemStatus
from certctl.store import batches, migrate, schema
from certctl.store.tx import Database
from peers.inventory import NOW, TENANT, fill

KEPT = timedelta(days=90)
OLD = NOW - timedelta(days=200)


def job(name: str, **more: Any) -> dict[str, Any]:
    return {
        "tenant_id": TENANT, "id": name, "type": "Deployment", "certificate_id": "cert-00000001", "status": "Failed",
        "parent_id": "", "version_id": "", "idempotency_key": name, "body": {}, "scheduled_at": OLD, "created_at": OLD,
        "completed_at": OLD,
    } | more  # fmt: skip


def step(job_id: str, number: int, status: str = "done") -> dict[str, Any]:
    return {
        "tenant_id": TENANT, "id": f"step-{job_id}-{number}", "job_id": job_id, "kind": "deploy", "status": status,
        "run_at": OLD, "created_at": OLD,
    }  # fmt: skip


JOBS = [
    *(job(f"gone-{number}", status=status) for number, status in enumerate(("Failed", "Completed", "Cancelled"))),
    job("gone-of-an-ended-one", parent_id="gone-0"),
    job("young", completed_at=NOW - KEPT + timedelta(seconds=1)),
    job("waits", status="Pending", completed_at=None),
    job("begun-by-one-that-waits", parent_id="waits"),
    job("begins-one-that-runs"),
    job("runs", status="Running", completed_at=None, parent_id="begins-one-that-runs"),
    job("has-an-open-step"),
    job("brought-what-is-current", version_id="CURRENT"),
    # of a batch that is halted: it failed, what it began failed, what another began that goes before failed
    job("batch-failed", status="Failed", parent_id="batch-2"),
    job("batch-made", status="Completed", parent_id="batch-2"),
    job("batch-deployed", status="Failed", parent_id="batch-made"),
    job("batch-made-early", status="Completed", parent_id="batch-2", completed_at=OLD - timedelta(days=3)),
    job("batch-deployed-later", status="Failed", parent_id="batch-made-early"),
    job("batch-well", status="Completed", parent_id="batch-2"),
    job("within-a-batch", created_at=OLD + timedelta(days=50)),
]
STEPS = [
    *(step(f"gone-{number}", each) for number in range(3) for each in range(2)),
    step("has-an-open-step", 0, "ready"),
]
BATCH = {
    "tenant_id": TENANT, "id": "batch-1", "action": "renew", "dry_run": False, "status": "running", "selection": {},
    "wanted": {}, "scope": {}, "run_at": OLD, "created_at": OLD + timedelta(days=10), "updated_at": OLD,
}  # fmt: skip


HALTED = BATCH | {"id": "batch-2", "status": "halted", "created_at": OLD}


async def counts_what_is_gone(database: Database, scope: Scope) -> None:
    """A batch that is resumed when its jobs are gone bears no more failures than before."""
    item = BatchItem(
        tenant_id=TENANT, batch_id="batch-2", seq=2, certificate_id="cert-00000001", status=ItemStatus.PENDING, reason="",
        error_kind="", job_ids=[], ended_at=None,
    )  # fmt: skip
    async with database.read() as tx:
        batch = structs.replace(await batches.batch(tx, scope, "batch-2"), wave_size=1)
        assert batch.jobs_failed_gone == 3, "each once, in whichever part it went"
        assert (await batches.batch(tx, scope, "batch-1")).jobs_failed_gone == 0
        for bears, halts in ((2, True), (3, False)):
            gate = await waves.gate(tx, scope, structs.replace(batch, max_failures=bears), item, NOW)
            assert bool(gate.halt) is halts, gate


async def test_what_ended_long_ago_goes_and_what_is_needed_stays(database_url, monkeypatch):
    database = Database(database_url)
    ctx: Any = SimpleNamespace(database=database, scope=Scope.whole(TENANT), now=lambda: NOW)

    async def ids(table: sa.Table) -> set[str]:
        async with database.read() as tx:
            return set((await tx.execute(sa.select(table.c.id))).scalars())

    try:
        await migrate.migrate(database)
        await fill(database, 3)
        async with database.begin("test") as tx:
            # each of these made a version that is current
            await tx.execute(sa.update(schema.jobs).values(completed_at=OLD, created_at=OLD))
            current = await tx.scalar(sa.select(schema.versions.c.id).limit(1))
            rows = [each | ({"version_id": current} if each["version_id"] else {}) for each in JOBS]
            await tx.execute(sa.insert(schema.jobs), rows)
            await tx.execute(sa.insert(schema.steps), STEPS)
            await tx.execute(sa.insert(schema.batches), [BATCH, HALTED])
        before = await ids(schema.jobs)
        monkeypatch.setattr(job_pruning, "_PART", 2)
        monkeypatch.setattr(job_pruning, "_MOST", 1)
        first = await job_pruning.prune_due(ctx, KEPT)
        assert 1 <= first <= 2, "one run goes no further than it may"
        monkeypatch.setattr(job_pruning, "_MOST", 1000)
        await job_pruning.prune_due(ctx, KEPT)
        gone = before - await ids(schema.jobs)
        of_a_batch = {job["id"] for job in JOBS if job["id"].startswith("batch-")}
        assert gone == {"gone-0", "gone-1", "gone-2", "gone-of-an-ended-one"} | of_a_batch
        await counts_what_is_gone(database, ctx.scope)
        assert await ids(schema.steps) == {"step-has-an-open-step-0"}
        async with database.begin("test") as tx:
            await tx.execute(sa.update(schema.batches).values(status="completed"))
        assert await job_pruning.prune_due(ctx, KEPT) == 1
        assert "within-a-batch" not in await ids(schema.jobs)
        assert await job_pruning.prune_due(ctx, KEPT) == 0
    finally:
        await database.close()


def test_a_retention_of_minutes_is_refused(tmp_path):
    with pytest.raises(Misconfigured, match="CERTCTL_JOB_RETENTION"):
        settings.load({"CERTCTL_DATA_DIR": str(tmp_path), "CERTCTL_JOB_RETENTION": "5m"})
    assert settings.load({"CERTCTL_DATA_DIR": str(tmp_path)}).job_retention == timedelta(0)

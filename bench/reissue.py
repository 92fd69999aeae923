"""`make bench BENCH=reissue`: a mass re-issue, in a copy of a kept seed: frozen, asked for, judged by every rule and
approved where every rule allows it.

Each certificate's request, its verdict and its result are one commit with those of its neighbours, and wait for its
host's key then. One process does all of it, with nobody beside it; its CPU, PostgreSQL's and the statements sent are
told for one certificate; memory is the most that it ever had. `bench/run.py rollout` plays the deployment.
Usage: bench/run.py reissue [--certificates N] [--most N] [--into DIR] [--keep]
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import asyncpg
import kept
import seed
import sqlalchemy as sa
from inventory import slowly
from kit import arguments, load, tell
from ladder import cpu_seconds, memory_mib, tree

from certctl import settings
from certctl.bootstrap import open_house
from certctl.control import batches as control
from certctl.core.actor import SYSTEM
from certctl.core.batch import Selection
from certctl.core.status import BatchAction
from certctl.lifecycle import flow
from certctl.lifecycle.context import Context
from certctl.store import batches as store
from peers.postgres import Postgres

_STEPS = 100
_MARK = "mass-reissue"


def measure(directory: Path, most: int) -> dict[str, Any]:
    """The figures of one mass re-issue; the seed stays as it is."""
    with kept.started(directory) as server:
        server.sql("DROP DATABASE IF EXISTS reissue")
        slowly(server, f"CREATE DATABASE reissue TEMPLATE {kept.DATABASE}", "postgres")
        try:
            slowly(
                server,
                "CREATE TEMP TABLE chosen AS SELECT c.id FROM managed_certificates c JOIN certificate_target_mappings "
                "m ON m.tenant_id = c.tenant_id AND m.certificate_id = c.id WHERE c.status = 'Active' ORDER BY c.id "
                f"LIMIT {most}; UPDATE managed_certificates SET environment = '{_MARK}' WHERE id IN (SELECT id FROM "
                "chosen); ANALYZE managed_certificates",
                "reissue",
            )
            return asyncio.run(_play(server, kept.url_of(server, "reissue")))
        finally:
            server.sql("DROP DATABASE IF EXISTS reissue WITH (FORCE)")


async def _play(server: Postgres, url: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="certctl-reissue-") as folder:
        environ = {
            "CERTCTL_DATABASE_URL": url,
            "CERTCTL_CONFIG_ENCRYPTION_KEY": seed.CONFIG_KEY,
            "CERTCTL_DATA_DIR": folder,
            **seed.QUIET,
        }
        async with open_house(settings.load(environ)) as house:
            before, sent = memory_mib([os.getpid()]), Counter[str]()
            engine = house.ctx.database.engine.sync_engine
            sa.event.listen(engine, "before_cursor_execute", lambda *_given: sent.update(["statements"]))
            database = cpu_seconds(tree(server.process.pid))
            recorded, batch = await _timed(_record(house.ctx))
            database = cpu_seconds(tree(server.process.pid)) - database
            steps = await _left_to_judge(house.ctx)
            highest = memory_mib([os.getpid()])
    await _judge(url, batch.done, steps)
    return {
        "certificates": batch.total,
        "done": batch.done,
        "asked_for_and_approved": recorded
        | {
            "per_second": round(batch.total / recorded["seconds"], 1),
            "process_cpu_ms_each": round(recorded["cpu_seconds"] * 1000 / batch.total, 3),
            "database_cpu_ms_each": round(database * 1000 / batch.total, 3),
            "statements_each": round(sent["statements"] / batch.total, 3),
        },
        "memory_before_mib": before,
        "memory_after_mib": highest,
    }


async def _timed(work: Any) -> tuple[dict[str, float], Any]:
    began, cpu = time.perf_counter(), time.process_time()
    found = await work
    took = {"seconds": round(time.perf_counter() - began, 2), "cpu_seconds": round(time.process_time() - cpu, 2)}
    return took, found


async def _record(ctx: Context) -> Any:
    wish = control.Wish(
        action=BatchAction.RENEW,
        permission="cert.issue",
        selection=Selection(environment=_MARK),
        wanted={"force": False},
        key_id="bench",
        lease_owner=ctx.owner,
    )
    batch = await control.create(ctx, ctx.scope, SYSTEM, wish)
    await control.work(ctx, batch, ctx.scope, lambda: True)
    async with ctx.database.read() as tx:
        return await store.batch(tx, ctx.scope, batch.id)


async def _left_to_judge(ctx: Context) -> int:
    """Run what a worker would find to do: nothing, where the batch has judged all; how many steps there were."""
    steps = 0
    while claimed := await flow.claim(ctx, _STEPS):
        await flow.run_claimed(ctx, claimed)
        steps += len(claimed)
    return steps


async def _judge(url: str, done: int, left: int) -> None:
    """Each item has its job, no certificate two, and every request has been judged, once, by the commit that asked."""
    connection = await asyncpg.connect(url.replace("postgres://", "postgresql://", 1))
    try:
        asked = await connection.fetchrow(
            "SELECT count(*), count(DISTINCT certificate_id), count(*) FILTER (WHERE status = 'AwaitingCSR') FROM jobs "
            "WHERE parent_id LIKE 'batch-%'"
        )
        judged = await connection.fetchval(
            "SELECT count(*) FROM steps s JOIN jobs j ON j.tenant_id = s.tenant_id AND j.id = s.job_id "
            "WHERE j.parent_id LIKE 'batch-%' AND s.kind = 'approve' AND s.status = 'done'"
        )
        told = await connection.fetchval(
            "SELECT count(*) FROM audit_events e JOIN jobs j ON j.id = e.details ->> 'job_id' "
            "WHERE j.parent_id LIKE 'batch-%' AND e.type = 'request_approved'"
        )
    finally:
        await connection.close()
    if not done == asked[0] == asked[1] == asked[2] == judged == told or left:
        raise RuntimeError(f"{done} done, jobs {tuple(asked)}, {judged} judged, {told} told so, {left} steps were left")


def main(given: list[str] | None = None) -> int:
    """Measure, print, keep."""
    parser = arguments(__doc__)
    parser.add_argument("--certificates", type=int, default=1_000_000, help="of the seed")
    parser.add_argument("--most", type=int, default=100_000, help="so many of them are issued anew")
    parser.add_argument("--into", type=Path, help="where the seed lies, when not at its usual place")
    wanted = parser.parse_args(given)
    directory = (wanted.into or seed.usual(wanted.certificates)).resolve()
    if not (directory / kept.FACTS).exists():
        seed.make(directory, wanted.certificates, 20261126)
    before = load()
    figures = {"database": "postgresql", "load_before": before, "mass_reissue": measure(directory, wanted.most)}
    tell("reissue", figures, keep=wanted.keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`make bench BENCH=footprint`: what one renewal leaves behind and costs: rows, bytes, CPU of server and database.

A real server on PostgreSQL, a real agent, a private NGINX: one certificate is renewed again and again, each time
issued, recorded, deployed, seen served and audited. What the tables then hold more, divided by the renewals.
Usage: bench/run.py footprint [--renewals N] [--keep]
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from kit import arguments, load, tell
from ladder import cpu_seconds, tree
from run import whole_life

from peers.fleet import Fleet, fleet
from peers.postgres import Postgres, postgres

IDLE_SECONDS = 15
_LISTED = "relkind = 'r' AND relnamespace = 'public'::regnamespace"


def footprint(directory: Path, server: Postgres, renewals: int) -> dict[str, Any]:
    """All figures."""
    url = server.new_database()
    database = url.rpartition("/")[2]
    directory.mkdir(parents=True)
    with fleet(directory, url, CERTCTL_STEP_LEASE="30s", CERTCTL_LOG_LEVEL="warn") as town:
        town.furnish()
        whole_life(town, 3)
        _settle(town)
        before = _held(server, database)
        assert town.server is not None
        pids = (town.server.pid, server.process.pid)
        idle = _spent(pids, lambda: time.sleep(IDLE_SECONDS))
        busy = _spent(pids, lambda: _renew(town, renewals))
        _settle(town)
        after = _held(server, database)
    # what both would have spent in that time anyway is left aside
    server_cpu, database_cpu = (
        max(0.0, each - lazy * busy.seconds / idle.seconds) for each, lazy in zip(busy.cpu, idle.cpu, strict=True)
    )
    rows = {name: (after[name][0] - before[name][0]) / renewals for name in after}
    size = {name: (after[name][1] - before[name][1]) / renewals for name in after}
    return {
        "renewals": renewals,
        "seconds": round(busy.seconds, 1),
        "rows_per_renewal": round(sum(rows.values()), 1),
        "bytes_per_renewal": round(sum(size.values())),
        "rows": {name: round(each, 2) for name, each in sorted(rows.items()) if each},
        "bytes": {name: round(each) for name, each in sorted(size.items()) if each},
        "server_cpu_ms_per_renewal": round(1000 * server_cpu / renewals, 1),
        "database_cpu_ms_per_renewal": round(1000 * database_cpu / renewals, 1),
        "server_cpu_cores_idle": round(idle.cpu[0] / idle.seconds, 3),
    }


@dataclass(frozen=True)
class Spent:
    """How long something took, and the CPU seconds that each of some processes spent meanwhile."""

    seconds: float
    cpu: list[float]


def _spent(pids: Sequence[int], act: Callable[[], None]) -> Spent:
    already, began = [cpu_seconds(tree(pid)) for pid in pids], time.perf_counter()
    act()
    more = [cpu_seconds(tree(pid)) - before for pid, before in zip(pids, already, strict=True)]
    return Spent(time.perf_counter() - began, more)


def _renew(town: Fleet, renewals: int) -> None:
    path = "/api/v1/jobs?certificate_id=cert-shop&type=Deployment&sort=-createdAt"
    for _ in range(renewals):
        had = town.get(path)["total"]
        town.post("/api/v1/certificates/cert-shop/renew")
        town.wait(lambda had=had: _is_served(town, path, had + 1), "the renewed certificate is seen served", 120)


def _is_served(town: Fleet, path: str, deployments: int) -> bool:
    """Whether so many deployments were asked for and the newest of them is done: verified where it is served."""
    page = town.get(path)
    return page["total"] == deployments and page["data"][0]["status"] == "Completed"


def _settle(town: Fleet) -> None:
    """Until what follows a renewal (sealing, notices) is written too."""
    time.sleep(5)
    town.get("/health")


def _held(server: Postgres, database: str) -> dict[str, tuple[int, int]]:
    """Rows and bytes (indexes included) of each table."""
    server.sql("VACUUM ANALYZE", database)
    names = server.sql(f"SELECT relname FROM pg_class WHERE {_LISTED}", database).split()
    counted = " UNION ALL ".join(
        f"SELECT '{name}' AS name, count(*) AS rows, pg_total_relation_size('{name}') AS size FROM \"{name}\""
        for name in names
    )
    told = json.loads(server.sql(f"SELECT json_agg(x) FROM ({counted}) x", database))
    return {each["name"]: (each["rows"], each["size"]) for each in told}


def main(given: list[str] | None = None) -> int:
    """Measure, print, keep."""
    parser = arguments(__doc__)
    parser.add_argument("--renewals", type=int, default=60)
    asked = parser.parse_args(given)
    with tempfile.TemporaryDirectory(prefix="certctl-footprint-") as folder, postgres() as server:
        before = load()
        figures = footprint(Path(folder) / "fleet", server, asked.renewals)
    tell("footprint", {"database": "postgresql", "load_before": before} | figures, keep=asked.keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())

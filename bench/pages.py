"""`make bench BENCH=pages`: pages of the dashboard over 100,000 certificates: server time, and what is transferred.

One server process, one connection, one page after the other, as a person opens them: real TLS, a session's cookies, the
whole answer read. Beside them stands the limit of the same run: a page that asks nothing of the database but who
asks. The inventory is `peers/inventory` (--certificates N), or a fleet of samples of as many (--fleet DIR).
Usage: bench/run.py pages [--certificates N] [--rounds N] [--only DATABASE] [--fleet DIR] [--keep]
"""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import re
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import httpx
from kit import arguments, load, milliseconds, tell

from certctl.store.tx import Database
from peers.fleet import fleet
from peers.inventory import fill, host
from peers.postgres import postgres

SEED = 20261126
QUIET = {"CERTCTL_RATE_LIMIT_ENABLED": "false", "CERTCTL_STEP_LEASE": "30s", "CERTCTL_LOG_LEVEL": "warn"}
_STATIC = re.compile(r'(?:src|href)="(/static/[^"#]+)')


def pages(directory: Path, url: str | None, count: int, rounds: int) -> dict[str, Any]:
    """All figures, on an empty PostgreSQL database at `url`, else on SQLite."""
    directory.mkdir(parents=True)
    with fleet(directory, url, **QUIET) as town:
        town.start_server()
        town.bootstrap()
        town.stop_server()
        started = time.perf_counter()
        asyncio.run(_fill(url or f"sqlite:///{town.server_dir}/certctl.db", count))
        seeded = round(time.perf_counter() - started, 1)
        town.start_server()
        figures = _measure(f"https://localhost:{town.api_port}", town.ca_path, town.key, _asked(count), rounds)
        return {"inventory": count, "seeded_in_seconds": seeded, "load_before": load()} | figures


def of_samples(directory: Path, count: int, rounds: int) -> dict[str, Any]:
    """The same of a fleet of samples, hosts played beside it."""
    log = directory.parent / f"{directory.name}.bench.log"
    command = [sys.executable, "-m", "certctl.cli.main", "demo", "--fleet", "--data-dir", str(directory)]
    with log.open("wb") as out:
        running = subprocess.Popen([*command, "--certificates", str(count)], stdout=out, stderr=out)
    try:
        until = time.monotonic() + 900
        while "hosts are played" not in log.read_text(errors="replace"):
            if running.poll() is not None or time.monotonic() > until:
                raise RuntimeError(log.read_text())
            time.sleep(0.5)
        memory = json.loads((directory / "demo.json").read_text())
        base, ca_path = f"https://localhost:{memory['ports']['api']}", directory / "server" / "ca.pem"
        with _client(base, ca_path) as client:
            asked = {"Authorization": f"Bearer {memory['api_key']}"}
            rows = client.get("/api/v1/certificates?page_size=500", headers=asked).json()
        lot = random.Random(SEED)
        known = _paths(
            lambda: lot.choice(rows["data"])["id"], lambda: lot.choice(rows["data"])["name"], "pay.example.com"
        )
        figures = _measure(base, ca_path, memory["api_key"], known, rounds)
        return {"inventory": rows["total"], "load_before": load()} | figures
    finally:
        running.terminate()
        running.wait(60)


def _asked(count: int) -> dict[str, Callable[[], str]]:
    lot = random.Random(SEED)
    return _paths(lambda: f"cert-{lot.randrange(count):08}", lambda: host(lot.randrange(count)), "zone7.example.com")


def _paths(one: Callable[[], str], name: Callable[[], str], domain: str) -> dict[str, Callable[[], str]]:
    return {
        "limit_no_inventory": lambda: "/settings",
        "overview": lambda: "/",
        "certificates": lambda: "/certificates",
        "certificates_filtered": lambda: "/certificates?status=Expiring&environment=production",
        "certificates_by_end": lambda: "/certificates?sort=expiresAt",
        "search_name": lambda: f"/certificates?q={name()}",
        "search_domain": lambda: f"/certificates?q={domain}",
        "palette": lambda: f"/find?q={name()[:9]}",
        "certificate": lambda: f"/certificates/{one()}",
        "jobs": lambda: "/jobs",
        "agents": lambda: "/agents",
        "targets": lambda: "/targets",
        "violations": lambda: "/violations",
        "audit": lambda: "/audit",
    }


async def _fill(url: str, count: int) -> None:
    database = Database(url)
    try:
        await fill(database, count)
    finally:
        await database.close()


def _client(base: str, ca_path: Path) -> httpx.Client:
    return httpx.Client(base_url=base, verify=ssl.create_default_context(cafile=str(ca_path)), timeout=120)


def _measure(
    base: str, ca_path: Path, key: str, asked: dict[str, Callable[[], str]], rounds: int
) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    with _client(base, ca_path) as client:
        client.post("/auth/login", json={"api_key": key}).raise_for_status()
        began = time.perf_counter()
        client.get("/").raise_for_status()
        first = round((time.perf_counter() - began) * 1000, 1)
        for name, path in asked.items():
            took: list[float] = []
            for number in range(rounds + 3):
                address = path()
                began = time.perf_counter()
                answer = client.get(address, headers={"Accept-Encoding": "gzip"})
                if number >= 3:
                    took.append(time.perf_counter() - began)
                if answer.status_code != 200:
                    raise RuntimeError(f"{address}: {answer.status_code}")
            found[name] = milliseconds(took) | _weight(client, answer)
            sys.stderr.write(f"{name}: {json.dumps(found[name])}\n")
    found["overview"]["very_first_ms"] = first
    return found


def _weight(client: httpx.Client, page: httpx.Response) -> dict[str, int]:
    """Bytes as they go over the wire, headers left aside: the page, and its files the first time they are asked for."""
    files = 0
    for asset in sorted(set(_STATIC.findall(page.text))):
        with client.stream("GET", asset, headers={"Accept-Encoding": "gzip"}) as sent:
            files += sum(len(chunk) for chunk in sent.iter_raw())
    packed = len(gzip.compress(page.content, 6))
    sent_bytes = int(page.headers.get("content-length", len(page.content)))
    return {"page_bytes": sent_bytes, "page_bytes_if_compressed": packed, "files_bytes": files}


def main(given: list[str] | None = None) -> int:
    """Measure, print, keep."""
    parser = arguments(__doc__)
    parser.add_argument("--certificates", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--fleet", type=Path, help="a directory of `certctl demo --fleet`, filled first if it is not")
    asked = parser.parse_args(given)
    figures: dict[str, Any] = {}
    if asked.fleet:
        figures["samples"] = of_samples(asked.fleet, asked.certificates, asked.rounds)
        tell("pages", figures, keep=asked.keep)
        return 0
    with tempfile.TemporaryDirectory(prefix="certctl-pages-") as folder:
        if asked.only != "sqlite":
            with postgres() as server:
                figures["postgresql"] = pages(
                    Path(folder) / "pg", server.new_database(), asked.certificates, asked.rounds
                )
        if asked.only != "postgresql":
            figures["sqlite"] = pages(Path(folder) / "sqlite", None, asked.certificates, asked.rounds)
    tell("pages", figures, keep=asked.keep)
    return 0


if __name__ == "__main__":
    sys.exit(main())

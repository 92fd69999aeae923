"""`make bench`: measure the main job with real processes and print the figures as JSON, with the machine they come
from.

Each figure stands beside the limit measured in the same run (raw ECDSA signatures a second). Machines are noisy:
compare ratios within one run. Usage: bench/run.py [--rounds N] [--issuances N] [--only sqlite|postgresql] [--keep]
`bench/run.py acme|alerts|imports|lists|bulk|summary ...` is one bench alone; `bench/run.py chaos ...` measures nothing,
see chaos_run.py.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import re
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import httpx
from kit import machine
from summary import summary

from certctl.core.names import parse_names
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.csr import build_csr, csr_pem
from certctl.pki.keys import generate_private_key
from peers.fleet import Fleet, fleet
from peers.postgres import postgres


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of them lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def whole_life(town: Fleet, rounds: int) -> dict[str, float]:
    """Request to verified served certificate, again and again on one host, each with a new key."""
    took: list[float] = []
    for number in range(rounds):
        started = time.perf_counter()
        if number == 0:
            town.request(validity_seconds=86400)
        else:
            town.post("/api/v1/certificates/cert-shop/renew")
        job = _newest(town, "Deployment", number + 1)
        job = town.get(f"/api/v1/jobs/{job['id']}?wait=10")
        while job["status"] not in {"Completed", "Failed", "Cancelled"}:
            job = town.get(f"/api/v1/jobs/{job['id']}?wait=10")
        if job["status"] != "Completed":
            raise RuntimeError(f"round {number} ended as {job['status']}: {job.get('last_error')}")
        took.append(time.perf_counter() - started)
    return {
        "rounds": rounds,
        "p50_seconds": round(statistics.median(took), 4),
        "p99_seconds": round(percentile(took, 0.99), 4),
        "first_seconds": round(took[0], 4),
    }


def _newest(town: Fleet, kind: str, count: int) -> dict:
    """The deployment job that this round wrote."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        page = town.get(f"/api/v1/jobs?certificate_id=cert-shop&type={kind}")
        if page["total"] >= count:
            return page["data"][0]
        time.sleep(0.005)
    raise RuntimeError("no deployment was asked for")


async def issuance(town: Fleet, count: int, clients: int) -> dict[str, float]:
    """Certificates a second through the JSON API, one by one: stored, audited, signed, recorded."""
    key = generate_private_key(KeyAlgorithm.ECDSA_P256)
    csrs = []
    for number in range(count):
        name = f"n{number}.bench.example"
        csrs.append((name, csr_pem(build_csr(key, name, parse_names([name])))))
    context = ssl.create_default_context(cafile=str(town.ca_path))
    waiting = iter(csrs)
    took: list[float] = []

    async def client() -> None:
        async with httpx.AsyncClient(
            base_url=town.url, verify=context, headers={"Authorization": f"Bearer {town.key}"}, timeout=60
        ) as session:
            for name, csr in waiting:
                started = time.perf_counter()
                reply = await session.post("/api/v1/certificates", json={"common_name": name, "csr_pem": csr})
                reply.raise_for_status()
                took.append(time.perf_counter() - started)

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    elapsed = time.perf_counter() - started
    for _ in range(600):
        active = {row["status"]: row["count"] for row in town.get("/api/v1/stats/certificates-by-status")}
        if active.get("Pending", 0) == 0:
            break
        await asyncio.sleep(0.05)
    settled = time.perf_counter() - started
    return {
        "count": count,
        "clients": clients,
        "per_second": round(count / settled, 1),
        "answered_per_second": round(count / elapsed, 1),
        "p50_seconds": round(statistics.median(took), 4),
        "p99_seconds": round(percentile(took, 0.99), 4),
    }


def memory_mb(pid: int) -> float:
    """Resident memory of a process."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return round(int(found[1]) / 1024, 1) if found else 0.0


def start_seconds(command: list[str], times: int = 5) -> float:
    """Median time of a whole process that only says its version."""
    took = []
    for _ in range(times):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        took.append(time.perf_counter() - started)
    return round(statistics.median(took), 3)


def agent_start(town: Fleet, times: int = 3) -> float:
    """Median time from the process's start to its saying that it is at work."""
    log, took = town.directory / "agent.log", []
    for _ in range(times):
        town.stop_agent()
        said = log.read_text().count("agent.started")
        started = time.perf_counter()
        town.start_agent()
        while log.read_text().count("agent.started") == said:
            time.sleep(0.002)
        took.append(time.perf_counter() - started)
    return round(statistics.median(took), 3)


def measure(kind: str, rounds: int, issuances: int) -> dict[str, object]:
    """All figures on one database."""
    with tempfile.TemporaryDirectory() as directory:
        if kind == "sqlite":
            figures = _measure(Path(directory) / "fleet", None, rounds, issuances)
            return figures | {"stats_summary": summary(Path(directory), None)}
        with postgres() as server:
            figures = _measure(Path(directory) / "fleet", server.new_database(), rounds, issuances)
            return figures | {"stats_summary": summary(Path(directory), server.new_database())}


def _measure(directory: Path, url: str | None, rounds: int, issuances: int) -> dict[str, object]:
    directory.mkdir(parents=True)
    with fleet(directory, url, CERTCTL_STEP_LEASE="30s", CERTCTL_LOG_LEVEL="warn") as town:
        started = time.perf_counter()
        town.nginx.start()
        town.start_server()
        ready = time.perf_counter() - started
        town.stop_server()
        town.nginx.stop()
        town.furnish()
        assert town.server is not None
        assert town.agent is not None
        figures: dict[str, object] = {"server_ready_on_empty_seconds": round(ready, 3)}
        figures["agent_start_seconds"] = agent_start(town)
        figures["agent_idle_rss_mb"] = memory_mb(town.agent.pid)
        figures["request_to_verified"] = whole_life(town, rounds)
        figures["issuance"] = asyncio.run(issuance(town, issuances, 8))
        figures["server_rss_mb"] = memory_mb(town.server.pid)
        figures["agent_rss_mb"] = memory_mb(town.agent.pid)
        return figures


def limit() -> dict[str, float]:
    """What one core signs with P-256 here and now: no CA written on OpenSSL can issue faster a core."""
    text = subprocess.run(
        ["openssl", "speed", "-seconds", "2", "ecdsap256"], check=True, capture_output=True, text=True
    ).stdout
    signs = float(text.strip().splitlines()[-1].split()[-2])
    return {"openssl_ecdsa_p256_signs_per_second": signs}


def main() -> int:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--issuances", type=int, default=400)
    parser.add_argument("--only", choices=("sqlite", "postgresql"))
    parser.add_argument("--keep", action="store_true", help="write the figures under bench/results")
    asked = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT
    ).stdout.strip()
    kinds = [asked.only] if asked.only else ["sqlite", "postgresql"]
    figures: dict[str, object] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "machine": machine(),
        "limit": limit(),
        "cli_start_seconds": start_seconds([sys.executable, "-m", "certctl.cli.main", "--help"]),
    }
    for kind in kinds:
        figures[kind] = measure(kind, asked.rounds, asked.issuances)
    text = json.dumps(figures, indent=2)
    sys.stdout.write(text + "\n")
    if asked.keep:
        target = ROOT / "bench" / "results" / f"{datetime.now(UTC):%Y%m%d}-{commit or 'none'}.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(text + "\n")
    return 0


# `bench/run.py NAME ...` runs one of these alone, with its own arguments
PARTS = {
    "footprint": "footprint",
    "inventory": "inventory",
    "reissue": "reissue",
    "rollout": "rollout",
    "seed": "seed",
    "acme": "acme_flows",
    "alerts": "alerts",
    "bulk": "bulk",
    "chaos": "chaos_run",
    "crl": "crl",
    "crowd": "crowd",
    "soak": "soak",
    "revoke": "revoke",
    "identity": "identity",
    "issue": "issue",
    "imports": "imports",
    "lists": "lists",
    "ocsp": "ocsp",
    "pages": "pages",
    "summary": "summary",
    "audit": "audit",
}

if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in PARTS:
        sys.exit(importlib.import_module(PARTS[sys.argv[1]]).main(sys.argv[2:]))
    status = main()
    for part in ("lists", "bulk"):
        status = importlib.import_module(PARTS[part]).main([]) or status
    sys.exit(status)

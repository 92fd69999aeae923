"""What server, agent and database need at 500/100, 5,000/1,000 and 50,000/10,000 certificates/agents.

Resident memory and CPU time of the server's processes while its agents poll and beat as real ones do (a long poll of
25 s and a heartbeat each 30 s, on a kept connection each), over real TLS from one asyncio client. CPU time is what the
work costs, whatever else the machine does. A rung whose agents do not fit on this machine is measured with fewer, and
says so. One real agent is measured by itself.

Usage: bench/ladder.py [--window SECONDS] [--most-agents N] [--rungs 500/100,...]; prints JSON, keeps it in results.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import platform
import random
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Coroutine, Iterable
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import sqlalchemy as sa

from certctl.store import schema
from certctl.store.tx import Database
from peers.fleet import Fleet, fleet
from peers.inventory import TENANT, fill
from peers.postgres import Postgres, postgres

RUNGS = ((500, 100), (5_000, 1_000), (50_000, 10_000))
POLL_SECONDS, BEAT_SECONDS = 25, 30
HANDSHAKES_AT_ONCE = 64
TICK = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for each in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{each}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def memory_mib(pids: Iterable[int], kind: str = "Rss") -> float:
    """Resident memory of all of them; `Pss` where they share much, as PostgreSQL's processes do."""
    kib = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            kib += sum(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:"))
    return round(kib / 1024, 1)


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of all of them, children that ended among them."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / TICK


class Town:
    """Simulated agents of one server: each polls on one connection and beats on another, as httpx does."""

    def __init__(self, server: Fleet, count: int) -> None:
        self._port, self._count = server.api_port, count
        self._trust = ssl.create_default_context(cafile=str(server.ca_path))
        self._gate = asyncio.Semaphore(HANDSHAKES_AT_ONCE)
        self.connected = asyncio.Event()
        self._open = 0
        self.polls = self.beats = self.failures = self.refused = 0
        self.reasons: Counter[str] = Counter()

    async def live(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._count):
                group.create_task(self._poll(number))
                group.create_task(self._beat(number))

    async def _poll(self, number: int) -> None:
        path = f"/api/v1/agents/agent-{number:06}/work?wait={POLL_SECONDS}&boot_id=boot-1"
        while True:
            try:
                async with self._gate:
                    reader, writer = await self._connect()
                self._open += 1
                if self._open == self._count:
                    self.connected.set()
                while True:
                    if await self._let_in(_call(reader, writer, "GET", path, number)):
                        self.polls += 1
            except (OSError, asyncio.IncompleteReadError, RuntimeError) as error:
                self.failures += 1
                self.reasons[f"{type(error).__name__} {error}"[:80]] += 1
                await asyncio.sleep(5)

    async def _beat(self, number: int) -> None:
        await self.connected.wait()
        await asyncio.sleep(BEAT_SECONDS * number / self._count)
        body = json.dumps({"boot_id": "boot-1", "hostname": f"host{number}", "os": "linux", "protocol": 1}).encode()
        while True:
            try:
                async with self._gate:
                    reader, writer = await self._connect()
                while True:
                    started = time.monotonic()
                    path = f"/api/v1/agents/agent-{number:06}/heartbeat"
                    if await self._let_in(_call(reader, writer, "POST", path, number, body)):
                        self.beats += 1
                    await asyncio.sleep(max(0.0, started + BEAT_SECONDS - time.monotonic()))
            except (OSError, asyncio.IncompleteReadError, RuntimeError) as error:
                self.failures += 1
                self.reasons[f"{type(error).__name__} {error}"[:80]] += 1
                await asyncio.sleep(5)

    async def _let_in(self, call: Coroutine[object, object, float]) -> bool:
        """Whether a call was answered; a refusal is waited out on the same connection, as `agent.backoff` does."""
        asked = await call
        if asked:
            self.refused += 1
            await asyncio.sleep(asked * random.uniform(1.0, 1.5))
        return not asked

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("localhost", self._port, ssl=self._trust)


async def _call(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str, path: str, number: int, body: bytes = b""
) -> float:
    """The seconds after which the server asks to come again, 0 when it has answered. RuntimeError for anything else."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {credential(number)}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nCertctl-Agent-Protocol: 1\r\n\r\n"
    writer.write(head.encode() + body)
    status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    length = next((int(line[15:]) for line in lines if line.lower().startswith("content-length:")), 0)
    await reader.readexactly(length)
    asked = next((float(line[12:]) for line in lines if line.lower().startswith("retry-after:")), 0.0)
    if status.split()[1] not in {"200", "204"} and not asked:
        raise RuntimeError(status)
    return asked


def credential(number: int) -> str:
    """What a simulated agent shows."""
    return f"cta_ladder-{number:06}"


async def seed(url: str, certificates: int, agents: int) -> None:
    """An inventory, and agents that are enrolled."""
    database = Database(url)
    now = datetime.now(UTC)
    try:
        await fill(database, certificates)
        rows = [
            {
                "tenant_id": TENANT,
                "id": f"agent-{number:06}",
                "name": f"host{number:06}",
                "hostname": f"host{number}",
                "os": "linux",
                "status": "Online",
                "last_heartbeat_at": now,
                "registered_at": now,
                "protocol": 1,
                "capabilities": [],
                "boot_id": "boot-1",
                "credential_hash": hashlib.sha256(credential(number).encode()).hexdigest(),
            }
            for number in range(agents)
        ]
        async with database.begin("ladder") as tx:
            await tx.execute(sa.insert(schema.agents), rows)
    finally:
        await database.close()


async def watch(server: Fleet, cluster: Postgres, agents: int, window: float) -> dict[str, object]:
    """Let the agents live, wait until all are there, then measure for a while."""
    town = Town(server, agents)
    living = asyncio.create_task(town.live())
    try:
        started = time.monotonic()
        async with asyncio.timeout(1200):
            await town.connected.wait()
        connecting = time.monotonic() - started
        # by then every agent has its second connection
        await asyncio.sleep(BEAT_SECONDS + 5)
        pids, database = tree(server.server.pid), tree(cluster.process.pid)
        before, theirs = cpu_seconds(pids), cpu_seconds(database)
        polls, beats, failures, started = town.polls, town.beats, town.failures, time.monotonic()
        refused = town.refused
        await asyncio.sleep(window)
        seconds = time.monotonic() - started
        calls = (town.polls - polls) + (town.beats - beats)
        used = cpu_seconds(pids) - before
        return {
            "agents_measured": agents,
            "all_connected_in_seconds": round(connecting, 1),
            "calls_per_second": round(calls / seconds, 1),
            "calls_per_second_due": round(agents / POLL_SECONDS + agents / BEAT_SECONDS, 1),
            "refused_with_retry_after": town.refused - refused,
            "failed_calls": town.failures - failures,
            "failures_from_the_start": dict(town.reasons.most_common(5)),
            "server_cpu_cores": round(used / seconds, 3),
            "server_cpu_ms_per_call": round(used / max(calls, 1) * 1000, 2),
            "server_memory_mib": memory_mib(pids),
            "database_cpu_cores": round((cpu_seconds(tree(cluster.process.pid)) - theirs) / seconds, 3),
            "database_memory_mib": memory_mib(tree(cluster.process.pid), "Pss"),
        }
    finally:
        living.cancel()
        await asyncio.wait([living])


def rung(folder: Path, certificates: int, agents: int, most_agents: int, window: float) -> dict[str, object]:
    """One rung on a PostgreSQL of its own."""
    with postgres() as cluster:
        url = cluster.new_database()
        slow = {"CERTCTL_STEP_LEASE": "30s", "CERTCTL_SCHEDULER_RENEWAL_CHECK_INTERVAL": "1m"}
        quiet = {"CERTCTL_LOG_LEVEL": "warn", "CERTCTL_RATE_LIMIT_ENABLED": "false"}
        with fleet(folder, url, **slow, **quiet) as server:
            server.start_server()
            server.bootstrap()
            empty = memory_mib(tree(server.server.pid))
            server.stop_server()
            asyncio.run(seed(url, certificates, min(agents, most_agents)))
            server.start_server()
            figures = asyncio.run(watch(server, cluster, min(agents, most_agents), window))
            size = cluster.sql(f"SELECT pg_database_size('{url.rpartition('/')[2]}')")
            server.stop_server()
    return {
        "certificates": certificates,
        "agents": agents,
        "server_memory_mib_when_empty": empty,
        "database_size_mib": round(int(size) / 2**20, 1),
        **figures,
    }


def agent(folder: Path, window: float) -> dict[str, object]:
    """One real agent with one target, idle and over one renewal."""
    with fleet(folder) as town:
        town.furnish()
        certificate = town.request()
        town.wait(lambda: town.verified(certificate), "it is served", 120)
        pids = tree(town.agent.pid)
        before, started = cpu_seconds(pids), time.monotonic()
        time.sleep(window)
        idle = (cpu_seconds(pids) - before) / (time.monotonic() - started)
        before = cpu_seconds(tree(town.agent.pid))
        town.post(f"/api/v1/certificates/{certificate}/renew")
        town.wait(lambda: town.verified(certificate, 2), "it is renewed", 120)
        renewal = cpu_seconds(tree(town.agent.pid)) - before
        return {
            "memory_mib": memory_mib(tree(town.agent.pid)),
            "cpu_cores_idle": round(idle, 4),
            "cpu_seconds_of_a_renewal": round(renewal, 2),
        }


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--window", type=float, default=60.0, help="seconds of each measurement")
    parser.add_argument("--most-agents", type=int, default=10_000, help="simulate no more than these")
    parser.add_argument("--rungs", default=",".join(f"{c}/{a}" for c, a in RUNGS))
    asked = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    result: dict[str, object] = {
        "commit": commit.stdout.strip(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version()},
        "load_average_before": round(os.getloadavg()[0], 2),
        "window_seconds": asked.window,
        "rungs": [],
    }
    with tempfile.TemporaryDirectory(prefix="certctl-ladder-") as folder:
        result["agent"] = agent(Path(folder) / "agent", asked.window)
        for number, each in enumerate(asked.rungs.split(",")):
            certificates, agents = (int(word) for word in each.split("/"))
            figures = rung(Path(folder) / str(number), certificates, agents, asked.most_agents, asked.window)
            result["rungs"].append(figures)
            sys.stderr.write(json.dumps(figures) + "\n")
    result["load_average_after"] = round(os.getloadavg()[0], 2)
    text = json.dumps(result, indent=1)
    name = f"{datetime.now(UTC):%Y%m%d}-ladder-{result['commit']}.json"
    (ROOT / "bench" / "results" / name).write_text(text + "\n")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()

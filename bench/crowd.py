"""`make bench BENCH=crowd`: agents on kept TLS connections: what a call costs, how soon a beat is answered, how all
come back.

Real server processes, PostgreSQL, simulated agents in processes of their own on the same cores (`peers.crowd`: a beat,
a poll of 25 s, on one connection each, waiting as `certctl.agent` waits). Some hold leases. Then every connection
breaks at once, and then every server process is killed: all must come back, and each lease must be held as before, by
the database's word too. An operator's call goes on meanwhile and is timed. The limit of the same run: a call of the
same listener that asks nothing of anybody. What was not measured for want of descriptors or cores is extrapolated, and
says so.

Usage: bench/run.py crowd [--agents N] [--seconds S] [--holding N] [--processes N] [--keep]
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import os
import resource
import signal
import ssl
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import uvloop
from kit import arguments, load, milliseconds, tell
from ladder import cpu_seconds, credential, memory_mib, seed, tree

from certctl.store.tx import Database
from peers.crowd import Crowd, Line, living
from peers.fleet import Fleet, fleet
from peers.postgres import Postgres, postgres

AIM = 50_000
MOST_A_PROCESS = 15_000
LONGEST_STORM = 600
RATE = 400


def agent_id(number: int) -> str:
    """As `ladder.seed` names them."""
    return f"agent-{number:06}"


def unverified() -> ssl.SSLContext:
    """TLS as real as it is; what the agents would verify costs them, not the server."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _shard(pipe: Any, port: int, first: int, count: int, arrive: float) -> None:
    """A part of the agents; does what it is told through the pipe, and answers."""
    addresses = 1 + count // 10_000
    crowd = Crowd(port, count, credential, agent_id, unverified(), first, arrive_seconds=arrive, addresses=addresses)
    async with living(crowd):
        while True:
            told = await asyncio.to_thread(pipe.recv)
            if told == "end":
                return
            if told == "there":
                with contextlib.suppress(TimeoutError):
                    await crowd.until_there(LONGEST_STORM)
            if told == "cut":
                crowd.cut()
            if told == "anew":
                crowd.beats = crowd.polls = crowd.refused = 0
                crowd.beat_seconds, crowd.back_after, crowd.failures = [], [], Counter()
            pipe.send(
                {
                    "there": len(crowd.there),
                    "beats": crowd.beats,
                    "polls": crowd.polls,
                    "refused": crowd.refused,
                    "beat_seconds": crowd.beat_seconds,
                    "back_after": crowd.back_after,
                    "failures": dict(crowd.failures),
                    "held": dict(crowd.held),
                    "lost": crowd.lost,
                    "spread": crowd.spread_told,
                }
            )


def _run_shard(*values: Any) -> None:
    gc.disable()  # what is timed is the server, not the collector of who asks it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_shard(*values))


class Shards:
    """All agents, in as many processes as their descriptors need."""

    def __init__(self, port: int, count: int, arrive: float) -> None:
        self.count = count
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Any] = []
        self._processes: list[Any] = []
        for first in range(0, count, MOST_A_PROCESS):
            here, there = context.Pipe()
            some = min(MOST_A_PROCESS, count - first)
            process = context.Process(target=_run_shard, args=(there, port, first, some, arrive), daemon=True)
            process.start()
            self._pipes.append(here)
            self._processes.append(process)

    async def tell(self, word: str) -> dict[str, Any]:
        """Tell all of them, and what they answer, together."""
        for pipe in self._pipes:
            pipe.send(word)
        whole: dict[str, Any] = {}
        for pipe in self._pipes:
            for name, value in (await asyncio.to_thread(pipe.recv)).items():
                if name == "spread":
                    whole[name] = max(value, whole.get(name, 0.0))
                elif isinstance(value, dict):
                    known = whole.setdefault(name, {})
                    known.update({key: known.get(key, 0) * (name == "failures") + more for key, more in value.items()})
                else:
                    whole[name] = whole[name] + value if name in whole else value
        return whole

    def cpu(self) -> float:
        """Seconds of CPU that the agents took."""
        return cpu_seconds(process.pid for process in self._processes)

    def end(self) -> None:
        """Every process."""
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            with contextlib.suppress(OSError):
                pipe.send("end")
            process.join(20)
            if process.is_alive():
                process.kill()


@contextlib.asynccontextmanager
async def operator(town: Fleet) -> AsyncIterator[list[float]]:
    """Somebody looks at a list twice a second, on a connection of their own; how long each that was
    answered took."""
    took: list[float] = []

    async def look() -> None:
        line = None
        head = f"GET /api/v1/issuers HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {town.key}".encode()
        while True:
            began = time.monotonic()
            try:
                async with asyncio.timeout(30):
                    if line is None or line.transport.is_closing():
                        line = await _line(town.api_port)
                    status, _, _ = await line.call(head)
            except (OSError, TimeoutError):
                status = 0
            if status == 200:
                took.append(time.monotonic() - began)
            await asyncio.sleep(0.5)

    task = asyncio.create_task(look())
    try:
        yield took
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _line(port: int) -> Line:
    loop = asyncio.get_running_loop()
    _, line = await loop.create_connection(Line, "127.0.0.1", port, ssl=unverified(), server_hostname="localhost")
    return line


async def limit(town: Fleet, calls: int = 3_000, lines: int = 8) -> float:
    """Milliseconds of server CPU of a call that asks nothing of anybody, on kept connections."""
    kept = [await _line(town.api_port) for _ in range(lines)]
    pids = tree(town.server.pid)
    before = cpu_seconds(pids)

    async def ask(line: Line) -> None:
        for _ in range(calls // lines):
            await line.call(b"GET /health HTTP/1.1\r\nHost: localhost")

    await asyncio.gather(*(ask(line) for line in kept))
    used = cpu_seconds(pids) - before
    for line in kept:
        line.transport.abort()
    return round(used / calls * 1000, 3)


async def leased(url: str) -> dict[tuple[int, str], int]:
    """What the agents hold, by the database."""
    database = Database(url)
    try:
        async with database.read() as tx:
            rows = await tx.rows("SELECT agent_id, id, fence FROM steps WHERE agent_id <> '' AND status = 'leased'")
        return {(int(row[0].rpartition("-")[2]), row[1]): row[2] for row in rows}
    finally:
        await database.close()


def give_work(town: Fleet, count: int) -> None:
    """A step for each of the first agents."""
    config = {"cert_path": "/etc/nginx/tls/site.crt", "key_path": "/etc/nginx/tls/site.key"}
    for number in range(count):
        body = {"name": f"site-{number}", "type": "NGINX", "agent_id": agent_id(number), "config": config}
        target = town.post("/api/v1/targets", body)
        town.post("/api/v1/certificates", {"common_name": f"s{number}.example", "target_ids": [target["id"]]})


async def _calm(town: Fleet, cluster: Postgres, shards: Shards, seconds: float) -> dict[str, Any]:
    await shards.tell("anew")
    pids = tree(town.server.pid)
    server, database, agents = cpu_seconds(pids), cpu_seconds(tree(cluster.process.pid)), shards.cpu()
    began = time.monotonic()
    async with operator(town) as looked:
        await asyncio.sleep(seconds)
    took = time.monotonic() - began
    server, agents = cpu_seconds(pids) - server, shards.cpu() - agents
    database = cpu_seconds(tree(cluster.process.pid)) - database
    told = await shards.tell("report")
    calls = told["beats"] + told["polls"]
    return {
        "seconds": round(took, 1),
        "calls_per_second": round(calls / took, 1),
        "beats": {"count": told["beats"], **milliseconds(told["beat_seconds"])},
        "refused_with_retry_after": told["refused"],
        "failures": told["failures"],
        "operator": milliseconds(looked),
        "server_cpu_cores": round(server / took, 3),
        "server_cpu_ms_per_call": round(server / calls * 1000, 3),
        "database_cpu_cores": round(database / took, 3),
        "database_cpu_ms_per_call": round(database / calls * 1000, 3),
        "agents_cpu_cores": round(agents / took, 3),
    }


async def _storm(town: Fleet, url: str, shards: Shards, *, kill: bool) -> dict[str, Any]:
    """All connections break; when all are back; what became of the leases."""
    before = await shards.tell("anew")
    held = await leased(url)
    pids = tree(town.server.pid)
    used, began = cpu_seconds(pids), time.monotonic()
    async with operator(town) as looked:
        if kill:
            for pid in pids[1:]:
                os.kill(pid, signal.SIGKILL)
            while (await shards.tell("report"))["there"] > shards.count // 2:
                await asyncio.sleep(0.05)
        else:
            await shards.tell("cut")
        told = await shards.tell("there")
        took = time.monotonic() - began
    if told["there"] != shards.count:
        raise RuntimeError(f"{shards.count - told['there']} agents did not come back in {LONGEST_STORM} s")
    still = await leased(url)
    if told["lost"] or still != held or told["held"] != held:
        raise RuntimeError(f"leases were lost: {len(held)} held before, {len(still)} after, {told['lost']}")
    return {
        "told_to_spread_over_seconds": before["spread"],
        "all_back_in_seconds": round(took, 1),
        "without_a_connection": milliseconds(told["back_after"]),
        "refused_with_retry_after": told["refused"],
        "failures": told["failures"],
        "leases_held_throughout": len(held),
        "operator": milliseconds(looked) if looked else None,
        "server_cpu_ms_per_agent": None if kill else round((cpu_seconds(pids) - used) / shards.count * 1000, 3),
    }


async def measure(town: Fleet, cluster: Postgres, url: str, asked: Any, processes: int) -> dict[str, Any]:
    """All figures of one run."""
    least = await limit(town)
    pids = tree(town.server.pid)
    memory, used, began = memory_mib(pids), cpu_seconds(pids), time.monotonic()
    shards = Shards(town.api_port, asked.agents, arrive=asked.agents / (RATE * processes))
    try:
        there = await shards.tell("there")
        arrived, used = time.monotonic() - began, cpu_seconds(pids) - used
        if there["there"] != asked.agents:
            raise RuntimeError(f"only {there['there']} agents came: {there['failures']}")
        await asyncio.to_thread(give_work, town, asked.holding)
        # all have polled, and are told how many they are
        deadline = time.monotonic() + 120
        while len((await shards.tell("report"))["held"]) < asked.holding and time.monotonic() < deadline:
            await asyncio.sleep(0.5)
        await asyncio.sleep(30)
        full = memory_mib(pids)
        calm = await _calm(town, cluster, shards, asked.seconds)
        storms = {}
        for name, kill in (("every_connection_breaks", False), ("every_server_process_is_killed", True)):
            storms[name] = await _storm(town, url, shards, kill=kill)
            await asyncio.sleep(35)
    finally:
        shards.end()
    if calm["failures"]:
        raise RuntimeError(f"calls failed while nothing happened: {calm['failures']}")
    return {
        "agents": asked.agents,
        "server_processes": processes,
        "handshakes_per_second_of_a_process": RATE,
        "limit_cpu_ms_of_a_call_that_asks_nothing": least,
        "arrival": {"seconds": round(arrived, 1), "server_cpu_ms_per_agent": round(used / asked.agents * 1000, 3)},
        "server_memory_mib": {"without_agents": memory, "with_agents": full},
        "server_memory_kib_per_agent": round((full - memory) * 1024 / asked.agents, 1),
        "calm": calm,
        "storms": storms,
    }


def beyond(figures: dict[str, Any]) -> dict[str, Any]:
    """The aim's number of agents, reckoned in a straight line from what was measured."""
    calm, share = figures["calm"], AIM / figures["agents"]
    return {
        "agents": AIM,
        "measured": figures["agents"] >= AIM,
        "how": "a straight line from the agents measured; none of it was seen",
        "server_cpu_cores": round(calm["server_cpu_cores"] * share, 2),
        "database_cpu_cores": round(calm["database_cpu_cores"] * share, 2),
        "server_memory_gib": round(figures["server_memory_kib_per_agent"] * AIM / 2**20, 2),
        "all_taken_on_again_in_seconds_by_the_pace": round(AIM / (RATE * figures["server_processes"]), 1),
    }


def main(arguments_given: list[str]) -> int:
    """Measure, print, keep."""
    parser = arguments(__doc__)
    parser.add_argument("--agents", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--holding", type=int, default=50, help="agents that hold a lease throughout")
    parser.add_argument(
        "--processes", type=int, default=0, help="of the server; 0: two, or as many as descriptors need"
    )
    asked = parser.parse_args(arguments_given)
    processes = asked.processes or max(2, -(-asked.agents // MOST_A_PROCESS))
    figures: dict[str, Any] = {
        "load_before": load(),
        "descriptors_of_a_process": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    }
    settings = {
        "CERTCTL_STEP_LEASE": "30s",
        "CERTCTL_SCHEDULER_RENEWAL_CHECK_INTERVAL": "1m",
        "CERTCTL_LOG_LEVEL": "warn",
        "CERTCTL_RATE_LIMIT_ENABLED": "false",
        "CERTCTL_SERVER_PROCESSES": str(processes),
        "CERTCTL_SERVER_HANDSHAKES_PER_SECOND": str(RATE),
    }
    with tempfile.TemporaryDirectory(prefix="certctl-crowd-") as folder, postgres() as cluster:
        url = cluster.new_database()
        with fleet(Path(folder), url, **settings) as town:
            town.start_server()
            town.bootstrap()
            town.stop_server()
            asyncio.run(seed(url, 100, asked.agents))
            town.start_server()
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                measured = runner.run(measure(town, cluster, url, asked, processes))
            town.stop_server()
    figures |= measured | {"at_the_aim": beyond(measured)}
    tell("crowd", figures, keep=asked.keep)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

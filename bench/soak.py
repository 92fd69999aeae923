"""`make bench BENCH=soak`: everything at once for twenty minutes, at half of what this machine holds; nothing may grow,
fail or be untrue.

Issuance, revocation, OCSP and lists over real connections to real server processes, agents on kept ones beside them.
First each kind is asked alone as fast as it is answered; then all run together, each at a steady rate: half of what it
managed, divided by their number, for they share the same cores. Memory of server and database is looked at every few
seconds; after the warm-up the last fifth stands beside the first. Every OCSP answer is judged: `good` only until a
second after the revocation was answered, `revoked` only once it was asked for. At the end what was asked, what is in
the database, what the log says and what the counters say are the same numbers. Under ten minutes memory is told and not
judged.

Usage: bench/run.py soak [--minutes N] [--share S] [--agents N] [--keep]
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import uvloop
from crowd import Shards, unverified
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp
from kit import arguments, load, milliseconds, tell
from ladder import cpu_seconds, memory_mib, seed, tree

from certctl.core.names import parse_names
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.csr import build_csr, csr_pem
from certctl.pki.keys import generate_private_key
from certctl.store.tx import Database
from peers.crowd import Line
from peers.fleet import Fleet, fleet
from peers.postgres import Postgres, postgres

WORKERS = 6
CALIBRATION_SECONDS = 8.0
LOOK_SECONDS = 5.0
TRUE_WITHIN_SECONDS = 1.0
WARM_UP = 0.25
MOST_GROWTH = 1.1
# in less each connection is still getting to know its statements
LEAST_MINUTES = 10
WATCHED = 400
SETTLE_SECONDS = 120


@dataclass
class Watched:
    """A certificate whose status is asked, and when its revocation was asked for and answered."""

    name: str
    request: bytes
    asked_at: float = float("inf")
    answered_at: float = float("inf")


@dataclass
class Kind:
    """One kind of load: an act over one connection, asked again and again."""

    name: str
    act: Callable[[Line], Awaitable[bool]]
    port: int
    tls: bool = True
    done: int = 0
    late: int = 0
    last_at: float = 0.0
    took: list[float] = field(default_factory=list)

    async def run(self, seconds: float, rate: float = 0.0) -> None:
        """For so long: as fast as it goes, or `rate` a second, spread evenly."""
        loop = asyncio.get_running_loop()
        began, turns = loop.time(), iter(range(sys.maxsize))

        async def worker() -> None:
            line = await self._connect()
            while True:
                due = began + next(turns) / rate if rate else loop.time()
                if due >= began + seconds or loop.time() >= began + seconds + LOOK_SECONDS:
                    break
                self.late += loop.time() - due > LOOK_SECONDS
                await asyncio.sleep(max(0.0, due - loop.time()))
                started = time.perf_counter()
                if await self.act(line):
                    self.done += 1
                    self.last_at = loop.time()
                    self.took.append(time.perf_counter() - started)
            line.transport.abort()

        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(worker())

    async def _connect(self) -> Line:
        loop = asyncio.get_running_loop()
        more = {"ssl": unverified(), "server_hostname": "localhost"} if self.tls else {}
        _, line = await loop.create_connection(Line, "127.0.0.1", self.port, **more)
        return line


class Soak:
    """All that is asked of one server, and what was answered."""

    def __init__(self, town: Fleet) -> None:
        self.town = town
        self.issued: deque[str] = deque()
        self.names: list[str] = []
        self.issued_ever: list[str] = []
        # whose revocation was asked for: before the first word of it leaves
        self.given_up: set[str] = set()
        self.revoked: set[str] = set()
        self.watched: list[Watched] = []
        self.by_name: dict[str, Watched] = {}
        self.judged: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.untrue: list[str] = []
        self.issuers: dict[str, x509.Certificate] = {}
        self._key = generate_private_key(KeyAlgorithm.ECDSA_P256)
        api, pki = town.api_port, town.pki_port
        self.kinds = [
            Kind("issuance", self.issue, api),
            Kind("ocsp", self.ask_status, pki, tls=False),
            Kind("lists", self.look, api),
            Kind("revocation", self.revoke, api),
        ]

    def _head(self, method: str, path: str) -> bytes:
        return (
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.town.key}\r\n"
            "Content-Type: application/json"
        ).encode()

    async def _call(self, line: Line, what: str, head: bytes, body: bytes = b"", *fine: int) -> bytes | None:
        try:
            async with asyncio.timeout(60):
                status, _, answer = await line.call(head, body)
        except (OSError, TimeoutError) as error:
            self.errors[f"{what}: {type(error).__name__}"] += 1
            raise
        if status in (fine or (200,)):
            return answer
        self.errors[f"{what}: {status} {answer[:200].decode(errors='replace')}"] += 1
        return None

    async def issue(self, line: Line) -> bool:
        """A certificate more."""
        name = f"soak-{len(self.names):07}"
        self.names.append(name)
        asked = csr_pem(build_csr(self._key, f"{name}.example", parse_names([f"{name}.example"])))
        body = json.dumps({"id": name, "common_name": f"{name}.example", "csr_pem": asked}).encode()
        if await self._call(line, "issuance", self._head("POST", "/api/v1/certificates"), body, 201, 202) is None:
            return False
        self.issued.append(name)
        self.issued_ever.append(name)
        return True

    async def revoke(self, line: Line) -> bool:
        """The oldest certificate that is not revoked: every second one of them is watched."""
        if len(self.issued) < WORKERS:
            await asyncio.sleep(0.05)
            return False
        name = self.issued.popleft()
        self.given_up.add(name)
        watched = self.by_name.get(name)
        if watched is not None:
            watched.asked_at = time.monotonic()
        head = self._head("POST", f"/api/v1/certificates/{name}/revoke")
        if await self._call(line, "revocation", head, b'{"reason": "superseded"}') is None:
            return False
        self.revoked.add(name)
        if watched is not None:
            watched.answered_at = time.monotonic()
        return True

    async def look(self, line: Line) -> bool:
        """A page of a list, a search, or one certificate."""
        name = random.choice(self.names)
        path = random.choice(
            (
                "/api/v1/certificates?per_page=50",
                "/api/v1/certificates?status=Active&per_page=50",
                f"/api/v1/certificates?q={name}",
                "/api/v1/jobs?per_page=50",
            )
        )
        return await self._call(line, "lists", self._head("GET", path)) is not None

    async def ask_status(self, line: Line) -> bool:
        """What OCSP says of a watched certificate, judged."""
        if not self.watched:
            await asyncio.sleep(0.05)
            return False
        one = random.choice(self.watched)
        began = time.monotonic()
        head, body = one.request.split(b"\r\n\r\n", 1)
        answer = await self._call(line, "ocsp", head, body)
        ended = time.monotonic()
        if answer is None:
            return False
        told = ocsp.load_der_ocsp_response(answer)
        if told.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            self.errors[f"ocsp: {told.response_status.name}"] += 1
            return False
        said = told.certificate_status.name.lower()
        is_late = said == "good" and began > one.answered_at + TRUE_WITHIN_SECONDS
        is_early = said == "revoked" and ended < one.asked_at
        self.judged[said] += 1
        if is_late or is_early or said == "unknown":
            self.untrue.append(f"{one.name}: {said}, asked {began - one.answered_at:.2f} s after its revocation")
        return True

    async def watch_some(self) -> None:
        """Keep WATCHED certificates watched: new ones come as they are issued, the oldest go."""
        loop = asyncio.get_running_loop()
        _, line = await loop.create_connection(
            Line, "127.0.0.1", self.town.api_port, ssl=unverified(), server_hostname="localhost"
        )
        seen = 0
        while True:
            await asyncio.sleep(0.02 if len(self.watched) < WATCHED else 0.2)
            seen = max(seen, len(self.issued_ever) - 200)
            if seen >= len(self.issued_ever):
                continue
            name, seen = self.issued_ever[seen], seen + 1
            answer = await self._call(line, "versions", self._head("GET", f"/api/v1/certificates/{name}/versions"))
            found = json.loads(answer)["data"] if answer else []
            request = await self._request(line, found[0]) if found else b""
            if request and name not in self.given_up:
                made = Watched(name, request)
                self.by_name[name] = made
                self.watched.append(made)
                for old in self.watched[:-WATCHED]:
                    self.by_name.pop(old.name, None)
                del self.watched[:-WATCHED]

    async def _request(self, line: Line, version: dict[str, Any]) -> bytes:
        ca = version["ca_certificate_id"]
        if ca not in self.issuers:
            der = await self._call(line, "issuer", self._head("GET", f"/.well-known/pki/certs/{ca}"))
            self.issuers[ca] = x509.load_der_x509_certificate(der or b"")
        leaf = x509.load_pem_x509_certificate(version["pem_chain"].encode())
        asked = ocsp.OCSPRequestBuilder().add_certificate(leaf, self.issuers[ca], hashes.SHA256()).build()
        head = f"POST /.well-known/pki/ocsp/{ca} HTTP/1.1\r\nHost: pki\r\nContent-Type: application/ocsp-request"
        return head.encode() + b"\r\n\r\n" + asked.public_bytes(serialization.Encoding.DER)


class Memory:
    """Memory over time: what is resident of the server, what is the database's own (its cache is meant to fill)."""

    def __init__(self, town: Fleet, cluster: Postgres) -> None:
        self._town, self._cluster = town, cluster
        self.seen: list[tuple[float, float, float]] = []

    async def watch(self) -> None:
        """Until cancelled."""
        began = time.monotonic()
        while True:
            server = memory_mib(tree(self._town.server.pid))
            database = memory_mib(tree(self._cluster.process.pid), "Pss_Anon")
            self.seen.append((time.monotonic() - began, server, database))
            await asyncio.sleep(LOOK_SECONDS)

    def told(self) -> dict[str, Any]:
        """The first fifth after the warm-up beside the last; the slope by least squares."""
        after = self.seen[int(len(self.seen) * WARM_UP) :]
        fifth = max(1, len(after) // 5)
        figures: dict[str, Any] = {}
        for place, name in ((1, "server"), (2, "database")):
            values = [each[place] for each in after]
            first, last = sorted(values[:fifth])[fifth // 2], sorted(values[-fifth:])[fifth // 2]
            middle = sum(each[0] for each in after) / len(after)
            mean = sum(values) / len(values)
            above = sum((each[0] - middle) * (each[place] - mean) for each in after)
            below = sum((each[0] - middle) ** 2 for each in after)
            figures[name] = {
                "mib_after_warm_up": first,
                "mib_at_the_end": last,
                "ratio": round(last / first, 3),
                "mib_per_minute": round(above / below * 60, 3) if below else 0.0,
            }
        figures["seconds_and_mib"] = [[round(value, 1) for value in each] for each in self.seen]
        return figures


async def _counted(url: str, soak: Soak) -> dict[str, dict[str, int]]:
    """What was asked, what the database has, what the log says, what the counters say."""
    database = Database(url)
    mine = "LIKE 'soak-%'"

    async def one(sql: str) -> int:
        async with database.read() as tx:
            return int((await tx.rows(sql))[0][0])

    def events(kind: str) -> str:
        return f"SELECT count(*) FROM audit_events WHERE type = '{kind}' AND subject_id {mine}"

    try:
        return {
            "issued": {
                "asked": len(soak.names),
                "certificates": await one(f"SELECT count(*) FROM managed_certificates WHERE id {mine}"),
                "versions": await one(f"SELECT count(*) FROM certificate_versions WHERE certificate_id {mine}"),
                "serial_numbers": await one(
                    f"SELECT count(DISTINCT serial_number) FROM certificate_versions WHERE certificate_id {mine}"
                ),
                "log": await one(events("certificate_issued")),
                "counter": _issued_by_the_counter(soak.town) - 1,  # the server's own TLS certificate
            },
            "revoked": {
                "asked": len(soak.revoked),
                "certificates": await one(
                    f"SELECT count(*) FROM managed_certificates WHERE id {mine} AND status = 'Revoked'"
                ),
                "revocations": await one(f"SELECT count(*) FROM certificate_revocations WHERE certificate_id {mine}"),
                "log": await one(events("certificate_revoked")),
            },
        }
    finally:
        await database.close()


def _say(text: str) -> None:
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S} {text}\n")
    sys.stderr.flush()


def _issued_by_the_counter(town: Fleet) -> int:
    page = town.call("GET", "/api/v1/metrics/prometheus").text
    found = re.search(r'certctl_issuance_total\{[^}]*outcome="success"[^}]*\} (\S+)', page)
    return round(float(found[1])) if found else 0


async def _agrees(url: str, soak: Soak) -> dict[str, dict[str, int]]:
    """The counts, once they agree: what was answered with 202 is still under way, counters are added up by a tick."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        counted = await _counted(url, soak)
        _say(f"counted: {counted}")
        if all(len(set(each.values())) == 1 for each in counted.values()) or time.monotonic() > deadline:
            return counted
        await asyncio.sleep(5)


def _judge(soak: Soak, figures: dict[str, Any]) -> list[str]:
    """Everything that is wrong."""
    wrong = [f"{count} times {what}" for what, count in soak.errors.items()]
    wrong += [f"untrue: {each}" for each in soak.untrue[:5]]
    counted = figures["counted"].items()
    wrong += [f"{what} do not agree: {each}" for what, each in counted if len(set(each.values())) > 1]
    wrong += [f"{what}: not once" for what, each in figures["together"].items() if not each["done"]]
    wrong += [
        f"the {who} grows: {figures['memory'][who]}"
        for who in ("server", "database")
        if figures["memory_is_judged"] and figures["memory"][who]["ratio"] > MOST_GROWTH
    ]
    agents = figures["agents"]
    if agents["failures"] or agents["there"] != agents["count"]:
        wrong.append(f"agents failed: {agents}")
    return wrong


async def measure(town: Fleet, cluster: Postgres, url: str, asked: Any) -> tuple[dict[str, Any], list[str]]:
    """All figures, and what is wrong with them."""
    soak = Soak(town)
    watching = asyncio.create_task(soak.watch_some())
    held: dict[str, float] = {}
    for kind in soak.kinds:
        # a process that has only just begun is slower than it will be
        if kind.name != "revocation":  # of which there are only as many as there are certificates
            await kind.run(CALIBRATION_SECONDS)
        kind.done, began = 0, asyncio.get_running_loop().time()
        await kind.run(CALIBRATION_SECONDS)
        held[kind.name] = kind.done / max(kind.last_at - began, 0.1)
        _say(f"{kind.name} alone: {held[kind.name]:.1f}/s")
        kind.done, kind.took = 0, []
    rates = {name: each * asked.share / len(held) for name, each in held.items()}
    # each revocation needs a certificate that was issued
    rates["revocation"] = min(rates["revocation"], rates["issuance"] * 0.8)
    shards = Shards(town.api_port, asked.agents, arrive=asked.agents / 200)
    memory = Memory(town, cluster)
    try:
        there = await shards.tell("there")
        _say(f"{there['there']} agents are there; all together for {asked.minutes:g} minutes")
        await shards.tell("anew")
        seconds = asked.minutes * 60
        server, database = cpu_seconds(tree(town.server.pid)), cpu_seconds(tree(cluster.process.pid))
        looking = asyncio.create_task(memory.watch())
        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for kind in soak.kinds:
                group.create_task(kind.run(seconds, rates[kind.name]))
        took = time.monotonic() - began
        looking.cancel()
        server = cpu_seconds(tree(town.server.pid)) - server
        database = cpu_seconds(tree(cluster.process.pid)) - database
        agents = await shards.tell("report")
    finally:
        watching.cancel()
        shards.end()
    await asyncio.wait([watching, looking])
    figures: dict[str, Any] = {
        "seconds": round(took, 1),
        "share": asked.share,
        "alone_per_second": {name: round(each, 1) for name, each in held.items()},
        "together": {
            kind.name: {
                "asked_per_second": round(rates[kind.name], 1),
                "done": kind.done,
                "per_second": round(kind.done / took, 1),
                "begun_late": kind.late,
                **(milliseconds(kind.took) if kind.took else {}),
            }
            for kind in soak.kinds
        },
        "ocsp_answers": dict(soak.judged) | {"untrue": len(soak.untrue)},
        "agents": {
            "count": asked.agents,
            "there": agents["there"],
            "polls": agents["polls"],
            "refused_with_retry_after": agents["refused"],
            "failures": agents["failures"],
            "beats": {"count": agents["beats"], **(milliseconds(agents["beat_seconds"]) if agents["beats"] else {})},
        },
        "server_cpu_cores": round(server / took, 3),
        "database_cpu_cores": round(database / took, 3),
        "memory_is_judged": asked.minutes >= LEAST_MINUTES,
        "memory": memory.told(),
        "counted": await _agrees(url, soak),
    }
    return figures, _judge(soak, figures)


def main(given: list[str]) -> int:
    """Measure, print, keep; 1 when anything grew, failed or was untrue."""
    parser = arguments(__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--share", type=float, default=0.5, help="of what the machine holds of each kind alone")
    parser.add_argument("--agents", type=int, default=1_000)
    asked = parser.parse_args(given)
    figures: dict[str, Any] = {"load_before": load(), "minutes": asked.minutes}
    settings = {"CERTCTL_LOG_LEVEL": "warn", "CERTCTL_RATE_LIMIT_ENABLED": "false", "CERTCTL_SERVER_PROCESSES": "2"}
    settings |= {"CERTCTL_STEP_LEASE": "30s", "CERTCTL_SCHEDULER_RENEWAL_CHECK_INTERVAL": "1m"}
    with tempfile.TemporaryDirectory(prefix="certctl-soak-") as folder, postgres() as cluster:
        url = cluster.new_database()
        with fleet(Path(folder), url, **settings) as town:
            town.start_server()
            town.bootstrap()
            town.stop_server()
            asyncio.run(seed(url, 100, asked.agents))
            town.start_server()
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                measured, wrong = runner.run(measure(town, cluster, url, asked))
            figures["server_log"] = town.log("server").splitlines()[-20:]
            town.stop_server()
    figures |= measured | {"wrong": wrong}
    tell("soak", figures, keep=asked.keep)
    if wrong:
        sys.stderr.write("".join(f"{each}\n" for each in wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Simulated hosts by the thousand that do an agent's work: keys and CSRs made here, deployments with receipts, looks at
what is served.

Each is two kept TLS connections, one that beats and one that polls and answers steps, as `certctl.wire.agent` says. Its
"web servers" are a dictionary: what a deployment put there is what a look sees. A key is made here and stays; what is
deployed must be the certificate of such a key. A result that was lost with its connection is sent again, as
`certctl.agent.outbox` does; one that is refused for good is dropped.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from certctl.agent.backoff import Backoff
from certctl.connectors.base.target import Receipt
from certctl.core.names import parse_names
from certctl.pki.algorithms import KeyAlgorithm
from certctl.pki.certs import read_certificate
from certctl.pki.csr import build_csr, csr_pem
from certctl.pki.keys import generate_private_key, spki_der
from certctl.pki.pem import read_certificates
from peers.crowd import CONNECT_SECONDS, Line

BOOT = "boot-of-the-hosts"
_FINAL = range(400, 500)
_AGAIN = (408, 425, 429)
# a third of a lease, as `certctl.agent.hand` reckons while something is in hand
_BEAT_SECONDS = 10.0
_IDLE_SECONDS = 30.0


@dataclass
class Hosts:
    """Agents `first` to `first + count - 1` of one server; `credential` says what each shows."""

    port: int
    count: int
    credential: Callable[[int], str]
    agent_id: Callable[[int], str]
    context: ssl.SSLContext
    first: int = 0
    poll_seconds: float = 25.0
    # over so many seconds they come
    arrive_seconds: float = 0.0
    # (agent, certificate, job) -> key; target -> fingerprint of what it serves
    keys: dict[tuple[int, str, str], EllipticCurvePrivateKey] = field(default_factory=dict)
    served: dict[str, str] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    polls: int = 0
    empty_polls: int = 0
    there: set[int] = field(default_factory=set)

    async def live(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self.first, self.first + self.count):
                group.create_task(self._agent(number))

    async def _agent(self, number: int) -> None:
        """Its work on one connection, its signs of life on another: what it holds is kept however long an answer takes."""
        outbox: dict[str, _Result] = {}
        await asyncio.sleep(self.arrive_seconds * (number - self.first) / self.count)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._again_and_again(number, lambda line: self._beat_on(line, number, outbox)))
            group.create_task(self._again_and_again(number, lambda line: self._work_on(line, number, outbox)))

    async def _again_and_again(self, number: int, turn: Callable[[Line], Awaitable[None]]) -> None:
        """`turn` after turn on one kept connection, until cancelled."""
        backoff = Backoff()
        while True:
            line = None
            try:
                line = await self._connect()
                while True:
                    await turn(line)
                    backoff.succeeded()
            except _Waits as asked:
                self.calls["told to wait"] += 1
                await asyncio.sleep(backoff.failed(timedelta(seconds=asked.seconds)))
            except (OSError, TimeoutError) as error:
                self.failures[f"{type(error).__name__} {error}"[:80]] += 1
                self.there.discard(number)
                await asyncio.sleep(backoff.failed())
            finally:
                if line is not None:
                    line.transport.abort()

    async def _beat_on(self, line: Line, number: int, outbox: dict[str, _Result]) -> None:
        await self._beat(line, number, outbox)
        self.there.add(number)
        waited = 0.0
        while waited < (_BEAT_SECONDS if outbox else _IDLE_SECONDS):
            await asyncio.sleep(1)
            waited += 1

    async def _work_on(self, line: Line, number: int, outbox: dict[str, _Result]) -> None:
        for step_id in list(outbox):
            await self._send(line, number, outbox, step_id)
        for item in await self._poll(line, number):
            outbox[item["step_id"]] = self._work(number, item)

    async def _beat(self, line: Line, number: int, outbox: dict[str, _Result]) -> None:
        leases = [{"step_id": step_id, "fence": result.body["fence"]} for step_id, result in outbox.items()]
        said = {"boot_id": BOOT, "hostname": f"host{number}", "os": "linux", "protocol": 1, "leases": leases}
        await self._call(line, number, "POST", f"/api/v1/agents/{self.agent_id(number)}/heartbeat", said)

    async def _poll(self, line: Line, number: int) -> list[dict[str, Any]]:
        path = f"/api/v1/agents/{self.agent_id(number)}/work?wait={self.poll_seconds}&boot_id={BOOT}"
        items = json.loads(await self._call(line, number, "GET", path, None))["jobs"]
        self.polls += 1
        self.empty_polls += not items
        return items

    async def _send(self, line: Line, number: int, outbox: dict[str, _Result], step_id: str) -> None:
        result = outbox[step_id]
        try:
            await self._call(line, number, "POST", result.path, result.body)
            self.done[result.kind] += 1
        except _Refused as error:
            self.refused[f"{result.kind} {error}"[:160]] += 1
        del outbox[step_id]

    async def _call(self, line: Line, number: int, method: str, path: str, body: dict[str, Any] | None) -> bytes:
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.credential(number)}\r\n"
            "Content-Type: application/json\r\nCertctl-Agent-Protocol: 1"
        ).encode()
        self.calls[method] += 1
        async with asyncio.timeout(self.poll_seconds + 60):
            status, wait, answer = await line.call(head, json.dumps(body).encode() if body is not None else b"")
        if status in _FINAL and status not in _AGAIN:
            raise _Refused(f"{status} {answer[:120]!r}")
        if status >= 400:
            raise _Waits(wait or 1.0)
        return answer

    def _work(self, number: int, item: dict[str, Any]) -> _Result:
        kind, ours = item["step_kind"], f"/api/v1/agents/{self.agent_id(number)}"
        held = {"step_id": item["step_id"], "fence": item["fence"]}
        if kind == "prepare":
            asked = {"certificate_id": item["certificate_id"], "job_id": item["id"], "csr_pem": self._csr(number, item)}
            return _Result(kind, f"{ours}/csr", held | asked)
        if kind == "deploy":
            return _Result(kind, f"{ours}/jobs/{item['id']}/status", held | self._deploy(number, item))
        seen, expected = self.served.get(item["target_id"], ""), item["fingerprint_sha256"]
        said = {"target_id": item["target_id"], "expected_fingerprint": expected, "actual_fingerprint": seen}
        return _Result(kind, f"/api/v1/jobs/{item['id']}/verify", held | said | {"verified": seen == expected})

    def _csr(self, number: int, item: dict[str, Any]) -> str:
        key = self.keys.setdefault(
            (number, item["certificate_id"], item["id"]), generate_private_key(KeyAlgorithm.ECDSA_P256)
        )
        return csr_pem(build_csr(key, item["common_name"], parse_names(item["sans"])))

    def _deploy(self, number: int, item: dict[str, Any]) -> dict[str, Any]:
        (leaf_der,) = read_certificates(item["certificate_pem"])
        key = self.keys[number, item["certificate_id"], item["key_job_id"]]
        if read_certificate(leaf_der).spki_sha256 != hashlib.sha256(spki_der(key)).hexdigest():
            raise AssertionError(f"{item['certificate_id']} is not for the key of its job")
        before, now = self.served.get(item["target_id"], ""), hashlib.sha256(leaf_der).hexdigest()
        self.served[item["target_id"]] = now
        receipt = Receipt(
            plan_id=item["plan_id"],
            fingerprint_sha256=now,
            served_before=before,
            served_after=self.served[item["target_id"]],
            skipped_as_identical=before == now,
            files_written=("/etc/tls/site.crt", "/etc/tls/site.key"),
            actions_run=("validate", "reload"),
            applied_at=datetime.now(UTC),
            duration_ms=1,
        )
        return {"status": "Completed", "receipt": msgspec.to_builtins(receipt)}

    async def _connect(self) -> Line:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_SECONDS):
            _, line = await loop.create_connection(
                Line, "127.0.0.1", self.port, ssl=self.context, server_hostname="localhost"
            )
        return line


@dataclass
class _Result:
    """One step's result, and where it goes."""

    kind: str
    path: str
    body: dict[str, Any]


class _Refused(Exception):
    """For good: a stale fence, a job that has ended."""


class _Waits(Exception):
    """Not now."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

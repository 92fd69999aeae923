"""A small control plane that speaks `wire.agent` over real HTTPS on loopback: leases, fences, boot ids, and a memory.

Everything the agent ever sent is kept (`sent`), so that a test can search it. It can be stopped and started again on the
same port, made to answer any status, and asked what became of each step.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import socket
import threading
import time
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs

import msgspec
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certctl.wire.agent import WorkItem


class TestCa:
    """A CA made for one test."""

    __test__ = False

    def __init__(self, name: str = "Test CA") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self.name, self.key.public_key(), ca=True, names=[])

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def issue(self, public_key: Any, *names: str) -> str:
        """A leaf for `names` (DNS, or an IP address) as PEM."""
        import ipaddress

        general: list[x509.GeneralName] = []
        for name in names:
            try:
                general.append(x509.IPAddress(ipaddress.ip_address(name)))
            except ValueError:
                general.append(x509.DNSName(name))
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        leaf = self._sign(subject, public_key, ca=False, names=general)
        return leaf.public_bytes(serialization.Encoding.PEM).decode()

    def _sign(
        self, subject: x509.Name, public_key: Any, *, ca: bool, names: list[x509.GeneralName]
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=5))
            .not_valid_after(now + dt.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if ca:
            usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
            builder = builder.add_extension(usage, critical=True)
        else:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
            builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        return builder.sign(self.key, hashes.SHA256())


class Step:
    """One step as this control plane knows it."""

    def __init__(self, item: WorkItem) -> None:
        self.item = item
        self.fence = 0
        self.leased = False
        self.deliveries = 0
        self.result: dict[str, Any] | None = None
        self.stale: list[dict[str, Any]] = []


class AgentServer:
    """The fake control plane. Use as a context manager; `url` and `ca_file` are what an agent needs."""

    def __init__(self, folder: Path) -> None:
        self.ca = TestCa("Server CA")
        self.ca_file = folder / "server-ca.pem"
        self.ca_file.write_text(self.ca.pem)
        key = ec.generate_private_key(ec.SECP256R1())
        self._certificate_file, self._key_file = folder / "server.pem", folder / "server.key"
        self._certificate_file.write_text(self.ca.issue(key.public_key(), "127.0.0.1", "localhost"))
        self._key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        self.token, self.credential, self.agent_id = "token-for-tests", "credential-for-tests", "agent-1"
        self.steps: dict[str, Step] = {}
        self.sent: list[bytes] = []
        self.calls: list[tuple[str, str]] = []
        self.connections: set[int] = set()
        self.heartbeats: list[dict[str, Any]] = []
        self.boot_ids: list[str] = []
        self.answers: dict[str, int] = {}  # last part of a path -> a status to answer instead
        self.attempts: list[str] = []
        self.bugs: list[str] = []
        self.lost: list[dict[str, Any]] = []
        self.port = 0
        self._stopping = False
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        assert self.bugs == []

    def start(self) -> None:
        self._stopping = False
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            interface="asgi3",
            lifespan="off",
            log_level="critical",
            loop="asyncio",
            http="h11",
            ws="none",
            timeout_keep_alive=60,
            timeout_graceful_shutdown=1,
            ssl_certfile=str(self._certificate_file),
            ssl_keyfile=str(self._key_file),
        )
        server = self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        self._thread.start()
        wait_for(lambda: server.started, 60, "the fake server to start")

    def stop(self) -> None:
        if self._server is not None and self._thread is not None:
            self._stopping = True
            self._server.should_exit = True
            self._thread.join(10)
            self._server = None

    def add(self, **fields: Any) -> Step:
        """Queue one step."""
        step = Step(WorkItem(**{"type": "Issuance", "certificate_id": "mc-1", **fields}))
        with self._lock:
            self.steps[step.item.step_id] = step
        return step

    def took(self, step: Step, seconds: float = 60) -> dict[str, Any]:
        """Wait for the accepted result of a step."""
        wait_for(lambda: step.result is not None, seconds, f"the result of {step.item.step_id}")
        assert step.result is not None
        return step.result

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = b"".join(name + b": " + value + b"\r\n" for name, value in scope["headers"])
        line = f"{scope['method']} {scope['raw_path'].decode()}?{scope['query_string'].decode()}\r\n".encode()
        self.sent.append(line + headers + b"\r\n" + body)
        self.calls.append((scope["method"], scope["path"]))
        self.connections.add(scope["client"][1])
        try:
            status, answer = await self._answer(scope, json.loads(body) if body else {})
        except Exception as error:
            self.bugs.append(repr(error))
            raise
        payload = msgspec.json.encode(answer)
        await send(
            {"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]}
        )
        await send({"type": "http.response.body", "body": payload})

    async def _answer(self, scope: Any, body: dict[str, Any]) -> tuple[int, Any]:
        path, headers = scope["path"], dict(scope["headers"])
        last = path.rsplit("/", 1)[-1]
        if last in self.answers:
            return self.answers[last], {"detail": f"made to answer {self.answers[last]}"}
        assert headers[b"certctl-agent-protocol"] == b"1"
        bearer = headers.get(b"authorization", b"").decode()
        if path == "/api/v1/agents":
            return self._enrol(bearer, headers, body)
        if bearer != f"Bearer {self.credential}":
            return 401, {"detail": "who are you?"}
        if last == "heartbeat":
            self.heartbeats.append(body)
            return 200, {"status": "heartbeat_recorded", "lost": self.lost}
        if last == "work":
            return 200, await self._work(parse_qs(scope["query_string"].decode()))
        assert last in {"csr", "status", "verify"}
        return self._result(body)

    def _enrol(self, bearer: str, headers: dict[bytes, bytes], body: dict[str, Any]) -> tuple[int, Any]:
        self.attempts.append(headers[b"idempotency-key"].decode())
        if bearer != f"Bearer {self.token}":
            return 401, {"detail": "no such token"}
        return 201, {"id": self.agent_id, "name": body["name"], "credential": self.credential, "heartbeat_seconds": 1}

    async def _work(self, query: dict[str, list[str]]) -> Any:
        boot_id = query["boot_id"][0]
        with self._lock:
            if not self.boot_ids or self.boot_ids[-1] != boot_id:
                self.boot_ids.append(boot_id)
                for step in self.steps.values():
                    step.leased = False  # a new run: the leases of the last one are free
        until = time.monotonic() + min(float(query["wait"][0]), 5.0)
        while True:
            if boot_id != self.boot_ids[-1]:
                return {"jobs": [], "count": 0}  # the poll of a run that is over must not lease anything
            with self._lock:
                jobs = [self._lease(s) for s in self.steps.values() if s.result is None and not s.leased]
            if jobs or time.monotonic() > until or self._stopping:
                return {"jobs": jobs, "count": len(jobs)}
            await asyncio.sleep(0.01)

    def _lease(self, step: Step) -> Any:
        step.fence += 1
        step.leased = True
        step.deliveries += 1
        return msgspec.to_builtins(msgspec.structs.replace(step.item, fence=step.fence))

    def _result(self, body: dict[str, Any]) -> tuple[int, Any]:
        with self._lock:
            step = self.steps.get(body["step_id"])
            if step is None:
                return 404, {"detail": "no such step"}
            if not step.leased or step.fence != body["fence"] or step.result is not None:
                step.stale.append(body)
                return 409, {"detail": "stale fence"}
            step.result = body
        return 202, {"status": "csr_accepted"}


def wait_for(condition: Any, seconds: float, what: str) -> None:
    """Poll until `condition()` is true; fails the test after `seconds`."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(FileNotFoundError):
            if condition():
                return
        time.sleep(0.01)
    raise AssertionError(f"waited {seconds} s in vain for {what}")

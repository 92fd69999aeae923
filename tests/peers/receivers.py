"""Who gets messages: small HTTPS services in the shapes that the vendors document, and a real SMTP server (aiosmtpd)."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import email
import ipaddress
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import default as modern
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LOOPBACK = "127.0.0.1"


@dataclass
class Got:
    """One call: `path` has its query; header names are lowercase."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Receiver:
    """An HTTP service on loopback. `mood` answers in place of it: what a broken or angry one would say."""

    service: Callable[[Got], Answer]
    got: list[Got] = field(default_factory=list)
    mood: Answer | None = None
    url: str = ""
    ca_pem: str = ""
    state: dict[str, Any] = field(default_factory=dict)

    @property
    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=self.ca_pem)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, path, _ = head[0].split(" ", 2)
                pairs = [line.partition(":") for line in head[1:] if line]
                headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                got = Got(method, path, headers, body)
                self.got.append(got)
                status, more, said = self.mood or self.service(got)
                lines = [
                    f"HTTP/1.1 {status} X",
                    f"Content-Length: {len(said)}",
                    *(f"{k}: {v}" for k, v in more.items()),
                ]
                writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + said)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def receiver(service: Callable[[Got], Answer], *, tls: bool = True) -> AsyncIterator[Receiver]:
    """A service that listens until the block ends."""
    made = Receiver(service)
    context = None
    if tls:
        context, made.ca_pem = server_tls()
    server = await asyncio.start_server(made.serve, LOOPBACK, 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    made.url = f"{'https' if tls else 'http'}://{LOOPBACK}:{port}"
    try:
        yield made
    finally:
        server.close()


def server_tls() -> tuple[ssl.SSLContext, str]:
    """A server's context for 127.0.0.1 and localhost, and the PEM that a client trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver")])
    now = dt.datetime.now(dt.UTC)
    names = [x509.IPAddress(ipaddress.ip_address(LOOPBACK)), x509.DNSName("localhost")]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pair.pem"
        path.write_bytes(private + pem)
        context.load_cert_chain(path)
    return context, pem.decode()


def slack(got: Got) -> Answer:
    """https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks"""
    body = got.json
    if got.method != "POST" or not isinstance(body.get("text"), str) or not body["text"]:
        return 400, {}, b"invalid_payload"
    return 200, {}, b"ok"


def teams(got: Got) -> Answer:
    """https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors (Workflows take Adaptive Cards alone)"""
    body = got.json
    cards = [each for each in body.get("attachments", []) if each["content"]["type"] == "AdaptiveCard"]
    kinds = {each["contentType"] for each in cards}
    if body.get("type") != "message" or kinds != {"application/vnd.microsoft.card.adaptive"} or len(got.body) > 28_000:
        return 400, {}, b"bad card"
    return 202, {}, b""


def pagerduty(incidents: dict[str, str]) -> Callable[[Got], Answer]:
    """https://developer.pagerduty.com/docs/send-alert-event; `incidents` is dedup_key -> triggered or resolved."""

    def answer(got: Got) -> Answer:
        body = got.json
        payload, action, key = body.get("payload", {}), body.get("event_action"), body.get("dedup_key", "")
        wrong = (
            len(body.get("routing_key", "")) != 32
            or action not in {"trigger", "acknowledge", "resolve"}
            or len(key) > 255
        )
        if action == "trigger":
            wrong = wrong or not {"summary", "source", "severity"} <= set(payload) or len(payload["summary"]) > 1024
            wrong = wrong or payload["severity"] not in {"critical", "error", "warning", "info"}
        if wrong or got.path != "/v2/enqueue":
            return 400, {}, b'{"status": "invalid event"}'
        if action == "trigger":
            incidents[key] = "triggered"
        elif action == "resolve" and key in incidents:
            incidents[key] = "resolved"
        return 202, {}, json.dumps({"status": "success", "message": "Event processed", "dedup_key": key}).encode()

    return answer


def opsgenie(alerts: dict[str, str]) -> Callable[[Got], Answer]:
    """https://docs.opsgenie.com/docs/alert-api; `alerts` is alias -> open or closed."""

    def answer(got: Got) -> Answer:
        scheme, _, key = got.headers.get("authorization", "").partition(" ")
        if scheme != "GenieKey" or not key:
            return 401, {}, b"{}"
        parts = urlsplit(got.path)
        if parts.path == "/v2/alerts":
            body = got.json
            if not body.get("message") or len(body["message"]) > 130 or len(body.get("alias", "")) > 512:
                return 422, {}, b"{}"
            if len(body.get("tags", [])) > 20 or body.get("priority") not in {"P1", "P2", "P3", "P4", "P5"}:
                return 422, {}, b"{}"
            alerts[body["alias"]] = "open"
        elif parts.path.endswith("/close") and parse_qs(parts.query)["identifierType"] == ["alias"]:
            alias = unquote(parts.path.removeprefix("/v2/alerts/").removesuffix("/close"))
            if alias in alerts:
                alerts[alias] = "closed"
        else:
            return 404, {}, b"{}"
        return 202, {}, b'{"result": "Request will be processed", "requestId": "r"}'

    return answer


def anything(_got: Got) -> Answer:
    return 204, {}, b""


@dataclass
class Mailbox:
    """A real SMTP server and what it took. `refuses` answers RCPT for an address, `mood` answers DATA."""

    host: str = LOOPBACK
    port: int = 0
    ca_pem: str = ""
    password: str = ""
    letters: list[EmailMessage] = field(default_factory=list)
    envelopes: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    refuses: dict[str, str] = field(default_factory=dict)
    mood: str = ""
    logins: int = 0
    # the handler's side: aiosmtpd calls these by name

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802
        if address in self.refuses:
            return self.refuses[address]
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        if self.mood:
            return self.mood
        self.letters.append(email.message_from_bytes(envelope.original_content, policy=modern))  # type: ignore[arg-type]
        self.envelopes.append((envelope.mail_from, tuple(envelope.rcpt_tos)))
        return "250 taken"

    def authenticate(self, _server: Any, _session: Any, _envelope: Any, mechanism: str, data: Any) -> AuthResult:
        self.logins += 1
        good = isinstance(data, LoginPassword) and data.password.decode() == self.password
        return AuthResult(success=good, handled=False, message=None if good else "535 5.7.8 wrong")

    def config(self, **more: Any) -> dict[str, Any]:
        """The configuration of a channel that writes to this server."""
        given: dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "from_address": "certctl@corp.example",
            "recipients": ["ops@corp.example"],
            "ca_pem": self.ca_pem,
        }
        if self.password:
            given |= {"username": "certctl", "password": self.password}
        if not self.ca_pem:
            given["tls"] = "none"
        return given | more


@contextlib.asynccontextmanager
async def mailbox(*, port: int = 0, tls: str = "starttls", password: str = "") -> AsyncIterator[Mailbox]:
    """An SMTP server on loopback: `tls` is starttls, implicit or none; with a password it asks for AUTH."""
    box = Mailbox(password=password)
    context, ca_pem = server_tls()
    options: dict[str, Any] = {"hostname": "mail.corp.example", "loop": asyncio.get_running_loop()}
    if tls != "none":
        box.ca_pem = ca_pem
    if tls == "starttls":
        options |= {"tls_context": context, "require_starttls": True}
    if password:
        options |= {"authenticator": box.authenticate, "auth_required": True, "auth_require_tls": tls == "starttls"}
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(box, **options), LOOPBACK, port, ssl=context if tls == "implicit" else None
    )
    box.port = server.sockets[0].getsockname()[1]
    try:
        yield box
    finally:
        server.close()

"""Ports that the agent opens to answer challenges itself: http-01 (RFC 8555 8.3) and tls-alpn-01 (RFC 8737).

A port is open only while an answer is wanted on it, and whatever else is asked gets nothing. The key of a challenge's
certificate is made for it, lies in memory alone and is good for nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import os
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from certctl.core.errors import Misconfigured, Temporary
from certctl.wire.agent import HostAnswer

HTTP_PATH = "/.well-known/acme-challenge/"
_SECONDS = 10.0
_MOST_HEAD_BYTES = 8 * 1024
_MOST_AT_ONCE = 64


class Listener(Protocol):
    """One open port."""

    answers: dict[str, HostAnswer]

    async def open(self, port: int) -> None:
        """Begin to listen. Raises Misconfigured or Temporary when the port cannot be had."""
        ...

    def add(self, answer: HostAnswer) -> None:
        """Answer this one from now on."""
        ...

    def remove(self, answer: HostAnswer) -> None:
        """Answer it no more."""
        ...

    async def close(self) -> None:
        """Stop listening."""
        ...


class _Port:
    """What both kinds of listener have."""

    def __init__(self) -> None:
        self.answers: dict[str, HostAnswer] = {}
        self._server: asyncio.Server | None = None
        self._open = 0

    async def _listen(self, port: int, context: ssl.SSLContext | None) -> None:
        try:
            self._server = await asyncio.start_server(
                self._bounded,
                port=port,
                limit=_MOST_HEAD_BYTES,
                reuse_address=True,
                ssl=context,
                ssl_handshake_timeout=_SECONDS if context else None,
            )
        except PermissionError as error:
            raise Misconfigured(
                f"port {port} cannot be opened by user {os.geteuid()}: give the agent CAP_NET_BIND_SERVICE, or let its "
                "web server's folder be answered in (challenge_webroot)"
            ) from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise Temporary(
                f"port {port} cannot be opened for challenges: {reason}; if a web server has it, answer in its folder "
                "(challenge_webroot)"
            ) from error

    async def _bounded(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= _MOST_AT_ONCE:
                async with asyncio.timeout(_SECONDS):
                    await self._answer(reader, writer)
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever asks so gets nothing
        finally:
            self._open -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            self._server = None


class HttpListener(_Port):
    """http-01: one path for each token, over plain HTTP."""

    async def open(self, port: int) -> None:
        """Begin to listen. Raises Misconfigured or Temporary when the port cannot be had."""
        await self._listen(port, None)

    def add(self, answer: HostAnswer) -> None:
        """Answer this one from now on."""
        self.answers[answer.token] = answer

    def remove(self, answer: HostAnswer) -> None:
        """Answer it no more."""
        self.answers.pop(answer.token, None)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n", 1)[0].decode("latin-1")
        found = self.answers.get(_token_of(head))
        status, body = ("200 OK", found.key_authorization) if found else ("404 Not Found", "")
        writer.write(
            f"HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\nContent-Length: {len(body)}\r\n"
            f"Connection: close\r\n\r\n{body}".encode("ascii")
        )
        await writer.drain()


def _token_of(request_line: str) -> str:
    """The token that a request line asks for; empty for anything else."""
    method, _, rest = request_line.partition(" ")
    path = rest.partition(" ")[0].partition("?")[0]
    return path.removeprefix(HTTP_PATH) if method == "GET" and path.startswith(HTTP_PATH) else ""


class AlpnListener(_Port):
    """tls-alpn-01: a handshake that shows the challenge's certificate, and nothing after it."""

    def __init__(self) -> None:
        super().__init__()
        self._contexts: dict[str, ssl.SSLContext] = {}

    async def open(self, port: int) -> None:
        """Begin to listen. Raises Misconfigured or Temporary when the port cannot be had."""
        context = _context()
        context.sni_callback = self._choose
        await self._listen(port, context)

    def add(self, answer: HostAnswer) -> None:
        """Answer this one from now on."""
        context = _context()
        _load(context, challenge_pem(answer.name, answer.key_authorization))
        self.answers[answer.token] = answer
        self._contexts[server_name(answer.name)] = context

    def remove(self, answer: HostAnswer) -> None:
        """Answer it no more."""
        if self.answers.pop(answer.token, None) is not None:
            self._contexts.pop(server_name(answer.name), None)

    def _choose(self, handshake: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> int | None:
        found = self._contexts.get((name or "").lower())
        if found is None:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        handshake.context = found
        return None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The handshake was all: RFC 8737 3 wants the connection closed behind it."""


LISTENERS: dict[str, Callable[[], Listener]] = {"http-01": HttpListener, "tls-alpn-01": AlpnListener}


def server_name(name: str) -> str:
    """What a handshake for a name asks for: an address by its reverse name (RFC 8738 6)."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(name).reverse_pointer
    return name.lower()


def _context() -> ssl.SSLContext:
    from certctl.wire.acme import TLS_ALPN

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([TLS_ALPN])
    return context


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    """The library reads files alone: this one is memory, and gone when it is read."""
    descriptor = os.memfd_create("challenge", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def challenge_pem(name: str, key_authorization: str) -> bytes:
    """A self-signed certificate for the one name with the digest in a critical extension (RFC 8737 3), and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding

    from certctl.pki.algorithms import KeyAlgorithm
    from certctl.pki.keys import generate_private_key, private_key_pem
    from certctl.wire.acme import ID_PE_ACME_IDENTIFIER

    try:
        named: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        named = x509.DNSName(name)
    key, now = generate_private_key(KeyAlgorithm.ECDSA_P256), datetime.now(UTC)
    digest = hashlib.sha256(key_authorization.encode()).digest()
    identifier = x509.UnrecognizedExtension(x509.ObjectIdentifier(ID_PE_ACME_IDENTIFIER), b"\x04\x20" + digest)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "certctl challenge")])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([named]), critical=False)
        .add_extension(identifier, critical=True)
        .sign(key, SHA256())
    )
    return private_key_pem(key) + made.public_bytes(Encoding.PEM)

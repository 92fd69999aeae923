"""TLS servers inside the test's own event loop: whatever certificate they are given, silent ones, slow ones; and a CA for them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


class Pair:
    """A certificate with its key and what signed it."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, above: Pair | None) -> None:
        self.certificate, self.key, self.above = certificate, key, above

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def fingerprint(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def context(self, *chain: Pair) -> ssl.SSLContext:
        """A server's context that sends this certificate and `chain`."""
        key = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return context_of("".join(each.pem for each in (self, *chain)), key)


def context_of(chain_pem: str, key_pem: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(key_pem + chain_pem.encode())
        file.flush()
        context.load_cert_chain(Path(file.name))
    return context


def make(
    name: str,
    above: Pair | None = None,
    *,
    is_ca: bool = False,
    sans: tuple[str, ...] = (),
    start: datetime | None = None,
    validity: timedelta = 30 * DAY,
) -> Pair:
    """A certificate signed by `above`, or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = start or datetime.now(UTC) - DAY
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(above.certificate.subject if above else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + validity)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )
    if not is_ca:
        names = [x509.DNSName(each) for each in (sans or (name,))]
        built = built.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Pair(built.sign((above.key if above else key), hashes.SHA256()), key, above)


class Site:
    """A TLS server on a port of its own, which may change what it serves, stop, and come back.

    While `hold` is an event, whoever connects waits for it before the handshake; `seen` counts them.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self.port = 0
        self.seen = 0
        self.hold: asyncio.Event | None = None
        self._listener: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._keep(self._accept(self._listener))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            connected, _ = await asyncio.get_running_loop().sock_accept(listener)
            self.seen += 1
            self._keep(self._serve(connected))

    async def _serve(self, connected: socket.socket) -> None:
        """Nothing is read before the handshake: what came early waits in the socket."""
        loop = asyncio.get_running_loop()
        if self.hold is not None:
            try:
                await self.hold.wait()
            except asyncio.CancelledError:
                connected.close()
                raise
        try:
            gone = loop.create_future()
            transport, _ = await loop.connect_accepted_socket(lambda: _Until(gone), connected, ssl=self.context)
            try:
                await gone
            finally:
                transport.abort()
        except (OSError, ssl.SSLError):
            pass  # whoever looks hangs up when it has seen enough; the socket is asyncio's from here on


class _Until(asyncio.Protocol):
    """Tells when the other side has gone."""

    def __init__(self, gone: asyncio.Future[None]) -> None:
        self._gone = gone

    def connection_lost(self, _: Exception | None) -> None:
        if not self._gone.done():
            self._gone.set_result(None)


@contextlib.asynccontextmanager
async def site(context: ssl.SSLContext) -> AsyncIterator[Site]:
    made = Site(context)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@contextlib.asynccontextmanager
async def scripted(*words: bytes, pause: float = 0, then_hang: bool = True) -> AsyncIterator[str]:
    """A server that says `words`, `pause` seconds apart, and then nothing more; its endpoint."""
    release = asyncio.Event()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for word in words:
                writer.write(word)
                await writer.drain()
                await asyncio.sleep(pause)
            if then_hang:
                await release.wait()
        except OSError:
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        release.set()
        server.close()
        await server.wait_closed()

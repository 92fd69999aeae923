"""Servers that answer challenges: a web server for http-01, a TLS server for tls-alpn-01, on loopback ports of their own."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.server
import socket
import ssl
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")


class Web:
    """`pages` are path -> body, or (status, headers, body); what is not among them is looked for in `folder`, by its name."""

    def __init__(self, address: str = "127.0.0.1", port: int = 0, folder: Path | None = None) -> None:
        self.pages: dict[str, Any] = {}
        self.asked: list[tuple[str, str]] = []
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.asked.append((self.headers.get("host", ""), self.path))
                page = web.pages.get(self.path, (404, {}, b"not here"))
                if folder is not None and (found := folder / self.path.rpartition("/")[2]).is_file():
                    page = found.read_bytes()
                status, headers, body = page if isinstance(page, tuple) else (200, {}, page)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                return

        self._server = http.server.ThreadingHTTPServer((address, port), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


def challenge_certificate(
    names: list[x509.GeneralName], digest: bytes, *, critical: bool = True, with_extension: bool = True
) -> bytes:
    """A self-signed certificate and its key, PEM, as RFC 8737 wants it or nearly."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "challenge")])
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )  # fmt: skip
    if with_extension:
        value = x509.UnrecognizedExtension(ACME_IDENTIFIER, b"\x04\x20" + digest)
        builder = builder.add_extension(value, critical=critical)
    certificate = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + certificate.public_bytes(serialization.Encoding.PEM)


@contextlib.contextmanager
def tls_server(
    pem: bytes, protocols: tuple[str, ...] = ("acme-tls/1",), port: int = 0
) -> Iterator[tuple[int, list[str]]]:
    """A TLS server with this certificate; yields its port and the names that clients asked for."""
    asked: list[str] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "both.pem"
        path.write_bytes(pem)
        context.load_cert_chain(path)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    context.sni_callback = lambda _socket, name, _context: asked.append(name or "")  # type: ignore[assignment]
    listener = socket.create_server(("127.0.0.1", port))
    listener.settimeout(0.1)
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            connection.settimeout(10)
            with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
                secured.recv(1)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], asked
    finally:
        stop.set()
        thread.join(60)
        listener.close()

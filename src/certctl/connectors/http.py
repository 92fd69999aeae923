"""HTTP for connectors: an httpx client whose sockets come from `dial`, and one mapping from answers to errors.

No redirects, no proxies from the environment, no compression (a small answer must not unfold into a large one), bodies
bounded, certificates always verified. Must never log, or put into an error, a header or a body: tokens live there.
RFC 9110 (status codes, Retry-After), RFC 6585 (429).
"""

from __future__ import annotations

import asyncio
import socket
import ssl as tls
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpcore
import httpx

from certctl.connectors.dial import DialPolicy, Resolver, connect
from certctl.core.errors import ConnectorError, Misconfigured, Rejected, Temporary

MOST_BODY_BYTES = 8 * 1024 * 1024
_MOST_RETRY_AFTER = timedelta(days=1)
_DIAL_SECONDS = 30.0
_MOST_ANSWER_BYTES = 256 * 1024  # whoever takes a message has little to say


def client(
    policy: DialPolicy,
    *,
    ca_file: Path | None = None,
    timeout: timedelta = timedelta(seconds=30),
    most_body_bytes: int = MOST_BODY_BYTES,
    context: tls.SSLContext | None = None,
    resolver: Resolver | None = None,
) -> httpx.AsyncClient:
    """A keep-alive client for one purpose. `ca_file` (PEM) replaces the system's roots; `context` replaces both.

    Its calls raise httpx errors, and Misconfigured or Temporary from `dial`; `fetch` maps them all. Raises
    Misconfigured when `ca_file` cannot be read.
    """
    transport = _Transport(policy, context or tls_context(ca_file), most_body_bytes, resolver)
    return httpx.AsyncClient(
        transport=transport,
        timeout=timeout.total_seconds(),
        follow_redirects=False,
        trust_env=False,
        headers={"Accept-Encoding": "identity", "User-Agent": "certctl"},
    )


class KeptClients:
    """Clients that stay open between conversations, one a key: a connection that is idle is used again.

    As many as there are other sides with a set-up of their own; idle connections close by themselves.
    """

    def __init__(self) -> None:
        self._clients: dict[Hashable, httpx.AsyncClient] = {}

    def of(self, key: Hashable, make: Callable[[], httpx.AsyncClient]) -> httpx.AsyncClient:
        """The client of this key; made on first use, and never closed by whoever asks."""
        found = self._clients.get(key)
        if found is None:
            found = self._clients[key] = make()
        return found

    async def aclose(self) -> None:
        """Close them all: the process ends."""
        clients, self._clients = list(self._clients.values()), {}
        for each in clients:
            await each.aclose()


def tls_context(ca_file: Path | None = None, *, ca_pem: str = "") -> tls.SSLContext:
    """A verifying TLS 1.2+ context; `ca_file` or `ca_pem` replaces the system's roots. Raises Misconfigured."""
    try:
        if ca_pem:
            return tls.create_default_context(cadata=ca_pem)
    except (ValueError, tls.SSLError) as error:
        raise Misconfigured("the CA certificates that were given in PEM cannot be read") from error
    try:
        return tls.create_default_context(cafile=str(ca_file) if ca_file is not None else None)
    except (OSError, tls.SSLError) as error:
        raise Misconfigured(f"the CA file {ca_file} cannot be read: {error.strerror or error}") from error


def own_roots(ca_pem: str) -> tls.SSLContext | None:
    """A verifying context that trusts these roots (PEM) alone; None without any. Raises Misconfigured."""
    if not ca_pem:
        return None
    try:
        return tls.create_default_context(cadata=ca_pem)
    except (ValueError, tls.SSLError) as error:
        raise Misconfigured("ca_pem holds no certificates in PEM") from error


async def fetch(
    session: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    content: bytes | None = None,
    json: Any = None,
    headers: Mapping[str, str] | None = None,
    accept: Iterable[int] = (),
) -> httpx.Response:
    """Send one call and return its answer, if 2xx or in `accept`. Raises the ConnectorError that fits anything else."""
    try:
        response = await session.request(method, url, content=content, json=json, headers=headers)
    except httpx.HTTPError as error:
        raise transport_error(error, url) from error
    except httpx.InvalidURL as error:
        raise Misconfigured(f"the address {_origin(url)} is no URL") from error
    if not response.is_success and response.status_code not in frozenset(accept):
        raise status_error(response)
    return response


class Poster:
    """Posts to one receiver over one keep-alive session, opened with the first call.

    `called` stands in every message in place of the address: where an address is itself a credential it is in no error.
    """

    def __init__(
        self,
        policy: DialPolicy,
        called: str,
        *,
        context: tls.SSLContext | None = None,
        resolver: Resolver | None = None,
        timeout: timedelta = timedelta(seconds=10),
    ) -> None:
        self._policy = policy
        self._called = called
        self._context = context
        self._resolver = resolver
        self._timeout = timeout
        self._session: httpx.AsyncClient | None = None

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str] | None = None, *, accept: Iterable[int] = ()
    ) -> httpx.Response:
        """Post JSON; the answer if it is 2xx or in `accept`. Raises the ConnectorError that fits anything else."""
        if self._session is None:
            self._session = client(
                self._policy,
                timeout=self._timeout,
                most_body_bytes=_MOST_ANSWER_BYTES,
                context=self._context,
                resolver=self._resolver,
            )
        told = {"Content-Type": "application/json", **(headers or {})}
        try:
            return await fetch(self._session, "POST", url, content=body, headers=told, accept=accept)
        except ConnectorError as error:
            error.message = error.message.replace(_origin(url), self._called)
            error.args = (error.message,)
            # what it came of may carry the address: that chain ends here
            raise error from None

    async def close(self) -> None:
        """Let the connections go."""
        if self._session is not None:
            await self._session.aclose()
            self._session = None


def status_error(response: httpx.Response) -> ConnectorError:
    """The error for an answer that is no success; the message holds method, address and status, nothing of the body."""
    status = response.status_code
    message = f"{response.request.method} {_origin(str(response.request.url))} answered {status}"
    if status in {429, 503}:
        cause = "rate_limited" if status == 429 else "upstream_5xx"
        return _caused(cause, Temporary(message, retry_after=retry_after(response)))
    # 408 Request Timeout and 425 Too Early ask for another try by their very meaning.
    if status >= 500 or status in {408, 425}:
        return _caused("upstream_5xx" if status >= 500 else "timeout", Temporary(message))
    if status in {401, 403}:
        return _caused("auth", Misconfigured(f"{message}: the credentials are not accepted"))
    if 300 <= status < 400:
        return Misconfigured(f"{message}: redirects are not followed; configure the final address")
    return _caused("upstream_4xx", Rejected(message))


def _caused(cause: str, error: ConnectorError) -> ConnectorError:
    error.cause = cause
    return error


def transport_error(error: httpx.HTTPError, url: str) -> ConnectorError:
    """The error for a call without an answer: an untrusted certificate is Misconfigured, the rest is Temporary."""
    origin = _origin(url)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, tls.SSLCertVerificationError):
            return Misconfigured(f"the certificate of {origin} is not trusted: {cause.verify_message}")
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.TimeoutException):
        return _caused("timeout", Temporary(f"{origin} did not answer in time"))
    if isinstance(error, httpx.UnsupportedProtocol):
        return Misconfigured(f"{origin}: only http and https are spoken")
    return _caused("network", Temporary(f"the call to {origin} failed: {type(error).__name__}"))


def retry_after(response: httpx.Response, now: datetime | None = None) -> timedelta | None:
    """Retry-After as a span (RFC 9110 10.2.3: seconds or a date), bounded to a day; None when absent or unreadable."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return min(timedelta(seconds=int(text[:9])), _MOST_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(moment - (now or datetime.now(UTC)), timedelta(0)), _MOST_RETRY_AFTER)


def _origin(url: str) -> str:
    """Scheme, host, port and path: user names, passwords and queries stay out of messages."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return "(unreadable)"
    return str(parsed.copy_with(userinfo=b"", query=None, fragment=None))


class _Transport(httpx.AsyncHTTPTransport):
    """httpx over httpcore over `dial`."""

    def __init__(
        self, policy: DialPolicy, context: tls.SSLContext, most_body_bytes: int, resolver: Resolver | None
    ) -> None:
        # httpx has no parameter for a network backend: its pool is replaced by one that has.
        super().__init__(verify=context, trust_env=False)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=100,
            max_keepalive_connections=20,
            keepalive_expiry=60.0,
            network_backend=_Backend(policy, resolver),
        )
        self._most_body_bytes = most_body_bytes

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        where = _origin(str(request.url))
        try:
            _check_bounded(response, where, self._most_body_bytes)
        except Rejected:
            await response.aclose()
            raise
        if isinstance(response.stream, httpx.AsyncByteStream):
            response.stream = _BoundedStream(response.stream, where, self._most_body_bytes)
        return response


def _check_bounded(response: httpx.Response, where: str, most_bytes: int) -> None:
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Rejected(f"{where} answered compressed although that was not asked for")
    length = response.headers.get("Content-Length", "0")
    if length.isascii() and length.isdigit() and int(length) > most_bytes:
        raise Rejected(f"{where} answered with more than {most_bytes} bytes")


class _BoundedStream(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, where: str, most_bytes: int) -> None:
        self._stream = stream
        self._where = where
        self._most_bytes = most_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        seen = 0
        async for chunk in self._stream:
            seen += len(chunk)
            if seen > self._most_bytes:
                raise Rejected(f"{self._where} answered with more than {self._most_bytes} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Backend(httpcore.AsyncNetworkBackend):
    def __init__(self, policy: DialPolicy, resolver: Resolver | None) -> None:
        self._policy = policy
        self._resolver = resolver

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,  # noqa: ARG002 - the interface's
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002 - the interface's
    ) -> httpcore.AsyncNetworkStream:
        span = timedelta(seconds=timeout if timeout is not None else _DIAL_SECONDS)
        return _Stream(await connect(host, port, self._policy, span, resolver=self._resolver))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    """A connection as httpcore wants it: a bare socket until the first byte or the TLS handshake decides what it is."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def _open(
        self, context: tls.SSLContext | None = None, server_hostname: str | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            name = (server_hostname or "") if context is not None else None
            self._streams = await asyncio.open_connection(sock=self._socket, ssl=context, server_hostname=name)
        return self._streams

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            async with asyncio.timeout(timeout):
                reader, _ = await self._open()
                return await reader.read(max_bytes)
        except TimeoutError as error:
            raise httpcore.ReadTimeout("no answer in time") from error
        except OSError as error:
            raise httpcore.ReadError(error.strerror or str(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            async with asyncio.timeout(timeout):
                _, writer = await self._open()
                writer.write(buffer)
                await writer.drain()
        except TimeoutError as error:
            raise httpcore.WriteTimeout("the other side does not read") from error
        except OSError as error:
            raise httpcore.WriteError(error.strerror or str(error)) from error

    async def aclose(self) -> None:
        # The peer may be gone and there is nobody left to tell: the connection is simply let go.
        if self._streams is None:
            self._socket.close()
        else:
            self._streams[1].close()

    async def start_tls(
        self,
        ssl_context: tls.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        if self._streams is not None:
            raise httpcore.ConnectError("TLS must come before the first byte")
        try:
            async with asyncio.timeout(timeout):
                await self._open(ssl_context, server_hostname)
        except TimeoutError as error:
            self._socket.close()
            raise httpcore.ConnectTimeout("no TLS handshake in time") from error
        except OSError as error:
            self._socket.close()
            raise httpcore.ConnectError(f"TLS failed: {getattr(error, 'reason', None) or error}") from error
        return self

    def get_extra_info(self, info: str) -> Any:
        if info == "socket":
            return self._socket
        if self._streams is None:
            return None
        reader, writer = self._streams
        if info == "is_readable":
            # httpcore asks before it reuses an idle connection: an end to read there means it was closed.
            return reader.at_eof() or writer.transport.is_closing()
        names = {"ssl_object": "ssl_object", "client_addr": "sockname", "server_addr": "peername"}
        return writer.get_extra_info(names[info]) if info in names else None

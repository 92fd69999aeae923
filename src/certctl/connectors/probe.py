"""Look at what a TLS server really serves: one handshake, believing nothing, judging nothing.

Where TLS begins by STARTTLS, just enough of SMTP (RFC 3207), IMAP (RFC 9051 6.2.1) or POP3 (RFC 2595) is spoken first.
The answer is an observation: whether chain, names and dates are right is the caller's question. The SNI is sent exactly
as given, also to an IP endpoint; an empty one is not sent. Must never be used to carry data. RFC 8446, RFC 6066 3.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl as tls
from collections.abc import Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Any, Literal, TypeAlias, cast

from msgspec import Struct

from certctl.connectors.dial import DialPolicy, Resolver, dial, show_endpoint
from certctl.core.errors import Misconfigured, Rejected, Temporary
from certctl.telemetry.points import reach

Starttls: TypeAlias = Literal["", "smtp", "imap", "pop3"]

# A greeting is a few short lines; a server that talks on and on is not waited for.
_MOST_LINES, _MOST_LINE_BYTES = 100, 4096


class Served(Struct, frozen=True):
    """What one handshake showed. `chain_der` is what came after the leaf, as sent; empty if this Python cannot tell."""

    fingerprint_sha256: str
    leaf_der: bytes
    chain_der: tuple[bytes, ...]
    tls_version: str
    cipher: str
    peer_address: str


async def probe_tls(
    host: str,
    port: int,
    sni: str,
    policy: DialPolicy,
    timeout: timedelta,
    *,
    starttls: Starttls = "",
    resolver: Resolver | None = None,
) -> Served:
    """Shake hands with `host:port`, after STARTTLS where a protocol is named, and say what was served.

    Raises Temporary, Rejected (no TLS to be had there), or Misconfigured (the address is refused).
    """
    reach("probe.asking")
    reader, writer = await _connected(host, port, sni, policy, timeout, starttls, resolver)
    reach("probe.answered")
    try:
        session = writer.get_extra_info("ssl_object")
        leaf_der = session.getpeercert(binary_form=True)
        if not leaf_der:
            raise Rejected(f"{show_endpoint(host, port)} served no certificate")
        peer = writer.get_extra_info("peername")
        return Served(
            fingerprint_sha256=hashlib.sha256(leaf_der).hexdigest(),
            leaf_der=leaf_der,
            chain_der=_chain_der(session, leaf_der),
            tls_version=session.version() or "",
            cipher=(session.cipher() or ("", "", 0))[0],
            peer_address=str(peer[0]) if peer else "",
        )
    finally:
        # There is nothing to say goodbye to: the socket is let go at once.
        writer.transport.abort()
        reader.feed_eof()
        await asyncio.sleep(0)


async def _connected(
    host: str,
    port: int,
    sni: str,
    policy: DialPolicy,
    timeout: timedelta,
    starttls: Starttls,
    resolver: Resolver | None,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = _trusting_context()
    if not starttls:
        return await dial(host, port, policy, timeout, ssl=context, server_hostname=sni, resolver=resolver)
    where = show_endpoint(host, port)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout.total_seconds()
    reader, writer = await dial(host, port, policy, timeout, resolver=resolver)
    try:
        async with asyncio.timeout_at(deadline):
            await _ASK[starttls](reader, writer, where)
            await writer.start_tls(context, server_hostname=sni)
    except BaseException as error:
        writer.transport.abort()
        if isinstance(error, TimeoutError):
            raise Temporary(f"{where} did not answer within {timeout.total_seconds():g} s") from error
        if isinstance(error, tls.SSLError):
            raise Rejected(f"TLS with {where} failed: {error.reason or error}") from error
        if isinstance(error, OSError | asyncio.IncompleteReadError):
            raise Temporary(
                f"{where} broke off: {getattr(error, 'strerror', None) or 'the connection ended'}"
            ) from error
        if isinstance(error, asyncio.LimitOverrunError | ValueError):
            raise Rejected(f"{where} answers lines that are no {starttls.upper()}") from error
        raise
    return reader, writer


async def _ask_smtp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, where: str) -> None:
    await _smtp_answer(reader, "220", where)
    writer.write(b"EHLO certctl.invalid\r\n")
    offered = await _smtp_answer(reader, "250", where)
    if "STARTTLS" not in {line[4:].strip().upper() for line in offered}:
        raise Rejected(f"{where} does not offer STARTTLS")
    writer.write(b"STARTTLS\r\n")
    await _smtp_answer(reader, "220", where)


async def _smtp_answer(reader: asyncio.StreamReader, code: str, where: str) -> list[str]:
    lines: list[str] = []
    for _ in range(_MOST_LINES):
        lines.append(await _line(reader))
        if not lines[-1].startswith(code):
            raise Rejected(f"{where} answers {_shown(lines[-1])} where SMTP {code} was expected")
        if lines[-1][3:4] != "-":
            return lines
    raise Rejected(f"{where} does not come to an end of its answer")


async def _ask_imap(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, where: str) -> None:
    greeting = await _line(reader)
    if not greeting.upper().startswith("* OK"):
        raise Rejected(f"{where} greets with {_shown(greeting)}, where IMAP * OK was expected")
    writer.write(b"a1 STARTTLS\r\n")
    for _ in range(_MOST_LINES):
        line = await _line(reader)
        if line.startswith("* "):
            continue
        if line.upper().startswith("A1 OK"):
            return
        raise Rejected(f"{where} does not begin TLS: {_shown(line)}")
    raise Rejected(f"{where} does not come to an end of its answer")


async def _ask_pop3(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, where: str) -> None:
    for question in (b"", b"STLS\r\n"):
        writer.write(question)
        line = await _line(reader)
        if not line.startswith("+OK"):
            raise Rejected(f"{where} answers {_shown(line)}, where POP3 +OK was expected")


_ASK = {"smtp": _ask_smtp, "imap": _ask_imap, "pop3": _ask_pop3}


async def _line(reader: asyncio.StreamReader) -> str:
    line = await reader.readuntil(b"\n")
    if len(line) > _MOST_LINE_BYTES:
        raise ValueError("a line is too long")
    return line.decode("ascii", errors="replace").rstrip("\r\n")


def _shown(line: str) -> str:
    return repr(line[:80])


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port` taken apart. Raises Misconfigured."""
    host, separator, port = endpoint.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if (
        not separator
        or not host.strip("[]")
        or (":" in host and not bracketed)
        or not (port.isascii() and port.isdigit() and len(port) < 6)
        or not 1 <= int(port) <= 65535
    ):
        raise Misconfigured(f"{endpoint!r} is no endpoint; write host:port, an IPv6 address in brackets")
    return (host[1:-1] if bracketed else host), int(port)


@lru_cache(maxsize=1)
def _trusting_context() -> tls.SSLContext:
    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = tls.CERT_NONE
    # Old servers are looked at too, just to say what they serve; nothing is ever sent to them.
    context.minimum_version = tls.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def _chain_der(session: Any, leaf_der: bytes) -> tuple[bytes, ...]:
    # Python 3.13 made this public; before, the same call is on the inner object.
    holder = session if hasattr(session, "get_unverified_chain") else getattr(session, "_sslobj", None)
    get = getattr(holder, "get_unverified_chain", None)
    if get is None:
        return ()
    ders = tuple(_der(entry) for entry in cast("Sequence[Any]", get() or ()))
    return ders[1:] if ders[:1] == (leaf_der,) else ders


def _der(entry: Any) -> bytes:
    return entry if isinstance(entry, bytes) else tls.PEM_cert_to_DER_cert(entry.public_bytes())

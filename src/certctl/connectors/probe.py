"""Look at what a TLS server really serves: one handshake, believing nothing, judging nothing.

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
from typing import Any, cast

from msgspec import Struct

from certctl.connectors.dial import DialPolicy, Resolver, dial, show_endpoint
from certctl.core.errors import Misconfigured, Rejected
from certctl.telemetry.points import reach


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
    resolver: Resolver | None = None,
) -> Served:
    """Shake hands with `host:port` and say what was served. Raises Temporary, Rejected, or Misconfigured (refused)."""
    reach("probe.asking")
    reader, writer = await dial(
        host, port, policy, timeout, ssl=_trusting_context(), server_hostname=sni, resolver=resolver
    )
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

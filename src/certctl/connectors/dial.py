"""The one way out: every outbound socket of certctl is opened here, so that no configuration can aim it at the inside.

A name is resolved once, every address is judged, and the socket goes to exactly an address that passed: a name that
changes its mind between look and leap (DNS rebinding) gains nothing. Addresses hidden in IPv6 (mapped, 6to4, NAT64) are
judged too. Must never connect to an address it has not judged, nor resolve a second time. RFC 6890, 4193, 4291, 6052.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl as tls
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from msgspec import Struct

from certctl.core.errors import Misconfigured, Rejected, Temporary

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolver: TypeAlias = Callable[[str, int], Awaitable[list[str]]]

GLOBAL, PRIVATE, LOOPBACK = "global", "private", "loopback"
LINK_LOCAL, METADATA, MULTICAST, UNSPECIFIED, RESERVED = (
    "link-local",
    "cloud metadata",
    "multicast",
    "unspecified",
    "reserved",
)

# Where clouds hand out credentials to whoever asks from the inside.
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in ("169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254")
)
_PRIVATE = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "fec0::/10")
)
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
_V4_COMPATIBLE = ipaddress.ip_network("::/96")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NAT64_LOCAL = ipaddress.ip_network("64:ff9b:1::/48")
_TEREDO = ipaddress.ip_network("2001::/32")
_NEVER = frozenset({MULTICAST, UNSPECIFIED})


class DialPolicy(Struct, frozen=True):
    """Where sockets of one purpose may go. Public addresses always; the rest as said here.

    `allow` holds addresses, networks (`10.1.0.0/16`), host names (`ca.corp.example`, `*.corp.example`). A network opens
    what lies in it, metadata and link-local addresses too; a host name opens private and loopback addresses for that
    name. `deny_listeners` are our own (address, port) pairs: never dialled; `0.0.0.0` and `::` stand for every address
    of this host. `setting` is what a refusal tells people to change.
    """

    purpose: str
    allow: tuple[str, ...] = ()
    allow_private: bool = False
    allow_loopback: bool = False
    deny_listeners: frozenset[tuple[str, int]] = frozenset()
    setting: str = ""


async def dial(
    host: str,
    port: int,
    policy: DialPolicy,
    timeout: timedelta,
    *,
    ssl: tls.SSLContext | None = None,
    server_hostname: str | None = None,
    resolver: Resolver | None = None,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection (TLS when `ssl` is given) within `timeout`, resolution and handshake included.

    `server_hostname` is the SNI and the name verified (default `host`; empty sends none). Raises Misconfigured for a
    refused address or an untrusted certificate, Temporary when nothing answers, Rejected when TLS fails otherwise.
    """
    name = host if server_hostname is None else server_hostname
    try:
        async with asyncio.timeout(timeout.total_seconds()):
            connected = await _connect_judged(host, port, policy, timeout, resolver)
            return await _opened(connected, ssl, name if ssl is not None else None)
    except TimeoutError as error:
        raise Temporary(f"{show_endpoint(host, port)} did not answer within {timeout.total_seconds():g} s") from error
    except tls.SSLCertVerificationError as error:
        raise Misconfigured(
            f"the certificate of {show_endpoint(host, port)} is not trusted: {error.verify_message}"
        ) from error
    except tls.SSLError as error:
        raise Rejected(f"TLS with {show_endpoint(host, port)} failed: {error.reason or error}") from error
    except OSError as error:
        raise Temporary(f"{show_endpoint(host, port)} broke off: {error.strerror or error}") from error


async def _opened(
    connected: socket.socket, ssl: tls.SSLContext | None, server_hostname: str | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The streams over a connected socket, which is closed when there are none.

    A handshake is never cancelled: asyncio would go on watching the number of a socket that is closed beneath it, and
    whoever got that number next would hear nothing. Instead it is cut off, and the handshake ends by itself.
    """
    opening = asyncio.create_task(
        asyncio.open_connection(sock=connected, ssl=ssl, server_hostname=server_hostname), name="dial-open"
    )
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            connected.shutdown(socket.SHUT_RDWR)
        await asyncio.wait({opening})
        if opening.exception() is None:
            opening.result()[1].transport.abort()
        raise
    except BaseException:
        connected.close()
        raise


async def connect(
    host: str, port: int, policy: DialPolicy, timeout: timedelta, *, resolver: Resolver | None = None
) -> socket.socket:
    """A connected non-blocking TCP socket to a judged address. Raises as `dial` does; the caller closes it."""
    try:
        async with asyncio.timeout(timeout.total_seconds()):
            return await _connect_judged(host, port, policy, timeout, resolver)
    except TimeoutError as error:
        raise Temporary(f"{show_endpoint(host, port)} did not answer within {timeout.total_seconds():g} s") from error


async def dial_unix(path: Path, timeout: timedelta) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open the local socket `path`, which the host's own allow-file must have named. Raises Temporary.

    Nothing is resolved or judged here: the kernel's permissions and the allow-file decide who may speak to it.
    """
    try:
        async with asyncio.timeout(timeout.total_seconds()):
            return await asyncio.open_unix_connection(str(path))
    except TimeoutError as error:
        raise Temporary(f"{path} did not answer within {timeout.total_seconds():g} s") from error
    except OSError as error:
        raise Temporary(f"cannot connect to {path}: {error.strerror or error}") from error


async def resolve(
    host: str, port: int, policy: DialPolicy, *, resolver: Resolver | None = None
) -> tuple[IPAddress, ...]:
    """The addresses of `host` that `policy` lets through, in the resolver's order; a literal address is its own.

    Raises Misconfigured when there are addresses but none may be dialled, Temporary when the name cannot be resolved.
    """
    bare = host.removeprefix("[").removesuffix("]").rstrip(".")
    if not bare or "\0" in bare:
        raise Misconfigured(f"{policy.purpose}: {host!r} is no host name or address")
    try:
        texts = await (resolver or _system_resolver)(bare, port)
    except (OSError, UnicodeError) as error:
        raise Temporary(f"{host} cannot be resolved: {getattr(error, 'strerror', None) or error}") from error
    addresses = tuple(dict.fromkeys(ipaddress.ip_address(text) for text in texts))
    if not addresses:
        raise Temporary(f"{host} has no address")
    permitted: list[IPAddress] = []
    refusal: Misconfigured | None = None
    for address in addresses:
        try:
            judge(address, port, policy, host=bare)
            permitted.append(address)
        except Misconfigured as error:
            refusal = refusal or error
    if refusal is not None and not permitted:
        raise refusal
    return tuple(permitted)


def judge(address: IPAddress, port: int, policy: DialPolicy, *, host: str = "") -> None:
    """Raise Misconfigured unless `policy` lets a socket go to `address` and `port`; `host` is the name it came from."""
    inner = embedded(address)
    kind = classify(inner)
    shown = f"{host} ({address})" if host and host != str(address) else str(address)
    for listener, listener_port in policy.deny_listeners:
        if port == listener_port and _is_listener(inner, listener):
            raise Misconfigured(
                f"{policy.purpose}: {shown} port {port} is certctl's own listener; no setting allows that: "
                "name the address of the other server"
            )
    if kind == GLOBAL or (
        kind not in _NEVER
        and (
            (kind == PRIVATE and policy.allow_private)
            or (kind == LOOPBACK and policy.allow_loopback)
            or any(inner in network or address in network for network in _networks(policy.allow))
            or (kind in {PRIVATE, LOOPBACK} and _names_host(policy.allow, host))
        )
    ):
        return
    setting = policy.setting or f"the dial allow-list of {policy.purpose}"
    advice = "no setting allows that" if kind in _NEVER else f"if it is meant, add {inner} to {setting}"
    raise Misconfigured(f"{policy.purpose}: {shown} is a {kind} address and is not dialled; {advice}")


def classify(address: IPAddress) -> str:
    """What kind of address this is, taken by itself: one of the words at the top of this module."""
    if address in _METADATA:
        return METADATA
    if address.is_unspecified or address in _THIS_NETWORK:
        return UNSPECIFIED
    if address.is_loopback:
        return LOOPBACK
    if address.is_multicast:
        return MULTICAST
    if address.is_link_local:
        return LINK_LOCAL
    if any(address in network for network in _PRIVATE):
        return PRIVATE
    # Teredo carries an obfuscated server and client, and local NAT64 prefixes lead wherever their gateway says.
    if address in _TEREDO or address in _NAT64_LOCAL or not address.is_global:
        return RESERVED
    return GLOBAL


def embedded(address: IPAddress) -> IPAddress:
    """The IPv4 address that an IPv6 address stands for (mapped, compatible, 6to4, NAT64), or the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    number = int(address)
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:  # RFC 3056
        return address.sixtofour
    # RFC 6052; `::` and `::1` are IPv6's own.
    if address in _NAT64 or (address in _V4_COMPATIBLE and number > 1):
        return ipaddress.IPv4Address(number & 0xFFFF_FFFF)
    return address


def show_endpoint(host: str, port: int) -> str:
    """`host:port`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


async def _connect_judged(
    host: str, port: int, policy: DialPolicy, timeout: timedelta, resolver: Resolver | None
) -> socket.socket:
    addresses = await resolve(host, port, policy, resolver=resolver)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout.total_seconds()
    failure: OSError | None = None
    for tried, address in enumerate(addresses):
        # One silent address must not eat the time of the others.
        share = max(deadline - loop.time(), 0.0) / (len(addresses) - tried)
        try:
            async with asyncio.timeout(share):
                return await _connect_one(address, port)
        except (OSError, TimeoutError) as error:
            failure = error
    shown = ", ".join(map(str, addresses))
    reason = getattr(failure, "strerror", None) or "no answer in time"
    raise Temporary(f"cannot connect to {show_endpoint(host, port)} ({shown}): {reason}") from failure


async def _connect_one(address: IPAddress, port: int) -> socket.socket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    connecting = socket.socket(family, socket.SOCK_STREAM)
    try:
        connecting.setblocking(False)
        connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(connecting, (str(address), port))
    except BaseException:
        connecting.close()
        raise
    return connecting


async def _system_resolver(host: str, port: int) -> list[str]:
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for _, _, _, _, sockaddr in found]


@lru_cache(maxsize=256)
def _networks(allow: tuple[str, ...]) -> tuple[IPNetwork, ...]:
    networks: list[IPNetwork] = []
    for entry in allow:
        try:
            networks.append(ipaddress.ip_network(entry, strict=False))
        except ValueError:
            # A slash or only digits and dots was meant as a network: a typing error there must not become a host name.
            if "/" in entry or ":" in entry or not entry.strip("0123456789."):
                raise Misconfigured(f"{entry!r} in a dial allow-list is no address, network or host name") from None
    return tuple(networks)


def _names_host(allow: tuple[str, ...], host: str) -> bool:
    name = host.lower().rstrip(".")
    for entry in (text.lower().rstrip(".") for text in allow):
        if entry.startswith("*."):
            if name.endswith(entry[1:]):
                return True
        elif name and entry == name:
            return True
    return False


def _is_listener(address: IPAddress, listener: str) -> bool:
    listening = embedded(ipaddress.ip_address(listener))
    return address == listening or (listening.is_unspecified and _is_of_this_host(address))


def _is_of_this_host(address: IPAddress) -> bool:
    """Whether the kernel calls `address` local: only then can a socket be bound to it."""
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as trial:
        try:
            trial.bind((str(address), 0))
        except OSError:
            return False
    return True

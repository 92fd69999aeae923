"""How a process reaches PostgreSQL: one or several hosts, and no wait without an end.

`postgres://user:password@host1:5432,host2:5432/name?sslmode=verify-full`. Of several hosts the one that takes writes is
used; each is tried for a few seconds, the one that answered last time first. A peer that falls silent (a cut cable,
a host without power) ends the connection on both sides after `silence`: here, so that nobody waits for an answer that
will not come, and there, so that the locks of a process that was cut off do not outlive it. RFC 9293 3.8.3, RFC 5482.
"""

from __future__ import annotations

import re
import select
import socket
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode

import asyncpg
import structlog
from msgspec import Struct

from certctl.core.errors import Misconfigured

log = structlog.get_logger(__name__)

SCHEMES = ("postgres://", "postgresql://")
_PORT = 5432
_CONNECT_SECONDS = 5.0
_COMMAND_SECONDS = 60.0
# prepared, by each connection: more than a busy server asks within the driver's five minutes of keeping one
_STATEMENTS_KEPT = 250
_URL = re.compile(
    r"postgres(?:ql)?://(?:(?P<user>[^:@/]*)(?::(?P<password>[^@]*))?@)?(?P<hosts>[^/?]*)(?:/(?P<name>[^?]*))?(?:\?(?P<query>.*))?",
    re.DOTALL,
)
_HOST = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.%]+)\]|(?P<name>[^:\[\]]+))(?::(?P<port>[0-9]{1,5}))?")
# what a wrong user, password, database name or parameter is answered with: waiting does not mend it
_MISCONFIGURED = ("28", "3D", "42", "22")


class Address(Struct, frozen=True):
    """One place where PostgreSQL may answer. `host` is a name, an address, or the folder of a Unix socket."""

    host: str
    port: int


_DRIVERS_OWN = Address("", 0)  # none is named: the driver looks at PGHOST, then at the local socket folders


class Where(Struct, frozen=True, kw_only=True):
    """A database URL taken apart. `options` is what remains of the query, as the driver reads it."""

    addresses: tuple[Address, ...]
    user: str | None
    password: str | None
    name: str | None
    options: Mapping[str, str]
    connect_seconds: float


def parse_url(url: str) -> Where:
    """Take a database URL apart; raises Misconfigured, which never shows the password."""
    found = _URL.fullmatch(url)
    if found is None:
        raise Misconfigured("CERTCTL_DATABASE_URL must be postgres://user:password@host:port/name")
    try:
        query = parse_qsl(found["query"] or "", keep_blank_values=True, strict_parsing=bool(found["query"]))
    except ValueError as error:
        raise Misconfigured("CERTCTL_DATABASE_URL: what follows the ? is not name=value") from error
    hosts = [unquote(host) for host in found["hosts"].split(",") if host]
    hosts += [host for name, value in query if name == "host" for host in value.split(",") if host]
    ports = [port for name, value in query if name == "port" for port in value.split(",")]
    options = {name: value for name, value in query if name not in {"host", "port", "connect_timeout"}}
    seconds = dict(query).get("connect_timeout", "") or str(_CONNECT_SECONDS)
    return Where(
        addresses=tuple(_address(host, _number(ports[-1]) if ports else _PORT) for host in hosts) or (_DRIVERS_OWN,),
        user=_text(found["user"]),
        password=_text(found["password"]),
        name=_text(found["name"]),
        options=options,
        connect_seconds=float(max(1, _number(seconds.partition(".")[0], "connect_timeout"))),
    )


def _text(raw: str | None) -> str | None:
    return unquote(raw) if raw else None


def _address(host: str, port: int) -> Address:
    if host.startswith("/"):
        return Address(host, port)
    found = _HOST.fullmatch(host)
    if found is None:
        raise Misconfigured("CERTCTL_DATABASE_URL: a host is name:port or [address]:port; several are parted by commas")
    return Address(found["six"] or found["name"], _number(found["port"]) if found["port"] else port)


def _number(text: str, what: str = "port") -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:9]) <= 65535:
        raise Misconfigured(f"CERTCTL_DATABASE_URL: the {what} must be a number from 1 to 65535")
    return int(text)


class Connector:
    """Opens connections to whichever of the hosts takes writes. One a process; calls may overlap."""

    def __init__(self, url: str, silence: timedelta, *, takes_writes: bool = True) -> None:
        """`takes_writes`: a standby is passed over. Else one is welcome, and so is a primary."""
        self._where = parse_url(url)
        self._silence = silence
        self._first = 0  # the host that answered last
        self._arguments: dict[str, Any] = {
            "user": self._where.user,
            "password": self._where.password,
            "database": self._where.name,
            "timeout": self._where.connect_seconds,
            "statement_cache_size": _STATEMENTS_KEPT,
            # whoever writes is no use to a standby, which would refuse every write
            "target_session_attrs": self._where.options.get(
                "target_session_attrs", "read-write" if takes_writes else "any"
            ),
        }

    async def connect_patiently(self) -> Any:
        """As `connect`, for statements that may take as long as they need: an index over millions of rows does."""
        return await self.connect(command_timeout=None)

    async def connect(self, command_timeout: float | None = _COMMAND_SECONDS) -> Any:
        """A fresh asyncpg connection. Raises ConnectionError when no host can be used now, Misconfigured when waiting
        does not help.
        """
        addresses, first = self._where.addresses, self._first
        problems: list[str] = []
        refusals: list[Misconfigured] = []
        for offset in range(len(addresses)):
            index = (first + offset) % len(addresses)
            try:
                connection = await self._open(addresses[index], command_timeout)
            except (ConnectionError, Misconfigured) as error:
                problems.append(f"{addresses[index].host}:{addresses[index].port}: {error}")
                if isinstance(error, Misconfigured):
                    refusals.append(error)
                continue
            if index != self._first:
                log.info("database_host_changed", host=addresses[index].host, port=addresses[index].port)
                self._first = index
            return connection
        if len(refusals) == len(addresses):
            raise refusals[0]
        # a standby that lags behind may not know the database yet: only a refusal by all is a person's to mend
        raise ConnectionError("; ".join(problems))

    async def _open(self, address: Address, command_timeout: float | None) -> Any:
        dsn = "postgresql://?" + urlencode(self._where.options) if self._where.options else None
        try:
            connection = await asyncpg.connect(
                dsn,
                host=address.host or None,
                port=address.port or None,
                command_timeout=command_timeout,
                **self._arguments,
            )
        except (OSError, TimeoutError) as error:
            raise ConnectionError(str(error) or type(error).__name__) from error
        except asyncpg.TargetServerAttributeNotMatched as error:
            raise ConnectionError("it takes no writes: a standby, or a database set to read only") from error
        except asyncpg.PostgresError as error:
            if (error.sqlstate or "").startswith(_MISCONFIGURED):
                raise Misconfigured(f"the database refuses the connection: {error}") from error
            raise ConnectionError(str(error)) from error
        except (asyncpg.InterfaceError, ValueError) as error:
            raise Misconfigured(f"CERTCTL_DATABASE_URL cannot be used: {error}") from error
        try:
            await self._end_when_silent(connection)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            connection.terminate()
            raise ConnectionError(str(error)) from error
        return connection

    async def _end_when_silent(self, connection: Any) -> None:
        """Bound the silence that either side puts up with, and how long an abandoned transaction keeps its locks."""
        seconds = max(1, round(self._silence.total_seconds()))
        probe = max(1, seconds // 3)
        opened = connection._transport.get_extra_info("socket")  # noqa: SLF001 - the driver has no public way to it
        if opened is not None and opened.family != socket.AF_UNIX:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            bounds = (("TCP_KEEPIDLE", probe), ("TCP_KEEPINTVL", probe), ("TCP_KEEPCNT", 2))
            for option, value in (*bounds, ("TCP_USER_TIMEOUT", seconds * 1000)):
                if hasattr(socket, option):  # Linux has them all
                    opened.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        # SET, not start-up parameters: a connection pooler in between refuses those it does not know
        await connection.execute(
            f"SET tcp_keepalives_idle = {probe}; SET tcp_keepalives_interval = {probe}; SET tcp_keepalives_count = 2; "
            f"SET tcp_user_timeout = {seconds * 1000}; "
            f"SET idle_in_transaction_session_timeout = {seconds * 1000}",
            timeout=self._where.connect_seconds,
        )


def is_quiet(connection: Any) -> bool:
    """Whether an idle asyncpg connection has nothing to read: an end, or the reason for one, would be there."""
    opened = connection._transport.get_extra_info("socket")  # noqa: SLF001 - as above
    if opened is None:
        return False
    looking = select.poll()
    looking.register(opened.fileno(), select.POLLIN)
    return not looking.poll(0)

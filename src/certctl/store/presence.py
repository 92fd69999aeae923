"""Whether a database is there at all, before anything is asked of it: absent, not up yet, or refusing us.

Absent is told only from a name that does not exist or a port where nothing listens. A wrong password, a missing
database or a broken server is never called absent: those have to be seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from datetime import timedelta

import structlog

from certctl.core.errors import Temporary
from certctl.store.migrate import current
from certctl.store.postgres import SCHEMES, Address, parse_url
from certctl.store.tx import Database

log = structlog.get_logger(__name__)

_CONNECT_SECONDS = 5.0
_LOOK_SECONDS = 1.0
_NO_SUCH_NAME = frozenset(
    code for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY") if (code := getattr(socket, name, None)) is not None
)


async def why_absent(url: str) -> str:
    """Why no database can be there yet: no host of the URL has an address, or nothing listens there. Empty otherwise.

    A resolver that fails for the moment (EAI_AGAIN), a timeout, and a server that answers are no absence.
    """
    if not url.startswith(SCHEMES):
        return ""
    reasons = [await _why(address) for address in parse_url(url).addresses]
    return "; ".join(reasons) if all(reasons) else ""


async def _why(address: Address) -> str:
    if not address.host or address.host.startswith("/"):
        return ""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return f"the host name {address.host} does not exist" if error.errno in _NO_SUCH_NAME else ""
    refused = [await _refuses(str(each[4][0]), address.port) for each in found]
    return f"nothing listens on {address.host}:{address.port}" if refused and all(refused) else ""


async def _refuses(address: str, port: int) -> bool:
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(address, port)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return False


async def wait_until_there(database: Database, patience: timedelta) -> None:
    """Wait at most so long for a database that cannot be reached yet; Temporary when it never came.

    What waiting does not mend (a wrong password, no such database) is raised at once.
    """
    give_up_at = time.monotonic() + patience.total_seconds()
    said = False
    while True:
        try:
            await current(database)
        except Temporary as error:
            if time.monotonic() + _LOOK_SECONDS > give_up_at:
                raise
            if not said:
                log.info("waiting_for_database", seconds=patience.total_seconds(), error=error.message)
                said = True
            await asyncio.sleep(_LOOK_SECONDS)
        else:
            return

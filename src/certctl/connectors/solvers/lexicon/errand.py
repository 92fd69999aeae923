"""One errand of a provider's client, in a process of its own: started, served with connections, bounded, ended.

The process gets an empty environment and one socket, over which it is told what to do: nothing of it stands in its
arguments. Each connection it asks for is opened here, by the one way out, and handed over: it goes where issuers may.
Must never let it live longer than its time, nor keep what it prints.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from certctl.connectors.dial import DialPolicy, connect
from certctl.core.errors import ConnectorError, Misconfigured, Temporary, TrustError

CHILD = Path(__file__).with_name("child.py")
_DIAL_TIMEOUT = timedelta(seconds=15)
_MOST_BYTES, _MOST_DIALS = 64 * 1024, 100
_NOWHERE = "/nonexistent"


class Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the process says: where it wants a connection to, or what became of its errand and what sort of failure."""

    dial: tuple[str, int] | None = None
    done: bool | None = None
    kind: str = ""
    said: str = ""


class Ended(msgspec.Struct, frozen=True):
    """What became of the errand; `refused` is the last connection that was not opened, and why."""

    done: bool
    kind: str
    said: str
    refused: ConnectorError | None = None


def read_wish(message: bytes) -> Wish:
    """A message of the process. Raises TrustError for one that is none."""
    try:
        wish = msgspec.json.decode(message, type=Wish)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TrustError("the process of the DNS provider's client said what cannot be read") from error
    if (wish.dial is None) == (wish.done is None):
        raise TrustError("the process of the DNS provider's client said two things at once, or none")
    if wish.dial is not None and not (0 < wish.dial[1] < 65536 and 0 < len(wish.dial[0]) <= 255):
        raise TrustError("the process of the DNS provider's client wants to go nowhere")
    return wish


async def run(order: dict[str, Any], policy: DialPolicy, limit: timedelta) -> Ended:
    """Have the errand `order` done within `limit`. Raises Temporary when its time is up or no answer came."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    with ours:
        with theirs:
            process = await _start(theirs)
        try:
            async with asyncio.timeout(limit.total_seconds()):
                # a little longer than here: it is for when nobody here is left to end it
                given = order | {"seconds": int(limit.total_seconds()) + 5}
                await asyncio.get_running_loop().sock_sendall(ours, msgspec.json.encode(given))
                ended = await _serve(ours, policy)
            if ended is not None:
                return ended
            raise Temporary(f"the client of the DNS provider ended without an answer{await _how(process)}")
        except TimeoutError as error:
            raise Temporary(
                f"the client of the DNS provider did not end within {limit.total_seconds():g} s and was killed"
            ) from error
        except OSError as error:
            raise Temporary(f"the client of the DNS provider broke off{await _how(process)}") from error
        finally:
            await _end(process)


async def _start(theirs: socket.socket) -> asyncio.subprocess.Process:
    paths = ssl.get_default_verify_paths()
    # no home: no .netrc, no provider's own files; the machine's roots, as everywhere else
    environment = {"LANG": "C.UTF-8", "HOME": _NOWHERE, "NETRC": _NOWHERE, "PATH": _NOWHERE}
    if roots := paths.cafile or paths.capath:
        environment |= {"REQUESTS_CA_BUNDLE": roots, "SSL_CERT_FILE" if paths.cafile else "SSL_CERT_DIR": roots}
    try:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-B", str(CHILD)),
            stdin=theirs.fileno(),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise Temporary(f"the client of the DNS provider cannot be started: {error.strerror}") from error


async def _serve(ours: socket.socket, policy: DialPolicy) -> Ended | None:
    """Open what it asks for until it answers; None when it is gone without."""
    loop = asyncio.get_running_loop()
    refused: ConnectorError | None = None
    for _ in range(_MOST_DIALS):
        message = await loop.sock_recv(ours, _MOST_BYTES)
        if not message:
            return None
        wish = read_wish(message)
        if wish.dial is None:
            return Ended(bool(wish.done), wish.kind[:100], wish.said[:4000], refused)
        try:
            with await connect(*wish.dial, policy, _DIAL_TIMEOUT) as opened:
                socket.send_fds(ours, [b"{}"], [opened.fileno()])
            refused = None
        except (Misconfigured, Temporary) as error:
            refused = error
            await loop.sock_sendall(ours, msgspec.json.encode({"refused": error.message[:1000]}))
    raise Temporary(f"the client of the DNS provider wanted more than {_MOST_DIALS} connections")


async def _how(process: asyncio.subprocess.Process) -> str:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            code = await process.wait()
            return f": killed by signal {-code}" if code < 0 else f": exit code {code}"
    return ""


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    await process.wait()

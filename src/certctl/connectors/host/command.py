"""Run an action that the host's allow-file lists: exactly that argument list, no shell, no word of the server's.

The command sees a clean environment, an empty input, `/` as its folder and a process group of its own; its output is
bounded and it is killed, group and all, when its time is up. Must never run anything that is not in the allow-file.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Mapping
from datetime import timedelta

from msgspec import Struct

from certctl.connectors.host.allow import PLACEHOLDERS, AllowedAction, AllowFile
from certctl.core.errors import Misconfigured, Rejected, Temporary
from certctl.telemetry.points import reach

MOST_OUTPUT_BYTES = 64 * 1024
_TAIL_CHARACTERS = 1500
# What a command leaves running may keep the pipe open; its own last words are there at once.
_LAST_WORDS_SECONDS = 0.2
CLEAN_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


class CommandResult(Struct, frozen=True):
    """How a command that ended with exit code 0 went. `output` is its standard output and error, the last 64 KiB."""

    action: str
    output: str
    duration: timedelta


async def run_action(allow: AllowFile, name: str, values: Mapping[str, str] | None = None) -> CommandResult:
    """Run the action `name`; `values` fill its placeholders.

    Raises Misconfigured when it is not allowed or cannot be started, Rejected (with the tail of its output) when it
    fails, Temporary when its time is up.
    """
    action = allow.action(name)
    arguments = [_filled(action, argument, values or {}) for argument in action.command]
    return await run_program(name, arguments, action.timeout, CLEAN_ENVIRONMENT)


async def run_program(
    name: str, arguments: list[str], timeout: timedelta, environment: Mapping[str, str]
) -> CommandResult:
    """Run exactly these arguments with exactly this environment; whoever calls has seen that it is allowed.

    Raises Misconfigured when it cannot be started, Rejected when it fails, Temporary when its time is up.
    """
    began = time.monotonic()
    process, pipe_fd = await _start(name, arguments, environment)
    reach(f"action.{name}.started")
    output = _Tail()
    # Reading goes on beside the wait: a full pipe would stop the command for ever.
    reading = asyncio.create_task(output.read(pipe_fd))
    try:
        async with asyncio.timeout(timeout.total_seconds()):
            exit_code = await process.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_SECONDS):
                await asyncio.shield(reading)
    except TimeoutError as error:
        await _kill_group(process)
        raise Temporary(
            f"action {name} did not end within {timeout.total_seconds():g} s and was killed{output.said()}"
        ) from error
    except asyncio.CancelledError:
        await _kill_group(process)
        raise
    finally:
        reading.cancel()
    reach(f"action.{name}.ended")
    if exit_code != 0:
        raise Rejected(f"action {name} failed: {_ended(exit_code)}{output.said()}")
    return CommandResult(name, output.text(), timedelta(seconds=time.monotonic() - began))


async def _start(
    name: str, arguments: list[str], environment: Mapping[str, str]
) -> tuple[asyncio.subprocess.Process, int]:
    """The running command and the descriptor its output comes from.

    The pipe is our own: with asyncio's, waiting for the command would be waiting for every daemon it leaves behind.
    """
    pipe_fd, its_end = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=its_end,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(environment),
            cwd="/",
            start_new_session=True,
        )
    except BaseException as error:
        os.close(pipe_fd)
        if isinstance(error, OSError | ValueError):
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise Misconfigured(f"action {name}: {arguments[0]} cannot be started: {reason}") from error
        raise
    finally:
        os.close(its_end)
    return process, pipe_fd


def _filled(action: AllowedAction, argument: str, values: Mapping[str, str]) -> str:
    word = argument[1:-1] if argument.startswith("{") and argument.endswith("}") else ""
    if word not in PLACEHOLDERS:
        return argument
    value = values.get(word)
    # A value that begins with a dash would be read as an option.
    if value is None or not value.startswith("/") or "\0" in value:
        raise Misconfigured(f"action {action.name}: {argument} has no value here; take it out of the allow-file")
    return value


class _Tail:
    """The last MOST_OUTPUT_BYTES of a stream."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._size = 0

    async def read(self, pipe_fd: int) -> None:
        """Read to the end of the pipe and close it, also when cancelled."""
        stream = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(pipe_fd, "rb", buffering=0)
        )
        try:
            while chunk := await stream.read(16 * 1024):
                self._chunks.append(chunk)
                self._size += len(chunk)
                while self._size - len(self._chunks[0]) >= MOST_OUTPUT_BYTES:
                    self._size -= len(self._chunks.popleft())
        finally:
            transport.close()

    def text(self) -> str:
        return b"".join(self._chunks)[-MOST_OUTPUT_BYTES:].decode(errors="replace")

    def said(self) -> str:
        tail = "".join(c if c.isprintable() or c == "\n" else "?" for c in self.text()).strip()[-_TAIL_CHARACTERS:]
        return f"; it said: {tail}" if tail else ""


def _ended(exit_code: int) -> str:
    return f"killed by signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"


async def _kill_group(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()

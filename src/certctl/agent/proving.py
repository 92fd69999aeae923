"""Challenges of CAs that this host answers: for each job exactly what the server asked for, and for no longer.

What is allowed says the host's own allow-file, by folder and by port. A file in a web server's folder is noted before
it is written, so that a killed agent's next run removes it; a port is closed with the process. What is answered is
public: no key of this host has a part in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

from certctl.agent import durable
from certctl.agent.listening import HTTP_PATH, LISTENERS, Listener
from certctl.connectors.host.allow import AllowFile
from certctl.connectors.host.paths import Place, file_error
from certctl.core.errors import CertctlError, Malformed, Rejected, Unsupported
from certctl.core.names import parse_name
from certctl.telemetry.logging import get_logger
from certctl.telemetry.points import reach
from certctl.wire.agent import HostAnswer

log = get_logger(__name__)

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,512}")
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_ANSWERS = 200
_LONGEST_SECONDS = 24 * 3600.0


class Proving:
    """All answers of this run of the agent. `state_dir` keeps the notes of files written."""

    def __init__(self, state_dir: Path, allow: Callable[[], AllowFile]) -> None:
        self._notes = durable.private_folder(state_dir / "challenges")
        self._allow = allow
        self._held: dict[str, dict[str, HostAnswer]] = {}
        self._listeners: dict[tuple[str, int], Listener] = {}
        self._ends: dict[tuple[str, str], asyncio.TimerHandle] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._lock = asyncio.Lock()

    async def hold(self, job_id: str, answers: list[HostAnswer]) -> list[str]:
        """Serve exactly these for the job; the tokens that are served now. Raises CertctlError, and serves none."""
        if len(answers) > _MOST_ANSWERS:
            raise Rejected(f"more than {_MOST_ANSWERS} challenges at once are not answered")
        wanted = {check(answer).token: answer for answer in answers}
        async with self._lock:
            for token, answer in list(self._held.get(job_id, {}).items()):
                if wanted.get(token) != answer:
                    await self._take_away(job_id, token)
            try:
                for token, answer in wanted.items():
                    if token not in self._held.get(job_id, {}):
                        await self._show(job_id, answer)
            except BaseException:
                await self._take_away_all(job_id)
                raise
        return list(wanted)

    async def recover(self) -> None:
        """Remove what an earlier run left in web servers' folders; what cannot be removed is logged and tried again."""
        for note in sorted(self._notes.glob("*.path")):
            try:
                path = Path(durable.read_private(note).decode())
                await asyncio.to_thread(_remove, path)
                durable.remove(note, "agent.challenge.note")
                log.info("agent.challenge_left_over_removed", path=str(path))
            except (CertctlError, OSError, UnicodeDecodeError) as error:
                log.error("agent.challenge_not_removed", note=str(note), error=error)  # noqa: TRY400 - an expected kind

    async def close(self) -> None:
        """Take everything away: the agent stops."""
        async with self._lock:
            for job_id in list(self._held):
                await self._take_away_all(job_id)

    async def _show(self, job_id: str, answer: HostAnswer) -> None:
        allow = self._allow()
        # judged first: what is not allowed here is not touched; then noted: what is begun is taken away
        _ = allow.webroot(answer.webroot) if answer.webroot else allow.port(answer.port)
        self._held.setdefault(job_id, {})[answer.token] = answer
        if answer.webroot:
            await asyncio.to_thread(self._write, answer)
        else:
            await self._listen(answer, answer.port)
        self._end_later(job_id, answer)
        log.info("agent.challenge_answered", name=answer.name, challenge=answer.type, job_id=job_id)

    async def _listen(self, answer: HostAnswer, port: int) -> None:
        where = (answer.type, port)
        listener = self._listeners.get(where)
        if listener is None:
            listener = LISTENERS[answer.type]()
            await listener.open(port)
            self._listeners[where] = listener
        listener.add(answer)

    def _write(self, answer: HostAnswer) -> None:
        path = _path_of(answer)
        durable.write_once(self._note_of(path), str(path).encode(), "agent.challenge.note")
        with _place(path, make=True) as place:
            place.remove()
            place.create(path.name, answer.key_authorization.encode("ascii"), 0o644, -1, -1)
        reach("agent.challenge.file.written")

    async def _take_away_all(self, job_id: str) -> None:
        for token in list(self._held.get(job_id, {})):
            await self._take_away(job_id, token)

    async def _take_away(self, job_id: str, token: str) -> None:
        answer = self._held[job_id][token]
        if answer.webroot:
            path = _path_of(answer)
            await asyncio.to_thread(_remove, path)
            reach("agent.challenge.file.removed")
            durable.remove(self._note_of(path), "agent.challenge.note")
        elif (listener := self._listeners.get((answer.type, answer.port))) is not None:
            listener.remove(answer)
            if not listener.answers:
                del self._listeners[answer.type, answer.port]
                await listener.close()
        if (end := self._ends.pop((job_id, token), None)) is not None:
            end.cancel()
        del self._held[job_id][token]
        if not self._held[job_id]:
            del self._held[job_id]

    def _end_later(self, job_id: str, answer: HostAnswer) -> None:
        """The server says when it is over; should it never, time does."""

        def begin() -> None:
            task = asyncio.create_task(self._end(job_id, answer), name="agent-challenge-ends")
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

        seconds = min(max(answer.seconds, 1.0), _LONGEST_SECONDS)
        self._ends[job_id, answer.token] = asyncio.get_running_loop().call_later(seconds, begin)

    async def _end(self, job_id: str, answer: HostAnswer) -> None:
        async with self._lock:
            if self._held.get(job_id, {}).get(answer.token) == answer:
                with contextlib.suppress(CertctlError):  # the note stays: the next run removes it
                    await self._take_away(job_id, answer.token)
                log.warning("agent.challenge_ended_by_time", name=answer.name, job_id=job_id)

    def _note_of(self, path: Path) -> Path:
        return self._notes / f"{hashlib.sha256(str(path).encode()).hexdigest()}.path"


def check(answer: HostAnswer) -> HostAnswer:
    """The answer, if it is one: its token ends up in a path. Raises Unsupported or Rejected."""
    if answer.type not in LISTENERS or (answer.webroot and answer.type != "http-01"):
        raise Unsupported(f"challenges of type {answer.type[:40]!r} are not answered like that; update the agent")
    token, dot, thumbprint = answer.key_authorization.partition(".")
    if not _TOKEN.fullmatch(answer.token) or token != answer.token or not dot or not _THUMBPRINT.fullmatch(thumbprint):
        raise Rejected("what the server wants to be answered is no answer to a challenge (RFC 8555 8.1)")
    for kind in ("dns", "ip"):
        with contextlib.suppress(Malformed):
            parse_name(f"{kind}:{answer.name}")
            return answer
    raise Rejected(f"{answer.name[:255]!r} is neither a DNS name nor an address")


def _path_of(answer: HostAnswer) -> Path:
    return Path(answer.webroot + HTTP_PATH + answer.token)


def _place(path: Path, *, make: bool) -> Place:
    """The token's place: the webroot opened, the two folders beneath it made if need be, no link followed."""
    webroot, parts = path.parents[2], path.parts[-3:-1]
    folder_fd = -1
    try:
        folder_fd = os.open(webroot, _FOLDER)
        for part in parts:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=folder_fd)
            deeper = os.open(part, _FOLDER, dir_fd=folder_fd)
            os.close(folder_fd)
            folder_fd = deeper
        return Place(path, folder_fd)
    except OSError as error:
        if folder_fd >= 0:
            os.close(folder_fd)
        if not make and isinstance(error, FileNotFoundError):
            raise
        raise file_error(error, f"the folder {path.parent}") from error


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError), _place(path, make=False) as place:
        place.remove()

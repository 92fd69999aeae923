"""Lines to PostgreSQL: the connections of a process, and one of them for the length of a block (ADR 45).

The driver itself runs the statements. A transaction is begun by the first statement that writes or locks: in READ
COMMITTED each statement sees what is committed as it begins, so that reading before needs none. What goes wrong is
raised as SQLAlchemy raises it. A line that was cut off in the middle of a statement is never used again.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn

import asyncpg
import msgspec
import sqlalchemy as sa
from sqlalchemy.util import LRUCache

from certctl.store.postgres import Connector, is_quiet
from certctl.store.statements import DIALECT, DRIVER, Asked, Told, Words, begins

# a server that takes no writes any more is none of ours: connect anew, to the one that does
_READ_ONLY = "25006"
_TRUSTED_SECONDS = 1.0
_CLOSE_SECONDS = 2.0
_WAIT_SECONDS = 30.0
# what a moment's crowd has opened and nobody has used since: each holds 12 MB of plans on the server
_UNUSED_SECONDS = 60.0
_COUNT = re.compile(r"(?:SELECT|UPDATE|DELETE|MERGE|INSERT \d+) (\d+)")
# the columns that a statement in plain words answers with
_answered: LRUCache[str, tuple[str, ...]] = LRUCache(500)

Heard = Callable[[str, Sequence[Any], bool], None]


def state(error: BaseException | None) -> str:
    """The SQLSTATE of what PostgreSQL refused, or nothing."""
    return str(getattr(error, "sqlstate", "") or "")


class Line:
    """One connection, used by one block at a time."""

    def __init__(self, raw: Any, heard: Heard) -> None:
        self.raw = raw
        self.opened_at = self.used_at = time.monotonic()
        self.is_begun = False
        # each statement by itself: nothing is begun
        self.by_itself = False
        # a statement is under way, or was when its caller went away
        self.is_asking = False
        self.is_lost = False
        self._heard = heard

    async def ask(self, asked: Asked) -> Told:
        """Run a statement."""
        words = asked.words
        if words.is_text:
            return await self.say(asked.sql, asked.values)
        with self._asking(asked.sql, asked.values):
            if words.begins:
                await self._begin()
            if words.answers_rows:
                rows = await self.raw.fetch(asked.sql, *asked.values)
                return Told(rows, len(rows))
            return Told((), _counted(await self.raw.execute(asked.sql, *asked.values)))

    async def say(self, sql: str, values: Sequence[Any]) -> Told:
        """Run a statement in plain words; only the server knows what it answers, and is asked that once a process."""
        with self._asking(sql, values):
            if begins(sql):
                await self._begin()
            names = _answered.get(sql)
            if names is None:
                prepared = await self.raw.prepare(sql)
                names = _answered[sql] = tuple(column.name for column in prepared.get_attributes())
            if not names:
                return Told((), _counted(await self.raw.execute(sql, *values)))
            rows = await self.raw.fetch(sql, *values)
            return Told(rows, len(rows), tuple(rows[0].keys()) if rows else names)

    async def ask_many(self, words: Words, values: Sequence[Sequence[Any]]) -> Told:
        """Run a statement for each of these, in one go; how many it wrote is not told."""
        with self._asking(words.sql, values, many=True):
            await self._begin()
            if words.answers_rows:
                return Told(await self.raw.fetchmany(words.sql, values), -1)
            await self.raw.executemany(words.sql, values)
            return Told((), -1)

    async def fetch(self, sql: str, values: Sequence[Any]) -> Sequence[Any]:
        """The rows of a statement of ours in the driver's words, as the driver gives them."""
        with self._asking(sql, values):
            if begins(sql):
                await self._begin()
            return await self.raw.fetch(sql, *values)  # type: ignore[no-any-return]

    async def write(self, sql: str, values: Sequence[Any]) -> None:
        """Run a statement of ours in the driver's words that answers nothing."""
        with self._asking(sql, values):
            await self._begin()
            await self.raw.execute(sql, *values)

    async def copy(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Rows into a table by COPY."""
        with self._asking(f"COPY {table}", ()):
            await self._begin()
            await self.raw.copy_records_to_table(table, records=rows, columns=list(columns))

    async def commit(self) -> None:
        """End what was begun. What has failed in it cannot be committed: that is raised, not taken for done."""
        if not self.is_begun:
            return
        with self._asking("COMMIT", ()):
            ended = await self.raw.execute("COMMIT")
        self.is_begun = False
        if ended != "COMMIT":
            raise RuntimeError(f"a transaction that has failed was to be committed: {ended}")

    async def roll_back(self) -> None:
        """Undo what was begun; a line that does not answer is not used again, which undoes it too."""
        if not self.is_begun or self.is_asking:
            return
        try:
            with self._asking("ROLLBACK", ()):
                await self.raw.execute("ROLLBACK")
            self.is_begun = False
        except (sa.exc.DBAPIError, OSError, TimeoutError):
            self.is_lost = True

    async def _begin(self) -> None:
        if not (self.is_begun or self.by_itself):
            await self.raw.execute("BEGIN")
            self.is_begun = True

    @contextlib.contextmanager
    def _asking(self, sql: str, values: Sequence[Any], *, many: bool = False) -> Iterator[None]:
        if sql not in _ENDS:
            self._heard(sql, values, many)
        self.is_asking = True
        try:
            yield
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            self.is_asking = False
            self._raise(error, sql, values, many=many)
        except ConnectionError:
            self.is_lost = True
            raise
        except TimeoutError:
            raise  # the driver's, or of who waits: what was asked is still under way
        except Exception:
            self.is_asking = False
            raise
        self.is_asking = False

    def _raise(self, error: Exception, sql: str, values: Sequence[Any], *, many: bool) -> NoReturn:
        self.is_lost = self.raw.is_closed() or state(error) == _READ_ONLY
        translated = DRIVER._asyncpg_error_translate  # noqa: SLF001 - what SQLAlchemy's dialect itself goes by
        kind = next(translated[one] for one in type(error).__mro__ if one in translated)
        raised = kind(str(error), error)
        raised.__cause__ = error
        raise sa.exc.DBAPIError.instance(
            sql,
            tuple(values),
            raised,
            DRIVER.Error,
            hide_parameters=False,
            connection_invalidated=self.is_lost,
            dialect=DIALECT,
            ismulti=many,
        ) from raised


_ENDS = frozenset({"COMMIT", "ROLLBACK"})


def _counted(status: str | None) -> int:
    found = _COUNT.match(status or "")
    return int(found[1]) if found else -1


class Lines:
    """The connections of a process, the one used last first: it has its statements prepared, and needs no look."""

    def __init__(self, connector: Connector, most: int, heard: Heard) -> None:
        self.most = most
        self.wait_seconds = _WAIT_SECONDS
        self._connector = connector
        self._heard = heard
        self._idle: list[Line] = []
        self._places = asyncio.Semaphore(most)
        self._not_before = float("-inf")
        self._closing: set[asyncio.Task[None]] = set()
        self.in_use = 0

    async def take(self) -> Line:
        """A line that nobody uses, opened if there is none. Raises as `Connector.connect`, and SQLAlchemy's
        TimeoutError when all that there may be are in use for too long.
        """
        if self._places.locked():
            try:
                async with asyncio.timeout(self.wait_seconds):
                    await self._places.acquire()
            except TimeoutError as error:
                raise sa.exc.TimeoutError(f"{self.most} connections are in use") from error
        else:
            await self._places.acquire()
        self.in_use += 1
        try:
            while self._idle:
                line = self._idle.pop()
                if await self._is_well(line):
                    return line
            return Line(await self._open(), self._heard)
        except BaseException:
            self._give_place()
            raise

    def give(self, line: Line) -> None:
        """Back from its block. What was cut off in the middle of a statement, or is left begun, is closed."""
        if line.is_lost:
            self._not_before = time.monotonic()
        if line.is_lost or line.is_asking or line.is_begun or line.opened_at < self._not_before or line.raw.is_closed():
            self._close(line)
        else:
            line.used_at = time.monotonic()
            line.by_itself = False
            self._idle.append(line)
            if line.used_at - self._idle[0].used_at > _UNUSED_SECONDS:
                self._close(self._idle.pop(0))
        self._give_place()

    async def close(self) -> None:
        """Close every line that nobody uses; those in use as they come back."""
        self._not_before = time.monotonic()
        idle, self._idle = self._idle, []
        for line in idle:
            self._close(line)
        while self._closing:
            await asyncio.gather(*self._closing, return_exceptions=True)

    def _give_place(self) -> None:
        self.in_use -= 1
        self._places.release()

    async def _is_well(self, line: Line) -> bool:
        """A line that broke while nobody used it is replaced, and all that are older with it. One that was used a
        moment ago, with nothing to read on its socket, is not asked.
        """
        if line.opened_at >= self._not_before and not line.raw.is_closed():
            if time.monotonic() - line.used_at < _TRUSTED_SECONDS and is_quiet(line.raw):
                return True
            try:
                await line.raw.execute("SELECT 1")
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                self._not_before = time.monotonic()
            except BaseException:
                self._close(line)
                raise
            else:
                return True
        elif line.opened_at >= self._not_before:
            self._not_before = time.monotonic()
        self._close(line)
        return False

    async def _open(self) -> Any:
        raw = await self._connector.connect()
        try:
            for name, prefix in (("json", b""), ("jsonb", b"\x01")):
                await _write_json_as_text(raw, name, prefix)
        except BaseException:
            raw.terminate()
            raise
        return raw

    def _close(self, line: Line) -> None:
        """In the background, and not for long: what it was in the middle of is cancelled by the driver first."""
        task = asyncio.get_running_loop().create_task(_hang_up(line.raw), name="database-close")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def _hang_up(raw: Any) -> None:
    try:
        await raw.close(timeout=_CLOSE_SECONDS)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError):
        raw.terminate()


async def _write_json_as_text(raw: Any, name: str, prefix: bytes) -> None:
    """The columns' types write JSON as text, and it comes out read: as SQLAlchemy's dialect agrees with the driver."""
    skipped = len(prefix)
    await raw.set_type_codec(
        name,
        schema="pg_catalog",
        encoder=lambda text: prefix + text.encode(),
        decoder=lambda sent: msgspec.json.decode(sent[skipped:]),
        format="binary",
    )

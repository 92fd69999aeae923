"""Statements in PostgreSQL's own words: SQLAlchemy puts them together, the driver runs them (ADR 45).

A `Statement` stands at the top of a module, with `sa.bindparam` where its values go: it is put into words once a
process. One that is built anew each time is known again by SQLAlchemy's cache key, and only its values are taken out.
Values go in as the columns' types write them and come out as they read them, on both ways alike.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.util import LRUCache

StructT = TypeVar("StructT", bound=msgspec.Struct)

DRIVER = PGDialect_asyncpg.import_dbapi()  # type: ignore[no-untyped-call]
DIALECT = PGDialect_asyncpg(dbapi=DRIVER, json_deserializer=msgspec.json.decode)  # type: ignore[no-untyped-call]
_MOST_KEPT = 2000
# what has to run within a begun transaction: it writes, locks, or speaks of the transaction itself. A word too many
# here costs a BEGIN, so the whole text is looked through, names and all
_READS = re.compile(r"\s*(SELECT|WITH)\b")
_BEGINS = re.compile(
    r"\b(INSERT|UPDATE|DELETE|MERGE|SHARE|INTO|pg_\w+|set_config|nextval|setval|txid_\w+|now|current_timestamp)\b"
    r"|\btransaction_timestamp\b|\bstatement_timestamp\b",
    re.IGNORECASE,
)

Reader = Callable[[Sequence[Any]], Any]


def insert(table: sa.Table) -> postgresql.Insert:
    """For a `Statement` with `on_conflict_do_nothing` or `on_conflict_do_update`, which SQLite's dialect reads too."""
    return postgresql.insert(table)


def valued(*names: str) -> dict[str, sa.BindParameter[Any]]:
    """Columns whose values are given by name, for the `values` of an INSERT or the SET of an UPDATE."""
    return {name: sa.bindparam(name) for name in names}


class Statement:
    """A statement that is always the same but for its values: those of its `bindparam`s without one, by name."""

    def __init__(self, clause: Any) -> None:
        self.clause = clause
        self._words: Words | None = None

    @property
    def words(self) -> Words:
        """As PostgreSQL is asked it."""
        if self._words is None:
            self._words = Words(self.clause.compile(dialect=DIALECT))
        return self._words


class Asked(msgspec.Struct, frozen=True):
    """One statement as it goes to the driver: its words, the text with a place for each value, and the values."""

    words: Words
    sql: str
    values: Sequence[Any]


class Told(msgspec.Struct, frozen=True):
    """What the driver answers: rows, how many were written or read (-1: not told), the columns of plain text."""

    rows: Sequence[Any]
    count: int
    names: tuple[str, ...] = ()


class Words:
    """A statement as the dialect writes it, and how its values go in and come out."""

    def __init__(self, compiled: Any) -> None:
        if compiled.insert_prefetch or compiled.update_prefetch:
            raise NotImplementedError("a column that is filled in Python")
        self.sql: str = compiled.string
        self._compiled: SQLCompiler = compiled
        self._expands = bool(compiled.literal_execute_params or compiled.post_compile_params)
        self._processors: dict[str, Any] = dict(compiled._bind_processors)  # noqa: SLF001 - what a dialect is made of
        self._constants: dict[str, Any] = {}
        self.wanted = frozenset(name for name, bind in compiled.binds.items() if bind.required)
        self._places: list[tuple[str, bool, Any]] = []
        if not self._expands:
            self._places = [self._place(name) for name in compiled.positiontup or ()]
        self.is_text = bool(compiled.isplaintext)
        columns = compiled._result_columns  # noqa: SLF001 - as above
        self.answers_rows = bool(columns) or not (compiled.isinsert or compiled.isupdate or compiled.isdelete)
        self.begins = begins(self.sql)
        self._names = tuple(column.keyname for column in columns)
        self._reads = tuple(_read(column.type) for column in columns)
        self._metadata = SimpleResultMetaData(self._names, extra=[tuple(column.objects) for column in columns])
        self._readers: dict[type[msgspec.Struct], Reader] = {}

    def _place(self, name: str) -> tuple[str, bool, Any]:
        """Of one value: its name and how it is written, or what it always is."""
        write = self._processors.get(name)
        if name in self.wanted:
            return name, True, write
        constant = self._compiled.params[name]
        return name, False, constant if write is None else write(constant)

    def ask(self, given: Mapping[str, Any]) -> Asked:
        """With these values, by name. Raises TypeError for one that is missing or not known."""
        if given.keys() != self.wanted:
            raise TypeError(f"its values are {sorted(self.wanted)}, not {sorted(given)}")
        if self._expands:
            return self.ask_as(self._compiled.construct_params(given, escape_names=False))
        values = [
            what if not is_given else given[name] if what is None else what(given[name])
            for name, is_given, what in self._places
        ]
        return Asked(self, self.sql, values)

    def ask_as(self, values: MutableMapping[str, Any]) -> Asked:
        """With every value there is, by the names that the dialect gave them."""
        write = self._processors
        if not self._expands:
            places: Sequence[str] = self._compiled.positiontup or ()
            sql = self.sql
        else:
            state = self._compiled._process_parameters_for_postcompile(values)  # noqa: SLF001 - as above
            places, sql, write = state.positiontup or (), state.statement, write | dict(state.processors)
        return Asked(self, sql, [write[name](values[name]) if name in write else values[name] for name in places])

    def read(self, row: Sequence[Any]) -> Sequence[Any]:
        """A row as the types of its columns read it."""
        if not any(self._reads):
            return row
        return tuple(value if read is None else read(value) for value, read in zip(row, self._reads, strict=True))

    def struct(self, kind: type[StructT], first: Any) -> Callable[[Sequence[Any]], StructT]:
        """How its rows, of which this is the first, become structs: by the columns' places, found once."""
        found = self._readers.get(kind)
        if found is None:
            found = struct_reader(kind, self._names or tuple(first.keys()))
            if any(self._reads):
                found = _after(self.read, found)
            if self._names:
                self._readers[kind] = found
        return found

    def answer(self, told: Told) -> Answer:
        """What `Tx.execute` answers."""
        metadata = SimpleResultMetaData(told.names) if told.names else self._metadata
        read = self.read if any(self._reads) else tuple
        return Answer(metadata, [read(row) for row in told.rows], told.count)


class Answer(IteratorResult[Any]):
    """Rows as SQLAlchemy gives them, and how many were written."""

    def __init__(self, metadata: Any, rows: Sequence[Any], count: int) -> None:
        super().__init__(metadata, iter(rows))
        self.rowcount = count


def answered(told: Told) -> Answer:
    """What the driver answered to plain words."""
    return Answer(SimpleResultMetaData(told.names), [tuple(row) for row in told.rows], told.count)


def struct_reader(kind: type[StructT], names: Sequence[str]) -> Callable[[Sequence[Any]], StructT]:
    """How a row of these columns becomes a struct."""
    if len(set(names)) != len(names):
        raise ValueError(f"two columns of one name: {tuple(names)}")
    places = [(name, names.index(name)) for name in kind.__struct_fields__]
    return lambda row: kind(**{name: row[place] for name, place in places})


def _after(first: Callable[[Any], Any], then: Reader) -> Reader:
    return lambda row: then(first(row))


def _read(kind: Any) -> Callable[[Any], Any] | None:
    if isinstance(kind, sa.Float):
        return _as_float  # a sum or a mean comes as numeric
    if isinstance(kind, sa.Numeric):
        return None  # the driver gives Decimal
    found: Callable[[Any], Any] | None = kind._cached_result_processor(DIALECT, None)  # noqa: SLF001 - as above
    return found


def _as_float(value: Any) -> float | None:
    return None if value is None else float(value)


@functools.lru_cache(maxsize=_MOST_KEPT)
def begins(sql: str) -> bool:
    """Whether a statement has to run within a begun transaction: all but plain reading does."""
    return _READS.match(sql) is None or _BEGINS.search(sql) is not None


_kept: LRUCache[Any, Words] = LRUCache(_MOST_KEPT)


def put(statement: Any, row: Mapping[str, Any] | None = None) -> Asked:
    """A statement that was built a moment ago, with the values it holds and those of `row`."""
    words, extracted, collected = _words(statement, tuple(sorted(row or ())), many=False)
    compiled = words._compiled  # noqa: SLF001 - of this module
    return words.ask_as(
        compiled.construct_params(
            row, extracted_parameters=extracted, escape_names=False, _collected_params=collected or None
        )
    )


def put_many(statement: Any, rows: Sequence[Mapping[str, Any]]) -> tuple[Words, list[Sequence[Any]]]:
    """One statement over many rows, which all have the same columns."""
    words, extracted, collected = _words(statement, tuple(sorted(rows[0])), many=True)
    compiled = words._compiled  # noqa: SLF001 - of this module
    asked = [
        words.ask_as(
            compiled.construct_params(
                row,
                extracted_parameters=extracted,
                escape_names=False,
                _group_number=number,
                _collected_params=collected or None,
            )
        )
        for number, row in enumerate(rows)
    ]
    if any(one.sql != words.sql for one in asked):
        raise NotImplementedError("a list of values in one statement over many rows")
    return words, [one.values for one in asked]


def _words(statement: Any, columns: tuple[str, ...], *, many: bool) -> tuple[Words, Any, Any]:
    found = statement._generate_cache_key()  # noqa: SLF001 - as SQLAlchemy's own execution knows a statement again
    if found is None:
        made = statement._compiler(DIALECT, cache_key=None, column_keys=list(columns), for_executemany=many)  # noqa: SLF001
        return Words(made), None, None
    key, extracted, collected = found
    words = _kept.get((key, columns, many))
    if words is None:
        made = statement._compiler(DIALECT, cache_key=found, column_keys=list(columns), for_executemany=many)  # noqa: SLF001
        words = _kept[(key, columns, many)] = Words(made)
    return words, extracted, collected

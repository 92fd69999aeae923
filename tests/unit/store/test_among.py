"""One of many texts: the same statement for any number, by an index on both databases."""

from __future__ import annotations

import sqlite3

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from certctl.store.among import any_given, any_of
from certctl.store.schema import jobs
from certctl.store.statements import Statement, put


def test_postgresql_is_asked_the_same_for_any_number() -> None:
    one, many = (put(sa.select(jobs.c.id).where(any_of(jobs.c.id, texts))) for texts in (["a"], ["a", "b", "c"]))
    assert one.sql == many.sql
    assert (one.values, many.values) == ([["a"]], [["a", "b", "c"]])


def test_a_kept_statement_is_given_its_texts() -> None:
    kept = Statement(sa.select(jobs.c.id).where(sa.not_(any_given(jobs.c.id, "ids"))))
    assert "NOT jobs.id = ANY" in kept.words.sql
    assert kept.words.ask({"ids": ("a", "b")}).values == [["a", "b"]]


def test_sqlite_finds_them_by_an_index() -> None:
    table = sa.table("t", sa.column("id", sa.Text()))
    compiled = sa.select(table.c.id).where(any_of(table.c.id, ["a", 'q"', "z"])).compile(dialect=sqlite.dialect())
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE t (id TEXT PRIMARY KEY) WITHOUT ROWID")
    database.executemany("INSERT INTO t VALUES (?)", [("a",), ("b",), ('q"',)])
    sent = [compiled._bind_processors[name](compiled.params[name]) for name in compiled.positiontup or ()]
    plan = " ".join(row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {compiled}", sent))
    assert "SEARCH t" in plan
    assert [row[0] for row in database.execute(str(compiled), sent)] == ["a", 'q"']

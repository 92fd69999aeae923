"""Whether a column holds one of many texts: one statement, one value, however many texts there are.

PostgreSQL is given them as an array, so that its plan and the driver's prepared statement are the same for any number;
SQLite as a JSON array.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class Texts(sa.TypeDecorator[Sequence[str]]):
    """A value that is any number of texts."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        """An array where there are such."""
        kind: Any = postgresql.ARRAY(sa.Text()) if dialect.name == "postgresql" else sa.Text()
        return dialect.type_descriptor(kind)

    def process_bind_param(self, value: Sequence[str] | None, dialect: sa.Dialect) -> Any:
        """A list for the driver, JSON for SQLite."""
        texts = [str(text) for text in value or ()]
        return texts if dialect.name == "postgresql" else msgspec.json.encode(texts).decode()


class AnyOf(FunctionElement[bool]):
    """`AnyOf(column, texts)`: the column is one of them."""

    type = sa.Boolean()
    name = "any_of"
    inherit_cache = True
    # SQLite has no booleans, and would be asked whether it equals 1: no index helps there
    _is_implicitly_boolean = True


@compiles(AnyOf, "sqlite")
def _any_of_sqlite(element: AnyOf, compiler: SQLCompiler, **more: Any) -> str:
    column, texts = (compiler.process(each, **more) for each in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({texts}))"


@compiles(AnyOf, "postgresql")
def _any_of_postgresql(element: AnyOf, compiler: SQLCompiler, **more: Any) -> str:
    column, texts = (compiler.process(each, **more) for each in element.clauses)
    return f"{column} = ANY (CAST({texts} AS text[]))"


def any_of(column: sa.ColumnElement[Any], texts: Sequence[str]) -> sa.ColumnElement[bool]:
    """Rows whose column is one of these."""
    return AnyOf(column, sa.literal(texts, Texts()))


def any_given(column: sa.ColumnElement[Any], name: str) -> sa.ColumnElement[bool]:
    """Rows whose column is one of the texts that a `Statement` is given by this name."""
    return AnyOf(column, sa.bindparam(name, type_=Texts()))

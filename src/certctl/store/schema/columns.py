"""Columns and tables as certctl writes them, for SQLite and PostgreSQL alike.

Times are aware UTC (SQLite keeps them as sortable text), serial numbers lowercase hex text, JSON is JSONB on
PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    Dialect,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    TypeDecorator,
)
from sqlalchemy import DateTime as SqlDateTime
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


class UtcTime(TypeDecorator[datetime]):
    """Aware UTC datetimes in, aware UTC datetimes out, on both databases."""

    impl = SqlDateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times; SQLite stores UTC without an offset."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive datetime reached the store")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the zone back."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

    def result_processor(self, dialect: Dialect, coltype: Any) -> Any:
        """None where there is nothing to give back: asyncpg reads a timestamptz as aware UTC."""
        return None if dialect.name == "postgresql" else super().result_processor(dialect, coltype)


Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def key(name: str) -> Column[str]:
    """A name that is part of a key."""
    return Column(name, String(140), nullable=False)


def reference(name: str) -> Column[str]:
    """A reference by id; empty text when there is none, so that unique keys work on both databases."""
    return Column(name, String(140), nullable=False, server_default="")


def words(name: str) -> Column[str]:
    """Text; empty, never NULL, when there is none."""
    return Column(name, Text, nullable=False, server_default="")


def flag(name: str) -> Column[bool]:
    """Yes or no."""
    return Column(name, Boolean, nullable=False)


def count(name: str, default: int = 0) -> Column[int]:
    """A whole number that begins at `default`."""
    return Column(name, Integer, nullable=False, server_default=str(default))


def json(name: str, *, nullable: bool = False) -> Column[Any]:
    """A JSON document."""
    return Column(name, Json, nullable=nullable)


def time(name: str, *, nullable: bool = True) -> Column[datetime]:
    """A moment, aware, UTC."""
    return Column(name, UtcTime, nullable=nullable)


def born() -> Column[datetime]:
    """When the row was made."""
    return time("created_at", nullable=False)


def changed() -> Column[datetime]:
    """When the row was changed last."""
    return time("updated_at", nullable=False)


def one_of(column: str, words: Iterable[str]) -> CheckConstraint:
    """The column holds one of these words."""
    listed = ", ".join(f"'{word}'" for word in words)
    return CheckConstraint(f"{column} IN ({listed})", name=f"{column}_is_known")


def table(name: str, *items: Any) -> Table:
    """A table whose rows belong to a tenant and are named by (tenant_id, id)."""
    return Table(name, metadata, key("tenant_id"), key("id"), *items, PrimaryKeyConstraint("tenant_id", "id"))

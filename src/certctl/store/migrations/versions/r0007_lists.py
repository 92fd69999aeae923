"""Revision 7: lists and search. A table of what certificates are found by, and an index for each order and filter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql, sqlite

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# code point order whatever the database's locale, as in store/schema.py
SEARCHED = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
BATCH = 5000
LONGEST = 500

INDEXES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("managed_certificates", ("expires_at", "id")),
    ("managed_certificates", ("updated_at", "id")),
    ("managed_certificates", ("environment", "created_at", "id")),
    ("managed_certificates", ("owner_id", "created_at", "id")),
    ("managed_certificates", ("team_id", "created_at", "id")),
    ("managed_certificates", ("issuer_id", "created_at", "id")),
    ("managed_certificates", ("certificate_profile_id", "created_at", "id")),
    ("managed_certificates", ("renewal_policy_id", "created_at", "id")),
    ("jobs", ("type", "created_at", "id")),
    ("jobs", ("agent_id", "created_at", "id")),
    ("jobs", ("target_id", "created_at", "id")),
    ("deployment_targets", ("type", "name")),
    ("agents", ("status", "name")),
    ("agents", ("agent_group", "name")),
)

SEARCH_INDEXES = tuple(("certificate_names", (column, "certificate_id")) for column in ("value", "reversed"))

NAMES = sa.table(
    "certificate_names",
    sa.column("tenant_id"),
    sa.column("certificate_id"),
    sa.column("kind"),
    sa.column("value"),
    sa.column("reversed"),
)
JSON = sa.JSON()


def upgrade() -> None:
    """Expand, and fill the search table from what is there."""
    op.create_table(
        "certificate_names",
        sa.Column("tenant_id", sa.String(140), nullable=False),
        sa.Column("certificate_id", sa.String(140), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("value", SEARCHED, nullable=False),
        sa.Column("reversed", SEARCHED, nullable=False),
        sa.CheckConstraint(
            "kind IN ('name', 'common_name', 'san', 'serial_number', 'fingerprint')",
            name=op.f("ck_certificate_names_kind_is_known"),
        ),
        sa.PrimaryKeyConstraint("tenant_id", "certificate_id", "kind", "value", name=op.f("pk_certificate_names")),
    )
    _backfill(op.get_bind())
    for table, columns in (*SEARCH_INDEXES, *INDEXES):
        op.create_index(op.f(_index_name(table, columns)), table, ["tenant_id", *columns])


def downgrade() -> None:
    """Back to revision 6."""
    for table, columns in INDEXES:
        op.drop_index(op.f(_index_name(table, columns)), table_name=table)
    op.drop_table("certificate_names")


def _index_name(table: str, columns: tuple[str, ...]) -> str:
    return f"ix_{table}_{'_'.join(('tenant_id', *columns))}"


def _backfill(bind: sa.Connection) -> None:
    """The rows that the code writes from now on, for what is there already; frozen here as revision 7 knew them."""
    certificates = sa.table(
        "managed_certificates",
        sa.column("tenant_id"),
        sa.column("id"),
        sa.column("name"),
        sa.column("common_name"),
        sa.column("sans", JSON if bind.dialect.name == "sqlite" else postgresql.JSONB()),
    )
    for batch in _batches(bind, certificates):
        found: list[dict[str, str]] = []
        for row in batch:
            pairs = [("name", row.name), ("common_name", row.common_name), *(("san", san) for san in row.sans or ())]
            found += _rows(row.tenant_id, row.id, pairs)
        _write(bind, found)
    versions = sa.table(
        "certificate_versions",
        sa.column("tenant_id"),
        sa.column("id"),
        sa.column("certificate_id"),
        sa.column("serial_number"),
        sa.column("fingerprint_sha256"),
    )
    for batch in _batches(bind, versions):
        found = []
        for row in batch:
            pairs = [("serial_number", row.serial_number), ("fingerprint", row.fingerprint_sha256)]
            found += _rows(row.tenant_id, row.certificate_id, pairs)
        _write(bind, found)


def _rows(tenant_id: str, certificate_id: str, pairs: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [
        {
            "tenant_id": tenant_id,
            "certificate_id": certificate_id,
            "kind": kind,
            "value": text.lower()[:LONGEST],
            "reversed": text.lower()[:LONGEST][::-1] if kind in {"name", "common_name", "san"} else "",
        }
        for kind, text in pairs
        if text
    ]


def _write(bind: sa.Connection, rows: list[dict[str, str]]) -> None:
    if rows:
        dialect = postgresql if bind.dialect.name == "postgresql" else sqlite
        bind.execute(dialect.insert(NAMES).on_conflict_do_nothing(), rows)


def _batches(bind: sa.Connection, table: Any) -> Iterator[list[Any]]:
    last: tuple[str, str] = ("", "")
    while True:
        statement = (
            sa.select(table)
            .where(sa.tuple_(table.c.tenant_id, table.c.id) > sa.tuple_(*map(sa.literal, last)))
            .order_by(table.c.tenant_id, table.c.id)
            .limit(BATCH)
        )
        rows = bind.execute(statement).all()
        yield list(rows)
        if len(rows) < BATCH:
            return
        last = (rows[-1].tenant_id, rows[-1].id)

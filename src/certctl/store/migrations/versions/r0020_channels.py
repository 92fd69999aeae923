"""Channels, and an outbox that is delivered.

Expand only: a table, columns with defaults, three indexes. What the release before writes reads `skipped`, as it did.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_JSON = sa.JSON(none_as_null=True).with_variant(
    postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), "postgresql"
)
_TABLE = "notification_events"
_TEXTS = ("channel_id", "incident", "action", "subject", "html", "lease_owner")
_TIMES = ("read_at", "queued_at")
_INDEXES = (
    ("status", "next_retry_at"),
    ("incident", "created_at"),
    ("certificate_id", "created_at"),
    ("created_at",),
)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), server_default="", nullable=False)


def _reference(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=140), server_default="", nullable=False)


def _index(columns: tuple[str, ...]) -> str:
    return f"ix_{_TABLE}_tenant_id_{'_'.join(columns)}"


def upgrade() -> None:
    """One table, eight columns."""
    for name in _TEXTS:
        op.add_column(_TABLE, _reference(name) if name in {"channel_id", "incident"} else _text(name))
    for name in _TIMES:
        op.add_column(_TABLE, sa.Column(name, sa.DateTime(timezone=True)))
    for columns in _INDEXES:
        op.create_index(_index(columns), _TABLE, ["tenant_id", *columns])
    op.create_table(
        "notification_channels",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("id", sa.String(length=140), nullable=False),
        _text("name"),
        _text("type"),
        sa.Column("config", _JSON, nullable=False),
        sa.Column("secrets", _JSON, nullable=False),
        sa.Column("sealed_config", sa.LargeBinary()),
        _text("address"),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        _text("min_severity"),
        sa.Column("last_tested_at", sa.DateTime(timezone=True)),
        _text("test_status"),
        _text("source"),
        sa.Column("row_version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_notification_channels"),
        sa.UniqueConstraint("tenant_id", "name", name="uq_notification_channels_tenant_id_name"),
    )


def downgrade() -> None:
    """Channels are lost with their secrets; what waits is never sent, and what was told of it stays."""
    op.drop_table("notification_channels")
    for columns in _INDEXES:
        op.drop_index(_index(columns), _TABLE)
    for name in (*_TEXTS, *_TIMES):
        op.drop_column(_TABLE, name)

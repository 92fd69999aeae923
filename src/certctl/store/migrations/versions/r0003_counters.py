"""Revision 3: counters of the whole fleet, monotonic over restarts and replicas."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Two tables more."""
    op.create_table(
        "counter_deltas",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("labels", sa.Text(), server_default="", nullable=False),
        sa.Column("amount", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_counter_deltas")),
    )
    op.create_table(
        "counter_totals",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("name", sa.String(length=140), nullable=False),
        sa.Column("labels", sa.String(length=500), nullable=False),
        sa.Column("amount", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "name", "labels", name=op.f("pk_counter_totals")),
    )


def downgrade() -> None:
    """The counters are lost; nothing else depends on them."""
    op.drop_table("counter_totals")
    op.drop_table("counter_deltas")

"""Each new order asked of a CA is kept with what became of it; asks that are futile are paused.

Expand only: two tables, of which the release before knows nothing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def _key(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(140), nullable=False)


def _reference(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(140), server_default="", nullable=False)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), server_default="", nullable=False)


def upgrade() -> None:
    """Two tables."""
    op.create_table(
        "ca_asks",
        _key("tenant_id"),
        _key("id"),
        _reference("issuer_id"),
        _reference("certificate_id"),
        _reference("order_id"),
        sa.Column("names_hash", sa.String(64), nullable=False),
        _text("names"),
        sa.Column("exempt", sa.Boolean(), nullable=False),
        _text("state"),
        _text("detail"),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_ca_asks"),
        sa.CheckConstraint(
            "state IN ('asking', 'ordered', 'issued', 'refused', 'declined', 'lost', 'absent')",
            name=op.f("ck_ca_asks_state_is_known"),
        ),
    )
    op.create_index("ix_ca_asks_tenant_id_issuer_id_asked_at", "ca_asks", ["tenant_id", "issuer_id", "asked_at"])
    op.create_index(
        "ix_ca_asks_tenant_id_issuer_id_names_hash_asked_at",
        "ca_asks",
        ["tenant_id", "issuer_id", "names_hash", "asked_at"],
    )
    op.create_index("ix_ca_asks_tenant_id_order_id", "ca_asks", ["tenant_id", "order_id"])
    op.create_table(
        "ca_pauses",
        _key("tenant_id"),
        _key("issuer_id"),
        sa.Column("names_hash", sa.String(64), nullable=False),
        _reference("certificate_id"),
        _text("names"),
        _text("reason"),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("resumed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "issuer_id", "names_hash", name="pk_ca_pauses"),
    )


def downgrade() -> None:
    """What was asked is forgotten: budgets begin anew, and nothing is paused."""
    op.drop_table("ca_pauses")
    op.drop_table("ca_asks")

"""Receivers of the audit log: how far each has come.

Expand only: one new table.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def _number(name: str, kind: type[sa.Integer]) -> sa.Column[int]:
    return sa.Column(name, kind(), server_default="0", nullable=False)


def upgrade() -> None:
    """One table."""
    op.create_table(
        "audit_receivers",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("name", sa.String(length=140), nullable=False),
        _number("transaction_id", sa.BigInteger),
        _number("seq", sa.BigInteger),
        _number("sent", sa.BigInteger),
        sa.Column("sent_at", sa.DateTime(timezone=True)),
        _number("failures", sa.Integer),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.Column("next_try_at", sa.DateTime(timezone=True)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "name", name=op.f("pk_audit_receivers")),
    )


def downgrade() -> None:
    """Where receivers were is lost: a later upgrade sends them all there is, again."""
    op.drop_table("audit_receivers")

"""The audit seal: a Merkle tree over the events, its stored subtrees and signed heads.

Expand only: four new tables. Events that were there before are sealed like new ones, by the first ticks.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def _key(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=140), nullable=False)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), server_default="", nullable=False)


def _big(name: str, default: str | None = None) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), server_default=default, nullable=False)


def _bytes(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary(), nullable=False)


def upgrade() -> None:
    """Four tables."""
    op.create_table(
        "audit_tree",
        _key("tenant_id"),
        sa.Column("key_ref", sa.String(length=140), server_default="", nullable=False),
        _text("origin"),
        _big("size", "0"),
        _big("transaction_id", "0"),
        _big("seq", "0"),
        _big("verified_size", "0"),
        sa.Column("verified_at", sa.DateTime(timezone=True)),
        sa.Column("walked_at", sa.DateTime(timezone=True)),
        sa.Column("broken_at", sa.BigInteger()),
        _text("broken"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_audit_tree"),
    )
    op.create_table(
        "audit_leaves",
        _key("tenant_id"),
        _big("leaf_index"),
        _big("seq"),
        _bytes("hash"),
        sa.PrimaryKeyConstraint("tenant_id", "leaf_index", name="pk_audit_leaves"),
        sa.UniqueConstraint("tenant_id", "seq", name="uq_audit_leaves_tenant_id_seq"),
    )
    op.create_table(
        "audit_nodes",
        _key("tenant_id"),
        sa.Column("level", sa.Integer(), nullable=False),
        _big("position"),
        _bytes("hash"),
        sa.PrimaryKeyConstraint("tenant_id", "level", "position", name="pk_audit_nodes"),
    )
    op.create_table(
        "audit_heads",
        _key("tenant_id"),
        _big("size"),
        _bytes("root"),
        _text("note"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "size", name="pk_audit_heads"),
    )


def downgrade() -> None:
    """The seal is lost; the events stay. A later upgrade begins a new tree under a new key."""
    for table in ("audit_heads", "audit_nodes", "audit_leaves", "audit_tree"):
        op.drop_table(table)

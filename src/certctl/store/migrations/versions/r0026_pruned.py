"""The audit log may be pruned: packed hashes of what was, and how far it was pruned, and who set break-glass passwords.

Expand only: two tables and a column with a default. The release before reads and writes as ever while nothing is
pruned; it takes what was pruned for removed, so a retention is set when every process is of this release.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Two tables and a column."""
    op.add_column("audit_tree", sa.Column("pruned_size", sa.BigInteger(), server_default="0", nullable=False))
    op.create_table(
        "audit_blocks",
        sa.Column("tenant_id", sa.String(140), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("hashes", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "position", name="pk_audit_blocks"),
    )
    op.create_table(
        "breakglass_setters",
        sa.Column("tenant_id", sa.String(140), nullable=False),
        sa.Column("name", sa.String(140), nullable=False),
        sa.Column("setter", sa.String(140), nullable=False),
        sa.Column("first_set_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "name", "setter", name="pk_breakglass_setters"),
    )


def downgrade() -> None:
    """What was pruned is gone in any case; without the packed hashes nothing of the log can be proved any more."""
    op.drop_table("breakglass_setters")
    op.drop_table("audit_blocks")
    with op.batch_alter_table("audit_tree") as batch:
        batch.drop_column("pruned_size")

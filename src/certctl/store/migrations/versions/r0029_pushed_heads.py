"""Signed tree heads go to the receivers of the audit log, too: which was the last that each of them has.

Expand only: a column with a default. The release before sends events and no heads, and leaves it as it is.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A column."""
    op.add_column("audit_receivers", sa.Column("head_size", sa.BigInteger(), server_default="0", nullable=False))


def downgrade() -> None:
    """Without it every receiver is told a head once more."""
    with op.batch_alter_table("audit_receivers") as batch:
        batch.drop_column("head_size")

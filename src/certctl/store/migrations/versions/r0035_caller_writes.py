"""Where in the log the last change of each caller ended, for reads from a standby.

Expand only: one table, which is written where a standby is read from and nowhere else.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None

_TABLE = "caller_writes"


def upgrade() -> None:
    """One table."""
    op.create_table(
        _TABLE,
        sa.Column("tenant_id", sa.String(140), nullable=False),
        sa.Column("actor_id", sa.Text(), nullable=False),
        sa.Column("place", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "actor_id", name=f"pk_{_TABLE}"),
    )


def downgrade() -> None:
    """Nothing is lost that matters: the release before reads from the primary alone."""
    op.drop_table(_TABLE)

"""Views of lists that people keep under a name of their own.

Expand only: one table.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

_TABLE = "saved_views"


def upgrade() -> None:
    """One table."""
    op.create_table(
        _TABLE,
        sa.Column("tenant_id", sa.String(140), nullable=False),
        sa.Column("id", sa.String(140), nullable=False),
        *(sa.Column(name, sa.String(140), server_default="", nullable=False) for name in ("actor_id", "path", "name")),
        sa.Column("query", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=f"pk_{_TABLE}"),
        sa.UniqueConstraint("tenant_id", "actor_id", "path", "name", name=f"uq_{_TABLE}_tenant_id_actor_id_path_name"),
    )


def downgrade() -> None:
    """The views are lost: the lists and their filters stay."""
    op.drop_table(_TABLE)

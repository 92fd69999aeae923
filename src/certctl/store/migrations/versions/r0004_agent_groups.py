"""Revision 4: agent groups."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """A new table: the code of the last release does not know it."""
    op.create_table(
        "agent_groups",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("id", sa.String(length=140), nullable=False),
        *(
            sa.Column(name, sa.Text(), server_default="", nullable=False)
            for name in ("name", "description", "match_os", "match_architecture", "match_ip_cidr", "match_version")
        ),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_agent_groups")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_agent_groups_tenant_id_name")),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("agent_groups")

"""Answers to challenges of other CAs, from when they are put until they are taken away again.

Expand only: a table. The release before writes none: what it leaves behind in a zone stays there, as it did.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One table."""
    op.create_table(
        "ca_proofs",
        sa.Column("tenant_id", sa.String(140), nullable=False),
        sa.Column("order_id", sa.String(140), nullable=False),
        sa.Column("token", sa.String(512), nullable=False),
        sa.Column("issuer_id", sa.String(140), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("key_authorization", sa.Text(), nullable=False, server_default=""),
        sa.Column("job_id", sa.String(140), nullable=False, server_default=""),
        sa.Column("agent_id", sa.String(140), nullable=False, server_default=""),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "order_id", "token", name="pk_ca_proofs"),
    )


def downgrade() -> None:
    """What still stands in a zone then is taken away by nobody."""
    op.drop_table("ca_proofs")

"""Revision 11: edits that do not overwrite one another (row versions), requests that act once (idempotency keys)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

EDITED = (
    "teams",
    "policy_rules",
    "owners",
    "agent_groups",
    "certificate_profiles",
    "renewal_policies",
    "issuers",
    "deployment_targets",
)
TEXT = sa.Text()
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Expand."""
    for table in EDITED:
        op.add_column(table, sa.Column("row_version", sa.Integer(), server_default="1", nullable=False))
    op.create_table(
        "idempotency_keys",
        sa.Column("tenant_id", sa.String(140), nullable=False),
        sa.Column("caller", sa.String(300), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("request_hash", sa.String(64), nullable=False),
        sa.Column("phase", TEXT, server_default="", nullable=False),
        sa.Column("token", TEXT, server_default="", nullable=False),
        sa.Column("lease_until", TIME, nullable=False),
        sa.Column("subject_type", TEXT, server_default="", nullable=False),
        sa.Column("subject_id", sa.String(140), server_default="", nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.CheckConstraint(
            "phase IN ('claimed', 'acted', 'answered')", name=op.f("ck_idempotency_keys_phase_is_known")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "caller", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_tenant_id_expires_at"), "idempotency_keys", ["tenant_id", "expires_at"])


def downgrade() -> None:
    """Back to revision 10."""
    op.drop_table("idempotency_keys")
    for table in EDITED:
        op.drop_column(table, "row_version")

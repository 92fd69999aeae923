"""Approvals: what people are asked to decide, and what they said."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    """One new table; the release before does not look at it."""
    op.create_table(
        "approval_requests",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("id", sa.String(length=140), nullable=False),
        sa.Column("kind", sa.Text(), server_default="", nullable=False),
        sa.Column("certificate_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("job_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("profile_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("requested_by", sa.Text(), server_default="", nullable=False),
        sa.Column("state", sa.Text(), server_default="", nullable=False),
        sa.Column("decision_hash", sa.Text(), server_default="", nullable=False),
        sa.Column("decided_by", sa.Text(), server_default="", nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decision_note", sa.Text(), server_default="", nullable=False),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "state IN ('pending', 'approved', 'rejected', 'expired')", name=op.f("ck_approval_requests_state_is_known")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_approval_requests")),
        sa.UniqueConstraint("tenant_id", "job_id", name=op.f("uq_approval_requests_tenant_id_job_id")),
    )
    for columns in (["tenant_id", "state", "created_at", "id"], ["tenant_id", "created_at", "id"]):
        op.create_index(op.f(f"ix_approval_requests_{'_'.join(columns)}"), "approval_requests", columns, unique=False)


def downgrade() -> None:
    """Drop it: jobs that wait for approval go on waiting."""
    op.drop_table("approval_requests")

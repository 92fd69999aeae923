"""Batches: one action over many certificates, and their items."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    """Two new tables; the release before does not look at them."""
    op.create_table(
        "batches",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("id", sa.String(length=140), nullable=False),
        sa.Column("action", sa.Text(), server_default="", nullable=False),
        sa.Column("dry_run", sa.Boolean(), nullable=False),
        sa.Column("status", sa.Text(), server_default="", nullable=False),
        sa.Column("status_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("selection", JSON, nullable=False),
        sa.Column("wanted", JSON, nullable=False),
        sa.Column("max_failures", sa.Integer(), nullable=True),
        sa.Column("scope", JSON, nullable=False),
        sa.Column("scope_key", sa.Text(), server_default="", nullable=False),
        sa.Column("key_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("permission", sa.Text(), server_default="", nullable=False),
        sa.Column("requested_by", sa.Text(), server_default="", nullable=False),
        sa.Column("actor_type", sa.Text(), server_default="", nullable=False),
        sa.Column("request_id", sa.Text(), server_default="", nullable=False),
        sa.Column("address", sa.Text(), server_default="", nullable=False),
        sa.Column("total", sa.Integer(), server_default="0", nullable=False),
        sa.Column("done", sa.Integer(), server_default="0", nullable=False),
        sa.Column("skipped", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_owner", sa.Text(), server_default="", nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("run_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("action IN ('revoke', 'renew', 'reassign')", name=op.f("ck_batches_action_is_known")),
        sa.CheckConstraint(
            "status IN ('running', 'completed', 'cancelled', 'halted')", name=op.f("ck_batches_status_is_known")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_batches")),
    )
    op.create_index(
        op.f("ix_batches_tenant_id_created_at_id"), "batches", ["tenant_id", "created_at", "id"], unique=False
    )
    op.create_index(
        "ix_batches_running",
        "batches",
        ["tenant_id", "run_at"],
        unique=False,
        sqlite_where=sa.text("status = 'running'"),
        postgresql_where=sa.text("status = 'running'"),
    )
    op.create_table(
        "batch_items",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("batch_id", sa.String(length=140), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("certificate_id", sa.String(length=140), nullable=False),
        sa.Column("status", sa.Text(), server_default="", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("error_kind", sa.Text(), server_default="", nullable=False),
        sa.Column("job_ids", JSON, nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status IN ('pending', 'done', 'skipped', 'failed')", name=op.f("ck_batch_items_status_is_known")
        ),
        sa.PrimaryKeyConstraint("tenant_id", "batch_id", "seq", name=op.f("pk_batch_items")),
    )
    op.create_index(
        op.f("ix_batch_items_tenant_id_batch_id_status_seq"),
        "batch_items",
        ["tenant_id", "batch_id", "status", "seq"],
        unique=False,
    )


def downgrade() -> None:
    """Drop them: what batches did stays done."""
    op.drop_table("batch_items")
    op.drop_table("batches")

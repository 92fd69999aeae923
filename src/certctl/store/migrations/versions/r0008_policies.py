"""Revision 8: policies and their violations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
SEVERITIES = "severity IN ('Warning', 'Error', 'Critical')"


def upgrade() -> None:
    """New tables: the code of the last release does not know them."""
    op.create_table(
        "policy_rules",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("id", sa.String(length=140), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("type", sa.Text(), server_default="", nullable=False),
        sa.Column("config", JSON, nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("severity", sa.Text(), server_default="", nullable=False),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("evaluated_version", sa.Integer(), server_default="0", nullable=False),
        sa.Column("evaluated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("scan_after", sa.String(length=140), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(SEVERITIES, name=op.f("ck_policy_rules_severity_is_known")),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_policy_rules")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_policy_rules_tenant_id_name")),
    )
    op.create_table(
        "policy_violations",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("id", sa.String(length=140), nullable=False),
        sa.Column("certificate_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("rule_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("message", sa.Text(), server_default="", nullable=False),
        sa.Column("severity", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(SEVERITIES, name=op.f("ck_policy_violations_severity_is_known")),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_policy_violations")),
        sa.UniqueConstraint(
            "tenant_id",
            "rule_id",
            "certificate_id",
            name=op.f("uq_policy_violations_tenant_id_rule_id_certificate_id"),
        ),
    )
    op.create_index(
        "ix_policy_violations_tenant_id_rule_id_created_at_id",
        "policy_violations",
        ["tenant_id", "rule_id", "created_at", "id"],
    )
    op.create_index(
        "ix_policy_violations_tenant_id_certificate_id", "policy_violations", ["tenant_id", "certificate_id"]
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("policy_violations")
    op.drop_table("policy_rules")

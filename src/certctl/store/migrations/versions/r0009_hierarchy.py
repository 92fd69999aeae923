"""Revision 9: intents of CA certificates, and what people say of a CA."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
ADDED = ("name", "metadata", "path_length", "updated_at")


def upgrade() -> None:
    """A new table, and columns that the code of the last release need not fill."""
    op.add_column("ca_certificates", sa.Column("name", sa.Text(), server_default="", nullable=False))
    op.add_column("ca_certificates", sa.Column("metadata", JSON, server_default="{}", nullable=False))
    op.add_column("ca_certificates", sa.Column("path_length", sa.Integer(), nullable=True))
    op.add_column("ca_certificates", sa.Column("updated_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "ca_intents",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("id", sa.String(length=140), nullable=False),
        sa.Column("issuer_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("parent_id", sa.String(length=140), server_default="", nullable=False),
        sa.Column("key_ref", sa.String(length=140), server_default="", nullable=False),
        sa.Column("key_algorithm", sa.Text(), server_default="", nullable=False),
        sa.Column("generation", sa.Integer(), server_default="1", nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("metadata", JSON, nullable=False),
        sa.Column("path_length", sa.Integer(), server_default="0", nullable=False),
        sa.Column("serial_number", sa.Text(), server_default="", nullable=False),
        sa.Column("tbs_der", sa.LargeBinary(), nullable=False),
        sa.Column("created_by", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_ca_intents")),
        sa.UniqueConstraint(
            "tenant_id", "issuer_id", "generation", name=op.f("uq_ca_intents_tenant_id_issuer_id_generation")
        ),
        sa.UniqueConstraint("tenant_id", "issuer_id", "name", name=op.f("uq_ca_intents_tenant_id_issuer_id_name")),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("ca_intents")
    with op.batch_alter_table("ca_certificates") as batch:
        for column in ADDED:
            batch.drop_column(column)

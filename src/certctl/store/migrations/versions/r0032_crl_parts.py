"""Shards and delta CRLs: parts of a CA's CRL, and what each shard's must tell at least.

Expand only: two tables. The release before gives the full CRL alone, at the address that it always had; certificates
that name a shard find it at servers of this release.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Two tables."""
    op.create_table(
        "crl_shards",
        sa.Column("tenant_id", sa.String(140), nullable=False),
        sa.Column("ca_certificate_id", sa.String(140), nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("listed_number", sa.BigInteger(), nullable=False),
        sa.Column("listed_total", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "ca_certificate_id", "shard", name="pk_crl_shards"),
    )
    op.create_table(
        "crl_parts",
        sa.Column("tenant_id", sa.String(140), nullable=False),
        sa.Column("id", sa.String(140), nullable=False),
        sa.Column("ca_certificate_id", sa.String(140), server_default="", nullable=False),
        sa.Column("shard", sa.Integer(), server_default="0", nullable=False),
        sa.Column("is_delta", sa.Boolean(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("base_number", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("base_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("this_update", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_update", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("crl_der", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_crl_parts"),
        sa.UniqueConstraint(
            "tenant_id",
            "ca_certificate_id",
            "shard",
            "is_delta",
            "number",
            name="uq_crl_parts_tenant_id_ca_certificate_id_shard_is_delta_number",
        ),
    )


def downgrade() -> None:
    """Certificates that name a shard have no CRL of their own any more; the full one tells them."""
    op.drop_table("crl_parts")
    op.drop_table("crl_shards")

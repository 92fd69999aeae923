"""Entries of CRLs are kept encoded: chunks of them, how far each CA's numbers have come, and which CRL told what first.

Expand only: two tables, and two columns of revocations. The release before writes revocations without a number, as
those that no CRL of this release has told yet: the next one encodes them, which is also how what is there is filled in.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

_WAITING = sa.text("listed_number IS NULL AND ca_certificate_id <> ''")


def upgrade() -> None:
    """Two tables, two columns, two indexes."""
    op.add_column("certificate_revocations", sa.Column("listed_number", sa.BigInteger(), nullable=True))
    op.add_column("certificate_revocations", sa.Column("crl_shard", sa.Integer(), server_default="0", nullable=False))
    op.create_index(
        "ix_certificate_revocations_unlisted",
        "certificate_revocations",
        ["tenant_id", "ca_certificate_id"],
        sqlite_where=_WAITING,
        postgresql_where=_WAITING,
    )
    op.create_index(
        "ix_certificate_revocations_listed",
        "certificate_revocations",
        ["tenant_id", "ca_certificate_id", "listed_number"],
    )
    op.create_table(
        "crl_numbers",
        sa.Column("tenant_id", sa.String(140), nullable=False),
        sa.Column("ca_certificate_id", sa.String(140), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("listed_number", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("listed_total", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "ca_certificate_id", name="pk_crl_numbers"),
    )
    op.create_table(
        "crl_chunks",
        sa.Column("tenant_id", sa.String(140), nullable=False),
        sa.Column("id", sa.String(140), nullable=False),
        sa.Column("ca_certificate_id", sa.String(140), server_default="", nullable=False),
        sa.Column("shard", sa.Integer(), server_default="0", nullable=False),
        sa.Column("ends_on", sa.DateTime(timezone=True), nullable=False),
        sa.Column("size", sa.Integer(), server_default="0", nullable=False),
        sa.Column("entries_der", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_crl_chunks"),
    )
    op.create_index("ix_crl_chunks_ca", "crl_chunks", ["tenant_id", "ca_certificate_id", "id"])
    op.create_index("ix_crl_chunks_open", "crl_chunks", ["tenant_id", "ca_certificate_id", "shard", "ends_on", "size"])


def downgrade() -> None:
    """The release before counts revocations and encodes them all each time."""
    op.drop_table("crl_chunks")
    op.drop_table("crl_numbers")
    op.drop_index("ix_certificate_revocations_listed", "certificate_revocations")
    op.drop_index("ix_certificate_revocations_unlisted", "certificate_revocations")
    with op.batch_alter_table("certificate_revocations") as batch:
        batch.drop_column("crl_shard")
        batch.drop_column("listed_number")

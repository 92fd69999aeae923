"""Under which registered domains the names of an ask lie, for CAs that limit certificates by them.

Expand only: a table. The release before writes none, so that what it asks counts for nothing until it is replaced.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One table."""
    op.create_table(
        "ca_ask_domains",
        sa.Column("tenant_id", sa.String(140), nullable=False),
        sa.Column("ask_id", sa.String(140), nullable=False),
        sa.Column("domain", sa.String(255), nullable=False),
        sa.Column("ca_host", sa.String(255), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "ask_id", "domain", name="pk_ca_ask_domains"),
    )
    index, columns = (
        "ix_ca_ask_domains_tenant_id_ca_host_domain_asked_at",
        ("tenant_id", "ca_host", "domain", "asked_at"),
    )
    op.create_index(index, "ca_ask_domains", columns)
    op.create_index("ix_ca_ask_domains_tenant_id_asked_at", "ca_ask_domains", ["tenant_id", "asked_at"])


def downgrade() -> None:
    """The counts are gone: the CA says itself when it is too much."""
    op.drop_table("ca_ask_domains")

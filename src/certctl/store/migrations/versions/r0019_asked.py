"""Accounts, orders and challenges of ours at other CAs, and what those suggest.

Expand only: four tables, of which the release before knows nothing.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def _key(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(140), nullable=False)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), server_default="", nullable=False)


def _time(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    """Four tables."""
    op.create_table(
        "ca_accounts",
        _key("tenant_id"),
        _key("id"),
        sa.Column("issuer_id", sa.String(140), server_default="", nullable=False),
        sa.Column("directory_url", sa.String(500), nullable=False),
        _text("url"),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("sealed_next", sa.LargeBinary(), nullable=True),
        _time("created_at"),
        _time("updated_at"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_ca_accounts"),
        sa.UniqueConstraint(
            "tenant_id", "issuer_id", "directory_url", name="uq_ca_accounts_tenant_id_issuer_id_directory_url"
        ),
    )
    op.create_table(
        "ca_orders",
        _key("tenant_id"),
        _key("issuer_id"),
        sa.Column("url", sa.String(2000), nullable=False),
        _key("order_id"),
        _time("created_at"),
        sa.PrimaryKeyConstraint("tenant_id", "issuer_id", "url", name="pk_ca_orders"),
    )
    op.create_index("ix_ca_orders_tenant_id_order_id", "ca_orders", ["tenant_id", "order_id"])
    op.create_table(
        "ca_answers",
        _key("tenant_id"),
        sa.Column("token", sa.String(512), nullable=False),
        _text("key_authorization"),
        _time("expires_at"),
        sa.PrimaryKeyConstraint("tenant_id", "token", name="pk_ca_answers"),
    )
    op.create_index("ix_ca_answers_tenant_id_expires_at", "ca_answers", ["tenant_id", "expires_at"])
    op.create_table(
        "renewal_suggestions",
        _key("tenant_id"),
        _key("version_id"),
        _time("window_start", nullable=True),
        _time("window_end", nullable=True),
        _text("explanation_url"),
        _text("error"),
        _time("ask_again_at"),
        _time("updated_at"),
        sa.PrimaryKeyConstraint("tenant_id", "version_id", name="pk_renewal_suggestions"),
    )
    op.create_index(
        "ix_renewal_suggestions_tenant_id_ask_again_at", "renewal_suggestions", ["tenant_id", "ask_again_at"]
    )


def downgrade() -> None:
    """Accounts at CAs are lost with their keys: a later upgrade registers new ones. Certificates stay."""
    for table in ("renewal_suggestions", "ca_answers", "ca_orders", "ca_accounts"):
        op.drop_table(table)

"""Revision 10: the order in which followers read the log."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

NAME = "ix_audit_events_tenant_id_transaction_id_seq"


def upgrade() -> None:
    """Only an index: the code of the last release works on with it."""
    op.create_index(NAME, "audit_events", ["tenant_id", "transaction_id", "seq"])


def downgrade() -> None:
    """Drop it."""
    op.drop_index(NAME, "audit_events")

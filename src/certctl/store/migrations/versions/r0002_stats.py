"""Revision 2: indexes that counts for overviews are answered from."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INDEXES = (
    ("managed_certificates", ("tenant_id", "status", "expires_at")),
    ("managed_certificates", ("tenant_id", "team_id", "status", "expires_at")),
    ("certificate_versions", ("tenant_id", "created_at")),
    ("jobs", ("tenant_id", "completed_at", "status")),
)


def upgrade() -> None:
    """Only indexes: the code of the last release works on with them."""
    for table, columns in INDEXES:
        op.create_index(f"ix_{table}_{'_'.join(columns)}", table, columns)


def downgrade() -> None:
    """Drop them."""
    for table, columns in INDEXES:
        op.drop_index(f"ix_{table}_{'_'.join(columns)}", table)

"""Revision 15: row versions of roles and keys; whose a key is, and who was shown its value."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

EDITED = ("roles", "api_keys")


def upgrade() -> None:
    """Expand: columns with defaults, of which the release before knows nothing."""
    for table in EDITED:
        op.add_column(table, sa.Column("row_version", sa.Integer(), server_default="1", nullable=False))
    for name in ("person", "shown_to"):
        op.add_column("api_keys", sa.Column(name, sa.Text(), server_default="", nullable=False))
    op.add_column("api_keys", sa.Column("shown_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Back to revision 14: a named person's key is again its maker's."""
    for name in ("shown_at", "shown_to", "person"):
        op.drop_column("api_keys", name)
    for table in EDITED:
        op.drop_column(table, "row_version")

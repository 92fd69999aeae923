"""Renewal policies say when a renewal may run: windows of the week, and freezes.

Expand only: two columns with defaults. The release before renews without looking at them.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    """Two columns."""
    for name in ("renewal_windows", "freezes"):
        op.add_column("renewal_policies", sa.Column(name, JSON, server_default="[]", nullable=False))


def downgrade() -> None:
    """Calendars are lost."""
    for name in ("freezes", "renewal_windows"):
        op.drop_column("renewal_policies", name)

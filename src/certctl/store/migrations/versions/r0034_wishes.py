"""Holders that are asked to replace a version.

Expand only: a column that may be empty.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

_TABLE, _COLUMN = "certificate_versions", "replacement_wished_at"


def upgrade() -> None:
    """One column."""
    op.add_column(_TABLE, sa.Column(_COLUMN, sa.DateTime(timezone=True)))


def downgrade() -> None:
    """Wishes are forgotten: a window that had moved moves back."""
    op.drop_column(_TABLE, _COLUMN)

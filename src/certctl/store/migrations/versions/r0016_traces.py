"""The trace that a job belongs to.

Expand only: one text with a default, of which the release before knows nothing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One column."""
    op.add_column("jobs", sa.Column("traceparent", sa.Text(), server_default="", nullable=False))


def downgrade() -> None:
    """Traces are not kept."""
    op.drop_column("jobs", "traceparent")

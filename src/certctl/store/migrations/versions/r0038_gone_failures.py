"""Failures of a batch's jobs whose history has gone.

Expand only: a column with a default. Code of before counts those that are still there.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One column."""
    op.add_column("batches", sa.Column("jobs_failed_gone", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    """What is resumed counts what is still there."""
    op.drop_column("batches", "jobs_failed_gone")

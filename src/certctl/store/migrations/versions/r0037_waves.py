"""Batches that go in waves.

Expand only: two columns with defaults. Code of before runs such a batch without its pauses.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None

_WAVES = ("wave_size", "wave_pause_seconds")


def upgrade() -> None:
    """Two columns."""
    for name in _WAVES:
        op.add_column("batches", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    """What is under way goes on without a pause."""
    for name in reversed(_WAVES):
        op.drop_column("batches", name)

"""A profile may offer others in its ACME directory.

Expand only: one column with a default. The release before reads and writes profiles as ever; it offers none of these.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One column."""
    kind = sa.JSON().with_variant(JSONB(), "postgresql")
    op.add_column("certificate_profiles", sa.Column("acme_profiles", kind, server_default="[]", nullable=False))


def downgrade() -> None:
    """Every directory offers its own profile alone again."""
    op.drop_column("certificate_profiles", "acme_profiles")

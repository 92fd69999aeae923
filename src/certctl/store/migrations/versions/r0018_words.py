"""Approvals by M of N people: how many words a profile asks for, whose count, each word, and edits of profiles.

Expand only. The release before asks for one word and applies edits of gated profiles at once, while it runs beside.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def _count(name: str, default: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer(), server_default=default, nullable=False)


def upgrade() -> None:
    """Columns with defaults, one new table."""
    op.add_column("certificate_profiles", _count("approvals_required", "1"))
    op.add_column("certificate_profiles", sa.Column("approvers", JSON, server_default="[]", nullable=False))
    op.add_column("approval_requests", _count("required", "1"))
    op.add_column("approval_requests", _count("given", "0"))
    op.add_column("approval_requests", _count("profile_version", "0"))
    op.add_column("approval_requests", sa.Column("payload", JSON, nullable=True))
    op.create_table(
        "approval_words",
        sa.Column("tenant_id", sa.String(length=140), nullable=False),
        sa.Column("approval_id", sa.String(length=140), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), server_default="", nullable=False),
        sa.Column("known_to", JSON, nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "approval_id", "person", name=op.f("pk_approval_words")),
    )


def downgrade() -> None:
    """Each profile asks for one word again; words of those not decided yet, and edits that wait, are lost."""
    op.drop_table("approval_words")
    op.execute("DELETE FROM approval_requests WHERE kind = 'profile_edit'")
    for column in ("payload", "profile_version", "given", "required"):
        op.drop_column("approval_requests", column)
    for column in ("approvers", "approvals_required"):
        op.drop_column("certificate_profiles", column)

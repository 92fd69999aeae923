"""Indexes of lists tell the state of a certificate too, so that a list of one owner's active ones reads no others.

Expand only: each takes the place of the same one without `status`, which any release can read it as; and of an index on
the time of an end nothing is missed, since another begins with it. Built beforehand, while others write (`ONLINE`).
"""

from __future__ import annotations

from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

_TABLE = "managed_certificates"
# what a list is narrowed by, and the index from now on
_NARROWED = (
    ("environment", "ix_certificates_by_environment"),
    ("owner_id", "ix_certificates_by_owner"),
    ("team_id", "ix_certificates_by_team"),
    ("issuer_id", "ix_certificates_by_issuer"),
    ("certificate_profile_id", "ix_certificates_by_profile"),
    ("renewal_policy_id", "ix_certificates_by_renewal_policy"),
)
# read by `store.migrate`: name, table, columns
ONLINE = tuple((name, _TABLE, ("tenant_id", column, "created_at", "id", "status")) for column, name in _NARROWED)
_ENDS = "ix_managed_certificates_tenant_id_expires_at"


def upgrade() -> None:
    """Six indexes for six, and one less."""
    for (name, table, columns), (column, _) in zip(ONLINE, _NARROWED, strict=True):
        op.create_index(name, table, list(columns), if_not_exists=True)
        op.drop_index(_before(column), table_name=table)
    op.drop_index(_ENDS, table_name=_TABLE)


def downgrade() -> None:
    """Back to the indexes of before; nothing is lost."""
    op.create_index(op.f(_ENDS), _TABLE, ["tenant_id", "expires_at"])
    for column, name in _NARROWED:
        op.create_index(_before(column), _TABLE, ["tenant_id", column, "created_at", "id"])
        op.drop_index(name, table_name=_TABLE)


def _before(column: str) -> str:
    return op.f(f"ix_{_TABLE}_tenant_id_{column}_created_at_id")  # which shortens what is too long for PostgreSQL

"""Indexes of lists: by state and change, by state and end with what tells rows apart, and by source.

Expand only: one takes the place of the same one without `id`, which any release can read it as; `source` is indexed
where it is told, which certificates that were simply asked for do not. Built beforehand, while others write (`ONLINE`).
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0046"
down_revision = "0038"
branch_labels = None
depends_on = None

_TABLE = "managed_certificates"
_ENDS = "ix_managed_certificates_tenant_id_status_expires_at"
_SOURCE = ("ix_certificates_by_source", ("tenant_id", "source", "created_at", "id", "status"), "source <> ''")
_NEW = (
    ("ix_managed_certificates_tenant_id_status_updated_at_id", ("tenant_id", "status", "updated_at", "id"), ""),
    (f"{_ENDS}_id", ("tenant_id", "status", "expires_at", "id"), ""),
    _SOURCE,
)
# read by `store.migrate`: name, table, columns, of which rows
ONLINE = tuple((name, _TABLE, columns, where) for name, columns, where in _NEW)


def upgrade() -> None:
    """Three indexes, and one less."""
    for name, columns, where in _NEW:
        part = sa.text(where) if where else None
        op.create_index(name, _TABLE, list(columns), if_not_exists=True, sqlite_where=part, postgresql_where=part)
    op.drop_index(_ENDS, table_name=_TABLE)


def downgrade() -> None:
    """Back to the indexes of before; nothing is lost."""
    op.create_index(_ENDS, _TABLE, ["tenant_id", "status", "expires_at"])
    for name, _, _ in reversed(_NEW):
        op.drop_index(name, table_name=_TABLE)

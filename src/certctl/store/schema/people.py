"""What people keep for themselves."""

from __future__ import annotations

from sqlalchemy import UniqueConstraint

from certctl.store.schema import columns as c

saved_views = c.table(
    "saved_views",
    c.reference("actor_id"),
    c.reference("path"),
    c.reference("name"),
    c.words("query"),
    c.born(),
    c.changed(),
    UniqueConstraint("tenant_id", "actor_id", "path", "name"),
)

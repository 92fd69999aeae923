"""The floor: what a revision that takes something away says of the releases that can no longer work beneath it.

It is one row of `installation`, so that every release since the first can read it. A revision that only adds leaves it
alone.
"""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

from certctl.core.ids import DEFAULT_TENANT
from certctl.store.schema import installation

_NAME = "schema_floor"
FLOOR_ROW = (installation.c.tenant_id == DEFAULT_TENANT, installation.c.name == _NAME)


def raise_floor(connection: sa.Connection, revision: str) -> None:
    """From now on only releases that know `revision` may work on this database; call it in a contracting revision."""
    connection.execute(sa.delete(installation).where(*FLOOR_ROW))
    row = {"tenant_id": DEFAULT_TENANT, "name": _NAME, "value": revision.encode(), "created_at": datetime.now(UTC)}
    connection.execute(sa.insert(installation).values(row))

"""Several records of different kinds, each by its id, in one statement: what one decision needs is read at once.

The statement is made once for a list of kinds; whoever is not there is None.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa


def columns(kind: type[msgspec.Struct], table: sa.FromClause, stem: str) -> list[sa.Label[Any]]:
    """The columns of a kind, in the order of its fields, each under a name of its own."""
    return [table.c[name].label(f"{stem}_{name}") for name in kind.__struct_fields__]


def taken_apart(row: Sequence[Any], *kinds: type[msgspec.Struct]) -> list[Any]:
    """The records that a row holds one behind the other, as `columns` listed them; None for one without a tenant, which
    is how a row that was not found reads.
    """
    found: list[Any] = []
    at = 0
    for kind in kinds:
        fields = kind.__struct_fields__
        values = row[at : at + len(fields)]
        at += len(fields)
        is_there = values[fields.index("tenant_id")] is not None
        found.append(kind(**dict(zip(fields, values, strict=True))) if is_there else None)
    return found

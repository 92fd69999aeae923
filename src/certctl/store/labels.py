"""The names of what operators configure, of several kinds in one statement: what a page's choices and columns say.

A page that asks for each kind by itself waits for the database once a kind, and each wait is longer than the work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from certctl.core.scope import Scope
from certctl.store import catalogue
from certctl.store.catalogue import TABLES
from certctl.store.tx import Tx

Kind = type[Any]


class Label(Struct, frozen=True):
    """A record's id and name."""

    id: str
    name: str


async def first(tx: Tx, scope: Scope, kinds: Sequence[Kind], limit: int) -> dict[Kind, list[Label]]:
    """The first of each kind by name, those that the scope may see."""
    parts = []
    for place, kind in enumerate(kinds):
        c = TABLES[kind][0].c
        wanted = sa.select(_place(place), c.id, c.name).where(catalogue.in_scope(kind, scope))
        # in a subquery of its own: SQLite takes no LIMIT within a union
        parts.append(sa.select(wanted.order_by(c.name, c.id).limit(limit).subquery()))
    found = await _all(tx, kinds, parts)
    return {kind: sorted(labels, key=lambda label: (label.name, label.id)) for kind, labels in found.items()}


async def named(tx: Tx, wanted: Mapping[Kind, tuple[Scope, Sequence[str]]]) -> dict[Kind, dict[str, str]]:
    """The names of records by kind and id, those that the scope told with each kind may see."""
    kinds, parts = list(wanted), []
    for place, (kind, (scope, ids)) in enumerate(wanted.items()):
        c, some = TABLES[kind][0].c, tuple({each for each in ids if each})
        if some:
            parts.append(sa.select(_place(place), c.id, c.name).where(catalogue.in_scope(kind, scope), c.id.in_(some)))
    found = await _all(tx, kinds, parts)
    return {kind: {label.id: label.name for label in labels} for kind, labels in found.items()}


def _place(place: int) -> sa.ColumnElement[int]:
    return sa.literal_column(str(place), sa.Integer()).label("place")


async def _all(tx: Tx, kinds: Sequence[Kind], parts: Sequence[sa.Select[Any]]) -> dict[Kind, list[Label]]:
    found: dict[Kind, list[Label]] = {kind: [] for kind in kinds}
    if parts:
        for row in await tx.execute(sa.union_all(*parts)):
            found[kinds[row.place]].append(Label(row.id, row.name))
    return found

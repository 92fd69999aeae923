"""How the page of a search is read, so that no search costs what it finds: 50 rows are shown, of however many.

Few found: they are sorted. Many: the list is walked in its order, and each row is looked up among what was found. More
than are worth gathering: the list is walked too, and each row is asked for its own names. A walk ends after `WALKED`
rows: found ones that lie together at the far end of an order are gathered and sorted after all. All four give the same
rows (docs/adr/0015-one-machinery-for-lists.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from certctl.core.scope import Scope
from certctl.store import names
from certctl.store.tx import Tx

# rows of names; three stand for a certificate of one common name and two SANs
SORTED = 9_000
GATHERED = 40_000
# rows of the list
WALKED = 20_000

Condition = sa.ColumnElement[bool]


class Walk(Struct, frozen=True):
    """A list as it would be without its search: its next `WALKED` rows, in order, which column tells them apart, and
    how rows of that subquery are ordered.
    """

    rows: sa.Subquery
    key: sa.ColumnElement[str]
    order: Sequence[sa.ColumnElement[Any]]


async def first(
    tx: Tx, scope: Scope, q: str, walk: Callable[[int], Walk], all_sorted: sa.Select[Any], most: int
) -> Sequence[Sequence[Any]]:
    """The first `most` rows of a list that `q` finds; `all_sorted` says the same in one statement."""
    condition = await _worth_walking(tx, scope, q)
    if condition is None:
        return (await tx.execute(all_sorted)).all()
    walked = walk(WALKED)
    statement = sa.select(walked.rows).where(condition(walked.key)).order_by(*walked.order).limit(most)
    found = (await tx.execute(statement)).all()
    if len(found) == most or not await _goes_on(tx, walked):
        return found
    return (await tx.execute(all_sorted)).all()


async def _worth_walking(tx: Tx, scope: Scope, q: str) -> Callable[[sa.ColumnElement[str]], Condition] | None:
    """What to ask of each row, or None where little is found."""
    rows = await rows_found(tx, scope, q)
    if rows <= SORTED:
        return None
    if rows <= GATHERED:
        found = names.first_found(scope, q, GATHERED)
        # IS TRUE: a set that rows are looked up in. As a plain IN it would be a join, and everything found be sorted
        return lambda key: key.in_(sa.select(found.c.certificate_id)).is_(sa.true())
    return lambda key: names.is_found(scope, key, q)


async def _goes_on(tx: Tx, walked: Walk) -> bool:
    """Whether the list has more rows than were walked."""
    return int(await tx.scalar(sa.select(sa.func.count()).select_from(walked.rows))) >= WALKED


async def rows_found(tx: Tx, scope: Scope, q: str) -> int:
    """How many rows of names a search reads in the tenant, whoever may see them; at most one more than `GATHERED`."""
    known: int | None = tx.first_seen.get((rows_found, scope.tenant_id, q))
    if known is None:
        found = names.first_found(scope, q, GATHERED + 1)
        known = min(GATHERED + 1, int(await tx.scalar(sa.select(sa.func.count()).select_from(found))))
        tx.first_seen[rows_found, scope.tenant_id, q] = known
    return known

"""How the page of a search is read, so that no search costs what it finds: 50 rows are shown, of however many.

Few found: they are sorted. Many: the list is walked in its order, by its index alone, and each row is looked up among
what was found. More than are worth gathering: the list is walked too, and each row is asked for its own names; the
first few rows are always asked so, for where nearly all is found they are the page. A walk ends after `WALKED` rows:
found ones that lie together at the far end of an order are gathered and sorted after all. All give the same rows
(docs/adr/0015-one-machinery-for-lists.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from certctl.core.scope import Scope
from certctl.store import names
from certctl.store.tx import Tx

# rows of names; two stand for a certificate of one common name and two SANs
SORTED = 9_000
GATHERED = 40_000
# rows of the list
PROBED = 150
WALKED = 20_000

Rows = Sequence[Sequence[Any]]


class Walk(Struct, frozen=True):
    """A list as it would be without its search: its next rows, in order, by what orders them and tells them apart
    alone; which column does, how rows of that subquery are ordered, and all columns of some of them in that order.
    """

    rows: sa.Subquery
    key: sa.ColumnElement[str]
    order: Sequence[sa.ColumnElement[Any]]
    whole: Callable[[sa.Subquery], sa.Select[Any]]


class Sight(Struct, frozen=True):
    """What a search finds at a first look: rows of names in the tenant, whoever may see them, and certificates that
    they are of, at least so many when `more`.
    """

    rows: int
    certificates: int

    @property
    def more(self) -> bool:
        """Whether it finds more than are sorted."""
        return self.rows > SORTED


async def first(
    tx: Tx, scope: Scope, q: str, walk: Callable[[int], Walk], all_sorted: sa.Select[Any], most: int
) -> Rows:
    """The first `most` rows of a list that `q` finds; `all_sorted` says the same in one statement."""
    if not (await seen(tx, scope, q)).more:
        return (await tx.execute(all_sorted)).all()
    if found := await _asked_each(tx, scope, q, walk(min(PROBED, WALKED)), most):
        return found
    walked = walk(WALKED)
    found = await _among_gathered(tx, scope, q, walked, most)
    if found is None:
        found = await _asked_each(tx, scope, q, walked, most)
    if found is None or (len(found) < most and await _goes_on(tx, walked)):
        return (await tx.execute(all_sorted)).all()
    return found


async def _asked_each(tx: Tx, scope: Scope, q: str, walked: Walk, most: int) -> Rows | None:
    """Of rows that are each asked for their own names; None where the walk ended too early."""
    found = (await tx.execute(_page(walked, names.is_found(scope, walked.key, q), most))).all()
    return found if len(found) == most else None


async def _among_gathered(tx: Tx, scope: Scope, q: str, walked: Walk, most: int) -> Rows | None:
    """Of rows that are looked up among all that is found; None when that is too much to be gathered."""
    gathered = sa.select(names.first_found(scope, q, GATHERED + 1)).cte("gathered")
    gathered = gathered.prefix_with("MATERIALIZED", dialect="postgresql")
    # IS TRUE: a set that rows are looked up in. As a plain IN it would be a join, and everything found be sorted
    is_found = walked.key.in_(sa.select(gathered.c.certificate_id)).is_(sa.true())
    number = sa.select(sa.func.count()).select_from(gathered).scalar_subquery()
    found = (await tx.execute(_page(walked, is_found, most).add_columns(number))).all()
    if found:
        return found if found[0][-1] <= GATHERED else None
    return [] if int(await tx.scalar(sa.select(sa.func.count()).select_from(gathered))) <= GATHERED else None


def _page(walked: Walk, condition: sa.ColumnElement[bool], most: int) -> sa.Select[Any]:
    chosen = sa.select(walked.rows).where(condition).order_by(*walked.order).limit(most)
    return walked.whole(chosen.subquery("chosen"))


async def _goes_on(tx: Tx, walked: Walk) -> bool:
    """Whether the list has more rows than were walked."""
    return int(await tx.scalar(sa.select(sa.func.count()).select_from(walked.rows))) >= WALKED


async def seen(tx: Tx, scope: Scope, q: str) -> Sight:
    """How much a search finds, counted as far as it would be sorted."""
    known: Sight | None = tx.first_seen.get((seen, scope.tenant_id, q))
    if known is None:
        found = names.first_found(scope, q, SORTED + 1)
        certificate: sa.ColumnElement[Any] = found.c.certificate_id
        if tx.dialect == "postgresql":
            # counted by sorting them: numbers of 64 bits in place of texts in the order of some language
            certificate = sa.func.hashtextextended(certificate, 0)
        counted = sa.select(sa.func.count(), sa.func.count(certificate.distinct())).select_from(found)
        rows, certificates = map(int, (await tx.execute(counted)).one())
        known = Sight(rows, min(certificates, SORTED) if rows > SORTED else certificates)
        tx.first_seen[seen, scope.tenant_id, q] = known
    return known

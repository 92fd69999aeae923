"""What a search finds certificates by: names, serial numbers and fingerprints, each a row of an index.

A search is exact, by prefix, or by domain suffix (`example.com` finds `www.example.com`), never a scan: values lie
lowercase, and once more reversed, in code point order on both databases. Written with certificates and versions.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from certctl.core.errors import Malformed
from certctl.core.names import canonical_dns
from certctl.core.scope import Scope
from certctl.store import arrays
from certctl.store.schema import certificate_names
from certctl.store.tx import Tx

# of a row, in the order in which `own_rows` and `version_rows` give them
COLUMNS = ("tenant_id", "certificate_id", "kind", "value", "reversed")
_OWN = ("name", "common_name", "san")
_HEX = re.compile(r"[0-9a-f]{2}(:?[0-9a-f]{2})+")
# greater than every character that follows a prefix
_END = "\U0010ffff"
# what one row of an index may hold, with room to spare on PostgreSQL
_LONGEST = 500


def own_rows(
    tenant_id: str, certificate_id: str, name: str, common_name: str, sans: Iterable[str]
) -> list[dict[str, str]]:
    """The rows that a certificate's own names make: one a text, which mostly is name, common name and SAN at once."""
    pairs = [("name", name), ("common_name", common_name), *(("san", san) for san in sans)]
    return _rows(tenant_id, certificate_id, pairs)


def version_rows(tenant_id: str, certificate_id: str, serial_number: str, fingerprint: str) -> list[dict[str, str]]:
    """The rows that one of its versions makes."""
    return _rows(tenant_id, certificate_id, [("serial_number", serial_number), ("fingerprint", fingerprint)])


def _rows(tenant_id: str, certificate_id: str, pairs: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    unique: dict[str, str] = {}
    for kind, text in pairs:
        if text:
            unique.setdefault(text.lower()[:_LONGEST], kind)
    return [
        {
            "tenant_id": tenant_id,
            "certificate_id": certificate_id,
            "kind": kind,
            "value": value,
            "reversed": value[::-1] if kind in _OWN else "",
        }
        for value, kind in unique.items()
    ]


async def write(tx: Tx, found_by: Sequence[dict[str, str]]) -> None:
    """Add rows; those that stand already stay."""
    await arrays.insert(tx, certificate_names, found_by, once=True)


async def replace_own(tx: Tx, scope: Scope, certificate_id: str, rows: Sequence[dict[str, str]]) -> None:
    """A certificate's own names are these now."""
    table = certificate_names
    await tx.execute(
        sa.delete(table).where(
            table.c.tenant_id == scope.tenant_id, table.c.certificate_id == certificate_id, table.c.kind.in_(_OWN)
        )
    )
    await write(tx, rows)


def found_by(scope: Scope, q: str) -> sa.Select[Any]:
    """The ids of the certificates that a search finds, to be narrowed to what the caller may see."""
    table = certificate_names
    parts = [
        sa.select(table.c.certificate_id).where(table.c.tenant_id == scope.tenant_id, _begins(column, prefix))
        for column, prefix in _ranges(q)
    ]
    return sa.select(sa.union(*parts).subquery().c.certificate_id) if len(parts) > 1 else parts[0]


def first_found(scope: Scope, q: str, most: int) -> sa.Subquery:
    """`certificate_id` of `most` rows at most of each range that a search reads, a certificate once for each name."""
    table = certificate_names
    parts = [
        sa.select(table.c.certificate_id)
        .where(table.c.tenant_id == scope.tenant_id, _begins(column, prefix))
        .limit(most)
        .subquery()
        for column, prefix in _ranges(q)
    ]
    return sa.union_all(*(sa.select(part.c.certificate_id) for part in parts)).subquery("found")


def is_found(scope: Scope, certificate_id: sa.ColumnElement[str], q: str) -> sa.ColumnElement[bool]:
    """Whether a search finds this one certificate: its names alone are read, by their primary key."""
    table = certificate_names
    value = table.c.value
    tests = []
    for column, prefix in _ranges(q):
        if column is value:
            tests.append(sa.func.substr(value, 1, len(prefix)) == prefix)
        else:
            ends = sa.func.substr(value, sa.func.length(value) - (len(prefix) - 1)) == prefix[::-1]
            tests.append(sa.and_(table.c.kind.in_(_OWN), ends))
    mine = sa.and_(table.c.tenant_id == scope.tenant_id, table.c.certificate_id == certificate_id)
    # an OFFSET keeps PostgreSQL from making a join of it, which would read whole ranges
    return sa.exists(sa.select(sa.literal(1)).where(mine, sa.or_(*tests)).offset(0))


def _ranges(q: str) -> list[tuple[sa.Column[str], str]]:
    """Which column a search reads, and from which beginning on."""
    table = certificate_names
    ranges = [(table.c.value, value) for value in _spellings(q)]
    suffix = _spellings(q)[-1].lstrip(".")
    if "." in suffix and not suffix.startswith("*"):
        ranges.append((table.c.reversed, suffix[::-1] + "."))
    return ranges


def _begins(column: sa.Column[str], prefix: str) -> sa.ColumnElement[bool]:
    return sa.and_(column >= prefix, column < prefix + _END)


def _spellings(q: str) -> list[str]:
    """As it was typed, and as it is kept: hex without colons and leading zeros, names as A-labels."""
    typed = q.strip().lower()[:_LONGEST]
    spelled = {typed: None}
    if _HEX.fullmatch(typed):
        digits = typed.replace(":", "")
        spelled |= {digits: None, digits.lstrip("0") or "0": None}
    elif not typed.isascii():
        with contextlib.suppress(Malformed):
            spelled[canonical_dns(typed)] = None
    return list(spelled)

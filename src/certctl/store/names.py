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
from certctl.store.schema import certificate_names
from certctl.store.tx import Tx

_OWN = ("name", "common_name", "san")
_HEX = re.compile(r"[0-9a-f]{2}(:?[0-9a-f]{2})+")
# greater than every character that follows a prefix
_END = "\U0010ffff"
# what one row of an index may hold, with room to spare on PostgreSQL
_LONGEST = 500


def own_rows(
    tenant_id: str, certificate_id: str, name: str, common_name: str, sans: Iterable[str]
) -> list[dict[str, str]]:
    """The rows that a certificate's own names make."""
    pairs = [("name", name), ("common_name", common_name), *(("san", san) for san in sans)]
    return _rows(tenant_id, certificate_id, pairs)


def version_rows(tenant_id: str, certificate_id: str, serial_number: str, fingerprint: str) -> list[dict[str, str]]:
    """The rows that one of its versions makes."""
    return _rows(tenant_id, certificate_id, [("serial_number", serial_number), ("fingerprint", fingerprint)])


def _rows(tenant_id: str, certificate_id: str, pairs: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    unique = dict.fromkeys((kind, text.lower()[:_LONGEST]) for kind, text in pairs if text)
    return [
        {
            "tenant_id": tenant_id,
            "certificate_id": certificate_id,
            "kind": kind,
            "value": value,
            "reversed": value[::-1] if kind in _OWN else "",
        }
        for kind, value in unique
    ]


async def write(tx: Tx, rows: Sequence[dict[str, str]]) -> None:
    """Add rows; those that stand already stay."""
    if rows:
        await tx.execute(tx.insert(certificate_names).on_conflict_do_nothing(), list(rows))


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
    searches = [_begins(table.c.value, value) for value in _spellings(q)]
    suffix = _spellings(q)[-1].lstrip(".")
    if "." in suffix and not suffix.startswith("*"):
        searches.append(_begins(table.c.reversed, suffix[::-1] + "."))
    parts = [sa.select(table.c.certificate_id).where(table.c.tenant_id == scope.tenant_id, each) for each in searches]
    return sa.select(sa.union(*parts).subquery().c.certificate_id) if len(parts) > 1 else parts[0]


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

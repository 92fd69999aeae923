"""Idempotency keys: one row a key of one caller, from the claim over the first committed write to the kept answer.

`claimed`: it runs, nothing is written yet. `acted`: something is committed. `answered`: the answer is kept, sealed.
The token is a fence: who has lost the claim commits nothing more under it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from certctl.core.scope import Scope
from certctl.store.schema import idempotency_keys as table
from certctl.store.statements import Statement, insert, valued
from certctl.store.tx import Tx


class KeyRecord(Struct, frozen=True, kw_only=True):
    """What is known of one key."""

    tenant_id: str
    caller: str
    key: str
    request_hash: str
    phase: str
    token: str
    lease_until: datetime
    subject_type: str
    subject_id: str
    answer: bytes | None
    created_at: datetime
    expires_at: datetime

    @property
    def sealed_as(self) -> str:
        """What the answer is bound to."""
        return f"certctl/idempotency_keys/{self.caller}/{self.key}"


# whose it is, and that nobody else has it meanwhile
_FENCED = sa.and_(
    table.c.tenant_id == sa.bindparam("of_tenant"),
    table.c.caller == sa.bindparam("of_caller"),
    table.c.key == sa.bindparam("of_key"),
    table.c.token == sa.bindparam("of_token"),
    table.c.phase != "answered",
)
_UNNAMED = sa.and_(table.c.subject_id == "", sa.bindparam("named_id", type_=sa.Text) != "")
_CLAIM = Statement(insert(table).values(valued(*KeyRecord.__struct_fields__)).on_conflict_do_nothing())
_ACT = Statement(
    sa.update(table)
    .where(_FENCED)
    .values(
        phase="acted",
        lease_until=sa.bindparam("until"),
        subject_type=sa.case((_UNNAMED, sa.bindparam("named_type", type_=sa.Text)), else_=table.c.subject_type),
        subject_id=sa.case((_UNNAMED, sa.bindparam("named_id", type_=sa.Text)), else_=table.c.subject_id),
    )
)
_ANSWER = Statement(sa.update(table).where(_FENCED).values(phase="answered", answer=sa.bindparam("sealed")))


def _fence(scope: Scope, held: KeyRecord) -> dict[str, Any]:
    return {"of_tenant": scope.tenant_id, "of_caller": held.caller, "of_key": held.key, "of_token": held.token}


async def claim(tx: Tx, scope: Scope, wanted: KeyRecord) -> KeyRecord | None:
    """Claim a key; None when it is ours now, else the row that stands there.

    Free are keys never seen, expired ones, and ones of the same request whose holder fell silent before it wrote
    anything.
    """
    row = {name: getattr(wanted, name) for name in wanted.__struct_fields__}
    while True:
        inserted = await tx.execute(_CLAIM, **row)
        if inserted.rowcount == 1 or await _take_over(tx, scope, wanted, row):
            return None
        standing = await tx.one(KeyRecord, sa.select(table).where(_is(scope, wanted.caller, wanted.key)))
        if standing is not None:
            return standing
        # whoever held it let go between the two: it is free


async def _take_over(tx: Tx, scope: Scope, wanted: KeyRecord, row: dict[str, Any]) -> bool:
    now = wanted.created_at
    silent = sa.and_(
        table.c.phase == "claimed", table.c.lease_until <= now, table.c.request_hash == wanted.request_hash
    )
    taken = await tx.execute(
        sa.update(table)
        .where(_is(scope, wanted.caller, wanted.key), sa.or_(table.c.expires_at <= now, silent))
        .values(row)
    )
    return taken.rowcount == 1


async def act(tx: Tx, scope: Scope, held: KeyRecord, until: datetime, subject: tuple[str, str]) -> bool:
    """Note, in the transaction of a write, that the request has written; False when the claim is lost."""
    acted = await tx.execute(_ACT, until=until, named_type=subject[0], named_id=subject[1], **_fence(scope, held))
    return acted.rowcount == 1


async def answer(tx: Tx, scope: Scope, held: KeyRecord, sealed: bytes) -> bool:
    """Keep the answer; False when the claim is lost."""
    kept = await tx.execute(_ANSWER, sealed=sealed, **_fence(scope, held))
    return kept.rowcount == 1


async def let_go(tx: Tx, scope: Scope, held: KeyRecord, now: datetime) -> None:
    """The request ended without an answer to keep: the key is free if nothing was written, else silent from now on."""
    await tx.execute(sa.delete(table).where(_held(scope, held), table.c.phase == "claimed"))
    await tx.execute(sa.update(table).where(_held(scope, held), table.c.phase == "acted").values(lease_until=now))


async def forget(tx: Tx, scope: Scope, now: datetime, limit: int) -> int:
    """Delete expired keys, at most `limit`; how many."""
    old = (
        sa.select(table.c.caller, table.c.key)
        .where(table.c.tenant_id == scope.tenant_id, table.c.expires_at <= now)
        .limit(limit)
    )
    gone = await tx.execute(
        sa.delete(table).where(table.c.tenant_id == scope.tenant_id, sa.tuple_(table.c.caller, table.c.key).in_(old))
    )
    return int(gone.rowcount)


def _is(scope: Scope, caller: str, key: str) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.tenant_id == scope.tenant_id, table.c.caller == caller, table.c.key == key)


def _held(scope: Scope, held: KeyRecord) -> sa.ColumnElement[bool]:
    return sa.and_(_is(scope, held.caller, held.key), table.c.token == held.token, table.c.phase != "answered")

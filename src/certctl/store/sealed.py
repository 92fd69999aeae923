"""Values that lie sealed under the config key: which key is in force, and all of them, to be sealed anew.

The check value of `installation` names the key in force. Whoever rotates holds that row for update, whoever writes a
sealed CA key holds it for share: so none is ever written under a key that is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import sqlalchemy as sa

from certctl.core.errors import Misconfigured
from certctl.core.scope import Scope
from certctl.pki.seal import key_id_of
from certctl.store.idempotency import KeyRecord
from certctl.store.schema import (
    acme_external_keys,
    ca_accounts,
    ca_keys,
    idempotency_keys,
    installation,
    issuers,
    notification_channels,
    targets,
)
from certctl.store.tx import Tx

KEY_CHECK = "config_key_check"
_AT_ONCE = 500


async def require_key(tx: Tx, scope: Scope, key_id: str) -> None:
    """Misconfigured unless the key with this id is in force until this transaction ends."""
    check = await tx.scalar(_check(scope).with_for_update(read=True))
    if check is not None and key_id_of(check) != key_id:
        raise Misconfigured(
            "CERTCTL_CONFIG_ENCRYPTION_KEY was rotated and this process still has the one before: start it again with "
            "the new one"
        )


async def key_in_force(tx: Tx, scope: Scope) -> str:
    """The id of the key in force, hex; empty before the first start."""
    check = await tx.scalar(_check(scope))
    return key_id_of(check) if check is not None else ""


async def hold_check(tx: Tx, scope: Scope) -> bytes | None:
    """The check value, and its row held until the transaction ends."""
    found: bytes | None = await tx.scalar(_check(scope).with_for_update())
    return found


async def replace_check(tx: Tx, scope: Scope, value: bytes) -> None:
    """From the commit on another key is in force."""
    await tx.execute(
        sa.update(installation)
        .where(installation.c.tenant_id == scope.tenant_id, installation.c.name == KEY_CHECK)
        .values(value=value)
    )


async def reseal_keys(tx: Tx, scope: Scope, anew: Callable[[str, bytes], bytes]) -> int:
    """Replace every sealed CA key by `anew(key_ref, sealed)`; how many."""
    return await _reseal(tx, scope, ca_keys, anew)


async def reseal_external_keys(tx: Tx, scope: Scope, anew: Callable[[str, bytes], bytes]) -> int:
    """Replace every ACME external account key by `anew(id, sealed)`; how many."""
    return await _reseal(tx, scope, acme_external_keys, anew)


async def reseal_accounts(tx: Tx, scope: Scope, anew: Callable[[str, bytes, bool], bytes]) -> int:
    """Replace the keys of our accounts at CAs by `anew(id, sealed, is_next)`; how many."""
    c = ca_accounts.c
    rows = (await tx.execute(sa.select(c.id, c.sealed, c.sealed_next).where(c.tenant_id == scope.tenant_id))).all()
    for row in rows:
        waiting = anew(row.id, row.sealed_next, True) if row.sealed_next is not None else None
        await tx.execute(
            sa.update(ca_accounts)
            .where(c.tenant_id == scope.tenant_id, c.id == row.id)
            .values(sealed=anew(row.id, row.sealed, False), sealed_next=waiting)
        )
    return len(rows)


async def reseal_issuers(tx: Tx, scope: Scope, anew: Callable[[str, bytes], bytes]) -> int:
    """Replace the secrets of issuers' configurations by `anew(id, sealed)`; how many."""
    c = issuers.c
    mine = sa.and_(c.tenant_id == scope.tenant_id, c.sealed_config.is_not(None))
    rows = (await tx.execute(sa.select(c.id, c.sealed_config).where(mine))).all()
    for row in rows:
        await tx.execute(
            sa.update(issuers)
            .where(c.tenant_id == scope.tenant_id, c.id == row.id)
            .values(sealed_config=anew(row.id, row.sealed_config))
        )
    return len(rows)


async def reseal_channels(tx: Tx, scope: Scope, anew: Callable[[str, bytes], bytes]) -> int:
    """Replace the sealed secrets of every channel by `anew(id, sealed)`; how many."""
    return await _reseal(tx, scope, notification_channels, anew, "sealed_config")


async def _reseal(
    tx: Tx, scope: Scope, table: sa.Table, anew: Callable[[str, bytes], bytes], column: str = "sealed"
) -> int:
    c = table.c
    there = sa.and_(c.tenant_id == scope.tenant_id, c[column].is_not(None))
    rows = (await tx.execute(sa.select(c.id, c[column].label("sealed")).where(there))).all()
    for row in rows:
        await tx.execute(
            sa.update(table)
            .where(c.tenant_id == scope.tenant_id, c.id == row.id)
            .values({column: anew(row.id, row.sealed)})
        )
    return len(rows)


async def reseal_answers(tx: Tx, scope: Scope, now: datetime, anew: Callable[[KeyRecord], bytes]) -> int:
    """Replace every kept answer of an idempotency key that has not expired by `anew(record)`; how many."""
    c = idempotency_keys.c
    mine = sa.and_(c.tenant_id == scope.tenant_id, c.answer.is_not(None), c.expires_at > now)
    number, after = 0, ("", "")
    while True:
        statement = sa.select(idempotency_keys).where(mine, sa.tuple_(c.caller, c.key) > sa.tuple_(*after))
        rows = await tx.all(KeyRecord, statement.order_by(c.caller, c.key).limit(_AT_ONCE))
        for row in rows:
            await tx.execute(
                sa.update(idempotency_keys)
                .where(c.tenant_id == scope.tenant_id, c.caller == row.caller, c.key == row.key)
                .values(answer=anew(row))
            )
        number += len(rows)
        if len(rows) < _AT_ONCE:
            return number
        after = (rows[-1].caller, rows[-1].key)


async def of_nobody_we_know(tx: Tx, scope: Scope) -> list[str]:
    """Tables with sealed values that the functions above do not reach: of other tenants, or configurations."""
    other = ca_keys.c.tenant_id != scope.tenant_id
    found = ["ca_keys of another tenant"] if await tx.scalar(sa.select(ca_keys.c.id).where(other).limit(1)) else []
    return found + [
        f"{table.name}.sealed_config"
        for table, others in ((issuers, issuers.c.tenant_id != scope.tenant_id), (targets, sa.true()))
        if await tx.scalar(sa.select(table.c.id).where(table.c.sealed_config.is_not(None), others).limit(1))
    ]


def _check(scope: Scope) -> sa.Select[bytes]:
    return sa.select(installation.c.value).where(
        installation.c.tenant_id == scope.tenant_id, installation.c.name == KEY_CHECK
    )

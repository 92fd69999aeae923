"""Our accounts, orders and challenges at other people's CAs, and when those would like a version to be renewed."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from msgspec import Struct

from certctl.core.scope import Scope
from certctl.core.status import VersionStatus
from certctl.store.schema import ca_accounts, ca_answers, ca_orders, issuers, renewal_suggestions, versions
from certctl.store.tx import Tx


class AccountRecord(Struct, frozen=True, kw_only=True):
    """One account at one directory; keys sealed."""

    tenant_id: str
    id: str
    issuer_id: str
    directory_url: str
    url: str
    sealed: bytes
    sealed_next: bytes | None
    created_at: datetime
    updated_at: datetime


class SuggestionRecord(Struct, frozen=True, kw_only=True):
    """What a CA said of one version: a window, or why there is none. Asked again at `ask_again_at`."""

    tenant_id: str
    version_id: str
    window_start: datetime | None
    window_end: datetime | None
    explanation_url: str
    error: str
    ask_again_at: datetime
    updated_at: datetime


async def account(tx: Tx, scope: Scope, issuer_id: str, directory_url: str) -> AccountRecord | None:
    """An issuer's account at a directory."""
    return await tx.one(AccountRecord, sa.select(ca_accounts).where(_account(scope, issuer_id, directory_url)))


async def insert_account(tx: Tx, scope: Scope, record: AccountRecord) -> bool:
    """Write a new account; False when another replica was first."""
    row = {name: getattr(record, name) for name in record.__struct_fields__} | {"tenant_id": scope.tenant_id}
    inserted = await tx.execute(tx.insert(ca_accounts).values(row).on_conflict_do_nothing())
    return inserted.rowcount == 1


async def name_account(tx: Tx, scope: Scope, issuer_id: str, directory_url: str, url: str, now: datetime) -> None:
    """Keep what the CA calls the account."""
    where = _account(scope, issuer_id, directory_url)
    await tx.execute(sa.update(ca_accounts).where(where).values(url=url, updated_at=now))


async def offer_next_key(
    tx: Tx, scope: Scope, issuer_id: str, directory_url: str, sealed_next: bytes, now: datetime
) -> None:
    """Keep a next key, unless there is one already."""
    where = sa.and_(_account(scope, issuer_id, directory_url), ca_accounts.c.sealed_next.is_(None))
    await tx.execute(sa.update(ca_accounts).where(where).values(sealed_next=sealed_next, updated_at=now))


async def end_key_change(
    tx: Tx, scope: Scope, issuer_id: str, directory_url: str, sealed: bytes | None, now: datetime
) -> None:
    """The key is `sealed` from now on (None: as before), and no next one waits."""
    values = {"sealed_next": None, "updated_at": now} | ({"sealed": sealed} if sealed is not None else {})
    await tx.execute(sa.update(ca_accounts).where(_account(scope, issuer_id, directory_url)).values(**values))


def _account(scope: Scope, issuer_id: str, directory_url: str) -> sa.ColumnElement[bool]:
    c = ca_accounts.c
    return sa.and_(c.tenant_id == scope.tenant_id, c.issuer_id == issuer_id, c.directory_url == directory_url)


async def claim_order(
    tx: Tx, scope: Scope, issuer_id: str, url: str, order_id: str, now: datetime
) -> tuple[bool, bool]:
    """Write whose order it is: whether it is ours, and whether that is new."""
    row = {
        "tenant_id": scope.tenant_id,
        "issuer_id": issuer_id,
        "url": url,
        "order_id": order_id,
        "created_at": now,
    }
    inserted = await tx.execute(tx.insert(ca_orders).values(row).on_conflict_do_nothing())
    if inserted.rowcount == 1:
        return True, True
    c = ca_orders.c
    mine = sa.and_(c.tenant_id == scope.tenant_id, c.issuer_id == issuer_id, c.url == url)
    return await tx.scalar(sa.select(c.order_id).where(mine)) == order_id, False


async def order_url(tx: Tx, scope: Scope, order_id: str) -> str:
    """The CA's address for an order of ours; empty for none, the newest of several."""
    c = ca_orders.c
    mine = sa.and_(c.tenant_id == scope.tenant_id, c.order_id == order_id)
    found: str | None = await tx.scalar(sa.select(c.url).where(mine).order_by(c.created_at.desc()).limit(1))
    return found or ""


async def put_answer(
    tx: Tx, scope: Scope, token: str, key_authorization: str, now: datetime, expires_at: datetime
) -> None:
    """Keep an answer, and forget those that have expired."""
    c = ca_answers.c
    await tx.execute(sa.delete(ca_answers).where(c.tenant_id == scope.tenant_id, c.expires_at <= now))
    row = {
        "tenant_id": scope.tenant_id,
        "token": token,
        "key_authorization": key_authorization,
        "expires_at": expires_at,
    }
    await tx.execute(tx.insert(ca_answers).values(row).on_conflict_do_nothing())


async def drop_answer(tx: Tx, scope: Scope, token: str) -> None:
    """Forget an answer."""
    c = ca_answers.c
    await tx.execute(sa.delete(ca_answers).where(c.tenant_id == scope.tenant_id, c.token == token))


async def answer(tx: Tx, scope: Scope, token: str, now: datetime) -> str | None:
    """An answer that has not expired."""
    c = ca_answers.c
    mine = sa.and_(c.tenant_id == scope.tenant_id, c.token == token, c.expires_at > now)
    found: str | None = await tx.scalar(sa.select(c.key_authorization).where(mine))
    return found


class Asked(Struct, frozen=True, kw_only=True):
    """A current version whose CA may have something to say."""

    id: str
    certificate_id: str
    issuer_id: str
    leaf_der: bytes
    chain_pem: str
    not_after: datetime


async def to_ask(tx: Tx, scope: Scope, kinds: tuple[str, ...], now: datetime, limit: int) -> list[Asked]:
    """Current versions of issuers of these kinds that nobody has asked about, or not since it was time to."""
    v, s = versions.c, renewal_suggestions.c
    statement = (
        sa.select(v.id, v.certificate_id, v.issuer_id, v.leaf_der, v.chain_pem, v.not_after)
        .join(issuers, sa.and_(issuers.c.tenant_id == v.tenant_id, issuers.c.id == v.issuer_id))
        .outerjoin(renewal_suggestions, sa.and_(s.tenant_id == v.tenant_id, s.version_id == v.id))
        .where(
            v.tenant_id == scope.tenant_id,
            v.status == VersionStatus.CURRENT,
            v.not_after > now,
            issuers.c.enabled.is_(True),
            issuers.c.type.in_(kinds),
            sa.or_(s.version_id.is_(None), s.ask_again_at <= now),
        )
        .order_by(s.ask_again_at, v.id)
        .limit(limit)
    )
    return await tx.all(Asked, statement)


async def keep_suggestion(tx: Tx, scope: Scope, record: SuggestionRecord) -> None:
    """Write what a CA said last of one version; an error leaves the window that was told before."""
    row = {name: getattr(record, name) for name in record.__struct_fields__} | {"tenant_id": scope.tenant_id}
    known = {name: row[name] for name in ("error", "ask_again_at", "updated_at")}
    if not record.error:
        known |= {name: row[name] for name in ("window_start", "window_end", "explanation_url")}
    statement = tx.insert(renewal_suggestions).values(row)
    await tx.execute(statement.on_conflict_do_update(index_elements=["tenant_id", "version_id"], set_=known))


async def suggestions(tx: Tx, scope: Scope, version_ids: tuple[str, ...]) -> dict[str, SuggestionRecord]:
    """What CAs said of these versions, by version."""
    if not version_ids:
        return {}
    s = renewal_suggestions.c
    mine = sa.and_(s.tenant_id == scope.tenant_id, s.version_id.in_(version_ids))
    rows = await tx.all(SuggestionRecord, sa.select(renewal_suggestions).where(mine))
    return {row.version_id: row for row in rows}

"""The ACME server's rows: accounts, orders, authorizations, challenges, keys of external accounts, spent nonces.

Every change of a status is guarded by the statuses it may come from. An account's row is locked by whoever counts its
orders, an order's by whoever moves it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.exc import IntegrityError

from certctl.core.acme import (
    MACHINES,
    AccountStatus,
    AcmeAccount,
    AcmeAuthorization,
    AcmeChallenge,
    AcmeOrder,
    AuthorizationStatus,
    ChallengeStatus,
    ExternalKey,
    OrderState,
)
from certctl.core.certificate import Version
from certctl.core.errors import Conflict
from certctl.core.job import Job
from certctl.core.scope import Scope
from certctl.store import acme_listings, arrays, certificates, jobs, schema
from certctl.store.among import any_of
from certctl.store.schema import acme_accounts as accounts
from certctl.store.schema import acme_authorizations as authorizations
from certctl.store.schema import acme_challenges as challenges
from certctl.store.schema import acme_external_keys as external_keys
from certctl.store.schema import acme_orders as orders
from certctl.store.schema import acme_spent_nonces as spent_nonces
from certctl.store.statuses import is_one_of
from certctl.store.tx import Database, Tx

RecordT = TypeVar("RecordT", bound=msgspec.Struct)

CHANNEL = "acme"
_TABLES: dict[type[msgspec.Struct], sa.Table] = {
    AcmeAccount: accounts,
    AcmeOrder: orders,
    AcmeAuthorization: authorizations,
    AcmeChallenge: challenges,
    ExternalKey: external_keys,
}
_OPEN_ORDERS = (OrderState.PENDING, OrderState.READY, OrderState.PROCESSING)


def _of(table: sa.Table, scope: Scope) -> sa.ColumnElement[bool]:
    mine: sa.ColumnElement[bool] = table.c.tenant_id == scope.tenant_id
    return mine


async def spend_nonce(database: Database, scope: Scope, nonce: str, expires_at: datetime) -> bool:
    """Spend a nonce, in a transaction of its own; False when it was spent before, by whichever replica."""
    row = {"tenant_id": scope.tenant_id, "nonce": nonce, "expires_at": expires_at}
    spent = await database.write_alone(
        "acme.enter", lambda tx: tx.insert(spent_nonces).values(row).on_conflict_do_nothing()
    )
    return spent == 1


async def ordered_version(tx: Tx, scope: Scope, version_id: str, account_id: str) -> Version | None:
    """A version that was issued for an order of this account."""
    table = schema.versions
    of_it = sa.and_(orders.c.tenant_id == table.c.tenant_id, orders.c.version_id == table.c.id)
    return await tx.one(
        Version,
        sa.select(table)
        .join(orders, of_it)
        .where(table.c.tenant_id == scope.tenant_id, table.c.id == version_id, orders.c.account_id == account_id)
        .limit(1),
    )


async def insert_order(
    tx: Tx,
    scope: Scope,
    order: AcmeOrder,
    proofs: Sequence[AcmeAuthorization],
    ways: Sequence[AcmeChallenge],
) -> None:
    """Write a new order with all that belongs to it; Conflict when another replaces the same certificate."""
    try:
        for table, records in ((orders, (order,)), (authorizations, proofs), (challenges, ways)):
            await arrays.insert(tx, table, [msgspec.structs.asdict(each) | _tenant(scope) for each in records])
        if order.replaces:
            # nothing else of it can be taken: its ids were drawn a moment ago
            await tx.send()
    except IntegrityError as error:
        raise Conflict("another order replaces this certificate") from error


def _tenant(scope: Scope) -> dict[str, str]:
    return {"tenant_id": scope.tenant_id}


async def insert(tx: Tx, scope: Scope, *records: msgspec.Struct) -> None:
    """Write new records of one kind; Conflict when something unique about one is taken."""
    if not records:
        return
    table = _TABLES[type(records[0])]
    for record in records:
        row = {name: getattr(record, name) for name in record.__struct_fields__}
        row["tenant_id"] = scope.tenant_id
        inserted = await tx.execute(tx.insert(table).on_conflict_do_nothing(), [row])
        if inserted.rowcount != 1:
            raise Conflict("it is there already")


async def get(tx: Tx, scope: Scope, kind: type[RecordT], record_id: str, *, lock: bool = False) -> RecordT | None:
    """One record, locked when asked; None when it is not there."""
    table = _TABLES[kind]
    statement = sa.select(table).where(_of(table, scope), table.c.id == record_id)
    return await tx.one(kind, statement.with_for_update() if lock else statement)


async def account_by_key(tx: Tx, scope: Scope, profile_id: str, thumbprint: str) -> AcmeAccount | None:
    """The account of a profile that has this key, whatever its status."""
    return await tx.one(
        AcmeAccount,
        sa.select(accounts).where(
            _of(accounts, scope), accounts.c.profile_id == profile_id, accounts.c.thumbprint == thumbprint
        ),
    )


async def change(tx: Tx, scope: Scope, kind: type[RecordT], record_id: str, **values: Any) -> None:
    """Change columns that are no status; Conflict when another record has what must be unique."""
    table = _TABLES[kind]
    await tx.execute(sa.update(table).where(_of(table, scope), table.c.id == record_id).values(values))


async def move(tx: Tx, scope: Scope, kind: type[RecordT], record_id: str, status: StrEnum, **values: Any) -> bool:
    """Guarded change of status; False when it stands where it may not move so."""
    table, machine = _TABLES[kind], MACHINES[_MACHINE_OF[kind]]
    sources = [str(source) for source, targets in machine.items() if status in targets]
    moved = await tx.execute(
        sa.update(table)
        .where(_of(table, scope), table.c.id == record_id, is_one_of(table.c.status, sources))
        .values(values | {"status": status})
    )
    return moved.rowcount == 1


_MACHINE_OF: dict[type[msgspec.Struct], str] = {
    AcmeAccount: "account",
    AcmeOrder: "order",
    AcmeAuthorization: "authorization",
    AcmeChallenge: "challenge",
}


async def hold_ready(tx: Tx, scope: Scope, order_ids: Sequence[str], now: datetime) -> set[str]:
    """Those of these orders that are ready, and whose account, external key and authorizations stand at this moment;
    locked in one order, whoever asks.
    """
    mine = sa.and_(_of(orders, scope), any_of(orders.c.id, order_ids))
    ready = sa.and_(mine, orders.c.status == OrderState.READY, orders.c.expires_at > now)
    chosen = sa.select(orders.c.id).where(ready, _stands(scope), ~_has_lost(scope, now)).order_by(orders.c.id)
    return set((await tx.execute(chosen.with_for_update(of=orders))).scalars())


def _stands(scope: Scope) -> sa.ColumnElement[bool]:
    """An order's account is valid, and nobody has taken back the word that vouches for it."""
    keys = external_keys
    this = sa.and_(_of(keys, scope), keys.c.id == accounts.c.external_key_id, keys.c.revoked_at.is_(None))
    vouched = sa.or_(accounts.c.external_key_id == "", sa.exists().where(this))
    own = sa.and_(_of(accounts, scope), accounts.c.id == orders.c.account_id)
    return sa.exists().where(own, accounts.c.status == AccountStatus.VALID, vouched)


def _has_lost(scope: Scope, now: datetime) -> sa.ColumnElement[bool]:
    """An authorization of an order is no longer valid."""
    its = sa.and_(_of(authorizations, scope), authorizations.c.order_id == orders.c.id)
    ended = sa.or_(authorizations.c.status != AuthorizationStatus.VALID, authorizations.c.expires_at <= now)
    return sa.exists().where(its, ended)


async def put(tx: Tx, scope: Scope, order_id: str, **values: Any) -> None:
    """Write into an order that is the caller's to move: locked by `hold_ready`, or with its job. It waits for what else
    is written.
    """
    await arrays.change(tx, orders, [_tenant(scope) | {"id": order_id} | values])


async def cancel_orders(tx: Tx, scope: Scope, account_id: str, error: dict[str, Any], now: datetime) -> None:
    """End what an account has begun and not yet finalized (RFC 8555 7.3.6)."""
    open_ = (OrderState.PENDING, OrderState.READY)
    await tx.execute(
        sa.update(orders)
        .where(_of(orders, scope), orders.c.account_id == account_id, orders.c.status.in_(open_))
        .values(status=OrderState.INVALID, error=error, updated_at=now)
    )


async def orders_of(tx: Tx, scope: Scope, account_id: str, after: str, limit: int) -> list[str]:
    """Ids of an account's orders that are not invalid, by id, behind `after`."""
    rows = await tx.execute(
        sa.select(orders.c.id)
        .where(
            _of(orders, scope),
            orders.c.account_id == account_id,
            orders.c.status != OrderState.INVALID,
            orders.c.id > after,
        )
        .order_by(orders.c.id)
        .limit(limit)
    )
    return [str(row.id) for row in rows]


class Count(Struct, frozen=True):
    """How many orders an account has made in a while and when the first of them, how many have not ended and when the
    first of those lapses.
    """

    made: int
    first_made_at: datetime | None
    open: int
    first_lapses_at: datetime | None


async def count_orders(tx: Tx, scope: Scope, account_id: str, since: datetime, now: datetime) -> Count:
    """What an account's limits are held against. Behind the lock on its row it stays true until the commit."""
    mine = sa.and_(_of(orders, scope), orders.c.account_id == account_id)
    made = (
        sa.select(sa.func.count().label("made"), sa.func.min(orders.c.created_at).label("first_made_at"))
        .where(mine, orders.c.created_at > since)
        .subquery("made")
    )
    open_ = (
        sa.select(sa.func.count().label("open"), sa.func.min(orders.c.expires_at).label("first_lapses_at"))
        .where(mine, orders.c.status.in_(_OPEN_ORDERS), orders.c.expires_at > now)
        .subquery("open_orders")
    )
    found = await tx.one(Count, sa.select(*made.c, *open_.c).select_from(made.join(open_, sa.true())))
    if found is None:
        raise AssertionError("a count is a row")
    return found


async def authorizations_of(tx: Tx, scope: Scope, order_id: str) -> list[AcmeAuthorization]:
    """The authorizations of an order."""
    return await tx.all(
        AcmeAuthorization,
        sa.select(authorizations)
        .where(_of(authorizations, scope), authorizations.c.order_id == order_id)
        .order_by(authorizations.c.id),
    )


async def authorized_names(tx: Tx, scope: Scope, account_id: str, now: datetime) -> set[tuple[str, bool]]:
    """(name, wildcard) for which an account holds valid authorizations."""
    rows = await tx.execute(
        sa.select(authorizations.c.name, authorizations.c.wildcard)
        .where(
            _of(authorizations, scope),
            authorizations.c.account_id == account_id,
            authorizations.c.status == AuthorizationStatus.VALID,
            authorizations.c.expires_at > now,
        )
        .distinct()
    )
    return {(row.name, row.wildcard) for row in rows}


async def challenges_of(tx: Tx, scope: Scope, authorization_id: str) -> list[AcmeChallenge]:
    """The challenges of an authorization."""
    return await tx.all(
        AcmeChallenge,
        sa.select(challenges)
        .where(_of(challenges, scope), challenges.c.authorization_id == authorization_id)
        .order_by(challenges.c.id),
    )


async def claim_challenges(
    tx: Tx, scope: Scope, *, owner: str, kind: str, now: datetime, until: datetime, limit: int
) -> list[AcmeChallenge]:
    """Lease up to `limit` challenges of one type that are to be validated now and that nobody holds."""
    due = (
        sa.select(challenges.c.id)
        .where(
            _of(challenges, scope),
            challenges.c.status == ChallengeStatus.PROCESSING,
            challenges.c.type == kind,
            challenges.c.run_at <= now,
            sa.or_(challenges.c.lease_until.is_(None), challenges.c.lease_until <= now),
        )
        .order_by(challenges.c.run_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return await tx.all(
        AcmeChallenge,
        sa.update(challenges)
        .where(_of(challenges, scope), challenges.c.id.in_(due.scalar_subquery()))
        .values(lease_owner=owner, lease_until=until, attempts=challenges.c.attempts + 1)
        .returning(*challenges.c),
    )


async def hold_challenges(tx: Tx, scope: Scope, held: Sequence[AcmeChallenge], until: datetime) -> None:
    """Push the end of the leases of these, each as long as it is still held as it was claimed."""
    still = [
        sa.and_(
            challenges.c.id == way.id,
            challenges.c.lease_owner == way.lease_owner,
            challenges.c.attempts == way.attempts,
        )
        for way in sorted(held, key=lambda way: way.id)
    ]
    await tx.execute(
        sa.update(challenges)
        .where(_of(challenges, scope), challenges.c.status == ChallengeStatus.PROCESSING, sa.or_(*still))
        .values(lease_until=until)
    )


async def has_work(tx: Tx, scope: Scope, now: datetime) -> bool:
    """Whether a challenge is to be validated now."""
    waiting = await tx.scalar(
        sa.select(challenges.c.id)
        .where(
            _of(challenges, scope),
            challenges.c.status == ChallengeStatus.PROCESSING,
            challenges.c.run_at <= now,
            sa.or_(challenges.c.lease_until.is_(None), challenges.c.lease_until <= now),
        )
        .limit(1)
    )
    return waiting is not None


async def still_held(tx: Tx, scope: Scope, challenge: AcmeChallenge) -> bool:
    """Whether a challenge is still leased as it was claimed; its row is locked."""
    found = await get(tx, scope, AcmeChallenge, challenge.id, lock=True)
    return (
        found is not None
        and found.status == ChallengeStatus.PROCESSING
        and (found.lease_owner, found.attempts) == (challenge.lease_owner, challenge.attempts)
    )


async def external_key(tx: Tx, scope: Scope, key_id: str, *, lock: bool = False) -> ExternalKey | None:
    """One key, if it lies within the scope."""
    statement = sa.select(external_keys).where(acme_listings.in_scope(scope), external_keys.c.id == key_id)
    return await tx.one(ExternalKey, statement.with_for_update() if lock else statement)


async def order_of_version(tx: Tx, scope: Scope, version_id: str) -> AcmeOrder | None:
    """The order that a version was issued for."""
    return await tx.one(
        AcmeOrder,
        sa.select(orders).where(_of(orders, scope), orders.c.version_id == version_id).order_by(orders.c.id).limit(1),
    )


async def replacement_of(tx: Tx, scope: Scope, certificate_id: str) -> AcmeOrder | None:
    """The order that says it replaces a certificate (RFC 9773), unless it came to nothing."""
    return await tx.one(
        AcmeOrder,
        sa.select(orders).where(
            _of(orders, scope), orders.c.replaces == certificate_id, orders.c.status != OrderState.INVALID
        ),
    )


async def earlier_order(tx: Tx, scope: Scope, order: AcmeOrder) -> AcmeOrder | None:
    """The newest finished order of the same account for the same names."""
    return await tx.one(
        AcmeOrder,
        sa.select(orders)
        .where(
            _of(orders, scope),
            orders.c.account_id == order.account_id,
            orders.c.names_key == order.names_key,
            orders.c.status == OrderState.VALID,
        )
        .order_by(orders.c.created_at.desc(), orders.c.id.desc())
        .limit(1),
    )


async def job(tx: Tx, scope: Scope, job_id: str) -> Job | None:
    """The job of an order."""
    return (await jobs.jobs_by_id(tx, scope, [job_id])).get(job_id)


async def version(tx: Tx, scope: Scope, version_id: str) -> Version | None:
    """One version by id."""
    table = schema.versions
    return await tx.one(Version, sa.select(table).where(table.c.tenant_id == scope.tenant_id, table.c.id == version_id))


async def version_by_fingerprint(tx: Tx, scope: Scope, fingerprint_sha256: str) -> Version | None:
    """The version with these very bytes."""
    return (await certificates.versions_by_fingerprint(tx, scope, [fingerprint_sha256])).get(fingerprint_sha256)


async def versions_by_serial(tx: Tx, scope: Scope, serial_number: str) -> list[Version]:
    """Versions with this serial number, of whichever CA."""
    table = schema.versions
    return await tx.all(
        Version,
        sa.select(table).where(table.c.tenant_id == scope.tenant_id, table.c.serial_number == serial_number).limit(10),
    )


async def revoked_at(tx: Tx, scope: Scope, version_id: str) -> datetime | None:
    """When a version was revoked."""
    table = schema.revocations
    found: datetime | None = await tx.scalar(
        sa.select(table.c.revoked_at).where(table.c.tenant_id == scope.tenant_id, table.c.version_id == version_id)
    )
    return found


async def sweep(tx: Tx, scope: Scope, now: datetime, limit: int) -> Mapping[str, int]:
    """End what has lapsed: nonces go, pending authorizations expire, open orders become invalid; how many of each."""
    old = sa.select(spent_nonces.c.nonce).where(_of(spent_nonces, scope), spent_nonces.c.expires_at <= now).limit(limit)
    gone = await tx.execute(
        sa.delete(spent_nonces).where(_of(spent_nonces, scope), spent_nonces.c.nonce.in_(old.scalar_subquery()))
    )
    lapsed = await _lapse(
        tx, scope, authorizations, (AuthorizationStatus.PENDING,), now, limit, status=AuthorizationStatus.EXPIRED
    )
    # an order that is being issued ends with its job, however long that takes
    error = {"type": "urn:ietf:params:acme:error:malformed", "detail": "the order has expired", "status": 400}
    open_ = (OrderState.PENDING, OrderState.READY)
    ended = await _lapse(tx, scope, orders, open_, now, limit, status=OrderState.INVALID, error=error, updated_at=now)
    return {"nonces": int(gone.rowcount), "authorizations": lapsed, "orders": ended}


async def _lapse(
    tx: Tx, scope: Scope, table: sa.Table, statuses: Sequence[str], now: datetime, limit: int, **values: Any
) -> int:
    old = (
        sa.select(table.c.id)
        .where(_of(table, scope), table.c.status.in_(tuple(statuses)), table.c.expires_at <= now)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ended = await tx.execute(
        sa.update(table).where(_of(table, scope), table.c.id.in_(old.scalar_subquery())).values(values)
    )
    return int(ended.rowcount)


async def change_key(tx: Tx, scope: Scope, account: AcmeAccount, jwk: str, thumbprint: str, now: datetime) -> bool:
    """Give an account another key, unless some account of its profile has that one."""
    taken = sa.select(accounts.c.id).where(
        _of(accounts, scope), accounts.c.profile_id == account.profile_id, accounts.c.thumbprint == thumbprint
    )
    statement = (
        sa.update(accounts)
        .where(_of(accounts, scope), accounts.c.id == account.id, accounts.c.thumbprint == account.thumbprint)
        .where(~sa.exists(taken.correlate(None)))
        .values(jwk=jwk, thumbprint=thumbprint, updated_at=now)
    )
    try:
        changed = await tx.execute(statement)
    except IntegrityError as error:
        raise Conflict("another account has this key") from error
    return changed.rowcount == 1

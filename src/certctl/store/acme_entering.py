"""Who asks the ACME server, and all that their question is about: one statement, which spends the nonce too (ADR 46).

Everything is read as it was when the nonce was spent. Whoever forges a name is told nothing of it: the caller judges
the signature by the key that is found here before it looks at anything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from msgspec import Struct
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import aggregate_order_by

from certctl.core.acme import AcmeAccount, AcmeAuthorization, AcmeChallenge, AcmeOrder, ExternalKey, OrderState
from certctl.core.catalogue import IssuerRecord, Owner, PolicyRule, Profile, RenewalPolicy, Team
from certctl.core.certificate import Version
from certctl.core.scope import Scope
from certctl.store import acme, catalogue, policies, schema, together
from certctl.store.schema import acme_accounts as accounts
from certctl.store.schema import acme_authorizations as authorizations
from certctl.store.schema import acme_challenges as challenges
from certctl.store.schema import acme_external_keys as external_keys
from certctl.store.schema import acme_orders as orders
from certctl.store.schema import acme_spent_nonces as spent_nonces
from certctl.store.statements import Statement
from certctl.store.tx import Database, Tx

RecordT = TypeVar("RecordT", bound=Struct)


class Subject(Struct, frozen=True, kw_only=True):
    """What a question is about, beside who asks it: what is read of it comes with them. `orders_by` are the issuer and
    the renewal policy that an order here goes by where its profile names none: whoever is about to judge one is told
    all that it is judged by. `finalizes`: the order is to be issued by now.
    """

    order_id: str = ""
    finalizes: bool = False
    authorization_id: str = ""
    version_id: str = ""
    orders_by: tuple[str, str] | None = None


class Entered(Struct, frozen=True, kw_only=True):
    """What one look found. `key`, `names` (what a request names: issuer, renewal policy, owner, team) and `rules` are
    there for who is about to order, `key` and `has_earlier` (whether the account has a certificate for the same names)
    for who finalizes, the others for who asked about them; only what is the account's own.
    """

    spent: bool
    account: AcmeAccount | None
    profile: Profile | None
    key: ExternalKey | None = None
    names: tuple[IssuerRecord | RenewalPolicy | Owner | Team, ...] = ()
    rules: tuple[PolicyRule, ...] = ()
    order: AcmeOrder | None = None
    # of the order
    proofs: tuple[AcmeAuthorization, ...] = ()
    has_earlier: bool = False
    authorization: AcmeAuthorization | None = None
    # of the authorization
    ways: tuple[AcmeChallenge, ...] = ()
    version: Version | None = None


async def enter(
    database: Database,
    scope: Scope,
    nonce: tuple[str, datetime],
    account_id: str,
    profile_id: str,
    subject: Subject,
) -> Entered:
    """Spend a nonce (it, and until when it is good) for somebody whose signature was judged by the key that was theirs
    lately, and read who they are and what they ask about. Whether the key is still theirs is for the caller to see.
    """
    if database.dialect != "postgresql":
        return await _one_by_one(database, scope, nonce, account_id, profile_id, subject)
    asked: dict[str, Any] = {"tenant": scope.tenant_id, "account": account_id, "profile": profile_id}
    asked |= {"spent_nonce": nonce[0], "until": nonce[1]}
    given = {"order": subject.order_id, "authorization": subject.authorization_id, "version": subject.version_id}
    parts = tuple(name for name, value in given.items() if value)
    asked |= {f"about_{name}": given[name] for name in parts}
    if subject.finalizes:
        parts = ("key", *parts, "earlier")
    if subject.orders_by is not None:
        parts = ("key", "ordering", *parts)
        asked |= dict(zip(("usual_issuer", "usual_policy"), subject.orders_by, strict=True))
    async with database.alone("acme.enter") as tx:
        row = (await tx.execute(_entering(parts), **asked)).one()
    return _read(row, parts)


_NAMED = (IssuerRecord, RenewalPolicy, Owner, Team)
_KINDS: dict[str, tuple[type[Struct], ...]] = {
    "key": (ExternalKey,),
    "ordering": _NAMED,
    "order": (AcmeOrder,),
    "authorization": (AcmeAuthorization,),
    "version": (Version,),
    "earlier": (),
}


def _read(row: Sequence[Any], parts: tuple[str, ...]) -> Entered:
    kinds: list[type[Struct]] = [AcmeAccount, Profile]
    for part in parts:
        kinds += _KINDS[part]
    found = together.taken_apart(row[1:], *kinds)
    lists = list(row[1 + sum(len(kind.__struct_fields__) for kind in kinds) :])
    told: dict[str, Any] = {"spent": row[0] == 1, "account": found.pop(0), "profile": found.pop(0)}
    for part in parts:
        if part == "ordering":
            names = [found.pop(0) for _ in _NAMED]
            told["names"] = tuple(name for name in names if name is not None)
            told["rules"] = _records(PolicyRule, lists.pop(0))
        elif part == "earlier":
            told["has_earlier"] = lists.pop(0)
        else:
            told[part] = found.pop(0)
        if part == "order":
            told["proofs"] = _records(AcmeAuthorization, lists.pop(0))
        if part == "authorization":
            told["ways"] = _records(AcmeChallenge, lists.pop(0))
    return Entered(**told)


def _records(kind: type[RecordT], rows: list[dict[str, Any]] | None) -> tuple[RecordT, ...]:
    """Whole rows that came as JSON, whose times are told in the connection's time zone."""
    made = []
    for row in rows or ():
        record = msgspec.convert(row, kind)
        times = {name: getattr(record, name) for name in kind.__struct_fields__}
        utc = {name: time.astimezone(UTC) for name, time in times.items() if isinstance(time, datetime)}
        made.append(msgspec.structs.replace(record, **utc))
    return tuple(made)


@lru_cache(maxsize=16)
def _entering(parts: tuple[str, ...]) -> Statement:
    tenant: sa.BindParameter[str] = sa.bindparam("tenant")
    spent = (
        postgresql.insert(spent_nonces)
        .values(tenant_id=tenant, nonce=sa.bindparam("spent_nonce"), expires_at=sa.bindparam("until"))
        .on_conflict_do_nothing()
        .returning(spent_nonces.c.nonce)
        .cte("spent")
    )
    one = sa.select(sa.func.count().label("spent")).select_from(spent).subquery("one")
    profiles = catalogue.TABLES[Profile][0]
    mine = sa.and_(accounts.c.tenant_id == tenant, accounts.c.id == sa.bindparam("account"))
    here = sa.and_(profiles.c.tenant_id == tenant, profiles.c.id == sa.bindparam("profile"))
    source: sa.FromClause = one.outerjoin(accounts, mine).outerjoin(profiles, here)
    columns = together.columns(AcmeAccount, accounts, "account") + together.columns(Profile, profiles, "profile")
    lists: list[sa.ColumnElement[Any]] = []
    for part in parts:
        source, more, listed = _PARTS[part](source, tenant)
        columns += more
        lists += listed
    return Statement(sa.select(one.c.spent, *columns, *lists).select_from(source))


_Part = tuple[sa.FromClause, list[sa.Label[Any]], list[sa.ColumnElement[Any]]]


def _with_key(source: sa.FromClause, tenant: sa.BindParameter[str]) -> _Part:
    this = sa.and_(external_keys.c.tenant_id == tenant, external_keys.c.id == accounts.c.external_key_id)
    return source.outerjoin(external_keys, this), together.columns(ExternalKey, external_keys, "key"), []


def _with_ordering(source: sa.FromClause, tenant: sa.BindParameter[str]) -> _Part:
    """By what an order of this account is judged beside its key: each found by its id, which stands in a row before
    it.
    """
    profiles = catalogue.TABLES[Profile][0]
    issuer = sa.func.coalesce(sa.func.nullif(profiles.c.acme_issuer_id, ""), sa.bindparam("usual_issuer"))
    by: list[tuple[type[Struct], sa.Table, Any]] = [
        (IssuerRecord, catalogue.TABLES[IssuerRecord][0], issuer),
        (RenewalPolicy, catalogue.TABLES[RenewalPolicy][0], sa.bindparam("usual_policy")),
        (Owner, catalogue.TABLES[Owner][0], external_keys.c.owner_id),
        (Team, catalogue.TABLES[Team][0], external_keys.c.team_id),
    ]
    columns: list[sa.Label[Any]] = []
    for kind, table, found_by in by:
        source = source.outerjoin(table, sa.and_(table.c.tenant_id == tenant, table.c.id == found_by))
        columns += together.columns(kind, table, kind.__name__.lower())
    rules = schema.policy_rules
    in_force = policies.chosen_in_force(tenant)
    return source, columns, [_whole_rows(rules, in_force, rules.c.name, rules.c.id)]


def _with_order(source: sa.FromClause, tenant: sa.BindParameter[str]) -> _Part:
    own = orders.c.account_id == accounts.c.id
    this = sa.and_(orders.c.tenant_id == tenant, orders.c.id == sa.bindparam("about_order"), own)
    of_it = sa.and_(authorizations.c.tenant_id == tenant, authorizations.c.order_id == orders.c.id)
    columns = together.columns(AcmeOrder, orders, "order")
    return source.outerjoin(orders, this), columns, [_whole_rows(authorizations, of_it, authorizations.c.id)]


def _with_earlier(source: sa.FromClause, tenant: sa.BindParameter[str]) -> _Part:
    earlier = orders.alias("earlier")
    same = sa.and_(
        earlier.c.tenant_id == tenant,
        earlier.c.account_id == orders.c.account_id,
        earlier.c.names_key == orders.c.names_key,
        earlier.c.status == OrderState.VALID,
    )
    found = sa.exists(sa.select(sa.literal(1)).where(same).correlate(orders))
    return source, [], [sa.type_coerce(found, sa.Boolean).label("has_earlier")]


def _with_authorization(source: sa.FromClause, tenant: sa.BindParameter[str]) -> _Part:
    own = authorizations.c.account_id == accounts.c.id
    this = sa.and_(
        authorizations.c.tenant_id == tenant, authorizations.c.id == sa.bindparam("about_authorization"), own
    )
    of_it = sa.and_(challenges.c.tenant_id == tenant, challenges.c.authorization_id == authorizations.c.id)
    columns = together.columns(AcmeAuthorization, authorizations, "authz")
    return source.outerjoin(authorizations, this), columns, [_whole_rows(challenges, of_it, challenges.c.id)]


def _with_version(source: sa.FromClause, tenant: sa.BindParameter[str]) -> _Part:
    versions = schema.versions
    ordered = sa.select(sa.literal(1)).where(
        orders.c.tenant_id == tenant, orders.c.version_id == versions.c.id, orders.c.account_id == accounts.c.id
    )
    its_own = sa.exists(ordered.correlate(versions, accounts))
    this = sa.and_(versions.c.tenant_id == tenant, versions.c.id == sa.bindparam("about_version"), its_own)
    return source.outerjoin(versions, this), together.columns(Version, versions, "version"), []


_PARTS = {
    "key": _with_key,
    "earlier": _with_earlier,
    "ordering": _with_ordering,
    "order": _with_order,
    "authorization": _with_authorization,
    "version": _with_version,
}


def _whole_rows(table: sa.Table, chosen: sa.ColumnElement[bool], *by: sa.Column[Any]) -> sa.ColumnElement[Any]:
    """All rows of a table that are chosen, as one JSON list; NULL for none."""
    row = sa.func.row_to_json(sa.literal_column(table.name))
    rows = sa.func.json_agg(aggregate_order_by(row, *by), type_=sa.JSON())
    outer = [each for each in (accounts, orders, authorizations) if each is not table]
    return sa.select(rows).where(chosen).correlate(*outer).scalar_subquery().label(f"{table.name}_rows")


async def _one_by_one(
    database: Database, scope: Scope, nonce: tuple[str, datetime], account_id: str, profile_id: str, subject: Subject
) -> Entered:
    told: dict[str, Any] = {}
    async with database.read() as tx:
        account = await acme.get(tx, scope, AcmeAccount, account_id)
        profile = await catalogue.find(tx, scope, Profile, id=profile_id)
        key_id = account.external_key_id if account is not None else ""
        if key_id and (subject.finalizes or subject.orders_by is not None):
            told["key"] = await acme.external_key(tx, scope, key_id)
        if subject.orders_by is not None and profile is not None:
            told |= await _ordering(tx, scope, told.get("key"), profile, subject.orders_by)
        if subject.order_id:
            told |= await _order(tx, scope, account_id, subject)
        if subject.authorization_id:
            told |= await _authorization(tx, scope, account_id, subject.authorization_id)
        if subject.version_id:
            told["version"] = await acme.ordered_version(tx, scope, subject.version_id, account_id)
    spent = await acme.spend_nonce(database, scope, *nonce)
    return Entered(spent=spent, account=account, profile=profile, **told)


async def _ordering(
    tx: Tx, scope: Scope, key: ExternalKey | None, profile: Profile, usual: tuple[str, str]
) -> dict[str, Any]:
    wanted: list[tuple[type[Struct], str]] = [
        (IssuerRecord, profile.acme_issuer_id or usual[0]),
        (RenewalPolicy, usual[1]),
    ]
    if key is not None:
        wanted += [(Owner, key.owner_id), (Team, key.team_id)]
    names = [await catalogue.find(tx, scope, kind, id=record_id) for kind, record_id in wanted if record_id]
    rules = tuple(await policies.in_force(tx, scope))
    return {"names": tuple(name for name in names if name is not None), "rules": rules}


async def _order(tx: Tx, scope: Scope, account_id: str, subject: Subject) -> dict[str, Any]:
    order = await acme.get(tx, scope, AcmeOrder, subject.order_id)
    if order is None or order.account_id != account_id:
        return {}
    told = {"order": order, "proofs": tuple(await acme.authorizations_of(tx, scope, order.id))}
    if subject.finalizes:
        told["has_earlier"] = await acme.earlier_order(tx, scope, order) is not None
    return told


async def _authorization(tx: Tx, scope: Scope, account_id: str, authorization_id: str) -> dict[str, Any]:
    found = await acme.get(tx, scope, AcmeAuthorization, authorization_id)
    if found is None or found.account_id != account_id:
        return {}
    return {"authorization": found, "ways": tuple(await acme.challenges_of(tx, scope, authorization_id))}

"""What operators configure (issuers, targets, profiles, policies, owners, teams, agents, keys): one way to read and
write it.

A record's type names its table. Uniqueness violations are Conflict, a miss is NotFound with the thing's plain name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any, NoReturn, TypeVar

import msgspec
import sqlalchemy as sa

from certctl.core import catalogue as nouns
from certctl.core.errors import Conflict, NotFound, PreconditionFailed
from certctl.core.health import HealthCheck
from certctl.core.notification import Channel
from certctl.core.revision import Expected, changed_meanwhile
from certctl.core.scope import Scope
from certctl.core.target import AgentRecord, TargetRecord
from certctl.store import certificates, schema, together
from certctl.store.among import any_given, any_of
from certctl.store.statements import Statement
from certctl.store.tx import Tx

RecordT = TypeVar("RecordT", bound=msgspec.Struct)

TABLES: dict[type[msgspec.Struct], tuple[sa.Table, str]] = {
    nouns.IssuerRecord: (schema.issuers, "issuer"),
    nouns.Profile: (schema.profiles, "profile"),
    nouns.RenewalPolicy: (schema.renewal_policies, "renewal policy"),
    nouns.Owner: (schema.owners, "owner"),
    nouns.Team: (schema.teams, "team"),
    nouns.ApiKey: (schema.api_keys, "API key"),
    nouns.Role: (schema.roles, "role"),
    nouns.ActorRole: (schema.actor_roles, "grant"),
    nouns.EnrolmentToken: (schema.enrolment_tokens, "enrolment token"),
    nouns.PolicyRule: (schema.policy_rules, "policy"),
    nouns.AgentGroup: (schema.agent_groups, "agent group"),
    Channel: (schema.notification_channels, "notification channel"),
    HealthCheck: (schema.health_checks, "health check"),
    TargetRecord: (schema.targets, "target"),
    AgentRecord: (schema.agents, "agent"),
}


# what operators edit: the audit tells of each edit how it was before and is after; agents change with every boot
_TOLD = frozenset(TABLES) - {AgentRecord, nouns.EnrolmentToken, nouns.ActorRole}


def _keep_image(tx: Tx, word: str, record_id: str, before: msgspec.Struct | None, after: msgspec.Struct | None) -> None:
    """For whoever records this edit; of several in one transaction, from before the first to after the last."""
    key = (word.lower().replace(" ", "_"), record_id)
    if key in tx.images:
        before = tx.images[key][0]
    tx.images[key] = (before, after)


def in_scope(kind: type[RecordT], scope: Scope) -> sa.ColumnElement[bool]:
    """The rows of a kind's table that a scope may see; a kind that has no place here is seen by whole scopes alone."""
    table, _ = TABLES[kind]
    mine: sa.ColumnElement[bool] = table.c.tenant_id == scope.tenant_id
    if scope.is_whole:
        return mine
    if kind in _LIMITED_BY:
        field, column = _LIMITED_BY[kind]
        ids = scope.ids(field)
        return mine if ids is None else sa.and_(mine, column.in_(ids))
    if kind is TargetRecord:
        return sa.and_(mine, table.c.id.in_(_targets_in_scope(scope)))
    if kind is AgentRecord:
        return sa.and_(mine, table.c.id.in_(_agents_in_scope(scope)))
    if kind is HealthCheck:
        owned = sa.select(schema.certificates.c.id).where(certificates.in_scope(scope))
        return sa.and_(mine, table.c.certificate_id.in_(owned))
    shared = kind is nouns.RenewalPolicy and bool(scope.reaches)
    return mine if shared else sa.false()


_LIMITED_BY: dict[type[msgspec.Struct], tuple[str, sa.Column[Any]]] = {
    nouns.IssuerRecord: ("issuers", schema.issuers.c.id),
    nouns.Profile: ("profiles", schema.profiles.c.id),
    nouns.Team: ("teams", schema.teams.c.id),
    nouns.Owner: ("teams", schema.owners.c.team_id),
}


def _targets_in_scope(scope: Scope) -> sa.Select[Any]:
    """A target belongs to whoever may see a certificate on it."""
    mapping, owned = schema.certificate_targets, schema.certificates
    together = sa.and_(owned.c.tenant_id == mapping.c.tenant_id, owned.c.id == mapping.c.certificate_id)
    return sa.select(mapping.c.target_id).join(owned, together).where(certificates.in_scope(scope))


def _agents_in_scope(scope: Scope) -> sa.Select[Any]:
    """An agent belongs to whoever may see a target that it serves."""
    served = schema.targets
    return sa.select(served.c.agent_id).where(
        served.c.tenant_id == scope.tenant_id, served.c.id.in_(_targets_in_scope(scope))
    )


@cache
def _by_id(kind: type[msgspec.Struct]) -> Statement:
    table = TABLES[kind][0]
    return Statement(
        sa.select(table).where(table.c.tenant_id == sa.bindparam("tenant_id"), table.c.id == sa.bindparam("record_id"))
    )


async def get(tx: Tx, scope: Scope, kind: type[RecordT], record_id: str, *, expected: Expected = None) -> RecordT:
    """One record; NotFound when it is not there or not in scope, PreconditionFailed when it is not as `expected`."""
    table, word = TABLES[kind]
    if scope.is_whole:
        found = await tx.one(kind, _by_id(kind), tenant_id=scope.tenant_id, record_id=record_id)
    else:
        found = await tx.one(kind, sa.select(table).where(in_scope(kind, scope), table.c.id == record_id))
    if found is None:
        raise NotFound(f"no {word} {record_id}")
    if expected is not None and getattr(found, "row_version", 0) not in expected:
        raise PreconditionFailed(changed_meanwhile(f"{word} {record_id}"))
    return found


async def as_first_seen(tx: Tx, scope: Scope, kind: type[RecordT], record_id: str) -> RecordT:
    """`get`, read once a transaction: for what many decisions of one transaction go by and none of them changes."""
    key = (scope, kind, record_id)
    if key not in tx.first_seen:
        tx.first_seen[key] = await get(tx, scope, kind, record_id)
    found: RecordT = tx.first_seen[key]
    return found


async def see(tx: Tx, scope: Scope, wanted: Sequence[tuple[type[msgspec.Struct], str]]) -> None:
    """Read what is there of these records, each of another kind, in one statement, for `as_first_seen`.

    Who may see a part of them asks for one after the other: what is out of sight is like what is not there.
    """
    missing = [(kind, record_id) for kind, record_id in wanted if (scope, kind, record_id) not in tx.first_seen]
    if len(missing) <= 1 or not scope.is_whole:
        return
    kinds = tuple(kind for kind, _ in missing)
    ids: dict[str, Any] = {f"id_{number}": record_id for number, (_, record_id) in enumerate(missing)}
    row = (await tx.execute(_seen_together(kinds), tenant=scope.tenant_id, **ids)).one()
    for (kind, record_id), found in zip(missing, together.taken_apart(row, *kinds), strict=True):
        if found is not None:
            tx.first_seen[scope, kind, record_id] = found


@lru_cache(maxsize=64)
def _seen_together(kinds: tuple[type[msgspec.Struct], ...]) -> Statement:
    one = sa.select(sa.literal(1).label("one")).subquery("one")
    source: sa.FromClause = one
    columns: list[sa.Label[Any]] = []
    for number, kind in enumerate(kinds):
        table = TABLES[kind][0]
        columns += together.columns(kind, table, f"r{number}")
        mine = sa.and_(table.c.tenant_id == sa.bindparam("tenant"), table.c.id == sa.bindparam(f"id_{number}"))
        source = source.outerjoin(table, mine)
    return Statement(sa.select(*columns).select_from(source))


def saw(tx: Tx, scope: Scope, record: msgspec.Struct, record_id: str) -> None:
    """What the caller read a moment ago is what this transaction goes by (`as_first_seen`)."""
    tx.first_seen[scope, type(record), record_id] = record


async def find(tx: Tx, scope: Scope, kind: type[RecordT], **equal: Any) -> RecordT | None:
    """The first record whose columns equal these values, or None."""
    table, _ = TABLES[kind]
    conditions = [table.c[name] == value for name, value in equal.items()]
    return await tx.one(kind, sa.select(table).where(in_scope(kind, scope), *conditions).limit(1))


async def many(tx: Tx, scope: Scope, kind: type[RecordT], ids: tuple[str, ...]) -> dict[str, RecordT]:
    """Many records at once, by id."""
    if not ids:
        return {}
    if scope.is_whole:
        rows = await tx.all(kind, _by_ids(kind), tenant=scope.tenant_id, ids=ids)
    else:
        table, _ = TABLES[kind]
        rows = await tx.all(kind, sa.select(table).where(in_scope(kind, scope), any_of(table.c.id, ids)))
    return {getattr(row, "id"): row for row in rows}  # noqa: B009 - the bound type has no id for mypy


@cache
def _by_ids(kind: type[msgspec.Struct]) -> Statement:
    """All of a kind with one of these ids, for who sees everything."""
    table, _ = TABLES[kind]
    return Statement(sa.select(table).where(table.c.tenant_id == sa.bindparam("tenant"), any_given(table.c.id, "ids")))


async def insert(tx: Tx, scope: Scope, record: msgspec.Struct) -> None:
    """Write a new record; Conflict when its id or name is taken."""
    table, word = TABLES[type(record)]
    row = {name: getattr(record, name) for name in record.__struct_fields__}
    if row["tenant_id"] != scope.tenant_id:
        raise NotFound(f"no such tenant for {word}")
    inserted = await tx.execute(tx.insert(table).values(row).on_conflict_do_nothing())
    if inserted.rowcount != 1:
        raise Conflict(f"{_article(word)} with this id or name already exists")
    _keep_image(tx, word, row["id"], None, record)


async def change(
    tx: Tx, scope: Scope, kind: type[RecordT], record_id: str, *, expected: Expected = None, **values: Any
) -> None:
    """Change columns of one record; NotFound when it is not there, PreconditionFailed when it is of no row version
    that is `expected`: judged in the UPDATE, so that of two changes that expect one version only one is made.
    """
    tx.first_seen.clear()
    table, word = TABLES[kind]
    name = values.get("name")
    if name is not None:
        taken = await tx.scalar(
            sa.select(table.c.id).where(
                table.c.tenant_id == scope.tenant_id, table.c.name == name, table.c.id != record_id
            )
        )
        if taken is not None:
            raise Conflict(f"{_article(word)} named {name} already exists")
    mine = sa.and_(in_scope(kind, scope), table.c.id == record_id)
    if kind in _TOLD:
        before = await tx.one(kind, sa.select(table).where(mine))
        if before is not None:
            _keep_image(tx, word, record_id, before, msgspec.structs.replace(before, **values))
    if "row_version" in table.c:
        values = values | {"row_version": table.c.row_version + 1}
    changed = await tx.execute(sa.update(table).where(mine, *_as_expected(table, expected)).values(values))
    if changed.rowcount != 1:
        await _refuse(tx, table, mine, f"{word} {record_id}")


async def change_if(
    tx: Tx, scope: Scope, kind: type[RecordT], record_id: str, column: str, *, is_null: bool, **values: Any
) -> bool:
    """Change columns only while `column` is (or is not) NULL: how a one-time thing is used once. False when too
    late.
    """
    table, _ = TABLES[kind]
    guard = table.c[column].is_(None) if is_null else table.c[column].is_not(None)
    changed = await tx.execute(
        sa.update(table).where(in_scope(kind, scope), table.c.id == record_id, guard).values(values)
    )
    return changed.rowcount == 1


async def remove(tx: Tx, scope: Scope, kind: type[RecordT], record_id: str, *, expected: Expected = None) -> None:
    """Delete one record; NotFound when it is not there, PreconditionFailed when it is not as `expected`."""
    table, word = TABLES[kind]
    mine = sa.and_(in_scope(kind, scope), table.c.id == record_id)
    if kind in _TOLD:
        _keep_image(tx, word, record_id, await tx.one(kind, sa.select(table).where(mine)), None)
    removed = await tx.execute(sa.delete(table).where(mine, *_as_expected(table, expected)))
    if removed.rowcount != 1:
        await _refuse(tx, table, mine, f"{word} {record_id}")


def _as_expected(table: sa.Table, expected: Expected) -> list[sa.ColumnElement[bool]]:
    return [] if expected is None else [table.c.row_version.in_(expected)]


async def _refuse(tx: Tx, table: sa.Table, mine: sa.ColumnElement[bool], name: str) -> NoReturn:
    if await tx.scalar(sa.select(table.c.id).where(mine)) is None:
        raise NotFound(f"no {name}")
    raise PreconditionFailed(changed_meanwhile(name))


async def uses(tx: Tx, scope: Scope, column: sa.Column[str], record_id: str) -> int:
    """How many rows that a scope may see name this record in that column: what keeps it from being deleted."""
    mine = sa.and_(column.table.c.tenant_id == scope.tenant_id, column == record_id)
    if not scope.is_whole:
        mine = sa.and_(mine, _SEEN[column.table.name](scope))
    return int(await tx.scalar(sa.select(sa.func.count()).select_from(column.table).where(mine)))


def _of_seen_certificates(scope: Scope) -> sa.ColumnElement[bool]:
    return schema.versions.c.certificate_id.in_(sa.select(schema.certificates.c.id).where(certificates.in_scope(scope)))


# who sees which row of what may name a record
_SEEN: dict[str, Callable[[Scope], sa.ColumnElement[bool]]] = {
    schema.certificates.name: certificates.in_scope,
    schema.versions.name: _of_seen_certificates,
    schema.owners.name: lambda scope: in_scope(nouns.Owner, scope),
    schema.renewal_policies.name: lambda scope: in_scope(nouns.RenewalPolicy, scope),
}


async def by_secret_hash(tx: Tx, kind: type[RecordT], column: str, digest: str) -> RecordT | None:
    """Who holds a secret, whatever the tenant: the one question asked before a Scope is known."""
    table, _ = TABLES[kind]
    return await tx.one(kind, sa.select(table).where(table.c[column] == digest))


def _article(word: str) -> str:
    return f"an {word}" if word[0] in "aeiouA" else f"a {word}"

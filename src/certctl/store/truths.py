"""What is issued, deployed and seen served, for many certificates at once: read models of pages. Nothing here writes.

A place is a target that a certificate is mapped to, with the newest deployment there. No certificate bytes are loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from msgspec import Struct

from certctl.core.catalogue import RenewalPolicy
from certctl.core.certificate import CLIENT_HOLDER, EXTERNAL_HOLDER, Certificate
from certctl.core.scope import Scope
from certctl.core.status import LIVE_JOB, AgentStatus, CertificateStatus, JobStatus, VersionStatus
from certctl.store import catalogue, certificates, schema
from certctl.store.catalogue import TABLES
from certctl.store.stats import IN_USE
from certctl.store.tx import Tx

_C, _V, _D, _T, _A, _J = (
    schema.certificates.c,
    schema.versions.c,
    schema.deployments.c,
    schema.targets.c,
    schema.agents.c,
    schema.jobs.c,
)
_M = schema.certificate_targets.c


class Leaf(Struct, frozen=True, kw_only=True):
    """One version without its bytes."""

    id: str
    certificate_id: str
    holder_id: str
    status: str
    serial_number: str
    not_before: datetime
    not_after: datetime
    fingerprint_sha256: str
    key_algorithm: str
    key_size: int
    issuer_id: str
    ca_certificate_id: str
    replaces_id: str
    created_at: datetime


class Place(Struct, frozen=True, kw_only=True):
    """A target of a certificate, its agent, and the newest deployment there; `status` is empty when there is none.

    `seen_*` is what was last observed there of this deployment, and by whom; None when nobody has looked.
    """

    certificate_id: str
    target_id: str
    target_name: str
    target_type: str
    config: dict[str, Any]
    agent_id: str
    agent_name: str
    agent_status: str
    last_heartbeat_at: datetime | None
    deployment_id: str
    version_id: str
    status: str
    error: str
    observed_fingerprint: str
    applied_at: datetime | None
    verified_at: datetime | None
    updated_at: datetime | None
    leaf_status: str
    leaf_not_after: datetime | None


class Underway(Struct, frozen=True, kw_only=True):
    """A live job of a certificate, without its body."""

    id: str
    certificate_id: str
    type: str
    status: str
    target_id: str
    agent_id: str
    attempts: int
    last_error: str
    requested_by: str
    created_at: datetime


class PlaceCount(Struct, frozen=True):
    """How many places of certificates in use stand so. `fresh`: the deployed version is the current one."""

    status: str
    fresh: bool
    number: int


def _seen(scope: Scope, column: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Whether the certificate that a column names is in scope; the whole tenant needs no look at certificates."""
    if scope == Scope.whole(scope.tenant_id):
        return sa.true()
    return column.in_(sa.select(_C.id).where(certificates.in_scope(scope)))


async def leaves(tx: Tx, scope: Scope, certificate_ids: Sequence[str]) -> dict[str, list[Leaf]]:
    """The current versions of many certificates, one a key holder."""
    found: dict[str, list[Leaf]] = {each: [] for each in certificate_ids}
    if certificate_ids:
        columns = [_V[field] for field in Leaf.__struct_fields__]
        statement = sa.select(*columns).where(
            _V.tenant_id == scope.tenant_id,
            _V.certificate_id.in_(tuple(certificate_ids)),
            _seen(scope, _V.certificate_id),
            _V.status == VersionStatus.CURRENT,
        )
        for leaf in await tx.all(Leaf, statement.order_by(_V.holder_id)):
            found[leaf.certificate_id].append(leaf)
    return found


async def history(tx: Tx, scope: Scope, certificate_id: str, limit: int) -> tuple[list[Leaf], int]:
    """The newest versions of one certificate, newest first, and how many there are."""
    mine = sa.and_(
        _V.tenant_id == scope.tenant_id, _V.certificate_id == certificate_id, _seen(scope, _V.certificate_id)
    )
    columns = [_V[field] for field in Leaf.__struct_fields__]
    statement = sa.select(*columns).where(mine).order_by(_V.created_at.desc(), _V.id.desc()).limit(limit)
    total = await tx.scalar(sa.select(sa.func.count()).select_from(schema.versions).where(mine))
    return await tx.all(Leaf, statement), int(total)


async def places(tx: Tx, scope: Scope, certificate_ids: Sequence[str]) -> dict[str, list[Place]]:
    """Where each of many certificates goes, and how it stands there."""
    found: dict[str, list[Place]] = {each: [] for each in certificate_ids}
    if not certificate_ids:
        return found
    newest = _newest(scope, tuple(certificate_ids))
    of_target = sa.and_(schema.targets.c.tenant_id == _M.tenant_id, _T.id == _M.target_id)
    of_agent = sa.and_(_A.tenant_id == _T.tenant_id, _A.id == _T.agent_id)
    of_place = sa.and_(newest.c.certificate_id == _M.certificate_id, newest.c.target_id == _M.target_id)
    of_version = sa.and_(_V.tenant_id == scope.tenant_id, _V.id == newest.c.version_id)
    text = sa.literal("")
    statement = (
        sa.select(
            _M.certificate_id,
            _T.id.label("target_id"),
            _T.name.label("target_name"),
            _T.type.label("target_type"),
            _T.config,
            _T.agent_id,
            sa.func.coalesce(_A.name, text).label("agent_name"),
            sa.func.coalesce(_A.status, text).label("agent_status"),
            _A.last_heartbeat_at,
            *(
                sa.func.coalesce(newest.c[name], text).label(label)
                for name, label in (
                    ("id", "deployment_id"),
                    ("version_id", "version_id"),
                    ("status", "status"),
                    ("error", "error"),
                    ("observed_fingerprint", "observed_fingerprint"),
                )
            ),
            newest.c.applied_at,
            newest.c.verified_at,
            newest.c.updated_at,
            sa.func.coalesce(_V.status, text).label("leaf_status"),
            _V.not_after.label("leaf_not_after"),
        )
        .select_from(
            schema.certificate_targets.join(schema.targets, of_target)
            .outerjoin(schema.agents, of_agent)
            .outerjoin(newest, of_place)
            .outerjoin(schema.versions, of_version)
        )
        .where(
            _M.tenant_id == scope.tenant_id,
            _M.certificate_id.in_(tuple(certificate_ids)),
            _seen(scope, _M.certificate_id),
        )
        .order_by(_T.name, _T.id)
    )
    for place in await tx.all(Place, statement):
        found[place.certificate_id].append(place)
    return found


def _newest(scope: Scope, certificate_ids: tuple[str, ...] | None) -> sa.Subquery:
    """The newest deployment of each certificate on each target."""
    number = sa.func.row_number().over(
        partition_by=(_D.certificate_id, _D.target_id), order_by=(_D.created_at.desc(), _D.id.desc())
    )
    # of all deployments only what is counted by is sorted; a receipt is a hundred times as wide
    columns = (_D.certificate_id, _D.target_id, _D.version_id, _D.status) if certificate_ids is None else (*_D,)
    statement = sa.select(*columns, number.label("place_row")).where(_D.tenant_id == scope.tenant_id)
    if certificate_ids is not None:
        statement = statement.where(_D.certificate_id.in_(certificate_ids))
    ranked = statement.subquery()
    return sa.select(ranked).where(ranked.c.place_row == 1).subquery()


async def underway(tx: Tx, scope: Scope, certificate_ids: Sequence[str]) -> dict[str, list[Underway]]:
    """The live jobs of many certificates, oldest first."""
    found: dict[str, list[Underway]] = {each: [] for each in certificate_ids}
    if certificate_ids:
        columns = [_J[field] for field in Underway.__struct_fields__]
        statement = sa.select(*columns).where(
            _J.tenant_id == scope.tenant_id,
            _J.certificate_id.in_(tuple(certificate_ids)),
            _seen(scope, _J.certificate_id),
            _J.status.in_([str(status) for status in LIVE_JOB]),
        )
        for job in await tx.all(Underway, statement.order_by(_J.created_at, _J.id)):
            found[job.certificate_id].append(job)
    return found


async def at_risk(
    tx: Tx, scope: Scope, now: datetime, until: datetime, limit: int
) -> tuple[list[Certificate], int, int]:
    """Certificates that end before `until` and that nothing will renew by itself, soonest first; how many there are,
    and how many of them have ended.

    Such are: failed or ended ones, those whose renewal waits for a person, those whose policy does not renew, those
    imported and claimed by nobody, those whose key somebody else holds, and those with a key on a host whose agent is
    silent.
    """
    where = sa.and_(
        certificates.in_scope(scope), _C.status.in_(IN_USE), _C.expires_at <= until, _will_not_renew(scope, now)
    )
    rows = await tx.all(
        Certificate, sa.select(schema.certificates).where(where).order_by(_C.expires_at, _C.id).limit(limit)
    )
    counted = (
        await tx.execute(
            sa.select(sa.func.count().label("number"), sa.func.count(sa.case((_C.expires_at <= now, 1))).label("ended"))
            .select_from(schema.certificates)
            .where(where)
        )
    ).one()
    return rows, int(counted.number), int(counted.ended)


def _will_not_renew(scope: Scope, now: datetime) -> sa.ColumnElement[bool]:
    policies = TABLES[RenewalPolicy][0]
    by_hand = sa.select(policies.c.id).where(policies.c.tenant_id == scope.tenant_id, policies.c.auto_renew.is_(False))
    waiting = sa.select(_J.certificate_id).where(
        _J.tenant_id == scope.tenant_id, _J.status == JobStatus.AWAITING_APPROVAL
    )
    silent = (
        sa.select(_M.certificate_id)
        .join(schema.targets, sa.and_(_T.tenant_id == _M.tenant_id, _T.id == _M.target_id))
        .join(schema.agents, sa.and_(_A.tenant_id == _T.tenant_id, _A.id == _T.agent_id))
        .where(_M.tenant_id == scope.tenant_id, _A.status == AgentStatus.OFFLINE, _A.retired_at.is_(None))
    )
    held_elsewhere = sa.exists().where(
        _V.tenant_id == _C.tenant_id,
        _V.certificate_id == _C.id,
        _V.status == VersionStatus.CURRENT,
        _V.holder_id.in_([CLIENT_HOLDER, EXTERNAL_HOLDER]),
    )
    return sa.or_(
        _C.status.in_([str(CertificateStatus.FAILED), str(CertificateStatus.EXPIRED)]),
        _C.expires_at <= now,
        _C.issuer_id == "",
        _C.renewal_policy_id.in_(by_hand),
        _C.id.in_(waiting),
        _C.id.in_(silent),
        held_elsewhere,
    )


UNHEARD = (AgentStatus.OFFLINE, AgentStatus.UNKNOWN)


async def place_counts(tx: Tx, scope: Scope, *, unheard: bool = False) -> list[PlaceCount]:
    """How the places of certificates in use stand, by the status of the newest deployment there; empty: none yet.

    With `unheard` only those on hosts whose agent is silent.
    """
    newest = _newest(scope, None)
    of_place = sa.and_(newest.c.certificate_id == _M.certificate_id, newest.c.target_id == _M.target_id)
    of_version = sa.and_(_V.tenant_id == scope.tenant_id, _V.id == newest.c.version_id)
    of_it = sa.and_(_C.tenant_id == _M.tenant_id, _C.id == _M.certificate_id)
    status = sa.func.coalesce(newest.c.status, sa.literal("")).label("status")
    fresh = sa.case((_V.status == VersionStatus.CURRENT, 1), else_=0).label("fresh")
    counted = (
        sa.select(status, fresh, sa.func.count().label("number"))
        .select_from(
            schema.certificate_targets.join(schema.certificates, of_it)
            .outerjoin(newest, of_place)
            .outerjoin(schema.versions, of_version)
        )
        .where(certificates.in_scope(scope), _C.status.in_(IN_USE))
        .group_by(status, fresh)
    )
    if unheard:
        counted = counted.where(
            _M.target_id.in_(sa.select(_T.id).where(_T.tenant_id == scope.tenant_id, _T.agent_id.in_(_silent(scope))))
        )
    rows = await tx.execute(counted)
    return [PlaceCount(row.status, bool(row.fresh), row.number) for row in rows]


def _silent(scope: Scope) -> sa.Select[Any]:
    """The agents of which nobody has heard in time: how their hosts stand now nobody knows."""
    agents = schema.agents.c
    return sa.select(agents.id).where(agents.tenant_id == scope.tenant_id, agents.status.in_(UNHEARD))


class Burden(Struct, frozen=True, kw_only=True):
    """What depends on a host: how many certificates in use, and when the first of them ends."""

    agent_id: str
    number: int
    first_end: datetime | None


async def burdens(tx: Tx, scope: Scope, agent_ids: Sequence[str]) -> dict[str, Burden]:
    """What each of these agents' hosts carries."""
    if not agent_ids:
        return {}
    of_target = sa.and_(_T.tenant_id == _M.tenant_id, _T.id == _M.target_id)
    of_it = sa.and_(_C.tenant_id == _M.tenant_id, _C.id == _M.certificate_id)
    statement = (
        sa.select(
            _T.agent_id,
            sa.func.count(sa.distinct(_C.id)).label("number"),
            sa.func.min(_C.expires_at).label("first_end"),
        )
        .select_from(schema.certificate_targets.join(schema.targets, of_target).join(schema.certificates, of_it))
        .where(certificates.in_scope(scope), _C.status.in_(IN_USE), _T.agent_id.in_(tuple(agent_ids)))
        .group_by(_T.agent_id)
    )
    return {row.agent_id: row for row in await tx.all(Burden, statement)}


async def named(tx: Tx, scope: Scope, kind: type[Any], ids: Sequence[str]) -> dict[str, str]:
    """The names of records of one kind by id, those that the scope may see."""
    wanted = tuple({each for each in ids if each})
    if not wanted:
        return {}
    table = TABLES[kind][0]
    rows = await tx.execute(
        sa.select(table.c.id, table.c.name).where(catalogue.in_scope(kind, scope), table.c.id.in_(wanted))
    )
    return {row.id: row.name for row in rows}


async def named_certificates(tx: Tx, scope: Scope, ids: Sequence[str]) -> dict[str, str]:
    """The names of certificates by id, those that the scope may see."""
    wanted = tuple({each for each in ids if each})
    if not wanted:
        return {}
    rows = await tx.execute(sa.select(_C.id, _C.name).where(certificates.in_scope(scope), _C.id.in_(wanted)))
    return {row.id: row.name for row in rows}


class Issued(Struct, frozen=True, kw_only=True):
    """Certificates in use: how many, with a valid version, whose version has ended, without one."""

    all: int
    valid: int
    ended: int
    waiting: int


async def issued_count(tx: Tx, scope: Scope, now: datetime) -> Issued:
    """How certificates in use stand with their CA."""
    where = sa.and_(certificates.in_scope(scope), _C.status.in_(IN_USE))
    row = (
        await tx.execute(
            sa.select(
                sa.func.count().label("all"),
                sa.func.count(sa.case((_C.expires_at > now, 1))).label("valid"),
                sa.func.count(sa.case((_C.expires_at <= now, 1))).label("ended"),
            )
            .select_from(schema.certificates)
            .where(where)
        )
    ).one()
    return Issued(all=row.all, valid=row.valid, ended=row.ended, waiting=row.all - row.valid - row.ended)

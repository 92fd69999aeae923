"""Every list as data: what it may be narrowed to, how it may be ordered, where a search looks.

To declare one: its record, its table, who may see a row, filters, sorts, the default order and an index that serves
it (docs/adr/0015-one-machinery-for-lists.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa

from certctl.core import catalogue as nouns
from certctl.core.actor import ActorType
from certctl.core.audit import AUTH_EVENTS, CONFIG_EVENTS, Category
from certctl.core.certificate import Certificate, Version
from certctl.core.job import Job
from certctl.core.scope import Scope
from certctl.core.status import AgentStatus, CertificateStatus, JobStatus, JobType, VersionStatus
from certctl.core.target import AgentRecord, TargetRecord
from certctl.store import catalogue, certificates, names, schema
from certctl.store.audit import EventRow
from certctl.store.lists import Filter, FilterKind, Listing, after, before, begins_with, equals, flag, is_text, one_of
from certctl.store.tx import Tx

RecordT = TypeVar("RecordT", bound=msgspec.Struct)

_E = schema.events.c
_C, _J, _V, _T, _A = schema.certificates.c, schema.jobs.c, schema.versions.c, schema.targets.c, schema.agents.c
Q_CERTIFICATES = "exact, prefix or domain suffix of name, common name, SAN, serial number or fingerprint"


def _certificates_found(scope: Scope, q: str) -> sa.ColumnElement[bool]:
    return _C.id.in_(names.found_by(scope, q))


def _from(values: Sequence[str]) -> sa.ColumnElement[bool]:
    """As the index says it, which leaves out those that were simply asked for: no value given here is empty."""
    return sa.and_(_C.source.in_(values), _C.source != sa.literal_column("''"))


def _deployed_by(values: Sequence[str]) -> sa.ColumnElement[bool]:
    mapping, targets = schema.certificate_targets, schema.targets
    mapped = (
        sa.select(mapping.c.tenant_id, mapping.c.certificate_id)
        .join(targets, sa.and_(targets.c.tenant_id == mapping.c.tenant_id, targets.c.id == mapping.c.target_id))
        .where(targets.c.agent_id.in_(values))
    )
    return _among(mapped)


def _deployed_on(values: Sequence[str]) -> sa.ColumnElement[bool]:
    mapping = schema.certificate_targets
    return _among(sa.select(mapping.c.tenant_id, mapping.c.certificate_id).where(mapping.c.target_id.in_(values)))


def _among(mapped: sa.Select[Any]) -> sa.ColumnElement[bool]:
    """Rows that are among (tenant, certificate) pairs. A select that names the row's own tenant would be asked again
    for each row of the list: a million times for the three certificates of one agent.
    """
    return sa.tuple_(_C.tenant_id, _C.id).in_(mapped)


CERTIFICATES: Listing[Certificate] = Listing(
    name="certificates",
    kind=Certificate,
    table=schema.certificates,
    in_scope=certificates.in_scope,
    filters={
        "status": one_of(_C.status, CertificateStatus),
        "environment": is_text(_C.environment),
        "owner_id": equals(_C.owner_id),
        "team_id": equals(_C.team_id),
        "issuer_id": equals(_C.issuer_id),
        "profile_id": equals(_C.certificate_profile_id),
        "renewal_policy_id": equals(_C.renewal_policy_id),
        "agent_id": Filter(kind=FilterKind.TEXT, condition=_deployed_by, several=True, finds_few=True),
        "target_id": Filter(kind=FilterKind.TEXT, condition=_deployed_on, several=True, finds_few=True),
        "source": msgspec.structs.replace(equals(_C.source), condition=_from),
        "expires_before": before(_C.expires_at),
        "expires_after": after(_C.expires_at),
        "created_before": before(_C.created_at),
        "created_after": after(_C.created_at),
        "updated_after": after(_C.updated_at),
    },
    sorts={
        "createdAt": _C.created_at,
        "updatedAt": _C.updated_at,
        "expiresAt": _C.expires_at,
        "notAfter": _C.expires_at,
        "name": _C.name,
        "commonName": _C.common_name,
        "status": _C.status,
        "environment": _C.environment,
    },
    default="createdAt",
    then={"status": _C.created_at, "environment": _C.created_at},
    q=_certificates_found,
    q_description=Q_CERTIFICATES,
    finds_by_names=True,
    long=True,
)


def jobs_in_scope(scope: Scope) -> sa.ColumnElement[bool]:
    """Jobs of certificates that a scope may see."""
    mine = _J.tenant_id == scope.tenant_id
    if scope == Scope.whole(scope.tenant_id):
        return mine
    return sa.and_(mine, _J.certificate_id.in_(sa.select(_C.id).where(certificates.in_scope(scope))))


def _jobs_found(scope: Scope, q: str) -> sa.ColumnElement[bool]:
    return sa.or_(_J.id == q, _J.certificate_id == q, _J.certificate_id.in_(names.found_by(scope, q)))


JOBS: Listing[Job] = Listing(
    name="jobs",
    kind=Job,
    table=schema.jobs,
    in_scope=jobs_in_scope,
    filters={
        "status": one_of(_J.status, JobStatus),
        "type": one_of(_J.type, JobType),
        "certificate_id": equals(_J.certificate_id),
        "agent_id": equals(_J.agent_id),
        "target_id": equals(_J.target_id),
        "parent_id": equals(_J.parent_id),
        "created_before": before(_J.created_at),
        "created_after": after(_J.created_at),
    },
    sorts={
        "createdAt": _J.created_at,
        "scheduledAt": _J.scheduled_at,
        "completedAt": _J.completed_at,
        "status": _J.status,
        "type": _J.type,
    },
    default="-createdAt",
    then={"status": _J.created_at, "type": _J.created_at},
    q=_jobs_found,
    q_description=f"a job's or certificate's id, or of its certificate: {Q_CERTIFICATES}",
    # a job's body holds its CSR
    blank={"body": {}},
    long=True,
)


def versions_in_scope(scope: Scope) -> sa.ColumnElement[bool]:
    """Versions of certificates that a scope may see."""
    mine = _V.tenant_id == scope.tenant_id
    if scope == Scope.whole(scope.tenant_id):
        return mine
    return sa.and_(mine, _V.certificate_id.in_(sa.select(_C.id).where(certificates.in_scope(scope))))


def _versions_found(_scope: Scope, q: str) -> sa.ColumnElement[bool]:
    digits = q.strip().lower().replace(":", "")
    return sa.or_(_V.serial_number == (digits.lstrip("0") or "0"), _V.fingerprint_sha256 == digits)


# the one list that carries PEM: the reference product's clients read it from here, a page of one certificate at a time
VERSIONS: Listing[Version] = Listing(
    name="versions",
    kind=Version,
    table=schema.versions,
    in_scope=versions_in_scope,
    filters={"status": one_of(_V.status, VersionStatus), "holder_id": equals(_V.holder_id)},
    sorts={"createdAt": _V.created_at, "notAfter": _V.not_after, "notBefore": _V.not_before},
    default="-createdAt",
    q=_versions_found,
    q_description="a serial number or SHA-256 fingerprint, with or without colons",
)


def by_name(
    name: str,
    kind: type[RecordT],
    filters: Mapping[str, Filter] | None = None,
    sorts: Mapping[str, sa.Column[Any]] | None = None,
    q: Callable[[Scope, str], sa.ColumnElement[bool]] | None = None,
) -> Listing[RecordT]:
    """A list of what operators configure, in order of name, searched by the beginning of a name."""
    table, _ = catalogue.TABLES[kind]

    def in_scope(scope: Scope) -> sa.ColumnElement[bool]:
        return catalogue.in_scope(kind, scope)

    return Listing(
        name=name,
        kind=kind,
        table=table,
        in_scope=in_scope,
        filters=dict(filters or {})
        | {"created_before": before(table.c.created_at), "created_after": after(table.c.created_at)},
        sorts={"name": table.c.name, "createdAt": table.c.created_at} | dict(sorts or {}),
        default="name",
        q=q or begins_with(table.c.name),
        q_description="what a name begins with",
    )


AGENT_GROUPS = by_name("agent-groups", nouns.AgentGroup, {"enabled": flag(schema.agent_groups.c.enabled)})
POLICIES = by_name(
    "policies",
    nouns.PolicyRule,
    {
        "type": equals(schema.policy_rules.c.type),
        "enabled": flag(schema.policy_rules.c.enabled),
        "severity": equals(schema.policy_rules.c.severity),
    },
)
TEAMS = by_name("teams", nouns.Team)
OWNERS = by_name("owners", nouns.Owner, {"team_id": equals(schema.owners.c.team_id)})
PROFILES = by_name("profiles", nouns.Profile, {"enabled": flag(schema.profiles.c.enabled)})
RENEWAL_POLICIES = by_name(
    "renewal-policies",
    nouns.RenewalPolicy,
    {
        "auto_renew": flag(schema.renewal_policies.c.auto_renew),
        "profile_id": equals(schema.renewal_policies.c.certificate_profile_id),
    },
)
ISSUERS = by_name(
    "issuers",
    nouns.IssuerRecord,
    {"type": equals(schema.issuers.c.type), "enabled": flag(schema.issuers.c.enabled)},
    {"type": schema.issuers.c.type},
)


def _retired(values: Sequence[bool]) -> sa.ColumnElement[bool]:
    return _T.retired_at.is_not(None) if values[0] else _T.retired_at.is_(None)


TARGETS = by_name(
    "targets",
    TargetRecord,
    {
        "type": equals(_T.type),
        "agent_id": equals(_T.agent_id),
        "enabled": flag(_T.enabled),
        "retired": Filter(kind=FilterKind.FLAG, condition=_retired),
    },
    {"type": _T.type, "updatedAt": _T.updated_at},
)

_AGENT_FILTERS = {
    "status": one_of(_A.status, AgentStatus),
    "agent_group": equals(_A.agent_group),
    "os": equals(_A.os),
    "architecture": equals(_A.architecture),
    "version": equals(_A.version),
    "seen_before": before(_A.last_heartbeat_at),
    "seen_after": after(_A.last_heartbeat_at),
}
_AGENT_SORTS = {
    "name": _A.name,
    "hostname": _A.hostname,
    "status": _A.status,
    "registeredAt": _A.registered_at,
    "lastHeartbeatAt": _A.last_heartbeat_at,
}


def _agents_in_scope(scope: Scope) -> sa.ColumnElement[bool]:
    return catalogue.in_scope(AgentRecord, scope)


AGENTS: Listing[AgentRecord] = Listing(
    name="agents",
    kind=AgentRecord,
    table=schema.agents,
    in_scope=_agents_in_scope,
    filters=_AGENT_FILTERS,
    sorts=_AGENT_SORTS,
    default="name",
    q=begins_with(_A.name, _A.hostname, _A.ip_address),
    q_description="what a name, host name or address begins with",
    always=_A.retired_at.is_(None),
)
RETIRED_AGENTS: Listing[AgentRecord] = msgspec.structs.replace(
    AGENTS,
    name="agents/retired",
    sorts=_AGENT_SORTS | {"retiredAt": _A.retired_at},
    default="-retiredAt",
    always=_A.retired_at.is_not(None),
)


def _audit_in_scope(scope: Scope) -> sa.ColumnElement[bool]:
    """All or nothing: details of an event name things that no limit of a scope can be held against."""
    return _E.tenant_id == scope.tenant_id if scope.is_whole else sa.false()


def _of_category(values: Sequence[str]) -> sa.ColumnElement[bool]:
    known: Mapping[str, sa.ColumnElement[bool]] = {
        Category.AUTH: _E.type.in_(sorted(AUTH_EVENTS)),
        Category.CONFIG: _E.type.in_(sorted(CONFIG_EVENTS)),
        Category.LIFECYCLE: _E.type.not_in(sorted(AUTH_EVENTS | CONFIG_EVENTS)),
    }
    return sa.or_(*(known[value] for value in values))


AUDIT: Listing[EventRow] = Listing(
    name="audit",
    kind=EventRow,
    table=schema.events,
    in_scope=_audit_in_scope,
    filters={
        "action": equals(_E.type),
        "actor": equals(_E.actor),
        "actor_type": one_of(_E.actor_type, ActorType),
        "resource_type": equals(_E.subject_type),
        "resource_id": equals(_E.subject_id),
        "request_id": equals(_E.request_id),
        "category": Filter(kind=FilterKind.WORD, condition=_of_category, words=tuple(Category), several=True),
        "since": after(_E.created_at),
        "until": before(_E.created_at),
    },
    # in the order in which it was written
    sorts={"timestamp": _E.seq},
    default="-timestamp",
    key="seq",
    long=True,
    q=begins_with(_E.actor, _E.type, _E.subject_id),
    q_description="what actor, action or resource id begins with",
)


async def audit_event(tx: Tx, scope: Scope, event_id: str) -> EventRow | None:
    """One event by its id, if it is there and the scope may see it."""
    return await tx.one(EventRow, sa.select(schema.events).where(_audit_in_scope(scope), _E.id == event_id))

"""Who may do what: the permissions and the seven built-in roles, with the reference product's names.

Pure data, from which the seed, the OpenAPI document and docs/reference/permissions.md are made. A role unknown here
and in the database grants nothing. Default deny: a route without a permission of this catalogue answers nobody.

A grant may be limited to owner teams, profiles or issuers. A permission that cannot be limited so is not granted at
all by such a grant, except for reading what everybody needs to see to ask for a certificate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from msgspec import Struct

from certctl.core.scope import EVERYTHING, Reach, Scope

# since when the built-in roles are there: the day of the release that brought them
BUILT_IN_SINCE = datetime(2026, 11, 23, tzinfo=UTC)
RESERVED_ACTOR = "actor-demo-anon"


class BuiltInRole(Struct, frozen=True):
    """A built-in role. `description` is for people."""

    id: str
    name: str
    description: str
    permissions: frozenset[str]


def _of(text: str) -> frozenset[str]:
    return frozenset(text.split())


PERMISSIONS: frozenset[str] = _of("""
    agent.edit agent.heartbeat agent.job.complete agent.job.poll agent.job.report agent.read agent.retire
    approval.approve approval.read approval.reject audit.export audit.read auth.bootstrap.use
    auth.breakglass.admin auth.breakglass.login auth.key.create auth.key.delete auth.key.list auth.key.rotate
    auth.oidc.create auth.oidc.delete auth.oidc.edit auth.oidc.list auth.role.assign auth.role.create
    auth.role.delete auth.role.edit auth.role.list auth.role.revoke auth.session.list auth.session.list.all
    auth.session.revoke auth.user.deactivate auth.user.read ca.hierarchy.manage cert.bulk_revoke cert.delete
    cert.edit cert.issue cert.read cert.revoke crl.admin digest.read digest.send discovery.claim discovery.read
    discovery.run est.admin healthcheck.acknowledge healthcheck.delete healthcheck.edit healthcheck.read
    issuer.delete issuer.edit issuer.read job.cancel job.read metrics.read network_scan.edit network_scan.read
    network_scan.run notification.edit notification.read owner.delete owner.edit owner.read policy.delete
    policy.edit policy.read profile.delete profile.edit profile.read scep.admin stats.read target.delete
    target.edit target.read team.delete team.edit team.read verification.read verification.run
""")

_ROLES: tuple[BuiltInRole, ...] = (
    BuiltInRole("r-admin", "admin", "everything", PERMISSIONS),
    BuiltInRole(
        "r-agent",
        "agent",
        "what an agent does for its own host",
        _of("""
            agent.heartbeat agent.job.complete agent.job.poll agent.job.report cert.read discovery.run
        """),
    ),
    BuiltInRole(
        "r-auditor",
        "auditor",
        "reads and exports the audit log",
        _of("""
            audit.export audit.read auth.user.read
        """),
    ),
    BuiltInRole(
        "r-cli",
        "cli",
        "operator, and manages API keys",
        _of("""
            agent.edit agent.read approval.approve approval.read approval.reject audit.read auth.key.create
            auth.key.list auth.key.rotate cert.delete cert.edit cert.issue cert.read cert.revoke digest.read
            digest.send discovery.claim discovery.read discovery.run healthcheck.acknowledge healthcheck.edit
            healthcheck.read issuer.edit issuer.read job.cancel job.read metrics.read network_scan.edit
            network_scan.read network_scan.run notification.edit notification.read owner.edit owner.read
            policy.delete policy.edit policy.read profile.edit profile.read stats.read target.delete
            target.edit target.read team.edit team.read verification.read verification.run
        """),
    ),
    BuiltInRole(
        "r-mcp",
        "mcp",
        "operator without the destructive verbs",
        _of("""
            agent.read approval.approve approval.read approval.reject audit.read cert.edit cert.issue cert.read
            cert.revoke digest.read discovery.claim discovery.read healthcheck.acknowledge healthcheck.read
            issuer.edit issuer.read job.cancel job.read metrics.read network_scan.read network_scan.run
            notification.edit notification.read owner.read policy.read profile.edit profile.read stats.read
            target.edit target.read team.read verification.read verification.run
        """),
    ),
    BuiltInRole(
        "r-operator",
        "operator",
        "runs certificates; manages no roles and no keys",
        _of("""
            agent.edit agent.read approval.approve approval.read approval.reject audit.read auth.user.read
            cert.delete cert.edit cert.issue cert.read cert.revoke digest.read digest.send discovery.claim
            discovery.read discovery.run healthcheck.acknowledge healthcheck.delete healthcheck.edit
            healthcheck.read issuer.edit issuer.read job.cancel job.read metrics.read network_scan.edit
            network_scan.read network_scan.run notification.edit notification.read owner.delete owner.edit
            owner.read policy.delete policy.edit policy.read profile.edit profile.read stats.read target.delete
            target.edit target.read team.delete team.edit team.read verification.read verification.run
        """),
    ),
    BuiltInRole(
        "r-viewer",
        "viewer",
        "reads",
        _of("""
            agent.read approval.read audit.read cert.read digest.read discovery.read healthcheck.read
            issuer.read job.read metrics.read network_scan.read notification.read owner.read policy.read
            profile.read stats.read target.read team.read verification.read
        """),
    ),
)
ROLES: Mapping[str, BuiltInRole] = {role.id: role for role in _ROLES}
AGENT_ROLE = "r-agent"
# An agent answers for its own host alone. The reference product forgot this one: no agent of it can report a probe.
AGENT_PERMISSIONS = ROLES[AGENT_ROLE].permissions | {"verification.run"}

_ALL = frozenset({"teams", "profiles", "issuers"})
# what a grant of a permission may be limited by; first match by name, then by namespace
_LIMITED_BY: Mapping[str, frozenset[str]] = {
    "cert": _ALL,
    "job": _ALL,
    "verification": _ALL,
    "approval": _ALL,
    "stats": _ALL,
    "target.read": _ALL,
    "agent.read": _ALL,
    "healthcheck": _ALL,
    "issuer": frozenset({"issuers"}),
    "profile": frozenset({"profiles"}),
    "team": frozenset({"teams"}),
    "owner": frozenset({"teams"}),
    # whoever holds these in part gives away a part: keys they made themselves, with no more than they have
    "auth.key": _ALL,
    "auth.role.assign": _ALL,
    "auth.role.revoke": _ALL,
}
# reading these is not limited by kinds of limits that they do not know: who asks for a certificate has to name them
SHARED = frozenset({"issuer.read", "profile.read", "policy.read"})


def permission_id(name: str) -> str:
    """The id that the reference product gives a permission."""
    return f"p-{name.replace('.', '-').replace('_', '-')}"


def namespace(name: str) -> str:
    """The first word."""
    return name.partition(".")[0]


def limits_of(name: str) -> frozenset[str]:
    """By what a grant of this permission may be limited: `teams`, `profiles`, `issuers`; empty when only whole."""
    prefix = name
    while prefix:
        if prefix in _LIMITED_BY:
            return _LIMITED_BY[prefix]
        prefix = prefix.rpartition(".")[0]
    return frozenset()


def limited(name: str, reach: Reach) -> Reach | None:
    """How far a permission reaches under a limited grant; None when it is not granted at all."""
    known = limits_of(name)
    for field, _ in reach.limits():
        if field not in known:
            if name not in SHARED:
                return None
            reach = reach.without(field)
    return reach


class Bundle(Struct, frozen=True):
    """One grant, opened: how far it reaches, and what its role holds (permission, how far the role's own reaches)."""

    reach: Reach
    held: tuple[tuple[str, Reach], ...]


def effective(tenant_id: str, bundles: Iterable[Bundle]) -> dict[str, Scope]:
    """What somebody with these grants may do, and how far: the union of them all."""
    found: dict[str, list[Reach]] = {}
    for bundle in bundles:
        for name, own in bundle.held:
            narrowed = bundle.reach.narrowed(own)
            # judged before a limit may be left out: nothing stays nothing
            reach = None if narrowed.is_empty else limited(name, narrowed)
            if reach is not None:
                found.setdefault(name, []).append(reach)
    return {name: Scope.union(tenant_id, reaches) for name, reaches in found.items()}


def held_by_built_in(role_id: str) -> tuple[tuple[str, Reach], ...] | None:
    """What a built-in role holds; None for any other."""
    role = ROLES.get(role_id)
    return None if role is None else tuple((name, EVERYTHING) for name in sorted(role.permissions))

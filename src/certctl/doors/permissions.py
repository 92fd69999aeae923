"""Who may do what: the permissions and the seven built-in roles, with the reference product's names.

Pure data. A role unknown here grants nothing. Default deny: a route without a permission of this catalogue answers
nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct


class Role(Struct, frozen=True):
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

_ROLES: tuple[Role, ...] = (
    Role("r-admin", "admin", "everything", PERMISSIONS),
    Role(
        "r-agent",
        "agent",
        "what an agent does for its own host",
        _of("""
            agent.heartbeat agent.job.complete agent.job.poll agent.job.report cert.read discovery.run
        """),
    ),
    Role(
        "r-auditor",
        "auditor",
        "reads and exports the audit log",
        _of("""
            audit.export audit.read auth.user.read
        """),
    ),
    Role(
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
    Role(
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
    Role(
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
    Role(
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
ROLES: Mapping[str, Role] = {role.id: role for role in _ROLES}
AGENT_ROLE = "r-agent"
# An agent answers for its own host alone. The reference product forgot this one: no agent of it can report a probe.
AGENT_PERMISSIONS = ROLES[AGENT_ROLE].permissions | {"verification.run"}


def permissions_of(role_ids: Iterable[str]) -> frozenset[str]:
    """The union of what these roles grant; unknown roles grant nothing."""
    granted: frozenset[str] = frozenset()
    for role_id in role_ids:
        role = ROLES.get(role_id)
        if role is not None:
            granted |= role.permissions
    return granted

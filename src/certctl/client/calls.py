"""Every call of the REST API that certctl's own clients make, described once: method, path, query, body, answer.

Pure data; the two clients send it. Ids are quoted, so that no id changes a path.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Struct

from certctl.client.models import (
    agent_groups,
    agents,
    auth,
    certificates,
    crls,
    intermediates,
    issuers,
    jobs,
    notifications,
    people,
    profiles,
    stats,
    system,
    targets,
)
from certctl.client.models import policies as rules
from certctl.client.models import renewal_policies as policies
from certctl.client.models.page import PageOf, StatusAnswer

AnswerT = TypeVar("AnswerT")
API = "/api/v1"


class Call(Struct, Generic[AnswerT], frozen=True, kw_only=True):
    """One call. `answer` None means that nothing comes back; `patience_seconds` is added to the usual time limit.

    `if_match` is the entity tag that the thing must still have (RFC 9110 13.1.1).
    """

    method: str
    path: str
    answer: type[AnswerT]
    query: dict[str, str] = {}
    body: Struct | dict[str, Any] | None = None
    patience_seconds: float = 0
    if_match: str = ""


class Resource(Struct, Generic[AnswerT], frozen=True):
    """A kind of thing with the five usual calls."""

    path: str
    view: type[AnswerT]

    def list(self, page: int = 1, per_page: int = 500, **query: str) -> Call[PageOf[AnswerT]]:
        """One page."""
        shown = {"page": str(page), "per_page": str(per_page)} | {name: value for name, value in query.items() if value}
        return Call(method="GET", path=f"{API}/{self.path}", answer=PageOf[self.view], query=shown)  # type: ignore[name-defined]  # generic at run time

    def after(self, cursor: str = "", page_size: int = 500, **query: str) -> Call[PageOf[AnswerT]]:
        """The rows behind a cursor, the first ones without one."""
        asked = {"cursor": cursor, "page_size": str(page_size)}
        asked |= {name: value for name, value in query.items() if value}
        return Call(method="GET", path=f"{API}/{self.path}", answer=PageOf[self.view], query=asked)  # type: ignore[name-defined]  # generic at run time

    def get(self, thing_id: str) -> Call[AnswerT]:
        """One of them."""
        return Call(method="GET", path=at(self.path, thing_id), answer=self.view)

    def create(self, body: Struct) -> Call[AnswerT]:
        """A new one."""
        return Call(method="POST", path=f"{API}/{self.path}", answer=self.view, body=body)

    def update(self, thing_id: str, body: Struct, if_match: str = "") -> Call[AnswerT]:
        """Change it."""
        return Call(method="PUT", path=at(self.path, thing_id), answer=self.view, body=body, if_match=if_match)

    def patch(self, thing_id: str, changes: dict[str, Any], if_match: str = "") -> Call[AnswerT]:
        """Change the fields named, clear those that are None (JSON merge patch, RFC 7396)."""
        return Call(method="PATCH", path=at(self.path, thing_id), answer=self.view, body=changes, if_match=if_match)

    def delete(self, thing_id: str) -> Call[None]:
        """Remove it."""
        return Call(method="DELETE", path=at(self.path, thing_id), answer=type(None))


def at(resource: str, *parts: str) -> str:
    """The path of a thing, ids quoted."""
    return "/".join([API, resource, *(quote(part, safe="") for part in parts)])


CERTIFICATES = Resource("certificates", certificates.CertificateView)
JOBS = Resource("jobs", jobs.JobView)
TARGETS = Resource("targets", targets.TargetView)
ISSUERS = Resource("issuers", issuers.IssuerView)
PROFILES = Resource("profiles", profiles.ProfileView)
POLICIES = Resource("renewal-policies", policies.RenewalPolicyView)
OWNERS = Resource("owners", people.OwnerView)
TEAMS = Resource("teams", people.TeamView)
AGENTS = Resource("agents", agents.AgentView)
RULES = Resource("policies", rules.PolicyView)
CHANNELS = Resource("notification-channels", notifications.ChannelView)
AGENT_GROUPS = Resource("agent-groups", agent_groups.AgentGroupView)
RETIRED_AGENTS = Resource("agents/retired", agents.AgentView)


def list_versions(
    certificate_id: str, page: int = 1, per_page: int = 500, **more: str
) -> Call[PageOf[certificates.VersionView]]:
    """Versions, newest first."""
    query = {"page": str(page), "per_page": str(per_page)} | more
    path = at("certificates", certificate_id, "versions")
    return Call(method="GET", path=path, answer=PageOf[certificates.VersionView], query=query)


def list_deployments(certificate_id: str) -> Call[certificates.DeploymentsAnswer]:
    """Every mapped target, with what is known there."""
    path = at("certificates", certificate_id, "deployments")
    return Call(method="GET", path=path, answer=certificates.DeploymentsAnswer)


def renew_certificate(certificate_id: str, *, force: bool = False) -> Call[StatusAnswer]:
    """Renew now."""
    path = at("certificates", certificate_id, "renew")
    return Call(method="POST", path=path, answer=StatusAnswer, body=certificates.RenewBody(force=force))


def deploy_certificate(
    certificate_id: str, *, target_id: str = "", version_id: str = "", dry_run: bool = False
) -> Call[StatusAnswer]:
    """Deploy now, to one target or all, the current version or a named one; `dry_run` only plans."""
    body = certificates.DeployBody(target_id=target_id, version_id=version_id, dry_run=dry_run)
    return Call(method="POST", path=at("certificates", certificate_id, "deploy"), answer=StatusAnswer, body=body)


def revoke_certificate(
    certificate_id: str, *, reason: str = "", version_id: str = "", replace: bool = False
) -> Call[StatusAnswer]:
    """Revoke at once; `replace` asks each holder for a new key."""
    body = certificates.RevokeBody(reason=reason, version_id=version_id, replace=replace)
    return Call(method="POST", path=at("certificates", certificate_id, "revoke"), answer=StatusAnswer, body=body)


def submit_csr(certificate_id: str, csr_pem: str) -> Call[StatusAnswer]:
    """Ask for a version for a key that the caller holds."""
    body = certificates.CsrBody(csr_pem=csr_pem)
    return Call(method="POST", path=at("certificates", certificate_id, "csr"), answer=StatusAnswer, body=body)


def export_pem(certificate_id: str, version_id: str = "") -> Call[certificates.PemExport]:
    """What was issued, in PEM."""
    query = {"version_id": version_id} if version_id else {}
    path = at("certificates", certificate_id, "export", "pem")
    return Call(method="GET", path=path, answer=certificates.PemExport, query=query)


def get_job(job_id: str, wait_seconds: float = 0) -> Call[jobs.JobView]:
    """One job; `wait_seconds` holds the answer until it has moved or ended."""
    query = {"wait": f"{wait_seconds:g}"} if wait_seconds else {}
    return Call(method="GET", path=at("jobs", job_id), answer=jobs.JobView, query=query, patience_seconds=wait_seconds)


def cancel_job(job_id: str) -> Call[StatusAnswer]:
    """Cancel it."""
    return Call(method="POST", path=at("jobs", job_id, "cancel"), answer=StatusAnswer)


def test_thing(resource: str, thing_id: str) -> Call[targets.TestAnswer]:
    """Test an issuer (`issuers`) or a target (`targets`)."""
    return Call(method="POST", path=at(resource, thing_id, "test"), answer=targets.TestAnswer)


def get_issuer_account(issuer_id: str) -> Call[issuers.IssuerAccountView]:
    """An issuer's account at its CA."""
    return Call(method="GET", path=at("issuers", issuer_id, "account"), answer=issuers.IssuerAccountView)


def roll_issuer_key(issuer_id: str) -> Call[targets.TestAnswer]:
    """Another key for that account."""
    return Call(method="POST", path=at("issuers", issuer_id, "account", "roll-key"), answer=targets.TestAnswer)


def dry_run_issuer(issuer_id: str, names: Sequence[str], *, timeout_seconds: int = 120) -> Call[issuers.TrialAnswer]:
    """The same names through the CA's directory for trials; waits until it has ended."""
    body = issuers.TrialBody(names=list(names), timeout_seconds=timeout_seconds)
    path = at("issuers", issuer_id, "dry-run")
    # what was put to prove names may take a minute to be taken away
    return Call(method="POST", path=path, answer=issuers.TrialAnswer, body=body, patience_seconds=timeout_seconds + 90)


def resume_issuer(issuer_id: str, *, certificate_id: str = "") -> Call[issuers.ResumedAnswer]:
    """Ask again for what was refused too often."""
    body = issuers.ResumeBody(certificate_id=certificate_id)
    return Call(method="POST", path=at("issuers", issuer_id, "resume"), answer=issuers.ResumedAnswer, body=body)


def create_enrolment_token(
    *, agent_name: str = "", agent_group: str = "", expires_in_seconds: int = 3600
) -> Call[agents.TokenView]:
    """A one-time right to enrol, for one name or one of a group."""
    body = agents.TokenWrite(agent_name=agent_name, agent_group=agent_group, expires_in_seconds=expires_in_seconds)
    return Call(method="POST", path=f"{API}/agents/enrolment-tokens", answer=agents.TokenView, body=body)


def retire_agent(agent_id: str, *, reason: str = "", force: bool = False) -> Call[agents.RetiredAnswer | None]:
    """Retire it for good; None when it was retired before."""
    query = {name: value for name, value in {"reason": reason, "force": "true" if force else ""}.items() if value}
    answer: Any = agents.RetiredAnswer | None
    return Call(method="DELETE", path=at("agents", agent_id), answer=answer, query=query)


def list_members(group_id: str, page: int = 1, per_page: int = 500, **more: str) -> Call[PageOf[agents.AgentView]]:
    """Who belongs to an agent group."""
    query = {"page": str(page), "per_page": str(per_page)} | more
    path = at("agent-groups", group_id, "members")
    return Call(method="GET", path=path, answer=PageOf[agents.AgentView], query=query)


def list_violations(
    policy_id: str, page: int = 1, per_page: int = 500, *, resolved: bool = False, **more: str
) -> Call[PageOf[rules.ViolationView]]:
    """Who breaks a policy, or did."""
    query = {"page": str(page), "per_page": str(per_page)} | ({"resolved": "true"} if resolved else {}) | more
    path = at("policies", policy_id, "violations")
    return Call(method="GET", path=path, answer=PageOf[rules.ViolationView], query=query)


def evaluate_policy(policy_id: str, *, limit: int = 50, after: str = "") -> Call[rules.EvaluationView]:
    """What a policy finds this moment."""
    body = rules.EvaluateBody(limit=limit, after=after)
    return Call(method="POST", path=at("policies", policy_id, "evaluate"), answer=rules.EvaluationView, body=body)


def try_policy(body: rules.DryRunBody) -> Call[rules.EvaluationView]:
    """What a policy would find this moment."""
    return Call(method="POST", path=f"{API}/policies/dry-run", answer=rules.EvaluationView, body=body)


def create_intermediate(issuer_id: str, body: intermediates.IntermediateWrite) -> Call[intermediates.IntermediateView]:
    """A new generation of the built-in CA."""
    path = at("issuers", issuer_id, "intermediates")
    return Call(method="POST", path=path, answer=intermediates.IntermediateView, body=body)


def list_intermediates(issuer_id: str) -> Call[intermediates.IntermediatesAnswer]:
    """Every generation of an issuer."""
    path = at("issuers", issuer_id, "intermediates")
    return Call(method="GET", path=path, answer=intermediates.IntermediatesAnswer)


def get_intermediate(ca_id: str) -> Call[intermediates.IntermediateView]:
    """One CA generation."""
    return Call(method="GET", path=at("intermediates", ca_id), answer=intermediates.IntermediateView)


def show_crls() -> Call[crls.CrlsAnswer]:
    """How each CA generation's CRL stands."""
    return Call(method="GET", path=at("admin", "crl", "cache"), answer=crls.CrlsAnswer)


def retire_intermediate(ca_id: str, *, note: str = "", confirm: bool = False) -> Call[intermediates.RetiredCaAnswer]:
    """It issues no more; confirmed, it is retired once nothing needs it."""
    body = intermediates.RetireCaBody(note=note, confirm=confirm)
    path = at("intermediates", ca_id, "retire")
    return Call(method="POST", path=path, answer=intermediates.RetiredCaAnswer, body=body)


def revoke_intermediate(
    ca_id: str, *, reason: str = "", note: str = "", confirm: bool = False
) -> Call[intermediates.IntermediateView]:
    """The CRL and OCSP of the CA above it say that it is revoked; what needs it answers 409 unless confirmed."""
    body = intermediates.RevokeCaBody(reason=reason, note=note, confirm=confirm)
    path = at("intermediates", ca_id, "revoke")
    return Call(method="POST", path=path, answer=intermediates.IntermediateView, body=body)


def bootstrap(token: str, actor_name: str) -> Call[auth.BootstrapAnswer]:
    """The first key, once."""
    body = auth.BootstrapBody(token=token, actor_name=actor_name)
    return Call(method="POST", path=f"{API}/auth/bootstrap", answer=auth.BootstrapAnswer, body=body)


def get_me() -> Call[auth.MeView]:
    """Who calls."""
    return Call(method="GET", path=f"{API}/auth/me", answer=auth.MeView)


def list_keys(**query: str) -> Call[auth.KeysAnswer]:
    """API keys: `q`, `sort`, filters, `page_size` and `cursor`; all of them when nothing is asked."""
    shown = {name: value for name, value in query.items() if value}
    return Call(method="GET", path=f"{API}/auth/keys", answer=auth.KeysAnswer, query=shown)


def get_key(key_id: str) -> Call[auth.KeyView]:
    """One API key, by id or name."""
    return Call(method="GET", path=at("auth", "keys", key_id), answer=auth.KeyView)


def create_key(body: auth.KeyWrite) -> Call[auth.NewKeyAnswer]:
    """A new API key, shown this once."""
    return Call(method="POST", path=f"{API}/auth/keys", answer=auth.NewKeyAnswer, body=body)


def rotate_key(key_id: str, body: auth.RotateBody, if_match: str = "") -> Call[auth.NewKeyAnswer]:
    """A fresh value for an API key, shown this once."""
    path = at("auth", "keys", key_id, "rotate")
    return Call(method="POST", path=path, answer=auth.NewKeyAnswer, body=body, if_match=if_match)


def assign_role(key_id: str, body: auth.GrantWrite) -> Call[None]:
    """Give an API key a role."""
    return Call(method="POST", path=at("auth", "keys", key_id, "roles"), answer=type(None), body=body)


def revoke_role(key_id: str, role_id: str, scope_type: str = "", scope_id: str = "") -> Call[None]:
    """Take a role from an API key: in one scope, or everywhere."""
    path = at("auth", "keys", key_id, "roles", role_id)
    return Call(method="DELETE", path=path, answer=type(None), query=_scope_query(scope_type, scope_id))


def _scope_query(scope_type: str, scope_id: str) -> dict[str, str]:
    return {name: value for name, value in {"scope_type": scope_type, "scope_id": scope_id}.items() if value}


def list_permissions() -> Call[auth.PermissionsAnswer]:
    """The catalogue of permissions."""
    return Call(method="GET", path=f"{API}/auth/permissions", answer=auth.PermissionsAnswer)


def list_roles() -> Call[auth.RolesAnswer]:
    """All roles."""
    return Call(method="GET", path=f"{API}/auth/roles", answer=auth.RolesAnswer)


def get_role(role_id: str) -> Call[auth.RoleAnswer]:
    """A role and what it holds."""
    return Call(method="GET", path=at("auth", "roles", role_id), answer=auth.RoleAnswer)


def create_role(body: auth.RoleWrite) -> Call[auth.RoleView]:
    """A new role that holds nothing yet."""
    return Call(method="POST", path=f"{API}/auth/roles", answer=auth.RoleView, body=body)


def update_role(role_id: str, body: auth.RoleWrite, if_match: str = "") -> Call[auth.RoleView]:
    """Change a role's name or description."""
    path = at("auth", "roles", role_id)
    return Call(method="PUT", path=path, answer=auth.RoleView, body=body, if_match=if_match)


def delete_role(role_id: str) -> Call[None]:
    """Delete a role that nobody has."""
    return Call(method="DELETE", path=at("auth", "roles", role_id), answer=type(None))


def add_permission(role_id: str, body: auth.PermissionWrite) -> Call[None]:
    """Put a permission into a role."""
    return Call(method="POST", path=at("auth", "roles", role_id, "permissions"), answer=type(None), body=body)


def remove_permission(role_id: str, permission: str, scope_type: str = "", scope_id: str = "") -> Call[None]:
    """Take a permission out of a role: in one scope, or everywhere."""
    path = at("auth", "roles", role_id, "permissions", permission)
    return Call(method="DELETE", path=path, answer=type(None), query=_scope_query(scope_type, scope_id))


def delete_key(key_id: str, if_match: str = "") -> Call[None]:
    """Revoke an API key."""
    return Call(method="DELETE", path=at("auth", "keys", key_id), answer=type(None), if_match=if_match)


def get_version() -> Call[system.VersionInfo]:
    """What runs there."""
    return Call(method="GET", path=f"{API}/version", answer=system.VersionInfo)


def get_readiness() -> Call[system.Readiness]:
    """Whether it can work."""
    return Call(method="GET", path="/ready", answer=system.Readiness)


def count_certificates() -> Call[list[system.StatusCount]]:
    """Certificates by status."""
    return Call(method="GET", path=f"{API}/stats/certificates-by-status", answer=list[system.StatusCount])


def get_summary() -> Call[stats.SummaryView]:
    """How things stand."""
    return Call(method="GET", path=f"{API}/stats/summary", answer=stats.SummaryView)


def list_expirations(days: int = 30) -> Call[list[stats.ExpirationDay]]:
    """Certificates by the day they end, today first."""
    path = f"{API}/stats/expiration-timeline"
    return Call(method="GET", path=path, answer=list[stats.ExpirationDay], query={"days": str(days)})


def list_job_trends(days: int = 30) -> Call[list[stats.JobTrendDay]]:
    """How jobs ended, day by day."""
    path = f"{API}/stats/job-trends"
    return Call(method="GET", path=path, answer=list[stats.JobTrendDay], query={"days": str(days)})


def list_issuances(days: int = 30) -> Call[list[stats.IssuanceDay]]:
    """Versions signed, day by day."""
    path = f"{API}/stats/issuance-rate"
    return Call(method="GET", path=path, answer=list[stats.IssuanceDay], query={"days": str(days)})


def get_renewal_forecast(
    until: date | None = None, limited: Sequence[str] = (), orders: int = 0, per_hours: int = 0
) -> Call[stats.RenewalForecast]:
    """The renewals to come until a day; `limited` names the issuers that the limits of public trust bind.

    `orders` within `per_hours` hours is the budget that each of them allows.
    """
    query = {"until": until.isoformat()} if until else {}
    if limited:
        query["limited"] = ",".join(limited)
    if orders or per_hours:
        query |= {"orders": str(orders), "per_hours": str(per_hours)}
    return Call(method="GET", path=f"{API}/stats/renewal-forecast", answer=stats.RenewalForecast, query=query)


def encode_body(body: Struct | dict[str, Any] | None) -> bytes | None:
    """A body as JSON."""
    return None if body is None else msgspec.json.encode(body)

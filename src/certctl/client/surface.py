"""What both clients can do, said once: each name is a call, and the client it is used on decides how it is sent.

`client.get_job(id)` is a JobView on `Client` and is awaited on `AsyncClient`; type checkers know which.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from certctl.client import acts, audits, calls, identity
from certctl.client.calls import Call

if TYPE_CHECKING:
    from certctl.client import AsyncClient, Client

AnswerT = TypeVar("AnswerT")
Given = ParamSpec("Given")


class Sent(Generic[Given, AnswerT]):
    """A method that sends the call which a function describes."""

    def __init__(self, call: Callable[Given, Call[AnswerT]]) -> None:
        self.call = call

    @overload
    def __get__(self, client: Client, owner: type) -> Callable[Given, AnswerT]: ...

    @overload
    def __get__(self, client: AsyncClient, owner: type) -> Callable[Given, Awaitable[AnswerT]]: ...

    @overload
    def __get__(self, client: None, owner: type) -> Sent[Given, AnswerT]: ...

    def __get__(self, client: Client | AsyncClient | None, owner: type) -> Any:
        """The method of this client."""
        if client is None:
            return self

        @wraps(self.call)
        def send(*args: Given.args, **kwargs: Given.kwargs) -> Any:
            return client.send(self.call(*args, **kwargs))

        return send


class Surface:
    """The calls by name."""

    bootstrap = Sent(calls.bootstrap)
    get_me = Sent(calls.get_me)
    get_version = Sent(calls.get_version)
    get_readiness = Sent(calls.get_readiness)

    list_certificates = Sent(calls.CERTIFICATES.list)
    get_certificate = Sent(calls.CERTIFICATES.get)
    create_certificate = Sent(calls.CERTIFICATES.create)
    update_certificate = Sent(calls.CERTIFICATES.update)
    patch_certificate = Sent(calls.CERTIFICATES.patch)
    archive_certificate = Sent(calls.CERTIFICATES.delete)
    renew_certificate = Sent(calls.renew_certificate)
    deploy_certificate = Sent(calls.deploy_certificate)
    revoke_certificate = Sent(calls.revoke_certificate)
    submit_csr = Sent(calls.submit_csr)
    list_versions = Sent(calls.list_versions)
    list_deployments = Sent(calls.list_deployments)
    export_pem = Sent(calls.export_pem)

    list_jobs = Sent(calls.JOBS.list)
    get_job = Sent(calls.get_job)
    cancel_job = Sent(calls.cancel_job)

    list_notifications = Sent(acts.NOTIFICATIONS.list)
    get_notification = Sent(acts.NOTIFICATIONS.get)
    mark_notification_read = Sent(acts.mark_notification_read)
    requeue_notification = Sent(acts.requeue_notification)

    preview_digest = Sent(acts.preview_digest)
    send_digest = Sent(acts.send_digest)

    list_channels = Sent(calls.CHANNELS.list)
    get_channel = Sent(calls.CHANNELS.get)
    create_channel = Sent(calls.CHANNELS.create)
    update_channel = Sent(calls.CHANNELS.update)
    patch_channel = Sent(calls.CHANNELS.patch)
    delete_channel = Sent(calls.CHANNELS.delete)
    list_channel_kinds = Sent(acts.list_channel_kinds)

    list_health_checks = Sent(acts.HEALTH_CHECKS.list)
    get_health_check = Sent(acts.HEALTH_CHECKS.get)
    create_health_check = Sent(acts.HEALTH_CHECKS.create)
    update_health_check = Sent(acts.HEALTH_CHECKS.update)
    patch_health_check = Sent(acts.HEALTH_CHECKS.patch)
    delete_health_check = Sent(acts.HEALTH_CHECKS.delete)
    get_health_summary = Sent(acts.get_health_summary)
    get_health_history = Sent(acts.get_health_history)
    acknowledge_health_check = Sent(acts.acknowledge_health_check)

    list_targets = Sent(calls.TARGETS.list)
    get_target = Sent(calls.TARGETS.get)
    create_target = Sent(calls.TARGETS.create)
    update_target = Sent(calls.TARGETS.update)
    patch_target = Sent(calls.TARGETS.patch)
    delete_target = Sent(calls.TARGETS.delete)

    list_agents = Sent(calls.AGENTS.list)
    get_agent = Sent(calls.AGENTS.get)
    list_retired_agents = Sent(calls.RETIRED_AGENTS.list)
    create_enrolment_token = Sent(calls.create_enrolment_token)
    retire_agent = Sent(calls.retire_agent)

    list_issuers = Sent(calls.ISSUERS.list)
    get_issuer = Sent(calls.ISSUERS.get)
    create_issuer = Sent(calls.ISSUERS.create)
    update_issuer = Sent(calls.ISSUERS.update)
    patch_issuer = Sent(calls.ISSUERS.patch)
    delete_issuer = Sent(calls.ISSUERS.delete)

    list_profiles = Sent(calls.PROFILES.list)
    get_profile = Sent(calls.PROFILES.get)
    create_profile = Sent(calls.PROFILES.create)
    update_profile = Sent(calls.PROFILES.update)
    patch_profile = Sent(calls.PROFILES.patch)
    delete_profile = Sent(calls.PROFILES.delete)

    list_renewal_policies = Sent(calls.POLICIES.list)
    get_renewal_policy = Sent(calls.POLICIES.get)
    create_renewal_policy = Sent(calls.POLICIES.create)
    update_renewal_policy = Sent(calls.POLICIES.update)
    patch_renewal_policy = Sent(calls.POLICIES.patch)
    delete_renewal_policy = Sent(calls.POLICIES.delete)

    list_owners = Sent(calls.OWNERS.list)
    get_owner = Sent(calls.OWNERS.get)
    create_owner = Sent(calls.OWNERS.create)
    update_owner = Sent(calls.OWNERS.update)
    patch_owner = Sent(calls.OWNERS.patch)
    delete_owner = Sent(calls.OWNERS.delete)

    list_teams = Sent(calls.TEAMS.list)
    get_team = Sent(calls.TEAMS.get)
    create_team = Sent(calls.TEAMS.create)
    update_team = Sent(calls.TEAMS.update)
    patch_team = Sent(calls.TEAMS.patch)
    delete_team = Sent(calls.TEAMS.delete)

    test_thing = Sent(calls.test_thing)
    get_issuer_account = Sent(calls.get_issuer_account)
    roll_issuer_key = Sent(calls.roll_issuer_key)
    dry_run_issuer = Sent(calls.dry_run_issuer)
    resume_issuer = Sent(calls.resume_issuer)
    list_external_keys = Sent(acts.EXTERNAL_KEYS.list)
    create_external_key = Sent(acts.create_external_key)
    delete_external_key = Sent(acts.EXTERNAL_KEYS.delete)
    list_keys = Sent(calls.list_keys)
    get_key = Sent(calls.get_key)
    create_key = Sent(calls.create_key)
    delete_key = Sent(calls.delete_key)
    rotate_key = Sent(calls.rotate_key)
    assign_role = Sent(calls.assign_role)
    revoke_role = Sent(calls.revoke_role)
    list_permissions = Sent(calls.list_permissions)
    list_roles = Sent(calls.list_roles)
    get_role = Sent(calls.get_role)
    create_role = Sent(calls.create_role)
    update_role = Sent(calls.update_role)
    delete_role = Sent(calls.delete_role)
    add_permission = Sent(calls.add_permission)
    remove_permission = Sent(calls.remove_permission)

    count_certificates = Sent(calls.count_certificates)
    get_summary = Sent(calls.get_summary)
    list_expirations = Sent(calls.list_expirations)
    list_job_trends = Sent(calls.list_job_trends)
    list_issuances = Sent(calls.list_issuances)
    get_renewal_forecast = Sent(calls.get_renewal_forecast)
    get_metrics = Sent(acts.get_metrics)
    get_prometheus = Sent(acts.get_prometheus)

    list_policies = Sent(calls.RULES.list)
    get_policy = Sent(calls.RULES.get)
    create_policy = Sent(calls.RULES.create)
    update_policy = Sent(calls.RULES.update)
    patch_policy = Sent(calls.RULES.patch)
    delete_policy = Sent(calls.RULES.delete)
    list_violations = Sent(calls.list_violations)
    evaluate_policy = Sent(calls.evaluate_policy)
    try_policy = Sent(calls.try_policy)

    create_intermediate = Sent(calls.create_intermediate)
    list_intermediates = Sent(calls.list_intermediates)
    get_intermediate = Sent(calls.get_intermediate)
    retire_intermediate = Sent(calls.retire_intermediate)
    show_crls = Sent(calls.show_crls)
    revoke_intermediate = Sent(calls.revoke_intermediate)

    list_agent_groups = Sent(calls.AGENT_GROUPS.list)
    get_agent_group = Sent(calls.AGENT_GROUPS.get)
    create_agent_group = Sent(calls.AGENT_GROUPS.create)
    update_agent_group = Sent(calls.AGENT_GROUPS.update)
    patch_agent_group = Sent(calls.AGENT_GROUPS.patch)
    delete_agent_group = Sent(calls.AGENT_GROUPS.delete)
    list_members = Sent(calls.list_members)

    bulk_renew = Sent(acts.bulk_renew)
    bulk_revoke = Sent(acts.bulk_revoke)
    bulk_reassign = Sent(acts.bulk_reassign)
    list_batches = Sent(acts.BATCHES.list)
    get_batch = Sent(acts.get_batch)
    list_batch_items = Sent(acts.list_batch_items)
    cancel_batch = Sent(acts.cancel_batch)
    halt_batch = Sent(acts.halt_batch)
    resume_batch = Sent(acts.resume_batch)
    approve_batch = Sent(acts.approve_batch)
    reject_batch = Sent(acts.reject_batch)

    list_approvals = Sent(acts.APPROVALS.list)
    get_approval = Sent(acts.APPROVALS.get)
    approve = Sent(acts.approve)
    reject = Sent(acts.reject)
    approve_job = Sent(acts.approve_job)
    reject_job = Sent(acts.reject_job)
    get_verification = Sent(acts.get_verification)
    get_certificate_version = Sent(acts.get_certificate_version)
    roll_back = Sent(acts.roll_back)
    export_pkcs12 = Sent(acts.export_pkcs12)
    import_certificates = Sent(acts.import_certificates)
    bulk_issue = Sent(acts.bulk_issue)
    claim_certificate = Sent(acts.claim_certificate)
    reissue_certificate = Sent(acts.reissue_certificate)
    get_health = Sent(acts.get_health)

    check = Sent(identity.check)
    get_auth_info = Sent(identity.get_auth_info)
    get_bootstrap = Sent(identity.get_bootstrap)
    patch_role = Sent(identity.patch_role)
    remove_demo_grants = Sent(identity.remove_demo_grants)
    list_sessions = Sent(identity.list_sessions)
    revoke_session = Sent(identity.revoke_session)
    revoke_sessions = Sent(identity.revoke_sessions)
    list_users = Sent(identity.list_users)
    deactivate_user = Sent(identity.deactivate_user)
    reactivate_user = Sent(identity.reactivate_user)
    list_breakglass_credentials = Sent(identity.list_breakglass_credentials)
    set_breakglass_password = Sent(identity.set_breakglass_password)
    unlock_breakglass_credential = Sent(identity.unlock_breakglass_credential)
    delete_breakglass_credential = Sent(identity.delete_breakglass_credential)
    get_runtime_config = Sent(identity.get_runtime_config)
    list_audit = Sent(audits.AUDIT.list)
    get_audit_event = Sent(audits.AUDIT.get)
    get_audit_proof = Sent(audits.get_audit_proof)
    get_audit_consistency = Sent(audits.get_audit_consistency)
    get_audit_seal = Sent(audits.get_audit_seal)
    get_audit_push = Sent(audits.get_audit_push)
    verify_audit_seal = Sent(audits.verify_audit_seal)

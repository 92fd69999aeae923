"""/api/v1/policies: rules of the organisation's own, who breaks them, and what a rule would find."""

from __future__ import annotations

from litestar import delete, get, post, put
from litestar.params import FromPath, JSONBody

from certctl.api.guard import edits, needs
from certctl.api.lists import answer_list, listed
from certctl.api.patching import patched
from certctl.api.request import ApiRequest
from certctl.api.shown import given, shown
from certctl.client.models.page import PageOf
from certctl.client.models.policies import (
    DryRunBody,
    EvaluateBody,
    EvaluationView,
    OffenderView,
    PolicyView,
    PolicyWrite,
    ViolationView,
)
from certctl.control import policies
from certctl.core.catalogue import PolicyRule
from certctl.store import catalogue
from certctl.store.act_listings import VIOLATIONS
from certctl.store.listings import POLICIES


def _view(rule: PolicyRule) -> PolicyView:
    return shown(PolicyView, rule, is_evaluated=rule.evaluated_version == rule.version)


@get("/policies", opt=needs("policy.read") | listed(POLICIES), summary="List policies")
async def list_policy_rules(request: ApiRequest) -> PageOf[PolicyView]:
    """By name."""
    return await answer_list(request, PolicyView, show=_view)


@post("/policies", status_code=201, opt=needs("policy.edit"), summary="Create a policy")
async def create_policy_rule(request: ApiRequest, data: JSONBody[PolicyWrite]) -> PolicyView:
    """In force at once for what is asked for; the inventory is held against it within seconds."""
    return _view(await policies.create(request.ctx, request.visible, request.actor, given(data)))


@get("/policies/{policy_id:str}", opt=needs("policy.read"), summary="One policy")
async def show_policy_rule(request: ApiRequest, policy_id: FromPath[str]) -> PolicyView:
    """One policy."""
    async with request.ctx.database.read() as tx:
        return _view(await catalogue.get(tx, request.visible, PolicyRule, policy_id))


@put("/policies/{policy_id:str}", opt=edits("policy.edit"), summary="Change a policy")
async def update_policy_rule(request: ApiRequest, policy_id: FromPath[str], data: JSONBody[PolicyWrite]) -> PolicyView:
    """What is absent stays; a `config` that is given replaces the whole."""
    changes = request.changes(data, policy_id)
    changed = await policies.update(request.ctx, request.visible, request.actor, policy_id, changes, request.expected)
    return _view(changed)


@delete("/policies/{policy_id:str}", status_code=204, opt=edits("policy.delete"), summary="Delete a policy")
async def delete_policy_rule(request: ApiRequest, policy_id: FromPath[str]) -> None:
    """With its violations; the event log keeps both."""
    await policies.delete(request.ctx, request.visible, request.actor, policy_id, request.expected)


@get(
    "/policies/{policy_id:str}/violations",
    opt=needs("policy.read") | listed(VIOLATIONS),
    summary="Who breaks a policy",
)
async def list_violations(request: ApiRequest, policy_id: FromPath[str]) -> PageOf[ViolationView]:
    """The latest first; with `resolved=true` those that were cured. A rule is everybody's, its violations are told to
    whoever may read the certificates.
    """
    async with request.ctx.database.read() as tx:
        await catalogue.get(tx, request.visible, PolicyRule, policy_id)
    seen = request.seen_by("cert.read")
    return await answer_list(request, ViolationView, fixed={"rule_id": policy_id}, seen=seen)


@post("/policies/{policy_id:str}/evaluate", status_code=200, opt=needs("policy.edit"), summary="Try a policy")
async def evaluate_policy_rule(
    request: ApiRequest, policy_id: FromPath[str], data: JSONBody[EvaluateBody]
) -> EvaluationView:
    """What it finds in the inventory this moment; nothing is written."""
    rule = await policies.stored(request.ctx, request.visible, policy_id)
    return _evaluation(await policies.evaluate(request.ctx, request.visible, rule, limit=data.limit, after=data.after))


@post("/policies/dry-run", status_code=200, opt=needs("policy.edit"), summary="Try a policy before it is written")
async def dry_run(request: ApiRequest, data: JSONBody[DryRunBody]) -> EvaluationView:
    """What it would find in the inventory this moment; nothing is written."""
    rule = policies.imagined(data.type, data.config)
    return _evaluation(await policies.evaluate(request.ctx, request.visible, rule, limit=data.limit, after=data.after))


def _evaluation(found: policies.Trial) -> EvaluationView:
    return EvaluationView(
        looked_at=found.looked_at,
        violations=found.violations,
        offenders=[shown(OffenderView, each) for each in found.offenders],
        complete=not found.go_on_after,
        after=found.go_on_after,
    )


HANDLERS = (
    list_policy_rules,
    create_policy_rule,
    show_policy_rule,
    update_policy_rule,
    patched(show_policy_rule, update_policy_rule),
    delete_policy_rule,
    list_violations,
    evaluate_policy_rule,
    dry_run,
)

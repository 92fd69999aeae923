"""/api/v1/renewal-policies: when certificates are renewed."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import delete, get, post, put
from litestar.params import FromPath, JSONBody

from certctl.api.guard import edits, needs
from certctl.api.lists import answer_list, listed
from certctl.api.patching import patched
from certctl.api.request import ApiRequest
from certctl.api.shown import given, shown
from certctl.client.models.page import PageOf
from certctl.client.models.renewal_policies import FreezeView, RenewalPolicyView, RenewalPolicyWrite, WindowView
from certctl.control import renewal_policies
from certctl.core.catalogue import RenewalPolicy
from certctl.store import catalogue
from certctl.store.listings import RENEWAL_POLICIES


def _view(policy: RenewalPolicy) -> RenewalPolicyView:
    windows = msgspec.convert(policy.renewal_windows, list[WindowView])
    freezes = msgspec.convert(policy.freezes, list[FreezeView])
    return shown(RenewalPolicyView, policy, renewal_windows=windows, freezes=freezes)


def _values(values: dict[str, Any]) -> dict[str, Any]:
    for name in ("renewal_windows", "freezes"):
        if name in values:
            values[name] = msgspec.to_builtins(values[name])
    return values


@get("/renewal-policies", opt=needs("policy.read") | listed(RENEWAL_POLICIES), summary="List renewal policies")
async def list_renewal_policies(request: ApiRequest) -> PageOf[RenewalPolicyView]:
    """By name."""
    return await answer_list(request, RenewalPolicyView, show=_view)


@post("/renewal-policies", status_code=201, opt=needs("policy.edit"), summary="Create a renewal policy")
async def create_policy(request: ApiRequest, data: JSONBody[RenewalPolicyWrite]) -> RenewalPolicyView:
    """An id or name that is taken answers 409."""
    return _view(await renewal_policies.create(request.ctx, request.visible, request.actor, _values(given(data))))


@get("/renewal-policies/{policy_id:str}", opt=needs("policy.read"), summary="One renewal policy")
async def show_policy(request: ApiRequest, policy_id: FromPath[str]) -> RenewalPolicyView:
    """One renewal policy."""
    async with request.ctx.database.read() as tx:
        return _view(await catalogue.get(tx, request.visible, RenewalPolicy, policy_id))


@put("/renewal-policies/{policy_id:str}", opt=edits("policy.edit"), summary="Change a renewal policy")
async def update_policy(
    request: ApiRequest, policy_id: FromPath[str], data: JSONBody[RenewalPolicyWrite]
) -> RenewalPolicyView:
    """What is absent stays."""
    changes = _values(request.changes(data, policy_id))
    return _view(
        await renewal_policies.update(request.ctx, request.visible, request.actor, policy_id, changes, request.expected)
    )


@delete(
    "/renewal-policies/{policy_id:str}", status_code=204, opt=edits("policy.delete"), summary="Delete a renewal policy"
)
async def delete_policy(request: ApiRequest, policy_id: FromPath[str]) -> None:
    """One that is still named is kept (409)."""
    await renewal_policies.delete(
        request.ctx, request.visible, request.actor, policy_id, request.expected, sees=request.seen_by
    )


HANDLERS = (
    list_renewal_policies,
    create_policy,
    show_policy,
    update_policy,
    patched(show_policy, update_policy),
    delete_policy,
)

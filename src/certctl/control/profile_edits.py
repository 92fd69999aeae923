"""Edits of profiles that want a second person: they wait for one, as what is issued under them does.

Whoever could edit such a profile alone could lift what it asks for, issue, and put it back. An edit binds to the
version that it changes and to the whole change; when the profile was edited meanwhile it can no longer be approved.
"""

from __future__ import annotations

from typing import Any

from certctl.control import profiles
from certctl.core.actor import Actor
from certctl.core.approval import PROFILE_EDIT, Approval, Holder
from certctl.core.catalogue import Profile
from certctl.core.errors import Conflict, NotAllowed
from certctl.core.events import Event, EventType, Notice
from certctl.core.ids import new_id
from certctl.core.revision import Expected
from certctl.core.scope import Reach, Scope
from certctl.core.status import ApprovalState
from certctl.ledger import append, notify
from certctl.lifecycle import approve
from certctl.lifecycle.context import Context
from certctl.policy.approval import edit_hash, needs_approval
from certctl.store import approvals, catalogue
from certctl.store.tx import Tx


async def update(
    ctx: Context, scope: Scope, actor: Actor, profile_id: str, changes: dict[str, Any], expected: Expected = None
) -> tuple[Profile, Approval | None]:
    """Change a profile, or where it wants a second person write down what is to change; returns what waits, if so."""
    async with ctx.database.begin("config.profile") as tx:
        before = await catalogue.get(tx, scope, Profile, profile_id, expected=expected)
        if not needs_approval(before):
            return await profiles.apply(tx, ctx, scope, actor, before, changes, expected), None
        await profiles.check_changes(tx, ctx, scope, before, changes)
        if all(getattr(before, name) == value for name, value in changes.items()):
            return before, None
        return before, await _ask(tx, ctx, actor, before, changes)


async def _ask(tx: Tx, ctx: Context, actor: Actor, before: Profile, changes: dict[str, Any]) -> Approval:
    now, approval_id = ctx.now(), new_id("ar")
    asked = Approval(
        tenant_id=before.tenant_id,
        id=approval_id,
        kind=PROFILE_EDIT,
        certificate_id="",
        job_id=approval_id,
        profile_id=before.id,
        requested_by=actor.id,
        state=ApprovalState.PENDING,
        decision_hash=edit_hash(profile_id=before.id, profile_version=before.version, changes=changes),
        decided_by="",
        decided_at=None,
        decision_note="",
        metadata={
            "job_type": "Edit of a profile",
            "profile_version": before.version,
            "before": {name: getattr(before, name) for name in changes},
        },
        created_at=now,
        updated_at=now,
        required=before.approvals_required,
        profile_version=before.version,
        payload=changes,
    )
    await approvals.insert(tx, ctx.scope, asked)
    details = {"approval_id": approval_id, "fields": sorted(changes), "decision_hash": asked.decision_hash}
    await append(tx, ctx.scope, now, _event(EventType.PROFILE_EDIT_REQUESTED, before.id, actor, details))
    notice = Notice(
        type="ApprovalRequested",
        certificate_id="",
        severity="informational",
        message=f"{actor.id} wants to change {', '.join(sorted(changes))} of profile {before.name}: decide",
        dedup_key=f"approval/{approval_id}",
    )
    await notify(tx, ctx.scope, now, notice)
    return asked


async def decide(
    ctx: Context, scope: Scope, actor: Actor, approval: Approval, decision: approve.Decision, by: Holder
) -> Approval:
    """A person's word on an edit; the last yes makes it. Conflict when the profile was edited since it was asked."""
    if not scope.covers(Scope(scope.tenant_id, (Reach(profiles=(approval.profile_id,)),))):
        raise NotAllowed(f"profile {approval.profile_id} reaches further than what you may decide about")
    if decision.decision_hash and decision.decision_hash != approval.decision_hash:
        raise Conflict("this is not what you decided about: the edit has another decision hash; look at it again")
    async with ctx.database.begin("config.profile") as tx:
        before = await catalogue.get(tx, ctx.scope, Profile, approval.profile_id)
        changes: dict[str, Any] = approval.payload or {}
        now_is = edit_hash(profile_id=before.id, profile_version=before.version, changes=changes)
        if decision.approved and now_is != approval.decision_hash:
            raise Conflict(f"profile {before.id} was changed after this was asked; let it be asked anew")
        state = await approve.say(tx, ctx, approval, actor, by, decision, before)
        details = {"approval_id": approval.id, "decision_hash": approval.decision_hash, "person": by.person}
        said = _event(_SAID[state], before.id, actor, details | {"note": decision.note})
        await append(tx, ctx.scope, ctx.now(), said)
        if state == ApprovalState.APPROVED:
            await profiles.apply(tx, ctx, ctx.scope, actor, before, changes, frozenset({before.row_version}))
    async with ctx.database.read() as tx:
        return await approvals.approval(tx, scope, approval.id)


_SAID = {
    ApprovalState.APPROVED: EventType.PROFILE_EDIT_APPROVED,
    ApprovalState.REJECTED: EventType.PROFILE_EDIT_DENIED,
    ApprovalState.PENDING: EventType.APPROVAL_GIVEN,
}


def _event(kind: EventType, profile_id: str, actor: Actor, details: dict[str, Any]) -> Event:
    return Event(type=kind, subject_type="profile", subject_id=profile_id, actor=actor, details=details)

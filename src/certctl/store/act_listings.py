"""The lists of what was set going and judged, as data: approvals, batches and their items, violations of policies, the
agents of a group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from certctl.core.approval import Approval
from certctl.core.batch import Batch, BatchItem
from certctl.core.catalogue import PolicyViolation
from certctl.core.notification import Channel, Notification, NotificationStatus, Tier
from certctl.core.scope import Scope
from certctl.core.status import ApprovalState, BatchAction, BatchStatus, ItemStatus
from certctl.core.target import AgentRecord
from certctl.store import approvals, batches, catalogue, certificates, names, outbox, schema
from certctl.store.among import any_of
from certctl.store.listings import AGENTS, Q_CERTIFICATES
from certctl.store.lists import Listing, after, before, begins_with, equals, flag, is_set, is_text, one_of

# a row whose job waits no more was never decided: what it reads is not what stands in its table
_WAITS: Any = approvals.WITH_STATE
_A, _B, _I, _V = _WAITS.c, schema.batches.c, schema.batch_items.c, schema.policy_violations.c
_N, _CH = schema.notifications.c, schema.notification_channels.c


def _of_certificates(column: sa.Column[str], *exactly: sa.Column[str]) -> Callable[[Scope, str], Any]:
    """A search by certificate, as the list of certificates does it, or by one of these ids."""

    def found(scope: Scope, q: str) -> sa.ColumnElement[bool]:
        return sa.or_(*(each == q for each in (column, *exactly)), column.in_(names.found_by(scope, q)))

    return found


def _visible(tenant: sa.Column[str], column: sa.Column[str]) -> Callable[[Scope], sa.ColumnElement[bool]]:
    """What belongs to a certificate is seen by whoever may see that."""

    def in_scope(scope: Scope) -> sa.ColumnElement[bool]:
        mine = tenant == scope.tenant_id
        if scope == Scope.whole(scope.tenant_id):
            return mine
        return sa.and_(mine, column.in_(sa.select(schema.certificates.c.id).where(certificates.in_scope(scope))))

    return in_scope


APPROVALS: Listing[Approval] = Listing(
    name="approvals",
    kind=Approval,
    table=_WAITS,
    in_scope=approvals.visible,
    filters={
        "state": one_of(_A.state, ApprovalState, "expired: its job ended undecided"),
        "certificate_id": equals(_A.certificate_id),
        "job_id": equals(_A.job_id),
        "profile_id": equals(_A.profile_id),
        "requested_by": is_text(_A.requested_by),
        "decided_by": is_text(_A.decided_by),
        "created_before": before(_A.created_at),
        "created_after": after(_A.created_at),
    },
    sorts={"createdAt": _A.created_at, "updatedAt": _A.updated_at, "decidedAt": _A.decided_at},
    default="-createdAt",
    q=_of_certificates(_A.certificate_id, _A.id, _A.job_id),
    q_description=f"an approval's, job's or certificate's id, or of its certificate: {Q_CERTIFICATES}",
)


def _batch_found(_scope: Scope, q: str) -> sa.ColumnElement[bool]:
    return sa.or_(_B.id == q, _B.requested_by == q, _B.request_id == q)


BATCHES: Listing[Batch] = Listing(
    name="batches",
    kind=Batch,
    table=schema.batches,
    in_scope=lambda scope: batches.shown_to(scope, "", ""),
    filters={
        "status": one_of(_B.status, BatchStatus),
        "action": one_of(_B.action, BatchAction),
        "requested_by": is_text(_B.requested_by),
        "dry_run": flag(_B.dry_run),
        "created_before": before(_B.created_at),
        "created_after": after(_B.created_at),
    },
    sorts={"createdAt": _B.created_at, "updatedAt": _B.updated_at, "endedAt": _B.ended_at, "total": _B.total},
    default="-createdAt",
    q=_batch_found,
    q_description="a batch's id, who asked for it, or the id of the request that did",
)


def batches_shown_to(key: str, requested_by: str) -> Listing[Batch]:
    """The batches of whoever has just these limits, and those that somebody asked for."""
    return msgspec.structs.replace(BATCHES, in_scope=lambda scope: batches.shown_to(scope, key, requested_by))


# who may look at a batch may look at its items: `fixed` says of which
ITEMS: Listing[BatchItem] = Listing(
    name="batches/items",
    kind=BatchItem,
    table=schema.batch_items,
    in_scope=lambda scope: _I.tenant_id == scope.tenant_id,
    filters={
        "status": one_of(_I.status, ItemStatus),
        "certificate_id": equals(_I.certificate_id),
        "error_kind": equals(_I.error_kind),
    },
    sorts={"seq": _I.seq},
    default="seq",
    key="seq",
    q=_of_certificates(_I.certificate_id),
    q_description=f"a certificate's id, or of the certificate: {Q_CERTIFICATES}",
)

VIOLATIONS: Listing[PolicyViolation] = Listing(
    name="policies/violations",
    kind=PolicyViolation,
    table=schema.policy_violations,
    in_scope=_visible(_V.tenant_id, _V.certificate_id),
    filters={
        "resolved": is_set(_V.resolved_at, "those that were cured instead", otherwise=(False,)),
        "certificate_id": equals(_V.certificate_id),
        "severity": equals(_V.severity),
        "created_before": before(_V.created_at),
        "created_after": after(_V.created_at),
    },
    sorts={"createdAt": _V.created_at, "resolvedAt": _V.resolved_at, "severity": _V.severity},
    default="-createdAt",
    q=_of_certificates(_V.certificate_id, _V.id),
    q_description=f"a violation's or certificate's id, or of its certificate: {Q_CERTIFICATES}",
)

NOTIFICATIONS: Listing[Notification] = Listing(
    name="notifications",
    kind=Notification,
    table=schema.notifications,
    in_scope=outbox.visible,
    # a digest's page is long, and nobody lists it
    blank={"html": ""},
    filters={
        "status": one_of(_N.status, NotificationStatus),
        "type": equals(_N.type),
        "severity": one_of(_N.severity, Tier),
        "channel": equals(_N.channel, "the kind of its channel"),
        "channel_id": equals(_N.channel_id),
        "certificate_id": equals(_N.certificate_id),
        "read": is_set(_N.read_at),
        "created_before": before(_N.created_at),
        "created_after": after(_N.created_at),
    },
    sorts={"createdAt": _N.created_at, "sentAt": _N.sent_at, "nextRetryAt": _N.next_retry_at},
    default="-createdAt",
    q=_of_certificates(_N.certificate_id, _N.id),
    q_description=f"a notification's or certificate's id, or of its certificate: {Q_CERTIFICATES}",
)


def _channels_in_scope(scope: Scope) -> sa.ColumnElement[bool]:
    return catalogue.in_scope(Channel, scope)


CHANNELS: Listing[Channel] = Listing(
    name="notification-channels",
    kind=Channel,
    table=schema.notification_channels,
    in_scope=_channels_in_scope,
    filters={
        "type": equals(_CH.type),
        "enabled": flag(_CH.enabled),
        "source": equals(_CH.source, "`database` or `env`"),
    },
    sorts={"name": _CH.name, "type": _CH.type, "createdAt": _CH.created_at, "updatedAt": _CH.updated_at},
    default="name",
    blank={"sealed_config": None},
    q=begins_with(_CH.name, _CH.type),
    q_description="what a name or type begins with",
)

MEMBERS: Listing[AgentRecord] = msgspec.structs.replace(AGENTS, name="agent-groups/members")


def members_of(group_id: str, agent_ids: Sequence[str]) -> Listing[AgentRecord]:
    """The agents of one group, which rules have found."""
    always = sa.and_(AGENTS.always, any_of(schema.agents.c.id, agent_ids))  # type: ignore[arg-type]  # it has one
    return msgspec.structs.replace(MEMBERS, name=f"{MEMBERS.name}/{group_id}", always=always)

"""Events as sentences: who did what to what, for the story of a certificate and for the latest changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from certctl.core.actor import ActorType
from certctl.core.events import EventType as E
from certctl.core.notification import Channel, Notification, NotificationStatus
from certctl.core.scope import Scope
from certctl.core.target import AgentRecord
from certctl.ledger import EventRow
from certctl.store import truths
from certctl.store.act_listings import NOTIFICATIONS
from certctl.store.lists import Asked, read_list
from certctl.store.tx import Tx
from certctl.web.request import WebRequest
from certctl.web.words import gettext as _

_LONGEST = 300


# what is told on the overview: an outcome, or a person's decision, never a step on the way
NOTEWORTHY = frozenset({
    E.CERTIFICATE_IMPORTED, E.CERTIFICATE_CLAIMED, E.CERTIFICATE_ARCHIVED, E.CERTIFICATE_ISSUED, E.CERTIFICATE_REVOKED,
    E.CERTIFICATE_EXPIRED, E.ISSUANCE_FAILED, E.RENEWAL_JOB_FAILED, E.REQUEST_DENIED, E.ROLLBACK_TRIGGERED,
    E.DEPLOYMENT_VERIFIED, E.DEPLOYMENT_FAILED, E.DEPLOYMENT_DRIFTED, E.REVOCATION_FAILED, E.POLICY_VIOLATED,
})  # fmt: skip


class Told(Struct, frozen=True, kw_only=True):
    """One line of a story."""

    kind: str
    shape: str
    text: str
    at: datetime
    more: str = ""
    href: str = ""
    link: str = ""


def _words() -> Mapping[str, tuple[str, str, str]]:
    """Colour, shape and sentence of each kind of event."""
    return {
        E.CERTIFICATE_CREATED: ("unk", "i-plus", _("Created by {who}")),
        E.CERTIFICATE_IMPORTED: ("unk", "i-plus", _("Imported by {who}")),
        E.CERTIFICATE_CLAIMED: ("unk", "i-key", _("Claimed by {who}")),
        E.CERTIFICATE_UPDATED: ("unk", "i-gear", _("Changed by {who}")),
        E.CERTIFICATE_ARCHIVED: ("unk", "s-none", _("Archived by {who}")),
        E.CERTIFICATE_ISSUED: ("ok", "s-ok", _("A version was issued")),
        E.CERTIFICATE_REVOKED: ("bad", "s-off", _("Revoked by {who}")),
        E.CERTIFICATE_EXPIRED: ("bad", "s-bad", _("It has expired")),
        E.CERTIFICATE_EXPIRING: ("warn", "s-due", _("It nears its end")),
        E.CERTIFICATE_EXPORTED: ("unk", "i-down", _("Exported by {who}")),
        E.ISSUANCE_REQUESTED: ("unk", "i-key", _("Requested by {who}")),
        E.ISSUANCE_FAILED: ("bad", "s-bad", _("Issuance failed")),
        E.REISSUE_TRIGGERED: ("work", "s-work", _("{who} asked for a new key and version")),
        E.REPLACEMENT_WISHED: ("work", "s-work", _("{who} asked its holder to replace it")),
        E.RENEWAL_TRIGGERED: ("work", "s-work", _("{who} asked for renewal")),
        E.RENEWAL_JOB_CREATED: ("work", "s-work", _("Renewal began, asked by {who}")),
        E.RENEWAL_JOB_COMPLETED: ("ok", "s-ok", _("Renewed")),
        E.RENEWAL_JOB_FAILED: ("bad", "s-bad", _("Renewal failed")),
        E.REQUEST_APPROVED: ("ok", "i-approve", _("Approved by {who}")),
        E.REQUEST_DENIED: ("bad", "s-bad", _("Denied by {who}")),
        E.APPROVAL_REQUESTED: ("warn", "s-wait", _("Waits for somebody to approve")),
        E.CSR_SUBMITTED: ("ok", "i-key", _("{who} sent a request for its own key")),
        E.CSR_REFUSED: ("bad", "s-bad", _("The request for its key was refused")),
        E.ORDER_INTENDED: ("unk", "i-issuer", _("Ordered from the CA")),
        E.DEPLOYMENT_CREATED: ("work", "s-work", _("Deployment began")),
        E.ROLLBACK_TRIGGERED: ("work", "s-work", _("{who} puts an older version back")),
        E.DEPLOYMENT_APPLIED: ("work", "i-target", _("Installed by {who}")),
        E.DEPLOYMENT_VERIFIED: ("ok", "s-ok", _("Seen served, by {who}")),
        E.DEPLOYMENT_FAILED: ("bad", "s-bad", _("Deployment failed")),
        E.DEPLOYMENT_DRIFTED: ("bad", "s-warn", _("Another certificate is served there")),
        E.DEPLOYMENT_PLANNED: ("unk", "i-target", _("A deployment was planned, nothing was touched")),
        E.DEPLOYMENT_PLAN_FAILED: ("warn", "s-warn", _("A deployment could not be planned")),
        E.REVOCATION_CONFIRMED: ("ok", "s-off", _("The CA confirmed the revocation")),
        E.REVOCATION_FAILED: ("bad", "s-bad", _("The CA did not revoke it")),
        E.JOB_RETRY: ("warn", "s-due", _("A step failed and is tried again")),
        E.JOB_CANCELLED: ("unk", "s-none", _("A job was cancelled by {who}")),
        E.JOB_TIMEOUT: ("bad", "s-bad", _("A job has waited too long, and failed")),
        E.APPROVAL_EXPIRED: ("bad", "s-bad", _("Nobody decided in time")),
        E.JOB_OVERDUE: ("warn", "s-due", _("A job takes too long")),
        E.BATCH_CREATED: ("work", "s-work", _("{who} began a batch")),
        E.BATCH_COMPLETED: ("ok", "s-ok", _("A batch is done")),
        E.BATCH_CANCELLED: ("unk", "s-none", _("A batch was cancelled by {who}")),
        E.BATCH_HALTED: ("bad", "s-bad", _("A batch halted")),
        E.BATCH_RESUMED: ("work", "s-work", _("A batch was resumed by {who}")),
        E.AGENT_ENROLLED: ("ok", "i-agent", _("An agent enrolled")),
        E.AGENT_RETIRED: ("unk", "s-none", _("An agent was retired by {who}")),
        E.AGENT_SILENT: ("warn", "s-unknown", _("An agent fell silent")),
        E.AGENT_RETURNED: ("ok", "i-agent", _("An agent is back")),
        E.POLICY_VIOLATED: ("warn", "s-warn", _("A policy is violated")),
        E.POLICY_CURED: ("ok", "s-ok", _("A policy is kept again")),
        **_record_words(),
        **_words_of_orders(),
        **_words_of_acme(),
        **_words_of_telling(),
    }


def _record_words() -> dict[str, tuple[str, str, str]]:
    """Of what the audit log alone tells: who came in, what was set up, what became of the CAs."""
    return {
        E.CONFIG_CREATED: ("unk", "i-plus", _("Made by {who}")),
        E.CONFIG_UPDATED: ("unk", "i-gear", _("Changed by {who}")),
        E.CONFIG_DELETED: ("unk", "s-none", _("Deleted or revoked by {who}")),
        E.SESSION_BEGUN: ("unk", "i-key", _("{who} signed in")),
        E.SESSION_ENDED: ("unk", "i-out", _("A session of {who} ended")),
        E.KEY_ROTATED: ("unk", "i-key", _("{who} gave a key a fresh value")),
        E.ROLE_ASSIGNED: ("unk", "i-key", _("{who} gave a role")),
        E.ROLE_REVOKED: ("unk", "s-none", _("{who} took a role away")),
        E.CALL_DENIED: ("warn", "s-off", _("{who} was refused")),
        E.BREAKGLASS_REFUSED: ("warn", "s-off", _("Emergency access was refused to {who}")),
        E.ENROLMENT_TOKEN_CREATED: ("unk", "i-agent", _("{who} made an enrolment token")),
        E.AUDIT_EXPORTED: ("unk", "i-down", _("{who} took the audit log away")),
        E.CA_INTENDED: ("work", "i-issuer", _("{who} asked for a new CA")),
        E.CA_CREATED: ("ok", "i-issuer", _("A CA was made")),
        E.CA_RETIRING: ("warn", "i-issuer", _("A CA issues no more")),
        E.CA_RETIRED: ("unk", "s-none", _("A CA was retired by {who}")),
        E.CA_REVOKED: ("bad", "s-off", _("A CA was revoked by {who}")),
        E.CRL_PUBLISHED: ("ok", "i-issuer", _("A CRL was published")),
        E.BOOTSTRAP_USED: ("unk", "i-key", _("The first administrator came in")),
        E.CONFIG_KEY_ROTATED: ("unk", "i-key", _("{who} changed the key that seals what is stored")),
        E.AUDIT_PRUNED: ("unk", "s-none", _("Old entries of the audit log were dropped, their hashes kept")),
        E.PROFILE_EDIT_REQUESTED: ("warn", "s-wait", _("{who} wants to change a profile: another person decides")),
        E.PROFILE_EDIT_APPROVED: ("ok", "i-approve", _("The change of a profile was approved by {who}")),
        E.PROFILE_EDIT_DENIED: ("bad", "s-bad", _("The change of a profile was denied by {who}")),
        E.POLICY_EVALUATED: ("unk", "i-rules", _("{who} tried a policy against the inventory")),
    }


def _words_of_orders() -> dict[str, tuple[str, str, str]]:
    """Of what is between us and another CA, and of approvals that need more than one."""
    return {
        E.APPROVAL_GIVEN: ("ok", "i-approve", _("{who} approved; another person has to as well")),
        E.RENEWAL_SUGGESTED: ("unk", "i-issuer", _("The CA said when it would like to be asked again")),
        E.ORDER_PLACED: ("work", "i-issuer", _("The CA took the order")),
        E.ORDER_LOST: ("warn", "s-warn", _("The CA does not know the order any more: it is placed anew")),
        E.ORDERS_PAUSED: ("warn", "s-wait", _("The CA refused it too often: it is not asked until somebody resumes")),
        E.ORDERS_RESUMED: ("work", "s-work", _("{who} has the CA asked again")),
        E.ISSUER_DRY_RUN: ("work", "i-key", _("{who} had names go through the CA's directory for trials")),
        E.CHALLENGES_SHOWN: ("work", "i-key", _("What proves the names is shown to the CA")),
    }


def _words_of_acme() -> dict[str, tuple[str, str, str]]:
    """Of clients that order through our own ACME server."""
    return {
        E.ACME_ACCOUNT_CREATED: ("unk", "i-plus", _("An ACME account was made")),
        E.ACME_ACCOUNT_UPDATED: ("unk", "i-gear", _("An ACME account changed how it is reached")),
        E.ACME_ACCOUNT_DEACTIVATED: ("unk", "s-none", _("An ACME account was closed by {who}")),
        E.ACME_ACCOUNT_KEY_ROLLED: ("unk", "i-key", _("An ACME account has another key")),
        E.ACME_ORDER_CREATED: ("work", "s-work", _("Ordered through ACME")),
        E.ACME_ORDER_PROCESSING: ("work", "s-work", _("What was ordered through ACME is being issued")),
        E.ACME_ORDER_FINALIZED: ("ok", "s-ok", _("What was ordered through ACME is ready")),
        E.ACME_ORDER_FAILED: ("bad", "s-bad", _("What was ordered through ACME failed")),
        E.ACME_CHALLENGE_PROCESSING: ("work", "s-work", _("The proof of a name is looked at")),
        E.ACME_CHALLENGE_COMPLETED: ("ok", "s-ok", _("The proof of a name was looked at")),
        E.ACME_AUTHORIZATION_DEACTIVATED: ("unk", "s-none", _("The right to a name was given up")),
    }


def _words_of_telling() -> dict[str, tuple[str, str, str]]:
    """Of what is watched, and of who was told."""
    return {
        E.HEALTH_CHANGED: ("warn", "i-found", _("A watched endpoint reads otherwise than before")),
        E.HEALTH_ACKNOWLEDGED: ("unk", "i-found", _("{who} knows of what is wrong at an endpoint")),
        E.DIGEST_SENT: ("unk", "i-bell", _("The digest was sent")),
        E.NOTIFICATION_DEAD: ("bad", "i-bell", _("A notification did not arrive, and was given up")),
        E.NOTIFICATION_REQUEUED: ("work", "i-bell", _("{who} has a notification sent again")),
    }


def told(row: EventRow, names: Mapping[str, str], who: Mapping[str, str]) -> Told:
    """One event; `names` are those of certificates by id, `who` those of agents."""
    kind, shape, text = _words().get(row.type, ("unk", "s-none", row.type.replace("_", " ") + _(", by {who}")))
    href = link = ""
    if row.subject_type == "certificate" and row.subject_id in names:
        href, link = f"/certificates/{row.subject_id}", names[row.subject_id]
    return Told(
        kind=kind,
        shape=shape,
        text=text.format(who=who.get(row.actor, row.actor) or _("nobody")),
        at=row.created_at,
        more=_more(row.details),
        href=href,
        link=link,
    )


def story(
    rows: Sequence[EventRow], names: Mapping[str, str] | None = None, who: Mapping[str, str] | None = None
) -> list[Told]:
    """Many events, as they come; tries of one step that failed alike, one after another, are one line."""
    lines: list[Told] = []
    before: EventRow | None = None
    tries = 0
    for row in rows:
        later, before = before, row
        if later is not None and _same_try(later, row):
            tries += 1
            lines[-1] = replace(
                lines[-1], text=_("A step failed {number} times and is tried again").format(number=tries)
            )
            continue
        tries = 1
        lines.append(told(row, names or {}, who or {}))
    return lines


def _same_try(later: EventRow, earlier: EventRow) -> bool:
    """Whether both tell that the same step failed, for the same reason."""
    if not later.type == earlier.type == E.JOB_RETRY or later.subject_id != earlier.subject_id:
        return False
    return all(later.details.get(name) == earlier.details.get(name) for name in ("job_id", "stage", "error"))


async def sent(tx: Tx, scope: Scope, certificate_id: str, limit: int) -> list[Told]:
    """What people were told of a certificate, or should have been: through which channel, and whether it arrived."""
    by: Any = {"certificate_id": (certificate_id,)}
    found = await read_list(tx, scope, NOTIFICATIONS, Asked(filters=by, sort="createdAt", descending=True, limit=limit))
    names = await truths.named(tx, scope, Channel, [row.channel_id for row in found.data if row.channel_id])
    return [_sent(row, names.get(row.channel_id) or row.channel) for row in found.data]


def _sent(row: Notification, channel: str) -> Told:
    s = NotificationStatus
    to = channel or _("nobody")
    kind, text = {
        s.SENT: ("ok", _("Told to {channel}; it arrived")),
        s.READ: ("ok", _("Told to {channel}, and read")),
        s.PENDING: ("work", _("On its way to {channel}")),
        s.FAILED: ("warn", _("It did not reach {channel} yet, and is tried again")),
        s.DEAD: ("bad", _("It did not reach {channel}, and was given up")),
        s.SKIPPED: ("unk", _("Nobody was told")),
    }[NotificationStatus(row.status)]
    said = f"“{(row.subject or row.message)[:_LONGEST]}”"
    return Told(
        kind=kind,
        shape="i-bell",
        text=text.format(channel=to),
        at=row.created_at,
        more=f"{said}. {row.last_error[:_LONGEST]}" if row.last_error else said,
        href=f"/notifications/{row.id}",
        link=_("how it went"),
    )


def merged(events: Sequence[Told], others: Sequence[Told], limit: int) -> list[Told]:
    """Two stories as one, the newest `limit` lines first; each has to hold as many of its own, if it has them."""
    return sorted([*events, *others], key=lambda line: line.at, reverse=True)[:limit]


async def actors(tx: Tx, request: WebRequest, rows: Sequence[EventRow]) -> dict[str, str]:
    """The names of the agents that acted, as far as the caller may read agents."""
    ids = [row.actor for row in rows if row.actor_type == ActorType.AGENT]
    return await truths.named(tx, request.seen_by("agent.read"), AgentRecord, ids)


_SAID: Sequence[tuple[str, Callable[[], str]]] = (
    ("error", lambda: "{}"),
    ("reason", lambda: _("Reason: {}")),
    ("note", lambda: "“{}”"),
    ("changed", lambda: _("Changed: {}")),
    ("serial_number", lambda: _("Serial {}")),
)


def _more(details: Mapping[str, Any]) -> str:
    """What the details add that a person reads."""
    found = []
    for name, form in _SAID:
        value = details.get(name)
        if isinstance(value, list | tuple):
            value = ", ".join(str(each) for each in value)
        if value:
            text = str(value)[:_LONGEST]
            # reasons of ours are names; people read words
            found.append(form().format(text.replace("_", " ") if name == "reason" and " " not in text else text))
    return ". ".join(found)

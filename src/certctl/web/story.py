"""Events as sentences: who did what to what, for the story of a certificate and for the latest changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from certctl.core.actor import ActorType
from certctl.core.events import EventType as E
from certctl.core.target import AgentRecord
from certctl.ledger import EventRow
from certctl.store import truths
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
        E.BATCH_HALTED: ("bad", "s-bad", _("A batch halted by itself")),
        E.AGENT_ENROLLED: ("ok", "i-agent", _("An agent enrolled")),
        E.AGENT_RETIRED: ("unk", "s-none", _("An agent was retired by {who}")),
        E.AGENT_SILENT: ("warn", "s-unknown", _("An agent fell silent")),
        E.AGENT_RETURNED: ("ok", "i-agent", _("An agent is back")),
        E.POLICY_VIOLATED: ("warn", "s-warn", _("A policy is violated")),
        E.POLICY_CURED: ("ok", "s-ok", _("A policy is kept again")),
    } | _record_words()


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
    """Many events, as they come."""
    return [told(row, names or {}, who or {}) for row in rows]


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

"""Why a certificate will not be renewed by itself, in one sentence, and the one act that cures it. Pure."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from certctl.core.catalogue import RenewalPolicy
from certctl.core.certificate import CLIENT_HOLDER
from certctl.core.status import DeploymentStatus
from certctl.web.marks import Facts, silent
from certctl.web.words import gettext as _
from certctl.web.words import span


class Cure(Struct, frozen=True):
    """Why, and the page where it is cured with what its button says."""

    why: str
    href: str
    act: str


def cure_of(facts: Facts, policy: RenewalPolicy | None) -> Cure:
    """The first reason that holds."""
    certificate, here = facts.certificate, f"/certificates/{facts.certificate.id}"
    waiting = facts.waits()
    if waiting is not None:
        since = span(facts.now - waiting.created_at)
        why = _("It has waited {since} for somebody to approve what {who} asked for.")
        return Cure(why.format(since=since, who=waiting.requested_by), "/approvals", _("Decide"))
    if not certificate.issuer_id:
        return Cure(
            _("It was imported and is only watched: nobody has said who issues it from now on."), here, _("Open")
        )
    quiet = next((place for place in facts.places if silent(place)), None)
    if quiet is not None and not certificate.failures:
        return Cure(
            _silence(facts, quiet.agent_name, quiet.last_heartbeat_at), f"/agents/{quiet.agent_id}", _("Open agent")
        )
    if certificate.failures:
        said = certificate.status_reason.removeprefix("renewal failed: ") or _("no reason was given")
        why = (
            _("Renewal failed {number} times in a row: {said}")
            if certificate.failures > 1
            else _("Renewal failed: {said}")
        )
        return Cure(why.format(number=certificate.failures, said=said), here, _("See the cure"))
    drifted = next((place for place in facts.places if place.status == DeploymentStatus.DRIFTED), None)
    if drifted is not None:
        return Cure(
            _("{place} serves another certificate than was deployed.").format(place=drifted.target_name),
            here,
            _("Open"),
        )
    if any(leaf.holder_id == CLIENT_HOLDER for leaf in facts.leaves):
        return Cure(_("Its key is with whoever asked for it: they have to send a new request."), here, _("Open"))
    if policy is not None and not policy.auto_renew:
        why = _("Its renewal policy {policy} does not renew by itself.").format(policy=policy.name)
        return Cure(why, here, _("Renew"))
    return Cure(certificate.status_reason or _("It has ended, and its renewal has not."), here, _("Open"))


def _silence(facts: Facts, name: str, last: datetime | None) -> str:
    if last is None:
        return _("The agent {name} was never heard of.").format(name=name)
    return _("The agent {name} has been silent for {span}.").format(name=name, span=span(facts.now - last))

"""/certificates/{id}: one certificate, whole: its truths, its life, its places, its story, its versions compared."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from litestar import Response, get
from litestar.params import FromPath
from msgspec import Struct

from certctl import ledger
from certctl.core.catalogue import RenewalPolicy
from certctl.core.certificate import CLIENT_HOLDER, EXTERNAL_HOLDER, Version
from certctl.core.errors import CertctlError
from certctl.core.scope import Scope
from certctl.core.target import AgentRecord
from certctl.lifecycle.endpoints import endpoint_of
from certctl.pki.certs import CertificateFacts, read_certificate
from certctl.pki.pem import read_certificates
from certctl.store import truths, views
from certctl.store.truths import Leaf, Place
from certctl.store.tx import Tx
from certctl.web import acting, health_checks, marks
from certctl.web.axis import Axis, Life, around, date_ticks, life
from certctl.web.compare import Difference, differences, fields_of
from certctl.web.guard import needs
from certctl.web.marks import Facts, Mark
from certctl.web.pages import render
from certctl.web.reasons import cure_of
from certctl.web.request import WebRequest
from certctl.web.rows import Names, gather, names_of, planned
from certctl.web.story import actors, merged, sent, story
from certctl.web.words import day
from certctl.web.words import gettext as _

_VERSIONS = 25
_EVENTS, _MORE_EVENTS = 12, 200
_LANES = 4


class Lane(Struct, frozen=True, kw_only=True):
    """One version of the lifeline."""

    label: str
    kind: str
    life: Life
    y: int


class Site(Struct, frozen=True, kw_only=True):
    """One place as its line tells it."""

    place: Place
    endpoint: str
    disk: Mark
    served: Mark
    seen_at: datetime | None


class Shown(Struct, frozen=True, kw_only=True):
    """One version with its number, counted from the first."""

    leaf: Leaf
    number: int
    holder: str
    mark: Mark
    can_return: bool


@get("/certificates/{certificate_id:str}", opt=needs("cert.read"))
async def show(request: WebRequest, certificate_id: FromPath[str]) -> Response[str]:
    """The page; `version` and `against` choose what is compared, `events=all` tells more of the story."""
    now, scope = request.ctx.now(), request.visible
    asked = request.query_params
    most = _MORE_EVENTS if asked.get("events") == "all" else _EVENTS
    async with request.ctx.database.read() as tx:
        certificate = await views.certificate(tx, scope, certificate_id)
        (facts,) = await gather(tx, scope, [certificate], now)
        names = await names_of(tx, scope, [certificate])
        leaves, total = await truths.history(tx, scope, certificate_id, _VERSIONS)
        shown = await _versions(tx, scope, facts, leaves, total)
        chosen = _chosen(shown, asked.get("version", ""), asked.get("against", ""))
        details = [await _facts_of(tx, scope, certificate_id, each) for each in chosen]
        events = await ledger.recent(tx, scope, most + 1, subject_id=certificate_id)
        who = await actors(tx, request, events)
        told = []
        if request.may("notification.read"):
            told = await sent(tx, request.seen_by("notification.read"), certificate_id, most + 1)
        watched = []
        if request.may("healthcheck.read"):
            watched = await health_checks.of_certificate(tx, request.seen_by("healthcheck.read"), certificate_id)
    policy = names.policies.get(certificate.renewal_policy_id)
    renews = planned(facts, policy)
    telling = merged(story(events, {}, who), told, most)
    axis, lanes = _lifeline(facts, shown, renews)
    newest = details[0] if details else None
    return await render(
        request,
        "certificate.html",
        c=certificate,
        facts=facts,
        mark=marks.mark(facts),
        why=_why(facts, policy),
        truths=_thread(facts, shown, names),
        axis=axis,
        ticks=date_ticks(axis),
        lanes=lanes,
        sites=[_site(each, shown) for each in facts.places],
        versions=shown,
        total=total,
        chosen=chosen,
        compared=_compared(details),
        fields=fields_of(newest.facts) if newest else [],
        chain=newest.chain if newest else [],
        story=telling,
        more_events=most == _EVENTS and len(events) + len(told) > len(telling),
        issuer=names.issuers.get(certificate.issuer_id, certificate.issuer_id),
        team=names.teams.get(certificate.team_id, certificate.team_id),
        policy=policy,
        renews=renews,
        acts=acting.allowed(request, facts),
        watched=watched,
        live=bool(facts.jobs),
    )


async def _versions(tx: Tx, scope: Scope, facts: Facts, leaves: Sequence[Leaf], total: int) -> list[Shown]:
    hosts = await truths.named(tx, Scope.whole(scope.tenant_id), AgentRecord, [leaf.holder_id for leaf in leaves])
    found = []
    for index, leaf in enumerate(leaves):
        over = leaf.not_after <= facts.now
        returns = leaf.status == "superseded" and not over and any(p.agent_id == leaf.holder_id for p in facts.places)
        found.append(
            Shown(
                leaf=leaf,
                number=total - index,
                holder=_holder(leaf, hosts),
                mark=_version_mark(leaf, over=over),
                can_return=returns,
            )
        )
    return found


def _holder(leaf: Leaf, hosts: dict[str, str]) -> str:
    if leaf.holder_id == CLIENT_HOLDER:
        return _("whoever asked for it")
    if leaf.holder_id == EXTERNAL_HOLDER:
        return _("nobody known")
    return hosts.get(leaf.holder_id, leaf.holder_id)


def _version_mark(leaf: Leaf, *, over: bool) -> Mark:
    if leaf.status == "revoked":
        return Mark("unk", "s-off", _("Revoked"))
    if over:
        return Mark("unk", "s-none", _("Expired"))
    return {
        "current": Mark("ok", "s-ok", _("Current")),
        "issued": Mark("work", "s-work", _("Issued")),
    }.get(leaf.status, Mark("unk", "s-none", _("Superseded")))


class Detail(Struct, frozen=True, kw_only=True):
    """A version parsed: what it says, and its chain."""

    number: int
    facts: CertificateFacts
    chain: list[CertificateFacts]


async def _facts_of(tx: Tx, scope: Scope, certificate_id: str, shown: Shown) -> Detail:
    version: Version = await views.version(tx, scope, certificate_id, shown.leaf.id)
    chain = []
    for der in read_certificates(version.chain_pem) if version.chain_pem else ():
        try:
            chain.append(read_certificate(der))
        except CertctlError:
            continue  # a foreign chain may hold what nobody can read: the leaf is still shown
    return Detail(number=shown.number, facts=read_certificate(version.leaf_der), chain=chain)


def _chosen(shown: Sequence[Shown], version: str, against: str) -> list[Shown]:
    """The version that is looked at and the one it is compared with, if there is one before it."""
    if not shown:
        return []
    first = next((each for each in shown if each.leaf.id == version), None)
    first = first or next((each for each in shown if each.leaf.status == "current"), shown[0])
    second = next((each for each in shown if each.leaf.id == against), None)
    older = [each for each in shown if each.number < first.number]
    same = [each for each in older if each.leaf.holder_id == first.leaf.holder_id]
    second = second or next(iter(same or older), None)
    # after a way back the one that was left is what differs
    second = second or next((each for each in shown if each is not first), None)
    return [first] if second is None or second is first else [first, second]


def _compared(details: Sequence[Detail]) -> tuple[list[Difference], int] | None:
    return differences(details[1].facts, details[0].facts) if len(details) == 2 else None


def _thread(facts: Facts, shown: Sequence[Shown], names: Names) -> list[marks.Truth]:
    """The four truths, large: under each what was compared, when, by whom."""
    issued, deployed, served, trusted = marks.truths(facts)
    current = [each for each in shown if each.leaf.status == "current"]
    told = [deepened(issued, *_issued_notes(facts, current, names))]
    installed = max((p.applied_at for p in facts.places if p.applied_at), default=None)
    looked = max((p.verified_at or p.updated_at for p in facts.places if p.updated_at), default=None)
    told.append(deepened(deployed, "", _("The agent's receipt names the version.") if installed else ""))
    wrong = [p.target_name for p in facts.places if p.status == "drifted"]
    note = (
        _("{place} serves another").format(place=wrong[0]) if wrong else _("Compared by fingerprint") if looked else ""
    )
    told.append(deepened(served, "", note))
    chain = _("Its chain was verified to the CA's root when it was issued.") if current else ""
    told.append(deepened(trusted, "", chain))
    return told


def _why(facts: Facts, policy: RenewalPolicy | None) -> str:
    """Why it does not go on by itself: what a silent host holds up is said so, and not by the id of a job."""
    said = facts.certificate.status_reason
    if said and not facts.certificate.failures and any(marks.silent(place) for place in facts.places):
        return cure_of(facts, policy).why
    return said


def _issued_notes(facts: Facts, current: Sequence[Shown], names: Names) -> tuple[str, str, str]:
    if not current:
        return "", facts.certificate.status_reason, ""
    fact = _("Version {number}").format(number=current[0].number)
    if len(current) > 1:
        fact = _("{number} key holders").format(number=len(current))
    by = names.issuers.get(facts.certificate.issuer_id, facts.certificate.issuer_id) or _("a CA that is not ours")
    return fact, by, _("Key with {holder}").format(holder=current[0].holder) if len(current) == 1 else ""


def deepened(truth: marks.Truth, fact: str, *notes: str) -> marks.Truth:
    """The same with a larger fact and notes."""
    told = tuple(note for note in notes if note)
    return marks.Truth(truth.kind, truth.shape, truth.letter, truth.name, fact or truth.fact, told)


def _lifeline(facts: Facts, shown: Sequence[Shown], renews: datetime | None) -> tuple[Axis, list[Lane]]:
    """A lane a version, oldest first, on an axis that holds them all, now in view."""
    wanted = [each for each in shown if each.leaf.status != "issued"][:_LANES]
    moments = [facts.now]
    for each in wanted:
        moments += [each.leaf.not_before, each.leaf.not_after]
    begin, end = min(moments), max(moments)
    room = max((end - begin) * 0.04, (facts.now - facts.now))
    axis = Axis(begin=begin - room, end=end + room, now=facts.now) if end > begin else around(facts.now, 30, 30)
    lanes = []
    for index, each in enumerate(reversed(wanted)):
        current = each.leaf.status == "current"
        served = [p.target_name for p in facts.places if p.version_id == each.leaf.id and p.status == "verified"]
        kind = "" if current else "warn" if served else "unk"
        if each.leaf.status == "revoked":
            kind = "bad" if served else "unk"
        lanes.append(
            Lane(
                label=_lane_label(each, served, renews if current else None, facts.now),
                kind=kind,
                life=life(axis, each.leaf.not_before, each.leaf.not_after, renews if current else None, kind),
                y=20 + index * 40,
            )
        )
    return axis, lanes


def _lane_label(each: Shown, served: Sequence[str], renews: datetime | None, now: datetime) -> str:
    text = _("Version {number}, until {end}").format(number=each.number, end=day(each.leaf.not_after, now))
    if each.leaf.status == "revoked":
        text += ", " + _("revoked")
    if renews is not None:
        text += ", " + _("renews {day}").format(day=day(renews, now))
    elif served and each.leaf.status != "current":
        text += ", " + _("still served at {place}").format(place=served[0])
    return text


def _site(place: Place, shown: Sequence[Shown]) -> Site:
    number = next((str(each.number) for each in shown if each.leaf.id == place.version_id), "")
    quiet = marks.silent(place)
    status = place.status
    disk = {
        "": Mark("unk", "s-none", _("nothing yet")),
        "pending": Mark("work", "s-work", _("{number} on its way").format(number=number)),
        "applying": Mark("work", "s-work", _("{number} being installed").format(number=number)),
        "failed": Mark("bad", "s-bad", _("{number} failed").format(number=number)),
        "superseded": Mark("unk", "s-none", number),
    }.get(
        status,
        Mark(
            "ok" if place.leaf_status == "current" else "warn",
            "s-ok" if place.leaf_status == "current" else "s-warn",
            number,
        ),
    )
    if quiet:
        served = Mark("unk", "s-unknown", _("unknown"))
    elif status == "verified":
        served = Mark(disk.kind, disk.shape, number)
    elif status == "drifted":
        seen = next((str(e.number) for e in shown if e.leaf.fingerprint_sha256 == place.observed_fingerprint), "")
        served = Mark("bad", "s-bad", seen or _("another certificate"))
    else:
        served = Mark("unk", "s-unknown", _("not seen"))
    return Site(
        place=place,
        endpoint=endpoint_of(place.config),
        disk=disk,
        served=served,
        seen_at=place.verified_at or (place.updated_at if status == "drifted" else None),
    )


HANDLERS = (show, *acting.HANDLERS)

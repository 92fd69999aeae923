"""One word for how a certificate stands, and its four truths. Facts in, marks out; no I/O.

Only what was observed is green: a place counts as served when its fingerprint was seen there, and as unknown once its
agent is silent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from certctl.core.certificate import EXTERNAL_HOLDER, Certificate
from certctl.core.status import AgentStatus, CertificateStatus, DeploymentStatus, JobStatus, JobType
from certctl.store.asked import SuggestionRecord
from certctl.store.truths import Leaf, Place, Underway
from certctl.web.words import gettext as _
from certctl.web.words import ngettext

URGENT = timedelta(days=3)
_ON_DISK = frozenset({DeploymentStatus.APPLIED, DeploymentStatus.VERIFIED, DeploymentStatus.DRIFTED})
_UNDER_WAY = frozenset({DeploymentStatus.PENDING, DeploymentStatus.APPLYING})
_ISSUING = frozenset({JobType.ISSUANCE, JobType.RENEWAL})


class Mark(Struct, frozen=True):
    """A status: its colour (`ok work warn bad unk`), its shape in the sprite, its word."""

    kind: str
    shape: str
    word: str


class Truth(Struct, frozen=True):
    """One of the four: its colour, its heading, the large fact, and what was compared, when, by whom."""

    kind: str
    shape: str
    letter: str
    name: str
    fact: str
    notes: tuple[str, ...] = ()


class Facts(Struct, frozen=True, kw_only=True):
    """A certificate with what its pages show of it."""

    certificate: Certificate
    leaves: Sequence[Leaf]
    places: Sequence[Place]
    jobs: Sequence[Underway]
    now: datetime
    # what their CAs suggest, by version
    suggested: Mapping[str, SuggestionRecord] = {}

    @property
    def ended(self) -> bool:
        """Whether the first of its current versions has ended."""
        end = self.certificate.expires_at
        return end is not None and end <= self.now and bool(self.leaves)

    @property
    def urgent(self) -> bool:
        """Whether it ends within three days."""
        end = self.certificate.expires_at
        return end is not None and end - self.now <= URGENT

    def waits(self) -> Underway | None:
        """The job that waits for a person."""
        return next((job for job in self.jobs if job.status == JobStatus.AWAITING_APPROVAL), None)

    def issuing(self) -> Underway | None:
        """The issuance or renewal under way."""
        return next((job for job in self.jobs if job.type in _ISSUING), None)

    def deploying(self) -> Underway | None:
        """The deployment under way."""
        return next((job for job in self.jobs if job.type == JobType.DEPLOYMENT), None)


def silent(place: Place) -> bool:
    """Whether nobody can say how this place stands now."""
    return place.agent_status in {AgentStatus.OFFLINE, AgentStatus.UNKNOWN}


def mark(facts: Facts) -> Mark:
    """The one word, the gravest first."""
    return _over(facts) or _stuck(facts) or _moving(facts) or _seen(facts)


def _over(facts: Facts) -> Mark | None:
    status = facts.certificate.status
    if status == CertificateStatus.ARCHIVED:
        return Mark("unk", "s-none", _("Archived"))
    if status == CertificateStatus.REVOKED:
        served = any(place.status in _ON_DISK for place in facts.places)
        return Mark("warn", "s-off", _("Revoked, in place")) if served else Mark("unk", "s-off", _("Revoked"))
    if facts.ended:
        return Mark("bad", "s-bad", _("Expired"))
    return None


def _stuck(facts: Facts) -> Mark | None:
    kind = "bad" if facts.urgent and facts.leaves else "warn"
    if facts.waits() is not None:
        return Mark(kind, "s-wait", _("Waits for approval"))
    if facts.certificate.failures:
        word = _("Cannot renew") if facts.leaves else _("Cannot issue")
        return Mark(kind, "s-bad" if kind == "bad" else "s-warn", word)
    if any(place.status == DeploymentStatus.DRIFTED for place in facts.places):
        return Mark("bad", "s-bad", _("Serves another"))
    if any(place.status == DeploymentStatus.FAILED for place in facts.places):
        return Mark("warn", "s-warn", _("Not deployed"))
    if any(silent(place) for place in facts.places):
        return Mark("warn", "s-unknown", _("Agent silent"))
    return None


def _moving(facts: Facts) -> Mark | None:
    if facts.issuing() is not None:
        return Mark("work", "s-work", _("Renewing") if facts.leaves else _("Issuing"))
    if facts.deploying() is not None or any(place.status in _UNDER_WAY for place in facts.places):
        return Mark("work", "s-work", _("Deploying"))
    return None


def _seen(facts: Facts) -> Mark:
    if not facts.leaves:
        return Mark("unk", "s-unknown", _("Nothing issued"))
    if any(leaf.holder_id == EXTERNAL_HOLDER for leaf in facts.leaves):
        return Mark("unk", "s-unknown", _("Watched only"))
    if not facts.places:
        return Mark("unk", "s-none", _("Issued"))
    if all(place.status == DeploymentStatus.VERIFIED and _is_current(place) for place in facts.places):
        return Mark("ok", "s-ok", _("Proven"))
    return Mark("unk", "s-unknown", _("Not seen"))


def _is_current(place: Place) -> bool:
    return place.leaf_status == "current"


def truths(facts: Facts) -> tuple[Truth, Truth, Truth, Truth]:
    """Issued, deployed, served, trusted: always in this order."""
    return _issued(facts), _deployed(facts), _served(facts), _trusted(facts)


def spoken(four: Sequence[Truth]) -> str:
    """The four truths as one name."""
    if all(truth.kind == "ok" for truth in four):
        return _("all four proven")
    return ", ".join(f"{truth.name}: {truth.fact}" for truth in four)


def _issued(facts: Facts) -> Truth:
    name = _("Issued")
    if facts.certificate.status == CertificateStatus.REVOKED:
        return Truth("bad", "s-off", "I", name, _("revoked"))
    if facts.ended:
        return Truth("bad", "s-bad", "I", name, _("expired"))
    if facts.issuing() is not None:
        return Truth("work", "s-work", "I", name, _("a new one under way") if facts.leaves else _("under way"))
    if not facts.leaves:
        failed = bool(facts.certificate.failures)
        return Truth("bad" if failed else "unk", "s-bad" if failed else "s-unknown", "I", name, _("nothing yet"))
    return Truth("ok", "s-ok", "I", name, _("valid"))


def _of(number: int, places: Sequence[Place]) -> str:
    return ngettext("{number} of {all} place", "{number} of {all} places", len(places)).format(
        number=number, all=len(places)
    )


def _deployed(facts: Facts) -> Truth:
    name, places = _("Deployed"), facts.places
    if not places:
        return Truth("unk", "s-none", "D", name, _("to no place"))
    there = sum(place.status in _ON_DISK and _is_current(place) for place in places)
    fact = _of(there, places)
    if there == len(places):
        return Truth("ok", "s-ok", "D", name, fact)
    if any(place.status == DeploymentStatus.FAILED for place in places):
        return Truth("bad", "s-bad", "D", name, fact)
    if facts.deploying() is not None or any(place.status in _UNDER_WAY for place in places):
        return Truth("work", "s-work", "D", name, fact)
    if any(place.status in _ON_DISK for place in places):
        return Truth("warn", "s-warn", "D", name, fact)
    return Truth("unk", "s-unknown", "D", name, fact)


def _served(facts: Facts) -> Truth:
    name, places = _("Served"), facts.places
    if not places:
        return Truth("unk", "s-none", "S", name, _("by no place known"))
    seen = sum(place.status == DeploymentStatus.VERIFIED and _is_current(place) for place in places)
    fact = _of(seen, places)
    if any(place.status == DeploymentStatus.DRIFTED for place in places):
        return Truth("bad", "s-bad", "S", name, fact)
    if any(silent(place) for place in places):
        return Truth("unk", "s-unknown", "S", name, _("unknown, an agent is silent"))
    if seen == len(places):
        return Truth("ok", "s-ok", "S", name, fact)
    if any(place.status in _UNDER_WAY for place in places):
        return Truth("work", "s-work", "S", name, fact)
    return Truth("unk", "s-unknown", "S", name, fact)


def _trusted(facts: Facts) -> Truth:
    name, places = _("Trusted"), facts.places
    in_place = [place for place in places if place.status == DeploymentStatus.VERIFIED]
    if any(place.leaf_status == "revoked" for place in in_place):
        return Truth("bad", "s-bad", "T", name, _("a revoked version is served"))
    if any(place.leaf_not_after is not None and place.leaf_not_after <= facts.now for place in in_place):
        return Truth("bad", "s-bad", "T", name, _("an expired version is served"))
    if not places:
        return Truth("unk", "s-none", "T", name, _("nobody has looked"))
    if any(silent(place) for place in places):
        return Truth("unk", "s-unknown", "T", name, _("unknown, an agent is silent"))
    fact = _of(len(in_place), places)
    return Truth(
        "ok" if len(in_place) == len(places) else "unk",
        "s-ok" if len(in_place) == len(places) else "s-unknown",
        "T",
        name,
        fact,
    )

"""What the sample fleet is, from a seed: hosts, certificates, and when each was issued and renewed. Pure.

The same seed, size and moment of birth give the same fleet; keys, serial numbers and signatures are random as always.
Renewals fall when `policy.renewal` says that they do.
"""

from __future__ import annotations

import hashlib
import random
from datetime import datetime, timedelta
from enum import StrEnum

from msgspec import Struct

from certctl.core.certificate import CLIENT_HOLDER
from certctl.core.status import CertificateStatus
from certctl.policy.renewal import RenewalFacts, RenewalPolicyFacts, renew_at
from certctl.sample.people import ENVIRONMENTS, REGIONS, ROLES, TEAMS, TeamPlan, owner_id

HISTORY = timedelta(days=240)
DEFAULT_CERTIFICATES = 3000
FEWEST, MOST = 40, 200_000
_BACKDATED = timedelta(minutes=5)
_RENEWED_WITHIN_SECONDS = 90
# renewal of the web's certificates begins 60 to 63 days after their issue: then a rule of five days ago refuses it
_DENIED_AGO = timedelta(days=63.4)


class Kind(Struct, frozen=True):
    """A sort of certificate: profile, policy, life, how long ago the oldest began, and how it renews by itself."""

    profile_id: str
    policy_id: str
    life: timedelta
    oldest: timedelta
    policy: RenewalPolicyFacts
    algorithm: str = "ECDSA-P256"


class Fate(StrEnum):
    """What has become of a certificate."""

    SERVED = "served"
    CLIENT = "client"
    ENDED = "ended"
    DRIFTED = "drifted"
    UNDEPLOYED = "undeployed"
    REVOKED = "revoked"
    ARCHIVED = "archived"
    DENIED = "denied"


KINDS = {
    "web": Kind("prof-default", "rp-default", timedelta(days=90), HISTORY, RenewalPolicyFacts(window_fraction=1 / 3)),
    "short": Kind("prof-47", "rp-default", timedelta(days=47), timedelta(days=110), RenewalPolicyFacts(
        window_fraction=1 / 3)),
    "service": Kind("prof-service", "rp-standard", timedelta(days=365), HISTORY, RenewalPolicyFacts(window_days=30)),
    "rsa": Kind("prof-rsa", "rp-default", timedelta(days=90), HISTORY, RenewalPolicyFacts(window_fraction=1 / 3),
                "RSA-2048"),
    "client": Kind("prof-default", "rp-manual", timedelta(days=90), timedelta(days=89), RenewalPolicyFacts(
        auto_renew=False)),
}  # fmt: skip


class HostPlan(Struct, frozen=True, kw_only=True):
    """A host; `silent_since` and `retired_at` are None for one that is heard from."""

    id: str
    name: str
    address: str
    group: str
    team: TeamPlan
    target_type: str
    port: int
    enrolled_at: datetime
    silent_since: datetime | None = None
    retired_at: datetime | None = None


class PlacePlan(Struct, frozen=True):
    """One target: the host it stands on."""

    id: str
    name: str
    host: HostPlan


class Life(Struct, frozen=True, kw_only=True):
    """One certificate's life."""

    number: int
    id: str
    name: str
    sans: tuple[str, ...]
    team: TeamPlan
    owner_id: str
    environment: str
    kind: Kind
    places: tuple[PlacePlan, ...]
    born: datetime
    fate: Fate

    @property
    def mapped(self) -> tuple[PlacePlan, ...]:
        """Where it is to be: what was revoked or archived was taken from its places first, but for a few."""
        over = self.fate in {Fate.REVOKED, Fate.ARCHIVED}
        return () if over and self.number % 16 else self.places

    @property
    def ended_at(self) -> datetime:
        """When a person revoked or archived it, of one that was."""
        return self.born + timedelta(hours=5 + self.number % 40)

    @property
    def holders(self) -> tuple[str, ...]:
        """Who holds a key."""
        return tuple(dict.fromkeys(place.host.id for place in self.places)) or (CLIENT_HOLDER,)


class Cycle(Struct, frozen=True, kw_only=True):
    """One issuance to one holder. `replaces_id` is empty for the first."""

    life: Life
    holder_id: str
    begins: datetime
    version_id: str
    job_id: str
    replaces_id: str
    is_last: bool


class Waiting(Struct, frozen=True, kw_only=True):
    """A renewal that began and waits for a host that is silent."""

    life: Life
    holder_id: str
    begins: datetime
    job_id: str
    replaces_id: str


class Plan(Struct, frozen=True, kw_only=True):
    """The whole fleet, as of `now`."""

    seed: int
    now: datetime
    hosts: list[HostPlan]
    lives: list[Life]
    cycles: list[Cycle]
    waiting: list[Waiting]

    @property
    def begins(self) -> datetime:
        """When the installation was made."""
        return self.now - HISTORY - timedelta(days=20)


def make_plan(seed: int, certificates: int, now: datetime) -> Plan:
    """The fleet of a seed: so many certificates as of `now`."""
    hosts = _hosts(seed, certificates, now)
    lives = [_life(seed, number, certificates, hosts, now) for number in range(certificates)]
    cycles: list[Cycle] = []
    waiting: list[Waiting] = []
    for life in lives:
        for holder_id in life.holders:
            silent = next((p.host.silent_since for p in life.places if p.host.id == holder_id), None)
            done, stuck = _cycles(seed, life, holder_id, silent, now)
            cycles += done
            waiting += stuck
    cycles.sort(key=lambda cycle: (cycle.begins, cycle.version_id))
    return Plan(seed=seed, now=now, hosts=hosts, lives=lives, cycles=cycles, waiting=waiting)


def sample_id(prefix: str, moment: datetime, *parts: object) -> str:
    """An id as `core.ids.new_id` makes it, but the same each time: the moment's milliseconds, then a hash."""
    drawn = int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:10], "big")
    value = int(moment.timestamp() * 1000) << 80 | 0x7 << 76 | ((drawn >> 68) & 0xFFF) << 64
    value |= 0b10 << 62 | (drawn & ((1 << 62) - 1))
    digits = f"{value:032x}"
    return f"{prefix}-{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _hosts(seed: int, certificates: int, now: datetime) -> list[HostPlan]:
    lot = random.Random(f"{seed}/hosts")  # noqa: S311 - a sample is drawn, nothing is guarded
    count = max(12, min(certificates // 40, 1200))
    found: list[HostPlan] = []
    numbers: dict[str, int] = {}
    for at in range(count):
        team = lot.choices(TEAMS, [each.weight for each in TEAMS])[0]
        role, kind, port = lot.choice(
            [each for each in ROLES if each[0] == "mail"] if team.zone == "mail" else ROLES[:6]
        )
        stem = f"{team.zone}-{lot.choice(REGIONS)}-{role}"
        numbers[stem] = numbers.get(stem, 0) + 1
        enrolled = now - HISTORY - timedelta(days=lot.uniform(4, 14))
        # the first few are what an overview has to tell of: silent since hours and days, and retired
        silent = (
            now - timedelta(hours=(31, 620, 2.4, 160, 9, 47)[at % 6]) if at < max(2, min(count // 12, 12)) else None
        )
        retired = now - timedelta(days=lot.uniform(8, 60)) if at >= count - max(1, count // 30) else None
        found.append(
            HostPlan(
                id=f"agent-{stem}-{numbers[stem]:02}",
                name=f"{stem}-{numbers[stem]:02}",
                address=f"10.{20 + TEAMS.index(team)}.{at // 250}.{at % 250 + 2}",
                group=team.zone,
                team=team,
                target_type=kind,
                port=port,
                enrolled_at=enrolled,
                silent_since=silent if retired is None else None,
                retired_at=retired,
            )
        )
    return found


def _life(seed: int, number: int, count: int, hosts: list[HostPlan], now: datetime) -> Life:
    lot = random.Random(f"{seed}/life/{number}")  # noqa: S311 - a sample is drawn, nothing is guarded
    fate = _fate(lot)
    in_use = [host for host in hosts if host.retired_at is None]
    chosen = lot.choice(in_use)
    team = chosen.team
    client = fate in {Fate.CLIENT, Fate.ENDED}
    kind = KINDS["client"] if client else KINDS[lot.choices(("web", "short", "service", "rsa"), (56, 20, 14, 10))[0]]
    application, region = lot.choice(team.applications), chosen.name.split("-")[1]
    environment = lot.choice(ENVIRONMENTS)
    stage = {"production": "", "staging": ".staging", "test": ".test"}[environment]
    zone = "legacy.example.net" if fate is Fate.DENIED else f"{team.zone}.example.com"
    name = f"{application}-{number:0{len(str(count))}}.{region}{stage}.{zone}"
    alternative = (f"{application}{stage}-{number}.{zone}",) if lot.random() < 0.35 else ()
    wanted = [chosen]
    if not client and lot.random() < 0.1:
        same = [host for host in in_use if host.team is team and host is not chosen and host.silent_since is None]
        wanted += lot.sample(same, min(len(same), 1))
    places = () if client else tuple(_place(host, application, number) for host in wanted)
    if fate is Fate.DENIED:
        kind = KINDS["web"]
    oldest = kind.oldest if fate is not Fate.ENDED else timedelta(days=110)
    youngest = {Fate.ENDED: timedelta(days=91), Fate.SERVED: timedelta(minutes=40)}.get(fate, timedelta(days=2))
    born = now - (_DENIED_AGO if fate is Fate.DENIED else youngest + (oldest - youngest) * lot.random())
    if chosen.silent_since is not None:
        # a host that is silent had it before
        born = min(born, chosen.silent_since - timedelta(hours=1 + 600 * lot.random()))
    return Life(
        number=number,
        id=sample_id("cert", now - HISTORY, seed, "certificate", number),
        name=name,
        sans=(name, *alternative),
        team=team,
        owner_id=owner_id(lot.choice(team.people)) if lot.random() < 0.97 else "",
        environment=environment,
        kind=kind,
        places=places,
        born=born,
        fate=fate,
    )


def _fate(lot: random.Random) -> Fate:
    shares = {
        Fate.SERVED: 900, Fate.CLIENT: 62, Fate.ENDED: 1.2, Fate.DRIFTED: 1.5, Fate.UNDEPLOYED: 2.5,
        Fate.REVOKED: 16, Fate.ARCHIVED: 14, Fate.DENIED: 1.3,
    }  # fmt: skip
    return lot.choices(list(shares), list(shares.values()))[0]


def _place(host: HostPlan, application: str, number: int) -> PlacePlan:
    return PlacePlan(f"target-{host.name}-{application}-{number}", f"{host.name} {application}-{number}", host)


def _cycles(
    seed: int, life: Life, holder_id: str, silent_since: datetime | None, now: datetime
) -> tuple[list[Cycle], list[Waiting]]:
    lot = random.Random(f"{seed}/cycles/{life.number}/{holder_id}")  # noqa: S311 - a sample is drawn
    found: list[Cycle] = []
    begins, replaces = life.born, ""
    while True:
        parts = (seed, life.number, holder_id, len(found))
        job_id = sample_id("job", begins, "job", *parts)
        if silent_since is not None and begins > silent_since:
            stuck = Waiting(life=life, holder_id=holder_id, begins=begins, job_id=job_id, replaces_id=replaces)
            return _with_last(found), [stuck] if found else []
        version_id = sample_id("certver", begins, "version", *parts)
        found.append(
            Cycle(
                life=life, holder_id=holder_id, begins=begins, version_id=version_id, job_id=job_id,
                replaces_id=replaces, is_last=False,
            )
        )  # fmt: skip
        due = _due(life.kind, version_id, begins, now)
        # once revoked, archived or refused it is not renewed
        if due is None or life.fate in {Fate.REVOKED, Fate.ARCHIVED, Fate.DENIED}:
            return _with_last(found), []
        begins, replaces = due + timedelta(seconds=lot.uniform(2, _RENEWED_WITHIN_SECONDS)), version_id
        if begins >= now - timedelta(minutes=3):
            return _with_last(found), []


def _with_last(found: list[Cycle]) -> list[Cycle]:
    if not found:
        return found
    last = found[-1]
    replaced = Cycle(
        life=last.life, holder_id=last.holder_id, begins=last.begins, version_id=last.version_id, job_id=last.job_id,
        replaces_id=last.replaces_id, is_last=True,
    )  # fmt: skip
    return [*found[:-1], replaced]


def _due(kind: Kind, version_id: str, begins: datetime, now: datetime) -> datetime | None:
    """When a version that was issued at `begins` is renewed; None when nothing renews it."""
    if not kind.policy.auto_renew:
        return None
    facts = RenewalFacts(
        version_id=version_id,
        not_before=begins - _BACKDATED,
        not_after=begins + kind.life,
        issued_at=begins,
        policy=kind.policy,
        failures=0,
        last_failure_at=None,
        live_job=False,
        status=CertificateStatus.ACTIVE,
        now=now,
    )
    return renew_at(facts)

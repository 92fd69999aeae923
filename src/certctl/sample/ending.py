"""How the sample fleet stands in the end: what each certificate reads as, and what waits for people today.

All of it is decided by the lifecycle's own rules; approvals, refusals and imports go through its doors.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from certctl.control import targets
from certctl.core.catalogue import RenewalPolicy
from certctl.core.certificate import Version
from certctl.core.events import Notice
from certctl.core.notification import incident
from certctl.core.target import TargetRecord
from certctl.ledger import notify
from certctl.lifecycle import adopt, compliance, flow, renew, request, standing
from certctl.lifecycle.context import Context
from certctl.pki.bundle import read_pem
from certctl.pki.pem import certificate_pem
from certctl.sample import MARK, estate
from certctl.sample.people import TEAMS, owner_id
from certctl.sample.plan import Fate, Life, PlacePlan, Plan
from certctl.sample.target import config_of
from certctl.store import catalogue, sample

_AT_ONCE = 500
_CARD_DATA = ("pan-proxy", "tokenizer", "hsm-front", "issuer-link", "acquirer-link", "3ds", "vault-api")
_ELSEWHERE = (
    ("www", 21), ("partners", 63), ("status", 40), ("blog", 9), ("press", 74), ("jobs", 33), ("investors", 58),
    ("support", 5), ("docs", 80), ("events", 17), ("legal", 49), ("brand", 28), ("feedback", -4), ("survey", 61),
)  # fmt: skip


async def settle(ctx: Context, plan: Plan) -> None:
    """Write what each row says; who is not simply served is looked at as the scheduler would."""
    stuck = {one.life.id for one in plan.waiting}
    plain = [life for life in plan.lives if life.fate is Fate.SERVED and life.id not in stuck]
    for start in range(0, len(plain), _AT_ONCE):
        await _settle_plain(ctx, plain[start : start + _AT_ONCE])
    others = [life for life in plan.lives if life.fate is not Fate.SERVED or life.id in stuck]
    for start in range(0, len(others), 50):
        async with ctx.database.begin("sample.settle") as tx:
            for life in others[start : start + 50]:
                await standing.refresh(tx, ctx, life.id)


async def _settle_plain(ctx: Context, lives: list[Life]) -> None:
    now = ctx.now()
    ids = [life.id for life in lives]
    async with ctx.database.begin("sample.settle") as tx:
        known = await sample.certificates_of(tx, ctx.scope, ids)
        current: dict[str, dict[str, Version]] = defaultdict(dict)
        for version in await sample.current(tx, ctx.scope, ids):
            current[version.certificate_id][version.holder_id] = version
        policies = {
            each: await catalogue.get(tx, ctx.scope, RenewalPolicy, each)
            for each in {life.kind.policy_id for life in lives}
        }
        found = []
        for life in lives:
            if life.id not in known:
                continue
            versions = current[life.id]
            stands = standing.Standing(
                known[life.id], policies[life.kind.policy_id], versions, (), life.holders, (), {}
            )
            newest = max((version.created_at for version in versions.values()), default=life.born)
            last = {"last_renewal_at": newest, "last_deployment_at": newest + timedelta(seconds=4)}
            found.append({"row_id": life.id, **standing.written(stands, now), **last, "updated_at": newest})
        await sample.settle(tx, ctx.scope, found)


async def furnish(ctx: Context, plan: Plan) -> None:
    """What people find today."""
    await _ask_two_people(ctx, plan)
    # the scheduler's own look: what is due is asked for, and a rule that came later refuses a few
    while await renew.tick(ctx):
        pass
    await _import(ctx, plan)
    await _tell_of_the_silent(ctx, plan)
    while await compliance.tick(ctx):
        pass


async def _ask_two_people(ctx: Context, plan: Plan) -> None:
    hosts = [host for host in plan.hosts if host.silent_since is None and host.retired_at is None]
    payments = TEAMS[0]
    hosts = [host for host in hosts if host.team is payments] or hosts
    wanted = _CARD_DATA[: max(2, min(len(_CARD_DATA), len(plan.lives) // 400))]
    for at, application in enumerate(wanted):
        certificate_id, name = f"{MARK}-card-{application}", f"{application}.cards.pay.example.com"
        async with ctx.database.read() as tx:
            if await sample.is_named(tx, ctx.scope, name):
                continue
        place = PlacePlan(f"target-{certificate_id}", f"card data {application}", hosts[at % len(hosts)])
        if not await estate.has(ctx, TargetRecord, place.id):
            target = {
                "id": place.id, "name": place.name, "type": place.host.target_type, "agent_id": place.host.id,
                "config": config_of(place, name),
            }  # fmt: skip
            await targets.create(ctx, ctx.scope, estate.PEOPLE, target)
        asked = request.NewCertificate(
            id=certificate_id, name=name, common_name=name, environment="production", team_id=payments.id,
            owner_id=owner_id(payments.people[at % len(payments.people)]), target_ids=[place.id],
            certificate_profile_id=estate.TWO_PEOPLE, tags={"made-by": MARK},
        )  # fmt: skip
        _, jobs = await request.create(ctx, ctx.scope, estate.PEOPLE, asked)
        for job in jobs:
            await flow.drive(ctx, job.id)


async def _import(ctx: Context, plan: Plan) -> None:
    """Certificates that somebody found on web servers, of a CA that is not ours."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Example Public CA R7")])
    for at, (word, days) in enumerate(_ELSEWHERE):
        name = f"{word}.example.org"
        async with ctx.database.read() as tx:
            if await sample.is_named(tx, ctx.scope, name):
                continue
        der = _foreign(key, issuer, name, plan.now + timedelta(days=days))
        team = TEAMS[at % len(TEAMS)] if at % 3 == 0 else None
        found = adopt.Found(
            bundle=read_pem(certificate_pem(der)), name=name, team_id=team.id if team else "", tags={"made-by": MARK}
        )
        await adopt.adopt(ctx, ctx.scope, estate.PEOPLE, found)


def _foreign(key: ec.EllipticCurvePrivateKey, issuer: x509.Name, name: str, ends: datetime) -> bytes:
    leaf = ec.generate_private_key(ec.SECP256R1())
    built = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(leaf.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(ends - timedelta(days=90))
        .not_valid_after(ends)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name), x509.DNSName(f"www.{name}")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return built.public_bytes(Encoding.DER)


async def _tell_of_the_silent(ctx: Context, plan: Plan) -> None:
    async with ctx.database.begin("sample.silent") as tx:
        for host in plan.hosts:
            if host.silent_since is None:
                continue
            last = host.silent_since.isoformat()
            notice = Notice(
                type="AgentOffline",
                certificate_id="",
                severity="warning",
                message=f"agent {host.name} has not been heard from since {last}",
                dedup_key=f"agent-silent/{host.id}/{last}",
                incident=incident("agent", host.id),
            )
            await notify(tx, ctx.scope, ctx.now(), notice)

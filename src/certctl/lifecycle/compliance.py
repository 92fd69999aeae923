"""Holds certificates against the organisation's rules (`policy.rules`): before they are approved, and at rest.

A request is judged where it is written and where it is approved; the inventory is judged anew, batch by batch, when a
rule changes and once a day. What is broken has one row a (rule, certificate); what is cured is resolved, not deleted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from certctl.core.catalogue import PolicyRule, PolicyViolation, Profile, RenewalPolicy
from certctl.core.certificate import Certificate, RequestBody
from certctl.core.errors import Malformed, NotAllowed, NotFound, Violation
from certctl.core.events import Event, EventType, Notice
from certctl.core.ids import new_id
from certctl.core.names import Name, parse_name, parse_names
from certctl.core.notification import incident
from certctl.core.scope import Scope
from certctl.core.status import CertificateStatus
from certctl.ledger import append, notify
from certctl.lifecycle import incidents
from certctl.lifecycle.context import Context
from certctl.policy import renewal
from certctl.policy.approval import is_looser
from certctl.policy.rules.configs import BLOCKING, PolicySeverity, read_stored, read_type
from certctl.policy.rules.judge import Found, Rule, judge
from certctl.policy.rules.subject import Subject
from certctl.store import catalogue, policies
from certctl.store.policies import Signed
from certctl.store.tx import Tx

BATCH = 500
EVALUATE_EVERY = timedelta(days=1)
# what was revoked or put away breaks no rule any more
_AT_REST = frozenset({CertificateStatus.ARCHIVED, CertificateStatus.REVOKED})
_USUAL_LIFE = timedelta(days=90)


class Looked(Struct, frozen=True):
    """One batch of the inventory held against rules: how many were looked at, who breaks what, where to go on."""

    number: int
    found: tuple[tuple[Certificate, Found], ...]
    after: str


def readable(rule: PolicyRule) -> Rule:
    """A stored rule as it judges. Raises Malformed for a configuration that cannot be read."""
    kind = read_type(rule.type)
    return Rule(
        id=rule.id, name=rule.name, severity=PolicySeverity(rule.severity), config=read_stored(kind, rule.config)
    )


async def check_move(tx: Tx, ctx: Context, before: Certificate, after: Certificate) -> None:
    """NotAllowed when a certificate would leave a profile that wants people's word for one that wants fewer: whoever
    may edit it could issue alone what two were to decide about.
    """
    if after.certificate_profile_id == before.certificate_profile_id or before.is_unclaimed:
        return
    left = await catalogue.find(tx, ctx.scope, Profile, id=before.certificate_profile_id)
    entered = await catalogue.get(tx, ctx.scope, Profile, after.certificate_profile_id)
    if left is not None and is_looser(left, entered):
        raise NotAllowed(
            f"profile {left.id} wants the word of {left.approvals_required} more than who asks, and {entered.id} wants "
            "fewer or others: a certificate does not move there; let its profile be edited, which people decide about"
        )


async def rules_in_force(tx: Tx, ctx: Context) -> list[Rule]:
    """The enabled rules, by name; read once a transaction."""
    key = (ctx.scope, Rule)
    if key not in tx.first_seen:
        tx.first_seen[key] = [readable(rule) for rule in await policies.in_force(tx, ctx.scope)]
    found: list[Rule] = tx.first_seen[key]
    return found


def saw(tx: Tx, ctx: Context, found: Sequence[PolicyRule]) -> None:
    """The enabled rules that the caller read a moment ago are those that this transaction goes by."""
    tx.first_seen[ctx.scope, Rule] = [readable(rule) for rule in found]


async def judge_request(
    tx: Tx, ctx: Context, rules: Sequence[Rule], certificate: Certificate, body: RequestBody
) -> tuple[Found, ...]:
    """Every rule that a certificate would break if it were issued as `body` says."""
    if not rules:
        return ()
    try:
        policy = await catalogue.as_first_seen(tx, ctx.scope, RenewalPolicy, certificate.renewal_policy_id)
    except NotFound:
        policy = None
    validity = timedelta(seconds=body.validity_seconds)
    subject = Subject(
        certificate_id=certificate.id,
        issuer_id=body.issuer_id,
        names=tuple(dict.fromkeys((*_common_name(body.common_name), *parse_names(body.names)))),
        environment=certificate.environment,
        owner_id=certificate.owner_id,
        team_id=certificate.team_id,
        tags=certificate.tags,
        lead=_lead(policy, validity),
        validity=validity,
    )
    return judge(rules, subject)


def blocking(found: Sequence[Found], body: RequestBody) -> tuple[Violation, ...]:
    """What keeps a certificate from being issued: every violation of a rule that is no mere warning.

    Nothing keeps the control plane from the certificate of its own listener: whoever forbids that could never be told
    so, nor undo it. What it breaks is recorded and shown like anybody's.
    """
    if body.own_tls:
        return ()
    return tuple(each.violation for each in found if each.rule.severity in BLOCKING)


async def record(tx: Tx, ctx: Context, rules: Sequence[Rule], certificate: Certificate, found: Sequence[Found]) -> None:
    """Write what a certificate breaks of `rules` and resolve what it breaks no more; tell of what is new."""
    await record_all(tx, ctx, rules, [(certificate, found)])


async def record_all(
    tx: Tx, ctx: Context, rules: Sequence[Rule], found: Sequence[tuple[Certificate, Sequence[Found]]]
) -> None:
    """`record` for many certificates at once."""
    if not rules or not found:
        return
    named = {certificate.id: certificate for certificate, _ in found}
    each_found = [(certificate.id, each) for certificate, of_it in found for each in of_it]
    opened, cured = await _write(tx, ctx, rules, list(named), each_found)
    now = ctx.now()
    for row in opened:
        certificate = named[row.certificate_id]
        details = {"rule_id": row.rule_id, "severity": row.severity, "message": row.message}
        await append(tx, ctx.scope, now, _event(ctx, EventType.POLICY_VIOLATED, certificate.id, details))
        notice = Notice(
            type="PolicyViolation",
            certificate_id=certificate.id,
            severity="critical" if row.severity == PolicySeverity.CRITICAL else "warning",
            message=f"{certificate.name}: {row.message}",
            dedup_key=f"policy/{row.rule_id}/{certificate.id}/{now.isoformat()}",
            incident=incident("policy", row.id),
        )
        await notify(tx, ctx.scope, now, notice)
    for row in cured:
        certificate = named[row.certificate_id]
        await append(tx, ctx.scope, now, _event(ctx, EventType.POLICY_CURED, certificate.id, {"rule_id": row.rule_id}))
        await incidents.cured(tx, ctx, certificate, row.id, row.rule_id)


async def look_again(tx: Tx, ctx: Context, certificate: Certificate) -> None:
    """A certificate was changed: hold it against every rule as it is now."""
    rules = await rules_in_force(tx, ctx)
    if rules:
        found = await _judge_inventory(tx, ctx.scope, rules, [certificate], ctx.now())
        await record(tx, ctx, rules, certificate, [each for _, each in found])


async def tick(ctx: Context) -> int:
    """Hold one batch of the inventory against one rule that is due; returns how many were looked at, 0 when done.

    Where a scan stands is kept with the rule, so that whoever dies in the middle is followed by another.
    """
    async with ctx.database.read() as tx:
        if await policies.due(tx, ctx.scope, ctx.now() - EVALUATE_EVERY) is None:
            return 0
    async with ctx.database.begin("policies.scan") as tx:
        now = ctx.now()
        rule = await policies.due(tx, ctx.scope, now - EVALUATE_EVERY)
        if rule is None:
            return 0
        batch = await policies.inventory_after(tx, ctx.scope, rule.scan_after, BATCH)
        is_last = len(batch) < BATCH
        progress = (
            {"scan_after": "", "evaluated_version": rule.version, "evaluated_at": now}
            if is_last
            else {"scan_after": batch[-1].id}
        )
        if not await policies.move_scan(tx, ctx.scope, rule, **progress):
            return 1  # it was edited this moment: begin anew
        rules = [readable(rule)]
        found = await _judge_inventory(tx, ctx.scope, rules if rule.enabled else [], batch, now)
        told = [(certificate.id, each) for certificate, each in found]
        opened, cured = await _write(tx, ctx, rules, [certificate.id for certificate in batch], told)
        if opened or cured:
            details = {"looked_at": len(batch), "opened": len(opened), "resolved": len(cured)}
            event = Event(
                type=EventType.POLICY_EVALUATED,
                subject_type="policy",
                subject_id=rule.id,
                actor=ctx.actor,
                details=details,
            )
            await append(tx, ctx.scope, now, event)
        return max(len(batch), 1)


async def look(tx: Tx, scope: Scope, rule: Rule, after: str, now: datetime) -> Looked:
    """Hold one batch of what a scope may see against a rule; writes nothing."""
    batch = await policies.inventory_after(tx, scope, after, BATCH)
    found = await _judge_inventory(tx, scope, [rule], batch, now)
    return Looked(len(batch), tuple(found), batch[-1].id if len(batch) == BATCH else "")


async def _judge_inventory(
    tx: Tx, scope: Scope, rules: Sequence[Rule], batch: Sequence[Certificate], now: datetime
) -> list[tuple[Certificate, Found]]:
    ids = tuple({certificate.renewal_policy_id for certificate in batch})
    renewals = await catalogue.many(tx, Scope.whole(scope.tenant_id), RenewalPolicy, ids)
    signed = await policies.signed(tx, scope, [certificate.id for certificate in batch])
    return [
        (certificate, found)
        for certificate in batch
        if certificate.status not in _AT_REST
        for found in judge(rules, _subject(certificate, renewals, signed.get(certificate.id, ()), now))
    ]


async def _write(
    tx: Tx,
    ctx: Context,
    rules: Sequence[Rule],
    certificate_ids: Sequence[str],
    found: Sequence[tuple[str, Found]],
) -> tuple[list[PolicyViolation], list[PolicyViolation]]:
    """Bring the rows of these rules and certificates to what was found; returns what was opened and what is cured."""
    now = ctx.now()
    known = {
        (row.rule_id, row.certificate_id): row
        for row in await policies.open_violations(tx, ctx.scope, [rule.id for rule in rules], certificate_ids)
    }
    opened: list[PolicyViolation] = []
    changed: list[PolicyViolation] = []
    for certificate_id, each in found:
        before = known.pop((each.rule.id, certificate_id), None)
        row = PolicyViolation(
            tenant_id=ctx.scope.tenant_id,
            id=before.id if before else new_id("pv"),
            certificate_id=certificate_id,
            rule_id=each.rule.id,
            message=each.violation.message,
            severity=str(each.rule.severity),
            created_at=before.created_at if before else now,
            resolved_at=None,
        )
        if before is None:
            opened.append(row)
        elif (before.message, before.severity) != (row.message, row.severity):
            changed.append(row)
    await policies.write_violations(tx, ctx.scope, [*opened, *changed])
    cured = list(known.values())
    await policies.resolve(tx, ctx.scope, [row.id for row in cured], now)
    return opened, cured


def _subject(
    certificate: Certificate, renewals: Mapping[str, RenewalPolicy], signed: Sequence[Signed], now: datetime
) -> Subject:
    wished = timedelta(seconds=certificate.validity_seconds) if certificate.validity_seconds else None
    lifetime = max((one.not_after - one.not_before for one in signed), default=None)
    return Subject(
        certificate_id=certificate.id,
        issuer_id=certificate.issuer_id,
        names=_names(certificate),
        environment=certificate.environment,
        owner_id=certificate.owner_id,
        team_id=certificate.team_id,
        tags=certificate.tags,
        lead=_lead(renewals.get(certificate.renewal_policy_id), lifetime or wished or _USUAL_LIFE),
        validity=wished,
        lifetime=lifetime,
        remaining=min((one.not_after for one in signed), default=now) - now if signed else None,
    )


def _names(certificate: Certificate) -> tuple[Name, ...]:
    return tuple(dict.fromkeys((*_common_name(certificate.common_name), *parse_names(certificate.sans))))


def _common_name(text: str) -> tuple[Name, ...]:
    """A common name that is a name; a client's or person's words are none."""
    try:
        return (parse_name(text),) if text else ()
    except Malformed:
        return ()


def _lead(policy: RenewalPolicy | None, life: timedelta) -> timedelta | None:
    if policy is None or not policy.auto_renew:
        return None
    return renewal.window_of(policy.renewal_window_days, policy.renewal_window_fraction, life)


def _event(ctx: Context, kind: EventType, certificate_id: str, details: dict[str, str]) -> Event:
    return Event(
        type=kind, subject_type="certificate", subject_id=certificate_id, actor=ctx.actor, details=dict(details)
    )

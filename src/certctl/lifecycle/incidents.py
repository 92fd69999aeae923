"""What begins and what ends it: a certificate nears its end, then is renewed; a job fails, then one does not.

Each alert of an end is keyed by certificate, version and threshold, and sent whatever its renewal is doing. Whoever was
told that something began is told that it is over (`lifecycle.notify` finds the channels).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from certctl.core.catalogue import RenewalPolicy
from certctl.core.certificate import Certificate, VersionFacts
from certctl.core.events import Notice
from certctl.core.notification import EXPIRY, incident
from certctl.ledger import notify, notify_all
from certctl.lifecycle.context import Context
from certctl.policy import telling
from certctl.store import outbox
from certctl.store.tx import Tx


def next_threshold(policy: RenewalPolicy, version: VersionFacts, now: datetime) -> datetime | None:
    """When this version crosses the next of its policy's thresholds."""
    return telling.next_crossing(version.not_before, version.not_after, policy.alert_thresholds_days, now)


async def tell_ending(
    tx: Tx, ctx: Context, certificate: Certificate, policy: RenewalPolicy, versions: Sequence[VersionFacts]
) -> None:
    """Put an alert in the outbox for each version that has crossed a threshold nobody was told of yet."""
    await notify_all(tx, ctx.scope, ctx.now(), ending(certificate, policy, versions, ctx.now()))


def ending(
    certificate: Certificate, policy: RenewalPolicy, versions: Sequence[VersionFacts], now: datetime
) -> list[Notice]:
    """The alert for each version that has crossed a threshold: who was told of it before is not told again."""
    found: list[Notice] = []
    for version in versions:
        crossing = telling.crossed(
            version.not_before,
            version.not_after,
            policy.alert_thresholds_days,
            policy.alert_severity_map,
            now,
        )
        if crossing is None:
            continue
        of_host = f" (key of {version.holder_id})" if len(versions) > 1 else ""
        why = certificate.status_reason or "no renewal has come through yet"
        notice = Notice(
            type="ExpirationWarning",
            certificate_id=certificate.id,
            severity=crossing.severity,
            message=f"{certificate.name}{of_host} {_when(version.not_after, now)}: {why}",
            dedup_key=f"{EXPIRY}/{certificate.id}/{version.id}/{crossing.days}",
            incident=incident(EXPIRY, version.id),
        )
        found.append(notice)
    return found


def _when(not_after: datetime, now: datetime) -> str:
    left = not_after - now
    at = f"{not_after:%Y-%m-%d %H:%M} UTC"
    if left <= timedelta(0):
        return f"has expired on {at}"
    days = left // timedelta(days=1)
    return f"expires on {at}, in {days} day{'' if days == 1 else 's'}" if days else f"expires on {at}, within a day"


async def renewed(tx: Tx, ctx: Context, certificate: Certificate, holder_id: str, current: Collection[str]) -> None:
    """A version was recorded: what was told of versions that are current no longer is over, and so are failures."""
    over = {incident("renew", certificate.id), incident("issue", certificate.id, holder_id)}
    still = {incident(EXPIRY, version_id) for version_id in current}
    for each in await outbox.open_incidents(tx, ctx.scope, certificate.id):
        if each in over or (each.startswith(f"{EXPIRY}/") and each not in still):
            await _tell_over(tx, ctx, each, "ExpirationWarning", certificate.id, f"{certificate.name} was renewed")


async def deployed(tx: Tx, ctx: Context, certificate_id: str, target_id: str) -> None:
    """A deployment was seen served: what failed there before is over."""
    failed = incident("deploy", certificate_id, target_id)
    if failed in await outbox.open_incidents(tx, ctx.scope, certificate_id):
        await _tell_over(
            tx, ctx, failed, "DeploymentSuccess", certificate_id, f"{certificate_id} is served again on {target_id}"
        )


async def deployed_all(tx: Tx, ctx: Context, served: Sequence[tuple[str, str]]) -> None:
    """`deployed` for many, by the ids of certificate and target; nothing is read of whom nobody was told anything."""
    told = await outbox.told_about(tx, ctx.scope, [certificate_id for certificate_id, _ in served])
    for certificate_id, target_id in served:
        if certificate_id in told:
            await deployed(tx, ctx, certificate_id, target_id)


async def cured(tx: Tx, ctx: Context, certificate: Certificate, violation_id: str, rule_id: str) -> None:
    """A rule is kept again."""
    broken = incident("policy", violation_id)
    if broken in await outbox.open_incidents(tx, ctx.scope, certificate.id):
        message = f"{certificate.name} keeps {rule_id} again"
        await _tell_over(tx, ctx, broken, "PolicyViolation", certificate.id, message)


async def returned(tx: Tx, ctx: Context, agent_id: str, name: str) -> None:
    """An agent that had fallen silent is back."""
    silent = incident("agent", agent_id)
    if await outbox.was_told(tx, ctx.scope, silent):
        await _tell_over(tx, ctx, silent, "AgentOffline", "", f"agent {name} is back")


async def _tell_over(tx: Tx, ctx: Context, what: str, kind: str, certificate_id: str, message: str) -> None:
    now = ctx.now()
    notice = Notice(
        type=kind,
        certificate_id=certificate_id,
        severity="informational",
        message=message,
        dedup_key=f"over/{what}/{now.isoformat()}",
        incident=what,
        resolves=True,
    )
    await notify(tx, ctx.scope, now, notice)

"""The daily digest: how things stand, in one mail a day, however many replicas there are.

It is put in the outbox once a period, in the transaction that sees that none of this period is there; mail channels
deliver it like anything else. It is about the whole installation: must never go to anybody but those that the
configuration names.
"""

from __future__ import annotations

import html
from datetime import datetime, timedelta

from msgspec import Struct

from certctl.core.actor import Actor
from certctl.core.errors import Conflict
from certctl.core.events import Event, EventType, Notice
from certctl.core.ids import uuid7
from certctl.core.notification import DIGEST, NotificationStatus, Tier
from certctl.core.scope import Scope
from certctl.ledger import append, notify
from certctl.lifecycle import notify as delivery
from certctl.lifecycle.context import Context
from certctl.store import outbox, stats
from certctl.store.stats import Ending, Summary
from certctl.store.tx import Tx

_SHOWN = 25
_RED, _AMBER = timedelta(days=7), timedelta(days=14)


class Digest(Struct, frozen=True):
    """One digest, as text and as a page."""

    subject: str
    text: str
    html: str


async def preview(ctx: Context, scope: Scope) -> Digest:
    """What it would say this moment."""
    async with ctx.database.read() as tx:
        return await _written(tx, scope, ctx.now())


async def send_due(ctx: Context, every: timedelta) -> int:
    """The digest of this period, unless it is in the outbox already; returns how many were put there."""
    now = ctx.now()
    async with ctx.database.begin("digest.send") as tx:
        # half a period: a tick that was taken again after a death finds what the dead one wrote
        if await outbox.newest_of_type(tx, ctx.scope, DIGEST, now - every / 2) is not None:
            return 0
        return int(await _put(tx, ctx, f"digest/{int(now.timestamp() // every.total_seconds())}"))


async def send_now(ctx: Context, actor: Actor) -> str:
    """Send one at once, whoever asks; `sent`, or `queued` when the mail server is away. Conflict without a channel."""
    now = ctx.now()
    key = f"digest/asked/{uuid7()}"
    async with ctx.database.begin("digest.send") as tx:
        channels = [each for each in await outbox.channels(tx, ctx.scope) if each.type == "Email" and each.enabled]
        if not channels:
            raise Conflict("there is no channel of type Email: a digest has no way to go")
        await _put(tx, ctx, key)
        event = Event(
            type=EventType.DIGEST_SENT, subject_type="digest", subject_id=key, actor=actor, details={"asked": True}
        )
        await append(tx, ctx.scope, now, event)
    for _ in range(2):  # routed, then sent
        async with ctx.database.read() as tx:
            waiting = [row.id for row in await outbox.by_key(tx, ctx.scope, key) if row.status in outbox.WAITING]
        await delivery.drive(ctx, waiting)
    async with ctx.database.read() as tx:
        rows = await outbox.by_key(tx, ctx.scope, key)
    if all(row.status == NotificationStatus.SKIPPED for row in rows):
        raise Conflict("; ".join(sorted({row.last_error for row in rows})))
    return "sent" if all(row.status == NotificationStatus.SENT for row in rows) else "queued"


async def _put(tx: Tx, ctx: Context, key: str) -> bool:
    now = ctx.now()
    written = await _written(tx, ctx.scope, now)
    notice = Notice(
        type=DIGEST,
        certificate_id="",
        severity=Tier.INFORMATIONAL,
        message=written.text,
        subject=written.subject,
        html=written.html,
        dedup_key=key,
    )
    return await notify(tx, ctx.scope, now, notice)


async def _written(tx: Tx, scope: Scope, now: datetime) -> Digest:
    summary = await stats.summary(tx, scope, now)
    ending = await stats.soonest(tx, scope, now + stats.EXPIRES_SOON, _SHOWN)
    subject = (
        f"certctl: {summary.expired_certificates} expired, {summary.expiring_certificates} expire within 30 days, "
        f"{summary.failed_jobs} failed jobs"
    )
    facts = _facts(summary)
    lines = [f"{name}: {value}" for name, value in facts]
    rows = [f"{_left(each, now):>12}  {each.expires_at:%Y-%m-%d %H:%M} UTC  {each.name} ({each.id})" for each in ending]
    text = "\n".join(
        [f"{now:%Y-%m-%d %H:%M} UTC", "", *lines, "", "Next to end:", *(rows or ["nothing within 30 days"])]
    )
    return Digest(subject, text, _page(subject, facts, ending, now))


def _facts(summary: Summary) -> list[tuple[str, int]]:
    return [
        ("Certificates", summary.total_certificates),
        ("Expire within 30 days", summary.expiring_certificates),
        ("Expired", summary.expired_certificates),
        ("Revoked", summary.revoked_certificates),
        ("Agents online", summary.active_agents),
        ("Agents offline", summary.offline_agents),
        ("Jobs under way", summary.pending_jobs + summary.running_jobs),
        ("Jobs that wait for approval", summary.awaiting_approval_jobs),
        ("Jobs failed", summary.failed_jobs),
        ("Jobs completed", summary.complete_jobs),
        ("Notifications given up", summary.notifications_dead),
    ]


def _left(each: Ending, now: datetime) -> str:
    left = each.expires_at - now
    if left <= timedelta(0):
        return "expired"
    days = left // timedelta(days=1)
    return f"{days} day{'' if days == 1 else 's'}" if days else "today"


def _colour(each: Ending, now: datetime) -> str:
    left = each.expires_at - now
    return "#b42318" if left <= _RED else "#b54708" if left <= _AMBER else "#1d2939"


def _page(subject: str, facts: list[tuple[str, int]], ending: list[Ending], now: datetime) -> str:
    """A page without anything from elsewhere; every text is escaped."""
    counted = "".join(f"<tr><td>{name}</td><td align=right>{value}</td></tr>" for name, value in facts)
    soon = "".join(
        f'<tr><td style="color:{_colour(each, now)}">{_left(each, now)}</td>'
        f"<td>{each.expires_at:%Y-%m-%d %H:%M} UTC</td><td>{html.escape(each.name)}</td></tr>"
        for each in ending
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>certctl</title></head>'
        f'<body style="font-family:sans-serif;color:#1d2939"><h1 style="font-size:18px">{html.escape(subject)}</h1>'
        f'<p>{now:%Y-%m-%d %H:%M} UTC</p><table cellpadding="4">{counted}</table>'
        f'<h2 style="font-size:16px">Next to end</h2><table cellpadding="4">{soon}</table></body></html>'
    )

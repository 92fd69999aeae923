"""notify: the outbox goes to its channels. What waits is routed to the channels that take it, then sent, each under a
lease; what fails is tried again with growing patience, and given up in the end.

A killed process loses nothing: its rows come up again when their lease lapses. What it had sent and not yet written
down is sent again under the same id and incident, by which the other side can tell. Must never hold a transaction open
while something is sent, nor write a secret into a row.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import structlog
from msgspec import Struct, structs

from certctl.connectors.base.notifier import Addresses, Message, Notifier, one_line
from certctl.core.actor import SYSTEM
from certctl.core.catalogue import Owner, RenewalPolicy
from certctl.core.certificate import Certificate
from certctl.core.errors import CertctlError, ConnectorError, Temporary
from certctl.core.events import Event, EventType
from certctl.core.ids import uuid7
from certctl.core.notification import DIGEST, EXPIRY, RESOLVE, Channel, Notification, NotificationStatus
from certctl.ledger import append
from certctl.lifecycle.context import Context
from certctl.policy import telling
from certctl.store import catalogue, certificates, outbox
from certctl.store.tx import Tx
from certctl.telemetry import metrics, points

log = structlog.get_logger(__name__)

_BATCH = 200
# one commit for so many that were sent at once: what a kill sends twice is at most that much
_AT_ONCE = 10
# no send begins so many seconds after the claim: a slow channel does not hold up what came after it for long
_BEGIN_WITHIN = 10.0
# what routing writes of a row
_PLACE = ("channel", "channel_id", "recipient", "status", "next_retry_at", "last_error")


class Outcome(Struct, frozen=True):
    """What became of one try."""

    row: Notification
    remark: str = ""
    error: CertctlError | None = None


async def tick(ctx: Context) -> int:
    """Route and send what is due; returns how many rows were taken. Call again while it is not 0."""
    async with ctx.database.read() as tx:
        if not await outbox.has_due(tx, ctx.scope, ctx.now()):
            return 0
    return await _work(ctx, _BATCH)


async def drive(ctx: Context, ids: Sequence[str]) -> None:
    """Send these at once, for whoever waits for them; what fails is tried again by the worker."""
    await _work(ctx, len(ids), ids)


async def _work(ctx: Context, limit: int, ids: Sequence[str] = ()) -> int:
    token = f"{ctx.owner}/{uuid7()}"
    async with ctx.database.begin("notify.claim") as tx:
        now = ctx.now()
        taken = await outbox.claim(tx, ctx.scope, token, now, now + ctx.patience.lease, limit, ids)
    keeper = asyncio.create_task(_keep_lease(ctx, token), name="notify-lease")
    try:
        await _handle(ctx, token, taken)
    finally:
        keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeper
    return len(taken)


async def _keep_lease(ctx: Context, token: str) -> None:
    while True:
        await asyncio.sleep(ctx.patience.lease.total_seconds() / 3)
        try:
            async with ctx.database.begin("notify.lease") as tx:
                await outbox.keep(tx, ctx.scope, token, ctx.now() + ctx.patience.lease)
        except CertctlError as error:
            log.warning("notify_lease_not_kept", error=error)


async def _handle(ctx: Context, token: str, taken: Sequence[Notification]) -> None:
    begun = asyncio.get_running_loop().time()
    unrouted = [row for row in taken if not row.channel_id]
    if unrouted:
        async with ctx.database.begin("notify.route") as tx:
            await _route_all(tx, ctx, token, unrouted)
    ways: dict[str, list[Notification]] = defaultdict(list)
    for row in taken:
        if row.channel_id:
            ways[row.channel_id].append(row)
    if ways:
        async with ctx.database.read() as tx:
            known = {channel.id: channel for channel in await outbox.channels(tx, ctx.scope)}
        await asyncio.gather(
            *(_send_all(ctx, token, known.get(channel_id), rows, begun) for channel_id, rows in ways.items())
        )


class _Known(Struct, frozen=True):
    """What routing goes by, read once a batch."""

    channels: list[Channel]
    certificates: Mapping[str, Certificate]
    policies: Mapping[str, RenewalPolicy]
    owners: Mapping[str, Owner]
    # channels that write to people, opened once a batch; None for one that does not, or cannot be opened
    people: dict[str, Addresses | None]


async def _route_all(tx: Tx, ctx: Context, token: str, rows: Sequence[Notification]) -> None:
    ids = tuple({row.certificate_id for row in rows if row.certificate_id})
    found = await certificates.certificates_by_id(tx, ctx.scope, ids)
    policies = tuple({each.renewal_policy_id for each in found.values() if each.renewal_policy_id})
    owners = tuple({each.owner_id for each in found.values() if each.owner_id})
    known = _Known(
        await outbox.channels(tx, ctx.scope),
        found,
        await catalogue.many(tx, ctx.scope, RenewalPolicy, policies),
        await catalogue.many(tx, ctx.scope, Owner, owners),
        {},
    )
    # in their order: what resolves takes back what waits of before it, and nothing of after it
    for resolves, run in itertools.groupby(rows, key=lambda row: row.action == RESOLVE):
        if resolves:
            for row in run:
                await _route_resolving(tx, ctx, token, row)
        else:
            await _place_all(tx, ctx, token, [(row, _placed_on(ctx, row, known)) for row in run])


def _placed_on(ctx: Context, row: Notification, known: _Known) -> list[Notification]:
    """The row as it goes each of its ways."""
    certificate = known.certificates.get(row.certificate_id)
    policy = known.policies.get(certificate.renewal_policy_id) if certificate else None
    owner = known.owners.get(certificate.owner_id) if certificate else None
    named = policy.alert_channels if policy else {}
    ways = (
        telling.mail_routes(known.channels)
        if row.type == DIGEST
        else telling.routes(row.severity, named, known.channels)
    )
    now = ctx.now()
    return [_placed(ctx, row, way, owner.email if owner else "", now, known.people) for way in ways]


def _placed(
    ctx: Context,
    row: Notification,
    way: telling.Route,
    owner: str,
    now: datetime,
    people: dict[str, Addresses | None],
) -> Notification:
    """The row as it goes this way."""
    if way.channel is None:
        return structs.replace(row, channel=way.kind, **_skipped(way.reason))
    recipients: tuple[str, ...] = ()
    if way.channel.id not in people:
        people[way.channel.id] = _addresses(ctx, way.channel)
    if (writes := people[way.channel.id]) is not None:
        recipients = ctx.digest_recipients if row.type == DIGEST else ()
        recipients = recipients or writes.to(owner)
        if not recipients:
            why = f"{way.channel.name} names no recipients, and there is no owner's address"
            return structs.replace(row, channel=way.kind, channel_id=way.channel.id, **_skipped(why))
    return structs.replace(
        row,
        channel=way.kind,
        channel_id=way.channel.id,
        recipient=", ".join(recipients),
        status=NotificationStatus.PENDING,
        next_retry_at=now,
    )


def _addresses(ctx: Context, channel: Channel) -> Addresses | None:
    try:
        notifier = ctx.open_notifier(channel)
    except CertctlError as error:  # a configuration that cannot be read fails when it is sent, and says why
        log.warning("channel_cannot_be_opened", channel=channel.id, error=error)
        return None
    return notifier if isinstance(notifier, Addresses) else None


def _skipped(reason: str) -> dict[str, object]:
    return {"status": NotificationStatus.SKIPPED, "next_retry_at": None, "last_error": reason}


async def _place_all(
    tx: Tx, ctx: Context, token: str, placed: Sequence[tuple[Notification, Sequence[Notification]]]
) -> None:
    """Each row itself becomes its first way; the others are rows of their own, each once by its key.

    Rows that go the same way are written together: a burst of alerts is a few statements, not one a row.
    """
    alike: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for row, (first, *_) in placed:
        alike[tuple(getattr(first, name) for name in _PLACE)].append(row.id)
    ours: set[str] = set()
    for values, ids in alike.items():
        ours |= await outbox.settle_alike(tx, ctx.scope, ids, token, **dict(zip(_PLACE, values, strict=True)))
    await outbox.add(tx, ctx.scope, [copy for row, ways in placed if row.id in ours for copy in _others(row, ways)])


def _others(row: Notification, ways: Sequence[Notification]) -> list[Notification]:
    return [
        structs.replace(
            each,
            id=f"notif-{uuid7()}",
            dedup_key=f"{row.dedup_key}#{each.channel_id or each.channel}",
            lease_owner="",
        )
        for each in ways[1:]
    ]


async def _route_resolving(tx: Tx, ctx: Context, token: str, row: Notification) -> None:
    """Whoever was told is told that it is over; what waits to be told goes nowhere."""
    now = ctx.now()
    why = "it was over before it was sent"
    await outbox.withdraw_unrouted(tx, ctx.scope, row.incident, why)
    placed: dict[str, Notification] = {}
    for told in await outbox.told_of(tx, ctx.scope, row.incident):
        at = now
        if told.status in outbox.WAITING:
            withdrawn = await outbox.withdraw(tx, ctx.scope, told.id, why)
            if withdrawn and not told.retry_count:
                continue
            if not withdrawn and told.next_retry_at is not None:
                at = told.next_retry_at  # it is being sent: after that
        elif told.status == NotificationStatus.SKIPPED:
            continue
        before = placed.get(told.channel_id)
        placed[told.channel_id] = structs.replace(
            row,
            channel=told.channel,
            channel_id=told.channel_id,
            recipient=told.recipient,
            severity=told.severity,
            status=NotificationStatus.PENDING,
            next_retry_at=max(at, before.next_retry_at) if before and before.next_retry_at else at,
        )
    if not placed:
        placed[""] = structs.replace(row, **_skipped("nobody was told of it"))
    await _place_all(tx, ctx, token, [(row, list(placed.values()))])


async def _send_all(
    ctx: Context, token: str, channel: Channel | None, rows: Sequence[Notification], begun: float
) -> None:
    """Send to one channel, some at once; one that nobody can reach is not asked for each of them."""
    if channel is None or not channel.enabled:
        why = "its channel was deleted" if channel is None else f"{channel.name} is disabled"
        async with ctx.database.begin("notify.skip") as tx:
            for row in rows:
                await outbox.settle(tx, ctx.scope, row.id, token, **_skipped(why))
        return
    notifier: Notifier | None = None
    left = list(rows)
    try:
        while left and asyncio.get_running_loop().time() - begun < _BEGIN_WITHIN:
            chunk, left = left[:_AT_ONCE], left[_AT_ONCE:]
            try:
                notifier = notifier or ctx.open_notifier(channel)
                done = await asyncio.gather(*(_send(notifier, row) for row in chunk))
            except CertctlError as error:
                done = [Outcome(row, error=error) for row in chunk]
            points.reach("notify.sent")
            shared = done[0].error if all(isinstance(each.error, Temporary) for each in done) else None
            async with ctx.database.begin("notify.settle") as tx:
                await _settle_sent(tx, ctx, token, [each for each in done if each.error is None])
                for each in done:
                    if each.error is not None:
                        await _settle_failed(tx, ctx, token, each.row, each.error)
                if shared is not None:
                    await _put_off(tx, ctx, token, left, done[0].row, shared)
            if shared is not None:
                left = []
    finally:
        if notifier is not None:
            await notifier.close()
    if left:
        async with ctx.database.begin("notify.release") as tx:
            for row in left:
                await outbox.settle(tx, ctx.scope, row.id, token, next_retry_at=ctx.now())


async def _send(notifier: Notifier, row: Notification) -> Outcome:
    try:
        return Outcome(row, remark=await notifier.send(message_of(row)))
    except CertctlError as error:
        return Outcome(row, error=error)
    except Exception:
        log.exception("notification_failed", notification=row.id)
        return Outcome(row, error=ConnectorError("the channel failed in a way that nobody foresaw; see the log"))


def message_of(row: Notification) -> Message:
    """What the channel gets to say."""
    resolves = row.action == RESOLVE
    headline = row.subject or one_line(row.message, 200)
    about = [f"Certificate: {row.certificate_id}"] if row.certificate_id else []
    return Message(
        id=row.id,
        type=row.type,
        severity=row.severity,
        subject=headline if row.html else f"[{'resolved' if resolves else row.severity}] {headline}",
        text="\n".join([row.message, "", *about, f"Notification: {row.id} ({row.type})"]),
        html=row.html,
        created_at=row.created_at,
        certificate_id=row.certificate_id,
        incident=row.incident,
        resolves=resolves,
        recipients=tuple(each for each in row.recipient.split(", ") if each),
    )


async def _settle_sent(tx: Tx, ctx: Context, token: str, done: Sequence[Outcome]) -> None:
    """What arrived, in one statement for all that the other side remarked the same about."""
    remarks: dict[str, dict[str, Notification]] = defaultdict(dict)
    for each in done:
        remarks[each.remark][each.row.id] = each.row
    for remark, rows in remarks.items():
        sent = {"status": NotificationStatus.SENT, "sent_at": ctx.now(), "next_retry_at": None, "last_error": remark}
        for sent_id in await outbox.settle_alike(tx, ctx.scope, list(rows), token, **sent):
            _count(tx, ctx, rows[sent_id], "success")


async def _settle_failed(tx: Tx, ctx: Context, token: str, row: Notification, error: CertctlError) -> None:
    now, failures = ctx.now(), row.retry_count + 1
    if _is_over(row, error, failures, now):
        dead = {"status": NotificationStatus.DEAD, "next_retry_at": None}
        if await outbox.settle(tx, ctx.scope, row.id, token, retry_count=failures, last_error=error.message, **dead):
            await _bury(tx, ctx, row, error)
        return
    asked = error.retry_after if isinstance(error, Temporary) else None
    if await outbox.settle(
        tx,
        ctx.scope,
        row.id,
        token,
        status=NotificationStatus.FAILED,
        retry_count=failures,
        last_error=error.message,
        next_retry_at=now + telling.wait_after(failures, ctx.patience.notification_retry, asked),
    ):
        log.warning("notification_not_sent", notification=row.id, channel=row.channel_id, error=error)
        _count(tx, ctx, row, "failure")


def _is_over(row: Notification, error: CertctlError, failures: int, now: datetime) -> bool:
    if isinstance(error, Temporary):
        return now - (row.queued_at or row.created_at) >= telling.GIVEN_UP_AFTER
    return failures >= telling.MOST_REFUSALS


async def _bury(tx: Tx, ctx: Context, row: Notification, error: CertctlError) -> None:
    tx.count(ctx.scope.tenant_id, metrics.NOTIFICATION_DEAD)
    _count(tx, ctx, row, "failure")
    event = Event(
        type=EventType.NOTIFICATION_DEAD,
        subject_type="notification",
        subject_id=row.id,
        actor=SYSTEM,
        details={"channel_id": row.channel_id, "type": row.type, "error": error.message},
    )
    await append(tx, ctx.scope, ctx.now(), event)


async def _put_off(
    tx: Tx, ctx: Context, token: str, rows: Sequence[Notification], tried: Notification, error: CertctlError
) -> None:
    """Nobody is there: the rest waits as long as those that were tried; it was not tried, and no try is counted."""
    asked = error.retry_after if isinstance(error, Temporary) else None
    again = ctx.now() + telling.wait_after(tried.retry_count + 1, ctx.patience.notification_retry, asked)
    for row in rows:
        if _is_over(row, error, 0, ctx.now()):
            await _settle_failed(tx, ctx, token, row, error)
        else:
            await outbox.settle(tx, ctx.scope, row.id, token, next_retry_at=again, last_error=error.message)


def _count(tx: Tx, ctx: Context, row: Notification, result: str) -> None:
    if row.dedup_key.startswith(f"{EXPIRY}/") and row.action != RESOLVE:
        days = row.dedup_key.partition("#")[0].rpartition("/")[2]
        tx.count(ctx.scope.tenant_id, metrics.EXPIRY_ALERTS, channel=row.channel, threshold=days, result=result)

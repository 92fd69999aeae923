"""/notifications: what people were told, or should have been, what became of it and why; sent again by one click."""

from __future__ import annotations

from collections.abc import Sequence

from litestar import Response, get, post
from litestar.params import FromPath

from certctl.control import notifications
from certctl.core.errors import Conflict, NotFound
from certctl.core.notification import RESOLVE, Channel, Notification, NotificationStatus, Tier
from certctl.store import truths
from certctl.store.act_listings import NOTIFICATIONS
from certctl.store.tx import Tx
from certctl.web import tables
from certctl.web.acts import act, going
from certctl.web.configure.sides import tabs_of
from certctl.web.guard import needs
from certctl.web.marks import Mark
from certctl.web.pages import render
from certctl.web.request import Fields, WebRequest
from certctl.web.words import gettext as _

PATH = "/notifications"
_AT = f"{PATH}/{{notification_id:str}}"
# what did not arrive, and is not being sent by itself
_STUCK = frozenset({NotificationStatus.DEAD, NotificationStatus.SKIPPED, NotificationStatus.FAILED})
_MOST = tables.SIZE


def mark_of(row: Notification) -> Mark:
    """What became of it."""
    s = NotificationStatus
    return {
        s.SENT: Mark("ok", "s-ok", _("Sent")),
        s.READ: Mark("ok", "s-ok", _("Read")),
        s.PENDING: Mark("work", "s-work", _("On its way")),
        s.FAILED: Mark("warn", "s-due", _("Tried again")),
        s.DEAD: Mark("bad", "s-bad", _("Given up")),
        s.SKIPPED: Mark("unk", "s-none", _("Skipped")),
    }[NotificationStatus(row.status)]


def severity_of(row: Notification) -> str:
    """How much it matters, in a word."""
    return {
        Tier.INFORMATIONAL: _("for information"),
        Tier.WARNING: _("warning"),
        Tier.CRITICAL: _("critical"),
    }.get(Tier(row.severity), row.severity) + (f", {_('it is over')}" if row.action == RESOLVE else "")


def may_go_again(row: Notification) -> bool:
    """Whether it did not arrive and nobody holds it this moment."""
    return NotificationStatus(row.status) in _STUCK and not row.lease_owner


@get(PATH, opt=needs("notification.read"))
async def show_all(request: WebRequest) -> Response[str]:
    """The latest first; tabs lead to what did not arrive."""
    async with request.ctx.database.read() as tx:
        table = await tables.read(request, tx, NOTIFICATIONS, request.visible)
        certificates, channels = await _named(request, tx, table.rows)
    tabs = [
        (_("All"), ""),
        (_("Given up"), str(NotificationStatus.DEAD)),
        (_("Tried again"), str(NotificationStatus.FAILED)),
        (_("Skipped"), str(NotificationStatus.SKIPPED)),
        (_("On their way"), str(NotificationStatus.PENDING)),
        (_("Sent"), f"{NotificationStatus.SENT},{NotificationStatus.READ}"),
    ]
    return await render(
        request,
        "notifications.html",
        table=table,
        beside=tabs_of(request, PATH),
        tabs=[(text, table.to(status=value), table.chosen("status") == value) for text, value in tabs],
        marks={row.id: mark_of(row) for row in table.rows},
        severities={row.id: severity_of(row) for row in table.rows},
        again={row.id for row in table.rows if may_go_again(row)} if request.may("notification.edit") else set(),
        certificates=certificates,
        channels=channels,
    )


async def _named(request: WebRequest, tx: Tx, rows: Sequence[Notification]) -> tuple[dict[str, str], dict[str, str]]:
    certificates = await truths.named_certificates(
        tx, request.seen_by("cert.read"), [row.certificate_id for row in rows if row.certificate_id]
    )
    channels = await truths.named(tx, request.visible, Channel, [row.channel_id for row in rows if row.channel_id])
    return certificates, channels


@get(_AT, opt=needs("notification.read"))
async def show(request: WebRequest, notification_id: FromPath[str]) -> Response[str]:
    """One, whole: what it says, to whom, how often it was tried and what went wrong."""
    async with request.ctx.database.read() as tx:
        row = await notifications.get(tx, request.visible, notification_id)
        certificates, channels = await _named(request, tx, [row])
    return await render(
        request,
        "notification.html",
        row=row,
        mark=mark_of(row),
        severity=severity_of(row),
        certificate=certificates.get(row.certificate_id, row.certificate_id),
        channel=channels.get(row.channel_id, ""),
        again=may_go_again(row) and request.may("notification.edit"),
        live=NotificationStatus(row.status) in {NotificationStatus.PENDING, NotificationStatus.FAILED},
    )


@post(f"{_AT}/read", opt=needs("notification.read"))
async def read(request: WebRequest, notification_id: FromPath[str]) -> Response[str]:
    """Somebody says that it was read."""

    async def doing(_fields: Fields) -> str:
        await notifications.mark_read(request.ctx, request.visible, notification_id)
        return going(f"{PATH}/{notification_id}", "read")

    return await act(request, doing)


@post(f"{_AT}/requeue", opt=needs("notification.edit"))
async def requeue(request: WebRequest, notification_id: FromPath[str]) -> Response[str]:
    """Tried again from the beginning; what arrived meanwhile is not sent twice (409)."""

    async def doing(_fields: Fields) -> str:
        await notifications.requeue(request.ctx, request.visible, request.actor, notification_id)
        return going(f"{PATH}/{notification_id}", "requeued")

    return await act(request, doing)


@post(f"{PATH}/requeue", opt=needs("notification.edit"))
async def requeue_many(request: WebRequest) -> Response[str]:
    """Those that stood on the page: what arrived or went meanwhile is passed over."""

    async def doing(fields: Fields) -> str:
        for notification_id in fields.every("id")[:_MOST]:
            try:
                await notifications.requeue(request.ctx, request.visible, request.actor, notification_id)
            except (Conflict, NotFound):
                continue
        return going(PATH, "requeued")

    return await act(request, doing)


HANDLERS = (show_all, show, read, requeue, requeue_many)

"""/api/v1/notifications: what people were told, or are to be told, and what became of it."""

from __future__ import annotations

from litestar import get, post
from litestar.params import FromPath

from certctl.api.guard import needs
from certctl.api.lists import answer_list, listed
from certctl.api.request import ApiRequest
from certctl.api.shown import shown
from certctl.client.models.notifications import NotificationView
from certctl.client.models.page import PageOf, StatusAnswer
from certctl.control import notifications
from certctl.core.notification import Notification
from certctl.store.act_listings import NOTIFICATIONS


def _view(row: Notification) -> NotificationView:
    return shown(NotificationView, row, error=row.last_error)


@get("/notifications", opt=needs("notification.read") | listed(NOTIFICATIONS), summary="List notifications")
async def list_notifications(request: ApiRequest) -> PageOf[NotificationView]:
    """The latest first."""
    return await answer_list(request, NotificationView, show=_view)


@get("/notifications/{notification_id:str}", opt=needs("notification.read"), summary="One notification")
async def show_notification(request: ApiRequest, notification_id: FromPath[str]) -> NotificationView:
    """One notification."""
    async with request.ctx.database.read() as tx:
        return _view(await notifications.get(tx, request.visible, notification_id))


@post(
    "/notifications/{notification_id:str}/read",
    status_code=200,
    opt=needs("notification.read"),
    summary="Mark a notification as read",
)
async def read_notification(request: ApiRequest, notification_id: FromPath[str]) -> StatusAnswer:
    """What was sent reads `read` from now on; what was not sent keeps its status."""
    await notifications.mark_read(request.ctx, request.visible, notification_id)
    return StatusAnswer(status="marked_as_read")


@post(
    "/notifications/{notification_id:str}/requeue",
    status_code=200,
    opt=needs("notification.edit"),
    summary="Send a notification again",
)
async def requeue_notification(request: ApiRequest, notification_id: FromPath[str]) -> StatusAnswer:
    """For what was given up, skipped, or waits for its next try; what arrived is not sent again (409)."""
    await notifications.requeue(request.ctx, request.visible, request.actor, notification_id)
    return StatusAnswer(status="requeued")


HANDLERS = (list_notifications, show_notification, read_notification, requeue_notification)

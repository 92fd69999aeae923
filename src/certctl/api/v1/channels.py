"""/api/v1/notification-channels: where notifications go."""

from __future__ import annotations

from litestar import delete, get, post, put
from litestar.params import FromPath, JSONBody

from certctl.api.guard import edits, needs
from certctl.api.lists import answer_list, listed
from certctl.api.patching import patched
from certctl.api.request import ApiRequest
from certctl.api.shown import given, shown
from certctl.client.models.notifications import ChannelKind, ChannelKindsAnswer, ChannelView, ChannelWrite
from certctl.client.models.page import PageOf
from certctl.client.models.targets import TestAnswer
from certctl.connectors.registry import NOTIFIERS, notifier_config_schema, notifier_secrets
from certctl.control import channels
from certctl.core.notification import Channel
from certctl.store import catalogue
from certctl.store.act_listings import CHANNELS


def _view(channel: Channel) -> ChannelView:
    return shown(ChannelView, channel)


@get("/notification-channels", opt=needs("notification.read") | listed(CHANNELS), summary="List channels")
async def list_channels(request: ApiRequest) -> PageOf[ChannelView]:
    """By name."""
    return await answer_list(request, ChannelView)


@get("/notification-channels/kinds", opt=needs("notification.read"), summary="Kinds of channels")
async def list_channel_kinds(request: ApiRequest) -> ChannelKindsAnswer:  # noqa: ARG001 - the framework's
    """Each with the JSON Schema of its configuration."""
    kinds = [
        ChannelKind(
            type=entry.kind,
            config_schema=notifier_config_schema(entry.kind),
            secrets=list(notifier_secrets(entry.kind)),
        )
        for entry in NOTIFIERS
    ]
    return ChannelKindsAnswer(kinds=kinds)


@post("/notification-channels", status_code=201, opt=needs("notification.edit"), summary="Create a channel")
async def create_channel(request: ApiRequest, data: JSONBody[ChannelWrite]) -> ChannelView:
    """The type never changes; an id or name that is taken answers 409."""
    return _view(await channels.create(request.ctx, request.visible, request.actor, given(data)))


@get("/notification-channels/{channel_id:str}", opt=needs("notification.read"), summary="One channel")
async def show_channel(request: ApiRequest, channel_id: FromPath[str]) -> ChannelView:
    """One channel, without its secrets."""
    async with request.ctx.database.read() as tx:
        return _view(await catalogue.get(tx, request.visible, Channel, channel_id))


@put("/notification-channels/{channel_id:str}", opt=edits("notification.edit"), summary="Change a channel")
async def update_channel(request: ApiRequest, channel_id: FromPath[str], data: JSONBody[ChannelWrite]) -> ChannelView:
    """What is absent stays; secrets that a `config` does not name stay, unless the address changes."""
    changes = request.changes(data, channel_id)
    changed = await channels.update(request.ctx, request.visible, request.actor, channel_id, changes, request.expected)
    return _view(changed)


@delete(
    "/notification-channels/{channel_id:str}",
    status_code=204,
    opt=edits("notification.edit"),
    summary="Delete a channel",
)
async def delete_channel(request: ApiRequest, channel_id: FromPath[str]) -> None:
    """What waits for it is skipped."""
    await channels.delete(request.ctx, request.visible, request.actor, channel_id, request.expected)


@post(
    "/notification-channels/{channel_id:str}/test",
    status_code=200,
    opt=needs("notification.edit"),
    summary="Test a channel",
)
async def try_channel(request: ApiRequest, channel_id: FromPath[str]) -> TestAnswer:
    """Sends a message that says that it is a test; a failure answers 502 or 503 with the reason."""
    said = await channels.test(request.ctx, request.visible, request.actor, channel_id)
    return TestAnswer(status="success", message=said)


HANDLERS = (
    list_channels,
    list_channel_kinds,
    create_channel,
    show_channel,
    update_channel,
    patched(show_channel, update_channel),
    delete_channel,
    try_channel,
)

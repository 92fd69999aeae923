"""/api/v1/events: what changes, as it changes (server-sent events), for what the caller may see."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from litestar import get
from litestar.params import HeaderParameter
from litestar.response import Stream

from certctl import ledger
from certctl.api.guard import SIGNED_IN
from certctl.api.request import ApiRequest
from certctl.core.errors import NotAllowed
from certctl.doors.entry import recognise
from certctl.doors.feed import CHANNEL, Follower, read_cursor
from certctl.doors.identity import Caller


@get("/events", opt=SIGNED_IN, summary="Follow what changes", media_type="text/event-stream")
async def follow_events(
    request: ApiRequest,
    last_event_id: Annotated[
        str | None, HeaderParameter(name="Last-Event-ID", description="the id of the last event that was heard")
    ] = None,
) -> Stream:
    """Server-sent events from now on, or from behind `Last-Event-ID`: none is lost and none told twice.

    Each block has `id`, `event` (what happened) and `data`: type, subject_type, subject_id, at. The stream ends when
    the server stops or the key is good no more; come back with the last id.
    """
    caller, ctx, door = request.caller, request.ctx, request.door
    if caller.agent is not None:
        raise NotAllowed("an agent's credential opens the agents' own routes alone")
    door.feed.check_room()
    if last_event_id:
        async with ctx.database.read() as tx:
            position = await ledger.place(tx, ctx.scope, read_cursor(ctx, last_event_id))
    else:
        position = await door.feed.end(ctx)
    knock = request.knock

    async def again() -> Caller:
        return await recognise(door, knock, browsers=True)

    async def told() -> AsyncIterator[bytes]:
        with door.wakeups.watch(CHANNEL) as watch:

            async def pause(seconds: float) -> bool:
                if not door.draining.is_set():
                    await watch.wait(seconds)
                return door.draining.is_set()

            with door.feed.seat():
                async for block in Follower(ctx, door.feed, position, again, pause).run():
                    yield block

    headers: dict[str, Any] = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
    return Stream(told(), media_type="text/event-stream", headers=headers)


HANDLERS = (follow_events,)

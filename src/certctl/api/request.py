"""The REST API's request: its body read strictly, its caller and the process's state at hand.

Litestar converts what `json` returns; we return the finished struct, so that its lax conversion never sees raw input.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec
from litestar import Request
from litestar.datastructures import State

from certctl.core.actor import Actor
from certctl.core.errors import NotAuthenticated
from certctl.core.scope import Scope
from certctl.doors.body import decode_body
from certctl.doors.edge import HttpScope, caller_of
from certctl.doors.identity import Caller
from certctl.doors.state import AppState
from certctl.lifecycle.context import Context


class ApiRequest(Request[Any, Any, State]):
    """One call."""

    @property
    def door(self) -> AppState:
        """What the process shares."""
        return cast("AppState", self.app.state.door)

    @property
    def ctx(self) -> Context:
        """The lifecycle's context."""
        return self.door.ctx

    @property
    def caller(self) -> Caller:
        """Who calls; the guard has seen to it that this is known on every route that is not public."""
        caller = caller_of(cast("HttpScope", self.scope))
        if caller is None:
            raise NotAuthenticated("who is calling is not known")
        return caller

    @property
    def actor(self) -> Actor:
        """Who the event log will name."""
        return self.caller.actor

    @property
    def visible(self) -> Scope:
        """What the caller may see."""
        return self.caller.scope

    async def json(self) -> Any:
        """The body as the struct that the handler takes."""
        return decode_body(await self.body(), self.headers.get("content-type", ""), self._body_kind())

    def _body_kind(self) -> type[msgspec.Struct]:
        field = self.route_handler.parsed_data_field
        if field is None:
            raise TypeError("this route takes no body")
        kinds = [field.annotation, *(inner.annotation for inner in field.inner_types)]
        return next(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, msgspec.Struct))

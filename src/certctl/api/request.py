"""The REST API's request: its body read strictly, its caller and the process's state at hand.

Litestar converts what `json` returns; we return the finished struct, so that its lax conversion never sees raw input.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, cast

import msgspec
from litestar import Request
from litestar.datastructures import State

from certctl.api.asked import asked_by
from certctl.api.shown import given, refuse_other_id
from certctl.core.actor import Actor
from certctl.core.errors import NotAuthenticated
from certctl.core.revision import Expected
from certctl.core.scope import Scope
from certctl.doors.body import decode_body, read_merge_patch
from certctl.doors.conditional import read_if_match
from certctl.doors.edge import HttpScope, caller_of, knock_of
from certctl.doors.identity import Caller, Knock
from certctl.doors.state import AppState
from certctl.lifecycle.context import Context

# the `opt` of a PATCH: the function that tells what stands there
SHOWN_BY = "shown_by"
_EMPTIED = "certctl.emptied"
_MERGED_FROM = "certctl.merged_from"


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
    def edge_scope(self) -> HttpScope:
        """The same call as the edge knows it."""
        return cast("HttpScope", self.scope)

    @property
    def knock(self) -> Knock:
        """What is seen of whoever calls."""
        return knock_of(self.edge_scope)

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
        """How far the permission that this route asks for reaches; nothing on a route that asks for none."""
        return self.seen_by(asked_by(self.route_handler.opt))

    def seen_by(self, permission: str) -> Scope:
        """How far another permission of the caller reaches; nothing when they do not have it."""
        caller = self.caller
        return caller.permissions.get(permission, Scope.union(caller.tenant_id, ()))

    @property
    def if_match(self) -> str | None:
        """What the caller says it has seen."""
        return self.headers.get("if-match")

    @property
    def expected(self) -> Expected:
        """The row versions that this change may meet: `If-Match`, and what a merge was made from."""
        said = read_if_match(self.if_match)
        merged_from: int | None = self.scope.get(_MERGED_FROM)  # type: ignore[assignment]  # ours alone
        if merged_from is None:
            return said
        return frozenset({merged_from}) if said is None else said & {merged_from}

    def changes(self, data: msgspec.Struct, path_id: str, but: Iterable[str] = ()) -> dict[str, Any]:
        """The fields that a body changes: those that it says, and null where a merge patch empties one."""
        refuse_other_id(getattr(data, "id", None), path_id)
        emptied: frozenset[str] = self.scope.get(_EMPTIED, frozenset())  # type: ignore[assignment]  # ours alone
        return given(data, but=("id", *but)) | dict.fromkeys(emptied - set(but))

    async def json(self) -> Any:
        """The body as the struct that the handler takes."""
        show = self.route_handler.opt.get(SHOWN_BY)
        if show is not None:
            return await self._merged(show)
        return decode_body(await self.body(), self.headers.get("content-type", ""), self._body_kind())

    async def _merged(self, show: Callable[..., Awaitable[msgspec.Struct]]) -> msgspec.Struct:
        shown_now = await show(request=self, **self.path_params)
        current = msgspec.to_builtins(shown_now)
        content_type = self.headers.get("content-type", "")
        merged = read_merge_patch(await self.body(), content_type, self._body_kind(), current)
        scope = cast("dict[str, Any]", self.scope)
        scope[_EMPTIED] = merged.emptied
        scope[_MERGED_FROM] = getattr(shown_now, "row_version", None) if merged.nested else None
        return merged.body

    def _body_kind(self) -> type[msgspec.Struct]:
        field = self.route_handler.parsed_data_field
        if field is None:
            raise TypeError("this route takes no body")
        kinds = [field.annotation, *(inner.annotation for inner in field.inner_types)]
        return next(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, msgspec.Struct))

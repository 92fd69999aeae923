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
from certctl.core.revision import Expected
from certctl.core.scope import Scope
from certctl.doors.body import decode_body, read_merge_patch
from certctl.doors.conditional import read_if_match
from certctl.doors.known import Known

# the `opt` of a PATCH: the function that tells what stands there
SHOWN_BY = "shown_by"
_EMPTIED = "certctl.emptied"
_MERGED_FROM = "certctl.merged_from"


class ApiRequest(Request[Any, Any, State], Known):
    """One call."""

    @property
    def visible(self) -> Scope:
        """How far the permission that this route asks for reaches; nothing on a route that asks for none."""
        return self.seen_by(asked_by(self.route_handler.opt))

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

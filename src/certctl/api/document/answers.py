"""What a handler takes and gives when all goes well, from its own annotations.

A further good answer is declared on the handler by Litestar's own `responses={status: ResponseSpec(Kind, ...)}`.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, get_args, get_origin

import msgspec
from litestar import Response
from litestar.handlers import HTTPRouteHandler

from certctl.api.document.schemas import Schemas
from certctl.api.request import SHOWN_BY
from certctl.doors.body import MERGE_PATCH

JSON = "application/json"
_NOTHING = type(None)


def request_body(handler: HTTPRouteHandler, schemas: Schemas) -> dict[str, Any] | None:
    """The body that the handler takes; one that may be None may be left out. A merge patch has a media type of its own
    (RFC 7396), and is taken as plain JSON too.
    """
    field = handler.parsed_data_field
    if field is None:
        return None
    kinds = [field.annotation, *(inner.annotation for inner in field.inner_types)]
    structs = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]
    if not structs:
        return {"required": True, "content": {JSON: {"schema": schemas.of(field.annotation)}}}
    needed = not (field.is_optional or field.has_default)
    media_types = (MERGE_PATCH, JSON) if SHOWN_BY in handler.opt else (JSON,)
    return {"required": needed, "content": {each: {"schema": schemas.of_body(structs[0])} for each in media_types}}


def good(handler: HTTPRouteHandler, schemas: Schemas) -> dict[str, Any]:
    """Status -> answer."""
    kind = _bare(handler.parsed_return_field.raw)
    answers = {str(handler.status_code): _answer(handler.status_code, kind, _media_type(handler.media_type), schemas)}
    for status, told in (handler.responses or {}).items():
        more = _answer(status, told.data_container or _NOTHING, _media_type(told.media_type), schemas)
        if str(status) in answers:
            answers[str(status)].setdefault("content", {}).update(more.get("content", {}))
        else:
            answers[str(status)] = more
        if told.description:
            answers[str(status)]["description"] = told.description
    return answers


def _media_type(told: Any) -> str:
    return str(getattr(told, "value", told) or JSON)


def _bare(annotation: Any) -> Any:
    """`Response[X]` answers X."""
    origin = get_origin(annotation)
    if isinstance(origin, type) and issubclass(origin, Response):
        return get_args(annotation)[0]
    return annotation


def _answer(status: int, kind: Any, media_type: str, schemas: Schemas) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if kind is None or kind is _NOTHING or status == HTTPStatus.NO_CONTENT:
        return answer
    if media_type.partition(";")[0] not in {JSON, "text/plain", "text/event-stream", "application/x-ndjson"}:
        schema: dict[str, Any] = {"type": "string", "format": "binary"}
    elif kind in {bytes, str} or (isinstance(kind, type) and issubclass(kind, Response)):
        schema = {"type": "string"}
    else:
        schema = schemas.of(kind)
    return answer | {"content": {media_type: {"schema": schema}}}

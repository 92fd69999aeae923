"""Request bodies: JSON (RFC 8259) into a typed struct, or a refusal that names the field at fault.

Unknown fields are refused with the nearest known one; fields that only the server writes are accepted and ignored,
because clients send back what they read. Must never echo a value, which may be a secret.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from certctl.core.errors import Malformed, UnsupportedMediaType, Violation

BodyT = TypeVar("BodyT", bound=msgspec.Struct)

MERGE_PATCH = "application/merge-patch+json"
_WHERE = re.compile(r" - at `\$\.?(.*)`$")


def decode_body(raw: bytes, content_type: str, kind: type[BodyT], *, strict: bool = True) -> BodyT:
    """Read a body as `kind`, whose `read_only` (a class attribute) names fields to ignore.

    Raises Malformed and UnsupportedMediaType. `strict=False` ignores unknown fields altogether: the agent protocol,
    where neighbours of one version meet.
    """
    check_json(content_type)
    data = _parse(raw)
    if not isinstance(data, dict):
        raise Malformed("the body must be a JSON object")
    if strict:
        data = _known_fields(data, kind)
    return _convert(data, kind)


class Merged(msgspec.Struct, Generic[BodyT], frozen=True):
    """A merge patch as a change: `body` has what it sets, `emptied` names the fields that become null."""

    body: BodyT
    emptied: frozenset[str]
    # whether it depends on what stood there
    nested: bool


def read_merge_patch(raw: bytes, content_type: str, kind: type[BodyT], current: Mapping[str, Any]) -> Merged[BodyT]:
    """Read a JSON merge patch (RFC 7396) of what is now `current` (JSON types) as a change of `kind`.

    `kind.cleared` says what null makes of a field; a field that is not there refuses null. Raises Malformed, every
    fault at once, and UnsupportedMediaType.
    """
    media_type = _media_type(content_type)
    if media_type not in {"", "application/json", MERGE_PATCH}:
        raise UnsupportedMediaType(f"send the change as {MERGE_PATCH} or application/json")
    data = _parse(raw)
    if not isinstance(data, dict):
        raise Malformed("the body must be a JSON object")
    data = _known_fields(data, kind)
    cleared: Mapping[str, Any] = getattr(kind, "cleared", {})
    needed = tuple(
        Violation("field_is_needed", f"{name} cannot be empty", name)
        for name, value in data.items()
        if value is None and name not in cleared
    )
    if needed:
        raise Malformed("; ".join(each.message for each in needed), violations=needed)
    nested = {name for name, value in data.items() if isinstance(value, dict)}
    wanted = {
        name: cleared[name] if value is None else _merge(current.get(name), value) for name, value in data.items()
    }
    emptied = frozenset(name for name, value in wanted.items() if value is None)
    return Merged(_convert(wanted, kind), emptied, bool(nested))


def _merge(target: Any, change: Any) -> Any:
    """RFC 7396 2, word for word."""
    if not isinstance(change, dict):
        return change
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in change.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), value)
    return merged


def _convert(data: dict[str, Any], kind: type[BodyT]) -> BodyT:
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise _type_fault(str(error)) from error


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def check_json(content_type: str) -> None:
    """Refuse a body that says it is no JSON; parameters such as a charset do not matter (RFC 8259 11)."""
    media_type = _media_type(content_type)
    if media_type and media_type != "application/json" and not media_type.endswith("+json"):
        raise UnsupportedMediaType("send the body as application/json")


def _parse(raw: bytes) -> Any:
    if not raw.strip():
        raise Malformed("a JSON body is needed")
    try:
        data = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the body is no valid JSON: {error}" if str(error) else "the body is no valid JSON") from error
    # PostgreSQL text holds no NUL; the escape is the only way it gets into JSON
    if b"\\u0000" in raw and any("\0" in text for text in _texts(data)):
        raise Malformed("the body holds a NUL character")
    return data


def _texts(data: Any) -> Iterator[str]:
    waiting = [data]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            waiting.extend((*item.keys(), *item.values()))
        elif isinstance(item, list):
            waiting.extend(item)


def _known_fields(data: dict[str, Any], kind: type[msgspec.Struct]) -> dict[str, Any]:
    known = kind.__struct_encode_fields__
    ignored: frozenset[str] = getattr(kind, "read_only", frozenset())
    violations = tuple(
        Violation("unknown_field", f"{name[:64]!r} is no field here{nearest(name, known)}", name[:64])
        for name in data
        if name not in known and name not in ignored
    )
    if violations:
        raise Malformed("; ".join(each.message for each in violations), violations=violations)
    return {name: value for name, value in data.items() if name in known}


def nearest(name: str, known: Sequence[str], *, only: bool = False) -> str:
    """The nearest known name as a half sentence, else (unless `only`) all there are."""
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return "" if only or not known else f"; known are {', '.join(known)}"


def _type_fault(text: str) -> Malformed:
    where = _WHERE.search(text)
    field = where.group(1) if where else ""
    if text.startswith("Object missing required field"):
        field = text.split("`")[1]
        return Malformed(f"{field} is needed", violations=(Violation("field_is_missing", f"{field} is needed", field),))
    message = f"{field or 'body'}: {_WHERE.sub('', text)}".replace("`", "")
    return Malformed(message, violations=(Violation("wrong_type", message, field),))

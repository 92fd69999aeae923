"""Connector configuration: one typed class a kind, decoded strictly, its JSON Schema driving API, forms and docs.

Unknown fields are refused, and the nearest known one is named. Durations and modes are accepted as people write them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, TypeVar

import msgspec

from certctl.core.errors import Malformed, Violation
from certctl.core.secret import Secret

ConfigT = TypeVar("ConfigT", bound=msgspec.Struct)

# what stands in the place of a secret when it is shown; sent back, it means the one that is kept
REDACTED = "[redacted]"

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?")


def decode_config(kind: type[ConfigT], raw: Mapping[str, Any], where: str = "config") -> ConfigT:
    """Decode `raw` into `kind`; every unknown field and the first type fault are named. Raises Malformed."""
    known = [field.encode_name for field in msgspec.structs.fields(kind)]
    violations = [
        Violation("unknown_config_field", f"{where}.{name} is not known{_nearest(name, known)}", f"{where}.{name}")
        for name in raw
        if name not in known
    ]
    if violations:
        raise Malformed("; ".join(v.message for v in violations), violations=tuple(violations))
    try:
        return msgspec.convert(dict(raw), kind, dec_hook=_read_own)
    except msgspec.ValidationError as error:
        message = f"{where}: {error}"
        raise Malformed(message, violations=(Violation("config_has_wrong_type", message, where),)) from error


def secret_fields(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    """The fields of a configuration that are secrets: stored sealed, never shown."""
    return tuple(field.encode_name for field in msgspec.structs.fields(kind) if field.type is Secret)


def no_secret() -> Secret:
    """What a secret that is not given is; a default of its own would stand in the JSON Schema."""
    return Secret("")


def config_schema(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a configuration; secrets are texts that are written and never read."""
    return msgspec.json.schema(kind, schema_hook=_tell_own)


def _read_own(kind: type, value: Any) -> Any:
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise ValueError("Expected `str`")


def _tell_own(kind: type) -> dict[str, Any]:
    if kind is Secret:
        return {"type": "string", "format": "password", "writeOnly": True}
    raise NotImplementedError


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"


def parse_duration(text: str | float) -> timedelta:
    """`30s`, `1h30m`, `250ms`, or a number of seconds. Raises ValueError."""
    if isinstance(text, int | float):
        return timedelta(seconds=text)
    match = _DURATION.fullmatch(text.strip())
    if not text.strip() or match is None:
        raise ValueError(f"{text!r} is no duration (write 30s, 5m, 1h30m, 7d)")
    days, hours, minutes, seconds, milliseconds = match.groups()
    return timedelta(
        days=int(days or 0),
        hours=int(hours or 0),
        minutes=int(minutes or 0),
        seconds=float(seconds or 0),
        milliseconds=int(milliseconds or 0),
    )


def parse_mode(text: str | int) -> int:
    """A file mode written as octal text (`0640`) or as a number. Raises ValueError."""
    value = int(text, 8) if isinstance(text, str) else text
    if not 0 <= value <= 0o7777:
        raise ValueError(f"{text!r} is no file mode")
    return value

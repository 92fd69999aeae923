"""The fields of a form, made of a JSON Schema (2020-12) as msgspec writes it; how each is shown and read back. Pure.

One field a property: words, numbers, ticks, choices, lists (one a line), rows of small records, pairs. A schema may say
`writeOnly` (a secret, never shown back). What a person typed wrong is told at the field, in words, before anybody asks
the API's own judges.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from certctl.web.request import Fields
from certctl.web.words import gettext as _

ABSENT: Any = object()
_LONG = 1000
_SPARE_ROWS = 2
_MOST_ROWS = 50
_WHOLE = re.compile(r"[+-]?[0-9]{1,12}")
_DECIMAL = re.compile(r"[+-]?[0-9]{1,12}(\.[0-9]{1,12})?")

Faults = dict[str, str]


class Field(Struct, frozen=True, kw_only=True):
    """One field. `path` is its place in the body (`config.cert_path`), `kind` how it is asked for:

    text area secret number tick pick ticks lines numbers rows pairs. `rare` ones stand under "More". A secret that is
    `kept` is there already: left empty it stays; one that may also go `forgets`.
    """

    path: str
    kind: str
    label: str
    hint: str = ""
    required: bool = False
    rare: bool = False
    default: Any = None
    options: tuple[tuple[str, str], ...] = ()
    least: float | None = None
    most: float | None = None
    longest: int | None = None
    whole: bool = True
    open_ends: bool = False
    columns: tuple[Field, ...] = ()
    several: bool = False
    kept: bool = False
    forgets: bool = False

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition(".")[2]


Label = tuple[str, str]
Options = Mapping[str, Sequence[tuple[str, str]]]


def fields_of(
    schema: Mapping[str, Any],
    *,
    words: Mapping[str, Label],
    options: Options,
    within: str = "",
    left_out: frozenset[str] = frozenset(),
    front: frozenset[str] | None = None,
) -> list[Field]:
    """A field for each property. `options` turns a field into a choice; `front` are those not under "More"."""
    definitions: Mapping[str, Any] = schema.get("$defs", {})
    top = _resolved(schema, definitions)
    required = set(top.get("required", ()))
    made = []
    for name, raw in top.get("properties", {}).items():
        if name in left_out:
            continue
        path = f"{within}.{name}" if within else name
        label, hint = words.get(name, (pretty(name), ""))
        field = _field(path, label, hint, _resolved(raw, definitions), definitions, options, words)
        needed = name in required
        rare = front is not None and not needed and name not in front
        made.append(_replaced(field, required=needed, rare=rare))
    return made


def pretty(name: str) -> str:
    """`cert_file_mode` as people read it."""
    text = name.replace("_", " ")
    return text[:1].upper() + text[1:]


def _replaced(field: Field, **changes: Any) -> Field:
    return Field(**{name: getattr(field, name) for name in Field.__struct_fields__} | changes)


def _resolved(raw: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """References followed, and "or null" left out: an empty field says nothing."""
    found = dict(raw)
    while "$ref" in found:
        found = {**definitions[found.pop("$ref").rpartition("/")[2]], **found}
    choices = [each for each in found.get("anyOf", ()) if each.get("type") != "null"]
    if "anyOf" in found and len(choices) == 1:
        inner = _resolved(choices[0], definitions)
        found = {**{name: value for name, value in found.items() if name != "anyOf"}, **inner}
    return found


def _field(
    path: str,
    label: str,
    hint: str,
    schema: Mapping[str, Any],
    definitions: Mapping[str, Any],
    options: Options,
    words: Mapping[str, Label],
) -> Field:
    common: dict[str, Any] = {"path": path, "label": label, "hint": hint, "default": schema.get("default")}
    kind = schema.get("type")
    if path in options:
        several = kind == "array"
        return Field(**common, kind="ticks" if several else "pick", options=tuple(options[path]), several=several)
    if "enum" in schema:
        return Field(
            **common, kind="pick", options=tuple((str(each), str(each) or _("none")) for each in schema["enum"])
        )
    if kind == "boolean":
        return Field(**common, kind="tick")
    if kind in {"integer", "number"}:
        return _number(common, schema)
    if kind == "array":
        return _list(common, _resolved(schema.get("items", {}), definitions), definitions, options, words)
    if kind == "object":
        inner = _resolved(schema.get("additionalProperties") or {}, definitions)
        return Field(**common, kind="pairs", several=inner.get("type") == "array")
    longest = schema.get("maxLength")
    if schema.get("writeOnly") or schema.get("format") == "password":
        return Field(**common, kind="secret", longest=longest)
    long = (longest or 0) > _LONG or path.endswith("_pem")
    return Field(**common, kind="area" if long else "text", longest=longest)


def _number(common: Mapping[str, Any], schema: Mapping[str, Any]) -> Field:
    open_ends = "exclusiveMinimum" in schema
    return Field(
        **common,
        kind="number",
        whole=schema["type"] == "integer",
        least=schema.get("minimum", schema.get("exclusiveMinimum")),
        most=schema.get("maximum", schema.get("exclusiveMaximum")),
        open_ends=open_ends,
    )


def _list(
    common: Mapping[str, Any],
    items: Mapping[str, Any],
    definitions: Mapping[str, Any],
    options: Options,
    words: Mapping[str, Label],
) -> Field:
    if items.get("type") == "object":
        inside = f"{common['path']}."
        within = {path.removeprefix(inside): found for path, found in options.items() if path.startswith(inside)}
        columns = [
            _field(name, *words.get(name, (pretty(name), "")), _resolved(raw, definitions), definitions, within, words)
            for name, raw in items.get("properties", {}).items()
        ]
        return Field(**common, kind="rows", columns=tuple(columns))
    if items.get("type") == "integer":
        least, most = items.get("minimum"), items.get("maximum")
        return Field(**common, kind="numbers", least=least, most=most)
    return Field(**common, kind="lines", longest=items.get("maxLength"))


def value_at(body: Mapping[str, Any], path: str) -> Any:
    """What stands at a path; ABSENT when nothing does."""
    found: Any = body
    for part in path.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return ABSENT
        found = found[part]
    return found


def shown_of(field: Field, value: Any) -> Any:
    """A value as the form shows it: text, a list of chosen options, or rows of texts."""
    value = field.default if value is ABSENT else value
    if field.kind == "tick":
        return "yes" if value else ""
    if field.kind == "ticks":
        return [str(each) for each in value or ()]
    if field.kind == "rows":
        rows = [{column.path: _text(row.get(column.path)) for column in field.columns} for row in value or ()]
        return rows + [{column.path: "" for column in field.columns}] * _SPARE_ROWS
    if field.kind == "secret":
        return ""
    if field.kind == "lines":
        return "\n".join(_text(each) for each in value or ())
    if field.kind == "numbers":
        return ", ".join(_text(each) for each in value or ())
    if field.kind == "pairs":
        return "\n".join(f"{name}: {_joined(each)}" for name, each in (value or {}).items())
    return _text(value)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _joined(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def said_of(field: Field, form: Fields) -> Any:
    """What was sent, as it was typed, in the shape of `shown_of`."""
    if field.kind == "ticks":
        return form.every(field.path)
    if field.kind == "rows":
        sent = [row for row in _rows(field, form) if any(row.values())]
        return sent + [{column.path: "" for column in field.columns}] * _SPARE_ROWS
    return "" if field.kind == "secret" else form.get(field.path)


def _rows(field: Field, form: Fields) -> list[dict[str, str]]:
    return [
        {column.path: form.get(f"{field.path}.{index}.{column.path}") for column in field.columns}
        for index in range(_MOST_ROWS)
    ]


def read(field: Field, form: Fields, faults: Faults) -> Any:
    """The value that was sent, ABSENT for an empty field that says nothing; a fault is written into `faults`."""
    if field.kind == "tick":
        return form.get(field.path) == "yes"
    if field.kind == "ticks":
        return form.every(field.path)
    if field.kind == "rows":
        return [_row(field, row, faults) for row in _rows(field, form) if any(row.values())]
    if field.kind == "secret":
        return _read_secret(field, form, faults)
    text = form.get(field.path)
    if field.required and not text:
        faults[field.path] = _needed(field)
        return ABSENT
    return _read_text(field, text, faults)


def _read_secret(field: Field, form: Fields, faults: Faults) -> Any:
    """ABSENT: it stays as it is; empty: it goes."""
    said = form.raw(field.path)
    if field.forgets and form.get(f"{field.path}.forget") == "yes":
        return ""
    if not said and field.required:
        faults[field.path] = _needed(field)
    return said or ABSENT


def _read_text(field: Field, text: str, faults: Faults) -> Any:
    if field.kind == "number":
        return _read_number(field, text, field.path, faults) if text else ABSENT
    if field.kind == "numbers":
        words = text.replace(",", " ").split()
        return [number for word in words if (number := _read_number(field, word, field.path, faults)) is not ABSENT]
    if field.kind == "lines":
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        for line in lines:
            _check_length(field, line, faults)
        return lines
    if field.kind == "pairs":
        return _pairs(field, text, faults)
    if field.kind == "pick" and text not in {key for key, _shown in field.options}:
        faults[field.path] = _("Choose one of those listed.")
        return ABSENT
    _check_length(field, text, faults)
    return text


def _row(field: Field, row: Mapping[str, str], faults: Faults) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for column in field.columns:
        text = row[column.path]
        if column.kind == "number":
            value = _read_number(column, text, field.path, faults) if text else ABSENT
        else:
            value = text
        if value is not ABSENT:
            made[column.path] = value
    return made


def _pairs(field: Field, text: str, faults: Faults) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, colon, rest = line.partition(":")
        words = [word.strip() for word in rest.split(",") if word.strip()]
        if not colon or not name.strip() or not words:
            faults[field.path] = _("Write one a line, such as warning: Email")
        made[name.strip()] = words if field.several else rest.strip()
    return made


def _needed(field: Field) -> str:
    if field.kind == "pick":
        return _("Choose one.")
    return _("This is needed. {hint}").format(hint=field.hint).strip()


def _check_length(field: Field, text: str, faults: Faults) -> None:
    if field.longest and len(text) > field.longest:
        faults[field.path] = _("At most {number} characters; these are {found}.").format(
            number=f"{field.longest:,}", found=f"{len(text):,}"
        )


def _read_number(field: Field, text: str, path: str, faults: Faults) -> Any:
    pattern = _WHOLE if field.whole else _DECIMAL
    if not pattern.fullmatch(text):
        said = _("A whole number, such as {example}.") if field.whole else _("A number, such as {example}.")
        faults[path] = said.format(example=_example(field))
        return ABSENT
    value = int(text) if field.whole else float(text)
    low = field.least is not None and (value <= field.least if field.open_ends else value < field.least)
    high = field.most is not None and (value >= field.most if field.open_ends else value > field.most)
    if low or high:
        faults[path] = bounds(field)
        return ABSENT
    return value


def bounds(field: Field) -> str:
    """The bounds of a number in words."""
    least, most = _plain(field.least), _plain(field.most)
    if field.open_ends:
        return _("Between {least} and {most}, neither of them.").format(least=least, most=most)
    if field.most is None:
        return _("At least {least}.").format(least=least)
    return _("From {least} to {most}.").format(least=least, most=most)


def _plain(value: float | None) -> str:
    return "0" if value is None else f"{value:,.12g}" if value != int(value) else f"{int(value):,}"


def _example(field: Field) -> str:
    if field.open_ends:
        return "0.3"
    return _plain(min(max(30, field.least or 0), field.most or 30))

"""A form of one kind: its fields, what was sent as the API's body, and where the API's refusals belong."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from certctl.core.errors import CertctlError, Violation
from certctl.doors.body import decode_body
from certctl.web.configure.fields import ABSENT, Faults, Field, Options, fields_of, read, said_of, shown_of, value_at
from certctl.web.configure.kinds import Kind
from certctl.web.configure.wording import labels
from certctl.web.request import Fields

CONFIG = "config"
# an id is made, a type is chosen before, a config has fields of its own
_NOT_ASKED = frozenset({"id", "type", CONFIG})
_AT = re.compile(r" - at `\$\.?([^`]*)`$")
_INDEX = re.compile(r"\[[0-9]+\]")


class Line(Struct, frozen=True):
    """One field with what stands in it and what is wrong with it."""

    field: Field
    shown: Any
    fault: str = ""


class Filled(Struct, frozen=True, kw_only=True):
    """Fields, to be filled."""

    fields: tuple[Field, ...]

    def lines(self, body: Mapping[str, Any]) -> list[Line]:
        """Filled with what is stored."""
        return [Line(field, shown_of(field, value_at(body, field.path))) for field in self.fields]

    def sent(self, said: Fields, faults: Faults) -> list[Line]:
        """Filled with what was typed, and what is wrong with it."""
        return [Line(field, said_of(field, said), faults.get(field.path, "")) for field in self.fields]


class Form(Filled, frozen=True, kw_only=True):
    """The fields of a kind, and of its type."""

    kind: Kind
    type: str


def form_of(
    kind: Kind,
    type_: str,
    options: Options,
    body: Mapping[str, Any] | None = None,
    settled: frozenset[str] = frozenset(),
) -> Form:
    """The form of a kind, in the page's language, without what is `settled`; of a `body`, its secrets are known to be
    kept.
    """
    words = {**labels(), **kind.labels()}
    whole = msgspec.json.schema(kind.body)
    front = kind.front if kind.schema is None else None
    chosen = {**kind.choices(), **options}
    fields = fields_of(whole, words=words, options=chosen, left_out=_NOT_ASKED | settled, front=front)
    if kind.schema is not None:
        schema = kind.schema(type_)
        fields += fields_of(schema, words=words, options=chosen, within=CONFIG, front=kind.front)
    # what switches it off stands last of what is always seen
    fields.sort(key=lambda field: (field.rare, field.path == "enabled"))
    return Form(kind=kind, type=type_, fields=tuple(_standing(kind, field, body or {}) for field in fields))


def _standing(kind: Kind, field: Field, body: Mapping[str, Any]) -> Field:
    """A field with what has to be said of it now: a secret that is there need not be given anew."""
    needed = field.required or field.path in kind.needed
    kept = field.kind == "secret" and value_at(body, field.path) not in {ABSENT, "", None}
    return msgspec.structs.replace(field, required=needed and not kept, kept=kept, forgets=kept and not needed)


def read_form(form: Form, said: Fields, stored: Mapping[str, Any] | None) -> tuple[dict[str, Any], Faults]:
    """What the API is to be told: for a new one (`stored` None) everything, else what changed. And what cannot be."""
    faults: Faults = {}
    values = {field.path: read(field, said, faults) for field in form.fields}
    top = {path: value for path, value in values.items() if not path.startswith(f"{CONFIG}.")}
    wanted = _new(top) if stored is None else _changed(form.kind, top, stored)
    if form.kind.schema is not None:
        before: Mapping[str, Any] = (stored or {}).get(CONFIG, {})
        config = _config(form, values, before)
        if stored is None or config != before:
            wanted[CONFIG] = config
        if stored is None:
            wanted["type"] = form.type
    return wanted, faults


def _new(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not ABSENT}


def _changed(kind: Kind, values: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    cleared: Mapping[str, Any] = getattr(kind.body, "cleared", {})
    said = {name: cleared.get(name, ABSENT) if value is ABSENT else value for name, value in values.items()}
    changed = {name for name, value in said.items() if value is not ABSENT and value != stored.get(name)}
    if changed & kind.together:
        changed |= kind.together
    return {name: said[name] for name in said if name in changed and said[name] is not ABSENT}


def _config(form: Form, values: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration; what is as by default stays unsaid, what this form does not know stays as it is."""
    asked = {field.name: field for field in form.fields if field.path.startswith(f"{CONFIG}.")}
    config = {name: value for name, value in before.items() if name not in asked}
    for name, field in asked.items():
        value = values[field.path]
        if value is ABSENT and field.kind == "secret" and name in before:
            config[name] = before[name]
        elif value is not ABSENT and (field.required or name in before or value != _usual(field)):
            config[name] = value
    return config


def _usual(field: Field) -> Any:
    """What an absent field means."""
    if field.kind == "number" or field.default is not None:
        return field.default
    return {"tick": False, "ticks": [], "lines": [], "numbers": [], "rows": [], "pairs": {}}.get(field.kind, "")


def as_body(kind: Kind, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What was said, judged as the API judges a body: its bounds and forms. Raises Malformed."""
    said = {name: value for name, value in wanted.items() if value is not None}
    body = decode_body(msgspec.json.encode(said), "application/json", kind.body)
    given = {name: msgspec.to_builtins(getattr(body, name)) for name in said}
    return given | {name: None for name, value in wanted.items() if value is None}


def faults_of(form: Filled, error: CertctlError) -> tuple[Faults, list[str]]:
    """A refusal's violations at their fields, and the sentences that belong to none."""
    violations: Sequence[Violation] = getattr(error, "violations", ())
    if not violations:
        return {}, [_sentence(form, error.message, "")]
    faults: Faults = {}
    rest: list[str] = []
    for each in violations:
        path = _place(form, each)
        text = _sentence(form, each.message, each.field)
        if path:
            faults[path] = f"{faults[path]} {text}" if path in faults else text
        else:
            rest.append(text)
    return faults, rest


def _place(form: Filled, violation: Violation) -> str:
    known = {field.path for field in form.fields}
    at = _AT.search(violation.message)
    path = _INDEX.sub("", f"{violation.field}.{at[1]}" if at and at[1] else violation.field)
    while path and path not in known:
        path = path.rpartition(".")[0]
    if path or not violation.field.startswith(CONFIG):
        return path
    # a rule over several fields of the configuration names them in its sentence
    named = [(found.start(), field.path) for field in form.fields if (found := _word(field.name, violation.message))]
    return min(named)[1] if named else ""


def _word(name: str, text: str) -> re.Match[str] | None:
    return re.search(rf"\b{re.escape(name)}\b", text)


def _sentence(form: Filled, message: str, field: str) -> str:
    """The API's words with the form's own names for fields."""
    text = _AT.sub("", message)
    for prefix in (f"{field}: ", f"{CONFIG}: ", f"{field.rpartition('.')[2]}: "):
        text = text.removeprefix(prefix) if prefix != ": " else text
    for each in form.fields:
        if "_" in each.name:
            text = re.sub(rf"\b({CONFIG}\.)?{re.escape(each.name)}\b(?!\.)", f"“{each.label}”", text)
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."

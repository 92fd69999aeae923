"""`-o table|json|yaml|csv` on every command that prints records; `--json` is short for `-o json`.

A command takes `json: options.Json` and calls `output.print_data` when it is set; `offer` gives it `-o` as well, so
that no command has to know the forms. CSV cells that a spreadsheet would run are quoted (CWE-1236).
"""

from __future__ import annotations

import csv
import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Annotated, Any

import msgspec
import typer

# a spreadsheet takes what begins so for a formula; tab and CR bring the next cell's beginning with them
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
# the field of an answer that holds its rows, by what it is called
_ROWS = ("data", "keys", "roles", "permissions", "sessions", "users", "credentials", "items", "months")


class Form(StrEnum):
    """How records are printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    CSV = "csv"


_Output = Annotated[
    Form | None,
    typer.Option("--output", "-o", help="How records are printed (a table)."),
]
_chosen = Form.JSON
_default = Form.TABLE


def assume(form: Form) -> None:
    """What is printed where a command is not told otherwise (`certctl --format json ...`)."""
    global _default  # noqa: PLW0603 - one process runs one command
    _default = form


def offer(app: typer.Typer) -> None:
    """Give every command below `app` that prints records the option `-o`."""
    for command in app.registered_commands:
        if command.callback is not None and "json" in inspect.signature(command.callback).parameters:
            command.callback = _with_output(command.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            offer(group.typer_instance)


def _with_output(command: Callable[..., Any]) -> Callable[..., Any]:
    if getattr(command, "offers_output", False):
        return command
    signature = inspect.signature(command, eval_str=True)

    @functools.wraps(command)
    def run(*args: Any, output: Form | None = None, **kwargs: Any) -> Any:
        global _chosen  # noqa: PLW0603 - one process runs one command
        form = output or (Form.JSON if kwargs.get("json") else _default)
        if form is not Form.TABLE:
            _chosen = form
        kwargs["json"] = form is not Form.TABLE
        return command(*args, **kwargs)

    # `certs export -o FILE` keeps its meaning of old: there is one record, and it is a file
    taken = any("-o" in (getattr(each, "param_decls", None) or ()) for each in _options(signature))
    told = _Output if not taken else Annotated[Form | None, typer.Option("--output", help="How the answer is printed.")]
    more = inspect.Parameter("output", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=told)
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), more])  # type: ignore[attr-defined]  # typer reads it
    run.__annotations__ = {name: each.annotation for name, each in signature.parameters.items()} | {"output": told}
    del run.__wrapped__  # typer would look through to the command without -o
    run.offers_output = True  # type: ignore[attr-defined]
    return run


def _options(signature: inspect.Signature) -> Iterator[Any]:
    for parameter in signature.parameters.values():
        yield from getattr(parameter.annotation, "__metadata__", ())


def print_data(data: Any) -> None:
    """Data as the API has it, in the form asked for."""
    plain = msgspec.to_builtins(data)
    if _chosen is Form.YAML:
        import yaml  # only where it is asked for

        yaml.safe_dump(plain, sys.stdout, sort_keys=False, allow_unicode=True, default_flow_style=False)
    elif _chosen is Form.CSV:
        _print_csv(_rows(data, plain))
    else:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(data), indent=2).decode() + "\n")


def _rows(data: Any, plain: Any) -> list[dict[str, Any]]:
    """The records in an answer: a list, a page's rows, or the one thing itself. Absent fields are shown empty."""
    if isinstance(plain, dict):
        name = next((name for name in _ROWS if isinstance(plain.get(name), list)), "")
        if name:
            held: list[Any] = data[name] if isinstance(data, dict) else getattr(data, name)
            return [_record(row) for row in held]
        return [_record(data)]
    return [_record(row) for row in data]


def _record(row: Any) -> dict[str, Any]:
    if isinstance(row, msgspec.Struct):
        values = {name: getattr(row, name) for name in row.__struct_fields__}
    else:
        values = row if isinstance(row, dict) else {"value": row}
    plain: dict[str, Any] = msgspec.to_builtins(values)
    return plain


def _print_csv(rows: list[dict[str, Any]]) -> None:
    """RFC 4180, but lines end as the system has it."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_cell(row.get(name)) for name in names] for row in rows)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return f"'{text}" if text.startswith(_FORMULA) else text

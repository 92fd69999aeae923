"""`certctl issuers|targets|profiles|owners|teams|...`: what is configured, one shape of commands for all of it."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from certctl.cli import issuer_accounts, lists, options, output, tables
from certctl.cli.connection import connect
from certctl.cli.exits import UsageFault
from certctl.cli.finding import find, find_id


class Kind(msgspec.Struct, frozen=True):
    """One kind of record: its word, the name of its calls, of its body, and what a list shows."""

    word: str
    resource: str
    body: str
    columns: tuple[str, ...]
    testable: bool = False


KINDS: dict[str, Kind] = {
    "targets": Kind("target", "TARGETS", "targets.TargetWrite", ("name", "type", "agent_id", "enabled", "id"), True),
    "issuers": Kind("issuer", "ISSUERS", "issuers.IssuerWrite", ("name", "type", "enabled", "test_status", "id"), True),
    "profiles": Kind(
        "profile", "PROFILES", "profiles.ProfileWrite", ("name", "version", "max_ttl_seconds", "enabled", "id")
    ),
    "policies": Kind(
        "policy",
        "RULES",
        "policies.PolicyWrite",
        ("name", "type", "severity", "enabled", "id"),
    ),
    "renewal-policies": Kind(
        "renewal policy",
        "POLICIES",
        "renewal_policies.RenewalPolicyWrite",
        ("name", "renewal_window_days", "renewal_window_fraction", "auto_renew", "id"),
    ),
    "agent-groups": Kind(
        "agent group",
        "AGENT_GROUPS",
        "agent_groups.AgentGroupWrite",
        ("name", "match_os", "match_architecture", "match_ip_cidr", "match_version", "enabled", "id"),
    ),
    "channels": Kind(
        "channel",
        "CHANNELS",
        "notifications.ChannelWrite",
        ("name", "type", "address", "enabled", "min_severity", "test_status", "id"),
        True,
    ),
    "owners": Kind("owner", "OWNERS", "people.OwnerWrite", ("name", "email", "team_id", "id")),
    "teams": Kind("team", "TEAMS", "people.TeamWrite", ("name", "description", "id")),
}

# the rest of what is done with certificates has commands of its own
CERTIFICATE = Kind("certificate", "CERTIFICATES", "certificates.CertificateWrite", ())

Which = Annotated[str, typer.Argument(metavar="ID", help="Id or name.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", help="field=value; config.cert_path=/x for a field within; again for more."),
]
Body = Annotated[Path | None, typer.Option("--file", "-f", help="JSON with the fields; - reads standard input.")]


def app_of(kind_name: str) -> typer.Typer:
    """The command group of one kind."""
    kind = KINDS[kind_name]
    app = typer.Typer(
        no_args_is_help=True, help=f"List, show, create, change and delete {kind_name.replace('-', ' ')}."
    )
    commands: list[tuple[str, str, Callable[..., None]]] = [
        ("list", f"List {kind_name.replace('-', ' ')}.", _lister(kind)),
        ("show", f"One {kind.word}.", _shower(kind)),
        ("get", "The same as show, in the reference product's word.", _shower(kind)),
        ("create", f"Create {_a(kind.word)}: fields by --set, or JSON by --file.", _creator(kind)),
        ("update", f"Change {_a(kind.word)}: what is not given stays.", _updater(kind)),
        ("delete", f"Delete {_a(kind.word)} that nothing uses.", _deleter(kind)),
    ]
    if kind.testable:
        commands.append(("test", f"Test {_a(kind.word)}.", _tester(kind)))
    if kind_name == "policies":
        commands.append(("violations", "Certificates that break a policy.", _violations(kind)))
        commands.append(("evaluate", "What a policy finds this moment.", _evaluator(kind)))
        commands.append(("try", "What a policy would find, before it is written: --set type=... or --file.", _trier()))
    if kind_name == "issuers":
        commands.append(("intermediates", "Every CA generation of an issuer.", _intermediates(kind)))
        commands.append(("account", "Its account at the CA, limits, what is lost and paused.", issuer_accounts.account))
        commands.append(("dry-run", "A whole order where its CA has a place for trials.", issuer_accounts.dry_run))
        commands.append(("roll-key", "Change the key of its account at the CA.", issuer_accounts.roll_key))
        commands.append(("resume", "Ask again for names that the CA refused too often.", issuer_accounts.resume))
    if kind_name == "agent-groups":
        commands.append(("members", "Agents that match a group now.", _members(kind)))
    for name, text, function in commands:
        app.command(name, help=text, hidden=name == "get")(function)
    return app


def _a(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def _calls(kind: Kind) -> Any:
    from certctl.client import calls

    return getattr(calls, kind.resource)


def _lister(kind: Kind) -> Callable[..., None]:
    def list_records(
        search: lists.Search = "",
        only: lists.Filters = None,
        sort: lists.Sort = "",
        page_number: lists.Page = 1,
        limit: lists.Limit = 100,
        every: lists.All = False,
        json: options.Json = False,
    ) -> None:
        query = lists.filters(only) | {"q": search, "sort": sort}
        with connect() as client:
            page = lists.fetch(client, _calls(kind), page=page_number, limit=limit, every=every, **query)
        if json:
            output.print_data(page)
            return
        print_rows(page.data, kind.columns, f"No {kind.word} yet.")

    return list_records


def print_rows(rows: Iterable[Any], columns: Sequence[str], empty: str) -> None:
    """Records as a table of these fields."""
    headers = [name.upper().replace("_", " ") for name in columns]
    tables.print_table(headers, [[_cell(row, name) for name in columns] for row in rows], empty)


def print_record(found: Any, *, json: bool) -> None:
    """One record with every field."""
    if json:
        output.print_data(found)
        return
    tables.print_facts(_facts(found))


def _cell(row: Any, name: str) -> str:
    value = getattr(row, name)
    if value is None:
        return ""
    if isinstance(value, bool):
        return tables.status("true" if value else "false")
    if isinstance(value, datetime):
        return tables.moment(value)
    if isinstance(value, list | dict):
        return tables.safe(", ".join(map(str, value)))
    text = tables.safe(f"{value:.3g}" if isinstance(value, float) else str(value))
    if name in {"test_status", "status", "state"}:
        return tables.status(text)
    return tables.short(text) if name.endswith("_id") else text


def _shower(kind: Kind) -> Callable[..., None]:
    def show(thing: Which, json: options.Json = False) -> None:
        with connect() as client:
            found = find(client, _calls(kind), thing, kind.word)
        print_record(found, json=json)

    return show


def _facts(found: Any) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    for name in found.__struct_fields__:
        value = getattr(found, name)
        if isinstance(value, datetime):
            shown = tables.moment(value)
        elif isinstance(value, dict | list):
            shown = msgspec.json.encode(value).decode() if value else ""
        elif isinstance(value, bool):
            shown = "yes" if value else "no"
        else:
            shown = "" if value is None else str(value)
        facts.append((name.replace("_", " "), tables.safe(shown)))
    return facts


def _creator(kind: Kind) -> Callable[..., None]:
    def create(
        name: Annotated[str, typer.Argument(help="A name for people.")] = "",
        settings: Settings = None,
        file: Body = None,
        json: options.Json = False,
    ) -> None:
        values = values_of(settings or [], file)
        if name:
            values["name"] = name
        with connect() as client:
            made = client.send(_calls(kind).create(body_of(kind, _resolved(client, values))))
        print_record(made, json=json)

    return create


def _updater(kind: Kind) -> Callable[..., None]:
    def update(thing: Which, settings: Settings = None, file: Body = None, json: options.Json = False) -> None:
        values = values_of(settings or [], file)
        if not values:
            raise UsageFault("say what changes: --set field=value, or --file FILE")
        with connect() as client:
            thing_id = find_id(client, _calls(kind), thing, kind.word)
            made = client.send(_calls(kind).update(thing_id, body_of(kind, _resolved(client, values))))
        print_record(made, json=json)
        if waits := getattr(made, "pending_approval_id", ""):
            sys.stderr.write(f"Not changed yet: another person decides. certctl approvals show {tables.safe(waits)}\n")

    return update


def updater_of_certificates() -> Callable[..., None]:
    """`certs update`: the same as of any other record."""
    return _updater(CERTIFICATE)


def _trier() -> Callable[..., None]:
    def try_it(settings: Settings = None, file: Body = None, json: options.Json = False) -> None:
        from certctl.client.models.policies import DryRunBody

        values = values_of(settings or [], file)
        try:
            body = msgspec.convert(values, DryRunBody)
        except msgspec.ValidationError as error:
            raise UsageFault(str(error).replace("`", "")) from error
        with connect() as client:
            found = client.try_policy(body)
        _print_evaluation(found, json=json)

    return try_it


def _print_evaluation(found: Any, *, json: bool) -> None:
    if json:
        output.print_data(found)
        return
    tables.print_facts([("looked at", str(found.looked_at)), ("violations", str(found.violations))])
    print_rows(found.offenders, ("certificate_id", "name", "message"), "None.")


def _members(kind: Kind) -> Callable[..., None]:
    def members(thing: Which, json: options.Json = False) -> None:
        from certctl.client import calls

        with connect() as client:
            page = client.send(calls.list_members(find_id(client, _calls(kind), thing, kind.word)))
        if json:
            output.print_data(page)
            return
        print_rows(
            page.data, ("name", "status", "os", "architecture", "ip_address", "version", "id"), "No agent matches."
        )

    return members


def _violations(kind: Kind) -> Callable[..., None]:
    def violations(
        thing: Which,
        resolved: Annotated[bool, typer.Option("--resolved", help="Those that are resolved.")] = False,
        page_number: lists.Page = 1,
        limit: lists.Limit = 100,
        json: options.Json = False,
    ) -> None:
        with connect() as client:
            policy_id = find_id(client, _calls(kind), thing, kind.word)
            page = client.list_violations(policy_id, page_number, limit, resolved=resolved)
        if json:
            output.print_data(page)
            return
        print_rows(page.data, ("certificate_id", "severity", "message", "created_at", "id"), "None.")

    return violations


def _evaluator(kind: Kind) -> Callable[..., None]:
    def evaluate(thing: Which, json: options.Json = False) -> None:
        with connect() as client:
            found = client.evaluate_policy(find_id(client, _calls(kind), thing, kind.word))
        _print_evaluation(found, json=json)

    return evaluate


def _intermediates(kind: Kind) -> Callable[..., None]:
    def intermediates(thing: Which, json: options.Json = False) -> None:
        with connect() as client:
            found = client.list_intermediates(find_id(client, _calls(kind), thing, kind.word))
        if json:
            output.print_data(found)
            return
        print_rows(found.data, ("name", "kind", "state", "generation", "not_after", "id"), "None.")

    return intermediates


def _deleter(kind: Kind) -> Callable[..., None]:
    def delete(thing: Which, yes: options.Yes = False) -> None:
        with connect() as client:
            found = find(client, _calls(kind), thing, kind.word)
            options.confirm(f"Delete the {kind.word} {tables.safe(found.name)} ({found.id})?", yes=yes)
            client.send(_calls(kind).delete(found.id))
        sys.stdout.write(f"{tables.safe(found.name)} ({found.id}) is deleted\n")

    return delete


def _tester(kind: Kind) -> Callable[..., None]:
    def test(thing: Which, json: options.Json = False) -> None:
        from certctl.cli.exits import StageFailed
        from certctl.client import calls

        with connect() as client:
            thing_id = find_id(client, _calls(kind), thing, kind.word)
            answer = client.send(calls.test_thing(_calls(kind).path, thing_id))
        if json:
            output.print_data(answer)
        else:
            sys.stdout.write(f"{tables.status(answer.status)}: {tables.safe(answer.message)}\n")
        if answer.status == "failed":
            raise StageFailed(answer.message)

    return test


def values_of(settings: list[str], file: Path | None) -> dict[str, Any]:
    """What --file and --set say, by field; a dot goes into an object. Raises UsageFault."""
    values: dict[str, Any] = _read(file) if file else {}
    for text in settings:
        path, sign, value = text.partition("=")
        if not path or not sign:
            raise UsageFault(f"--set takes field=value, not {text!r}")
        *outer, last = path.split(".")
        inner = values
        for name in outer:
            inner = inner.setdefault(name, {})
            if not isinstance(inner, dict):
                raise UsageFault(f"{name} in {path} is no object")
        inner[last] = _parsed(value)
    return values


def _parsed(value: str) -> Any:
    """JSON where it is JSON (numbers, true, lists), else the text itself."""
    try:
        return msgspec.json.decode(value.encode())
    except msgspec.DecodeError:
        return value


def _read(path: Path) -> dict[str, Any]:
    try:
        content = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        return msgspec.json.decode(content, type=dict[str, Any])
    except (OSError, msgspec.MsgspecError) as error:
        raise UsageFault(f"{path} cannot be read as a JSON object: {error}") from error


def _resolved(client: Any, values: dict[str, Any]) -> dict[str, Any]:
    """An agent may be named; the API takes its id."""
    from certctl.client import calls

    agent = values.pop("agent", None) or values.get("agent_id")
    if isinstance(agent, str) and agent:
        values["agent_id"] = find_id(client, calls.AGENTS, agent, "agent")
    return values


def body_of(kind: Kind, values: dict[str, Any]) -> Any:
    """The body of a kind with these fields. Raises UsageFault for one that it does not have."""
    from importlib import import_module

    module, _, name = kind.body.partition(".")
    write: type[msgspec.Struct] = getattr(import_module(f"certctl.client.models.{module}"), name)
    known = [field.name for field in msgspec.structs.fields(write)]
    for field in values:
        if field not in known:
            close = difflib.get_close_matches(field, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"fields are {', '.join(known)}"
            raise UsageFault(f"a {kind.word} has no field {field}; {hint}")
    try:
        return msgspec.convert(values, write)
    except msgspec.ValidationError as error:
        raise UsageFault(str(error).replace("`", "")) from error

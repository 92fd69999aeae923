"""Every operation of the API that the client can call has a command, or says here why not; so do their forms and completion.

What a command calls is read from its source: `client.<method>`, `calls.<function>`, `acts.<function>`.
"""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import certctl.cli
from certctl.cli import exits, main, records
from certctl.client import calls
from certctl.client.surface import Sent, Surface

# a method of the client without a command, and why
WITHOUT_A_COMMAND = {
    "check": "the older form of get_me, which `status` shows",
    "get_auth_info": "told to browsers; `login` needs a key whatever it says",
    "get_bootstrap": "`bootstrap` itself says whether it is open",
    "get_health": "a probe of the process for whatever keeps it alive; `doctor` asks /ready",
    "get_certificate_version": "`certs versions` shows every field that one has",
    "patch_agent_group": "`update` says the same by PUT: what is not given stays",
    "patch_certificate": "`certs update` says the same by PUT",
    "patch_channel": "`update` says the same by PUT: what is not given stays",
    "patch_health_check": "`health-checks update` says the same by PUT",
    "patch_issuer": "`update` says the same by PUT",
    "patch_owner": "`update` says the same by PUT",
    "patch_policy": "`update` says the same by PUT",
    "patch_profile": "`update` says the same by PUT",
    "patch_renewal_policy": "`update` says the same by PUT",
    "patch_role": "`roles update` says the same by PUT",
    "patch_target": "`update` says the same by PUT",
    "patch_team": "`update` says the same by PUT",
}
# the five calls of a resource, as `records` makes them for each kind
_OF_A_KIND = ("list", "get", "create", "update", "delete")


def named_in_the_source() -> set[str]:
    """Attributes that any command reads: `client.get_job`, `calls.list_keys`, `calls.CERTIFICATES`."""
    found = set()
    for path in Path(certctl.cli.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                owner = node.value
                word = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
                if word.strip("_") in {"client", "calls", "acts", "audits"}:
                    found.add(node.attr)
    return found


def is_reached(name: str, sent: Sent, named: set[str], of_kinds: set[tuple[str, str]]) -> bool:
    function = sent.call
    owner = getattr(function, "__self__", None)
    if isinstance(owner, calls.Resource):
        # `find`, `fetch` and `records` take a resource by its name and list or get from it
        if (owner.path, function.__name__) in of_kinds:
            return True
        word = next(word for module in _modules() for word, each in vars(module).items() if each is owner)
        return name in named or (word in named and function.__name__ in {"list", "get"})
    return name in named or function.__name__ in named


def _modules():
    from certctl.client import acts, audits

    return (calls, acts, audits)


def test_every_call_has_a_command():
    named = named_in_the_source()
    of_kinds = {(getattr(calls, kind.resource).path, verb) for kind in records.KINDS.values() for verb in _OF_A_KIND}
    of_kinds.add((calls.CERTIFICATES.path, "update"))
    missing = {
        name
        for name, sent in vars(Surface).items()
        if isinstance(sent, Sent) and not is_reached(name, sent, named, of_kinds)
    }
    assert missing == set(WITHOUT_A_COMMAND)


def commands(app: typer.Typer, path: tuple[str, ...] = ()):
    for command in app.registered_commands:
        name = command.name or command.callback.__name__.replace("_", "-")
        yield (*path, name), command
    for group in app.registered_groups:
        yield from commands(group.typer_instance, (*path, group.name))


def test_what_prints_records_prints_them_in_every_form():
    seen = 0
    for path, command in commands(main.app):
        parameters = inspect.signature(command.callback).parameters
        if "json" in parameters:
            assert "output_form" in parameters or getattr(command.callback, "offers_output", False), path
            seen += 1
    assert seen > 60


def test_exit_codes_are_those_that_help_tells():
    told = {int(code) for code in re.findall(r"(?m)^\s*(\d)\b|\b(\d) ", exits.EXITS) for code in code if code}
    assert {1, 2, 3, 4, 5} <= told


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("certctl sess", "sessions"),
        ("certctl users d", "deactivate"),
        ("certctl certs im", "import"),
        ("certctl breakglass u", "unlock"),
    ],
)
def test_completion_knows_the_commands(typed, offered):
    words = typed.split()
    environment = {"_CERTCTL_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)}
    ended = CliRunner().invoke(main.app, [], prog_name="certctl", env=environment)
    assert offered in ended.output.split()

"""Every helm line of the operator's documents renders; every kubectl line names what the render has; every flag is one."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from certctl.cli.server import _parser
from chart.chart import CHART, ROOT, Manifest, helm, render, run
from docs import runbook

TEXT = (ROOT / "docs" / "operator" / "helm.md").read_text()
NOTES = (CHART / "templates" / "NOTES.txt").read_text()
RUNBOOKS = [path.stem for path in sorted(runbook.FOLDER.glob("*.md"))]
COMMANDS = [line.removeprefix("$ ") for line in TEXT.splitlines() if line.startswith("$ ")]
COMMANDS += [line.command for name in RUNBOOKS for line in runbook.lines(name)]
ALL_TEXT = TEXT + "".join((runbook.FOLDER / f"{name}.md").read_text() for name in RUNBOOKS)


def helm_lines() -> list[str]:
    return [line for line in COMMANDS if line.startswith("helm ")]


def rendering(line: str) -> bool:
    return shlex.split(line)[1] in {"install", "upgrade"}


def named(*more: str) -> set[tuple[str, str]]:
    manifests = render("backup.enabled=true", "migrations.viaHook=true", *more)
    return {(each["kind"].lower(), each["metadata"]["name"]) for each in manifests}


def test_a_helm_line_that_renders_nothing_names_the_release_and_flags_that_helm_knows():
    others = [shlex.split(line) for line in helm_lines() if not rendering(line)]
    assert {words[1] for words in others} == {"history", "rollback"}
    for words in others:
        assert words[2] == "certctl"
        assert words[words.index("--namespace") + 1] == "certctl"
        usage = subprocess.run([helm(), words[1], "--help"], capture_output=True, text=True, timeout=60, check=True)
        assert all(word in usage.stdout for word in words if word.startswith("--")), words


@pytest.mark.parametrize("line", [line for line in helm_lines() if rendering(line)])
def test_a_helm_line_renders(line):
    words = shlex.split(line)
    assert words[2:4] == ["certctl", "deploy/helm/certctl"]
    rest = [word for word in words[4:] if word not in {"--wait", "--create-namespace", "--reuse-values"}]
    at = rest.index("--namespace")
    assert rest[at + 1] == "certctl"
    del rest[at : at + 2]
    assert all(word == "--set" for word in rest[::2]), "only values are set"
    ended = run(*rest, *(["--is-upgrade"] if words[1] == "upgrade" else []))
    assert ended.returncode == 0, ended.stderr


def test_kubectl_lines_name_what_is_there():
    there = named()
    by_prefix = {"deployment": "deployment", "secret": "secret", "pod": "pod", "job": "job", "cronjob": "cronjob"}
    theirs = {("secret", "certctl-prometheus"), ("job", "certctl-backup-now")}  # made by the line itself
    there |= {("pod", f"{name}-0") for kind, name in there if kind == "statefulset"}
    seen = 0
    for line in [each for each in COMMANDS if each.startswith("kubectl ")] + re.findall(r"`(kubectl [^`]+)`", ALL_TEXT):
        words = shlex.split(line)
        assert words[1:3] == ["--namespace", "certctl"], line
        found = set(re.findall(r"\b(cronjob|job)/([a-z0-9-]+)", line))
        for kind, name in zip(words, words[1:], strict=False):
            if kind in by_prefix and not name.startswith("-") and name != "generic" and "create" not in words:
                found.add((kind, name))
        assert found or "create secret generic" in line, line
        assert found <= there | theirs, (line, found - there - theirs)
        seen += 1
    assert seen >= 18


def test_the_dump_line_is_the_cronjobs():
    (line,) = [each.removeprefix("$ ") for each in TEXT.splitlines() if each.startswith("$ pg_dump")]
    assert f"    {line} >" in _backup_script()


def _backup_script() -> str:
    manifests: list[Manifest] = render("backup.enabled=true")
    (script,) = [each["data"]["backup.sh"] for each in manifests if "backup.sh" in each.get("data", {})]
    return "\n".join(f"    {line}" for line in script.splitlines())


def test_values_that_are_named_exist():
    known = (CHART / "values.schema.json").read_text()
    paths = re.findall(
        r"`((?:server|agent|backup|postgresql|externalDatabase|networkPolicy|monitoring|migrations|rbac)\.[A-Za-z_.]+)",
        TEXT,
    )
    assert len(paths) > 20
    for path in paths:
        for key in path.rstrip(".").split("."):
            assert f'"{key}"' in known or key == "max_connections", path


def test_files_that_are_named_exist():
    for path in re.findall(r"-f (\S+)|\]\(([^)#]+)\)|`(deploy/[a-z/]+)`", TEXT):
        name = next(part for part in path if part)
        assert (ROOT / name).exists() or (ROOT / "docs" / "operator" / name).exists(), name


def test_the_way_back_is_a_command():
    asked = _parser().parse_args(["migrate", "down", "--to", "REV", "--sql"])
    assert asked.command == "migrate"


def test_notes_name_what_is_there():
    assert "certctl.serverSecret" in NOTES
    for path in re.findall(r"/api/v1/[a-z/]+", NOTES):
        from certctl.api.app import openapi_document

        assert "post" in openapi_document()["paths"][path]


def test_the_document_is_reachable():
    assert "docs/operator/helm.md" in Path(ROOT / "README.md").read_text()

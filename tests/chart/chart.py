"""The chart as its tests see it: rendered by the real helm, as dictionaries."""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "certctl"
ALL_ON = ("backup.enabled=true", "monitoring.prometheusRules.enabled=true", "migrations.viaHook=true")

Manifest = dict[str, Any]


@functools.cache
def helm() -> str:
    """The path of helm; it is built when there is none, which takes its time once a machine."""
    built = subprocess.run([ROOT / "scripts" / "install-helm"], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return built.stdout.strip().splitlines()[-1]


def run(*arguments: str, values: Manifest | None = None) -> subprocess.CompletedProcess[str]:
    """`helm template certctl CHART`, with these arguments and values."""
    given = ["--values", "-"] if values is not None else []
    return subprocess.run(
        [helm(), "template", "certctl", str(CHART), "--namespace", "pki", *given, *arguments],
        input=json.dumps(values) if values is not None else None,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def render(*sets: str, values: Manifest | None = None, arguments: tuple[str, ...] = ()) -> list[Manifest]:
    """What the chart renders with `--set` for each of `sets`."""
    ended = run(*[word for each in sets for word in ("--set", each)], *arguments, values=values)
    assert ended.returncode == 0, ended.stderr
    return [document for document in yaml.load_all(ended.stdout, yaml.CSafeLoader) if document]


def refused(*sets: str, values: Manifest | None = None) -> str:
    """What helm says of values that it must not take."""
    ended = run(*[word for each in sets for word in ("--set", each)], values=values)
    assert ended.returncode != 0, "it was rendered"
    return ended.stderr


def of(manifests: list[Manifest], kind: str, name: str = "") -> Manifest:
    """The one manifest of a kind (and name)."""
    (found,) = [each for each in manifests if each["kind"] == kind and name in {"", each["metadata"]["name"]}]
    return found


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Every pod that a render would start: its owner's kind and name, and its template."""
    for each in manifests:
        spec = each.get("spec", {})
        template = spec.get("jobTemplate", {}).get("spec", {}).get("template") or spec.get("template")
        if template:
            yield f"{each['kind']} {each['metadata']['name']}", template


def containers(template: Manifest) -> list[Manifest]:
    """The containers of a pod, those that come first included."""
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]

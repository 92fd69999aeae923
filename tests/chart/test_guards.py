"""Each guard says yes to the tree as it is, and no to what it is there for."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import yaml

from chart.chart import ROOT, helm

GUARDS = ROOT / "scripts" / "ci-guards"
KEY = "-----BEGIN PRIVATE " + "KEY-----\n" + "MIGHAgEAMBMGByqGSM49" * 8 + "\n-----END PRIVATE " + "KEY-----\n"


def run(guard: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([guard], capture_output=True, text=True, timeout=300, check=False, env=os.environ | environ)


def copy(tmp_path: Path, *paths: str) -> Path:
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / path).is_dir() else shutil.copy)(ROOT / path, tmp_path / path)
    return tmp_path


def test_six_renders():
    ended = run(GUARDS / "helm-templates-lint.sh", CI="true", PATH=f"{Path(helm()).parent}:{os.environ['PATH']}")
    assert ended.returncode == 0, ended.stderr
    assert "6/6" in ended.stdout


def test_a_render_that_kubernetes_would_refuse_is_counted(tmp_path):
    root = copy(
        tmp_path,
        "deploy/helm/certctl",
        "scripts/validate-manifests",
        "scripts/install-helm",
        "scripts/ci-guards/helm-templates-lint.sh",
    )
    (root / ".venv").symlink_to(ROOT / ".venv")
    job = root / "deploy/helm/certctl/templates/migration-job.yaml"
    job.write_text(job.read_text().replace("backoffLimit:", "backOffLimit:"))
    ended = run(root / "scripts/ci-guards/helm-templates-lint.sh", PATH=f"{Path(helm()).parent}:{os.environ['PATH']}")
    assert ended.returncode != 0
    assert "4/6" in ended.stdout, ended.stdout + ended.stderr


def test_without_helm_it_fails(tmp_path):
    root = copy(
        tmp_path, "deploy/helm/certctl", "scripts/validate-manifests", "scripts/ci-guards/helm-templates-lint.sh"
    )
    (root / "scripts" / "install-helm").write_text("#!/bin/sh\nexit 1\n")
    (root / "scripts" / "install-helm").chmod(0o755)
    ended = run(root / "scripts/ci-guards/helm-templates-lint.sh", CI="true")
    assert ended.returncode == 1
    assert "no helm" in ended.stderr


def test_actions_are_pinned(tmp_path):
    assert run(GUARDS / "actions-pinned").returncode == 0
    root = copy(tmp_path, "scripts/ci-guards/actions-pinned", ".github/workflows/ci.yml")
    workflow = root / ".github/workflows/ci.yml"
    whole = workflow.read_text()
    workflow.write_text(whole + "      - uses: actions/checkout@v4\n")
    ended = run(root / "scripts/ci-guards/actions-pinned")
    assert ended.returncode == 1
    assert "checkout@v4" in ended.stderr
    workflow.unlink()
    assert run(root / "scripts/ci-guards/actions-pinned").returncode == 1, "no workflow is no success"


def test_secrets_are_found(tmp_path):
    assert run(GUARDS / "no-secrets").returncode == 0
    root = copy(tmp_path, "scripts/ci-guards/no-secrets")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True, timeout=30)
    secrets = {
        "docs/key.md": f"see\n{KEY}",
        "a.txt": "key=ctk_" + "Ab1-" * 11,
        "b.txt": "AKIA" + "ABCDEFGHIJKLMNOP",
        "deploy/server.key": "",
    }
    for name, text in secrets.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    subprocess.run(["git", "add", "-A"], cwd=root, check=True, timeout=30)
    ended = run(root / "scripts/ci-guards/no-secrets")
    assert ended.returncode == 1
    for name in secrets:
        assert name in ended.stderr


def test_the_workflow_runs_every_guard_in_a_loop_and_make_lint_does_too():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    steps = workflow["jobs"]["guards"]["steps"]
    (setup,) = [step for step in steps if step.get("uses", "").startswith("azure/setup-helm@")]
    assert setup["with"] == {"version": "v3.16.0"}
    assert any("for guard in scripts/ci-guards/*" in step.get("run", "") for step in steps)
    makefile = (ROOT / "Makefile").read_text()
    assert "for guard in scripts/ci-guards/*" in makefile
    assert workflow["permissions"] == {"contents": "read"}
    for guard in GUARDS.iterdir():
        assert os.access(guard, os.X_OK), guard


def test_metrics_that_nobody_declared_or_documents_are_found(tmp_path):
    root = copy(
        tmp_path, "scripts/ci-guards/metrics-documented", "docs/reference/metrics.md", "docs/operator", "deploy/helm"
    )
    (root / ".venv").symlink_to(ROOT / ".venv")
    (root / "src").symlink_to(ROOT / "src")
    guard = root / "scripts/ci-guards/metrics-documented"
    assert run(guard).returncode == 0
    page = root / "docs/reference/metrics.md"
    page.write_text(page.read_text().replace("certctl_job_stuck", "certctl_job_stuckk"))
    rules = root / "deploy/helm/certctl/templates/prometheusrules.yaml"
    rules.write_text(rules.read_text().replace("certctl_agent_online", "certctl_agents_online"))
    ended = run(guard)
    assert ended.returncode == 1
    for fault in (
        "certctl_job_stuck is declared and not documented",
        "certctl_job_stuckk in",
        "certctl_agents_online in",
    ):
        assert fault in ended.stderr


def test_a_route_that_the_document_leaves_out_is_found(tmp_path):
    assert run(GUARDS / "routes-openapi").returncode == 0
    (tmp_path / "sitecustomize.py").write_text(
        "import certctl.api.app as app\n"
        "told = app.openapi_document()\n"
        "told['paths']['/api/v1/unheard'] = told['paths'].pop('/api/v1/owners')\n"
    )
    ended = run(GUARDS / "routes-openapi", PYTHONPATH=str(tmp_path))
    assert ended.returncode == 1
    assert "GET /api/v1/owners is served and not in the document" in ended.stderr
    assert "/api/v1/unheard is in the document and not served" in ended.stderr


def test_variables_that_are_not_told_or_not_read_are_found(tmp_path):
    root = copy(tmp_path, "scripts/ci-guards/env-documented", "docs", "deploy", "README.md")
    (root / "src" / "certctl").mkdir(parents=True)
    (root / "src" / "certctl" / "made_up.py").write_text(
        'NAME = "CERTCTL_UNTOLD"\n# CERTCTL_SERVER_PORT only in a comment\n'
    )
    ended = run(root / "scripts/ci-guards/env-documented")
    assert ended.returncode == 1
    assert "CERTCTL_UNTOLD is read and not documented" in ended.stderr
    assert "CERTCTL_AGENT_NAME is documented and nothing reads it" in ended.stderr
    assert "CERTCTL_SERVER_PORT is set in deploy/ and nothing reads it" in ended.stderr

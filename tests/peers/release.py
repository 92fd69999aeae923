"""Other releases of certctl as source trees: the last one, from its tag, and a next one, made of the present with one revision more."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAST = ROOT / "tests" / "faults" / "last_release"
_REVISION = '''"""Revision 9999: what a next release might add."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "{head}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table("of_the_next_release", sa.Column("id", sa.Text, primary_key=True))
    for table in ("steps", "jobs", "managed_certificates", "certificate_versions", "agents", "audit_events"):
        op.add_column(table, sa.Column("of_the_next_release", sa.Text, nullable=False, server_default=""))
{more}

def downgrade() -> None:
    raise NotImplementedError
'''


def last_release(folder: Path) -> Path:
    """Unpack the last release below `folder`; the commit in `last_release` stands in for a tag that is not there yet."""
    version, commit = LAST.read_text().split()
    tagged = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--verify", "--quiet", f"{version}^{{commit}}"],
        capture_output=True,
        text=True,
        check=False,
    )
    ref = version if tagged.returncode == 0 else commit
    packed = subprocess.run(
        ["git", "-C", str(ROOT), "archive", "--format=tar", ref, "src", "tests"], capture_output=True, check=False
    )
    assert packed.returncode == 0, f"the last release needs the repository's history: {packed.stderr.decode()}"
    tree = folder / version
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(tree, filter="data")
    return tree


def next_release(folder: Path, head: str, more: str = "") -> Path:
    """The present release with one revision more; `more` is what else it does, one indented line."""
    tree = folder / "next"
    shutil.copytree(ROOT / "src", tree / "src", ignore=shutil.ignore_patterns("__pycache__"))
    versions = tree / "src" / "certctl" / "store" / "migrations" / "versions"
    (versions / "r9999_next.py").write_text(_REVISION.format(head=head, more=more))
    return tree

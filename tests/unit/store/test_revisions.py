"""What `certctl-server migrate list` says of each revision is what its code does."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from certctl.store import migrate, migrations

FOLDER = Path(inspect.getfile(migrations)).parent / "versions"
TOLD = {each.revision: each for each in migrate.revisions()}
TAKES = {"drop_table", "drop_column", "rename_table"}


def test_all_of_them_are_told_in_words():
    assert set(TOLD) == migrate.known()
    assert list(TOLD) == sorted(TOLD)
    assert all(each.brings and each.way_back for each in TOLD.values())


@pytest.mark.parametrize("path", sorted(FOLDER.glob("r*.py")), ids=lambda path: path.stem)
def test_one_that_is_said_to_add_takes_nothing_away(path):
    tree = ast.parse(path.read_text())
    (upgrade,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "upgrade"]
    called = {node.func.attr for node in ast.walk(upgrade) if isinstance(node, ast.Call) and hasattr(node.func, "attr")}
    raised = {node.func.id for node in ast.walk(upgrade) if isinstance(node, ast.Call) and hasattr(node.func, "id")}
    told = TOLD[path.stem[1:5]]
    assert told.takes_away == ("raise_floor" in raised)
    assert told.takes_away or not called & TAKES, "what takes away raises the floor (ADR 8)"

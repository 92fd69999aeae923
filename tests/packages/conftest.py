"""The one-file agent, built once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from packages.onefile import build


@pytest.fixture(scope="session")
def one_file(tmp_path_factory) -> Path:
    """certctl-agent for this machine and this Python."""
    (file,) = build(tmp_path_factory.mktemp("built"))
    return file

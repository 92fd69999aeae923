"""A fresh world on each database."""

from __future__ import annotations

import pytest

from lifecycle.world import world


@pytest.fixture
async def town(database_url, tmp_path):
    async with world(database_url, tmp_path / "data") as fresh:
        yield fresh

"""What the stories of deaths and faults share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from peers.nursery import Nursery


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Hundreds of deaths are hundreds of starts: this saves their seconds of importing."""
    with Nursery() as running:
        yield running

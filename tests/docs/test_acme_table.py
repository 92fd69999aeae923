"""docs/reference/acme.md names tests; each of them is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_test_of_the_table_is_there():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/reference/acme.md").read_text()))
    places = (
        "protocol/test_acme_*.py",
        "protocol/test_ca_*.py",
        "unit/*/test_acme_*.py",
        "unit/policy/test_renewal.py",
    )
    places += ("integration/test_suggest*.py",)
    written = "".join(path.read_text() for place in places for path in (ROOT / "tests").glob(place))
    there = set(re.findall(r"^(?:async )?def (test_\w+)", written, re.MULTILINE))
    assert named - there == set()
    assert len(named) > 70

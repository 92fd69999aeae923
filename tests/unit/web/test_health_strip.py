"""The strip of a health check: runs as pieces of one line without a gap; a share that no run can push out of bounds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from certctl.core.health import HealthEntry, HealthStatus
from certctl.web.health_checks import strip

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def entry(began: datetime, status: str) -> HealthEntry:
    return HealthEntry(
        tenant_id="t", id="he-1", health_check_id="hc-1", status=status, failure_kind="", failure_reason="",
        fingerprint="", response_time_ms=1, looks=1, checked_at=began, last_checked_at=began,
    )  # fmt: skip


def test_nothing_is_drawn_of_nothing():
    assert strip([], NOW) is None


def test_a_half_is_a_half():
    found = strip([entry(NOW - timedelta(hours=2), "down"), entry(NOW - timedelta(hours=4), "healthy")], NOW)
    assert found.spoken == "Healthy for 50 % of the last 4 h"
    assert [piece.spoken for piece in found.pieces] == ["Healthy for 2 h", "Down for 2 h"]
    assert [piece.kind for piece in found.pieces] == ["ok", "bad"]


@given(st.lists(st.tuples(st.integers(0, 10**7), st.sampled_from(sorted(HealthStatus))), min_size=1, max_size=30))
def test_runs_meet_and_the_share_stays_a_share(runs):
    newest_first = sorted(runs)
    found = strip([entry(NOW - timedelta(seconds=back), status) for back, status in newest_first], NOW)
    ends = [(float(piece.x[:-1]), float(piece.width[:-1])) for piece in found.pieces]
    for (x, width), (after, _width) in zip(ends, ends[1:], strict=False):
        assert width >= 0
        assert abs(x + width - after) < 0.05
    assert 0 <= float(re.search(r"for ([0-9.e+-]+) %", found.spoken)[1]) <= 100

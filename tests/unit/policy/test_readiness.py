"""Green only where somebody looked: each of the four truths by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from certctl.core.status import DeploymentStatus as D
from certctl.policy.readiness import DeploymentFacts, ReadinessFacts, is_ready, judge_readiness

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = timedelta(days=1)
ON_A = DeploymentFacts(
    target_id="t-a", status=D.VERIFIED, wanted_fingerprint="aa", observed_fingerprint="aa", observed_at=NOW
)
GOOD = ReadinessFacts(now=NOW, not_before=NOW - DAY, not_after=NOW + DAY, chain_verified=True, deployments=(ON_A,))


def seen(**changes: Any) -> tuple[DeploymentFacts, ...]:
    return (ON_A, msgspec.structs.replace(ON_A, target_id="t-b", **changes))


def read(**changes: Any) -> dict[str, bool | None]:
    return {one.name: one.ok for one in judge_readiness(msgspec.structs.replace(GOOD, **changes)) if one.ok is not True}


def test_all_four_truths() -> None:
    conditions = judge_readiness(GOOD)
    assert [one.name for one in conditions] == ["issued", "deployed", "served", "trusted"]
    assert all(one.reason for one in conditions)
    assert is_ready(conditions) is True


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"revoked": True}, {"issued": False}),
        ({"not_after": NOW}, {"issued": False}),
        ({"not_before": NOW + DAY}, {"issued": False}),
        ({"not_before": None, "not_after": None}, {"issued": False}),
        ({"chain_verified": None}, {"trusted": None}),
        ({"chain_verified": False}, {"trusted": False}),
        ({"deployments": ()}, {"deployed": None, "served": None}),
        ({"deployments": seen(status=D.FAILED)}, {"deployed": False}),
        ({"deployments": seen(status=D.PENDING)}, {"deployed": False}),
        ({"deployments": seen(status=D.DRIFTED)}, {"served": False}),
        ({"deployments": seen(status=D.APPLIED, observed_fingerprint="", observed_at=None)}, {"served": None}),
        ({"deployments": seen(observed_fingerprint="bb")}, {"served": False}),
        ({"deployments": seen(observed_at=NOW - 2 * DAY)}, {"served": None}),
        ({"deployments": seen(observed_at=None)}, {"served": None}),
    ],
)
def test_each_truth_by_itself(changes: dict[str, Any], wrong: dict[str, bool | None]) -> None:
    assert read(**changes) == wrong
    ready = is_ready(judge_readiness(msgspec.structs.replace(GOOD, **changes)))
    assert ready is (False if False in wrong.values() else None)


def test_nothing_known_is_not_ready() -> None:
    assert is_ready(()) is None


def test_reasons_name_the_targets() -> None:
    served = judge_readiness(msgspec.structs.replace(GOOD, deployments=seen(observed_fingerprint="bb")))[2]
    assert "t-b" in served.reason
    assert "t-a" not in served.reason
    assert (
        judge_readiness(msgspec.structs.replace(GOOD, chain_verified=False, chain_fault="no root"))[3].reason
        == "no root"
    )

"""Replicas whose clocks are wrong, by more than any lease: every step once, every tick once a period, dates that are right."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from faults.test_replicas import CERTIFICATES, issue, judge_steps, judge_ticks, ticked
from peers.replicas import Replicas, replicas

pytestmark = [pytest.mark.xdist_group("clocks"), pytest.mark.timeout(400)]

AHEAD, BEHIND = timedelta(hours=2), -timedelta(minutes=20)


@pytest.fixture(scope="module")
def house(tmp_path_factory, postgres_server) -> Iterator[Replicas]:
    """One replica two hours ahead, one twenty minutes behind."""
    folder = tmp_path_factory.mktemp("clocks")
    with replicas(folder, postgres_server) as made:
        for number, wrong in enumerate((AHEAD, BEHIND)):
            clock = folder / f"clock-{number}"
            clock.write_text(str(wrong.total_seconds()))
            made.add(
                CLOCK_FILE=str(clock),
                CERTCTL_STEP_LEASE="60s",
                CERTCTL_SCHEDULER_RENEWAL_CHECK_INTERVAL="500ms",
                CERTCTL_SCHEDULER_AGENT_HEALTH_CHECK_INTERVAL="1s",
                CERTCTL_CRL_GENERATION_INTERVAL="2s",
                POLL_BENEATH_SECONDS="600",
            )
        yield made


def load(house: Replicas, prefix: str, requests: int = CERTIFICATES) -> None:
    for number in range(requests):
        issue(house, prefix, number)
    mine = f"certificate_id LIKE '{prefix}-%'"
    house.all[0].wait(
        lambda: house.count(f"FROM certificate_versions WHERE {mine} AND status = 'current'") == requests,
        "every certificate is issued",
    )
    house.all[0].wait(
        lambda: not house.count("FROM steps WHERE status IN ('ready', 'leased')"), "every step has come to its end"
    )


def test_nothing_is_taken_from_who_holds_it(house):
    begun = house.count("FROM step_log"), house.count("FROM tick_log")
    load(house, "wrong")
    judge_steps(house, begun[0], 2)
    ticked(house, begun[1])
    judge_ticks(house, begun[1])
    assert not house.rows("SELECT serial_number FROM orders GROUP BY serial_number HAVING count(*) > 1")


def test_the_dates_are_right_whichever_replica_wrote_them(house):
    for number in range(2):
        issue(house, "dates", number)
    house.all[0].wait(
        lambda: house.count("FROM certificate_versions WHERE certificate_id LIKE 'dates-%'") == 2, "both are issued"
    )
    now = datetime.now(UTC)
    rows = house.rows("SELECT not_before, created_at FROM certificate_versions WHERE certificate_id LIKE 'dates-%'")
    for told in (datetime.fromisoformat(cell) for row in rows for cell in row):
        assert abs(told - now) < timedelta(minutes=10), told


def test_a_clock_that_jumps_meanwhile_is_of_no_matter(house):
    begun = house.count("FROM step_log"), house.count("FROM tick_log")
    for name, hours in (("back", -30), ("forth", 30)):
        (house.directory / "clock-0").write_text(str(hours * 3600))
        issue(house, name, 0)
        issue(house, name, 1)
    load(house, "jumped", 20)
    ticked(house, begun[1])
    judge_ticks(house, begun[1])
    # who is slower than a request waits for gives a step back; nobody takes it for lapsed by the clock that jumped
    stale = house.rows(f"SELECT id FROM step_log WHERE n > {begun[0]} AND released_by LIKE '%lease_until <=%'")
    assert not stale, f"taken from who held it: {stale}"


def test_a_machine_whose_clock_is_wrong_says_so_once(house):
    """In its log, at once; not again every five seconds."""
    for replica in house.all:
        told = (replica.directory / "log").read_text(errors="replace")
        assert told.count("own_clock_wrong") == 1

"""Polls of agents that came together part with every round."""

from __future__ import annotations

from certctl.api.agent_protocol import LEAST_OF_A_POLL, own_share


def test_an_agent_waits_a_share_of_its_own_and_no_longer_than_it_asked() -> None:
    waits = [own_share(25.0, f"agent-{number:06}") for number in range(1_000)]
    assert 25.0 * LEAST_OF_A_POLL <= min(waits) < 21.0
    assert 24.0 < max(waits) < 25.0
    assert len(set(waits)) == len(waits)
    assert own_share(25.0, "agent-000007") == waits[7]


def test_agents_that_poll_together_are_spread_after_a_few_rounds() -> None:
    moments = sorted(10 * own_share(25.0, f"agent-{number:06}") for number in range(1_000))
    busiest = max(sum(start <= moment < start + 2.5 for moment in moments) for start in range(200, 250))
    assert busiest < 100  # of 1,000 that began at one moment


def test_a_poll_that_does_not_wait_does_not_wait() -> None:
    assert own_share(0.0, "agent-000001") == 0.0

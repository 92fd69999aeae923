"""How often waiting polls look by themselves: a lost hint is made up for, and a large fleet does not eat the machine."""

from __future__ import annotations

from certctl.api.agent_protocol import look_every
from certctl.store.wake import Wakeups, agent_channel


def test_a_small_fleet_looks_each_second_and_a_large_one_a_hundred_times_in_all():
    assert [look_every(waiting) for waiting in (0, 1, 100)] == [1.0, 1.0, 1.0]
    for waiting in (101, 1_000, 10_000):
        assert waiting / look_every(waiting) <= 100


async def test_who_waits_is_counted_by_channel_and_no_longer_than_it_waits():
    wakeups = Wakeups()
    with wakeups.watch(agent_channel("a")), wakeups.watch(agent_channel("a")), wakeups.watch(agent_channel("b")):
        assert wakeups.waiting == 2
    assert wakeups.waiting == 0

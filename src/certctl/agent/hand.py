"""The steps in hand: which leases this agent holds, who has lost one, and how often it must give a sign of life."""

from __future__ import annotations

from msgspec import Struct

from certctl.wire.agent import LeaseRef, WorkItem

# A lease must survive two lost heartbeats.
_BEATS_A_LEASE = 3.0
_LEAST_BEAT_SECONDS = 0.5


class Held(Struct, kw_only=True):
    """One step in hand. `fence` grows when the server gives the same step out again; `lost` when it has passed on."""

    item: WorkItem
    fence: int
    lost: bool = False


class Hand:
    """All steps in hand, by step id."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    def take(self, item: WorkItem) -> Held | None:
        """Take a step into hand; None when it is in hand already (its newer fence is then the one that counts)."""
        held = self._held.get(item.step_id)
        if held is None:
            held = self._held[item.step_id] = Held(item=item, fence=item.fence)
            return held
        if item.fence > held.fence:
            held.fence = item.fence
            held.lost = False
        return None

    def release(self, held: Held) -> None:
        """The step is done with."""
        self._held.pop(held.item.step_id, None)

    def lose(self, leases: list[LeaseRef]) -> list[Held]:
        """The server says these leases have passed on; returns the steps that are thereby lost."""
        lost = [
            held
            for lease in leases
            if (held := self._held.get(lease.step_id)) and held.fence <= lease.fence and not held.lost
        ]
        for held in lost:
            held.lost = True
        return lost

    def leases(self) -> list[LeaseRef]:
        """What the next heartbeat must keep alive."""
        return [LeaseRef(step_id, held.fence) for step_id, held in self._held.items() if not held.lost]

    def beat_seconds(self, idle_seconds: float) -> float:
        """The time between heartbeats: `idle_seconds`, or a third of the shortest lease in hand."""
        shortest = min((held.item.lease_seconds for held in self._held.values()), default=float("inf"))
        return max(_LEAST_BEAT_SECONDS, min(idle_seconds, shortest / _BEATS_A_LEASE))

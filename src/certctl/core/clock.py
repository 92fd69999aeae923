"""One clock for the whole house. Times are aware UTC; tests hand in a clock of their own."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

# where the system has it, a count that goes on while the machine sleeps: who was suspended must see its leases lapsed
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """The present moment, aware, in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The present moment, aware, in UTC."""
        return datetime.now(UTC)


class ToldClock:
    """Another machine's time, as it was last told, counted on steadily: this machine's own clock may be wrong, or jump.

    Before it was told anything it is the machine's clock.
    """

    def __init__(self) -> None:
        self._own: Clock = SystemClock()
        self._told: tuple[datetime, float] | None = None

    def now(self) -> datetime:
        """The present moment there, aware, in UTC."""
        if self._told is None:
            return self._own.now()
        told, at = self._told
        return told + timedelta(seconds=steady_seconds() - at)

    def tell(self, moment: datetime, at: float) -> None:
        """There it was `moment` when `steady_seconds()` said `at`."""
        self._told = (moment.astimezone(UTC), at)

    def own_error(self) -> timedelta:
        """How far this machine's clock is ahead of what it was told; negative when behind."""
        return self._own.now() - self.now()


def steady_seconds() -> float:
    """Seconds since some moment in the past; never set, never jumping."""
    return time.clock_gettime(_STEADY)

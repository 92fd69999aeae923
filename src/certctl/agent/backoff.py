"""How long to wait after a failure: doubling from 0.2 s to 60 s, spread by chance.

The chance keeps many agents from coming back in step.
"""

from __future__ import annotations

import random
from datetime import timedelta

FIRST_SECONDS = 0.2
MOST_SECONDS = 60.0
MOST_SPREAD_SECONDS = 120.0


class Backoff:
    """Counts failures in a row. `failed` tells the wait in seconds, `succeeded` starts over."""

    def __init__(self, first_seconds: float = FIRST_SECONDS, most_seconds: float = MOST_SECONDS) -> None:
        self._first = first_seconds
        self._most = most_seconds
        self.failures = 0

    def failed(self, retry_after: timedelta | None = None, spread: timedelta = timedelta(0)) -> float:
        """The seconds to wait now: between half and all of the doubled time, and not less than the server asked.

        Whom it asked to wait came at one time: they come back spread over half as long again. The first failure of a
        call that got no answer may be one that all agents see at once: they come back over as long as the server,
        while it could still speak, said that so many need (`spread`).
        """
        ceiling = min(self._most, self._first * 2 ** min(self.failures, 32))
        self.failures += 1
        wait = random.uniform(ceiling / 2, ceiling)  # noqa: S311 - spreads load, guards nothing
        asked = min(retry_after.total_seconds(), self._most) if retry_after else 0.0
        if self.failures == 1 and retry_after is None:
            wait += random.uniform(0.0, min(spread.total_seconds(), MOST_SPREAD_SECONDS))  # noqa: S311 - as above
        return max(wait, asked * random.uniform(1.0, 1.5))  # noqa: S311 - as above

    def succeeded(self) -> None:
        """The next failure waits shortly again."""
        self.failures = 0

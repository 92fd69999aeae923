"""Counts of one process on their way to the fleet's counters: kept in memory, written every few seconds.

For what happens thousands of times a second and writes nothing itself (OCSP answers). A process that is killed loses
its last seconds of them; a counter never falls.
"""

from __future__ import annotations

from collections import Counter

from certctl.telemetry.metrics import Metric

Line = tuple[str, tuple[tuple[str, str], ...]]


class Tally:
    """One per process; used on its event loop's thread alone."""

    def __init__(self) -> None:
        self._counts: Counter[Line] = Counter()
        self._metrics: dict[str, Metric] = {}

    def count(self, metric: Metric, **labels: str) -> None:
        """One more."""
        self._metrics[metric.name] = metric
        self._counts[metric.name, tuple(sorted(labels.items()))] += 1

    def take(self) -> list[tuple[Metric, dict[str, str], float]]:
        """What was counted since the last time; the caller writes it or gives it back."""
        taken = [(self._metrics[name], dict(labels), float(n)) for (name, labels), n in self._counts.items()]
        self._counts.clear()
        return taken

    def give_back(self, taken: list[tuple[Metric, dict[str, str], float]]) -> None:
        """What could not be written waits for the next time."""
        for metric, labels, amount in taken:
            self._counts[metric.name, tuple(sorted(labels.items()))] += int(amount)

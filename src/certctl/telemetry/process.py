"""This process's own figures: request times, event loop lag, database pool, memory and CPU. Read on a port of its own.

Each process has one registry; nothing here is the fleet's. Labels are bounded: route templates, never paths.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest

from certctl.telemetry import metrics
from certctl.telemetry.metrics import Metric

_OUTCOMES = ("answered", "not_usable", "own_write", "failed")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class ProcessFigures:
    """One per process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        wanted = metrics.REQUEST_SECONDS
        self._requests = Histogram(
            wanted.name, wanted.help, wanted.labels, buckets=wanted.buckets, registry=self._registry
        )
        self._lag = self._gauge(metrics.LOOP_LAG)
        self._standby_usable = self._gauge(metrics.STANDBY_USABLE)
        self._standby_behind = self._gauge(metrics.STANDBY_BEHIND)
        self._standby_behind.set(math.nan)
        counted = metrics.STANDBY_READS
        self._standby_reads = Counter(counted.name, counted.help, counted.labels, registry=self._registry)
        for outcome in _OUTCOMES:
            self._standby_reads.labels(outcome)

    def answered(self, method: str, route: str, status: int | None, seconds: float) -> None:
        """A call was answered, or (status None) its client went away first."""
        shown = method if method in _METHODS else "other"
        self._requests.labels(shown, route or "unmatched", str(status or "gone")).observe(seconds)

    def loop_was_late(self, seconds: float) -> None:
        """By how much the event loop missed its last appointment."""
        self._lag.set(seconds)

    def watch_pool(self, size: int, in_use: Callable[[], int]) -> None:
        """Tell the database pool's size and use from now on."""
        self._gauge(metrics.POOL_SIZE).set(size)
        self._gauge(metrics.POOL_IN_USE).set_function(in_use)

    def watch_standby(self, usable: Callable[[], bool], behind: Callable[[], float | None]) -> None:
        """Tell from now on whether a standby is read, and how far it is behind."""
        self._standby_usable.set_function(usable)
        self._standby_behind.set_function(lambda: math.nan if (seconds := behind()) is None else seconds)

    def read_at_standby(self, outcome: str) -> None:
        """A read that the standby might have answered was answered, by it or for this reason by the primary."""
        self._standby_reads.labels(outcome).inc()

    def page(self) -> bytes:
        """Everything, in Prometheus's text format 0.0.4."""
        return generate_latest(self._registry)

    def _gauge(self, metric: Metric) -> Gauge:
        return Gauge(metric.name, metric.help, registry=self._registry)

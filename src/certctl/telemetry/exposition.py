"""Metrics as Prometheus reads them (text format 0.0.4), through prometheus_client's own writer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from certctl.telemetry.metrics import Kind, Metric

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

# metric name (with _bucket, _sum for histograms) -> labels as JSON -> value
Totals = Mapping[str, Mapping[str, float]]
Gauge = tuple[Metric, float, Mapping[str, str]]


def write(
    gauges: Iterable[Gauge], counted: Iterable[Metric], totals: Totals, zeros: Mapping[str, list[dict[str, str]]]
) -> bytes:
    """The whole page. `counted` are the counters and histograms to tell; a line of `zeros` (metric name -> label sets)
    that was never counted is told as 0, because a rate needs a first value to rise from.
    """
    families = [*_gauge_families(gauges), *(_counted(metric, totals, zeros.get(metric.name, [])) for metric in counted)]
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Ready(families))
    return generate_latest(registry)


class _Ready(Collector):
    def __init__(self, families: list[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Family]:
        yield from self._families


def _gauge_families(gauges: Iterable[Gauge]) -> list[Family]:
    families: dict[str, Any] = {}
    for metric, value, labels in gauges:
        if metric.name not in families:
            families[metric.name] = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
        families[metric.name].add_metric([labels[name] for name in metric.labels], value)
    return list(families.values())


def _counted(metric: Metric, totals: Totals, zeros: list[dict[str, str]]) -> Family:
    return _histogram(metric, totals) if metric.kind is Kind.HISTOGRAM else _counter(metric, totals, zeros)


def _counter(metric: Metric, totals: Totals, zeros: list[dict[str, str]]) -> Family:
    family = CounterMetricFamily(metric.name.removesuffix("_total"), metric.help, labels=metric.labels)
    lines = {tuple(labels[name] for name in metric.labels): 0.0 for labels in (zeros if metric.labels else [{}])}
    for text, amount in totals.get(metric.name, {}).items():
        labels = json.loads(text)
        lines[tuple(labels[name] for name in metric.labels)] = amount
    for values, amount in sorted(lines.items()):
        family.add_metric(values, amount)
    return family


def _histogram(metric: Metric, totals: Totals) -> Family:
    """Stored are how many fell into each bucket alone; told are how many were at most its bound."""
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    fell: dict[tuple[str, ...], dict[str, float]] = {}
    for text, amount in totals.get(f"{metric.name}_bucket", {}).items():
        labels = json.loads(text)
        fell.setdefault(tuple(labels[name] for name in metric.labels), {})[labels["le"]] = amount
    sums = {
        tuple(json.loads(text)[name] for name in metric.labels): amount
        for text, amount in totals.get(f"{metric.name}_sum", {}).items()
    }
    for values, by_bound in sorted(fell.items()):
        running, buckets = 0.0, []
        for bound in (*(str(bucket) for bucket in metric.buckets), "+Inf"):
            running += by_bound.get(bound, 0.0)
            buckets.append((bound, running))
        family.add_metric(values, buckets, sums.get(values, 0.0))
    return family

"""Counts with labels that cannot grow without end: names that the file does not declare are gathered in one.

Plain numbers, an addition each: a job passes here several times, and the instruments of prometheus-client take a lock
and look up their labels at each call. Whoever adds holds a lock of his own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from runner.domain.schedule import Definitions

OTHER = "other"
BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600)  # seconds
_EDGES = tuple(map(floatToGoString, (*BUCKETS, float("inf"))))

Values = tuple[str, ...]


class Known:
    """The values that a label may take. Labels that are not listed take any: code names their values."""

    def __init__(self) -> None:
        self._values: Mapping[str, frozenset[str]] = {}
        self.know(Definitions())

    def know(self, definitions: Definitions) -> None:
        queues = frozenset(one.queue for one in definitions.job_types.values())
        self._values = {
            "type": frozenset(definitions.job_types),
            "queue": queues,
            "schedule": frozenset(definitions.schedules),
        }

    def value(self, label: str, value: str) -> str:
        return OTHER if label in self._values and value not in self._values[label] else value


class Tally(Collector):
    """How often something happened, by its labels. `before` is called as it is scraped."""

    def __init__(self, name: str, text: str, labels: Values, known: Known, before: Callable[[], None]) -> None:
        self._named = (name, text)
        self._labels = labels
        self._known = known
        self._before = before
        self._counts: dict[Values, int] = {}

    def add(self, values: Values, count: int = 1) -> None:
        """The values of the labels, in the order in which they were declared."""
        if values not in self._counts:
            values = self._bounded(values)
        self._counts[values] = self._counts.get(values, 0) + count

    def forget(self) -> None:
        """End the series of names that are no longer known."""
        self._counts = {values: count for values, count in self._counts.items() if values == self._bounded(values)}

    def _bounded(self, values: Values) -> Values:
        return tuple(map(self._known.value, self._labels, values))

    def describe(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(*self._named, labels=self._labels)

    def collect(self) -> Iterator[CounterMetricFamily]:
        self._before()
        for family in self.describe():
            for values, count in list(self._counts.items()):
                family.add_metric(values, count)
            yield family


class Spread(Collector):
    """How long something took, by one label: a histogram."""

    def __init__(self, name: str, text: str, label: str, known: Known, before: Callable[[], None]) -> None:
        self._named = (name, text)
        self._label = label
        self._known = known
        self._before = before
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}

    def add(self, value: str, seconds: float) -> None:
        """No less than zero, whatever clocks did."""
        if value not in self._counts:
            value = self._known.value(self._label, value)
        counts = self._counts.get(value)
        if counts is None:
            counts = self._counts[value] = [0] * len(_EDGES)
            self._sums[value] = 0.0
        counts[bisect_left(BUCKETS, seconds)] += 1
        if seconds > 0:
            self._sums[value] += seconds

    def forget(self) -> None:
        """End the series of names that are no longer known."""
        kept = [one for one in self._counts if one == self._known.value(self._label, one)]
        self._counts = {value: self._counts[value] for value in kept}
        self._sums = {value: self._sums[value] for value in kept}

    def describe(self) -> Iterator[HistogramMetricFamily]:
        yield HistogramMetricFamily(*self._named, labels=[self._label])

    def collect(self) -> Iterator[HistogramMetricFamily]:
        self._before()
        sums = self._sums  # first: a name may come, or go, in between
        for family in self.describe():
            for value, counts in list(self._counts.items()):
                family.add_metric([value], list(zip(_EDGES, accumulate(counts), strict=True)), sums.get(value, 0.0))
            yield family

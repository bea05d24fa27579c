"""Metrics whose labels cannot grow without end: names that the file does not declare are gathered in one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client.metrics import MetricWrapperBase

from runner.domain.schedule import Definitions

OTHER = "other"


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


class Series:
    """One metric with labels, and its series so far."""

    def __init__(self, metric: MetricWrapperBase, labels: tuple[str, ...], known: Known) -> None:
        self._metric = metric
        self._labels = labels
        self._known = known
        self._made: dict[tuple[str, ...], Any] = {}

    def of(self, *values: str) -> Any:
        """The series of these labels, in the order in which they were declared."""
        made = self._made.get(values)
        if made is None:
            bounded = self._bounded(values)
            made = self._metric.labels(*bounded)
            if bounded == values:  # foreign names would fill the dictionary
                self._made[values] = made
        return made

    def forget(self) -> None:
        """End the series of names that are no longer known."""
        for values in [one for one in list(self._made) if one != self._bounded(one)]:
            del self._made[values]
            self._metric.remove(*values)

    def _bounded(self, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(self._known.value, self._labels, values))

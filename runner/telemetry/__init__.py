"""What happened, said once: log lines, live tables and metrics are subscribers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from runner.domain.job import Run
from runner.domain.ledger import ScheduleSlot
from runner.domain.lifecycle import Transition


@dataclass(frozen=True, slots=True)
class JobStarted:
    """A claimed job was handed to its handler."""

    run: Run
    at: datetime


@dataclass(frozen=True, slots=True)
class JobSettled:
    """The end of a run is on disk."""

    run: Run
    transition: Transition
    at: datetime


@dataclass(frozen=True, slots=True)
class ClaimLost:
    """A run found that it is no longer its own: nothing that it wrote was taken."""

    run: Run
    at: datetime


@dataclass(frozen=True, slots=True)
class JobProgressed:
    """A run said how far it is."""

    job_id: int
    percent: float | None
    step: str | None
    message: str | None


@dataclass(frozen=True, slots=True)
class SlotsDecided:
    """A schedule was fired: its ledger has these rows now."""

    name: str
    slots: tuple[ScheduleSlot, ...]


@dataclass(frozen=True, slots=True)
class FiringFailed:
    """A due schedule could not be fired; its slot waits."""

    name: str
    message: str


@dataclass(frozen=True, slots=True)
class WorkerRescued:
    """What a dead worker left was made good."""

    worker_id: str
    runs: tuple[Run, ...]


Event = JobStarted | JobSettled | ClaimLost | JobProgressed | SlotsDecided | FiringFailed | WorkerRescued
Emit = Callable[[Event], None]


class Events:
    """A list of subscribers, each told of every event in the thread where it happened."""

    def __init__(self) -> None:
        self._subscribers: list[Emit] = []

    def subscribe(self, subscriber: Emit) -> None:
        self._subscribers.append(subscriber)

    def emit(self, event: Event) -> None:
        for subscriber in self._subscribers:
            subscriber(event)

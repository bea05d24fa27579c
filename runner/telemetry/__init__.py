"""What happened, said once: log lines, live tables and metrics are subscribers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from runner.domain.job import Run
from runner.domain.lifecycle import Transition
from runner.domain.problem import Problem

if TYPE_CHECKING:  # processes of handlers import this module: its rows would cost each of them half a second
    from runner.domain.ledger import ScheduleSlot


class JobStarted(NamedTuple):
    """A claimed job was handed to its handler. A tuple, as the run: thousands are made each second."""

    run: Run
    at: datetime


class JobSettled(NamedTuple):
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


@dataclass(frozen=True, slots=True)
class ServiceStarted:
    """A service is ready. `queues` empty: all of them; `revision` None: none is applied yet.

    `address` is where HTTP is served, `metrics` where they have a port of their own; `access` says who may come.
    """

    version: str
    database: str
    revision: int | None
    concurrency: int
    schedules: int
    queues: tuple[str, ...] = ()
    worker_id: str | None = None
    address: str | None = None
    sqlite_version: str | None = None
    is_sqlite_affected: bool = False
    metrics: str | None = None
    access: str | None = None


@dataclass(frozen=True, slots=True)
class StopRequested:
    """A signal, or what else is named, asked the service to stop. `at_once`: without waiting for runs."""

    reason: str
    at_once: bool = False


@dataclass(frozen=True, slots=True)
class ServiceStopped:
    """The service has ended: so many runs ended within the grace, so many were given back."""

    reason: str
    drained: int
    released: int
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class TickFailed:
    """A loop's tick raised. `cause` where it was no error that we foresaw: its traceback is told.

    Emitted for each tick that failed; `repeats` is how many before it, in a row, failed with the same error.
    """

    loop: str
    error: str
    cause: BaseException | None = None
    repeats: int = 0


@dataclass(frozen=True, slots=True)
class TickRecovered:
    """The first tick of a loop that went well again."""

    loop: str


@dataclass(frozen=True, slots=True)
class LoopDied:
    """A loop cannot go on: the process ends."""

    loop: str
    cause: BaseException | None = None


@dataclass(frozen=True, slots=True)
class ConfigApplied:
    """The file is good and in force: as a new revision, or, with no `changes`, as the one that was."""

    revision: int
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ConfigRejected:
    """The file as it is now cannot be applied: what was in force stays. Emitted once for each content."""

    path: str
    problems: tuple[Problem, ...] = ()
    reason: str | None = None
    in_force: int | None = None


@dataclass(frozen=True, slots=True)
class SettingsChanged:
    """A running process goes by other values of the file: what each was, and is."""

    changed: Mapping[str, tuple[Any, Any]]


@dataclass(frozen=True, slots=True)
class SettingsKept:
    """The file says something else, and these stay: their value, and where it came from. `is_refused`: else they would
    not go together."""

    kept: Mapping[str, tuple[Any, str]]
    reason: str
    is_refused: bool = False


@dataclass(frozen=True, slots=True)
class LateBeat:
    """A heartbeat came so many seconds after the one before it, though it was due after `expected`."""

    seconds: float
    expected: float


@dataclass(frozen=True, slots=True)
class ClockOff:
    """This machine's clock is that far from the database's, by which all go: behind it where `seconds` is above zero.
    Zero: they agree again."""

    seconds: float


@dataclass(frozen=True, slots=True)
class TracesUnavailable:
    """The environment asks for traces, by this variable, and the extra for them is not installed."""

    wanted_by: str


ServiceEvent = (
    ServiceStarted
    | StopRequested
    | ServiceStopped
    | TickFailed
    | TickRecovered
    | LoopDied
    | ConfigApplied
    | ConfigRejected
    | SettingsChanged
    | SettingsKept
    | LateBeat
    | ClockOff
    | TracesUnavailable
)
Event = JobStarted | JobSettled | ClaimLost | JobProgressed | SlotsDecided | FiringFailed | WorkerRescued | ServiceEvent
Emit = Callable[[Event], None]


current_run: ContextVar[Run | None] = ContextVar("current_run", default=None)


def bound(run: Run) -> dict[str, Any]:
    """What every line of the log about a run carries. Never its payload."""
    fields = {"job_id": run.id, "type": run.type, "run_number": run.run_number, "worker_id": run.worker_id}
    return fields if run.schedule_name is None else fields | {"schedule": run.schedule_name}


class inside:  # noqa: N801 - used as a word: with inside(run)
    """While the code of a run's handler goes on, in this thread or task: what libraries log is bound to the run."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __enter__(self) -> None:
        current_run.set(self._run)

    def __exit__(self, *_: object) -> None:
        if current_run.get() is self._run:  # an abandoned coroutine may be closed in the context of another run
            current_run.set(None)


class Events:
    """A list of subscribers, each told of every event, but of the kinds that it ignores, in the thread where it
    happened. With `only`, of these kinds alone: a call costs more than what most of them do with a job."""

    def __init__(self) -> None:
        self._subscribers: list[tuple[Emit, Callable[[type], bool]]] = []
        self._of_kind: dict[type, tuple[Emit, ...]] = {}

    def subscribe(
        self, subscriber: Emit, ignores: Collection[type] = (), only: Collection[type] | None = None
    ) -> None:  # fmt: skip
        self._subscribers.append((subscriber, lambda kind: kind not in ignores and (only is None or kind in only)))
        self._of_kind = {}

    def forget(self, subscriber: Emit) -> None:
        self._subscribers = [one for one in self._subscribers if one[0] != subscriber]
        self._of_kind = {}

    def emit(self, event: Event) -> None:
        kind = type(event)
        told = self._of_kind.get(kind)
        if told is None:
            told = self._of_kind[kind] = tuple(one for one, wants in self._subscribers if wants(kind))
        for subscriber in told:
            subscriber(event)

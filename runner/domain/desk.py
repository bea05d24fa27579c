"""What the commands ask, whoever answers: the stores of a database, or a server over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from runner.domain.job import Enqueued, JobFilter

if TYPE_CHECKING:  # these bring the tables along, which most commands need not load
    from runner.domain.overview import EndedJob, Overview, RunningJob, Skips, WorkerView

View = dict[str, Any]  # plain values as the API gives them, with times as datetimes
PlanForm = Literal["text", "json", "markdown"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A job that somebody wants enqueued, as he said it. None: as the job type says."""

    type: str
    payload: Any
    priority: int | str | None = None
    run_at: datetime | None = None
    delay: timedelta | None = None
    project_id: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """A look at a job: how it is, and the lines of its log that are new. `is_last`: it has ended, and all is told."""

    now: datetime
    job: View
    lines: Iterable[View] = ()
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class Inside:
    """A look inside: the database, and what it tells; `seen` is None where there is none yet."""

    at: datetime
    database: Mapping[str, Any]
    seen: Overview | None
    skipped: Sequence[Skips] = ()
    running: Sequence[RunningJob] = ()
    ended: Sequence[EndedJob] = ()


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan as data, and in words where these were asked for."""

    data: View
    shown: str

    @property
    def is_empty(self) -> bool:
        return not self.data["changes"]


@dataclass(frozen=True, slots=True)
class PlanCall:
    """The file to plan, from when on, and how it is shown."""

    path: Path
    now: datetime | None = None
    upcoming: int = 3
    form: PlanForm = "text"
    import_handlers: bool = True


@dataclass(frozen=True, slots=True)
class Rows:
    """How much a look inside shows: next fires, jobs that run and that have ended, slots that were skipped lately."""

    fires: int = 5
    jobs: int = 0
    skipped: bool = True


class Desk(Protocol):
    """One database, here or behind a server. All raise the same errors with the same words."""

    @property
    def place(self) -> str:
        """What messages call it."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def now(self) -> datetime:
        """The time by which all go who share this database."""

    # ---- jobs

    def enqueue(self, wanted: Wanted) -> Enqueued: ...

    def enqueue_many(self, wanted: Sequence[Wanted]) -> list[Enqueued]:
        """All or none. Raises BulkRefused with the first that is refused."""

    def jobs(self, where: JobFilter, *, limit: int, after: int | None) -> tuple[list[View], int | None]:
        """The newest first, and the cursor of the next page; none where there is no database yet."""

    def job(self, job_id: int) -> View: ...

    def lines(self, job_id: int, *, after: int) -> Iterator[View]: ...

    def follow(self, job_id: int, *, after: int | None, limit: timedelta | None) -> Iterator[Turn]:
        """A turn whenever something may have changed, and every few seconds, for as long as `limit`.

        With the lines of its log above `after`; without any, where that is None.
        """

    def cancel(self, job_id: int, reason: str) -> str:
        """What became of it: `cancelled`, or `asked to stop`."""

    def retry(self, job_id: int) -> str: ...

    # ---- schedules

    def schedules(self, *, retired: bool) -> list[View]: ...

    def upcoming(self, name: str | None, count: int, now: datetime | None) -> list[View]: ...

    def pause(self, name: str, reason: str | None) -> View: ...

    def resume(self, name: str) -> View: ...

    def trigger(self, name: str) -> Enqueued: ...

    def backfill(self, name: str, first: datetime, last: datetime) -> list[Enqueued]: ...

    def history(self, name: str | None, limit: int) -> list[View]: ...

    # ---- operation

    def plan(self, call: PlanCall) -> Planned: ...

    def reload(self) -> None: ...

    def inside(self, rows: Rows) -> Inside: ...

    def workers(self) -> Sequence[WorkerView]:
        """Those that may be seen."""

    def changes(self) -> Callable[[], bool]:
        """A question whether something may have been committed since it was asked last."""

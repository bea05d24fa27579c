"""The live table of `run-once` on a terminal: what runs, with progress bars, above it what has ended."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from runner.cli.output import clean, data_stream, slot_lines, span
from runner.telemetry import Event, FiringFailed, JobProgressed, JobSettled, JobStarted, SlotsDecided, WorkerRescued


class LiveTable:
    """Rich redraws the running jobs; a line is left for each that ended."""

    def __init__(self) -> None:
        self._console = Console(file=data_stream(), highlight=False, markup=False)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[said]}", markup=False),
            console=self._console,
            transient=True,
        )
        self._tasks: dict[int, TaskID] = {}

    def __enter__(self) -> LiveTable:
        self._progress.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        self._progress.__exit__(kind, error, trace)

    def tell(self, event: Event) -> None:
        match event:
            case JobStarted(run):
                self._tasks[run.id] = self._progress.add_task(f"{run.id} {run.type}", total=100, said="")
            case JobProgressed(job_id, percent, step, message):
                self._update(job_id, percent, message or step)
            case JobSettled(run, end, at):
                self._end(run.id)
                word = end.state.value if end.is_terminal else end.ended
                error = f"  {clean(end.error.splitlines()[0])}" if end.error else ""
                again = f", again in {span(end.run_at - at)}" if end.run_at is not None and end.run_at > at else ""
                self._line(f"{word:10} {run.id} {run.type}  {span(at - run.started_at)}{again}{error}", word)
            case SlotsDecided(name, slots):
                for line in slot_lines(name, slots):
                    self._line(line, "slot")
            case FiringFailed(name, message):
                self._line(f"{'error':10} schedule {name} could not be fired: {clean(message)}", "failed")
            case WorkerRescued(worker_id, runs):
                self._line(f"{'rescued':10} {len(runs)} jobs of worker {worker_id}, which is gone", "slot")
            case _:
                pass

    def _update(self, job_id: int, percent: float | None, said: str | None) -> None:
        task = self._tasks.get(job_id)
        if task is None:
            return
        if percent is not None:
            self._progress.update(task, completed=percent)
        if said is not None:
            self._progress.update(task, said=clean(said)[:40])

    def _end(self, job_id: int) -> None:
        task = self._tasks.pop(job_id, None)
        if task is not None:
            self._progress.remove_task(task)

    def _line(self, text: str, word: str) -> None:
        colours = {"completed": "green", "failed": "red", "stalled": "red", "cancelled": "yellow"}
        self._console.print(text, style=colours.get(word, "dim" if word == "slot" else "yellow"), soft_wrap=True)

"""One frame of `top`: what was read, laid out for the height that there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from runner.cli.output import clean, since, span
from runner.domain.errors import RunnerError
from runner.domain.overview import EndedJob, NextFire, Overview, QueueView, RunningJob, WorkerView

FIXED = 7  # lines of a frame that are no rows: title, headings, what is between them
FEWEST = 2  # rows that each part keeps
BAR = 12
COLOURS = {"completed": "green", "failed": "red", "cancelled": "yellow", "stale": "yellow", "gone": "red"}


@dataclass(frozen=True, slots=True)
class Frame:
    """What there is to draw; without `seen` there is no database yet, or `error` says what is wrong with it."""

    path: str
    now: datetime
    seen: Overview | None = None
    running: Sequence[RunningJob] = ()
    ended: Sequence[EndedJob] = ()
    error: RunnerError | None = None

    def at_time(self, now: datetime) -> Frame:
        """The same, later: spans go on where nothing was written."""
        return replace(self, now=now)


def draw(frame: Frame, height: int) -> RenderableType:
    """Fits into `height` lines, where these are enough for the headings and two rows of each part."""
    if frame.seen is None:
        return Group(_title(frame), Text(""), *_missing(frame))
    problems = _problems(frame.seen)
    needs = (
        len(frame.running), max(len(frame.seen.queues), len(frame.seen.workers)),
        max(len(frame.seen.fires), len(frame.ended)),
    )  # fmt: skip
    rows = _shared(needs, height - FIXED - len(problems))
    halves = _side_by_side(
        _queues(frame.seen, rows[1], frame.now), _workers(frame.seen, rows[1], frame.now),
        _fires(frame.seen.fires, rows[2], frame.now), _ended(frame.ended, rows[2], frame.now),
    )  # fmt: skip
    return Group(_title(frame), *problems, Text(""), _running(frame, rows[0]), Text(""), *halves)


def _shared(needs: Sequence[int], room: int) -> list[int]:
    """Rows for each part: all that it needs where there is room, else the room by turns, what runs first.

    >>> _shared([1, 2, 30], 15), _shared([50, 50, 50], 15), _shared([9, 0, 9], 90), _shared([9, 9, 9], 1)
    ([1, 2, 12], [5, 5, 5], [9, 1, 9], [2, 2, 2])
    """
    wanted = [max(need, 1) for need in needs]
    given = [min(FEWEST, need) for need in wanted]
    while sum(given) < room and given != wanted:
        smallest = min((at for at in range(len(given)) if given[at] < wanted[at]), key=lambda at: given[at])
        given[smallest] += 1
    return given


def _title(frame: Frame) -> RenderableType:
    title = Table.grid(expand=True, padding=(0, 1))
    for ratio in (None, 1, None):
        title.add_column(ratio=ratio, no_wrap=True, overflow="ellipsis", justify="right" if ratio is None else "left")
    number = frame.seen.revision.number if frame.seen is not None and frame.seen.revision is not None else None
    revision = "" if number is None else f"revision {number}"
    told = Text(f"{revision}  {frame.now:%H:%M:%S}Z  q: quit", style="dim")
    title.add_row(Text("runner top", style="bold"), Text(clean(frame.path), style="dim"), told)
    return title


def _missing(frame: Frame) -> list[RenderableType]:
    if frame.error is None:
        return [Text(f"no database yet at {clean(frame.path)}; runner apply creates it")]
    lines: list[RenderableType] = [Text(clean(frame.error.message), style="red")]
    return lines if frame.error.hint is None else [*lines, Text(f"help: {clean(frame.error.hint)}")]


def _problems(seen: Overview) -> list[RenderableType]:
    """A line each; the whole of it is in `runner status`."""
    told = [f"file refused: {problem.message}" for problem in seen.problems[:2]]
    names = ", ".join(queue.name for queue in seen.untaken)
    if names:
        told.append(f"no live worker takes: {names}")
    return [Text(clean(text), style="red", no_wrap=True, overflow="ellipsis") for text in told]


def _table(*columns: tuple[str, str, int | None]) -> Table:
    """(title, justify, ratio); a column with a ratio takes what is left, and is cut."""
    made = Table(box=None, padding=(0, 1, 0, 0), expand=True, header_style="bold", pad_edge=False)
    for title, justify, ratio in columns:
        made.add_column(
            title, justify="right" if justify == "right" else "left", ratio=ratio, no_wrap=True, overflow="ellipsis"
        )
    return made


def _cells(*texts: object) -> list[RenderableType]:
    return [one if isinstance(one, (Text, ProgressBar)) else Text(clean(str(one)).replace("\n", " ")) for one in texts]


def _more(title: str, shown: int, there: int) -> str:
    return title if shown >= there else f"{title} {shown} of {there}"


def _running(frame: Frame, rows: int) -> RenderableType:
    there = sum(queue.running for queue in frame.seen.queues) if frame.seen is not None else 0
    table = _table(
        ("JOB", "right", None), (_more("RUNNING", min(rows, len(frame.running)), there), "left", 2), ("", "left", None),
        ("%", "right", None), ("TRY", "right", None), ("FOR", "right", None), ("SAYS", "left", 3),
    )  # fmt: skip
    for job in frame.running[:rows]:
        bar = ProgressBar(total=100, completed=job.progress, width=BAR)
        said = ": ".join(text for text in (job.step, job.message) if text)
        said = f"cancelling  {said}" if job.is_cancelling else said
        tries = f"{job.attempt}/{job.max_attempts}"
        cells = _cells(job.id, job.type, bar, f"{job.progress:.0f}", tries, since(job.started_at, frame.now), said)
        table.add_row(*cells)
    if not frame.running:
        table.add_row("", Text("nothing", style="dim"))
    return table


def _queues(seen: Overview, rows: int, now: datetime) -> Table:
    table = _table(
        (_more("QUEUE", rows, len(seen.queues)), "left", 1), ("DUE", "right", None), ("LATER", "right", None),
        ("RUN", "right", None), ("OLDEST", "right", None),
    )  # fmt: skip
    for queue in sorted(seen.queues, key=lambda one: (one.is_taken or not one.due, -one.due, one.name))[:rows]:
        table.add_row(*_cells(*_queue(queue, now)))
    if not seen.queues:
        table.add_row(Text("nothing waits or runs", style="dim"))
    return table


def _queue(queue: QueueView, now: datetime) -> tuple[object, ...]:
    name = Text(clean(queue.name), style="red" if queue.due and not queue.is_taken else "")
    oldest = since(queue.oldest_due, now) if queue.oldest_due is not None else "-"
    return (name, _short(queue.due), _short(queue.scheduled), _short(queue.running), oldest)


def _short(number: int) -> str:
    """A count in five characters.

    >>> [_short(number) for number in (9_999, 10_000, 999_999, 1_000_000, 12_345_678)]
    ['9999', '10k', '999k', '1.0M', '12.3M']
    """
    if number < 10_000:
        return str(number)
    return f"{number // 1000}k" if number < 1_000_000 else f"{number / 1_000_000:.1f}M"


def _workers(seen: Overview, rows: int, now: datetime) -> Table:
    table = _table(
        (_more("WORKER", rows, len(seen.workers)), "left", 1), ("PID", "right", None), ("RUN", "right", None),
        ("BEAT", "right", None), ("", "left", None),
    )  # fmt: skip
    for worker in seen.workers[:rows]:
        table.add_row(*_cells(*_worker(worker, now)))
    if not seen.workers:
        table.add_row(Text("none: runner serve", style="red" if seen.untaken else "dim"))
    return table


def _worker(worker: WorkerView, now: datetime) -> tuple[object, ...]:
    row = worker.status
    runs = f"{worker.running}/{row.concurrency}" if row.concurrency else "-"
    state = Text(worker.life.value, style=COLOURS.get(worker.life.value, "green"))
    return (f"{row.id[:8]} {row.host}", row.pid, runs, since(row.last_heartbeat, now), state)


def _fires(fires: Sequence[NextFire], rows: int, now: datetime) -> Table:
    table = _table(("NEXT FIRES", "left", 1), ("IN", "right", None))
    for fire in fires[:rows]:
        table.add_row(*_cells(fire.schedule, span(fire.at - now) if fire.at - now > timedelta(0) else "now"))
    if not fires:
        table.add_row(Text("none", style="dim"))
    return table


def _ended(ended: Sequence[EndedJob], rows: int, now: datetime) -> Table:
    table = _table(("ENDED", "left", 1), ("", "left", None), ("TOOK", "right", None), ("AGO", "right", None))
    for job in ended[:rows]:
        took = span(job.completed_at - job.started_at) if job.started_at is not None else "-"
        state = Text(job.status, style=COLOURS.get(job.status, ""))
        table.add_row(*_cells(f"{job.id} {job.type}", state, took, since(job.completed_at, now)))
    if not ended:
        table.add_row(Text("nothing yet", style="dim"))
    return table


def _side_by_side(*tables: Table) -> list[RenderableType]:
    """Two and two, with an empty line between."""
    made: list[RenderableType] = []
    for left, right in ((tables[0], tables[1]), (tables[2], tables[3])):
        pair = Table.grid(expand=True, padding=(0, 2, 0, 0), pad_edge=False)
        pair.add_column(ratio=1)
        pair.add_column(ratio=1)
        pair.add_row(left, right)
        made += [Text(""), pair] if made else [pair]
    return made

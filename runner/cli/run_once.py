"""The command `run-once`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runner.cli.config import AllowRemovals
from runner.cli.main import cli, length, moment
from runner.cli.output import keep_stdout, note
from runner.cli.signals import SIGNAL_CODES, stopping
from runner.domain.errors import NotFound, UsageError

if TYPE_CHECKING:
    from runner.app import App
    from runner.domain.schedule import Definitions, Schedule
    from runner.engine.run_once import Options, Report
    from runner.engine.worker import Selection


class RunFormat(StrEnum):
    """How the run is told."""

    TEXT = "text"
    JSON = "json"
    JSONL = "jsonl"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What `--type`, `--schedule`, `--workflow` and `--queue` select. Empty: everything."""

    types: frozenset[str]
    schedules: frozenset[str]
    workflows: frozenset[str]
    queues: frozenset[str]

    def fires(self, schedule: Schedule, definitions: Definitions) -> bool:
        return not self._against(schedule, definitions)

    def _against(self, schedule: Schedule, definitions: Definitions) -> list[tuple[str, str | None]]:
        """The options that leave this schedule out, each with what it would have to name as well."""
        job_type = definitions.job_types.get(schedule.job or "")
        wanted = (
            ("--type", self.types, schedule.job),
            ("--schedule", self.schedules, schedule.name),
            ("--workflow", self.workflows, schedule.workflow),
            ("--queue", self.queues, job_type.queue if job_type is not None else None),
        )
        return [(option, value) for option, names, value in wanted if names and value not in names]

    def check(self, definitions: Definitions) -> None:
        """Each name must be known: a typing error in CI must not pass as 'nothing due'."""
        from runner.config.suggest import Suggester, did_you_mean

        for kind, names, known in (
            ("job type", self.types, definitions.job_types),
            ("schedule", self.schedules, definitions.schedules),
            ("workflow", self.workflows, definitions.workflows),
        ):
            for name in sorted(names - set(known)):
                hint = did_you_mean(Suggester().closest(name, known)) or "runner config"
                raise NotFound(f"there is no {kind} {name!r}", hint)
        matching = [one for one in definitions.schedules.values() if self.fires(one, definitions)]
        if (self.schedules or self.workflows) and not matching:
            raise NotFound("no schedule matches all of the selection", "runner schedules list")
        unused = self.queues - {job_type.queue for job_type in definitions.job_types.values()}
        if unused:
            raise NotFound(f"no job type has the queue {min(unused)!r}", "runner config")

    def check_trigger(self, schedule: Schedule, definitions: Definitions) -> None:
        """A job that is enqueued and not taken must not pass as a good run."""
        against = self._against(schedule, definitions)
        if not against:
            return
        more = " ".join(f"{option} {value}" for option, value in against if value is not None)
        others = " and ".join(option for option, value in against if value is None)
        raise NotFound(
            f"schedule {schedule.name} is triggered, but the selection ({self._words()}) leaves it out",
            f"leave out --trigger {schedule.name}, or {f'leave out {others}' if others else f'add {more}'}",
        )

    def _words(self) -> str:
        given = (
            ("--type", self.types), ("--schedule", self.schedules), ("--workflow", self.workflows),
            ("--queue", self.queues),
        )  # fmt: skip
        return " ".join(f"{option} {name}" for option, names in given for name in sorted(names))

    def selection(self, definitions: Definitions) -> Selection:
        """Which jobs the worker takes."""
        from runner.engine.worker import Selection

        fired = frozenset(one.name for one in definitions.schedules.values() if self.fires(one, definitions))
        narrowed = fired if self.schedules or self.workflows else None
        return Selection(queues=self.queues or None, types=self.types or None, schedules=narrowed)


@cli.command("run-once", short_help="Apply the file and run what is due, once.")
def run_once(
    ctx: typer.Context,
    types: Annotated[list[str] | None, typer.Option("--type", metavar="TYPE", help="Only jobs of this type.")] = None,
    schedules: Annotated[
        list[str] | None, typer.Option("--schedule", metavar="NAME", help="Only this schedule and its jobs.")
    ] = None,
    workflows: Annotated[
        list[str] | None, typer.Option("--workflow", metavar="NAME", help="Only this workflow.")
    ] = None,
    queues: Annotated[list[str] | None, typer.Option("--queue", metavar="QUEUE", help="Only this queue.")] = None,
    trigger: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Run this schedule now, whatever its time.")
    ] = None,
    trigger_all: Annotated[bool, typer.Option("--trigger-all", help="Run all selected schedules now.")] = False,
    since: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How far back a schedule new to this database looks: 24h.")
    ] = None,
    wait: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Wait for retries due within this time; all if left out.")
    ] = None,
    timeout: Annotated[str | None, typer.Option(metavar="DURATION", help="Stop after this time; exit 124.")] = None,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Claim nothing more after a job failed.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would run, in which order, and run nothing.")
    ] = False,
    no_sync: Annotated[bool, typer.Option("--no-sync", help="Do not apply the file: use the stored revision.")] = False,
    allow_removals: AllowRemovals = False,
    concurrency: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=10_000, help="How many jobs at once.")
    ] = None,
    now: Annotated[
        str | None, typer.Option(metavar="TIME", help="Start the scheduler's clock at this time, and jump over waits.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a JUnit report to this file.")] = None,
    output: Annotated[
        RunFormat, typer.Option("-o", "--output", help="jsonl: one event a line, as it happens.")
    ] = RunFormat.TEXT,
) -> None:
    """Apply the file, fire what is due, run it, wait for retries, and say how it went."""
    from runner.cli.run_report import check_writable, finish
    from runner.engine.run_once import Options

    chosen = Chosen(
        frozenset(types or ()), frozenset(schedules or ()), frozenset(workflows or ()), frozenset(queues or ())
    )
    if junit is not None and dry_run:
        raise UsageError("--junit reports what ran, and --dry-run runs nothing", "what would run: --dry-run -o json")
    if junit is not None:
        check_writable(junit)
    options = Options(tuple(trigger or ()), length("--wait", wait), length("--timeout", timeout), fail_fast)
    call = Call(chosen, options, trigger_all, length("--since", since), dry_run, no_sync, allow_removals, now, output)
    raise typer.Exit(call.run(ctx, concurrency, lambda report, app: finish(report, app, output.value, junit, _code)))


def _code(report: Report) -> int:
    if report.stopped_by == "timeout":
        return 124
    if report.stopped_by in SIGNAL_CODES:
        return SIGNAL_CODES[report.stopped_by]
    return 1 if report.failed or report.refused else 0


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the command, with its options read."""

    chosen: Chosen
    options: Options
    trigger_all: bool
    since: timedelta | None
    dry_run: bool
    no_sync: bool
    allow_removals: bool
    now: str | None
    output: RunFormat

    def run(self, ctx: typer.Context, concurrency: int | None, finish: Callable[[Report, App], int]) -> int:
        from runner.app import App, open_existing
        from runner.engine.loop import Clock, SimulatedClock
        from runner.engine.reloader import read
        from runner.settings import settings

        keep_stdout()
        flags = ctx.obj | {"concurrency": concurrency}
        first = settings(flags, os.environ)
        loaded = None if self.no_sync else read(first.config, os.environ)
        options = loaded.require().runner if loaded is not None else None
        found = settings(flags, os.environ, options)
        if not found.jobs_enabled:
            return self._disabled()
        if loaded is not None:
            self._check(loaded.require())  # before there is a database
        app = App(found, os.environ) if loaded is not None else open_existing(found, os.environ)
        try:
            if app.database.is_file:
                _warn_of_old_sqlite()
            with _dry(app) if self.dry_run else _real(app) as working:
                clock = Clock(app.now) if self.now is None else SimulatedClock(moment(self.now))
                report = self._on(working, loaded, clock)
                return 0 if report is None else finish(report, working)
        finally:
            app.close()

    def _disabled(self) -> int:
        from runner.cli.run_report import finish_disabled

        note("JOBS_ENABLED is false: nothing is fired and nothing is run")
        finish_disabled(self.output.value, moment(self.now))
        return 0

    def _on(self, app: App, loaded: Any, clock: Any) -> Report | None:
        from runner.cli.run_dry import show, standing

        before = standing(app) if self.dry_run else None
        if loaded is None:
            definitions = app.reloader.in_force().definitions
            self._check(definitions)
        else:
            revision, _ = app.reloader.apply(
                loaded, clock.now(), allow_removals=self.allow_removals, lookback=self.since or timedelta(0)
            )
            definitions = revision.definitions
        triggers = self._triggers(definitions)
        scheduler = app.scheduler(window=self.since, only=lambda one: self.chosen.fires(one, definitions))
        if before is not None:
            show(app, scheduler, definitions, self.chosen, triggers, before, clock.now(), self.output)
            return None
        return self._drain(app, scheduler, definitions, triggers, clock)

    def _check(self, definitions: Definitions) -> None:
        """What the call names must be there, and be selected."""
        from runner.config.suggest import Suggester, did_you_mean

        self.chosen.check(definitions)
        for name in self.options.trigger:
            if name not in definitions.schedules:
                hint = did_you_mean(Suggester().closest(name, definitions.schedules)) or "runner schedules list"
                raise NotFound(f"there is no schedule {name!r}", hint)
            self.chosen.check_trigger(definitions.schedules[name], definitions)

    def _triggers(self, definitions: Definitions) -> tuple[str, ...]:
        if not self.trigger_all:
            return self.options.trigger
        every = [
            one.name for one in definitions.schedules.values() if one.enabled and self.chosen.fires(one, definitions)
        ]
        runnable = [name for name in every if definitions.schedules[name].workflow is None]
        for name in sorted(set(every) - set(runnable)):
            note(f"{name} starts a workflow: workflows come with a later release")
        return tuple(dict.fromkeys((*self.options.trigger, *runnable)))

    def _drain(
        self, app: App, scheduler: Any, definitions: Definitions, triggers: tuple[str, ...], clock: Any
    ) -> Report:
        from dataclasses import replace

        from runner.cli.run_report import watching

        with app.worker(definitions, clock, self.chosen.selection(definitions)) as worker:
            drain = app.run_once(worker, scheduler, clock, replace(self.options, trigger=triggers))
            with watching(app, self.output.value), stopping(drain.stop):
                report = drain.run()
            if self.now is None:  # by an imagined clock nothing is old
                drain.janitor.prune(app.now(), app.settings.retention)
            return report


def _warn_of_old_sqlite() -> None:
    from runner.storage.sqlite import sqlite_library

    version, is_affected = sqlite_library()
    if is_affected:
        note(f"warning: SQLite {version} can lose commits when several processes write (fixed in 3.51.3)")
        note("help: pip install 'yaml-job-runner[sqlite]'")


@contextmanager
def _real(app: App) -> Iterator[App]:
    app.prepare()
    yield app


@contextmanager
def _dry(app: App) -> Iterator[App]:
    """The same road on a copy of the database, which is thrown away."""
    from tempfile import TemporaryDirectory

    from runner.app import App
    from runner.storage.setup import version

    if app.database.exists:
        version(app.database)  # one that belongs to something else is told by its own name, not by the copy's
    with TemporaryDirectory(prefix="runner-dry-run-") as folder:
        copy = app.database.copy_to(Path(folder) / "dry-run.db")
        working = App(_with_database(app.settings, copy), app.environ)
        try:
            working.prepare()
            yield working
        finally:
            working.close()


def _with_database(settings: Any, url: str) -> Any:
    from dataclasses import replace

    return replace(settings, database_url=url)

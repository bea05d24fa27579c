"""How a run is told: a live table on a terminal, plain lines elsewhere, JSON, JSON Lines, JUnit, a step summary."""

from __future__ import annotations

import json
import os
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.cli.output import clean, is_terminal, note, print_json, print_line, print_table, slot_lines, span
from runner.domain.errors import UsageError
from runner.domain.job import JobState
from runner.domain.plain import plain
from runner.telemetry import (
    ClaimLost,
    Event,
    FiringFailed,
    JobProgressed,
    JobSettled,
    JobStarted,
    SlotsDecided,
    WorkerRescued,
)

if TYPE_CHECKING:
    from runner.app import App
    from runner.engine.run_once import Report

SUMMARY_LIMIT = 1_000_000  # bytes; a step summary ends at 1 MiB


@contextmanager
def watching(app: App, output: str) -> Iterator[None]:
    """Tell what happens while it happens."""
    if output == "json":
        yield
    elif output == "jsonl":
        app.events.subscribe(_JsonLines().tell)
        yield
    elif is_terminal():
        from runner.cli.run_live import LiveTable

        with LiveTable() as table:
            app.events.subscribe(table.tell)
            yield
    else:
        app.events.subscribe(_tell_plainly)
        yield


def _tell_plainly(event: Event) -> None:
    match event:
        case JobStarted(run):
            print_line(f"started    job {run.id} {run.type}{_tries(run.attempt, run.max_attempts)}")
        case JobSettled(run, end, at):
            took = span(at - run.started_at)
            error = f": {clean(end.error.splitlines()[0])}" if end.error else ""
            word = end.state.value if end.is_terminal else end.ended
            again = f", again in {span(end.run_at - at)}" if end.run_at is not None and end.run_at > at else ""
            print_line(f"{word:10} job {run.id} {run.type} after {took}{again}{error}")
        case SlotsDecided(name, slots):
            for line in slot_lines(name, slots):
                print_line(line)
        case FiringFailed(name, message):
            note(f"error: schedule {name} could not be fired: {clean(message)}")
        case WorkerRescued(worker_id, runs):
            print_line(f"rescued    {len(runs)} jobs of worker {worker_id}, which is gone")
        case ClaimLost(run):
            note(f"warning: job {run.id} is no longer ours; its outcome was not taken")
        case _:
            pass


def _tries(attempt: int, most: int) -> str:
    return f" (attempt {attempt} of {most})" if attempt > 1 else ""


class _JsonLines:
    """One event a line on stdout; lines of several threads do not mix."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def tell(self, event: Event) -> None:
        said = _as_line(event)
        if said is None:
            return
        line = json.dumps(said, ensure_ascii=False, default=plain)
        with self._lock:
            print_line(line)


def _as_line(event: Event) -> dict[str, Any] | None:
    match event:
        case JobStarted(run, at):
            return {"event": "started", "at": at, "job_id": run.id, "type": run.type, "attempt": run.attempt,
                    "schedule_name": run.schedule_name, "scheduled_for": run.scheduled_for}  # fmt: skip
        case JobProgressed(job_id, percent, step, message):
            return {"event": "progress", "job_id": job_id, "percent": percent, "step": step, "message": message}
        case JobSettled(run, end, at):
            return {"event": "settled", "at": at, "job_id": run.id, "type": run.type, "attempt": run.attempt,
                    "outcome": end.ended, "status": end.state, "run_at": end.run_at, "error": end.error}  # fmt: skip
        case SlotsDecided(name, slots):
            rows = [
                {"slot": slot.slot, "outcome": slot.outcome, "job_id": slot.job_id, "reason": slot.reason}
                for slot in slots
            ]
            return {"event": "slots", "schedule_name": name, "slots": rows}
        case FiringFailed(name, message):
            return {"event": "firing_failed", "schedule_name": name, "message": message}
        case WorkerRescued(worker_id, runs):
            return {"event": "rescued", "worker_id": worker_id, "job_ids": [run.id for run in runs]}
        case ClaimLost(run, at):
            return {"event": "claim_lost", "at": at, "job_id": run.id}
        case _:
            return None  # what happens to a service


def finish(report: Report, app: App, output: str, junit: Path | None, code: Callable[[Report], int]) -> int:
    """Print the end of the run, write the files that were asked for, and give the exit code."""
    jobs = app.views.view(report.jobs, report.ended) if report.jobs else []
    summary = summarise(report, code(report))
    _tell_end(report, jobs, summary, output)
    if junit is not None:
        _write(junit, junit_xml(report, jobs))
    github = os.environ.get("GITHUB_STEP_SUMMARY")
    if github:
        try:
            _write(Path(github), markdown(jobs, summary)[:SUMMARY_LIMIT], append=True)
        except UsageError as error:
            note(f"warning: GITHUB_STEP_SUMMARY: {error.message}")
    return code(report)


def _tell_end(report: Report, jobs: list[dict[str, Any]], summary: dict[str, Any], output: str) -> None:
    if output == "json":
        print_json({"summary": summary, "jobs": jobs, "slots": [slot.model_dump() for slot in report.slots]})
    elif output == "jsonl":
        print_line(json.dumps({"event": "summary", "format_version": 1} | summary, default=plain))
    else:
        _print(report, jobs, summary)


def finish_disabled(output: str, now: datetime) -> None:
    """The report of a run in which nothing may run: the same shapes, empty."""
    from runner.engine.run_once import Report

    report = Report(now, now)
    if output != "text":
        _tell_end(report, [], summarise(report, 0), output)


def summarise(report: Report, code: int) -> dict[str, Any]:
    counts = {state.value: report.count(state) for state in JobState}
    return counts | {
        "began": report.began,
        "ended": report.ended,
        "seconds": round((report.ended - report.began).total_seconds(), 3),
        "slots_fired": sum(1 for slot in report.slots if slot.job_id is not None),
        "slots_skipped": sum(slot.slot_count for slot in report.slots if slot.job_id is None),
        "refused": report.refused,
        "stopped_by": report.stopped_by,
        "exit_code": code,
    }


def _print(report: Report, jobs: list[dict[str, Any]], summary: dict[str, Any]) -> None:
    for refusal in report.refused:
        note(f"error: {clean(refusal)}")
    if not jobs:
        print_line(f"Stopped by {report.stopped_by} before anything ran." if report.stopped_by else "Nothing was due.")
        return
    print_line()
    columns = ("job", "type", "schedule", "result", "tries", "took", "said")
    print_table(columns, [_row(job) for job in _failures_first(jobs)], "", cut=("said", "schedule", "type"))
    print_line()
    words = [f"{summary[state.value]} {state.value}" for state in JobState if summary[state.value]]
    print_line(f"{', '.join(words)} in {span(report.ended - report.began)}.")
    if report.stopped_by:
        print_line(
            f"Stopped by {report.stopped_by}; what had not finished is pending again, with its attempt given back."
        )


def _failures_first(jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(jobs, key=lambda job: (job["status"] != JobState.FAILED, job["id"]))


def _row(job: dict[str, Any]) -> tuple[object, ...]:
    state, tries = job["display_state"], job["attempt"]
    return (job["id"], job["type"], job["schedule_name"] or "-", state, tries, _took(job), _said(job))


def _took(job: dict[str, Any]) -> str:
    started, ended = job["started_at"], job["completed_at"]
    return span(ended - started) if isinstance(started, datetime) and isinstance(ended, datetime) else "-"


def _said(job: dict[str, Any]) -> str:
    """The first line of the error, or the counts of the result."""
    if job["error"] and job["status"] != JobState.COMPLETED:
        return str(job["error"]).splitlines()[0]
    result = job["result"]
    if isinstance(result, dict):
        simple = {
            key: value
            for key, value in result.items()
            if isinstance(value, (int, float, str)) and value not in (0, "", False)
        }
        return ", ".join(f"{key} {value}" for key, value in list(simple.items())[:4])
    return "" if result is None else str(result)[:60]


def junit_xml(report: Report, jobs: list[dict[str, Any]]) -> str:
    """One test case for each job; attempts that failed before it passed are rerun entries, as Surefire writes them."""
    failures = sum(job["status"] == JobState.FAILED for job in jobs)
    skipped = sum(job["status"] in (JobState.CANCELLED, JobState.PENDING, JobState.RUNNING) for job in jobs)
    suite = ET.Element(
        "testsuite", name="runner", tests=str(len(jobs)), failures=str(failures), errors="0", skipped=str(skipped),
        time=f"{(report.ended - report.began).total_seconds():.3f}", timestamp=report.began.isoformat(),
    )  # fmt: skip
    for job in jobs:
        _case(suite, job)
    root = ET.Element("testsuites", name="runner")
    root.append(suite)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ET.Element, job: dict[str, Any]) -> None:
    started, ended = job["started_at"], job["completed_at"]
    seconds = (ended - started).total_seconds() if started and ended else 0.0
    name = f"{job['schedule_name'] or job['type']} #{job['id']}"
    case = ET.SubElement(suite, "testcase", classname=job["type"], name=_xml(name), time=f"{seconds:.3f}")
    if job["status"] == JobState.FAILED:
        _entry(case, "failure", job["error"])
    elif job["status"] != JobState.COMPLETED:
        ET.SubElement(case, "skipped", message=_xml(job["display_state"]))
    kind = "rerunFailure" if job["status"] == JobState.FAILED else "flakyFailure"
    for attempt in job["attempts"][:-1]:
        if attempt["outcome"] in ("failed", "stalled"):
            _entry(case, kind, attempt["error"])


def _entry(case: ET.Element, kind: str, error: str | None) -> None:
    text = _xml(error or "")
    first = text.splitlines()[0] if text else "failed"
    element = ET.SubElement(case, kind, message=first, type=first.split(":", 1)[0])
    element.text = text


def _xml(text: str) -> str:
    """Without the control characters that XML 1.0 cannot hold."""
    return "".join(
        char if char in "\t\n" or " " <= char <= "\ud7ff" or char >= "\ue000" else "\N{REPLACEMENT CHARACTER}"
        for char in text
    )


def markdown(jobs: list[dict[str, Any]], summary: dict[str, Any]) -> str:
    """The run as a Markdown table, failures first."""
    words = [f"{summary[state.value]} {state.value}" for state in JobState if summary[state.value]]
    lines = [f"### runner run-once: {', '.join(words) or 'nothing was due'}", ""]
    if jobs:
        lines += [
            "| job | type | schedule | result | tries | took | said |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        for job in _failures_first(jobs):
            lines.append("| " + " | ".join(_cell(cell) for cell in _row(job)) + " |")
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    text = clean(str(value)).replace("\n", " ")
    for mark in "\\|`*_<>[]":
        text = text.replace(mark, f"\\{mark}")
    return text


def check_writable(path: Path) -> None:
    """Before anything runs: a report that cannot be written is known at once."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"{path} cannot be written", "name a file in a folder that this user may write")


def _write(path: Path, text: str, *, append: bool = False) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a" if append else "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None

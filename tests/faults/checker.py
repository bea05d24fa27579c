"""Reads a history and says which rules it breaks. Pure: lines in, findings out.

A history is JSON Lines, each with its `kind`:

    effect    what a handler wrote: job, run, word (begin, end), pid, at
    enqueued  a job that was acknowledged: job
    fault     what was done to whom: fault (SIGKILL, SIGSTOP, cut, ...), pid where it was one process, at
    told      an end of a run, as a worker's log tells it: job, run, end
    rejected  a write that was refused because the run was another's by then: job, run
    rescued   a dead worker: worker, jobs
    failed    a duty that failed: loop, error
    job, attempt, slot    the rows of the database at the end
    schedule  a schedule that ticked all the time: name, every (seconds)

`python -m tests.faults.checker FILE` prints what is wrong with a file.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

Line = Mapping[str, Any]
SLACK = 5.0  # seconds by which a busy machine may write a time too early or too late
GIVEN_BACK = ("released", "snoozed")
STALLED = "Job processor stopped responding"


@dataclass(frozen=True)
class Broken:
    """A rule, and what breaks it."""

    rule: str
    what: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.what}"


@dataclass(frozen=True)
class History:
    """The lines, by kind and by job."""

    lines: tuple[Line, ...]

    def of(self, kind: str) -> list[Line]:
        return self._kinds.get(kind, [])

    def of_job(self, kind: str, job: int) -> list[Line]:
        return self._jobs.get((kind, job), [])

    def faults(self, *names: str) -> list[Line]:
        return [line for line in self.of("fault") if line["fault"] in names]

    @cached_property
    def _kinds(self) -> dict[str, list[Line]]:
        found: dict[str, list[Line]] = defaultdict(list)
        for line in self.lines:
            found[line["kind"]].append(line)
        return found

    @cached_property
    def _jobs(self) -> dict[tuple[str, int], list[Line]]:
        found: dict[tuple[str, int], list[Line]] = defaultdict(list)
        for line in self.lines:
            if "job" in line:
                found[line["kind"], line["job"]].append(line)
        return found


def read(text: str) -> History:
    return History(tuple(json.loads(line) for line in text.splitlines() if line))


def check(history: History, ends: Iterable[str] = ("completed",)) -> list[Broken]:
    """Every rule that is broken. `ends` are the states in which a job may be found at the end."""
    allowed = frozenset(ends)
    found = [*_lost(history), *_unfinished(history, allowed)]
    for job in history.of("job"):
        for rule in (_runs, _settled, _effects):
            found += rule(history, job)
    return [*found, *_slots(history)]


def _lost(history: History) -> Iterator[Broken]:
    there = {row["job"] for row in history.of("job")}
    for line in history.of("enqueued"):
        if line["job"] not in there:
            yield Broken("lost", f"job {line['job']} was acknowledged and is gone")
    for job, count in Counter(line["job"] for line in history.of("enqueued")).items():
        if count > 1:
            yield Broken("lost", f"job {job} was acknowledged {count} times: another took its number")


def _unfinished(history: History, allowed: frozenset[str]) -> Iterator[Broken]:
    for row in history.of("job"):
        if row["status"] not in allowed:
            yield Broken("unfinished", f"job {row['job']} was left {row['status']} (error: {row.get('error')})")


def _runs(history: History, job: Line) -> Iterator[Broken]:
    """Each run has one number and one token; each superseded one a row; attempts count what was not given back."""
    name, rows = f"job {job['job']}", sorted(history.of_job("attempt", job["job"]), key=lambda row: int(row["run"]))
    is_last_told_by_job = job["token"] is not None
    superseded = job["run_number"] - is_last_told_by_job
    if [row["run"] for row in rows] != list(range(1, superseded + 1)):
        yield Broken("runs", f"{name} had {job['run_number']} runs, told are {[row['run'] for row in rows]}")
    tokens = [row["token"] for row in rows] + [job["token"]] * is_last_told_by_job
    if len(set(tokens)) != len(tokens):
        yield Broken("runs", f"{name} has two runs with one token")
    attempt = 0
    for row in rows:
        attempt += 1
        if row["attempt"] != attempt:
            yield Broken("attempts", f"{name} run {row['run']} is attempt {row['attempt']}, not {attempt}")
        attempt -= row["outcome"] in GIVEN_BACK
    if job["attempt"] != attempt + is_last_told_by_job:
        yield Broken("attempts", f"{name} counts {job['attempt']} attempts, not {attempt + is_last_told_by_job}")
    stalls = sum(row["outcome"] == "stalled" for row in rows)
    if job["stalls"] != stalls + (job["status"] == "failed" and job.get("error") == STALLED):
        yield Broken("attempts", f"{name} counts {job['stalls']} stalls, not {stalls}")


def _settled(history: History, job: Line) -> Iterator[Broken]:
    """One end for each run, the same in the log, in the tables and in the result."""
    name, ends = f"job {job['job']}", {row["run"]: row["outcome"] for row in history.of_job("attempt", job["job"])}
    if job["status"] in ("completed", "failed", "cancelled"):
        ends[job["run_number"]] = job["status"]
    told = history.of_job("told", job["job"])
    for run, count in Counter(line["run"] for line in told).items():
        if count > 1:
            yield Broken("settled twice", f"{name} run {run}: {[line['end'] for line in told if line['run'] == run]}")
    for line in told:
        if ends.get(line["run"]) != line["end"]:
            end = ends.get(line["run"], "running")
            yield Broken("settled twice", f"{name} run {line['run']} was told {line['end']} and is {end}")
    for line in history.of_job("rejected", job["job"]):
        if ends.get(line["run"]) == "completed":
            yield Broken("settled twice", f"{name} run {line['run']} was told refused and is completed")
    if job["status"] == "completed" and job.get("result_of") not in (None, job["run_number"]):
        yield Broken("settled twice", f"{name} has the result of run {job['result_of']}, not of {job['run_number']}")


def _effects(history: History, job: Line) -> Iterator[Broken]:
    """A run is one process, begins once, and has effects between its claim and its end alone.

    A process that was stopped or cut off may go on with a handler whose run was taken from it, and begin what it had
    claimed: of that it knows a moment later.
    """
    name, by_run = f"job {job['job']}", defaultdict(list)
    for effect in history.of_job("effect", job["job"]):
        by_run[effect["run"]].append(effect)
    times = {row["run"]: (row["started"], row["ended"]) for row in history.of_job("attempt", job["job"])}
    times |= {job["run_number"]: (job["started"], job["ended"])} if job["token"] is not None else {}
    stopped = {line["pid"] for line in history.faults("SIGSTOP", "cut")}
    for run, effects in sorted(by_run.items()):
        if run not in times:
            yield Broken("effects", f"{name} run {run} was never claimed, and has {len(effects)} effects")
            continue
        if len(pids := {effect["pid"] for effect in effects}) > 1:
            yield Broken("effects", f"{name} run {run} was in {len(pids)} processes")
        for word, count in Counter(effect["word"] for effect in effects).items():
            if count > 1:
                yield Broken("effects", f"{name} run {run} has {word} {count} times")
        if not history.faults("clock"):
            yield from _out_of_time(f"{name} run {run}", effects, *times[run], stopped)
    words = {effect["word"] for effect in by_run[job["run_number"]]}
    if job["status"] == "completed" and history.of("effect") and words != {"begin", "end"}:
        yield Broken("effects", f"{name} is completed, and its last run has {sorted(words)}")


def _out_of_time(
    name: str, effects: Iterable[Line], start: float, end: float | None, stopped: set[int]
) -> Iterator[Broken]:
    for effect in effects:
        if effect["at"] < start - SLACK:
            yield Broken("effects", f"{name}: {effect['word']} {start - effect['at']:.1f} s before its claim")
        if end is not None and effect["at"] > end + SLACK and effect["pid"] not in stopped:
            yield Broken("effects", f"{name}: {effect['word']} {effect['at'] - end:.1f} s after its end")


def _slots(history: History) -> Iterator[Broken]:
    slots: dict[tuple[str, float], list[Line]] = defaultdict(list)
    for row in history.of("slot"):
        slots[row["schedule"], row["slot"]].append(row)
    jobs = Counter((row["schedule"], row["slot"]) for row in history.of("job") if row.get("slot") is not None)
    for (schedule, slot), rows in slots.items():
        if len(rows) > 1:
            yield Broken("slots", f"{schedule} {slot:.0f} stands {len(rows)} times in the ledger")
        fired = sum(row["outcome"] == "enqueued" for row in rows)
        if jobs[schedule, slot] != fired:
            yield Broken("slots", f"{schedule} {slot:.0f} has {jobs[schedule, slot]} jobs, by the ledger {fired}")
    for schedule, slot in jobs.keys() - slots.keys():
        yield Broken("slots", f"{schedule} {slot:.0f} has a job and is not in the ledger")
    for line in history.of("schedule"):
        yield from _gaps(line, [row for row in history.of("slot") if row["schedule"] == line["name"]])


def _gaps(line: Line, rows: Iterable[Line]) -> Iterator[Broken]:
    """Between its first slot and its last, each one is in the ledger, alone or in a row that stands for many."""
    spans = sorted((row.get("first") or row["slot"], row["slot"]) for row in rows)
    if not spans:
        yield Broken("slots", f"{line['name']} never fired")
    for (_, before), (first, _) in pairwise(spans):
        if first > before + line["every"]:
            yield Broken("slots", f"{line['name']} has no slot between {before:.0f} and {first:.0f}")


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        found = check(read(file.read()))
    for one in found:
        print(one)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()

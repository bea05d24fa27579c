"""The checker sees each thing that may go wrong, in histories made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.checker import Broken, History, check

T = 1_800_000_000.0
Lines = list[dict[str, Any]]


def job(number: int = 1, **values: Any) -> dict[str, Any]:
    """A job that was completed by its second run."""
    row = {
        "kind": "job", "job": number, "status": "completed", "run_number": 2, "attempt": 2, "stalls": 1, "token": "b",
        "error": None, "result_of": 2, "schedule": None, "slot": None, "started": T + 10, "ended": T + 12,
    }  # fmt: skip
    return row | values


def attempt(number: int = 1, **values: Any) -> dict[str, Any]:
    row = {
        "kind": "attempt", "job": number, "run": 1, "attempt": 1, "token": "a", "outcome": "stalled", "started": T,
        "ended": T + 9,
    }  # fmt: skip
    return row | values


def effect(run: int, word: str, at: float, pid: int = 7, number: int = 1) -> dict[str, Any]:
    return {"kind": "effect", "job": number, "run": run, "word": word, "pid": pid, "at": T + at}


def told(run: int, end: str, number: int = 1) -> dict[str, Any]:
    return {"kind": "told", "job": number, "run": run, "end": end}


def good() -> Lines:
    """A job whose worker was killed, and that another one completed."""
    return [
        {"kind": "enqueued", "job": 1},
        effect(1, "begin", 1),
        {"kind": "fault", "fault": "SIGKILL", "pid": 7, "at": T + 2},
        told(1, "stalled"),
        effect(2, "begin", 11, pid=8),
        effect(2, "end", 11.5, pid=8),
        told(2, "completed"),
        job(),
        attempt(),
    ]


def rules(lines: Lines, *ends: str) -> set[str]:
    return {one.rule for one in check(History(tuple(lines)), ends or ("completed",))}


def without(lines: Lines, kind: str) -> Lines:
    return [line for line in lines if line["kind"] != kind]


def test_a_good_history() -> None:
    """Nothing is found where nothing is wrong."""
    assert check(History(tuple(good()))) == []


@pytest.mark.parametrize(
    ("lines", "rule"),
    [
        (without(good(), "job"), "lost"),
        ([*good(), {"kind": "enqueued", "job": 1}], "lost"),
        ([*without(good(), "job"), job(status="running", ended=None)], "unfinished"),
        ([*without(good(), "job"), job(status="pending", ended=None)], "unfinished"),
        ([*without(good(), "job"), job(status="failed", error="x")], "unfinished"),
        (without(good(), "attempt"), "runs"),
        ([*without(good(), "attempt"), attempt(run=2)], "runs"),
        ([*without(good(), "attempt"), attempt(token="b")], "runs"),
        ([*without(good(), "attempt"), attempt(outcome="released")], "attempts"),
        ([*without(good(), "attempt"), attempt(attempt=2)], "attempts"),
        ([*without(good(), "job"), job(attempt=1)], "attempts"),
        ([*without(good(), "job"), job(stalls=0)], "attempts"),
        ([*good(), told(2, "completed")], "settled twice"),
        ([*good(), told(1, "completed")], "settled twice"),
        ([*without(good(), "told"), told(1, "completed")], "settled twice"),
        ([*without(good(), "job"), job(result_of=1)], "settled twice"),
        ([*good(), {"kind": "rejected", "job": 1, "run": 2}], "settled twice"),
        ([*good(), effect(1, "end", 8, pid=9)], "effects"),
        ([*good(), effect(2, "begin", 11, pid=8)], "effects"),
        ([*good(), effect(3, "begin", 11)], "effects"),
        ([*good(), effect(1, "end", 15)], "effects"),
        ([*good(), effect(1, "end", -6)], "effects"),
        ([line for line in good() if line.get("word") != "end"], "effects"),
    ],
)
def test_what_is_broken(lines: Lines, rule: str) -> None:
    """Each broken history is told by its rule."""
    assert rule in rules(lines)


def test_effects_of_a_process_that_was_stopped() -> None:
    """It may go on for a moment with a handler whose run was taken from it; one that was not stopped may not."""
    late = [*good(), effect(1, "end", 20)]
    assert rules(late) == {"effects"}
    assert rules([*late, {"kind": "fault", "fault": "SIGSTOP", "pid": 7, "at": T + 2}]) == set()


def test_a_stale_end() -> None:
    """It is refused by right where the run was another's by then."""
    assert rules([*good(), {"kind": "rejected", "job": 1, "run": 1}]) == set()


def test_given_back() -> None:
    """A released run counts no attempt; a pending job has no run of its own."""
    released = attempt(outcome="released")
    assert rules([job(status="pending", run_number=1, attempt=0, stalls=0, token=None), released], "pending") == set()
    assert rules([job(attempt=1, stalls=0), released]) == set()


def slot(at: float, **values: Any) -> dict[str, Any]:
    return {"kind": "slot", "schedule": "s", "slot": T + at, "outcome": "skipped_overlap", "first": None} | values


EVERY = {"kind": "schedule", "name": "s", "every": 1}
FIRED = job(2, run_number=1, attempt=1, stalls=0, result_of=1, schedule="s", slot=T)


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ([EVERY, slot(0), slot(1), slot(2)], None),
        ([EVERY, slot(0), slot(5, first=T + 1), slot(6)], None),
        ([EVERY, slot(0), slot(2)], "no slot between"),
        ([EVERY, slot(0), slot(5, first=T + 2)], "no slot between"),
        ([EVERY], "never fired"),
        ([slot(0), slot(0)], "2 times in the ledger"),
        ([slot(0, outcome="enqueued")], "0 jobs, by the ledger 1"),
        ([slot(0, outcome="enqueued"), FIRED], None),
        ([slot(0, outcome="enqueued"), FIRED, FIRED | {"job": 3}], "2 jobs, by the ledger 1"),
        ([slot(0), FIRED], "1 jobs, by the ledger 0"),
        ([FIRED], "is not in the ledger"),
    ],
)
def test_slots(lines: Lines, what: str | None) -> None:
    """Each slot once, none missing, and a job for exactly those that were enqueued."""
    found = check(History(tuple(lines)))
    if what is None:
        assert found == []
    else:
        assert any(one.rule == "slots" and what in one.what for one in found), found


def test_what_is_said() -> None:
    """Rule and job in one line."""
    assert str(Broken("lost", "job 1 is gone")) == "lost: job 1 is gone"

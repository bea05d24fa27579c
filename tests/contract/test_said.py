"""What a run says while it runs: progress, log lines, outputs."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert

from runner.domain.outcome import Completed, Failed, Released
from runner.domain.said import LogLine, OutputPiece, Progress, Writes
from runner.storage.database import Database
from runner.storage.logs import LOGS
from tests.contract.databases import everything
from tests.factories import HOUR, NOW, SECOND, Stores, end, make_job, make_running, start


def piece(data: bytes, *, append: bool = True, name: str = "report", media_type: str = "text/plain") -> OutputPiece:
    return OutputPiece(NOW, name, media_type, data, append)


def line(message: str, level: str = "info") -> LogLine:
    return LogLine(NOW, level, message)


def test_progress_is_visible_while_the_job_runs(stores: Stores) -> None:
    """0 to 100, with an optional step and message."""
    run = make_running(stores)

    assert stores.logs.write([Writes(run, Progress(12.5, "reading", "3 of 24"))]) == set()
    job = stores.jobs.get(run.id)

    assert (job.progress, job.current_step, job.message, job.status) == (12.5, "reading", "3 of 24", "running")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([Progress(30), Progress(20)], (30, None, None)),
        ([Progress(30), Progress(None, "next")], (30, "next", None)),
        ([Progress(30, "a", "m"), Progress(40)], (40, "a", "m")),
        ([Progress(30, "a"), Progress(20, "b", "late")], (30, "b", "late")),
        ([Progress(100), Progress(0)], (100, None, None)),
        ([Progress(0), Progress(0.001)], (0.001, None, None)),
    ],
)
def test_progress_never_goes_back_within_a_run(
    stores: Stores, said: list[Progress], expected: tuple[float, str | None, str | None]
) -> None:
    """A smaller number leaves what is there; what is not said stays."""
    run = make_running(stores)
    for one in said:
        stores.logs.write([Writes(run, one)])
    job = stores.jobs.get(run.id)

    assert (job.progress, job.current_step, job.message) == expected


@settings(derandomize=True, deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.none(), st.floats(0, 100)), max_size=12))
def test_progress_is_the_highest_word_so_far(stores: Stores, said: list[float | None]) -> None:
    """Whatever a run says, its progress is the highest number it has said."""
    run, highest = make_running(stores), 0.0
    for percent in said:
        stores.logs.write([Writes(run, Progress(percent))])
        highest = max(highest, percent or 0.0)
        assert stores.jobs.get(run.id).progress == highest
    end(stores, run, Completed())


def test_the_next_run_starts_at_zero(stores: Stores) -> None:
    """Zeroed by the next claim: the number of an earlier run holds nothing back."""
    run = make_running(stores)
    stores.logs.write([Writes(run, Progress(90))])
    end(stores, run, Failed("x"))
    run = start(stores, run.id, now=NOW + HOUR)

    stores.logs.write([Writes(run, Progress(10))])

    assert stores.jobs.get(run.id).progress == 10


def test_log_lines_come_in_order_and_from_where_one_stopped(stores: Stores) -> None:
    """Lines of a job in order; a reader resumes after the last id it has."""
    run, other = make_running(stores), make_running(stores)
    stores.logs.write([Writes(run, lines=(line("a"), line("b", "error"))), Writes(other, lines=(line("elsewhere"),))])
    stores.logs.write([Writes(run, lines=tuple(line(str(number)) for number in range(100)))])

    lines = stores.logs.lines(run.id)
    rest = stores.logs.lines(run.id, after=lines[49].id or 0)

    assert [one.message for one in lines] == ["a", "b", *map(str, range(100))]
    assert (lines[1].level, lines[1].at, lines[1].run_number) == ("error", NOW, 1)
    assert lines[:50] + rest == lines
    assert stores.logs.lines(run.id, limit=3) == lines[:3]
    assert stores.logs.lines(9999) == []


def test_lines_of_all_runs_stay(stores: Stores) -> None:
    """The log of a job is that of all its runs, each line with its run number."""
    run = make_running(stores)
    stores.logs.write([Writes(run, lines=(line("first"),))])
    end(stores, run, Failed("x"))
    stores.logs.write([Writes(start(stores, run.id, now=NOW + HOUR), lines=(line("second"),))])

    assert [(one.run_number, one.message) for one in stores.logs.lines(run.id)] == [(1, "first"), (2, "second")]


def test_an_output_grows_or_begins_anew(stores: Stores) -> None:
    """`append=True` adds to the output of that name, `append=False` begins it anew; names are apart."""
    run = make_running(stores)

    stores.logs.write([Writes(run, outputs=(piece(b"a"), piece(b"b"), piece(b"x", name="other")))])
    assert stores.logs.outputs(run.id) == {"report": ("text/plain", b"ab"), "other": ("text/plain", b"x")}

    stores.logs.write([Writes(run, outputs=(piece(b"c", append=False, media_type="text/html"), piece(b"d")))])
    assert stores.logs.outputs(run.id)["report"] == ("text/plain", b"cd")
    assert stores.logs.outputs(run.id)["other"] == ("text/plain", b"x")


@pytest.mark.parametrize("append", [True, False])
def test_a_new_run_shows_its_own_output(stores: Stores, append: bool) -> None:
    """Pieces of an earlier run are not continued."""
    run = make_running(stores)
    stores.logs.write([Writes(run, outputs=(piece(b"old"), piece(b"kept", name="other")))])
    end(stores, run, Released())
    run = start(stores, run.id)

    stores.logs.write([Writes(run, outputs=(piece(b"n", append=append), piece(b"ew")))])

    assert stores.logs.outputs(run.id) == {"report": ("text/plain", b"new"), "other": ("text/plain", b"kept")}


def test_outputs_are_bytes(stores: Stores) -> None:
    """Whatever the bytes are, they come back."""
    run, data = make_running(stores), bytes(range(256)) * 1000
    stores.logs.write([Writes(run, outputs=(piece(data, media_type="application/octet-stream"),))])

    assert stores.logs.outputs(run.id) == {"report": ("application/octet-stream", data)}


def test_a_batch_writes_what_it_may_and_names_the_lost(database: Database, stores: Stores) -> None:
    """Progress, logs and outputs carry the fence: where it is lost, nothing of that run is written."""
    good, stale, done = (make_running(stores) for _ in range(3))
    end(stores, stale, Released())
    start(stores, stale.id)
    end(stores, done, Completed())
    all_of_it = (Progress(50), (line("said"),), (piece(b"x"),))

    lost = stores.logs.write([Writes(run, *all_of_it) for run in (stale, good, done)])
    only_lines = stores.logs.write([Writes(run, lines=(line("again"),)) for run in (stale, good, done)])

    assert lost == only_lines == {stale.id, done.id}
    rows = everything(database)
    assert {row["job_id"] for row in rows["job_logs"] + rows["job_outputs"]} == {good.id}
    assert [stores.jobs.get(run.id).progress for run in (stale, good, done)] == [0, 50, 100]


def test_writing_nothing_says_whether_the_claim_holds(stores: Stores) -> None:
    """A run that has nothing to say still learns that it is no longer its own."""
    run = make_running(stores)
    assert stores.logs.write([Writes(run)]) == set()
    end(stores, run, Completed(), now=NOW + SECOND)

    assert stores.logs.write([Writes(run)]) == {run.id}
    assert stores.logs.write([]) == set()


def test_lines_are_read_by_run(database: Database, stores: Stores) -> None:
    """Of one, or of all, from either end."""
    job = make_job(stores)
    rows = [
        {"job_id": job.id, "run_number": run, "at": NOW, "level": "info", "message": f"{run}{n}"}
        for n in range(2)
        for run in (1, 2)
    ]
    with database.write() as connection:
        connection.execute(insert(LOGS), rows)
    logs, job_id = stores.logs, job.id or 0
    assert [line.message for line in logs.lines(job_id)] == ["10", "20", "11", "21"]
    assert [line.message for line in logs.lines(job_id, run=2, limit=1)] == ["20"]
    assert [line.message for line in logs.newest(job_id, 4, 2, run=1)] == ["10", "11"]
    assert logs.newest(job_id, 4, 2, run=3) == []


def test_the_beginning_of_an_output_is_read_without_the_rest(stores: Stores) -> None:
    """Whatever the pieces it came in."""
    run = make_running(stores)
    stores.logs.write([Writes(run, outputs=tuple(piece(bytes([n]) * 10, append=True) for n in range(5)))])
    whole = stores.logs.outputs(run.id)["report"][1]

    assert [stores.logs.beginning(run.id, "report", most) for most in (1, 10, 15, 49, 50, 99)] == [
        whole[:1], whole[:10], whole[:15], whole[:49], whole, whole,
    ]  # fmt: skip
    assert stores.logs.beginning(run.id, "nothing", 10) == b""

"""`runner jobs watch` and `runner jobs logs --follow`: a job seen from another process than the one that runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.interfaces.cli_project import DEADLINE, Project, address_of, command, steady
from tests.interfaces.wires import wire
from tests.waiting import eventually

HANDLERS = """
import threading
from pathlib import Path


def talk(ctx, payload):
    ctx.log("one")
    ctx.progress(25, step="reading", message="at the gate")
    while not Path(f"go-{ctx.job_id}").exists():
        ctx.check()
        threading.Event().wait(0.01)
    ctx.log("two")
    if ctx.attempt < payload.get("good", 1):
        raise RuntimeError(f"attempt {ctx.attempt}")
    return {"words": 9}
"""
FILE = """
version: 1
runner: {handler_packages: [talking], concurrency: 50}
defaults: {retry: {max_attempts: 2, delay: 1ms}}
job_types:
  talk: {handler: talking.talk}
  later: {handler: talking.talk, retry: {max_attempts: 2, delay: 1h}}
"""


@pytest.fixture(scope="module", params=["database", "server"])
def talking(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Served for all tests, which look into the database, and in another run ask the server; each has a job of its own,
    which stands at its gate."""
    project = Project(tmp_path_factory.mktemp("talking"), {"RUNNER_HTTP": "on"})
    project.write(HANDLERS, "talking.py")
    project.write(FILE)
    project.good("apply")
    serving = project.start("serve", "--port", "0")
    address = address_of(serving)
    project.server = address if request.param == "server" else None
    yield project
    serving.kill()
    serving.communicate(timeout=DEADLINE)


def talk(project: Project, kind: str = "talk", **payload: object) -> int:
    """The id of a new job, once it is at the gate."""
    job_id = int(project.good("enqueue", kind, "--payload", json.dumps(payload), "-o", "json").json["id"])
    found = f"SELECT 1 FROM background_jobs WHERE id = {job_id} AND progress = 25"
    eventually(lambda: project.rows(found), "it runs")
    return job_id


def status(project: Project, job_id: int) -> str:
    return str(project.rows(f"SELECT status FROM background_jobs WHERE id = {job_id}")[0][0])


class Reading:
    """A process and the lines that it has printed so far."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.rest = ""

    def line(self) -> str:
        assert self.process.stdout is not None
        self.lines.append(self.process.stdout.readline().decode())
        return self.lines[-1].rstrip("\n")

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=DEADLINE)
        self.rest = out.decode()
        return self.process.returncode, self.rest, err.decode()


@contextmanager
def reading(project: Project, *arguments: object) -> Iterator[Reading]:
    process = project.start(*arguments)
    try:
        yield Reading(process)
    finally:
        process.kill()
        process.wait(DEADLINE)


def go_on(project: Project, job_id: int) -> None:
    (project.folder / f"go-{job_id}").touch()


def documents(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


# ---- watch


def test_watch_tells_what_the_job_says_and_how_it_ends(talking: Project) -> None:
    """A line for each change, the result at the end, and 0."""
    job = talk(talking)
    with reading(talking, "jobs", "watch", job) as watching:
        assert steady(watching.line()) == "TIME running  25 %  reading: at the gate"
        go_on(talking, job)
        code, out, err = watching.end()
    assert (code, err) == (0, "")
    assert steady(out) == 'TIME completed  after SPAN: {"words": 9}\n'


@pytest.mark.parametrize(("good", "code", "status"), [(2, 0, "completed"), (9, 1, "failed")])
def test_watch_tells_every_attempt(talking: Project, good: int, code: int, status: str) -> None:
    """However quickly one follows the other; a job that failed for good is 1."""
    job = talk(talking, good=good)
    with reading(talking, "jobs", "watch", job, "-o", "jsonl") as watching:
        first = json.loads(watching.line())
        assert (first["event"], first["percent"], first["display_state"]) == ("progress", 25, "running")
        go_on(talking, job)
        found, out, _ = watching.end()
    told = documents(out)
    failed = [one for one in told if one["event"] == "settled"]
    assert [(one["run_number"], one["attempt"], one["outcome"]) for one in failed] == [(1, 1, "failed")]
    assert (found, told[-1]["event"], told[-1]["status"], told[-1]["attempt"]) == (code, "ended", status, 2)


def test_watch_tells_a_failure_as_it_happens_and_what_comes_next(talking: Project) -> None:
    """The attempt with its error, and when the next one is to come; not before the time is up does it end."""
    job = talk(talking, "later", good=2)
    with reading(talking, "jobs", "watch", job) as watching:
        watching.line()
        go_on(talking, job)
        assert steady(watching.line()) == "TIME failed  attempt 1: RuntimeError: attempt 1"
        assert "retrying   to run in 4 m" in watching.line()
        assert watching.process.poll() is None
        watching.process.send_signal(signal.SIGINT)
        assert watching.end()[0] == 130


def test_watch_of_a_cancelled_job_is_1(talking: Project) -> None:
    """And says why it was cancelled. Of a job that has ended it says so at once, as JSON as `jobs show` does."""
    job = talk(talking)
    with reading(talking, "jobs", "watch", job) as watching:
        watching.line()
        talking.good("jobs", "cancel", job, "--reason", "not wanted")
        code, out, _ = watching.end()
    assert code == 1
    assert "cancelled" in out
    assert "not wanted" in out
    again = talking.run("jobs", "watch", job, "-o", "json")
    assert (again.code, again.json["format_version"], again.json["id"], again.json["status"]) == (
        1,
        1,
        job,
        "cancelled",
    )


def test_the_wait_ends_with_124_when_the_time_is_up(talking: Project) -> None:
    """The job goes on."""
    job = talk(talking)
    answer = talking.run("jobs", "watch", job, "--timeout", "10ms")
    assert (answer.code, answer.err) == (124, f"error: job {job} had not ended after 10ms; it goes on\n")
    assert talking.run("jobs", "logs", job, "-f", "--timeout", "10ms").code == 124
    assert talking.run("jobs", "watch", job, "--timeout", "soon").code == 2
    assert status(talking, job) == "running"


def test_ctrl_c_ends_the_watch_and_not_the_job(talking: Project) -> None:
    """130, no traceback."""
    job = talk(talking)
    with reading(talking, "jobs", "watch", job) as watching:
        watching.line()
        watching.process.send_signal(signal.SIGINT)
        code, _, err = watching.end()
    assert (code, "Traceback" in err, status(talking, job)) == (130, False, "running")


def test_who_waits_in_vain_is_told(project: Project) -> None:
    """A job that no live worker takes: one warning with the remedy, and the waiting goes on."""
    project.good("apply")
    project.good("enqueue", "ok")
    answer = project.run("jobs", "watch", 1, "--timeout", "600ms")
    assert answer.code == 124
    assert answer.err.count("no live worker takes queue default: runner serve, or runner run-once") == 1


# ---- logs


def test_follow_prints_lines_as_they_come_and_how_the_job_ended(talking: Project) -> None:
    """Each line once, the last ones too; stdout has the lines alone."""
    job = talk(talking)
    with reading(talking, "jobs", "logs", job, "--follow") as following:
        assert steady(following.line()) == "TIME info  one"
        go_on(talking, job)
        code, out, err = following.end()
    assert (code, steady(out), err) == (0, "TIME info  two\n", f"job {job} completed\n")


def test_follow_tells_why_the_job_failed(talking: Project) -> None:
    """Both attempts' lines, then the error."""
    job = talk(talking, good=9)
    go_on(talking, job)
    answer = talking.run("jobs", "logs", job, "-f", "-o", "jsonl")
    assert [(one["run_number"], one["message"]) for one in documents(answer.out)] == [
        (1, "one"), (1, "two"), (2, "one"), (2, "two"),
    ]  # fmt: skip
    assert (answer.code, answer.err) == (0, f"job {job} failed: RuntimeError: attempt 2\n")


def test_an_interrupted_follow_says_how_to_go_on(talking: Project) -> None:
    """By the id of the last line that was printed."""
    job = talk(talking)
    with reading(talking, "jobs", "logs", job, "-f") as following:
        following.line()
        following.process.send_signal(signal.SIGINT)
        code, _, err = following.end()
    ((last,),) = talking.rows(f"SELECT max(id) FROM job_logs WHERE job_id = {job}")
    assert (code, err) == (130, f"to go on: runner jobs logs {job} --follow --after {last}\n")
    go_on(talking, job)
    assert steady(talking.run("jobs", "logs", job, "--follow", "--since-id", last).out) == "TIME info  two\n"


def test_a_reader_that_leaves_ends_the_follow(talking: Project) -> None:
    """`runner jobs logs -f | head -1`: the next line finds nobody, and a job that goes on is not waited for."""
    job = talk(talking)
    read, write = os.pipe()
    following = subprocess.Popen(
        command("jobs", "logs", job, "-f"), cwd=talking.folder,
        env=talking.environment(("jobs",), {}), stdout=write,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(write)
    assert os.read(read, 10_000).endswith(b"one\n")
    os.close(read)
    talking.rows(
        "INSERT INTO job_logs (job_id, run_number, at, level, message) "
        f"VALUES ({job}, 1, '2026-01-01 00:00:00.000000', 'info', 'x')"
    )
    _, err = following.communicate(timeout=DEADLINE)
    assert (following.returncode, err, status(talking, job)) == (0, b"", "running")


def test_a_log_that_goes_on_is_no_one_document(talking: Project) -> None:
    """--follow -o json is wrong usage, and says what to write."""
    answer = talking.run("jobs", "logs", 1, "-f", "-o", "json")
    assert (answer.code, "-o jsonl" in answer.err) == (2, True)


# ---- a server that goes away and comes again


def test_a_stream_goes_on_where_it_was_cut(talking: Project) -> None:
    """No line twice, none lost; the end is told as ever."""
    if talking.server is None:
        pytest.skip("without a server there is no stream")
    job = talk(talking)
    with wire(urlsplit(talking.server).port or 0) as between:
        url = f"http://127.0.0.1:{between.port}"
        with (
            reading(talking, "--server", url, "jobs", "logs", job, "-f") as following,
            reading(talking, "--server", url, "jobs", "watch", job) as watching,
        ):
            assert steady(following.line()) == "TIME info  one"
            assert steady(watching.line()) == "TIME running  25 %  reading: at the gate"
            between.cut()
            go_on(talking, job)
            eventually(lambda: status(talking, job) == "completed", "its end")
            assert [*following.end()[:1], steady(following.rest)] == [0, "TIME info  two\n"]
            assert [*watching.end()[:1], steady(watching.rest)] == [0, 'TIME completed  after SPAN: {"words": 9}\n']


def test_the_end_of_a_server_is_waited_out(project: Project) -> None:
    """A server that is stopped and started again on its port is found again; the job that it gave back goes on."""
    project.env["RUNNER_HTTP"] = "on"
    project.write(HANDLERS, "talking.py")
    project.write(FILE)
    project.good("apply")
    first = project.start("serve", "--port", "0")
    project.server = address_of(first)
    job = talk(project)
    with reading(project, "jobs", "watch", job, "-o", "jsonl") as watching:
        assert json.loads(watching.line())["percent"] == 25
        first.kill()
        first.communicate(timeout=DEADLINE)
        second = project.start("serve", "--port", str(urlsplit(project.server).port))
        try:
            go_on(project, job)
            code, _, err = watching.end()
        finally:
            second.kill()
            second.communicate(timeout=DEADLINE)
    told = documents(watching.rest)
    assert (code, told[-1]["event"], told[-1]["status"]) == (0, "ended", "completed"), err
    assert [one["outcome"] for one in told if one["event"] == "settled"] == ["stalled"]

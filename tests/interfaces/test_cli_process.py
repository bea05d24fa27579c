"""`runner` as a process: signals, pipes, terminals, a kill in the middle, two at the same time."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.interfaces.cli_project import BASE, DEADLINE, GATE, Project, command, environment
from tests.waiting import eventually

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def gate(project: Project) -> Project:
    """A schedule whose handler begins, and ends when a file is there."""
    project.write(GATE % (project.folder / "begun", project.folder / "go-on"))
    return project


def at_the_gate(gate: Project) -> subprocess.Popen[bytes]:
    running = gate.start("run-once", "--trigger", "gate")
    eventually((gate.folder / "begun").exists, "the handler began")
    return running


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_in_good_order(gate: Project, number: signal.Signals, code: int) -> None:
    """SIGINT and SIGTERM: the running handler is stopped, its attempt given back, the run told; 130 and 143."""
    running = at_the_gate(gate)
    running.send_signal(number)
    out, err = running.communicate(timeout=DEADLINE)
    assert (running.returncode, err) == (code, b"")
    assert f"Stopped by {number.name}" in out.decode()
    assert "again in -" not in out.decode()
    assert gate.rows("SELECT status, attempt, error FROM background_jobs") == [
        ("pending", 0, f"released: {number.name}")
    ]
    (gate.folder / "go-on").touch()
    after = gate.good("run-once", "-o", "json").json
    assert [(job["status"], job["attempt"]) for job in after["jobs"]] == [("completed", 1)]


def test_timeout_is_124(gate: Project) -> None:
    """--timeout: what had not finished is pending again with its attempt given back, and the exit code is 124."""
    answer = gate.process("run-once", "--trigger", "gate", "--timeout", "500ms", "-o", "json")
    assert answer.code == 124
    assert (answer.json["summary"]["stopped_by"], answer.json["summary"]["exit_code"]) == ("timeout", 124)
    assert gate.rows("SELECT status, attempt FROM background_jobs") == [("pending", 0)]


def test_a_killed_run_is_made_good_by_the_next(gate: Project) -> None:
    """kill -9 in the middle of a job, then run-once again: it is rescued at once, ends, and is settled once."""
    running = at_the_gate(gate)
    running.kill()
    running.communicate(timeout=DEADLINE)
    assert gate.rows("SELECT status FROM background_jobs") == [("running",)]
    (gate.folder / "go-on").touch()
    answer = gate.process("run-once", "-o", "json")
    (job,) = answer.json["jobs"]
    assert (answer.code, job["status"], job["stalls"]) == (0, "completed", 1)
    assert [one["outcome"] for one in job["attempts"]] == ["stalled", "completed"]


def test_two_at_the_same_time_fire_each_slot_once(project: Project) -> None:
    """Two `run-once` over the same due slots: each slot has one job, and both end well."""
    project.good("apply", "--now", "2026-11-22T12:00Z")
    both = [project.start("run-once", "--now", "2026-11-23T05:30Z", "-o", "json") for _ in range(2)]
    for one in both:
        _, err = one.communicate(timeout=DEADLINE)
        assert (one.returncode, b"Traceback" in err) == (0, False), err
    fired = project.rows("SELECT schedule_name, slot FROM schedule_slots WHERE outcome = 'enqueued'")
    assert len(fired) == len(set(fired)) == 2
    assert project.rows("SELECT status, count(*) FROM background_jobs GROUP BY status") == [("completed", 2)]


def test_an_interrupted_command_is_130(project: Project) -> None:
    """Ctrl-C in a command that is no run: 130 and no traceback."""
    project.write(
        "import os, signal\n\ndef stop(ctx, payload): ...\n\nos.kill(os.getpid(), signal.SIGINT)\n", "halting.py"
    )
    project.write("version: 1\nrunner: {handler_packages: [halting]}\njob_types: {h: {handler: halting.stop}}\n")
    assert project.process("validate").code == 130


def test_a_reader_that_leaves_stops_no_job(project: Project) -> None:
    """`runner run-once | head -1`: the jobs run to their end, as if somebody still listened."""
    project.good("apply")
    lines = '{"type": "ok"}\n' * 20
    assert project.run("enqueue", "--bulk", "-", stdin=lines.encode()).code == 0
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        command("run-once"), cwd=project.folder, env=environment({}), stdout=writing, stderr=subprocess.PIPE,
        timeout=DEADLINE, check=False,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
    assert project.rows("SELECT status, count(*) FROM background_jobs GROUP BY status") == [("completed", 20)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_behind_stdout_is_told(project: Project) -> None:
    """What cannot be printed for want of space makes a good end a 1, in one sentence."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            command("schema"), cwd=project.folder, env=environment({}), stdout=full, stderr=subprocess.PIPE,
            timeout=DEADLINE, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == b"error: the output could not be written: No space left on device\n"


def test_closed_streams_are_no_error(project: Project) -> None:
    """`>&-` and `2>&-`: who closes a stream does not want to read it; the exit code is the answer."""
    shell = f"{' '.join(command('validate'))} >&- 2>&-; echo $?"
    done = subprocess.run(
        shell, shell=True, cwd=project.folder, env=environment({}), capture_output=True, text=True, check=True,
        timeout=DEADLINE,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_a_terminal_shows_progress_and_fits(gate: Project) -> None:
    """On a terminal: a live table with a bar, then a table; lists say how long ago, within 80 columns."""
    (gate.folder / "go-on").touch()
    code, written = gate.terminal("run-once", "--trigger", "gate")
    assert code == 0
    assert "\x1b[?25l" in written  # the cursor is hidden while rich redraws
    assert "\x1b[?25h" in written
    assert "━" in written
    last = ESCAPE.sub("", written).replace("\r", "").splitlines()[-4:]
    assert last[0].split() == ["JOB", "TYPE", "SCHEDULE", "RESULT", "TRIES", "TOOK", "SAID"]
    assert last[-1].startswith("1 completed in ")
    _, listed = gate.terminal("jobs", "list")
    assert max(len(line) for line in listed.replace("\r", "").splitlines()) <= 80
    assert " ago" in listed


def test_no_color_is_respected(gate: Project) -> None:
    """NO_COLOR=1: the live table has no colours; a dumb terminal gets plain lines."""
    (gate.folder / "go-on").touch()
    code, written = gate.terminal("run-once", "--trigger", "gate", NO_COLOR="1")
    assert code == 0
    assert re.findall(r"\x1b\[(?:3|4|9|10)[0-9]m|\x1b\[[0-9;]*;(?:3|4|9)[0-9]m", written) == []
    _, plain = gate.terminal("run-once", "--trigger", "gate", TERM="dumb")
    assert "\x1b" not in plain
    assert "started    job 2 gate" in plain


def test_tables_are_never_cut_when_not_on_a_terminal(project: Project) -> None:
    """Piped output keeps every character, however narrow the window is said to be; no escape sequences."""
    name = "a-very-long-name-of-a-schedule-that-goes-on-and-on-and-on-and-on-and-on-and-on"
    project.write(BASE.replace("hourly", name).replace("daily:", "other:"))
    ran = project.process("run-once", "--trigger-all", COLUMNS="40")
    listed = project.good("schedules", "list", COLUMNS="40")
    for out in (ran.out, listed.out):
        assert name in out
        assert "…" not in out
        assert "\x1b" not in out


def test_a_terminal_cuts_words_and_never_numbers(project: Project) -> None:
    """At 80 columns long names and reasons give way; ids, states and times are whole."""
    project.good("apply")
    project.good("schedules", "trigger", "hourly")
    project.good("jobs", "cancel", "1", "--reason", "because of a reason that is much longer than any terminal " * 3)
    _, listed = project.terminal("jobs", "list")
    header, row = listed.replace("\r", "").splitlines()
    assert len(row) == 80
    assert row.endswith("…")
    assert row.split()[:3] == ["1", "ok", "cancelled"]
    assert header.split()[-1] == "SAID"

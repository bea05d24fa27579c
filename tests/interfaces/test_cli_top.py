"""`runner top`: one frame where nobody looks on, a live view on a terminal, and a terminal that is left as it was."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from rich.console import Console

from runner.cli import top
from runner.cli.frame import Frame, draw
from runner.cli.local import DatabaseDesk
from runner.domain.errors import DatabaseUnavailable
from runner.domain.overview import (
    EndedJob,
    Life,
    NextFire,
    Overview,
    QueueView,
    RevisionMark,
    RunningJob,
    ScheduleSums,
    WorkerView,
)
from tests.engine.bench import open_app
from tests.factories import NOW, make_new_job, make_worker
from tests.interfaces.cli_project import DEADLINE, GATE, Project, command, environment

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
HOME = "\x1b[H"
SECOND = timedelta(seconds=1)


class Screen:
    """A process on a terminal of its own, whose size is the terminal's and not the environment's."""

    def __init__(self, project: Project, *arguments: object, columns: int = 80, lines: int = 24) -> None:
        self._ours, theirs = pty.openpty()
        self.written = ""
        self.resize(columns, lines)
        self.before = termios.tcgetattr(self._ours)
        env = environment({"TERM": "xterm-256color"})
        del env["COLUMNS"]
        self.process = subprocess.Popen(
            command(*arguments), cwd=project.folder, env=env, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, key: bytes) -> None:
        os.write(self._ours, key)

    def until(self, what: str, holds: Callable[[list[str]], object]) -> list[str]:
        """The lines of the first whole frame of which it holds."""
        end = time.monotonic() + DEADLINE
        while not holds(lines := self.frame()):
            assert time.monotonic() < end, f"never seen: {what}; the last frame:\n" + "\n".join(lines)
            assert self._read() or self.process.poll() is None, self.written
        return lines

    def frame(self) -> list[str]:
        """The last frame that was drawn whole: the one before the one that is being drawn."""
        whole = self.written.split(HOME)[1:-1]
        return ESCAPE.sub("", whole[-1]).replace("\r", "").split("\n") if whole else []

    def ended(self) -> int:
        while self._read():
            pass
        return self.process.wait(DEADLINE)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)
        os.close(self._ours)

    @property
    def attributes(self) -> list[object]:
        return termios.tcgetattr(self._ours)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._ours], [], [], 0.05)
        try:
            piece = os.read(self._ours, 65_536).decode() if ready else ""
        except OSError:  # the other side has closed it
            return False
        self.written += piece
        return bool(piece) or self.process.poll() is None


@contextmanager
def on_screen(project: Project, **size: int) -> Iterator[Screen]:
    screen = Screen(project, "top", **size)
    try:
        yield screen
    finally:
        screen.close()


@pytest.fixture
def gate(project: Project) -> Iterator[Project]:
    """A served project whose one job stands at its gate."""
    project.write(GATE % (project.folder / "begun", project.folder / "go-on"))
    project.good("apply")
    project.good("schedules", "trigger", "gate")
    serving = project.start("serve")
    yield project
    serving.kill()
    serving.communicate(timeout=DEADLINE)


def test_it_shows_what_happens_while_it_happens(gate: Project) -> None:
    """The running job with bar and words, queue, worker and next fire; when it has ended it is among the ended."""
    with on_screen(gate) as screen:
        lines = screen.until("the job at its gate", lambda lines: any("at the gate" in line for line in lines))
        (job,) = [line for line in lines if "at the gate" in line]
        assert job.split()[:2] == ["1", "gate"]
        assert "━━━" in job
        assert " 25 1/3 " in job
        assert any(line.startswith("default ") and " 1/2 " in line and "alive" in line for line in lines), lines
        assert (len(lines) <= 24, max(map(len, lines)) <= 80) == (True, True)
        (gate.folder / "go-on").touch()
        screen.until("its end", lambda lines: any("1 gate" in line and "completed" in line for line in lines))
        screen.press(b"q")
        assert screen.ended() == 0
        assert screen.attributes == screen.before
    assert screen.written.index("\x1b[?1049h") < screen.written.index("\x1b[?1049l")
    assert screen.written.rindex("\x1b[?25h") > screen.written.rindex("\x1b[?25l")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_signal_leaves_the_terminal_as_it_was(project: Project, number: signal.Signals, code: int) -> None:
    """Ctrl-C is the way out, and good; SIGTERM is 143 as everywhere."""
    with on_screen(project) as screen:
        screen.until("a frame", lambda lines: lines)
        assert screen.attributes != screen.before
        screen.process.send_signal(number)
        assert screen.ended() == code
        assert screen.attributes == screen.before
    assert screen.written.rstrip().endswith("\x1b[?1049l")
    assert "Traceback" not in screen.written


def test_it_waits_for_a_database_and_follows_the_size_of_the_terminal(project: Project) -> None:
    """Started too early it says so; what is made meanwhile is seen; a resize is drawn at once."""
    with on_screen(project) as screen:
        screen.until("no database", lambda lines: any("no database yet" in line for line in lines))
        project.good("apply")
        screen.until("the schedules", lambda lines: any(line.startswith("hourly") for line in lines))
        screen.resize(120, 30)
        screen.process.send_signal(signal.SIGWINCH)
        screen.until("the wide frame", lambda lines: len(lines) == 30 and max(map(len, lines)) > 100)
        project.database.unlink()
        screen.until("it is gone", lambda lines: any("no database" in line for line in lines))
        screen.press(b"q")
        assert screen.ended() == 0


def test_without_a_terminal_it_is_one_frame(project: Project) -> None:
    """Plain text within 80 columns and 24 lines; without a database it says so, and with a strange one it is 7."""
    assert "no database yet" in project.good("top").out
    project.good("apply")
    project.good("enqueue", "strict", "--payload", '{"name": "x"}')
    project.run("run-once", "--trigger", "hourly", "--type", "ok")
    lines = project.good("top").out.splitlines()
    assert (len(lines) <= 24, max(map(len, lines)) <= 80, "\x1b" in "".join(lines)) == (True, True, False)
    assert lines[1] == "no live worker takes: slow-lane"
    assert any("2 ok" in line and "completed" in line for line in lines)
    project.good("migrate", "down", "--yes")
    answer = project.run("top")
    assert (answer.code, "runner migrate up" in answer.err) == (7, True)


# ---- the frame


def crowded(number: int) -> Frame:
    """Much of everything, with long and hostile texts."""
    text = "\x1b[31mlong words " * 20
    row = make_worker("a" * 16, host="h" * 70)
    return Frame(
        "/" + "folder/" * 40 + "runner.db",
        NOW,
        Overview(
            NOW, RevisionMark(3, "x", NOW, "me"),
            [WorkerView(row, life, 2, True) for life in list(Life) * number],
            [QueueView(f"queue-{at}" * 9, 10**6, 10**6, 3, NOW - SECOND, is_taken=False) for at in range(number)],
            ScheduleSums(), [NextFire("schedule" * 9, "x", NOW + SECOND) for _ in range(number)],
        ),
        [RunningJob(10**9, "type" * 20, "w", 1, 3, 33.3, text, text, NOW - SECOND, True) for _ in range(number)],
        [EndedJob(10**9, "type" * 20, "completed", text, None, NOW) for _ in range(number)],
    )  # fmt: skip


def drawn(frame: Frame, columns: int, lines: int) -> list[str]:
    console = Console(width=columns, color_system=None)
    with console.capture() as captured:
        console.print(draw(frame, lines))
    return captured.get().splitlines()


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (80, 16), (200, 60), (40, 24)])
@pytest.mark.parametrize("number", [0, 1, 5, 100])
def test_a_frame_fits(columns: int, lines: int, number: int) -> None:
    """However much there is, and nothing of a job's text reaches the terminal as a command."""
    shown = drawn(crowded(number), columns, lines)
    assert (len(shown) <= lines, max(map(len, shown)) <= columns, "\x1b" in "".join(shown)) == (True, True, False)


def test_what_is_cut_is_counted() -> None:
    """A part that shows some of its rows says how many there are."""
    text = "\n".join(drawn(crowded(100), 80, 24))
    assert re.search(r"RUNNING 6 of 300 ", text)
    assert re.search(r"WORKER 5 of 300 ", text)


def test_an_error_is_drawn_with_its_remedy() -> None:
    """A database that cannot be read for a while does not end the view."""
    text = drawn(Frame("x", NOW, error=DatabaseUnavailable("it is damaged", "restore a backup")), 80, 24)
    assert text[2:] == ["it is damaged", "help: restore a backup"]


def test_what_did_not_change_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look costs a query where nothing was committed; the spans go on all the same."""
    monkeypatch.setattr(top, "SHARE", 0)
    app = open_app(tmp_path)
    source = top._Source(DatabaseDesk(app.settings, {}))
    first = source.frame(NOW)
    same = source.frame(NOW + SECOND)
    assert same.seen is first.seen
    assert same.now == NOW + SECOND
    app.jobs.enqueue(make_new_job(), NOW)
    assert [queue.due for queue in source.frame(NOW + SECOND).seen.queues] == [1]  # type: ignore[union-attr]
    monkeypatch.setattr(top, "SHARE", 10**9)
    app.jobs.enqueue(make_new_job(), NOW)
    assert [queue.due for queue in source.frame(NOW + SECOND).seen.queues] == [1]  # type: ignore[union-attr]
    source.desk.__exit__(None, None, None)
    app.close()

"""A folder with a schedules.yaml, and the `runner` command in it: in this process, in one of its own, on a terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import typer

from runner.cli.server import ASKING

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 60.0  # seconds after which a condition that does not come is a failure
NOW = "2026-11-22T12:00:00Z"
OLD_SQLITE = re.compile(r"warning: SQLite .*\nhelp: .*\n")  # in this process `sqlite3` is whatever Python brought

BASE = """\
version: 1
runner: {handler_packages: [tests]}
job_types:
  ok: {handler: tests.interfaces.cli_handlers.ok}
  bad: {handler: tests.interfaces.cli_handlers.bad, retry: false}
  flaky: {handler: tests.interfaces.cli_handlers.flaky}
  strict:
    handler: tests.interfaces.cli_handlers.ok
    priority: low
    queue: slow-lane
    payload_schema: {required: [name], properties: {name: {type: string}}}
schedules:
  hourly: {job: ok, cron: "0 * * * *"}
  daily: {job: ok, cron: "0 6 * * *", timezone: Europe/Berlin, payload: {name: daily}}
"""
BY_HAND = re.sub(r"cron: \".*?\"", r"\g<0>, from: 2190-01-01", BASE)  # no slot is due, whenever the test runs
GATE = """\
version: 1
runner: {handler_packages: [tests]}
job_types:
  gate: {handler: tests.interfaces.cli_handlers.gate}
schedules:
  gate: {job: gate, cron: "0 0 1 1 *", payload: {begun: "%s", go_on: "%s"}}
"""


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        assert self.out, f"nothing on stdout; stderr: {self.err}"
        return json.loads(self.out)


@dataclass
class Project:
    """A working folder. `run` is quick; `process` and `terminal` are real processes.

    `server`: what is asked by commands that can ask one.
    """

    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    server: str | None = None

    def write(self, text: str, name: str = "schedules.yaml") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def environment(self, arguments: Sequence[object], more: Mapping[str, str]) -> dict[str, str]:
        """Of a command with these arguments."""
        asks = self.server is not None and bool(arguments) and (arguments[0] in ASKING)
        return environment(self.env | ({"RUNNER_SERVER": str(self.server)} if asks else {}) | dict(more))

    @property
    def database(self) -> Path:
        return self.folder / "runner.db"

    def run(self, *arguments: object, stdin: bytes | str = b"", **env: str) -> Answer:
        """The command in this process: the same door as the console script's, without the start of an interpreter."""
        from runner.cli.main import run

        out, err = _stream(), _stream()
        with (
            _working_in(self.folder),
            mock.patch.dict(os.environ, self.environment(arguments, env), clear=True),
            mock.patch.object(sys, "argv", ["runner", *map(str, arguments)]),
            mock.patch.object(sys, "stdin", _stream(stdin)),
            mock.patch("typer.main.get_command", _built),
            mock.patch.object(sys, "path", list(sys.path)),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            try:
                run()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 0
        answer = Answer(code, _content(out), OLD_SQLITE.sub("", _content(err)))
        assert "internal error" not in answer.err, answer.err
        assert "Traceback" not in answer.err, answer.err
        return answer

    def good(self, *arguments: object, **env: str) -> Answer:
        """The same, and it must end with 0."""
        answer = self.run(*arguments, **env)
        assert answer.code == 0, answer
        return answer

    def process(self, *arguments: object, **env: str) -> Answer:
        done = subprocess.run(
            command(*arguments), cwd=self.folder, env=self.environment(arguments, env), stdin=subprocess.DEVNULL,
            capture_output=True, timeout=DEADLINE, check=False,
        )  # fmt: skip
        answer = Answer(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert "Traceback" not in answer.err, answer.err
        return answer

    def start(self, *arguments: object, **env: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command(*arguments), cwd=self.folder, env=self.environment(arguments, env),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def terminal(self, *arguments: object, columns: int = 80, **env: str) -> tuple[int, str]:
        """The exit code and all that was written to a terminal of so many columns."""
        ours, theirs = pty.openpty()
        size = {"COLUMNS": str(columns), "LINES": "24", "TERM": "xterm-256color"}
        child = subprocess.Popen(
            command(*arguments), cwd=self.folder, env=self.environment(arguments, size | env), stdin=theirs,
            stdout=theirs, stderr=theirs,
        )  # fmt: skip
        os.close(theirs)
        written = b"".join(_read_all(ours))
        os.close(ours)
        return child.wait(DEADLINE), written.decode()

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with sqlite3.connect(self.database) as connection:
            return connection.execute(statement).fetchall()

    def contents(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row of every table: what must be the same after a command that changes nothing."""
        names = self.rows("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        return {name: self.rows(f"SELECT * FROM {name}") for (name,) in names}


def address_of(serving: subprocess.Popen[bytes]) -> str:
    """Where a `runner serve` answers, once it says so."""
    assert serving.stderr is not None
    for line in serving.stderr:
        told = json.loads(line) if line.startswith(b"{") else {}
        if "address" in told:
            return str(told["address"])
    raise AssertionError("it ended without serving")


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "runner", *map(str, arguments)]


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Nothing of the caller's settings but what an interpreter needs."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    quiet = {"RUNNER_HTTP": "off"}  # many serve at once, and few are asked anything over HTTP
    return kept | quiet | {"PYTHONPATH": str(ROOT), "COLUMNS": "80", "LANG": "C.UTF-8"} | dict(more)


def steady(text: str, folder: Path | None = None) -> str:
    """Without what differs from run to run: times, spans, worker ids, folders, versions."""
    if folder is not None:
        text = text.replace(str(folder), "FOLDER")
    for pattern, word in STEADY:
        text = re.sub(pattern, word, text)
    return text


STEADY = (
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00| UTC)", "TIME"),
    (r"\b[0-9a-f]{16}\b", "WORKER"),
    (r"\b\d+(\.\d+)? m?s\b", "SPAN"),
    (r"root@\S+|\w+@[\w.-]+", "WHO"),
    (r" {2,}", "  "),
)


_built = cache(typer.main.get_command)  # building the tree of commands is four fifths of a short command


def _stream(content: bytes | str = b"") -> io.TextIOWrapper:
    raw = content.encode() if isinstance(content, str) else content
    return io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8", errors="strict", write_through=True)


def _content(stream: io.TextIOWrapper) -> str:
    raw = stream.buffer
    assert isinstance(raw, io.BytesIO)
    return raw.getvalue().decode()


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _read_all(descriptor: int) -> Iterator[bytes]:
    """Until the other side has closed it, which Linux tells as an error."""
    while True:
        ready, _, _ = select.select([descriptor], [], [], DEADLINE)
        assert ready, "the terminal fell silent"
        try:
            piece = os.read(descriptor, 65_536)
        except OSError:
            return
        if not piece:
            return
        yield piece

"""Starts `runner` commands quickly: one process has imported everything, and each command is a fork of it.

A worker that is killed every 200 ms, or in each of fifty tests, must not spend two seconds on its imports first. What
runs is the same `runner` command in a process of its own; only its Python has been warmed up. The program reads one
JSON request a line and answers it with one.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parents[2]
WARM = (
    "alembic.command", "pydantic.dataclasses", "sqlalchemy.dialects.sqlite", "tzdata", "watchfiles",
    "runner.app", "runner.domain.plan.report", "runner.storage.setup", "runner.telemetry.logs",
)  # fmt: skip


class Zygote:
    """The test's end: start commands, learn how they ended."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.zygote"],
            cwd=ROOT,
            env=None if environ is None else {**os.environ, **environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._codes: dict[int, int] = {}
        self._lock = threading.Lock()

    def start(self, arguments: Sequence[str], folder: Path, environ: Mapping[str, str], log: Path) -> int:
        """Start `runner ARGUMENTS` in that folder; both its streams go to the end of `log`. Returns its pid."""
        request = {"arguments": list(arguments), "folder": str(folder), "environ": dict(environ), "log": str(log)}
        return int(self._ask(request))

    def code(self, pid: int) -> int | None:
        """The exit code of a command that was started here, minus the signal that ended it; None while it runs."""
        if pid not in self._codes:
            self._codes |= {int(ended): code for ended, code in self._ask({}).items()}
        return self._codes.get(pid)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _ask(self, request: Mapping[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())


def main() -> None:
    """Answer requests until there are no more; then end what still runs."""
    _warm_up()
    alive: set[int] = set()
    for line in sys.stdin:
        request = json.loads(line)
        if request:
            alive.add(pid := _fork(request))
            answer: object = pid
        else:
            answer = _ended(alive)
            alive -= {int(pid) for pid in answer}
        print(json.dumps(answer), flush=True)
    for pid in alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _warm_up() -> None:
    from runner.cli import use_current_sqlite

    use_current_sqlite()
    from runner.cli.main import load_commands

    for name in WARM:
        importlib.import_module(name)
    load_commands()
    gc.freeze()  # else the collector of each child copies all of this


def _fork(request: Mapping[str, Any]) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        _become(request)
    return pid


def _become(request: Mapping[str, Any]) -> NoReturn:
    """The command, as `python -m runner` would be it."""
    log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environ"])
    sys.path[0] = request["folder"]
    sys.path.insert(1, str(ROOT))
    sys.argv = ["runner", *request["arguments"]]
    import runner.__main__
    from runner.cli.main import run

    sys.modules["__main__"] = runner.__main__  # what a process of a handler imports first
    run()
    raise SystemExit(0)


def _ended(alive: set[int]) -> dict[int, int]:
    ended = {}
    for pid in alive:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            ended[pid] = os.waitstatus_to_exitcode(status)
    return ended


if __name__ == "__main__":
    main()

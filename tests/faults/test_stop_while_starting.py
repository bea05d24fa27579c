"""SIGTERM and SIGINT that come before `serve` serves: a good end, exit code 0, one line, and nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.projects import ROOT, Project, is_alive
from tests.faults.soak import HOLD_THE_LOCK
from tests.waiting import eventually

SIGNALS = (signal.SIGTERM, signal.SIGINT)
SWALLOWS = """
import time
from pathlib import Path
FOLDER = Path(__file__).parents[1]
(FOLDER / "ready").touch()
try:
    while not (FOLDER / "go").exists():
        time.sleep(0.001)
except BaseException:
    (FOLDER / "swallowed").touch()
"""


def check_end(project: Project, process: subprocess.Popen[str], number: signal.Signals) -> None:
    code, out, errors = project.end(process)
    assert (code, out) == (0, ""), errors
    assert errors.splitlines()[-1] == f"stopped while it started, by {number.name}: nothing was claimed"
    assert "Traceback" not in errors
    assert list(project.folder.glob("*.lock")) == list(project.folder.glob("*.sock")) == []


@pytest.mark.parametrize("number", SIGNALS)
def test_while_handlers_are_imported(project: Project, number: signal.Signals) -> None:
    """The import is broken off; there is no database yet."""
    process = project.runner("serve", START_GATE="1")
    eventually(lambda: list(project.folder.glob("ready-*")), "the import")
    process.send_signal(number)

    check_end(project, process, number)
    assert not project.database.exists()


@pytest.mark.parametrize("number", SIGNALS)
def test_while_a_server_does_not_answer(project: Project, number: signal.Signals) -> None:
    """It takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        process = project.runner("serve", DATABASE_URL=f"postgresql://me@127.0.0.1:{port}/none")
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(1), "it has asked"
            process.send_signal(number)
            check_end(project, process, number)


def test_while_the_database_is_locked(project: Project) -> None:
    """The wait for its lock is broken off."""
    project.apply()
    script = [sys.executable, "-c", HOLD_THE_LOCK, str(project.database), "30"]
    locker = subprocess.Popen(script, stdout=subprocess.PIPE)
    project.locks.append(locker)
    assert locker.stdout is not None
    assert locker.stdout.readline() == b"held\n"
    process = project.runner("serve", RUNNER_BUSY_TIMEOUT="20s", RUNNER_HTTP="off")
    eventually(lambda: has_open(process.pid, project.database), "the database to be opened")
    process.send_signal(signal.SIGTERM)
    check_end(project, process, signal.SIGTERM)
    assert locker.poll() is None, "it did not wait for the lock's end"
    locker.kill()
    locker.communicate()


def has_open(pid: int, file: Path) -> bool:
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(link.readlink())
    return file in found


def test_a_handler_that_swallows_the_signal(project: Project) -> None:
    """Whoever catches everything while it is imported: it ends all the same, before anything is claimed."""
    project.apply()
    project.enqueue("plain")
    handlers = project.folder / "handlers/traces.py"
    handlers.write_text(SWALLOWS + handlers.read_text())
    process = project.runner("serve", RUNNER_LOG_FORMAT="json", RUNNER_HTTP="off")
    eventually((project.folder / "ready").exists, "the import")
    process.send_signal(signal.SIGTERM)

    code, _, errors = project.end(process)
    assert (code, (project.folder / "swallowed").exists()) == (0, True), errors
    assert '"event": "stopped"' in errors.splitlines()[-1]
    assert [job["run_number"] for job in project.jobs()] == [0]
    assert project.rows("SELECT * FROM workers") == []


def test_a_second_signal_while_it_starts(project: Project) -> None:
    """Ends it at once, whatever the first one is waiting for."""
    handlers = project.folder / "handlers/traces.py"
    handlers.write_text(f"{SWALLOWS}\nwhile True:\n    time.sleep(0.001)\n")
    process = project.runner("serve")
    eventually((project.folder / "ready").exists, "the import")
    process.send_signal(signal.SIGTERM)
    eventually((project.folder / "swallowed").exists, "the first to be swallowed")
    process.send_signal(signal.SIGINT)
    assert project.end(process) == (130, "", "")


def test_the_first_process_of_a_container(project: Project) -> None:
    """To it the kernel gives no signal that has no handler: without ours, one that comes early would be lost."""
    tried = subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"no PID namespaces here: {tried.stderr.decode().strip()}")
    (project.folder / "first").mkdir()
    (project.folder / "first/typer.py").write_text(SWALLOWS.partition("try:")[0] + "time.sleep(60)\n")
    environ = os.environ | {"PYTHONPATH": f"{project.folder}/first:{ROOT}"}
    script = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-m", "runner", "serve"]
    process = subprocess.Popen(script, cwd=project.folder, env=environ, stderr=subprocess.PIPE, text=True)
    project.started.append(process)
    eventually((project.folder / "ready").exists, "the first imports")
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGTERM)
    assert process.wait(30) == 143
    assert not is_alive(int(child))

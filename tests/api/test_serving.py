"""A real `runner serve` that answers HTTP, and what it refuses at its start."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from runner.cli.serve import _bound
from runner.domain.errors import UsageError
from runner.http.binding import bind
from tests.api.live import Reader
from tests.engine.bench import make_bench
from tests.interfaces.cli_project import ROOT, Project
from tests.interfaces.test_serve_observed import DEADLINE, Service
from tests.waiting import eventually

FILE = """
version: 1
job_types:
  waits: {handler: handlers.waits.waits}
  room: {handler: handlers.waits.room}
  room_apart: {handler: handlers.waits.room, isolation: process}
"""
HANDLER = """
import os


def room(ctx, payload):
    return len(os.sched_getaffinity(0))


def waits(ctx, payload):
    ctx.log("begun")
    while True:
        ctx.check()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "schedules.yaml").write_text(FILE, encoding="utf-8")
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "__init__.py").touch()
    (tmp_path / "handlers" / "waits.py").write_text(HANDLER, encoding="utf-8")
    return tmp_path


def test_a_service_answers_and_ends_with_its_streams(folder: Path) -> None:
    """Its address is in the line that says that it serves; SIGTERM ends an open stream at once, and the process."""
    service = Service(folder, "--port", "0", RUNNER_HTTP="on", RUNNER_SHUTDOWN_GRACE="1s")
    try:
        told = service.told("serving")
        url = told["address"]
        made = httpx.post(f"{url}/api/jobs", json={"type": "waits"}, timeout=DEADLINE).json()
        reader = Reader(f"{url}/api/jobs/{made['id']}/events")
        reader.await_event("log")
        metrics = httpx.get(f"{url}/metrics", timeout=DEADLINE).text
    finally:
        code = service.stop()
    reader.join()

    assert code == 0
    assert told["access"] == "open: no keys yet"
    assert 'runner_jobs_started_total{queue="default",type="waits"} 1.0' in metrics
    assert reader.error is None
    assert reader.names[0] == "snapshot"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="this machine has one processor")
@pytest.mark.parametrize("options", [(), ("--no-worker",)], ids=["worker", "process"])
def test_what_answers_stays_on_one_processor_and_no_handler_does(folder: Path, options: tuple[str, ...]) -> None:
    """Neither its threads nor its processes, also where an answering thread has started their worker."""
    service = Service(folder, "--port", "0", *options, RUNNER_HTTP="on", RUNNER_SHUTDOWN_GRACE="1s")
    try:
        url = service.told("serving")["address"]
        httpx.get(f"{url}/api/jobs", timeout=DEADLINE)
        eventually(lambda: are_together(service.process.pid), "the threads that answer on one processor")
        jobs = [httpx.post(f"{url}/api/jobs", json={"type": one}).json()["id"] for one in ("room", "room_apart")]
        httpx.post(f"{url}/api/jobs/process", timeout=DEADLINE)
        found = [httpx.get(f"{url}/api/jobs/{job}", timeout=DEADLINE).json() for job in jobs]
    finally:
        service.stop()

    assert [one["result"] for one in found] == [len(os.sched_getaffinity(0))] * 2


def are_together(process: int) -> bool:
    """Whether several threads have one processor, and the same."""
    found = []
    for task in Path(f"/proc/{process}/task").iterdir():
        with suppress(OSError):  # it has ended
            found.append(os.sched_getaffinity(int(task.name)))
    places = [next(iter(some)) for some in found if len(some) == 1]
    return len(places) > 1 and len(set(places)) == 1


def test_a_network_is_not_served_without_a_key(folder: Path) -> None:
    """Before any job is run; exit 4, with what to do."""
    service = Service(folder, "--host", "0.0.0.0", "--port", "0", RUNNER_HTTP="on")
    assert service.process.wait(DEADLINE) == 4
    said = service.log.read_text()
    assert "there are no keys yet, and 0.0.0.0 can be reached from other machines" in said
    assert "runner keys create" in said


@pytest.mark.parametrize("prefix", ["/jobs", "/api", "/static/runner.css", "/api/schedules/pause"])
def test_a_prefix_that_is_an_address_of_ours_is_refused(folder: Path, prefix: str) -> None:
    """Where a proxy takes it away, nobody could tell what was meant."""
    service = Service(folder, "--port", "0", RUNNER_HTTP="on", RUNNER_ROOT_PATH=prefix)
    assert service.process.wait(DEADLINE) == 2
    assert f"{prefix} cannot be the path before ours" in service.log.read_text()


def test_a_port_that_was_asked_for_and_is_taken_is_an_error(tmp_path: Path) -> None:
    """One that nobody asked for is not: several processes on one machine run jobs all the same."""
    bench, taken = make_bench(tmp_path), bind("127.0.0.1", 0)
    try:
        found = replace(bench.app.settings, port=taken.port)
        bench.app.settings = found
        with _bound(bench.app) as bound:
            assert bound is None
        bench.app.settings = replace(found, origins={"port": "flag --port"})
        with pytest.raises(UsageError, match="Address already in use"), _bound(bench.app):
            pass
        bench.app.settings = replace(found, http=False)
        with _bound(bench.app) as bound:
            assert bound is None
    finally:
        taken.close()
        bench.app.close()


def test_commands_that_serve_nothing_import_no_web_framework() -> None:
    """An enqueue, a listing: they start as quickly as before."""
    program = (
        "import sys, runner.app, runner.programs\n"
        "from runner.cli.main import load_commands\n"
        "load_commands()\n"
        "print(*sorted({'fastapi', 'starlette', 'uvicorn', 'runner.api', 'runner.http'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_keys_are_made_listed_and_revoked(tmp_path: Path) -> None:
    """Shown once; the list shows no secret; it works over HTTP from the next request on."""
    project = Project(tmp_path)
    project.write("version: 1\njob_types:\n  ok: {handler: handlers.hello.ok}\n")
    made = project.good("keys", "create", "--role", "operator", "--project", "shop", "--note", "ci", "-o", "json").json
    plain = project.good("keys", "create")
    listed = project.good("keys", "list", "-o", "json").json["keys"]
    shown = project.good("keys", "list")

    assert made["key"].startswith(f"rk_{made['id']}_")
    assert [(one["role"], one["projects"], one["note"]) for one in listed] == [
        ("operator", ["shop"], "ci"), ("viewer", None, None),
    ]  # fmt: skip
    assert made["key"] not in shown.out
    assert "digest" not in listed[0]
    assert plain.out.startswith("rk_")
    project.good("keys", "revoke", made["id"])
    assert project.run("keys", "revoke", made["id"]).code == 6
    assert project.run("keys", "revoke", "nothing").code == 5
    assert [one["id"] for one in project.good("keys", "list", "-o", "json").json["keys"]] == [listed[1]["id"]]

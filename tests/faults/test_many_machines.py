"""Several machines on one PostgreSQL: their files are rolled out one by one, and their schedules fire once."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.postgres import Server
from tests.faults.crowd import crowd
from tests.faults.projects import FILE, Project, make_project
from tests.faults.served import Served, apply, serve
from tests.waiting import eventually

QUICK = {"RUNNER_HEARTBEAT": "200ms", "RUNNER_STALLED_AFTER": "5s"}
REVISIONS = "SELECT number, sha256 FROM config_revisions ORDER BY number"


def file(hour: int) -> str:
    return f'{FILE}schedules:\n  daily: {{job: quick, cron: "0 {hour} * * *"}}\n'


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[list[Project]]:
    """Two folders with a file each, and one database."""
    made = [make_project(tmp_path / name, file(1)) for name in ("one", "two")]
    for one in made:
        one.server = made[0].server or Server.start(Path(tempfile.mkdtemp(prefix="many-pg-")), "fsync=off")
    apply(made[0])
    yield made
    for one in made:
        one.kill_all()


def deploy(machine: Project, hour: int) -> None:
    """As a deployment does it: a new file in the place of the old one."""
    fresh = machine.folder / "schedules.yaml.new"
    fresh.write_text(file(hour))
    fresh.rename(machine.folder / "schedules.yaml")


def await_followed(*served: Served, hour: int) -> None:
    """Each has taken its file over, and says so with its beat; the database is at that file."""
    for one in served:
        sha256 = hashlib.sha256(file(hour).encode()).hexdigest()
        row = f"SELECT config_sha256 FROM workers WHERE id = '{one.worker_id}'"
        eventually(
            lambda row=row, sha256=sha256, one=one: one.project.rows(row) == [{"config_sha256": sha256}], f"hour {hour}"
        )


def expressions(machine: Project) -> list[str]:
    return [row["expression"] for row in machine.rows("SELECT expression FROM cron_schedules")]


def numbers(machine: Project) -> list[int]:
    return [row["number"] for row in machine.rows(REVISIONS)]


def beats(*served: Served) -> None:
    """Each looks at its file and beats a few times more: what it would do wrong, it does now."""
    for one in served:
        row = f"SELECT beats FROM workers WHERE id = '{one.worker_id}'"
        before = one.project.rows(row)[0]["beats"]
        eventually(lambda row=row, before=before, one=one: one.project.rows(row)[0]["beats"] >= before + 5, "beats")


def test_a_rolling_change_is_one_revision(machines: list[Project]) -> None:
    """The first machine that has the new file applies it; the other, which still has the old one, does not take it
    back, also where it is restarted meanwhile; and its own deployment changes nothing. A revert is one more."""
    one, two = machines
    first, second = (serve(machine, **QUICK) for machine in machines)
    await_followed(first, second, hour=1)
    assert numbers(one) == [1]

    deploy(one, 2)
    await_followed(first, hour=2)
    beats(first, second)
    assert (numbers(one), expressions(one)) == ([1, 2], ["0 2 * * *"])
    assert second.stop() == 0
    second = serve(two, **QUICK)
    beats(first, second)
    assert (numbers(one), expressions(one)) == ([1, 2], ["0 2 * * *"])
    deploy(two, 2)
    await_followed(first, second, hour=2)
    beats(first, second)
    assert (numbers(one), expressions(one)) == ([1, 2], ["0 2 * * *"])

    deploy(two, 1)
    await_followed(second, hour=1)
    deploy(one, 1)
    await_followed(first, second, hour=1)
    beats(first, second)
    assert (numbers(one), expressions(one)) == ([1, 2, 3], ["0 1 * * *"])
    assert [served.stop() for served in (first, second)] == [0, 0]


def test_a_new_file_everywhere_at_once_is_one_revision(machines: list[Project]) -> None:
    """Both see it in the same moment, and one of them is first."""
    served = [serve(machine, **QUICK) for machine in machines]
    for machine in machines:
        deploy(machine, 2)
    await_followed(*served, hour=2)
    beats(*served)
    assert numbers(machines[0]) == [1, 2]
    assert [one.stop() for one in served] == [0, 0]


def test_every_slot_once_over_all_processes(tmp_path: Path) -> None:
    """Three processes, thirty schedules due every second for five seconds; `python -m tests.faults.crowd` is the long
    form. The ledger has each slot once, no more and no less, and each has one job."""
    found = crowd(tmp_path / "project", processes=3, schedules=30, seconds=5)
    print(found)
    assert (found.rows, found.jobs, found.doubles, found.broken) == (150, 150, 0, [])
    assert found.firing > 1

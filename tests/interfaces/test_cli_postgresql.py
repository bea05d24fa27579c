"""The command line on PostgreSQL: what it does is what it does on a file, and what is wrong there is told as well."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from runner.cli import doctor_postgres
from runner.storage.database import Database
from runner.storage.setup import HEAD
from tests.contract.databases import everything
from tests.contract.postgres import Server, new_database
from tests.faults.proxy import Proxy
from tests.faults.shim import make_clock
from tests.interfaces.cli_project import BASE, BY_HAND, DEADLINE, NOW, Project, environment
from tests.interfaces.conftest import answered
from tests.interfaces.test_cli_databases import READING, WRITING, refused
from tests.interfaces.test_cli_init_doctor import findings
from tests.waiting import eventually

SECRET = "hush-hush"
PRIVILEGED = "local all postgres trust\nlocal all all scram-sha-256\n"
MOST = 40  # connections of the server of our own
TABLES = "SELECT schemaname FROM pg_tables WHERE tablename = 'background_jobs' ORDER BY 1"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A folder with a small schedules.yaml; its database has no tables yet."""
    made = Project(tmp_path, {"DATABASE_URL": new_database(f"runner_cli_{os.getpid()}")})
    made.write(BASE)
    return made


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    """A server whose settings are ours: passwords, few connections."""
    made = Server.start(Path(tempfile.mkdtemp(prefix="cli-pg-")), "fsync=off", f"max_connections={MOST}")
    (made.folder / "data/pg_hba.conf").write_text(PRIVILEGED)
    ask(made.url, "SELECT pg_reload_conf()")
    ask(made.url, f"CREATE ROLE clerk LOGIN PASSWORD '{SECRET}'")
    yield made
    made.remove()


@pytest.fixture
def shop(own: Server, project: Project) -> Project:
    """The same, on that server: a database of the clerk's own, which is removed again."""
    ask(own.url, "CREATE DATABASE shop OWNER clerk")
    project.env["DATABASE_URL"] = url_of(own, f"clerk:{SECRET}")
    yield project  # type: ignore[misc]
    ask(own.url, "DROP DATABASE shop WITH (FORCE)")


def url_of(server: Server, user: str = "postgres", database: str = "shop", more: str = "") -> str:
    return f"postgresql://{user}@/{database}?host={server.folder}{more}"


def ask(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def rows(project: Project, statement: str) -> list[tuple[Any, ...]]:
    return ask(project.env["DATABASE_URL"].partition("&schema=")[0], statement)


def contents(project: Project) -> dict[str, list[dict[str, Any]]]:
    database = Database(project.env["DATABASE_URL"])
    try:
        return everything(database)
    finally:
        database.close()


# ---- what it does


def test_looking_sets_nothing_up(project: Project) -> None:
    """plan, the lists, status, doctor and a dry run work where there are no tables, and make none."""
    assert "7 to add" in project.good("plan").out
    for words in ("jobs list", "schedules list", "status", "doctor", "migrate status", "run-once --dry-run"):
        project.good(*words.split())
    refused(project, "enqueue ok", "was never set up")
    assert rows(project, TABLES) == []


def test_plan_apply_run_once(project: Project) -> None:
    """From an empty database to a job that has run; what is in force plans no changes."""
    project.write(BY_HAND)
    assert "Applied as revision 1." in project.good("apply").out
    assert "No changes." in project.good("plan").out
    assert "stays in force" in project.good("apply").out
    ran = project.good("run-once", "--trigger", "hourly", "-o", "json").json
    assert [(job["type"], job["status"], job["result"]["count"]) for job in ran["jobs"]] == [("ok", "completed", 1)]
    assert project.run("run-once", "--type", "bad").code == 0
    project.good("enqueue", "bad")
    assert project.run("run-once").code == 1
    assert rows(project, "SELECT type, status FROM background_jobs ORDER BY id") == [
        ("ok", "completed"), ("bad", "failed"),
    ]  # fmt: skip


def test_run_once_fires_what_was_missed(project: Project) -> None:
    """The slots that came since the file was applied, by a clock that is told."""
    project.good("apply", "--now", "2026-03-01T12:30Z")
    ran = project.good("run-once", "--now", "2026-03-01T14:30Z", "-o", "json").json
    fired = [(slot["schedule_name"], slot["slot"]) for slot in ran["slots"] if slot["outcome"] == "enqueued"]
    assert fired == [("hourly", "2026-03-01T14:00:00+00:00")]
    assert len(project.good("schedules", "history", "hourly", "-o", "json").json["slots"]) == 2


def test_a_dry_run_changes_nothing(project: Project) -> None:
    """It lists what would run, in the order of the claim, from a copy; database and folder stay as they are."""
    project.good("apply")
    project.good("enqueue", "ok", "--priority", "7")
    before, files = contents(project), sorted(project.folder.rglob("*"))
    told = project.good("run-once", "--dry-run", "--trigger", "hourly", "-o", "json").json
    assert [(job["id"], job["schedule_name"]) for job in told["jobs"]] == [(None, "hourly"), (1, None)]
    assert (contents(project), sorted(project.folder.rglob("*"))) == (before, files)


def test_status(project: Project) -> None:
    """Database with its size, revision, queues and next fires."""
    project.good("apply")
    project.good("enqueue", "ok")
    told = project.good("status", "-o", "json").json
    assert told["database"]["schema"] == HEAD
    assert told["database"]["bytes"] > 100_000
    assert told["revision"]["number"] == 1
    assert [(queue["name"], queue["due"], queue["is_taken"]) for queue in told["queues"]] == [("default", 1, False)]
    assert "no live worker takes it" in project.good("status").out


def test_enqueue_and_jobs(project: Project) -> None:
    """enqueue, also in bulk and all or nothing; list, show, cancel, retry; too late is 6, no such job is 5."""
    project.good("apply")
    assert project.good("enqueue", "ok", "--payload", '{"name": "x"}', "-o", "json").json["id"] == 1
    project.write('{"type": "ok"}\n{"type": "bad"}\n', "bulk.jsonl")
    assert [job["id"] for job in project.good("enqueue", "--bulk", "bulk.jsonl", "-o", "json").json["jobs"]] == [2, 3]
    project.write('{"type": "ok"}\n{"type": "no-such"}\n', "bulk.jsonl")
    assert project.run("enqueue", "--bulk", "bulk.jsonl").code == 5
    assert [job["id"] for job in project.good("jobs", "list", "-o", "json").json["jobs"]] == [3, 2, 1]

    project.good("jobs", "cancel", "2")
    assert project.run("jobs", "cancel", "2").code == 6
    assert project.good("jobs", "show", "2", "-o", "json").json["status"] == "cancelled"
    project.good("jobs", "retry", "2")
    assert project.run("jobs", "retry", "2").code == 6
    assert project.run("jobs", "show", "99").code == 5
    assert project.run("run-once").code == 1
    listed = project.good("jobs", "list", "--status", "completed", "-o", "json").json["jobs"]
    assert [job["id"] for job in listed] == [2, 1]


def test_schedules(project: Project) -> None:
    """pause, resume, trigger: as in the row of the schedule."""
    project.good("apply")
    project.good("schedules", "pause", "hourly", "--reason", "a release")
    assert rows(project, "SELECT paused_at IS NOT NULL, pause_reason FROM cron_schedules WHERE name = 'hourly'") == [
        (True, "a release")
    ]
    project.good("schedules", "resume", "hourly")
    assert project.run("schedules", "resume", "hourly").code == 6
    assert "job 1 of hourly" in project.good("schedules", "trigger", "hourly").out
    assert project.run("schedules", "trigger", "no-such").code == 5
    assert "daily" in project.good("schedules", "list").out


def test_migrate(project: Project) -> None:
    """status tells, up sets up, check finds drift, sql speaks the dialect, down needs --yes."""
    assert project.good("migrate", "status", "-o", "json").json["schema"] is None
    project.good("migrate", "up")
    assert project.good("migrate", "status", "-o", "json").json["is_current"] is True
    assert project.good("migrate", "check").out == "no differences\n"
    rows(project, "DROP INDEX jobs_claim")
    drifted = project.run("migrate", "check")
    assert (drifted.code, "jobs_claim" in drifted.out) == (1, True)
    assert "BIGSERIAL" in project.good("migrate", "sql").out
    assert project.run("migrate", "down").code == 2
    project.good("migrate", "down", "base", "--yes")
    assert rows(project, TABLES) == []


def test_what_migrate_sql_prints_makes_the_tables(project: Project) -> None:
    """Fed to the server as it is."""
    rows(project, project.good("migrate", "sql").out)
    assert rows(project, TABLES) == [("public",)]


def test_migrate_copy_there_and_back(project: Project) -> None:
    """From a file to the server and into another file: the same rows; a target that is not empty is refused."""
    there, file, back = project.env.pop("DATABASE_URL"), project.folder / "runner.db", project.folder / "back.db"
    project.good("run-once", "--trigger-all")
    project.good("enqueue", "strict", "--payload", '{"name": "ü"}')
    before = contents(Project(project.folder, {"DATABASE_URL": str(file)}))

    told = project.good("migrate", "copy", "--from", file, "--to", there, "-o", "json").json
    assert told["rows"] == sum(map(len, before.values()))
    assert contents(Project(project.folder, {"DATABASE_URL": there})) == before
    full = project.run("migrate", "copy", "--from", file, "--to", there)
    assert (full.code, "is not empty" in full.err) == (6, True)
    project.good("migrate", "copy", "--from", there, "--to", back)
    assert contents(Project(project.folder, {"DATABASE_URL": str(back)})) == before
    assert project.good("enqueue", "ok", "-o", "json", DATABASE_URL=there).json["id"] == 4, "it goes on counting"


def test_config_hides_the_password(project: Project) -> None:
    """Wherever in the URL it stands, and also where it should have been written otherwise."""
    for url in (
        f"postgresql://clerk:{SECRET}@db/shop", f"postgresql://clerk@db/shop?password={SECRET}&sslmode=require",
        f"postgresql://clerk:a/{SECRET}@db/shop", f"postgresql://clerk:a@{SECRET}@db/shop",
        f"postgresql://db/shop?sslmode=require&sslpassword={SECRET}",
    ):  # fmt: skip
        for output in ("text", "json"):
            told = project.good("config", "-o", output, DATABASE_URL=url)
            assert "***" in told.out
            assert SECRET not in told.out + told.err


# ---- one schema of several


def test_three_processes_set_up_one_schema(project: Project) -> None:
    """At the same moment, where not even the schema is there: each succeeds, one revision, and tables there alone."""
    project.env["DATABASE_URL"] += "&schema=queue"
    started = [project.start("apply") for _ in range(3)]
    ended = [(process.communicate(timeout=DEADLINE), process.returncode) for process in started]
    assert [code for _, code in ended] == [0, 0, 0], ended
    assert rows(project, TABLES) == [("queue",)]
    assert rows(project, "SELECT count(*) FROM queue.config_revisions") == [(1,)]


def test_two_schemas_of_one_database_do_not_see_each_other(project: Project) -> None:
    """Each has its own jobs, numbers, revisions and workers; what one runs, the other has never heard of."""
    base = project.env["DATABASE_URL"]
    one, two = (Project(project.folder, {"DATABASE_URL": f"{base}&schema={name}"}) for name in ("one", "two"))
    for mine in (one, two):
        mine.good("apply")
    one.good("run-once", "--trigger", "hourly")
    two.good("enqueue", "bad")

    assert [job["type"] for job in one.good("jobs", "list", "-o", "json").json["jobs"]] == ["ok"]
    listed = two.good("jobs", "list", "-o", "json").json["jobs"]
    assert [(job["id"], job["type"], job["status"]) for job in listed] == [(1, "bad", "pending")]
    assert one.good("migrate", "check").out == two.good("migrate", "check").out == "no differences\n"
    refused(project, "enqueue ok", "was never set up")
    two.good("migrate", "down", "base", "--yes")
    assert rows(project, TABLES) == [("one",)]


# ---- doctor


def of_server(project: Project, *, code: int = 0, **env: str) -> dict[str, list[tuple[str, str]]]:
    found = findings(project, code=code, **env)
    return {check: found[check] for check in ("server", "notify", "skew") if check in found}


def test_doctor_of_a_good_server(project: Project) -> None:
    """Each thing of the server has its line, and none of them warns."""
    project.good("apply")
    lines = project.good("doctor").out.splitlines()
    told = [tuple(line.split()[:2]) for line in lines]
    assert {("ok", name) for name in ("database", "server", "notify", "skew")} <= set(told)
    assert of_server(project) == {}


def test_doctor_finds_too_many_connections(shop: Project, own: Server) -> None:
    """Near the limit is a warning, at it an error: also those that belong to another user, of whom ours sees little."""
    shop.good("apply")
    assert of_server(shop) == {}
    with ExitStack() as held:
        for _ in range(MOST * 4 // 5):
            held.enter_context(psycopg.connect(own.url))
        ((level, message),) = of_server(shop, code=0, RUNNER_BUSY_TIMEOUT="300ms")["server"]
        assert (level, f"of {MOST} connections" in message) == ("warning", True)


def test_doctor_finds_a_server_without_connections(shop: Project, own: Server) -> None:
    """Told once, as an error of the database."""
    shop.good("apply")
    with full(own):
        ((level, message),) = findings(shop, code=1)["database"]
    assert (level, "has no connection left" in message) == ("error", True)


@contextmanager
def transaction(project: Project, statement: str) -> Iterator[psycopg.Connection[Any]]:
    """Open, after this statement, until the end of the block."""
    with psycopg.connect(project.env["DATABASE_URL"]) as connection:
        connection.execute(statement.encode())
        yield connection
        connection.rollback()


def test_doctor_finds_an_old_transaction(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that keeps the dead rows; how old is too old is shortened here."""
    project.good("apply")
    monkeypatch.setattr(doctor_postgres, "OLD", timedelta(0))
    assert of_server(project) == {}
    with transaction(project, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1"):
        ((level, message),) = of_server(project)["server"]
    assert (level, message.startswith("a transaction is open for ")) == ("warning", True)


def test_doctor_finds_a_lock_wait(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody waits for what another transaction has locked."""
    project.good("apply")
    monkeypatch.setattr(doctor_postgres, "LONG_WAIT", timedelta(0))
    lock = "SELECT 1 FROM cron_schedules WHERE name = 'hourly' FOR UPDATE"
    with transaction(project, lock) as holder:
        waiter = threading.Thread(target=lambda: rows(project, f"BEGIN; {lock}; COMMIT"), daemon=True)  # see _last_call
        waiter.start()
        eventually(
            lambda: rows(project, "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'") == [(1,)],
            "the wait",
        )
        ((level, message),) = of_server(project)["server"]
        holder.rollback()
        waiter.join()
    assert (level, message.startswith("1 connection waits for a lock, the longest ")) == ("warning", True)


def test_doctor_finds_dead_rows(project: Project) -> None:
    """More dead than live ones, and many: the table is named, with the remedy."""
    project.good("apply")
    rows(project, "ALTER TABLE job_logs SET (autovacuum_enabled = off)")
    many = "SELECT n, 1, now(), 'info', 'x' FROM generate_series(1, 12000) AS n"
    rows(project, f"INSERT INTO job_logs (job_id, run_number, at, level, message) {many}")
    rows(project, "DELETE FROM job_logs WHERE job_id > 100")
    dead = "SELECT n_dead_tup > 10000 FROM pg_stat_user_tables WHERE relname = 'job_logs'"
    eventually(lambda: rows(project, dead) == [(True,)], "the statistics")
    ((level, message),) = of_server(project)["server"]
    assert (level, message) == ("warning", "job_logs has 11,900 dead rows beside 100 live ones")
    rows(project, "VACUUM job_logs")
    eventually(lambda: rows(project, dead) == [(False,)], "the statistics")
    assert of_server(project) == {}


def test_doctor_finds_that_notifications_are_lost(
    shop: Project, own: Server, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Something between us and the server swallows them, as a pooler of transactions does."""
    shop.good("apply")
    monkeypatch.setattr(doctor_postgres, "HEARD", 0.5)
    network = Proxy(own.folder / ".s.PGSQL.5432", swallows=b"A")
    try:
        ((level, message),) = of_server(shop, DATABASE_URL=network.url("shop"))["notify"]
    finally:
        network.close()
    assert network.swallowed >= 1, "the server did tell"
    assert (level, message.startswith("notifications do not arrive")) == ("warning", True)


@pytest.mark.parametrize(("hours", "words"), [(-1, "behind"), (1, "ahead of")])
def test_doctor_finds_a_clock_that_differs(project: Project, tmp_path: Path, hours: int, words: str) -> None:
    """This machine's clock beside the server's."""
    project.good("apply")
    clock = make_clock(tmp_path)
    clock.set(hours * 3600)
    answer = project.process("doctor", "-o", "json", **clock.environ)
    assert answer.code == 0, answer
    (told,) = [finding for finding in answer.json["findings"] if finding["check"] == "skew"]
    assert told["level"] == "warning"
    assert told["message"].startswith("this machine's clock is ")
    assert f"{words} the database's" in told["message"]


# ---- what cannot be used


def test_a_url_that_is_none_of_postgresql(project: Project) -> None:
    """Wrong usage, 2, in one sentence that does not repeat the password."""
    for url, said in (
        (f"postgresql://clerk:{SECRET}@db:port/shop", "not a database URL: postgresql://clerk:***@db:port/shop"),
        (f"postgresql://clerk:{SECRET}@a:1,b:2/shop", "not a database URL"),
        (f"postgresql://clerk:{SECRET}@db/shop?color=red", 'invalid URI query parameter: "color"'),
        (f"postgresql://clerk:a@{SECRET}@db/shop", "not a URL of PostgreSQL: postgresql://clerk:***@db/shop"),
    ):  # fmt: skip
        for words in ("status", "apply", "serve", "doctor"):
            answer = project.run(*words.split(), DATABASE_URL=url)
            assert (answer.code, answer.out) == (2, ""), answer
            assert said in answer.err.splitlines()[0]
            assert answer.err.splitlines()[1].startswith("help: ")
            assert SECRET not in answer.err


def test_the_url_may_name_several_hosts_and_settings(shop: Project, own: Server) -> None:
    """As libpq reads it: the first host that answers and takes writes; its options stand beside ours."""
    hosts = f"host={shop.folder},{own.folder}&target_session_attrs=read-write"
    shop.env["DATABASE_URL"] = f"postgresql://clerk:{SECRET}@/shop?{hosts}&options=-c%20work_mem%3D77MB"
    assert "Applied as revision 1." in shop.good("apply").out
    database = Database(shop.env["DATABASE_URL"])
    with database.read() as connection:
        told = [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in ("work_mem", "jit")]
    database.close()
    assert told == ["77MB", "off"]


ALL = (*READING, *WRITING, "status", "migrate status", "migrate check", "migrate down --yes", "run-once --dry-run")


def each_refused(project: Project, url: str, said: str, commands: tuple[str, ...] = ALL) -> None:
    """Each with 7, the place and a remedy; doctor with 1. Nobody is told the password."""
    project.env |= {"DATABASE_URL": url, "RUNNER_BUSY_TIMEOUT": "200ms"}
    for words in commands:
        refused(project, words, said)
    ((level, message),) = findings(project, code=1)["database"]
    assert (level, said in message) == ("error", True)
    told = project.run("serve")
    assert (told.code, said in told.err, SECRET in told.err) == (7, True, False)


def test_a_user_who_is_refused(shop: Project, own: Server) -> None:
    """A wrong password, also in the query, and a user who does not exist."""
    for user in (f"clerk:{SECRET}-not", "clerk", "no-one"):
        url = url_of(own, user, more="" if ":" in user else f"&password={SECRET}-not")
        each_refused(shop, url, "refuses this user: ", ("jobs list", "apply", "enqueue ok"))
        assert "check user and password" in shop.run("status").err
        assert SECRET not in shop.run("status").err


def test_a_database_that_does_not_exist(shop: Project, own: Server) -> None:
    """Named, with the command that creates one."""
    each_refused(shop, url_of(own, f"clerk:{SECRET}", "nowhere"), "does not exist")
    assert "createdb" in shop.run("status").err


def test_a_user_without_rights(own: Server, project: Project) -> None:
    """On tables of somebody else, and where nothing may be created: what is missing is named."""
    ask(own.url, "CREATE DATABASE closed")
    theirs, mine = (url_of(own, user, "closed") for user in ("postgres", f"clerk:{SECRET}"))
    try:
        for words in ("apply", "run-once", "migrate up"):
            refused(project, words, "permission denied for", DATABASE_URL=f"{mine}&schema=queue")
        project.good("apply", DATABASE_URL=theirs)
        each_refused(project, mine, "may not be used so by this user: permission denied for table")
    finally:
        ask(own.url, "DROP DATABASE closed WITH (FORCE)")


@contextmanager
def full(server: Server) -> Iterator[None]:
    """All connections that it gives are taken."""
    with ExitStack() as held:
        for _ in range(MOST):
            held.enter_context(psycopg.connect(server.url))
        yield


def test_a_server_without_connections(shop: Project, own: Server) -> None:
    """Told as such by every command; it works again once there is one."""
    shop.good("apply")
    with full(own):
        each_refused(shop, shop.env["DATABASE_URL"], "has no connection left")
    shop.good("enqueue", "ok")


READ_ONLY = ("apply", "run-once", "enqueue ok", "jobs cancel 1", "jobs retry 1", "schedules pause hourly",
             "schedules trigger hourly", "migrate down --yes")  # fmt: skip


def reads_and_refuses(project: Project) -> None:
    """What looks goes on, what writes is refused."""
    before = contents(project)
    for words in (*READING, "status", "migrate check", "run-once --dry-run"):
        project.good(*words.split())
    each_refused(project, project.env["DATABASE_URL"], "is read-only: a standby, or set so", READ_ONLY)
    assert contents(project) == before


def test_a_database_that_is_set_read_only(shop: Project, own: Server) -> None:
    """By `default_transaction_read_only`."""
    shop.good("apply")
    shop.good("enqueue", "ok")
    ask(own.url, "ALTER DATABASE shop SET default_transaction_read_only = on")
    reads_and_refuses(shop)
    ask(own.url, "ALTER DATABASE shop SET default_transaction_read_only = off")
    shop.good("jobs", "cancel", "1")


def test_a_standby(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A real one, which takes no writes until it is promoted."""
    server = Server.start(Path(tempfile.mkdtemp(prefix="standby-pg-")))
    try:
        project.env["DATABASE_URL"] = server.url
        project.good("apply")
        project.good("enqueue", "ok")
        server.down()
        (server.folder / "data/standby.signal").touch()
        server.up()
        assert ask(server.url, "SELECT pg_is_in_recovery()") == [(True,)]
        reads_and_refuses(project)

        ask(server.url, "SELECT pg_promote()")
        project.good("jobs", "cancel", "1")
    finally:
        server.remove()


WITHOUT_PSYCOPG = """
import sys
sys.modules["psycopg"] = None
sys.argv = ["runner", *sys.argv[1:]]
from runner.cli import main
main()
"""


def test_a_missing_psycopg_is_told(tmp_path: Path) -> None:
    """With the extra that brings it: wrong usage, 2. A file needs none."""
    Project(tmp_path).write(BASE)

    def without(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", WITHOUT_PSYCOPG, *words], cwd=tmp_path, env=environment({}), capture_output=True,
            text=True, timeout=DEADLINE, check=False,
        )  # fmt: skip

    url = f"postgresql://clerk:{SECRET}@127.0.0.1:1/shop"
    for words in ("apply", "doctor"):
        answer = without("--database-url", url, words)
        assert (answer.returncode, answer.stdout) == (2, "")
        first, second = answer.stderr.splitlines()
        assert first.startswith("error: PostgreSQL needs psycopg, which cannot be imported")
        assert second == "help: pip install 'yaml-job-runner[postgres]'"
    assert json.loads(without("status", "-o", "json").stdout)["revision"] is None


def test_a_server_before_it_says_the_same(project: Project) -> None:
    """As on a file: byte for byte."""
    project.good("apply", "--now", NOW)
    project.good("enqueue", "bad")
    project.run("run-once", "--no-sync", "--timeout", "60s")
    project.good("schedules", "pause", "daily")
    words = ("jobs list -o json", "jobs show 1", "jobs logs 1 -f", "jobs watch 1 -o json", "schedules list -o json",
             "schedules history", "jobs cancel 1", f"plan --now {NOW}")  # fmt: skip
    here = [project.run(*one.split()) for one in words]
    with answered(project):
        assert [project.run(*one.split()) for one in words] == here
        assert project.good("enqueue", "ok").out.startswith("job ")

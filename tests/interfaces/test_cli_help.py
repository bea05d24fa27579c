"""What `runner` says about itself, how quickly, and how shells complete it."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

import runner
from tests.interfaces.cli_project import Project, environment

COMMANDS = (
    "", "init", "validate", "plan", "apply", "run-once", "serve", "enqueue", "status", "top", "jobs", "jobs list",
    "jobs show", "jobs logs", "jobs watch", "jobs cancel", "jobs retry", "schedules", "schedules list",
    "schedules next", "schedules pause", "schedules resume", "schedules trigger", "schedules backfill",
    "schedules history", "reload", "config", "schema", "migrate", "migrate up", "migrate down", "migrate status",
    "migrate check", "migrate sql", "migrate copy", "keys", "keys create", "keys list", "keys revoke",
    "doctor",
)  # fmt: skip
HEAVY = (
    "sqlalchemy", "sqlmodel", "alembic", "jsonschema", "yaml", "pydantic", "watchfiles", "croniter", "asyncio", "rich",
    "concurrent", "multiprocessing", "xml", "http", "email", "structlog", "prometheus_client",
    "opentelemetry", "urllib3", "fastapi", "starlette", "uvicorn", "anyio",
    "runner.app", "runner.engine", "runner.storage", "runner.config",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_each_option_and_fits_80_columns(
    command: str, project: Project, snapshot: SnapshotAssertion
) -> None:
    """Every command explains itself with --help, within 80 columns, and nothing in it is cut."""
    answer = project.good(*command.split(), "--help")
    assert answer.err == ""
    assert max(len(line) for line in answer.out.splitlines()) <= 80
    assert not [line for line in answer.out.partition("Commands:")[2].splitlines() if line.endswith("...")]
    assert answer.out == snapshot


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    """`runner --help` answers at once: what takes long to import is imported inside the commands that use it."""
    program = (
        "import sys\n"
        "sys.argv = ['runner', '--help']\n"
        "from runner.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(*sorted(sys.modules), sep='\\n', file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment({}), capture_output=True, text=True, check=True
    )
    imported = set(done.stderr.split())
    assert "runner.cli.main" in imported
    assert "Usage: runner" in done.stdout
    assert {name for name in HEAVY if name in imported} == set()


def test_importing_runner_is_light(tmp_path: Path) -> None:
    """`import runner` loads nothing until a name of it is used: each spawned handler process pays for it."""
    program = "import sys, runner; print(*sorted(sys.modules), sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment({}), capture_output=True, text=True, check=True
    )
    assert {name for name in (*HEAVY, "typer", "runner.cli") if name in set(done.stdout.split())} == set()


def test_what_asks_a_server_loads_no_database(project: Project) -> None:
    """A command over HTTP starts as quickly as it can: neither stores nor tables nor the file's reader are loaded."""
    program = (
        "import sys\n"
        "sys.argv = ['runner', '--server', 'http://127.0.0.1:1', 'jobs', 'cancel', '0']\n"
        "from runner.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    print(end.code)\n"
        "print(*sorted(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=project.folder, env=environment({}), capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    code, modules = done.stdout.splitlines()
    assert (code, "urllib3" in modules.split()) == ("5", True)
    heavy = {"sqlalchemy", "sqlmodel", "alembic", "yaml", "jsonschema", "fastapi", "runner.app"}
    assert heavy & set(modules.split()) == set()


def test_version(project: Project) -> None:
    """--version prints the name and the version, and nothing else."""
    assert project.good("--version").out == f"runner {runner.__version__}\n"


@pytest.mark.parametrize("arguments", [(), ("jobs",), ("schedules",), ("migrate",)])
def test_without_a_command_the_help_is_shown_as_wrong_usage(project: Project, arguments: tuple[str, ...]) -> None:
    """A group without a command is wrong usage: 2, the help on stderr, stdout empty."""
    answer = project.run(*arguments)
    assert answer.code == 2
    assert answer.out == ""
    assert "Usage: runner" in answer.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("schedule", "list"), "Did you mean 'schedules'?"),
        (("jobs", "lst"), "Did you mean 'list'?"),
        (("validate", "-o", "xml"), "'text', 'json', 'github'"),
        (("plan", "--now"), "requires an argument"),
        (("jobs", "show", "one"), "ID"),
        (("jobs", "list", "--limit", "0"), "--limit"),
        (("jobs", "list", "--after", "-1"), "--after"),
        (("run-once", "--concurrency", "0"), "--concurrency"),
        (("run-once", "--concurrency", "99999999999"), "--concurrency"),
        (("schedules", "next", "--count", "-1"), "--count"),
        (("schedules", "backfill", "hourly"), "--from"),
        (("enqueue", "--nope"), "--nope"),
    ],
)
def test_wrong_usage_is_2_and_names_the_word(project: Project, arguments: tuple[str, ...], said: str) -> None:
    """What cannot be parsed ends with 2, names the word on stderr and leaves stdout empty."""
    answer = project.run(*arguments)
    assert answer.code == 2
    assert said in answer.err
    assert answer.out == ""


@pytest.mark.parametrize(
    ("words", "offered"), [("runner jo", "jobs"), ("runner jobs ca", "cancel"), ("runner run-once --trig", "--trigger")]
)
def test_shells_complete_commands_and_options(project: Project, words: str, offered: str) -> None:
    """Bash asks with COMP_WORDS, and gets the commands and options that begin so."""
    env = {
        "_RUNNER_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
        "_TYPER_COMPLETE_ARGS": words,
    }
    assert offered in project.run(**env).out.split()


def test_show_completion_prints_the_script_of_the_shell(project: Project) -> None:
    """--show-completion prints what a shell sources, for the command `runner`."""
    answer = project.process("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert answer.code == 0
    assert "_RUNNER_COMPLETE=complete_bash" in answer.out


def test_a_fault_of_runner_itself_is_1_and_one_sentence(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bug of ours ends with a code of the list, without a traceback; RUNNER_DEBUG shows it."""
    main = importlib.import_module("runner.cli.main")

    def broken(**_: object) -> None:
        raise KeyError("a bug\x1b[31m")

    monkeypatch.setattr(main, "cli", broken)
    monkeypatch.delenv("RUNNER_DEBUG", raising=False)
    with pytest.raises(SystemExit) as end:
        main.run()
    assert end.value.code == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first == r"error: internal error: KeyError: 'a bug\x1b[31m'"
    assert second.startswith("help: this is a bug of runner; RUNNER_DEBUG=1")

    monkeypatch.setenv("RUNNER_DEBUG", "1")
    with pytest.raises(KeyError):
        main.run()

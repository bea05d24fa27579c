"""The pytest plug-in, as the suite of somebody else sees it: in a process of its own, on files of its own."""

from __future__ import annotations

import re
import sys
from importlib.metadata import entry_points

import pytest

pytest_plugins = ["pytester"]

HANDLER = """
def says(ctx, payload):
    ctx.log("said")
    return payload["word"]
"""
VALID = """version: 1
job_types:
  says: {handler: handlers.words.says}
schedules:
  hourly: {job: says, cron: "0 * * * *", payload: {word: hello}}
"""
BROKEN = VALID.replace("0 * * * *", "61 * * * *").replace("job: says", "job: say")


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project with a handler and one test of its own, its folder on the import path."""
    pytester.makefile(".yaml", schedules=VALID)
    pytester.mkpydir("handlers")
    (pytester.path / "handlers" / "words.py").write_text(HANDLER, encoding="utf-8")
    pytester.makepyfile("def test_of_its_own(): pass")
    pytester.makeini("[pytest]\naddopts = -p no:cacheprovider")
    return pytester


def test_the_entry_point_is_not_named_as_a_plugin_of_pytests_own() -> None:
    """One named `runner` would be ignored without a word: pytest has a plug-in of that name."""
    names = [one.name for one in entry_points(group="pytest11") if one.value == "runner.testing.plugin"]
    assert names == ["yaml_job_runner"]


def test_installing_the_package_changes_no_suite(suite: pytest.Pytester) -> None:
    """Without the option nothing is collected, nothing is warned of, and nothing of the engine is imported."""
    suite.makefile(".yaml", schedules=BROKEN)
    suite.makeconftest("import sys\ndef pytest_unconfigure(): assert 'sqlalchemy' not in sys.modules")
    result = suite.runpytest_subprocess("-W", "error", "--strict-config")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*schedules.yaml*")


def test_a_valid_file_is_one_passing_test(suite: pytest.Pytester) -> None:
    """It stands in the report like any other."""
    result = suite.runpytest_subprocess("--runner-validate", "-v")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["schedules.yaml::valid PASSED*"])


def test_each_problem_is_a_failing_test_shown_as_the_command_line_shows_it(suite: pytest.Pytester) -> None:
    """Place, message, line of the source, caret and remedy; no traceback; the other tests run."""
    suite.makefile(".yaml", schedules=BROKEN)
    result = suite.runpytest_subprocess("--runner-validate")
    result.assert_outcomes(passed=1, failed=2)
    shown = suite.run(sys.executable, "-m", "runner", "validate").stdout.str()
    text = result.stdout.str()
    blocks = [block for block in shown.split("\n\n") if "error[" in block]
    assert len(blocks) == 2
    for block in blocks:
        found = "\n".join(line for line in block.splitlines() if not line.startswith("schedules.yaml: "))
        assert found in text
    assert not re.search(r"Traceback|plugin\.py", text)


def test_a_handler_that_cannot_be_imported_is_a_problem(suite: pytest.Pytester) -> None:
    """The check is that of `runner validate`: handlers are imported from the file's folder."""
    suite.makefile(".yaml", schedules=VALID.replace("words.says", "words.shouts"))
    result = suite.runpytest_subprocess("--runner-validate")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*module handlers.words has no attribute 'shouts'*"])


def test_warnings_of_the_file_are_warnings_of_the_run(suite: pytest.Pytester) -> None:
    """They fail nothing, and are shown in pytest's summary."""
    suite.makefile(".yaml", schedules=VALID.replace('"0 * * * *"', '"*/45 * * * *"'))
    result = suite.runpytest_subprocess("--runner-validate")
    result.assert_outcomes(passed=2, warnings=1)
    result.stdout.fnmatch_lines(["*ScheduleWarning: schedules.yaml:5:*warning[[]cron-unusual[]]*"])


def test_other_names_can_be_given(suite: pytest.Pytester) -> None:
    """`runner_files` names what is validated, wherever it lies below the root; the ini file asks for it as well."""
    (suite.path / "deploy").mkdir()
    (suite.path / "deploy" / "jobs.yaml").write_text(BROKEN, encoding="utf-8")
    suite.makeini(
        "[pytest]\naddopts = -p no:cacheprovider\nrunner_validate = true\nrunner_files = jobs.yaml other.yaml"
    )
    result = suite.runpytest_subprocess()
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["deploy/jobs.yaml:5:*"])


def test_the_fixtures_run_handlers_and_the_projects_file(suite: pytest.Pytester) -> None:
    """`run_handler` calls one handler; `runner_drain` runs the project's own schedules.yaml."""
    suite.makepyfile(
        """
        from handlers.words import says

        def test_one(run_handler):
            run = run_handler(says, {"word": "aloud"})
            assert (run.result, run.lines) == ("aloud", ["said"])

        def test_all(runner_drain):
            first, second = runner_drain(("says", {"word": "aloud"}), trigger=["hourly"])
            assert (first.result, second.result) == ("aloud", "hello")
        """
    )
    suite.makeini("[pytest]\naddopts = -p no:cacheprovider\npythonpath = .")
    suite.runpytest_subprocess("-W", "error").assert_outcomes(passed=2)

"""The pytest plug-in: `schedules.yaml` as tests, and fixtures for those of handlers. It does nothing unless asked.

Imported by every pytest run of an environment that has this package: it imports nothing of it before it is used.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from runner.config.load import Loaded
    from runner.domain.problem import Problem
    from runner.testing.handlers import HandlerRun
    from runner.testing.sandbox import DrainedJob

DEFAULT = "schedules.yaml"


class ScheduleWarning(UserWarning):
    """A warning of `runner validate`: the file is valid, and this is worth a look."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("yaml-job-runner")
    group.addoption(
        "--runner-validate",
        action="store_true",
        help="collect schedules.yaml files: each problem that `runner validate` finds is a failing test",
    )
    parser.addini("runner_validate", "the same as --runner-validate", type="bool", default=False)
    parser.addini("runner_files", "names of the files to validate; the first is runner_drain's", "args", [DEFAULT])


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    config = parent.config
    if not (config.getoption("--runner-validate") or config.getini("runner_validate")):
        return None
    if file_path.name not in config.getini("runner_files"):
        return None
    return ScheduleFile.from_parent(parent, path=file_path)


class ScheduleFile(pytest.File):
    """One test that the file is valid; of one that is not, a test for each problem."""

    def collect(self) -> Iterator[pytest.Item]:
        from runner.engine.reloader import read

        loaded = read(self._shown(), os.environ)
        errors = [problem for problem in loaded.problems if problem.is_error]
        for problem in errors:
            name = f"{problem.line}:{problem.column}: {problem.code}"
            yield ProblemItem.from_parent(self, name=name, loaded=loaded, problem=problem)
        if not errors:
            yield ValidItem.from_parent(self, name="valid", loaded=loaded)

    def _shown(self) -> Path:
        """As somebody would name it on the command line, where the tests were started."""
        here = self.config.invocation_params.dir
        return self.path.relative_to(here) if self.path.is_relative_to(here) and Path.cwd() == here else self.path


class ValidItem(pytest.Item):
    """Passes; the warnings of the file are pytest's warnings."""

    def __init__(self, *, loaded: Loaded, **more: Any) -> None:
        super().__init__(**more)
        self._loaded = loaded

    def runtest(self) -> None:
        for problem in self._loaded.problems:
            warnings.warn(ScheduleWarning(_text(self._loaded, problem)), stacklevel=1)


class ProblemItem(pytest.Item):
    """Fails, and shows its problem as `runner validate` does."""

    def __init__(self, *, loaded: Loaded, problem: Problem, **more: Any) -> None:
        super().__init__(**more)
        self._loaded = loaded
        self._problem = problem

    def runtest(self) -> None:
        pytest.fail(_text(self._loaded, self._problem), pytrace=False)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, self._problem.line - 1, f"{self.path.name}:{self.name}"


def _text(loaded: Loaded, problem: Problem) -> str:
    from runner.config.report import as_text

    return as_text([problem], loaded.source, str(loaded.path)).rstrip("\n")


@pytest.fixture
def run_handler() -> Callable[..., HandlerRun]:
    """`runner.testing.run_handler`: one handler, called with a context that records."""
    from runner.testing.handlers import run_handler as run

    return run


@pytest.fixture
def runner_drain(pytestconfig: pytest.Config) -> Callable[..., list[DrainedJob]]:
    """`runner.testing.drain` on the project's own file: `runner_drain("mail", ("sync", {"full": True}))`."""
    from runner.testing.sandbox import drain

    return partial(drain, pytestconfig.rootpath / pytestconfig.getini("runner_files")[0])

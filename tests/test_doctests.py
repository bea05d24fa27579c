"""The examples in docstrings are true."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from types import ModuleType

import pytest

import runner

NAMES = [
    module.name
    for package in ("domain", "telemetry", "config", "cli")
    for module in pkgutil.iter_modules([f"{runner.__path__[0]}/{package}"], f"runner.{package}.")
]


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_of_a_module_hold(name: str) -> None:
    """Each `>>>` of the module gives what stands below it."""
    module: ModuleType = importlib.import_module(name)
    failed, _ = doctest.testmod(module)
    assert failed == 0


def test_there_are_examples() -> None:
    """The search finds the docstrings at all."""
    finder = doctest.DocTestFinder()
    found = [test for name in NAMES for test in finder.find(importlib.import_module(name)) if test.examples]
    assert len(found) >= 8

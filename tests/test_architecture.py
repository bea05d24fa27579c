"""The shape of the code: layers, sizes, and what may stand where. Each exception is listed with its reason."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted((*(ROOT / "runner").rglob("*.py"), *(ROOT / "handlers").rglob("*.py")))
LONGEST_MODULE = 350
LONGEST_FUNCTION = 40

LONGER_FUNCTIONS = {
    "runner/cli/run_once.py:run_once": "the options of the command, each a parameter with its help",
    "runner/cli/serve.py:serve": "the same",
    "runner/cli/main.py:options": "the same: those of runner itself",
    "runner/storage/migrations/versions/0001_the_first_schema.py:upgrade": "a migration is a list of statements",
}
CATCHES_EVERYTHING = {
    "runner/engine/backends.py": "around user code, on the loop",
    "runner/engine/threads.py": "around user code, in threads",
    "runner/engine/capture.py": "around the `__str__` of what user code logs",
    "runner/engine/child.py": "around user code, in a process of its own",
    "runner/engine/process.py": "whatever the start of a process raises is handed to the caller, who raises it",
    "runner/engine/handlers.py": "around the import of user code",
    "runner/engine/service.py": "around a tick, and around a loop, whose death is told",
    "runner/storage/database.py": "a connection in an unknown state is closed, and the error goes on",
    "runner/storage/journey.py": "a connection in an unknown state is closed, and the error goes on",
    "runner/cli/main.py": "the last net: a bug of ours is one sentence, and RUNNER_DEBUG shows the traceback",
    "runner/testing/handlers.py": "around user code, in its own test",
    "handlers/feeds.py": "parsers of foreign input fail in ways that they do not announce",
    "handlers/youtube.py": "the library lets every surprise of foreign answers through",
}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_imports_keep_the_layers() -> None:
    """Imports point downward, and each library is used in its own layer alone: the contracts in pyproject.toml."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"], cwd=ROOT, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 broken" in done.stdout


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_modules_and_functions_are_short(path: Path) -> None:
    """A module has at most 350 lines and a function at most 40; what is longer is listed with its reason."""
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_MODULE
    long = {
        f"{name(path)}:{one.name}": lines
        for one in functions(ast.parse(text))
        if (lines := (one.end_lineno or one.lineno) - one.lineno + 1) > LONGEST_FUNCTION
    }
    assert set(long) <= set(LONGER_FUNCTIONS), long


def test_every_exception_is_still_needed() -> None:
    """A listed exception that nothing needs any more is deleted."""
    long = {
        f"{name(path)}:{one.name}"
        for path in MODULES
        for one in functions(ast.parse(path.read_text(encoding="utf-8")))
        if (one.end_lineno or one.lineno) - one.lineno + 1 > LONGEST_FUNCTION
    }
    assert set(LONGER_FUNCTIONS) == long
    catching = {
        name(path)
        for path in MODULES
        if any(_catches_everything(node) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert set(CATCHES_EVERYTHING) == catching


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_what_may_stand_where(path: Path) -> None:
    """A module says what it owns; only the command line prints; everything is caught only where it is listed."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if path.read_text(encoding="utf-8").strip():
        assert ast.get_docstring(tree), "a file opens with one sentence: what it owns"
    if not name(path).startswith("runner/cli/"):
        assert not [ast.unparse(node) for node in ast.walk(tree) if _is_print(node)]
    if name(path) not in CATCHES_EVERYTHING:
        assert not [ast.unparse(node) for node in ast.walk(tree) if _catches_everything(node)]


def test_one_place_asks_the_environment() -> None:
    """`os.environ` is read at the edges (commands, programs, tests of handlers): below, what is needed is passed."""
    allowed = ("runner/cli/", "runner/programs.py", "runner/engine/child.py", "runner/testing/", "handlers/")
    asking = {
        name(path)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv") and isinstance(node.value, ast.Name)
        and node.value.id == "os" and not name(path).startswith(allowed)
    }  # fmt: skip
    assert asking == set()


def _is_print(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"


def _catches_everything(node: ast.AST) -> bool:
    if not isinstance(node, ast.ExceptHandler):
        return False
    caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    return any(
        one is None or (isinstance(one, ast.Name) and one.id in ("Exception", "BaseException")) for one in caught
    )

"""From a dotted path to a function: what is allowed, what is found, and what is said where it is not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.domain.errors import HandlerNotFound
from runner.domain.schedule import Definitions, JobType, RunnerOptions
from runner.engine.handlers import check_handlers, check_isolation, import_from, resolve

PACKAGE = "runner_resolve_tests"
MODULE = """
import asyncio, functools, os, json as other

def send(ctx, payload): ...
def anything(*args, **kwargs): ...
def with_default(ctx, payload, retries=3): ...
def nothing(): ...
def one(ctx): ...
def three(ctx, payload, more): ...
def keyword(ctx, *, payload): ...
async def fetch(ctx, payload): ...
partial = functools.partial(fetch)
class Sender:
    def __call__(self, ctx, payload): ...
    async def later(self, ctx, payload): ...
class Fetcher:
    async def __call__(self, ctx, payload): ...
sender, fetcher = Sender(), Fetcher()
LIMIT = 5
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package in a folder of its own, first on the import path."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    folder = tmp_path / PACKAGE
    folder.mkdir()
    (folder / "__init__.py").write_text("def top(ctx, payload): ...\n")
    (folder / "mail.py").write_text(MODULE)
    (folder / "broken.py").write_text("raise RuntimeError('no configuration')\n")
    (folder / "leaves.py").write_text("raise SystemExit(3)\n")
    (folder / "syntax.py").write_text("def broken(:\n")
    (folder / "wants.py").write_text("import a_module_that_nobody_has\n")
    (tmp_path / "outside.py").write_text(
        "from pathlib import Path\nPath(__file__).with_name('ran').touch()\ndef f(ctx, payload): ...\n"
    )
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] in (PACKAGE, "outside")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("path", "is_async"),
    [
        ("mail.send", False),
        ("mail:send", False),
        ("mail.anything", False),
        ("mail.with_default", False),
        ("mail.fetch", True),
        ("mail.partial", True),
        ("mail.sender", False),
        ("mail.fetcher", True),
        ("mail:sender.later", True),
    ],
)
def test_dotted_and_colon_paths(path: str, is_async: bool) -> None:
    """A handler is a plain function, a coroutine function or a callable object at `package.module.function`."""
    found = resolve(f"{PACKAGE}.{path}", (PACKAGE,))

    assert (found.path, found.is_async) == (f"{PACKAGE}.{path}", is_async)
    assert callable(found.function)


def test_a_function_of_the_package_itself() -> None:
    """`package.function` and `package:function` are found too."""
    assert resolve(f"{PACKAGE}.top", (PACKAGE,)).function is resolve(f"{PACKAGE}:top", (PACKAGE,)).function


@pytest.mark.parametrize(
    "path",
    [
        "outside.f",
        "outside:f",
        "os.system",
        "builtins.eval",
        f"{PACKAGE}x.mail.send",
        f".{PACKAGE}.mail.send",
        "f",
        ":f",
        "",
        "..x",
    ],
)
def test_other_packages_are_refused_before_anything_is_imported(package: Path, path: str) -> None:
    """Dotted paths lead only into the packages that the file allows, checked before anything is imported."""
    before = set(sys.modules)

    with pytest.raises(HandlerNotFound, match=f"handlers come from {PACKAGE}, tasks only") as caught:
        resolve(path, (PACKAGE, "tasks"))

    assert caught.value.hint == "runner: {handler_packages: [...]} allows more"
    assert not (package / "ran").exists()
    assert "outside" not in sys.modules
    assert set(sys.modules) - before <= {PACKAGE}


def test_an_allowed_package_is_imported(package: Path) -> None:
    """The module outside does run where the file allows it: the sentinel works."""
    resolve("outside.f", ("outside",))

    assert (package / "ran").exists()


@pytest.mark.parametrize("path", ["mail:os.system", "mail:other.dumps", "mail:os.path.join", "mail:asyncio.sleep"])
def test_no_way_leads_through_a_module_into_another(path: str) -> None:
    """What a handler's module has imported is not thereby a handler."""
    with pytest.raises(HandlerNotFound, match="is another module"):
        resolve(f"{PACKAGE}.{path}", (PACKAGE,))


@pytest.mark.parametrize(
    ("path", "words", "hint"),
    [
        ("mail.sned", "module {p}.mail has no attribute 'sned'", "did you mean 'send'?"),
        ("mail.qqqqqq", "module {p}.mail has no attribute 'qqqqqq'", None),
        ("mail:sender.latr", "has no attribute 'sender.latr'", "did you mean 'later'?"),
        ("mail:LIMIT.bit", "has no attribute 'LIMIT.bit'", None),
        ("mail:", "has no attribute ''", None),
        ("mial.send", "there is no module {p}.mial", "expected {p}/mial.py there"),
        ("mail.deep.send", "there is no module {p}.mail.deep", None),
        ("wants.f", "module {p}.wants wants a_module_that_nobody_has, which is not installed", None),
        ("broken.f", "importing {p}.broken raised RuntimeError: no configuration", None),
        ("leaves.f", "importing {p}.leaves raised SystemExit: 3", None),
        ("syntax.f", "importing {p}.syntax raised SyntaxError", None),
        ("mail.LIMIT", "'LIMIT' is not a function", "def handler(ctx, payload): ..."),
        ("mail.nothing", "nothing() does not take (ctx, payload)", "def handler(ctx, payload): ..."),
        ("mail.one", "one(ctx) does not take (ctx, payload)", None),
        ("mail.three", "three(ctx, payload, more) does not take (ctx, payload)", None),
        ("mail.keyword", "keyword(ctx, *, payload) does not take (ctx, payload)", None),
    ],
)
def test_what_is_wrong_is_said(path: str, words: str, hint: str | None) -> None:
    """Each handler that cannot be used is named with the reason and, where there is one, the remedy."""
    with pytest.raises(HandlerNotFound) as caught:
        resolve(f"{PACKAGE}.{path}", (PACKAGE,))

    assert caught.value.message.startswith(f"{PACKAGE}.{path}: ")
    assert words.format(p=PACKAGE) in caught.value.message
    if hint is not None:
        assert hint.format(p=PACKAGE) in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("isolation", "path", "fits"),
    [
        (None, "mail.send", True),
        (None, "mail.fetch", True),
        ("thread", "mail.send", True),
        ("thread", "mail.fetch", False),
        ("async", "mail.fetch", True),
        ("async", "mail.send", False),
        ("process", "mail.send", True),
        ("process", "mail.fetch", True),
    ],
)
def test_an_isolation_fits_its_handler(isolation: str | None, path: str, fits: bool) -> None:
    """`isolation: async` wants a coroutine function, `thread` a plain one; a process takes both."""
    handler = resolve(f"{PACKAGE}.{path}", (PACKAGE,))
    job_type = JobType("x", handler.path, isolation=isolation)  # type: ignore[arg-type]

    if fits:
        check_isolation(job_type, handler)
    else:
        with pytest.raises(HandlerNotFound, match="wants a"):
            check_isolation(job_type, handler)


def test_all_handlers_of_a_file_are_checked() -> None:
    """Every problem is told, with its job type; the good ones are not."""
    types = [
        JobType("good", f"{PACKAGE}.mail.send"),
        JobType("typo", f"{PACKAGE}.mail.sned"),
        JobType("wrong", f"{PACKAGE}.mail.send", isolation="async"),
    ]
    definitions = Definitions(
        job_types={one.name: one for one in types}, runner=RunnerOptions(handler_packages=(PACKAGE,))
    )

    assert [(name, code) for name, code, _, _ in check_handlers(definitions)] == [
        ("typo", "handler"),
        ("wrong", "handler"),
    ]


def test_the_folder_of_the_file_goes_first(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of schedules.yaml is first on the import path, once."""
    monkeypatch.setattr(sys, "path", ["a", str(package), "b"])

    import_from(package)
    import_from(package)

    assert sys.path == [str(package.resolve()), "a", "b"]

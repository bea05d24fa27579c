"""From a dotted path to the function that runs a job type. Paths come from the file, never from a row or a request."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from runner.domain.errors import HandlerNotFound, Interrupted
from runner.domain.schedule import Definitions, JobType


@dataclass(frozen=True, slots=True)
class Limits:
    """What the process of a handler may use: a child keeps them for its life."""

    memory: str | None = None
    nice: int = 0


@dataclass(frozen=True, slots=True)
class Handler:
    """A function that takes (ctx, payload). `path` is how the file names it."""

    path: str
    function: Callable[..., Any]
    is_async: bool
    limits: Limits = Limits()


def import_from(folder: Path) -> None:
    """Put the folder of schedules.yaml first on the import path."""
    importlib.invalidate_caches()  # a module that was written a moment ago is found
    place = str(folder.resolve())
    if sys.path[:1] != [place]:
        sys.path[:] = [place, *(entry for entry in sys.path if entry != place)]


def resolve(path: str, packages: tuple[str, ...]) -> Handler:
    """The handler at `package.module.function` or `package.module:function`.

    Raises HandlerNotFound, before anything is imported, where the first package is not one of `packages`.
    """
    module_name, _, attribute = path.rpartition(":") if ":" in path else path.rpartition(".")
    if not any(module_name == package or module_name.startswith(f"{package}.") for package in packages):
        allowed = ", ".join(packages)
        raise HandlerNotFound(
            f"{path}: handlers come from {allowed} only", "runner: {handler_packages: [...]} allows more"
        )
    function = _attribute(_module(module_name, path), attribute, path)
    _check_signature(function, path)
    return Handler(path, function, _is_async(function))


def check_handlers(definitions: Definitions) -> Iterator[tuple[str, str, str, str | None]]:
    """(job type, code, message, hint) for each handler of the file that cannot be used."""
    for job_type in definitions.job_types.values():
        try:
            handler_of(job_type, definitions.runner.handler_packages)
        except HandlerNotFound as error:
            yield job_type.name, "handler", error.message, error.hint


def handler_of(job_type: JobType, packages: tuple[str, ...]) -> Handler:
    """The handler of a job type, with what its process may use. Raises HandlerNotFound."""
    handler = resolve(job_type.handler, packages)
    check_isolation(job_type, handler)
    return replace(handler, limits=Limits(job_type.memory_limit, job_type.nice))


def check_isolation(job_type: JobType, handler: Handler) -> None:
    if job_type.isolation == "async" and not handler.is_async:
        raise HandlerNotFound(
            f"{handler.path}: isolation: async wants an async def", "leave isolation out, or use thread"
        )
    if job_type.isolation == "thread" and handler.is_async:
        raise HandlerNotFound(
            f"{handler.path}: isolation: thread wants a plain def", "leave isolation out, or use async"
        )


def _module(name: str, path: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise HandlerNotFound(f"{path}: there is no module {error.name}", _where(name)) from None
        raise HandlerNotFound(f"{path}: module {name} wants {error.name}, which is not installed") from error
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted while importing {name}") from None
    except BaseException as error:  # user code
        raise HandlerNotFound(f"{path}: importing {name} raised {type(error).__name__}: {error}") from error


def _where(name: str) -> str:
    package = name.partition(".")[0]
    file = getattr(sys.modules.get(package), "__file__", None)
    if file is not None and not Path(file).is_relative_to(sys.path[0]):
        # A folder without __init__.py gives way to a package with one, wherever that stands on the path.
        return f"{package} was found in {Path(file).parent}; put an empty __init__.py into {sys.path[0]}/{package}"
    return f"it is looked for in {sys.path[0]}; expected {name.replace('.', '/')}.py there"


def _attribute(module: ModuleType, attribute: str, path: str) -> Callable[..., Any]:
    found: Any = module
    for part in attribute.split("."):
        if isinstance(found, ModuleType) and found is not module:
            raise HandlerNotFound(f"{path}: {found.__name__} is another module", "name the module before the colon")
        if not hasattr(found, part):
            close = difflib.get_close_matches(part, [name for name in dir(found) if not name.startswith("_")], 1)
            hint = f"did you mean {close[0]!r}?" if close else None
            raise HandlerNotFound(f"{path}: module {module.__name__} has no attribute {attribute!r}", hint)
        found = getattr(found, part)
    if not callable(found):
        raise HandlerNotFound(f"{path}: {attribute!r} is not a function", "def handler(ctx, payload): ...")
    return found  # type: ignore[no-any-return]


def _check_signature(function: Callable[..., Any], path: str) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(None, None)
    except TypeError:
        shown = f"{getattr(function, '__name__', 'handler')}{signature}"
        raise HandlerNotFound(
            f"{path}: {shown} does not take (ctx, payload)", "def handler(ctx, payload): ..."
        ) from None


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004

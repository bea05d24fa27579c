"""`${NAME}` from the environment, and `${{ steps.X.result.path }}` from a step that has ended. Paths, not code.

`$${` stands for `${` itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runner.config.places import Path, dotted
from runner.domain.errors import UnsetVariable

REFERENCE = re.compile(
    r"(?P<escape>\$\$\{)"
    r"|\$\{\{(?P<step>[^}]*)\}\}"
    r"|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<fallback>:-[^}]*)?\}"
    r"|(?P<malformed>\$\{)"
)
STEP_PATH = re.compile(r"\s*steps\.(?P<step>[A-Za-z0-9_][A-Za-z0-9_-]*)\.result(?P<path>(?:\.[A-Za-z0-9_-]+)*)\s*")
SECRETS = re.compile(r"SECRET|TOKEN|PASSWORD|PASSWD|API_?KEY|(?:^|_)KEY(?:_|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Variable:
    """`${NAME}` or `${NAME:-default}`."""

    name: str
    fallback: str | None = None

    @property
    def looks_secret(self) -> bool:
        return SECRETS.search(self.name) is not None

    def is_set(self, environ: Mapping[str, str]) -> bool:
        return self.fallback is not None or self.name in environ

    def value(self, environ: Mapping[str, str], path: Path = ()) -> str:
        """As in a shell, an empty variable counts as unset where there is a default. `path` is where it stands."""
        if self.fallback is not None:
            return environ.get(self.name) or self.fallback
        if self.name not in environ:
            raise self.unset(path)
        return environ[self.name]

    def unset(self, path: Path) -> UnsetVariable:
        """What is said where it has no value, whoever finds out."""
        where = f", which {dotted(path)} refers to" if path else ""
        return UnsetVariable(
            f"the environment has no {self.name}{where}", f"set it, or write ${{{self.name}:-default}}"
        )


@dataclass(frozen=True, slots=True)
class StepResult:
    """`${{ steps.X.result.path }}`."""

    step: str
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Malformed:
    """Text that starts like a reference and is none."""

    text: str


Reference = Variable | StepResult | Malformed


def references_in(value: Any) -> list[Reference]:
    """All references in the texts of a value, in order.

    >>> references_in({"url": "${HOST:-localhost}/${{ steps.a.result.id }}"})
    [Variable(name='HOST', fallback='localhost'), StepResult(step='a', path=('id',))]
    """
    return [reference for _, text in texts_in(value) for reference in in_text(text)]


def texts_in(value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """The texts in a value that hold something like a reference, with their paths."""
    if isinstance(value, str):
        if "${" in value:
            yield path, value
    elif isinstance(value, Mapping):
        for key, child in value.items():
            yield from texts_in(child, (*path, key))
    elif isinstance(value, list | tuple):
        for index, child in enumerate(value):
            yield from texts_in(child, (*path, index))


def in_text(text: str) -> list[Reference]:
    return [_reference(match, text) for match in REFERENCE.finditer(text) if match["escape"] is None]


def resolve(value: Any, environ: Mapping[str, str], path: Path = ()) -> Any:
    """The value at the path with each `${NAME}` replaced. What a step will give stays. Raises UnsetVariable.

    >>> resolve(["${USER}@${HOST:-localhost}", "$${USER}"], {"USER": "ann"})
    ['ann@localhost', '${USER}']
    """
    if isinstance(value, str):
        return REFERENCE.sub(_replacement(environ, path), value) if "${" in value else value
    if isinstance(value, Mapping):
        return {key: resolve(child, environ, (*path, key)) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [resolve(child, environ, (*path, index)) for index, child in enumerate(value)]
    return value


def _replacement(environ: Mapping[str, str], path: Path) -> Callable[[re.Match[str]], str]:
    def replace(match: re.Match[str]) -> str:
        if match["escape"]:
            return "${"
        return _variable(match).value(environ, path) if match["name"] else match[0]

    return replace


def _reference(match: re.Match[str], text: str) -> Reference:
    if match["name"]:
        return _variable(match)
    found = STEP_PATH.fullmatch(match["step"] or "")
    if found is None:
        return Malformed(text[match.start() :][:40])
    return StepResult(found["step"], tuple(filter(None, found["path"].split("."))))


def _variable(match: re.Match[str]) -> Variable:
    fallback = match["fallback"]
    return Variable(match["name"], None if fallback is None else fallback[2:])

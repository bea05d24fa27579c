"""Reading a document that may be broken: what is in good shape is given, the rest is passed over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runner.config.places import Path

Data = Mapping[str, Any]


def mapping(value: Any) -> Data:
    return value if isinstance(value, dict) else {}


def entries(data: Data, section: str) -> Iterator[tuple[Path, Data]]:
    """The entries of a section that are mappings, with their paths."""
    for name, entry in mapping(data.get(section)).items():
        if isinstance(entry, dict):
            yield (section, name), entry


def steps(data: Data) -> Iterator[tuple[Path, Data]]:
    """The steps of all workflows that are mappings, with their paths."""
    for path, workflow in entries(data, "workflows"):
        for (_, name), step in entries(workflow, "steps"):
            yield (*path, "steps", name), step


def needs_of(step: Any, path: Path = ()) -> Iterator[tuple[str, Path]]:
    """The names that a step needs, each with its path."""
    for place, name in items(mapping(step).get("needs"), (*path, "needs")):
        yield name, place


def items(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """The texts of a field that takes one text or a list of them, with their paths."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, list):
        yield from (((*path, index), item) for index, item in enumerate(value) if isinstance(item, str))

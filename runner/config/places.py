"""Where things stand in a text: the composed nodes of a document, and lines and columns for them."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Path = tuple[str | int, ...]


class Place(NamedTuple):
    """A line and a column, both from 1, as editors count them."""

    line: int
    column: int


@dataclass(slots=True, eq=False)
class Node:
    """One composed value. `start` is its index in the text; `keys` has that of each key of a mapping.

    Aliases and merge keys share nodes, so that what came from an anchor keeps the place of the anchor.
    `size` and `height` count the nodes below with all aliases expanded.
    """

    start: int
    data: Any = None
    children: dict[str | int, Node] = field(default_factory=dict)
    keys: dict[str, int] = field(default_factory=dict)
    size: int = 1
    height: int = 0


class Lines:
    """Turns an index in the text into a place. `inserted` are indexes of characters that we put in while reading."""

    def __init__(self, source: str, inserted: Sequence[int] = ()) -> None:
        self._starts = [0, *(match.end() for match in re.finditer(r"\r\n|\n|\r", source))]
        self._inserted = sorted(inserted)

    def place(self, index: int) -> Place:
        index -= bisect_left(self._inserted, index)
        line = bisect_right(self._starts, index)
        return Place(line, index - self._starts[line - 1] + 1)


@dataclass(frozen=True)
class Document:
    """Plain data, and the place of every key and value in it."""

    source: str
    root: Node
    lines: Lines

    @property
    def data(self) -> Any:
        return self.root.data

    def place(self, path: Path) -> Place:
        """Where the value stands; for a path that leads nowhere, the nearest thing above it."""
        return self.lines.place(self._walk(path)[-1].start)

    def key_place(self, path: Path) -> Place:
        """Where the key stands that the path ends with; for a list item, the item."""
        nodes = self._walk(path)
        if len(nodes) <= len(path):  # the path leads nowhere: the key of what is there
            return self.key_place(path[: len(nodes) - 1]) if len(nodes) > 1 else self.lines.place(0)
        if not path:
            return self.lines.place(nodes[0].start)
        return self.lines.place(nodes[-2].keys.get(str(path[-1]), nodes[-1].start))

    def nodes(self) -> Iterator[tuple[Path, Node]]:
        """Every value with its path, aliases expanded."""
        pending: list[tuple[Path, Node]] = [((), self.root)]
        while pending:
            path, node = pending.pop()
            yield path, node
            pending.extend(((*path, key), child) for key, child in node.children.items())

    def _walk(self, path: Path) -> list[Node]:
        nodes = [self.root]
        for part in path:
            child = nodes[-1].children.get(part)
            if child is None:
                break
            nodes.append(child)
        return nodes


def dotted(path: Path) -> str:
    """The path as people write it.

    >>> dotted(("schedules", "news-fetch", "cron", 0))
    'schedules.news-fetch.cron[0]'
    """
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            shown = part if re.fullmatch(r"[\w-]+", part) else f'"{part}"'
            text += f".{shown}" if text else shown
    return text

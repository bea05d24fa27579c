"""YAML events -> nodes with places. Counts depth and size as it goes, so that nothing large is ever built.

One pass over the events of the parser, without recursion. Anchors are expanded by sharing, merge keys by copying the
entries; both are counted with what they stand for before that happens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from runner.config.places import Lines, Node, Path, dotted
from runner.config.scalars import NumberRefused, resolve

MAX_DEPTH = 64
MAX_NODES = 100_000
LONGEST_PATH = 8
PROPERTIES = re.compile(r"(?:&\S*|#[^\n\r]*|\s+)+")

Report = Callable[[str, int, str, str, str | None], None]  # code, index, path, message, hint


class Refused(Exception):
    """The rest of the text is not read."""


@dataclass(slots=True)
class _Frame:
    """A collection that is still open. `key` waits for its value."""

    node: Node
    is_mapping: bool
    anchor: str | None
    total: int
    key: Node | None = None
    merges: list[Node] = field(default_factory=list)


class Composer:
    """Takes events one by one; `root` is the document at the end."""

    def __init__(self, text: str, lines: Lines, report: Report) -> None:
        self.root: Node | None = None
        self._text = text
        self._lines = lines
        self._report = report
        self._stack: list[_Frame] = []
        self._anchors: dict[str, Node | None] = {}  # None while it is open
        self._total = 0
        self._documents = 0

    def compose(self, events: Iterable[yaml.Event]) -> Node | None:
        for event in events:
            self._take(event)
        return self.root

    def _take(self, event: yaml.Event) -> None:
        match event:
            case yaml.ScalarEvent():
                self._scalar(event)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._open(event)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._close()
            case yaml.AliasEvent():
                self._alias(event)
            case yaml.DocumentStartEvent():
                self._document(event)

    def _document(self, event: Any) -> None:
        self._documents += 1
        if self._documents > 1:
            self._refuse(
                "documents", event.start_mark.index, "the file holds several documents", "remove the line `---`"
            )

    def _scalar(self, event: Any) -> None:
        self._count(1, event.start_mark.index)
        start = self._start(event)
        plain = event.implicit[0] and event.tag is None
        self._tag(event, start)
        if plain and event.value == "" and self._stack and (key := self._stack[-1].key):
            start = key.start  # nothing stands there to point at
        node = Node(start, self._value(event.value, start) if plain else self._checked(event.value, start))
        if event.anchor:
            self._anchors[event.anchor] = node
        self._push(node, is_merge=plain and event.value == "<<")

    def _value(self, text: str, start: int) -> Any:
        try:
            return resolve(text)
        except NumberRefused as refused:
            self._problem("number", start, str(refused), "quote it to keep it as text")
            return text

    def _checked(self, text: str, start: int) -> str:
        if "\0" in text:
            self._problem("encoding", start, "the text holds the character NUL", "remove the \\0")
        return text

    def _open(self, event: Any) -> None:
        start = self._start(event)
        self._count(1, start)
        if len(self._stack) >= MAX_DEPTH:
            self._refuse("too-deep", start, f"nested deeper than {MAX_DEPTH} levels", "make it flatter")
        self._tag(event, start)
        if event.anchor:
            self._anchors[event.anchor] = None
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        node = Node(start, {} if is_mapping else [], height=1)
        self._stack.append(_Frame(node, is_mapping, event.anchor, self._total - 1))

    def _close(self) -> None:
        frame = self._stack.pop()
        for merged in frame.merges:
            self._merge(frame.node, merged)
        frame.node.size = self._total - frame.total
        if frame.anchor:
            self._anchors[frame.anchor] = frame.node
        self._push(frame.node)

    def _alias(self, event: Any) -> None:
        index, name = event.start_mark.index, event.anchor
        if name not in self._anchors:
            self._problem("alias", index, f"no anchor &{name} stands above this line", None)
            self._push(Node(index))
            return
        node = self._anchors[name]
        if node is None:
            self._refuse("alias", index, f"*{name} stands inside of what it names", "an alias cannot contain itself")
        self._count(node.size, index)
        if len(self._stack) + node.height > MAX_DEPTH:
            self._refuse("too-deep", index, f"nested deeper than {MAX_DEPTH} levels through *{name}", "make it flatter")
        self._push(node, alias=index)

    def _push(self, node: Node, *, is_merge: bool = False, alias: int | None = None) -> None:
        if not self._stack:
            self.root = node
            return
        frame = self._stack[-1]
        frame.node.height = max(frame.node.height, node.height + 1)
        if not frame.is_mapping:
            frame.node.children[len(frame.node.data)] = node
            frame.node.data.append(node.data)
        elif frame.key is None:
            frame.key = node if alias is None else Node(alias, node.data)
            if is_merge:
                frame.key.data = _MERGE
        else:
            key, frame.key = frame.key, None
            self._entry(frame, key, node)

    def _entry(self, frame: _Frame, key: Node, value: Node) -> None:
        if key.data is _MERGE:
            self._merge_later(frame, key, value)
            return
        name = key.data if isinstance(key.data, str) else self._text_key(key)
        if name in frame.node.keys:
            first = self._lines.place(frame.node.keys[name]).line
            self._problem(
                "duplicate-key", key.start, f'"{name}" is already defined at line {first}', "keep one of them"
            )
        elif name is not None:
            _put(frame.node, name, key.start, value)

    def _text_key(self, key: Node) -> str | None:
        """What stands for a key that is not text, once it has been reported."""
        if isinstance(key.data, dict | list):
            self._problem("key", key.start, "a key must be text", "write one word before the colon")
            return None
        shown = json.dumps(key.data)
        self._problem("key", key.start, f"a key must be text, and {shown} is not", f'quote it: "{shown}":')
        return shown

    def _merge_later(self, frame: _Frame, key: Node, value: Node) -> None:
        if frame.merges:
            self._problem("duplicate-key", key.start, "<< stands twice in one mapping", "write <<: [*one, *other]")
        sources = list(value.children.values()) if isinstance(value.data, list) else [value]
        for source in sources:
            if isinstance(source.data, dict):
                frame.merges.append(source)
            else:
                self._problem("merge", value.start, "<< takes a mapping, or a list of mappings", "write <<: *anchor")

    def _merge(self, node: Node, source: Node) -> None:
        """What stands in the mapping itself, or in an earlier source, wins."""
        for name, child in source.children.items():
            if name not in node.children and isinstance(name, str):
                _put(node, name, source.keys[name], child)

    def _tag(self, event: Any, start: int) -> None:
        if event.tag is not None:
            self._problem(
                "tag", event.start_mark.index, f"tags are not read: {_shown_tag(event.tag)}", "remove the tag"
            )

    def _count(self, nodes: int, index: int) -> None:
        self._total += nodes
        if self._total > MAX_NODES:
            message = f"more than {MAX_NODES:,} values, with all aliases and merge keys expanded"
            self._refuse("too-large", index, message, "use fewer aliases, or split the file")

    def _start(self, event: Any) -> int:
        """Where the value itself starts, behind its anchor. A tag is refused, and so it is what to point at."""
        index: int = event.start_mark.index
        if event.anchor is None or event.tag is not None:
            return index
        match = PROPERTIES.match(self._text, index)
        return match.end() if match and match.end() <= event.end_mark.index else index

    def _path(self) -> Path:
        """The path of what is being read."""
        parts: list[str | int] = []
        for frame in self._stack:
            if not frame.is_mapping:
                parts.append(len(frame.node.data))
            elif frame.key is not None and isinstance(frame.key.data, str):
                parts.append(frame.key.data)
        return tuple(parts)

    def _problem(self, code: str, index: int, message: str, hint: str | None, key: Path = ()) -> None:
        self._report(code, index, dotted((*self._path(), *key)[:LONGEST_PATH]), message, hint)

    def _refuse(self, code: str, index: int, message: str, hint: str) -> NoReturn:
        self._problem(code, index, message, hint)
        raise Refused


_MERGE: Any = object()


def _put(node: Node, name: str, key_start: int, value: Node) -> None:
    node.keys[name] = key_start
    node.children[name] = value
    node.data[name] = value.data


def _shown_tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")[:40]

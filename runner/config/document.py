"""YAML text -> plain data with the line and column of every key and value, or the problems that prevent it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import yaml

from runner.config.compose import Composer, Refused
from runner.config.places import Document, Lines, Place, dotted
from runner.config.repair import quote_cron
from runner.domain.problem import Problem

MAX_BYTES = 1024 * 1024
MAX_PROBLEMS = 1_000
MAX_REPAIRS = 20
UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
UTF16 = (b"\xff\xfe", b"\xfe\xff")
_Loader: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# What the parser says, in words for people who do not know how YAML is read.
WORDINGS = {
    "could not find expected ':'": "a colon is missing after the key, or a space after the colon",
    "mapping values are not allowed in this context": "a key cannot stand here: look at its indentation",
    "found character that cannot start any token": "a value cannot start with this character: quote it",
    "did not find expected key": "a key is expected here: check the indentation and the quotes",
    "did not find expected ',' or '}'": "the braces { are not closed, or a comma is missing",
    "did not find expected ',' or ']'": "the brackets [ are not closed, or a comma is missing",
    "found unexpected end of stream": "the quotes are not closed",
    "did not find expected alphabetic or numeric character": "a name is expected here, or quotes around the text",
    "found a tab character that violates indentation": "a tab cannot indent: use spaces",
    "did not find expected '-' indicator": "an item of the list is expected here: check the indentation",
}


def read_document(raw: str | bytes) -> tuple[Document | None, list[Problem]]:
    """The document, as far as it can be read, and what is wrong with it. Raises nothing for bad content."""
    source, problem = decode(raw)
    if problem is not None:
        return None, [problem]
    reader = _Reader(source)
    return reader.read(), reader.problems


def decode(raw: str | bytes) -> tuple[str, Problem | None]:
    """The text without its byte order mark, and what is wrong with its characters."""
    size = len(raw) if isinstance(raw, bytes) else len(raw.encode("utf-8", "surrogatepass"))
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
    text = text.removeprefix("\ufeff")
    if size > MAX_BYTES:
        message = f"the file is larger than {MAX_BYTES // 2**20} MiB ({MAX_BYTES:,} bytes)"
        return text, Problem("too-large", message, hint="keep long values elsewhere: a payload can name a file")
    if isinstance(raw, bytes):
        if raw.startswith(UTF16):
            return text, Problem("encoding", "the file is not UTF-8 (it looks like UTF-16)", hint="save it as UTF-8")
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError as error:
            before = raw[: error.start].decode("utf-8").removeprefix("\ufeff")
            place = Lines(before).place(len(before))
            message = f"the byte 0x{raw[error.start]:02x} is not UTF-8"
            return text, Problem("encoding", message, *place, hint="save the file as UTF-8")
    match = UNPRINTABLE.search(text)
    if match:
        message = f"the character U+{ord(match[0]):04X} cannot stand in a YAML file"
        return text, Problem("encoding", message, *Lines(text).place(match.start()), hint="remove it")
    return text, None


class _Reader:
    """Reads one text, again from the start after each repair."""

    def __init__(self, source: str) -> None:
        self.problems: list[Problem] = []
        self._source = source
        self._text = source  # with the quotes that were put in
        self._repairs: list[Problem] = []
        self._inserted: list[int] = []
        self._lines = Lines(source)

    def read(self) -> Document | None:
        while True:
            self.problems = list(self._repairs)
            composer = Composer(self._text, self._lines, self._report)
            try:
                root = composer.compose(_events(self._text))
            except Refused:
                return None
            except yaml.YAMLError as error:
                if self._repair(error):
                    continue
                self._syntax(error)
                return None
            if root is None or root.data is None:
                self._report("empty", 0, "", "the file is empty", "an empty file never means: remove everything")
                return None
            return self._finished(Document(self._source, root, self._lines))

    def _finished(self, document: Document) -> Document:
        """Now that there are paths, what was repaired gets its own."""
        if self._repairs:
            paths = {document.lines.place(node.start): dotted(path) for path, node in document.nodes()}
            named = [replace(one, path=paths.get(Place(one.line, one.column), "")) for one in self._repairs]
            self.problems[: len(named)] = named
        return document

    def _repair(self, error: yaml.YAMLError) -> bool:
        repair = quote_cron(self._text, _index(error)) if len(self._repairs) < MAX_REPAIRS else None
        if repair is None:
            return False
        message = "a cron text that starts with * or @ must be quoted"
        place = self._lines.place(repair.start)
        self._repairs.append(Problem("unquoted-cron", message, *place, hint=f"write: {repair.line}"))
        self._inserted += [repair.start, repair.end]
        self._lines = Lines(self._source, self._inserted)
        self._text = repair.text
        return True

    def _syntax(self, error: yaml.YAMLError) -> None:
        index = _index(error)
        said = getattr(error, "problem", None) or "it cannot be read"
        if self._text[index : index + 1] == "\t":
            said = "found a tab character that violates indentation"
        self._report("yaml", index, "", f"not valid YAML: {WORDINGS.get(said, said)}", None)

    def _report(self, code: str, index: int, path: str, message: str, hint: str | None) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            place = self._lines.place(min(index, len(self._source) + len(self._inserted)))
            self.problems.append(Problem(code, message, *place, path=path, hint=hint))


def _events(text: str) -> Iterator[yaml.Event]:
    loader = _Loader(text)
    try:
        while loader.check_event():
            yield loader.get_event()
    finally:
        loader.dispose()


def _index(error: yaml.YAMLError) -> int:
    """Where the reader should look: for what was not closed, where it was opened."""
    mark = getattr(error, "problem_mark", None)
    context = getattr(error, "context", None) or ""
    if "alias" in context or "quoted scalar" in context or "anchor" in context:
        mark = getattr(error, "context_mark", None) or mark
    return mark.index if mark is not None else 0

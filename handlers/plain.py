"""HTML to plain text."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_BLOCKS = re.compile("address|article|blockquote|br|d[dlt]|div|h[1-6r]|li|[ou]l|p|pre|section|table|tr")
_SILENT = frozenset({"script", "style", "template"})


def plain_text(markup: str) -> str:
    """The words of a piece of HTML, one paragraph on a line.

    >>> plain_text("<p>One &amp; <b>two</b></p><p>three</p>")
    'One & two\\nthree'
    """
    reader = _Reader()
    reader.feed(markup)
    reader.close()
    lines = (re.sub(r"\s+", " ", line).strip() for line in "".join(reader.parts).split("\0"))
    return "\n".join(line for line in lines if line)


class _Reader(HTMLParser):
    """Collects text; a NUL stands where a block begins or ends, for line breaks in the source mean nothing."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in _SILENT
        if _BLOCKS.fullmatch(tag):
            self.parts.append("\0")

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in _SILENT and self._silent > 0
        if _BLOCKS.fullmatch(tag):
            self.parts.append("\0")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.parts.append(data.replace("\0", ""))

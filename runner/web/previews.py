"""What a job shows, as a page may show it: by its media type, and never as markup of the page itself."""

from __future__ import annotations

from codecs import getincrementaldecoder
from dataclasses import dataclass
from typing import Literal

from runner.http.doors import Doors
from runner.storage.logs import OutputSize

Way = Literal["html", "image", "text", "file"]
IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/svg+xml"})
TEXTS = frozenset({"application/json", "application/xml", "application/yaml", "application/x-ndjson"})
MOST_TEXT = 200_000  # bytes of a preview
Decoder = getincrementaldecoder("utf-8")


@dataclass(frozen=True, slots=True)
class Preview:
    """`text` where it is shown as such; `is_cut` where there is more of it."""

    name: str
    media_type: str
    size: int
    way: Way
    text: str | None = None
    is_cut: bool = False


def way_of(media_type: str) -> Way:
    """
    >>> [way_of(one) for one in ("text/html; charset=utf-8", "text/markdown", "image/png", "application/pdf")]
    ['html', 'text', 'image', 'file']
    """
    kind = media_type.partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml"):
        return "html"
    if kind in IMAGES:
        return "image"
    return "text" if kind.startswith("text/") or kind in TEXTS else "file"


def previews(doors: Doors, job_id: int) -> list[Preview]:
    """All of a job, in the order in which it began them; what is shown as text is read as far as it is shown."""
    return [_preview(doors, job_id, one) for one in doors.logs.output_sizes(job_id)]


def _preview(doors: Doors, job_id: int, one: OutputSize) -> Preview:
    way = way_of(one.media_type)
    if way != "text":
        return Preview(one.name, one.media_type, one.bytes, way)
    data = doors.logs.beginning(job_id, one.name, MOST_TEXT)
    is_cut = len(data) < one.bytes
    text = Decoder("replace").decode(data, final=not is_cut)  # a character at the cut is left out
    return Preview(one.name, one.media_type, one.bytes, way, text, is_cut)

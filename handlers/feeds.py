"""RSS and Atom: from the bytes of a feed to documents."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import feedparser  # type: ignore[import-untyped]

from handlers.content import NewDocument
from handlers.plain import plain_text


def read_feed(source: str, body: bytes, *, address: str, content_type: str | None) -> list[NewDocument]:
    """The entries of a feed, each once; a ValueError where the bytes are no feed."""
    try:
        return list(_documents(source, _parse(body, address, content_type or "application/xml")))
    except ValueError:
        raise
    except Exception as error:  # parsers of foreign input fail in ways that they do not announce
        raise ValueError(f"the feed cannot be parsed: {type(error).__name__}: {error}") from error


def _parse(body: bytes, address: str, content_type: str) -> Any:
    headers = {"content-type": _with_charset(content_type, body)}
    if address.startswith(("http://", "https://")):
        headers["content-location"] = address  # what relative links start from
    # Always a file object: feedparser takes a plain string that looks like a path or a URL for one, and opens it.
    parsed = feedparser.parse(io.BytesIO(body), response_headers=headers)
    if not parsed.get("version") and not parsed.get("entries"):
        raise ValueError("not an RSS or Atom feed")
    return parsed


def _with_charset(content_type: str, body: bytes) -> str:
    # Servers often announce a default charset that is not the file's; bytes that read as UTF-8 are UTF-8.
    if body.isascii() or not _is_utf8(body):
        return content_type
    return content_type.partition(";")[0] + "; charset=utf-8"


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _documents(source: str, parsed: Any) -> Iterator[NewDocument]:
    seen: set[str] = set()
    for entry in parsed.entries:
        document = _document(source, entry, parsed.feed)
        if document.external_id not in seen:
            seen.add(document.external_id)
            yield document


def _document(source: str, entry: Any, about: Any) -> NewDocument:
    bodies = [part.get("value", "") for part in entry.get("content", [])]
    text = plain_text(max([*bodies, entry.get("summary", "")], key=len))
    link = entry.get("link", "")
    title = plain_text(entry.get("title", "")).replace("\n", " ") or text[:80] or link or "(untitled)"
    return NewDocument(
        source=source,
        external_id=entry.get("id") or link or _digest(title, text),
        kind="news",
        title=title,
        text=text,
        url=link,
        language=str(about.get("language", "")),
        published_at=_instant(entry.get("published_parsed") or entry.get("updated_parsed")),
        details={"feed_title": plain_text(about.get("title", "")), "author": entry.get("author", "")},
    )


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode("utf-8", "replace")).hexdigest()


def _instant(moment: time.struct_time | None) -> datetime | None:
    try:
        return datetime(*moment[:6], tzinfo=UTC) if moment else None
    except ValueError:
        return None

"""newsletter_generation: a digest of the stored documents of some days, in Markdown and HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row

from handlers.content import open_content
from handlers.period import Period, asked_period, asked_sources, documents_in

if TYPE_CHECKING:
    from runner import JobContext

EXCERPT = 280
MARKDOWN, HTML = "newsletter.md", "newsletter.html"


@dataclass(frozen=True, slots=True)
class Entry:
    """One document as the digest shows it."""

    title: str
    url: str
    day: str
    excerpt: str


@dataclass(frozen=True, slots=True)
class Section:
    """The entries of one source."""

    title: str
    entries: list[Entry]


def generate(ctx: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
    """Write `newsletter.md` and `newsletter.html` about the last `days` (7) of the documents of `source_ids` (all).

    The Markdown grows section by section while the job runs. Of each source the newest `per_source` (10) are shown.
    """
    heading, limit = _heading(payload), _limit(payload)
    sources = asked_sources(payload)
    ctx.progress(0, step="processing", message="choosing documents")
    with open_content() as engine, engine.begin() as connection:
        period = asked_period(connection, payload, sources, datetime.now(UTC))
        documents = documents_in(connection, period, sources)
    sections = _sections(documents, limit)
    ctx.log(f"{len(documents)} documents of {len(sections)} sources since {period.start:%Y-%m-%d}")
    ctx.output(MARKDOWN, "text/markdown", _markdown_head(heading, period, sections))
    for number, section in enumerate(sections):
        ctx.progress(80 * number / len(sections), step="processing", message=section.title)
        ctx.output(MARKDOWN, "text/markdown", _markdown(section), append=True)
    ctx.progress(80, step="formatting", message="HTML")
    ctx.output(HTML, "text/html", _page(heading, period, sections))
    ctx.progress(100, step="formatting", message=f"{len(documents)} documents")
    return {
        "from": period.start.isoformat(),
        "until": period.end.isoformat(),
        "documents": len(documents),
        "documents_shown": sum(len(section.entries) for section in sections),
        "sources": len(sections),
        "outputs": [MARKDOWN, HTML],
    }


def _sections(documents: Iterable[Row[Any]], limit: int) -> list[Section]:
    by_source = sorted(documents, key=lambda document: (document.source, -document.dated.timestamp(), -document.id))
    groups = [(source, list(group)) for source, group in groupby(by_source, key=lambda document: document.source)]
    return [Section(_source_title(source, group[0]), list(map(_entry, group[:limit]))) for source, group in groups]


def _source_title(source: str, document: Row[Any]) -> str:
    return document.details.get("feed_title") or source.partition(":")[2].replace("-", " ").capitalize()


def _entry(document: Row[Any]) -> Entry:
    # Links come from strangers' feeds: only the two schemes that a reader expects are made clickable.
    url = document.url if re.match(r"https?://[^\s<>\"]+\Z", document.url) else ""
    return Entry(document.title, url, f"{document.dated:%Y-%m-%d}", _excerpt(document.text))


def _excerpt(text: str) -> str:
    """The first sentences that fit."""
    flat = " ".join(text.split())
    if len(flat) <= EXCERPT:
        return flat
    cut = flat[:EXCERPT]
    end = max(cut.rfind(mark) for mark in (". ", "! ", "? "))
    return cut[: end + 1] if end > EXCERPT // 3 else cut.rpartition(" ")[0] + " …"


def _markdown_head(heading: str, period: Period, sections: Sequence[Section]) -> str:
    nothing = "" if sections else "\nNothing new in these days.\n"
    return f"# {_marked(heading)}\n\n{_days(period)}\n{nothing}"


def _markdown(section: Section) -> str:
    return f"\n## {_marked(section.title)}\n" + "".join(
        f"\n### {_marked_link(entry)}\n\n{entry.day}. {_marked(entry.excerpt)}\n" for entry in section.entries
    )


def _marked_link(entry: Entry) -> str:
    return f"[{_marked(entry.title)}](<{entry.url}>)" if entry.url else _marked(entry.title)


def _marked(text: str) -> str:
    """The text with every character escaped that Markdown or HTML would read as a mark."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&!])", r"\\\1", text)


def _page(heading: str, period: Period, sections: Sequence[Section]) -> str:
    title = html.escape(heading)
    body = "".join(map(_html, sections)) or "<p>Nothing new in these days.</p>\n"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{title}</title>\n</head>\n<body>\n<h1>{title}</h1>\n<p>{_days(period)}</p>\n{body}</body>\n</html>\n"
    )


def _html(section: Section) -> str:
    return f"<h2>{html.escape(section.title)}</h2>\n" + "".join(
        f'<h3>{_html_link(entry)}</h3>\n<p><time datetime="{entry.day}">{entry.day}</time> '
        f"{html.escape(entry.excerpt)}</p>\n"
        for entry in section.entries
    )


def _html_link(entry: Entry) -> str:
    title = html.escape(entry.title)
    return f'<a href="{html.escape(entry.url)}" rel="noopener">{title}</a>' if entry.url else title


def _days(period: Period) -> str:
    return f"{period.start:%Y-%m-%d} to {period.end:%Y-%m-%d}"


def _heading(payload: dict[str, Any]) -> str:
    heading = payload.get("title", "Digest")
    if not isinstance(heading, str) or not heading.strip():
        raise ValueError(f"payload: `title` must be a text, not {heading!r}")
    return " ".join(heading.split())


def _limit(payload: dict[str, Any]) -> int:
    value = payload.get("per_source", 10)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 100:
        raise ValueError(f"payload: `per_source` must be a whole number from 1 to 100, not {value!r}")
    return value

"""rag_sync_channel: transcripts of the followed channels, from a folder or from YouTube, as documents."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Engine

from handlers.content import Counts, Document, NewDocument, open_content, save
from handlers.places import read_capped, readable
from handlers.transcripts import READERS, Transcript, read_transcript
from handlers.youtube import WATCH, BlockedError, Video, VideoError, YouTube, new_session
from runner import Retry

if TYPE_CHECKING:
    from runner import JobContext

MAX_FILE = 20 * 1024 * 1024
BLOCKED_WAIT = timedelta(minutes=15)
_NAME = re.compile(r"[\w-][\w .-]*")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")


class NoTranscriptReadError(ValueError):
    """Nothing could be read, and trying again will not help."""


class NoTranscriptYetError(Exception):
    """Nothing could be read, and something of it may work later."""


@dataclass(frozen=True, slots=True)
class Item:
    """One video of one channel and the way to its document; None where it is stored and not asked for again."""

    channel: str
    video: str
    read: Callable[[], NewDocument] | None


@dataclass(slots=True)
class Report:
    """What became of the channels and videos."""

    counts: Counts = field(default_factory=Counts)
    skipped: int = 0
    failed: list[dict[str, str]] = field(default_factory=list)
    temporary: bool = False

    def fail(self, ctx: JobContext, what: str, error: Exception) -> None:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        self.failed.append({"transcript": what, "error": reason})
        self.temporary |= isinstance(error, VideoError) and error.temporary
        ctx.log(f"{what}: {reason}", level="warning")


def sync_channel(ctx: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
    """Store the transcripts of `channel_ids` (none named: all in the folder) and of `video_ids` (YouTube).

    With `source: folder` each channel is a sub-folder of `folder` with one file for each video; with `source: youtube`
    the newest videos of each channel are asked for, and those that are stored already are not fetched again unless
    `refresh` is true. What cannot be read is reported and the rest goes on; where nothing can, the job fails.
    """
    source = payload.get("source", "folder")
    if source not in SOURCES:
        raise ValueError(f"payload: `source` must be one of {', '.join(SOURCES)}, not {source!r}")
    channels = _names(payload, "channel_ids")
    report = Report()
    with open_content() as engine:
        items = list(SOURCES[source](ctx, engine, channels, payload, report))
        for number, item in enumerate(items):
            ctx.progress(100 * number / len(items), message=f"{item.channel}/{item.video}")
            _sync(ctx, engine, item, report)
    if report.failed and not report.counts.total and not report.skipped:
        reason = "; ".join(f"{failure['transcript']}: {failure['error']}" for failure in report.failed)[:2000]
        raise NoTranscriptYetError(reason) if report.temporary else NoTranscriptReadError(reason)
    found = list(dict.fromkeys(item.channel for item in items))
    ctx.progress(100, message=f"{report.counts.documents_added} new, {report.counts.documents_updated} changed")
    ctx.log(f"{len(items)} transcripts of {len(found)} channels: {report.counts.documents_added} new")
    return asdict(report.counts) | {
        "channels": len(found),
        "source_ids": [_source_id(source, channel) for channel in found],
        "skipped": report.skipped,
        "failed": report.failed[:200],
    }


def _sync(ctx: JobContext, engine: Engine, item: Item, report: Report) -> None:
    if item.read is None:
        report.skipped += 1
        return
    try:
        document = item.read()
    except BlockedError as error:
        raise Retry(str(error), after=BLOCKED_WAIT) from error
    except (VideoError, OSError, ValueError) as error:
        report.fail(ctx, f"{item.channel}/{item.video}", error)
        return
    with engine.begin() as connection:
        report.counts.add(save(connection, [document], datetime.now(UTC)))


def _from_folder(
    ctx: JobContext, engine: Engine, channels: list[str], payload: dict[str, Any], report: Report
) -> Iterator[Item]:
    folder = readable(payload.get("folder", "examples/transcripts"))
    languages = _languages(payload)
    for channel in channels or _folders_in(folder):
        ctx.check()
        try:
            files = _best_files(readable(str(folder / channel)), languages)
        except (OSError, ValueError) as error:
            report.fail(ctx, channel, error)
            continue
        for video, path in sorted(files.items()):
            yield Item(channel, video, partial(_read_file, channel, video, path))


def _folders_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and _NAME.fullmatch(path.name))


def _best_files(folder: Path, languages: list[str]) -> dict[str, Path]:
    """One file for each video: the language that is asked for first, then WebVTT before SRT before JSON."""
    best: dict[str, tuple[tuple[int, int, str], Path]] = {}
    for path in folder.iterdir():
        video, language = _video_and_language(path)
        if path.suffix in READERS and (not languages or not language or language in languages):
            preference = languages.index(language) if language in languages else len(languages)
            rank = (preference, list(READERS).index(path.suffix), path.name)
            best[video] = min(best.get(video, (rank, path)), (rank, path))
    return {video: path for video, (_, path) in best.items()}


def _video_and_language(path: Path) -> tuple[str, str]:
    video, _, language = path.stem.rpartition(".")
    return (video, language) if video and _LANGUAGE.fullmatch(language) else (path.stem, "")


def _read_file(channel: str, video: str, path: Path) -> NewDocument:
    transcript = read_transcript(read_capped(readable(str(path)), MAX_FILE), path.suffix)
    language = transcript.language or _video_and_language(path)[1]
    return _document("folder", channel, Video(video, transcript.title, transcript.published_at), transcript, language)


def _from_youtube(
    ctx: JobContext, engine: Engine, channels: list[str], payload: dict[str, Any], report: Report
) -> Iterator[Item]:
    youtube, languages = YouTube(new_session()), _languages(payload) or ["en"]
    videos = [("videos", Video(video)) for video in _names(payload, "video_ids")]
    for channel in channels:
        ctx.check()
        try:
            videos += [(channel, video) for video in youtube.videos(channel)]
        except VideoError as error:
            report.fail(ctx, channel, error)
    if not videos and not report.failed:
        raise ValueError("payload: `source: youtube` needs `channel_ids` or `video_ids`")
    known = set() if payload.get("refresh", False) else _stored(engine)
    for channel, video in dict.fromkeys(videos):
        if (_source_id("youtube", channel), video.id) in known:
            yield Item(channel, video.id, None)
        else:
            yield Item(channel, video.id, partial(_fetch, youtube, channel, video, languages))


def _stored(engine: Engine) -> set[tuple[str, str]]:
    documents = Document.__table__  # type: ignore[attr-defined]
    columns = documents.select().with_only_columns(documents.c.source, documents.c.external_id)
    with engine.begin() as connection:
        return {(row.source, row.external_id) for row in connection.execute(columns)}


def _fetch(youtube: YouTube, channel: str, video: Video, languages: list[str]) -> NewDocument:
    fetched = youtube.transcript(video.id, languages)
    cues = [cue.text for cue in fetched if cue.text.strip()]
    if not cues:
        raise VideoError("the transcript is empty", temporary=False)
    seconds = max(cue.start + cue.duration for cue in fetched)
    transcript = Transcript(" ".join(" ".join(cues).split()), len(cues), seconds)
    return _document("youtube", channel, video, transcript, fetched.language_code, url=WATCH + video.id)


def _document(
    source: str, channel: str, video: Video, transcript: Transcript, language: str, url: str = ""
) -> NewDocument:
    return NewDocument(
        source=_source_id(source, channel),
        external_id=video.id,
        kind="transcript",
        title=video.title or re.sub(r"[-_]+", " ", video.id).strip().capitalize(),
        text=transcript.text,
        url=url,
        language=language,
        published_at=video.published_at,
        details={"channel": channel, "cues": transcript.cues, "seconds": round(transcript.seconds, 3)},
    )


def _source_id(source: str, channel: str) -> str:
    return f"{'transcripts' if source == 'folder' else source}:{channel}"


def _names(payload: dict[str, Any], key: str) -> list[str]:
    names = payload.get(key, [])
    if not isinstance(names, list) or not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names):
        raise ValueError(f"payload: `{key}` must be a list of ids (letters, digits, dashes, dots)")
    return list(dict.fromkeys(names))


def _languages(payload: dict[str, Any]) -> list[str]:
    languages = payload.get("languages", [])
    if not isinstance(languages, list) or not all(isinstance(code, str) and code for code in languages):
        raise ValueError("payload: `languages` must be a list of codes such as en or pt-BR")
    return languages


SOURCES = {"folder": _from_folder, "youtube": _from_youtube}

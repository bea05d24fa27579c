"""WebVTT, SRT and JSON: from the bytes of a transcript file to its text."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

_TIME = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{2})[.,](\d{3})"
_TIMING = re.compile(rf"^\s*{_TIME}\s+-->\s+{_TIME}")
_HEADER = re.compile(r"(title|language|published)\s*:\s*(.+)", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>|\{\\[^{}]*\}")


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said, and what the file tells about it."""

    text: str
    cues: int
    seconds: float
    title: str = ""
    language: str = ""
    published_at: datetime | None = None


def read_transcript(data: bytes, suffix: str) -> Transcript:
    """The transcript in a file with this suffix; a ValueError where it is none."""
    return READERS[suffix](_decoded(data))


def _webvtt(text: str) -> Transcript:
    header, *blocks = _blocks(text)
    if not re.match(r"WEBVTT(?:\s|$)", header[0]):
        raise ValueError("not WebVTT: it does not begin with WEBVTT")
    told = {match[1].lower(): match[2].strip() for line in header[1:] if (match := _HEADER.match(line))}
    told.setdefault("title", header[0][6:].strip(" -"))
    return _from_blocks([block for block in blocks if not re.match(r"(?:NOTE|STYLE|REGION)\b", block[0])], told)


def _srt(text: str) -> Transcript:
    return _from_blocks(_blocks(text), {})


def _json(text: str) -> Transcript:
    try:
        data = json.loads(text)
    except RecursionError:
        raise ValueError("not a transcript: nested too deeply") from None
    told = data if isinstance(data, dict) else {}
    cues = data if isinstance(data, list) else next((data[key] for key in _CUE_KEYS if key in told), None)
    if not isinstance(cues, list) or not all(
        isinstance(cue, dict) and isinstance(cue.get("text"), str) for cue in cues
    ):
        raise ValueError("not a transcript: a list of cues with `text` is missing")
    return _transcript([([cue["text"]], _end(cue)) for cue in cues], told)


_CUE_KEYS = ("cues", "snippets", "segments")
READERS: dict[str, Callable[[str], Transcript]] = {".vtt": _webvtt, ".srt": _srt, ".json": _json}


def _from_blocks(blocks: Iterable[list[str]], told: dict[str, Any]) -> Transcript:
    cues = []
    for block in blocks:
        at = next((number for number, line in enumerate(block[:2]) if _TIMING.match(line)), None)
        if at is not None and (timing := _TIMING.match(block[at])):
            cues.append((block[at + 1 :], _seconds(timing.groups()[4:])))
    return _transcript(cues, told)


def _transcript(cues: list[tuple[list[str], float]], told: dict[str, Any]) -> Transcript:
    lines: list[str] = []
    for said, _ in cues:
        for line in map(_plain, said):
            if line and (not lines or line != lines[-1]):  # captions that roll up show each line twice
                lines.append(line)
    if not lines:
        raise ValueError("not a transcript: nobody says anything")
    return Transcript(
        text=" ".join(lines),
        cues=len(cues),
        seconds=max(end for _, end in cues),
        title=_text(told.get("title")),
        language=_text(told.get("language")),
        published_at=_instant(_text(told.get("published_at") or told.get("published"))),
    )


def _blocks(text: str) -> list[list[str]]:
    blocks = [block.splitlines() for block in re.split(r"\n(?:[ \t]*\n)+", text.strip("\n"))]
    return [block for block in blocks if block] or [[""]]


def _plain(line: str) -> str:
    return " ".join(html.unescape(_TAG.sub("", line)).split())


def _seconds(parts: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, thousandths = (int(part or 0) for part in parts)
    return hours * 3600 + minutes * 60 + seconds + thousandths / 1000


def _end(cue: dict[str, Any]) -> float:
    start, duration, end = (_number(cue.get(key)) for key in ("start", "duration", "end"))
    return end or start + duration


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e9 else 0.0


def _text(value: Any) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""


def _instant(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _decoded(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16", "replace")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("cp1252", "replace")  # what subtitle files are written in where they are not UTF-8
    return text.replace("\r\n", "\n").replace("\r", "\n")

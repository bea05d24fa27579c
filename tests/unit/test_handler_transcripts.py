"""Transcript files of every accepted format give the same text, and what is none is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from handlers.transcripts import read_transcript

VTT = """WEBVTT - A talk
Language: en
Published: 2026-05-04

NOTE nobody reads this --

STYLE
::cue { color: red }

intro
00:00:01.000 --> 00:00:02.500 align:start position:0%
<v Host>First &amp; <c.loud>second</c>

01:00:02.500 --> 01:00:04.000
First &amp; second
<01:00:03.000>third
"""
SRT = """1
00:00:01,000 --> 00:00:02,500
<i>First</i> & {\\an8}second

2
01:00:02,500 --> 01:00:04,000
third
"""
JSON = {
    "title": "A talk",
    "language": "en",
    "cues": [{"text": "First & second", "start": 1, "duration": 1.5}, {"text": "third", "end": 3604}],
}


@pytest.mark.parametrize(
    ("suffix", "data"),
    [
        (".vtt", VTT.encode()),
        (".vtt", VTT.replace("\n", "\r\n").encode("utf-8-sig")),
        (".srt", SRT.encode()),
        (".srt", SRT.replace("\n", "\r").encode("utf-16")),
        (".json", json.dumps(JSON).encode()),
        (".json", json.dumps({"segments": JSON["cues"]}).encode()),
        (".json", json.dumps(JSON["cues"]).encode()),
    ],
)
def test_formats(suffix: str, data: bytes) -> None:
    """The words come out once, without marks, whatever the format, line ends and encoding."""
    transcript = read_transcript(data, suffix)
    assert transcript.text == "First & second third"
    assert (transcript.cues, transcript.seconds) == (2, 3604.0)


def test_what_the_file_tells() -> None:
    """Title, language and date are taken from the header of WebVTT and from the keys of JSON."""
    transcript = read_transcript(VTT.encode(), ".vtt")
    assert (transcript.title, transcript.language) == ("A talk", "en")
    assert transcript.published_at == datetime(2026, 5, 4, tzinfo=UTC)
    dated = JSON | {"published_at": "2026-05-04T02:00:00+02:00"}
    assert read_transcript(json.dumps(dated).encode(), ".json").published_at == datetime(2026, 5, 4, tzinfo=UTC)


def test_old_encoding() -> None:
    """A file that is not UTF-8 is read as Windows-1252, as subtitle files are."""
    assert read_transcript(SRT.replace("third", "Grüße").encode("cp1252"), ".srt").text.endswith("Grüße")


@pytest.mark.parametrize(
    ("suffix", "data"),
    [
        (".vtt", b""),
        (".vtt", b"WEBVTT\n"),
        (".vtt", b"WEBVTTX\n\n00:01.000 --> 00:02.000\nHello\n"),
        (".vtt", SRT.encode()),
        (".srt", b"just text"),
        (".srt", b"1\n00:00:01,000 --> 00:00:02,500\n\n"),
        (".srt", b"1\n" + b"9" * 9000 + b":00:01,000 --> 00:00:02,500\nHello\n"),
        (".json", b"{"),
        (".json", b"3"),
        (".json", b"{}"),
        (".json", b'[{"start": 1}]'),
        (".json", b"[" * 100_000),
        (".json", b'{"cues": {}}'),
        (".json", b"\xff\xfe\x00"),
    ],
)
def test_no_transcript(suffix: str, data: bytes) -> None:
    """What is no transcript is a ValueError, never another error and never an empty document."""
    with pytest.raises(ValueError):
        read_transcript(data, suffix)


@pytest.mark.parametrize("number", ["1e999", "-1", "NaN", "null", '"3"', "1" * 400])
def test_odd_times(number: str) -> None:
    """Times that are no times count as nothing; the words are kept."""
    transcript = read_transcript(f'[{{"text": "Hello", "start": {number}, "end": {number}}}]'.encode(), ".json")
    assert (transcript.text, transcript.seconds) == ("Hello", 0.0)

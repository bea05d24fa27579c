"""rag_sync_channel on the examples, on odd folders and on recorded answers of YouTube."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from handlers import rag, youtube
from handlers.rag import NoTranscriptReadError, NoTranscriptYetError, sync_channel
from runner import JobCancelled, Retry
from tests.interfaces.feed_server import Answer, Exchange, FeedServer, feed_server
from tests.interfaces.recorded_youtube import RecordedYouTube
from tests.unit.handler_context import RecordingContext, as_context

SAID = b"1\n00:00:01,000 --> 00:00:02,500\nHello\n"


@pytest.fixture(autouse=True)
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "content.db"
    monkeypatch.setenv("CONTENT_DATABASE_URL", f"sqlite:///{path}")
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONTENT_FOLDERS", str(tmp_path / "transcripts"))
    (tmp_path / "transcripts/talks").mkdir(parents=True)
    return tmp_path / "transcripts"


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> RecordedYouTube:
    answers = RecordedYouTube()
    monkeypatch.setattr(rag, "new_session", answers.session)
    return answers


def sync(**payload: object) -> dict[str, Any]:
    return sync_channel(as_context(RecordingContext()), payload)


def rows(database: Path, columns: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(database)
    try:
        return connection.execute(f"SELECT {columns} FROM documents ORDER BY source, external_id").fetchall()
    finally:
        connection.close()


def test_examples(database: Path) -> None:
    """All shipped channels are stored, in every format; a second run adds nothing."""
    context = RecordingContext()
    result = sync_channel(as_context(context), {})
    assert result == {
        "documents_added": 7,
        "documents_updated": 0,
        "documents_unchanged": 0,
        "channels": 3,
        "source_ids": ["transcripts:data-in-practice", "transcripts:open-systems", "transcripts:working-notes"],
        "skipped": 0,
        "failed": [],
    }
    assert context.progressed[-1][0] == 100
    assert sync()["documents_unchanged"] == 7
    assert ("transcripts:open-systems", "reading-a-plan", "Reading a plan before you apply it", "en") in rows(
        database, "source, external_id, title, language"
    )


def test_one_channel() -> None:
    """Only the channels that the payload names are read."""
    assert sync(channel_ids=["working-notes"])["documents_added"] == 2


def test_missing_channel() -> None:
    """A channel that is not there is reported; where nothing else is read, the job fails for good."""
    result = sync(channel_ids=["none", "working-notes"])
    assert result["failed"] == [{"transcript": "none", "error": "No such file or directory"}]
    with pytest.raises(NoTranscriptReadError, match="none: No such file"):
        sync(channel_ids=["none"])


def test_bad_files(folder: Path, database: Path) -> None:
    """A broken, huge or strange file is reported and the others are stored."""
    (folder / "talks/good.srt").write_bytes(SAID)
    (folder / "talks/broken.vtt").write_bytes(b"no WebVTT")
    (folder / "talks/folder.srt").mkdir()
    (folder / "talks/huge.json").touch()
    with open(folder / "talks/huge.json", "r+b") as file:
        file.truncate(rag.MAX_FILE + 1)
    (folder / "talks/escape.srt").symlink_to("/etc/passwd")
    (folder / "talks/notes.txt").write_bytes(b"not ours")
    result = sync(folder=str(folder))
    failed = {failure["transcript"]: failure["error"] for failure in result["failed"]}
    assert set(failed) == {"talks/broken", "talks/folder", "talks/huge", "talks/escape"}
    assert "outside the folder" in failed["talks/escape"]
    assert "larger than" in failed["talks/huge"]
    assert rows(database, "external_id, text") == [("good", "Hello")]


def test_languages_and_formats(folder: Path, database: Path) -> None:
    """Of several files of one video the language asked for first is taken, then WebVTT before SRT."""
    for name, word in {"a.en.srt": "English", "a.de.srt": "Deutsch", "b.srt": "Srt", "c.fr.srt": "Français"}.items():
        (folder / f"talks/{name}").write_bytes(SAID.replace(b"Hello", word.encode()))
    (folder / "talks/b.vtt").write_bytes(b"WEBVTT\n\n00:01.000 --> 00:02.000\nVtt\n")
    sync(folder=str(folder), languages=["de", "en"])
    assert rows(database, "external_id, text, language") == [("a", "Deutsch", "de"), ("b", "Vtt", "")]


@pytest.mark.parametrize(
    "payload",
    [
        {"source": "tape"},
        {"channel_ids": ["../../etc"]},
        {"channel_ids": ["a/b"]},
        {"channel_ids": "a"},
        {"languages": [1]},
        {"folder": "/etc"},
        {"folder": "../.."},
        {"source": "youtube"},
    ],
)
def test_wrong_payload(payload: dict[str, object]) -> None:
    """A payload that names nothing readable is refused."""
    with pytest.raises(ValueError):
        sync(**payload)


def test_cancel(database: Path) -> None:
    """A cancel is seen between two transcripts, and the next run stores the rest."""

    def cancel_after_three(context: RecordingContext) -> None:
        context.cancelled = len(context.progressed) > 3

    with pytest.raises(JobCancelled):
        sync_channel(as_context(RecordingContext(cancel_after_three)), {})
    assert 0 < len(rows(database, "id")) < 7
    sync()
    assert len(rows(database, "id")) == 7


def test_youtube_channel(recorded: RecordedYouTube, database: Path) -> None:
    """The newest videos of a channel are stored with title, date, text and language, and not fetched again."""
    recorded.channels["UC1"] = [("aaa", "Queues & leases"), ("bbb", "Second")]
    recorded.add("aaa", en=["First &", "second <b>line</b>"], de=["Erste"])
    recorded.add("bbb", en_asr=["generated words"])
    result = sync(source="youtube", channel_ids=["UC1"])
    assert (result["documents_added"], result["failed"], result["source_ids"]) == (2, [], ["youtube:UC1"])
    assert rows(database, "external_id, title, text, language, url") == [
        ("aaa", "Queues & leases", "First & second line", "en", "https://www.youtube.com/watch?v=aaa"),
        ("bbb", "Second", "generated words", "en", "https://www.youtube.com/watch?v=bbb"),
    ]
    recorded.calls.clear()
    again = sync(source="youtube", channel_ids=["UC1"])
    assert (again["skipped"], again["documents_unchanged"]) == (2, 0)
    assert recorded.calls == ["/feeds/videos.xml?channel_id=UC1"]
    assert sync(source="youtube", channel_ids=["UC1"], refresh=True)["documents_unchanged"] == 2


def test_youtube_videos_and_languages(recorded: RecordedYouTube, database: Path) -> None:
    """Single videos can be named, and the languages are tried in their order."""
    recorded.add("aaa", en=["English"], de=["Deutsch"])
    sync(source="youtube", video_ids=["aaa"], languages=["fr", "de", "en"])
    assert rows(database, "source, text, language") == [("youtube:videos", "Deutsch", "de")]


@pytest.mark.parametrize(
    ("video", "error"),
    [
        ({"tracks": {}}, "TranscriptsDisabled"),
        ({"tracks": {"fr": ["Bonjour"]}}, "NoTranscriptFound"),
        (
            {"playability": {"status": "LOGIN_REQUIRED", "reason": "This video may be inappropriate for some users."}},
            "AgeRestricted",
        ),
        ({"playability": {"status": "UNPLAYABLE", "reason": "Members only"}}, "VideoUnplayable"),
        (None, "VideoUnavailable"),
        ({"tracks": {"en": [" "]}}, "the transcript is empty"),
    ],
)
def test_youtube_video_without_transcript(
    recorded: RecordedYouTube, video: dict[str, object] | None, error: str, database: Path
) -> None:
    """A video without a transcript is reported with its reason, and the others are stored; alone it fails for good."""
    recorded.add("good", en=["Hello"])
    if video is not None:
        recorded.videos["bad"] = video
    result = sync(source="youtube", video_ids=["bad", "good"])
    (failure,) = result["failed"]
    assert failure["transcript"] == "videos/bad"
    assert failure["error"].startswith(error)
    assert "\n" not in failure["error"]
    assert rows(database, "external_id") == [("good",)]
    with pytest.raises(NoTranscriptReadError):
        sync(source="youtube", video_ids=["bad"])


def test_youtube_unreadable_answers(recorded: RecordedYouTube) -> None:
    """An answer that the library cannot read may be another one tomorrow: the job fails and is retried."""
    recorded.add("aaa", en=["Hello"])
    recorded.videos["aaa"]["raw"] = "<transcript>"
    with pytest.raises(NoTranscriptYetError, match="cannot be read"):
        sync(source="youtube", video_ids=["aaa"])
    recorded.page = "<html></html>"
    with pytest.raises(NoTranscriptYetError, match="YouTubeDataUnparsable"):
        sync(source="youtube", video_ids=["aaa"])


@pytest.mark.parametrize(
    ("path", "status"), [("/watch", 500), ("/youtubei/v1/player", 503), ("/feeds/videos.xml", 500)]
)
def test_youtube_down(recorded: RecordedYouTube, path: str, status: int) -> None:
    """A server error is worth a retry; a channel that does not exist is not."""
    recorded.channels["UC1"] = [("aaa", "Title")]
    recorded.status[path] = status
    with pytest.raises(NoTranscriptYetError):
        sync(source="youtube", channel_ids=["UC1"])
    recorded.status = {"/feeds/videos.xml": 404}
    with pytest.raises(NoTranscriptReadError, match="404"):
        sync(source="youtube", channel_ids=["UC1"])


@pytest.mark.parametrize("how", ["429", "captcha", "bot"])
def test_youtube_blocks(recorded: RecordedYouTube, how: str, database: Path) -> None:
    """Where YouTube refuses this address, no further video is asked for, what is stored stays, and the retry waits."""
    recorded.add("first", en=["Hello"])
    sync(source="youtube", video_ids=["first"])
    if how == "429":
        recorded.status["/watch"] = 429
    elif how == "captcha":
        recorded.page = '<form class="g-recaptcha">'
    else:
        recorded.videos["second"] = {
            "playability": {"status": "LOGIN_REQUIRED", "reason": "Sign in to confirm you’re not a bot"}
        }
    recorded.calls.clear()
    with pytest.raises(Retry) as caught:
        sync(source="youtube", video_ids=["first", "second", "third"])
    assert caught.value.after == timedelta(minutes=15)
    assert len([call for call in recorded.calls if call.startswith("/watch")]) == 1
    assert rows(database, "external_id") == [("first",)]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FeedServer]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with feed_server() as running:
        yield running


def drip(exchange: Exchange) -> None:
    exchange.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while not exchange.server.over.wait(0.02):
        exchange.wfile.write(b"x")


def flood(exchange: Exchange) -> None:
    exchange.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while not exchange.server.over.is_set():
        exchange.wfile.write(b"x" * 65_536)


@pytest.mark.parametrize("answer", [drip, flood, Exchange.wait])
def test_session_bounds(server: FeedServer, answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session that real jobs use gives up on answers that are slow, endless or never come."""
    monkeypatch.setattr(youtube, "SECONDS", 0.5)
    with youtube.new_session() as session, pytest.raises(requests.RequestException):
        session.get(server.on("/bad", answer))


def test_session_works(server: FeedServer) -> None:
    """The session that real jobs use follows redirects, keeps cookies, and gives text and JSON as requests does."""

    def redirect(exchange: Exchange) -> None:
        exchange.reply(302, b"gone", Location="/end", Set_Cookie="seen=1")

    server.on("/end", lambda exchange: exchange.reply(200, b'{"a": 1}', Content_Type="application/json"))
    with youtube.new_session() as session:
        answer = session.get(server.on("/start", redirect))
        assert answer.json() == {"a": 1}
    assert server.requests[-1][1]["cookie"] == "seen=1"

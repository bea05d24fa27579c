"""YouTube: the newest videos of a channel, and the transcript of a video, through `youtube-transcript-api`."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse
from youtube_transcript_api import (
    CouldNotRetrieveTranscript,
    FetchedTranscript,
    RequestBlocked,
    YouTubeDataUnparsable,
    YouTubeRequestFailed,
    YouTubeTranscriptApi,
)

from handlers.feeds import read_feed

CHANNEL_FEED = "https://www.youtube.com/feeds/videos.xml"
WATCH = "https://www.youtube.com/watch?v="
SECONDS = 20.0
MAX_BYTES = 10 * 1024 * 1024


class VideoError(Exception):
    """One video or channel could not be read. `temporary` is True where it may work later."""

    def __init__(self, message: str, *, temporary: bool) -> None:
        super().__init__(message)
        self.temporary = temporary


class BlockedError(Exception):
    """YouTube refuses this machine for now; going on would make it worse."""


@dataclass(frozen=True, slots=True)
class Video:
    """A video as a channel's feed lists it; only the id is sure."""

    id: str
    title: str = ""
    published_at: datetime | None = None


class BoundedAdapter(HTTPAdapter):
    """Reads each answer, also those that redirect, within `SECONDS` and `MAX_BYTES`."""

    def send(self, request: requests.PreparedRequest, *_: Any, **options: Any) -> requests.Response:
        """As in requests, with the body read here, under the limits."""
        ends = time.monotonic() + SECONDS
        response = super().send(request, **(options | {"timeout": SECONDS / 2, "stream": True}))
        body = bytearray()
        # One `read1` is one read of the socket. Reading a fixed number of bytes would wait for all of them, and a
        # server that drips them would never meet the time limit between two reads.
        while piece := response.raw.read1(65_536, decode_content=True):
            body += piece
            if len(body) > MAX_BYTES or time.monotonic() > ends:
                response.close()
                raise requests.exceptions.ReadTimeout(f"the answer is too long or too slow: {request.url}")
        answer = getattr(response.raw, "_original_response", None)  # where requests looks for cookies
        response.raw = HTTPResponse(io.BytesIO(bytes(body)), preload_content=False, original_response=answer)
        return response


class YouTube:
    """Reads channels and transcripts over one session, which is not to be shared between threads."""

    def __init__(self, session: requests.Session) -> None:
        self._session = session
        self._api = YouTubeTranscriptApi(http_client=session)

    def videos(self, channel_id: str) -> list[Video]:
        """The newest videos of a channel: the fifteen or so that its public feed lists."""
        try:
            answer = self._session.get(CHANNEL_FEED, params={"channel_id": channel_id})
            answer.raise_for_status()
        except requests.RequestException as error:
            raise VideoError(str(error), temporary=_is_temporary(error)) from error
        try:
            entries = read_feed(channel_id, answer.content, address=CHANNEL_FEED, content_type="application/atom+xml")
        except ValueError as error:
            raise VideoError(str(error), temporary=True) from error
        return [Video(entry.external_id.rpartition(":")[2], entry.title, entry.published_at) for entry in entries]

    def transcript(self, video_id: str, languages: Sequence[str]) -> FetchedTranscript:
        """What was said, in the first of these languages that there is; written captions before generated ones."""
        try:
            return self._api.fetch(video_id, languages=languages)
        except RequestBlocked as error:
            raise BlockedError(f"YouTube refuses requests from this address ({type(error).__name__})") from error
        except CouldNotRetrieveTranscript as error:
            temporary = isinstance(error, YouTubeRequestFailed | YouTubeDataUnparsable)
            raise VideoError(_first_sentence(error), temporary=temporary) from error
        except requests.RequestException as error:
            raise VideoError(str(error), temporary=True) from error
        except Exception as error:  # the library reads answers that nobody promises, and lets every surprise through
            raise VideoError(f"YouTube's answer cannot be read: {error!r}", temporary=True) from error


def new_session() -> requests.Session:
    """The session that a job uses; tests put one with recorded answers in its place."""
    session = requests.Session()
    session.mount("https://", BoundedAdapter())
    session.mount("http://", BoundedAdapter())
    return session


def _is_temporary(error: requests.RequestException) -> bool:
    return error.response is None or error.response.status_code == 429 or error.response.status_code >= 500


def _first_sentence(error: CouldNotRetrieveTranscript) -> str:
    cause = re.split(r"(?<=[.!])\s|\n", str(error.cause).strip(), maxsplit=1)[0]
    return f"{type(error).__name__}: {cause}"

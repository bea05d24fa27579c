"""YouTube's answers as files would hold them, served to the real client library through a session's adapter.

Written by hand after the shapes that the library reads: a watch page with a key, the player's answer with its caption
tracks, timed text, and the feed of a channel.
"""

from __future__ import annotations

import io
import json
from html import escape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests
from requests.adapters import BaseAdapter

PAGE = '<html><script>ytcfg.set({"INNERTUBE_API_KEY": "recorded_key-1"});</script></html>'


class RecordedYouTube(BaseAdapter):
    """Answers as `videos` and `channels` say; `calls` keeps what was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.videos: dict[str, dict[str, Any]] = {}
        self.channels: dict[str, list[tuple[str, str]]] = {}
        self.calls: list[str] = []
        self.status: dict[str, int] = {}
        self.page = PAGE

    def session(self) -> requests.Session:
        session = requests.Session()
        session.mount("https://", self)
        return session

    def add(self, video: str, **tracks: list[str]) -> None:
        """A playable video with one written track for each language, or generated where it ends in `_asr`."""
        self.videos[video] = {"tracks": tracks}

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        parts = urlsplit(str(request.url))
        self.calls.append(f"{parts.path}?{parts.query}")
        if parts.path in self.status:
            return self._answer(request, "", self.status[parts.path])
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        return self._answer(request, self._body(request, parts.path, query), 200)

    def close(self) -> None:
        pass

    def _body(self, request: requests.PreparedRequest, path: str, query: dict[str, str]) -> str:
        match path:
            case "/watch":
                return self.page
            case "/youtubei/v1/player":
                assert query["key"] == "recorded_key-1"
                return json.dumps(self._player(self._asked(request)))
            case "/api/timedtext":
                return self._timed_text(query["v"], query["track"])
            case "/feeds/videos.xml":
                return self._feed(query["channel_id"])
        raise AssertionError(path)

    def _asked(self, request: requests.PreparedRequest) -> str:
        assert isinstance(request.body, bytes)
        return str(json.loads(request.body)["videoId"])

    def _player(self, video: str) -> dict[str, Any]:
        known = self.videos.get(video)
        if known is None:
            return {"playabilityStatus": {"status": "ERROR", "reason": "This video is unavailable"}}
        if "playability" in known:
            return {"playabilityStatus": known["playability"]}
        if not known["tracks"]:
            return {"playabilityStatus": {"status": "OK"}, "captions": {}}
        tracks = [self._track(video, name) for name in known["tracks"]]
        return {
            "playabilityStatus": {"status": "OK"},
            "captions": {"playerCaptionsTracklistRenderer": {"captionTracks": tracks, "translationLanguages": []}},
        }

    def _track(self, video: str, name: str) -> dict[str, Any]:
        language, _, generated = name.partition("_")
        track = {
            "baseUrl": f"https://www.youtube.com/api/timedtext?v={video}&track={name}&fmt=srv3",
            "name": {"runs": [{"text": language}]},
            "languageCode": language,
            "isTranslatable": False,
        }
        return track | ({"kind": "asr"} if generated else {})

    def _timed_text(self, video: str, track: str) -> str:
        lines = self.videos[video]["tracks"][track]
        rows = [f'<text start="{at * 2}.5" dur="2.0">{escape(escape(line))}</text>' for at, line in enumerate(lines)]
        return (
            self.videos[video].get("raw")
            or f'<?xml version="1.0" encoding="utf-8" ?><transcript>{"".join(rows)}</transcript>'
        )

    def _feed(self, channel: str) -> str:
        entries = "".join(
            f"<entry><id>yt:video:{video}</id><yt:videoId>{video}</yt:videoId><title>{escape(title)}</title>"
            f'<link rel="alternate" href="https://www.youtube.com/watch?v={video}"/>'
            "<published>2026-05-04T08:00:00+00:00</published></entry>"
            for video, title in self.channels[channel]
        )
        return (
            '<?xml version="1.0" encoding="UTF-8"?><feed xmlns:yt="http://www.youtube.com/xml/schemas/2015" '
            f'xmlns="http://www.w3.org/2005/Atom"><title>A channel</title>{entries}</feed>'
        )

    def _answer(self, request: requests.PreparedRequest, body: str, status: int) -> requests.Response:
        response = requests.Response()
        response.status_code = status
        response.url = str(request.url)
        response.request = request
        response.encoding = "utf-8"
        response.raw = io.BytesIO(body.encode())
        return response

"""Requests to one server: sent again where that is harmless, waited with where it says so, never led elsewhere."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode

import urllib3
from urllib3.exceptions import HTTPError

from runner.client.address import Address
from runner.client.faults import Away, sent_away, unanswered
from runner.client.refusals import error_of
from runner.client.routes import pool
from runner.domain.access import INTERFACE, INTERFACE_HEADER
from runner.domain.errors import RunnerError, ServerUnreachable

CONNECT = 10.0  # seconds
PAUSES = (0.2, 0.6, 1.2)  # seconds before the second, third and fourth try
MOST_WAITED = 120.0  # seconds in all, where the server says to wait
LONGEST_WAIT = 60.0
LONGEST_PAUSE = 5.0  # where it is not known whether it will ever answer
SILENCE = 45.0  # seconds without a word on a stream, which says something every 15
OFF = timedelta(seconds=2)  # a clock that is closer to ours is ours: the header knows whole seconds only
STREAM = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    data: Any
    headers: Mapping[str, str]


class Wire:
    """`tell` is for who waits."""

    def __init__(
        self, address: Address, *, ca_file: str | None, timeout: timedelta, tell: Callable[[str], None]
    ) -> None:
        self.place = address.url
        self.offset = timedelta(0)  # to our clock, for theirs
        self._tell = tell
        self._timeout = timeout.total_seconds()
        self._pool = pool(address, ca_file)
        self._headers = {"Accept": "application/json", "User-Agent": "runner"}
        if address.token is not None:
            self._headers["Authorization"] = f"Bearer {address.token}"

    def get(self, path: str, **params: object) -> Any:
        return self.ask("GET", path, params).data

    def post(self, path: str, body: Mapping[str, Any] | None = None, **headers: str) -> Answer:
        return self.ask("POST", path, body=body, headers={name.replace("_", "-"): headers[name] for name in headers})

    def ask(
        self, method: str, path: str, params: Mapping[str, object] | None = None, *,
        body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None,
    ) -> Answer:  # fmt: skip
        """A lost request is sent again where it can be done twice, or cannot have arrived."""
        target = f"{path}?{_query(params)}" if params else path
        is_harmless = method == "GET" or "Idempotency-Key" in (headers or {})
        pauses, waited = list(PAUSES), 0.0
        while True:
            try:
                return self._once(method, target, body, headers or {})
            except Away as away:
                if away.asks_to_wait and waited + away.wait <= MOST_WAITED and away.wait <= LONGEST_WAIT:
                    waited += away.wait
                    self._tell(f"{away.message}; waiting {away.wait:g} s")
                    time.sleep(away.wait)
                elif pauses and not away.asks_to_wait and (is_harmless or away.is_unsent):
                    time.sleep(max(pauses.pop(0), min(away.wait, LONGEST_PAUSE)))
                else:
                    raise away.told(is_harmless or away.is_unsent) from None

    def _once(self, method: str, target: str, body: Mapping[str, Any] | None, headers: Mapping[str, str]) -> Answer:
        raw = None if body is None else json.dumps(body).encode()
        kind = {} if body is None else {"Content-Type": "application/json"}
        timeout = urllib3.Timeout(connect=CONNECT, read=self._timeout)
        response = self._send(method, target, raw, {**headers, **kind}, timeout, preload=True)
        return Answer(response.status, self._data(response), response.headers)

    def stream(self, path: str, params: Mapping[str, object]) -> urllib3.BaseHTTPResponse:
        """One try. Close what comes."""
        timeout = urllib3.Timeout(connect=CONNECT, read=SILENCE)
        target = f"{path}?{_query(params)}"
        response = self._send("GET", target, None, {"Accept": STREAM}, timeout, preload=False)
        if not response.headers.get("Content-Type", "").startswith(STREAM):
            response.close()
            raise self._foreign(response)
        return response

    def _send(
        self, method: str, target: str, body: bytes | None, headers: Mapping[str, str], timeout: urllib3.Timeout, *,
        preload: bool,
    ) -> urllib3.BaseHTTPResponse:  # fmt: skip
        try:
            response = self._pool.request(
                method, self.place + target, body=body, headers=self._headers | dict(headers), timeout=timeout,
                retries=False, redirect=False, preload_content=preload,
            )  # fmt: skip
        except HTTPError as error:
            raise unanswered(error, self.place, self._timeout) from None
        try:
            self._check(response)
        except RunnerError:
            if not preload:
                response.close()
            raise
        return response

    def _check(self, response: urllib3.BaseHTTPResponse) -> None:
        """Whether it is a good answer of a runner server."""
        found, status = response.headers.get(INTERFACE_HEADER), response.status
        said = self._said(response) if found == INTERFACE and status >= 400 else None
        away = sent_away(status, response.reason, response.headers, self.place, said)
        if away is not None:
            raise away
        if found is None:
            raise self._foreign(response)
        if found != INTERFACE:
            raise ServerUnreachable(
                f"{self.place} speaks version {found} of the interface, this command version {INTERFACE}",
                "install the release that the server has",
            )
        self._set_clock(response.headers.get("Date"))
        if said is not None:
            raise said

    def _said(self, response: urllib3.BaseHTTPResponse) -> RunnerError:
        body = self._data(response)
        return error_of(response.status, body if isinstance(body, dict) else {}, self.place)

    def _data(self, response: urllib3.BaseHTTPResponse) -> Any:
        try:
            return json.loads(response.data.decode("utf-8", "surrogatepass"))
        except HTTPError as error:
            raise unanswered(error, self.place, self._timeout) from None
        except ValueError:
            raise self._foreign(response) from None

    def _foreign(self, response: urllib3.BaseHTTPResponse) -> ServerUnreachable:
        kind = response.headers.get("Content-Type", "nothing known").partition(";")[0]
        return ServerUnreachable(
            f"{self.place} does not answer as a runner server does: {response.status}, {kind}",
            "check the address, with the prefix of its reverse proxy, and that the server is of this release",
        )

    def _set_clock(self, told: str | None) -> None:
        try:
            theirs = parsedate_to_datetime(told or "") + timedelta(seconds=0.5)
        except ValueError:
            return
        offset = theirs - datetime.now(UTC)
        self.offset = offset if abs(offset) > OFF else timedelta(0)

    def now(self) -> datetime:
        """The time of the server, as its last answer told it."""
        return datetime.now(UTC) + self.offset

    def close(self) -> None:
        self._pool.clear()


def _query(params: Mapping[str, object]) -> str:
    return urlencode([pair for name, value in params.items() for pair in _pairs(name, value)])


def _pairs(name: str, value: object) -> Iterable[tuple[str, object]]:
    match value:
        case None:
            return ()
        case bool():
            return ((name, str(value).lower()),)
        case datetime():
            return ((name, value.isoformat()),)
        case tuple() | list():
            return ((name, one) for one in value)
    return ((name, value),)

"""A connection: who opens one and does not ask, or begins to and does not end, is not waited for, nor remembered."""

from __future__ import annotations

import asyncio

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

WHOLE_HEAD = 20.0  # seconds from the connection, or from the first byte, until the head of a request is there
LONGEST_HEAD = 64 * 1024  # bytes; of the lines after a body in pieces, too
VERSIONS = ("1.0", "1.1")
MALFORMED = "Invalid HTTP request received."


class Protocol(HttpToolsProtocol):
    """Between two requests of a connection uvicorn's own limit holds."""

    _late: asyncio.TimerHandle | None = None
    _unused = 0  # bytes of which nothing whole has come yet
    _is_headed = False  # what comes now follows a head

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._late = self.loop.call_later(WHOLE_HEAD, transport.close)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._unused += len(data)
        try:
            self._read(data)
            if self._unused > LONGEST_HEAD:
                raise HttpParserError(f"over {LONGEST_HEAD} bytes, and nothing whole")
        except HttpParserError:
            self.send_400_response(MALFORMED)
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self._forgive()
        elif self._late is None:
            self._late = self.loop.call_later(WHOLE_HEAD, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forgive()
        super().connection_lost(exc)

    def _forgive(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _read(self, data: bytes) -> None:
        """An offer to speak another protocol is not taken: the request is read as if there had been none.

        The parser leaves its body unread, and there are clients who make the offer with every first request.
        """
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as offer:
            lines = [b"%b: %b\r\n" % (name, value) for name, value in self.headers if name != b"upgrade"]
            head = b"%b %b HTTP/1.1\r\n%b\r\n" % (self.parser.get_method(), self.url, b"".join(lines))
            self.parser = HttpRequestParser(self)
            self._read(head + data[offer.args[0] :])

    # ---- what the parser calls

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_headed = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._is_headed:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        version, method = self.parser.get_http_version(), self.parser.get_method()
        hosts = sum(name == b"host" for name, _ in self.headers)
        if version not in VERSIONS or hosts > 1 or (hosts == 0 and version == "1.1") or method == b"CONNECT":
            raise HttpParserError(MALFORMED)
        if self.parser.should_upgrade():
            return
        super().on_headers_complete()
        if not self.url.startswith(b"/"):  # of another server, as a proxy is asked
            self.scope["path"] = self.root_path + self.url.decode("ascii")
        self._is_headed, self._unused = True, 0

    def on_body(self, body: bytes) -> None:
        self._unused = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            self._unused = 0
            super().on_message_complete()

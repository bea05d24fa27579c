"""A network between a worker and its PostgreSQL that can be cut: a TCP proxy before the server's socket."""

from __future__ import annotations

import os
import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path

CHUNK = 65_536
RESET = struct.pack("ii", 1, 0)  # to linger for no time: a close is a reset, as from a router that has forgotten us


class Proxy:
    """`cut` lets no byte through and closes nothing, until `mend`; `drop` resets every connection that there is.

    With `swallows`, messages of the server that begin with this letter are lost, as a pooler loses notifications (A).
    """

    def __init__(self, server: Path, swallows: bytes = b"") -> None:
        self._server = server
        self._swallows = swallows
        self._open = threading.Event()
        self._open.set()
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self.held = self.swallowed = 0  # pieces that came while it was cut, and messages that were lost
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._start(self._accept)

    def url(self, database: str = "postgres") -> str:
        """Without the greetings that are no messages of the protocol."""
        host, port = self._listener.getsockname()
        return f"postgresql://postgres@{host}:{port}/{database}?sslmode=disable&gssencmode=disable"

    def cut(self) -> None:
        self._open.clear()

    def mend(self) -> None:
        self._open.set()

    def drop(self) -> int:
        """Returns how many there were."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _reset(*pair)
        return len(pairs)

    def close(self) -> None:
        self.mend()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # who waits for the next connection wakes
        self._listener.close()
        self.drop()

    def _start(self, work: object, *arguments: object) -> None:
        threading.Thread(target=work, args=arguments, daemon=True).start()  # type: ignore[arg-type]

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(os.fspath(self._server))
            except OSError:  # it is down
                _reset(client, server)
                continue
            with self._lock:
                self._pairs.append((client, server))
            self._start(self._forward, client, server, b"")
            self._start(self._forward, server, client, self._swallows)

    def _forward(self, source: socket.socket, target: socket.socket, swallows: bytes) -> None:
        rest = b""
        with suppress(OSError):
            while piece := source.recv(CHUNK):
                self.held += not self._open.is_set()
                self._open.wait()
                if swallows:
                    piece, rest = self._without(swallows, rest + piece)
                target.sendall(piece)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _without(self, letter: bytes, stream: bytes) -> tuple[bytes, bytes]:
        """Whole messages but for those, and the beginning of one that has not come as a whole."""
        kept = b""
        while len(stream) >= 5:
            length = 1 + struct.unpack("!I", stream[1:5])[0]
            if len(stream) < length:
                break
            if stream[:1] == letter:
                self.swallowed += 1
            else:
                kept += stream[:length]
            stream = stream[length:]
        return kept, stream


def _reset(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            if end.family == socket.AF_INET:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            end.shutdown(socket.SHUT_RD)  # who reads from it wakes
        end.close()

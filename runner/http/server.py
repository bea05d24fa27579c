"""uvicorn in a thread of its own, with its own loop: bound before anything else starts, stopped after the rest."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

import uvicorn
from starlette.types import ASGIApp

from runner.domain.errors import RunnerError
from runner.http.processor import Processor
from runner.http.protocol import Protocol

LAST_WORDS = 2  # seconds in which answers that are on their way may end
JOIN = 5.0
STARTING = 30.0


class Server:
    """Serves an application on a socket that is bound already, from `start` to `close`.

    What `proxies` say of the address and the scheme of a client counts; of nobody else.
    """

    def __init__(self, app: ASGIApp, bound: socket.socket, root_path: str = "", proxies: Sequence[str] = ()) -> None:
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", ws="none", server_header=False, root_path=root_path,
            timeout_graceful_shutdown=LAST_WORDS, timeout_keep_alive=75, loop="uvloop", http=Protocol,
            proxy_headers=bool(proxies), forwarded_allow_ips=list(proxies),
        )  # fmt: skip
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # its start and end are told by ours
        self._server = uvicorn.Server(config)
        self._bound = bound
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)

    def start(self) -> None:
        """Returns when it answers."""
        self._thread.start()
        waited, deadline = threading.Event(), time.monotonic() + STARTING
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                reason = self._failure or f"it did not begin within {STARTING:g} s"
                raise RunnerError(f"HTTP could not be served: {reason}")
            waited.wait(0.005)

    def close(self) -> None:
        """What is being answered may end; what does not is cut off."""
        self._server.should_exit = True
        self._thread.join(LAST_WORDS + JOIN)
        with suppress(OSError):
            self._bound.close()

    def _serve(self) -> None:
        processor = Processor()
        processor.start()
        try:
            self._server.run(sockets=[self._bound])
        except SystemExit as error:  # what uvicorn raises where it cannot start
            self._failure = error
        finally:
            processor.close()

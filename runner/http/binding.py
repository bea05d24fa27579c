"""The address that is served on: taken first, so that one that is taken is told before anything starts."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from runner.domain.errors import UsageError

BACKLOG = 2048


class AddressTaken(UsageError):
    """Somebody else listens there."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A socket that listens, and where."""

    socket: socket.socket
    host: str

    @property
    def port(self) -> int:
        port: int = self.socket.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{shown}:{self.port}"

    def close(self) -> None:
        self.socket.close()


def bind(host: str, port: int) -> Bound:
    """Port 0: any that is free."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise UsageError(f"{host} is no address of this machine: {error.strerror}", "--host 127.0.0.1") from None
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        remedy = "--port N names another, --port 0 takes any that is free, --no-http serves none"
        raise AddressTaken(f"HTTP cannot be served on {host}:{port}: {error.strerror}", remedy) from None
    made.set_inheritable(False)
    return Bound(made, host)

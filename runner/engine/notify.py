"""Tells systemd how the service is (sd_notify(3)): `Type=notify`, `WatchdogSec=`."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from runner.telemetry import Event, ServiceStarted, StopRequested

HALF = 0.5  # of the watchdog's time: how often it is told, as sd_watchdog_enabled(3) advises


@dataclass(frozen=True, slots=True)
class Notify:
    """A subscriber, silent where no manager listens. `every` is seconds between two signs of life; None: not wanted."""

    address: str | None = None
    every: float | None = None

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Notify:
        address = environ.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            return cls()
        usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", str(os.getpid()))
        is_watched = usec.isdecimal() and int(usec) > 0 and pid == str(os.getpid())
        return cls(address, int(usec) / 1_000_000 * HALF if is_watched else None)

    def tell(self, event: Event) -> None:
        match event:
            case ServiceStarted(revision=revision, schedules=schedules, concurrency=concurrency):
                said = f"started with revision {revision}, {schedules} schedules, concurrency {concurrency}"
                self._say(f"READY=1\nSTATUS={said}")
            case StopRequested(reason=reason):
                self._say(f"STOPPING=1\nSTATUS=stopping: {reason}")
            case _:
                pass

    def alive(self) -> None:
        self._say("WATCHDOG=1")

    def _say(self, state: str) -> None:
        if self.address is None:
            return
        place = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            sender.sendto(state.encode(), place)

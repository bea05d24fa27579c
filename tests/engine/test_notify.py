"""What systemd is told, by a real socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runner.engine.notify import Notify
from runner.telemetry import ServiceStarted, StopRequested

STARTED = ServiceStarted("0", "sqlite:///x.db", 3, 2, 5)


@contextmanager
def manager(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind("\0" + address[1:] if address.startswith("@") else address)
        ear.settimeout(10)
        yield ear


@pytest.mark.parametrize("kind", ["file", "abstract"])
def test_the_manager_is_told(tmp_path: Path, kind: str) -> None:
    """Ready, alive, stopping: to the socket that it named, also where that has no file."""
    address = str(tmp_path / "s") if kind == "file" else f"@runner-test-{os.getpid()}"
    notify = Notify.of({"NOTIFY_SOCKET": address})
    with manager(address) as ear:
        notify.tell(STARTED)
        notify.alive()
        notify.tell(StopRequested("SIGTERM"))
        assert [ear.recv(100) for _ in range(3)] == [
            b"READY=1\nSTATUS=started with revision 3, 5 schedules, concurrency 2",
            b"WATCHDOG=1",
            b"STOPPING=1\nSTATUS=stopping: SIGTERM",
        ]


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_without_a_manager_nothing_is_said(environ: dict[str, str]) -> None:
    """Also where its kind of socket is none that we know."""
    notify = Notify.of(environ)
    notify.tell(STARTED)
    assert (notify.address, notify.every) == (None, None)


def test_a_manager_that_is_gone_holds_nothing_up(tmp_path: Path) -> None:
    """No socket there: no error."""
    Notify.of({"NOTIFY_SOCKET": str(tmp_path / "gone")}).alive()


@pytest.mark.parametrize(
    ("environ", "every"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_told_twice_in_its_time(environ: dict[str, str], every: float | None) -> None:
    """Only where it was meant for this process."""
    assert Notify.of({"NOTIFY_SOCKET": "/run/x", **environ}).every == every

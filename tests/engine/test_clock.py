"""The clock: waits that end when somebody rings, and a simulated one that jumps over idle time."""

from __future__ import annotations

import signal
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from runner.domain.errors import DatabaseUnavailable
from runner.engine.heartbeat import Pulse
from runner.engine.loop import Clock, SimulatedClock
from tests.waiting import eventually

LONG = 30.0


def test_a_ring_before_the_wait_ends_it() -> None:
    """A ring is not lost where nobody waits yet; it ends one wait."""
    clock = Clock()
    clock.wake()
    clock.wake()
    began = time.monotonic()
    clock.wait(LONG)
    assert time.monotonic() - began < LONG / 2

    began = time.monotonic()
    clock.wait(0.02)
    assert time.monotonic() - began >= 0.02


def test_a_ring_from_another_thread_ends_the_wait() -> None:
    """`wake` is safe from any thread."""
    clock = Clock()
    ended = threading.Event()

    def wait() -> None:
        clock.wait(LONG)
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    clock.wake()
    assert ended.wait(LONG / 2)


def test_a_signal_handler_may_ring_its_own_waiting_thread() -> None:
    """A signal that comes in the middle of a wait, or of a ring, neither deadlocks nor is lost."""
    clock = Clock()
    before = signal.signal(signal.SIGALRM, lambda *_: clock.wake())
    try:
        for delay in (0.001, 0.01, 0.05):
            signal.setitimer(signal.ITIMER_REAL, delay)
            began = time.monotonic()
            clock.wait(LONG)
            assert time.monotonic() - began < LONG / 2
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        for _ in range(20_000):
            clock.wake()
            clock.wait(LONG)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("seconds", [-5.0, 0.0])
def test_a_wait_that_is_over_returns(seconds: float) -> None:
    """A moment that has passed is not waited for."""
    Clock().wait(seconds)


def test_a_wait_may_be_longer_than_any_timer() -> None:
    """A retry in a hundred years is no error of the platform's timers."""
    clock = Clock()
    clock.wake()
    clock.wait(3e9)
    clock.wake()
    clock.idle(3e11)


def test_a_simulated_clock_jumps_over_idle_waits() -> None:
    """`--now T` starts at T, goes on at the usual pace and jumps over waits."""
    start = datetime(2020, 1, 1, tzinfo=UTC)
    clock = SimulatedClock(start)
    began = time.monotonic()
    clock.idle(3600)
    clock.idle(-1)

    assert timedelta(hours=1) <= clock.now() - start < timedelta(hours=1, seconds=LONG)
    assert time.monotonic() - began < LONG
    clock.wait(0.02)
    assert clock.now() - start >= timedelta(hours=1, seconds=0.02)


def test_a_pulse_beats_rings_and_survives_errors() -> None:
    """After an error the next beat tries again; `ring` does not wait for the interval; `close` ends the thread."""
    beats: list[int] = []

    def beat() -> None:
        beats.append(1)
        if len(beats) == 1:
            raise DatabaseUnavailable("locked")

    pulse = Pulse(beat, LONG, "pulse")
    pulse.start()
    assert beats == []
    pulse.ring()
    eventually(lambda: len(beats) == 1)
    pulse.ring()
    eventually(lambda: len(beats) == 2)
    pulse.close()
    assert "pulse" not in {thread.name for thread in threading.enumerate()}
    assert len(beats) == 2

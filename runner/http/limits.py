"""How much one client may ask of this process: requests in a time, and streams at once."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from runner.http.problems import Refused

CLIENTS = 10_000  # that are remembered; the one that was quiet for longest is forgotten first


@dataclass(slots=True)
class Buckets:
    """For each client a bucket of `burst` tokens that fills at `rate` a second."""

    rate: float
    burst: float
    clock: Callable[[], float] = time.monotonic
    _filled: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, client: str, what: str = "requests") -> None:
        """One token; Refused where there is none."""
        missing = self._missing(client, 1.0)
        if missing > 0:
            seconds = str(max(int(missing / self.rate) + 1, 1))
            raise Refused(429, f"too many {what} from {client}", f"wait {seconds} s", Retry_After=seconds)

    def look(self, client: str, what: str) -> None:
        """Refused where there is no token; takes none."""
        if self._missing(client, 0.0) > 0:
            raise Refused(429, f"too many {what} from {client}", "wait a minute", Retry_After="60")

    def _missing(self, client: str, taken: float) -> float:
        with self._lock:
            now = self.clock()
            left, at = self._filled.pop(client, (self.burst, now))
            left = min(self.burst, left + (now - at) * self.rate)
            missing = 1.0 - left
            self._filled[client] = (left - taken if missing <= 0 else left, now)
            if len(self._filled) > CLIENTS:
                self._filled.popitem(last=False)
            return missing


@dataclass(slots=True)
class Places:
    """So many at once, of all clients and of one."""

    most: int
    of_one: int
    _held: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def held(self) -> int:
        return sum(self._held.values())

    def take(self, client: str) -> None:
        with self._lock:
            mine = self._held.get(client, 0)
            if mine >= self.of_one or self.held >= self.most:
                limit = f"{self.of_one} of one client" if mine >= self.of_one else f"{self.most} in all"
                raise Refused(429, f"too many streams are open: {limit}", "close one", Retry_After="5")
            self._held[client] = mine + 1

    def give_back(self, client: str) -> None:
        with self._lock:
            mine = self._held.get(client, 0) - 1
            if mine > 0:
                self._held[client] = mine
            else:
                self._held.pop(client, None)

    @contextmanager
    def held_by(self, client: str) -> Iterator[None]:
        self.take(client)
        try:
            yield
        finally:
            self.give_back(client)

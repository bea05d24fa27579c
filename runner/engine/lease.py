"""How long this worker's runs are surely its own. The processes of its handlers read the same memory."""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Callable
from multiprocessing.sharedctypes import RawValue


class Lease:
    """Renewed by each beat, on the monotonic clock, which all processes of a machine share.

    Read without a message, it is right also where the worker itself is stopped and can send none.
    """

    def __init__(self, lasts: float = math.inf) -> None:
        self.lasts = lasts  # from the next renewal on
        self._until = RawValue(ctypes.c_double, time.monotonic() + lasts)
        self._lapsed = RawValue(ctypes.c_double, -math.inf)  # when it was renewed after it had run out

    def renewed_by(self, beat: Callable[[], None]) -> None:
        """Beat; it counts from its beginning, and where it raises it does not count."""
        began = time.monotonic()
        beat()
        if not self.holds:
            self._lapsed.value = time.monotonic()
        self._until.value = began + self.lasts

    @property
    def holds(self) -> bool:
        return time.monotonic() < float(self._until.value)

    def held_since(self, began: float) -> bool:
        """Whether it has held from then on: what was ours before a silence may be another's after it."""
        return self.holds and float(self._lapsed.value) < began
